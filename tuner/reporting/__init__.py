"""Showing evidence to people: documents, pictures, the closing card, the objects to train with.

Nothing is decided here; verdicts come from ``tuner.analysis``.
"""
