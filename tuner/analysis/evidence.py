"""The evidence as one frozen value, and its JSON; nothing is computed here.

The JSON's keys are a contract (``schema_version``): keys may be added, none changes its meaning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tuner.analysis.verdict.contest import GIVEN, INCONCLUSIVE, SINGLE
from tuner.analysis.verdict.decision import NOT_ASSESSED, Pair, Verdict
from tuner.analysis.verdict.family import FamilyVerdict
from tuner.analysis.verdict.looks import Look, method_of
from tuner.analysis.verdict.references import Gain
from tuner.catalog.families import UNKNOWN, camp_name
from tuner.core.records import Setting
from tuner.core.values import Scalar

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Caveat:
    """What the reader should know before trusting the answer; ``code`` is stable."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Expected:
    """The metric to expect of the recommended setting; ``source`` is confirmation, or search (then too rosy).

    ``value`` is None where no run of it completed.
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    source: str


@dataclass(frozen=True, slots=True)
class ArmRow:
    """One arm on the leaderboard. ``mean`` and its interval are those of the confirmation (None: none).

    ``full_runs`` is what the arm's search cost, in runs over the full horizon.
    """

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
    state_bytes_per_param: float | None
    seconds_per_step: float | None
    full_runs: float = 0.0

    def to_json(self) -> dict[str, Any]:
        values = asdict(self) | {"camp": known_camp(self.camp)}
        best = values.pop("best")
        values["best_params"] = best["hyperparameters"] if best else None
        values["schedule"] = best["schedule"] if best else None
        values["training"] = best["training"] if best else None
        values["recipe"] = values["training"]  # its name in the JSON of earlier versions
        return values


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that the answer rests on, and the answer.

    ``recording`` says whence the runs come, if others made them; empty for a study of ours. ``started_from`` counts the
    settings of each earlier study that were tried first.
    """

    study: str
    metric: str
    direction: str
    alpha: float
    min_effect: float | None
    min_effect_source: str
    verdict: Verdict
    family: FamilyVerdict
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
    recording: str = ""
    started_from: Mapping[str, int] = field(default_factory=dict)

    @property
    def min_effect_given(self) -> bool:
        return self.min_effect_source == GIVEN

    @property
    def camp_name(self) -> str:
        """The camp in words: SGDM, Adam family, other."""
        return camp_name(self.camp)

    @property
    def schedule(self) -> Mapping[str, Scalar]:
        return self.setting.schedule

    def gain(self, over: str) -> Gain:
        return next(gain for gain in self.gains if gain.over == over)

    def to_json(self) -> dict[str, Any]:
        """Return the document: plain JSON, no non-finite number."""
        return document([self])

    def study_json(self) -> dict[str, Any]:
        return {
            "study": self.study,
            "metric": self.metric,
            "direction": self.direction,
            "alpha": self.alpha,
            "min_effect": self.min_effect,
            "min_effect_given": self.min_effect_given,
            "min_effect_source": self.min_effect_source,
            "verdict": {
                **asdict(self.verdict),
                "kind": _kind(self.verdict),
                "method": method_of(self.looks, self.alpha),
                "looks": [asdict(look) for look in self.looks],
            },
            "family_verdict": asdict(self.family),
            "recommended": {
                "arm": self.arm,
                "camp": known_camp(self.camp),
                "camp_name": self.camp_name,
                "family": self.setting.family,
                "trial": self.trial,
                "params": dict(self.setting.hyperparameters),
                "schedule": dict(self.setting.schedule),
                "training": dict(self.setting.training),
                "recipe": dict(self.setting.training),
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
            "started_from": dict(self.started_from),
            "cost": dict(self.cost),
        }


@dataclass(frozen=True, slots=True)
class Nothing:
    """What there is to say of a study in which no run completed: how its runs ended."""

    study: str
    metric: str
    direction: str
    alpha: float
    min_effect: float | None
    reason: str
    arms: tuple[ArmRow, ...]

    def study_json(self) -> dict[str, Any]:
        """Return the study's part of the document: every key is there, without an answer."""
        return {
            "study": self.study,
            "metric": self.metric,
            "direction": self.direction,
            "alpha": self.alpha,
            "min_effect": self.min_effect,
            "verdict": {
                "kind": INCONCLUSIVE,
                "arm": None,
                "camp": None,
                "seeds_needed": None,
                "sentence": self.reason,
                "reason": self.reason,
            },
            "family_verdict": asdict(FamilyVerdict(NOT_ASSESSED, self.reason)),
            "recommended": {"arm": None, "camp": None, "params": None, "schedule": None, "why": self.reason},
            "pairs": [],
            "arms": [row.to_json() for row in self.arms],
            "caveats": [{"code": "no_result", "text": self.reason}],
        }


def document(answers: Iterable[Evidence | Nothing]) -> dict[str, Any]:
    """Return the document of one study or more: plain JSON, null for a number that is not finite."""
    return {"schema_version": SCHEMA_VERSION, "studies": [finite(answer.study_json()) for answer in answers]}


def finite(value: Any) -> Any:
    """Return plain JSON with None for every number that is not finite.

    >>> finite({"p": float("nan"), "interval": (0.5, float("inf")), "n": 3})
    {'p': None, 'interval': [0.5, None], 'n': 3}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


def known_camp(camp: str) -> str | None:
    """Return the camp, or None for that of an optimizer which the table of families does not have."""
    return None if camp == UNKNOWN else camp


def _kind(verdict: Verdict) -> str:
    """A study of one arm has nothing to compare: for programs, one kind of inconclusive, with its reason."""
    return INCONCLUSIVE if verdict.kind == SINGLE else verdict.kind


def _gain(gain: Gain) -> dict[str, Any]:
    values = asdict(gain)
    del values["over"]
    return values
