"""The migrations of the ledger's tables, one module for each version, by number."""
