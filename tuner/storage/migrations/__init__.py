"""The environment in which Alembic runs the migrations of the ledger's tables."""
