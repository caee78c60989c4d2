"""The ledger: the truth about studies, in SQL; the only door to SQLAlchemy (Optuna's own aside)."""
