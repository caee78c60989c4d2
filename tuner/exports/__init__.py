"""Settings as code to paste: torch, Lightning, Hugging Face, timm's command line, a study file's entry.

Each target has a module. What a setting means stands in :mod:`tuner.catalog`.
"""

from tuner.exports.targets import TARGETS, export
from tuner.exports.writing import Export

__all__ = ["TARGETS", "Export", "export"]
