"""Recorded runs: tables and MLflow experiments read as a study's records, and a study written as tables."""
