"""The recipe book, and which of its recipes fit a model."""
