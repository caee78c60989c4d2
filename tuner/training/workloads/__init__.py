"""Workloads: what is trained. The user's base class, its loader, and the ones that need no download."""

from tuner.training.workloads.base import Batch, Workload

__all__ = ["Batch", "Workload"]
