"""Adapters: a Hugging Face ``Trainer`` or a ``LightningModule`` as the body of ``train(run)``; no loop of our own.

Nothing is imported here: each adapter needs a package that not everybody has.
"""
