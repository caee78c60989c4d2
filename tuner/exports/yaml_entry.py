"""A setting as the entry ``current`` of a study file, which reads back to the same setting; no code is written."""

from __future__ import annotations

from typing import Any

import yaml

from tuner.catalog.training_options import FREEZE, MULTIPLIER, NO_DECAY
from tuner.core.values import Scalar
from tuner.exports.writing import Export, Plan, header

_PATTERNS = {MULTIPLIER: "multipliers", FREEZE: "freeze", NO_DECAY: "no_decay_patterns"}


def export(plan: Plan) -> Export:
    """Return the entry, complete: neither the family's defaults nor another study's training options change it."""
    entry = {
        "family": plan.row.name,
        **{key: _plain(value) for key, value in plan.values.items()},
        "schedule": {key: _plain(value) for key, value in plan.schedule.setting.items()},
        "training": _training(plan),
    }
    note = "As an initial setting of an arm: these keys without 'family', with a 'source'."
    text = header(plan, ()) + f"# {note}\n" + yaml.safe_dump({"current": entry}, sort_keys=False)
    return Export("yaml", text)


def _training(plan: Plan) -> dict[str, Any]:
    items: dict[str, Any] = {}
    for key, value in plan.training.items():
        prefix = next((prefix for prefix in _PATTERNS if key.startswith(prefix)), None)
        if prefix is None:
            items[key] = _plain(value)
        else:
            items.setdefault(_PATTERNS[prefix], {})[key.removeprefix(prefix)] = _plain(value)
    return items


def _plain(value: Scalar) -> Scalar:
    """Whole numbers without a point: some keys take no other."""
    return int(value) if isinstance(value, float) and value == int(value) and abs(value) < 1e15 else value
