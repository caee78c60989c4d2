"""The search inside each arm: the only door to Optuna. How runs are trained or judged is not known here."""
