"""The report of a study: one HTML file that needs nothing else, its figures drawn by matplotlib as inline SVG.

Nothing is computed here but places on the page; the numbers come from ``tuner.analysis``.
"""
