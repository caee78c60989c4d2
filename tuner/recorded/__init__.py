"""Runs that others made, as input: tables in and out, and the records of ours that they stand for."""
