"""Training: the only door to torch; it runs with no service, no database and no search beside it.

Nothing is imported here, so that importing a part of the package costs that part alone.
"""
