"""Shows the ledger to people; decides nothing, and is never waited for."""
