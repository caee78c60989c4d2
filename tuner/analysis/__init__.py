"""Evidence from records: finalists, the plan after the search, the verdict, caveats, what the search taught.

Records go in and values come out. No database is read here, and nothing trains.
"""
