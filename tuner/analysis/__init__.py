"""Evidence from records: finalists, the plan after the search, the verdict, the recommendation.

Records in, values out; no framework, no database, nothing that trains.
"""
