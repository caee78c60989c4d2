"""Optimizers: built from the rows of ``tuner.catalog.families``, in the bundle that the loop steps; no schedule."""

from tuner.training.optimizers.building import build
from tuner.training.optimizers.bundle import Bundle

__all__ = ["Bundle", "build"]
