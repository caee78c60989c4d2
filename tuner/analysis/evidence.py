"""The evidence as one frozen value, and its JSON; nothing is computed here.

The JSON's keys are a contract (``schema_version``): keys may be added, none changes its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tuner.analysis.looks import Look
from tuner.analysis.references import Gain
from tuner.analysis.verdict import NOT_ASSESSED, Pair, Verdict
from tuner.families import CAMPS
from tuner.records import Scalar, Setting

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Caveat:
    """What the reader should know before trusting the answer; ``code`` is stable."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Expected:
    """The metric to expect of the recommended setting; ``source`` is confirmation, or search (then too rosy)."""

    value: float
    ci_low: float | None
    ci_high: float | None
    n: int
    source: str


@dataclass(frozen=True, slots=True)
class ArmRow:
    """One arm on the leaderboard. ``mean`` and its interval are those of the confirmation (None: none)."""

    arm: str
    family: str
    camp: str
    trial: int | None
    best: Setting | None
    best_value: float | None
    n_trials: int
    n_runs: int
    n_diverged: int
    n_failed: int
    n_lost: int
    mean: float | None
    ci_low: float | None
    ci_high: float | None
    n_confirmed: int
    dropped_after: int | None
    state_bytes_per_param: float
    seconds_per_step: float | None

    def to_json(self) -> dict[str, Any]:
        values = asdict(self)
        best = values.pop("best")
        values["best_params"] = best["hyperparameters"] if best else None
        values["schedule"] = best["schedule"] if best else None
        values["recipe"] = best["recipe"] if best else None
        return values


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that the answer rests on, and the answer."""

    study: str
    metric: str
    direction: str
    alpha: float
    min_effect: float | None
    min_effect_given: bool
    verdict: Verdict
    arm: str
    trial: int
    setting: Setting
    camp: str
    why: str
    expected: Expected
    gains: tuple[Gain, ...]
    test: Mapping[str, float]
    pairs: tuple[Pair, ...]
    arms: tuple[ArmRow, ...]
    looks: tuple[Look, ...]
    caveats: tuple[Caveat, ...]
    valid_for: Mapping[str, Any]
    cost: Mapping[str, Any]

    @property
    def camp_name(self) -> str:
        """The camp in words: SGDM, Adam family, other."""
        return CAMPS[self.camp]

    @property
    def schedule(self) -> Mapping[str, Scalar]:
        return self.setting.schedule

    def gain(self, over: str) -> Gain:
        return next(gain for gain in self.gains if gain.over == over)

    def to_json(self) -> dict[str, Any]:
        """Return the document: plain JSON, no non-finite number."""
        return {"schema_version": SCHEMA_VERSION, "studies": [self._study()]}

    def _study(self) -> dict[str, Any]:
        return {
            "study": self.study,
            "metric": self.metric,
            "direction": self.direction,
            "alpha": self.alpha,
            "min_effect": self.min_effect,
            "min_effect_given": self.min_effect_given,
            "verdict": {**asdict(self.verdict), "looks": [asdict(look) for look in self.looks]},
            "family_verdict": {
                "kind": NOT_ASSESSED,
                "reason": "one search only: its luck was not resampled, so no family is said to be better",
            },
            "recommended": {
                "arm": self.arm,
                "camp": self.camp,
                "camp_name": self.camp_name,
                "family": self.setting.family,
                "trial": self.trial,
                "params": dict(self.setting.hyperparameters),
                "schedule": dict(self.setting.schedule),
                "recipe": dict(self.setting.recipe),
                "why": self.why,
            },
            "expected": asdict(self.expected),
            "gain_over_default": _gain(self.gain("default")),
            "gain_over_current": _gain(self.gain("current")),
            "test": dict(self.test),
            "pairs": [asdict(pair) for pair in self.pairs],
            "arms": [arm.to_json() for arm in self.arms],
            "caveats": [asdict(caveat) for caveat in self.caveats],
            "valid_for": dict(self.valid_for),
            "cost": dict(self.cost),
        }


def _gain(gain: Gain) -> dict[str, Any]:
    values = asdict(gain)
    del values["over"]
    return values
