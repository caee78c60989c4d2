"""What the model of a workload looks like, and which recipes of the book are nearest to it; nothing is trained."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.core.errors import WorkloadError
from tuner.core.records import WorkloadRef
from tuner.recipes import book, suggestion
from tuner.recipes.suggestion import Features, Match

if TYPE_CHECKING:
    from tuner.training.workloads.load import Target


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What a workload looks like, the nearest recipes, and a study file that tries them first."""

    features: Features
    matches: tuple[Match, ...]
    document: Mapping[str, Any]


def suggested(path: str, options: Mapping[str, Any], pretrained: bool) -> Suggestion:
    """Return the recipes that are nearest to a workload.

    Args:
        path: the workload's, ``module:attribute``.
        options: its keyword arguments.
        pretrained: whether its model is trained already, so that recipes for fine-tuning are meant.

    Raises:
        WorkloadError: it cannot be imported, or is a function.
    """
    from tuner.training.workloads.load import load

    features = looked_at(load(WorkloadRef(path, str(Path.cwd()), options)), path)
    ranked = suggestion.rank(book.all_recipes(), features, pretrained=pretrained)
    matches = suggestion.alike(ranked)[: suggestion.NEAREST]
    name = re.sub(r"[^a-z0-9]+", "-", path.partition(":")[2].lower()).strip("-")
    document = suggestion.study_document(name, path, options, matches, features)
    return Suggestion(features, tuple(matches), document)


def looked_at(target: Target, path: str) -> Features:
    """Build the workload's model on the CPU and look at it.

    Raises:
        WorkloadError: it is a function, which has no model before it trains.
    """
    from tuner.training.inspect import look
    from tuner.training.workloads.base import Workload

    if not isinstance(target, Workload):
        raise WorkloadError(
            f"workload {path!r} is a function, which makes its model only while it trains; expected a tuner.Workload "
            "class, whose model can be looked at. Choose by yourself: 'tuner recipes --for TASK' lists the recipes, "
            "'known_recipes: [NAME]' in the study file tries them first."
        )
    return look(target)
