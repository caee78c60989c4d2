"""Settings as code to paste: torch, Lightning, Hugging Face, timm's command line, a study file's entry.

Each target has a module; what a setting means stands in ``tuner.families``, ``tuner.schedules`` and ``tuner.recipe``.
"""

from tuner.reporting.exports.record import Export
from tuner.reporting.exports.targets import TARGETS, export

__all__ = ["TARGETS", "Export", "export"]
