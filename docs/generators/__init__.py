"""The pages of docs/ that are written from the tables of the product, as text; ``docs/generate.py`` writes them."""
