"""The rule: finalists, looks, contest, decision, families, and the runs that it asks for next. Nothing trains here."""
