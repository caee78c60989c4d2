"""Optimizers: the torch half of the table of families, and the bundle that the loop steps; no schedule, no loop."""

from tuner.training.optimizers.bundle import Bundle
from tuner.training.optimizers.table import BUILDERS, build

__all__ = ["BUILDERS", "Bundle", "build"]
