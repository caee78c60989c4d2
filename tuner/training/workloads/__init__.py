"""Workloads, which are what a study trains: the base class to derive from, its loader, and the built-in ones.

The built-in ones need no download, except CIFAR-10, whose files must be on the machine.
"""

from tuner.training.workloads.base import Batch, Workload

__all__ = ["Batch", "Workload"]
