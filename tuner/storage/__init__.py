"""The ledger: the SQL database that holds the truth about studies. Only this room imports SQLAlchemy and Alembic."""
