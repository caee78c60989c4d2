"""Adapters: they train a Hugging Face ``Trainer`` or a ``LightningModule`` as a run, with the framework's own loop.

Nothing is imported here, because each adapter needs an optional package.
"""
