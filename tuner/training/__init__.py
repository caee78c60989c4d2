"""Training: the only room that imports torch. It needs no service, no database and no search.

Nothing is imported here, so that importing one module costs only what that module needs.
"""
