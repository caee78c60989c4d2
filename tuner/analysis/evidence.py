"""The evidence as one frozen value, and its JSON; :mod:`tuner.analysis.conclusion` gathers it.

The JSON's keys are a contract (``schema_version``): keys may be added, none changes its meaning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from tuner.analysis.verdict.decision import Pair, Verdict
from tuner.analysis.verdict.family import FamilyVerdict
from tuner.analysis.verdict.kinds import EffectSource, ExpectedSource, Reference, VerdictKind
from tuner.analysis.verdict.looks import Look, method_of
from tuner.analysis.verdict.references import Gain
from tuner.catalog.families import UNKNOWN, camp_name
from tuner.core.records import Horizon, Phase, Setting
from tuner.core.values import Scalar

SCHEMA_VERSION = 1


class CaveatCode(StrEnum):
    """What a caveat is about. The values are a contract: programs read them from the JSON."""

    ARM_MISSING = "arm_missing"
    ARM_NOT_CONFIRMED = "arm_not_confirmed"
    ARM_WITHOUT_RESULT = "arm_without_result"
    BUDGET_CUT = "budget_cut"
    CONFIRMED_AGAIN = "confirmed_again"
    DIVERGED_ON_FRESH_SEEDS = "diverged_on_fresh_seeds"
    EDGE_OF_RANGE = "edge_of_range"
    FAILED_RUNS = "failed_runs"
    FEW_SEEDS = "few_seeds"
    LOST_RUNS = "lost_runs"
    MANY_DIVERGED = "many_diverged"
    MIN_EFFECT_ASSUMED = "min_effect_assumed"
    MIN_EFFECT_FROM_COMPARISON = "min_effect_from_comparison"
    NO_RESULT = "no_result"
    NOT_CONFIRMED = "not_confirmed"
    ONE_SEARCH_ONLY = "one_search_only"
    RANGE_WIDENED = "range_widened"
    REFERENCES_CAPPED = "references_capped"
    SCHEDULE_FOLLOWS_METRIC = "schedule_follows_metric"
    SEARCH_NOT_RECORDED = "search_not_recorded"
    SEED_NOISE_DOMINATES = "seed_noise_dominates"
    SEEDS_CAPPED = "seeds_capped"
    SEEDS_NOT_FRESH = "seeds_not_fresh"
    SETTINGS_EXHAUSTED = "settings_exhausted"
    SEVERAL_CONFIRMED = "several_confirmed"
    SHORT_HORIZON_LIES = "short_horizon_lies"
    SMALL_DIFFERENCE = "small_difference"
    TIE_COST = "tie_cost"
    TRIALS_ASSUMED_INDEPENDENT = "trials_assumed_independent"
    UNEQUAL_BUDGETS = "unequal_budgets"
    UNEQUAL_CAMPS = "unequal_camps"
    UNEQUAL_TRIALS = "unequal_trials"
    UNFINISHED = "unfinished"
    UNSHARED_SEEDS = "unshared_seeds"


@dataclass(frozen=True, slots=True)
class Caveat:
    """What the reader should know before trusting the answer."""

    code: CaveatCode
    text: str


@dataclass(frozen=True, slots=True)
class Expected:
    """The metric to expect of the recommended setting: a mean over ``n`` runs with its interval, in the metric's unit.

    Where the setting has no completed run on fresh seeds, ``value`` is that of its search, which is too good to expect
    again (``source`` says which of the two it is); None where no run of it completed at all.
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    source: ExpectedSource


@dataclass(frozen=True, slots=True)
class ArmRow:
    """One arm on the leaderboard; values are in the metric's unit.

    ``trial`` and ``best`` are the arm's finalist, ``best_value`` its value in the search. ``mean``, its interval and
    ``n_confirmed`` are those of the confirmation; None and 0 without any. ``dropped_after`` is the number of seeds
    after which the arm was out. ``state_bytes_per_param`` is the optimizer's state in float32. ``full_runs`` is what
    the arm's search cost, in runs over the full horizon.
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
        """Return the row of the document; the finalist's setting in three keys."""
        values = asdict(self) | {"camp": known_camp(self.camp)}
        best = values.pop("best")
        values["best_params"] = best["hyperparameters"] if best else None
        values["schedule"] = best["schedule"] if best else None
        values["training"] = best["training"] if best else None
        values["recipe"] = values["training"]  # its name in the JSON of earlier versions
        return values


@dataclass(frozen=True, slots=True)
class ValidFor:
    """What the answer holds for.

    ``horizon`` is None where it was not recorded. ``training`` holds the training options of the recommended setting
    that are not at their defaults. ``searched`` maps each dimension of the recommended arm to its range in words,
    ``not_searched`` names those that the budget left closed. ``devices`` and ``torch`` (its versions) are those that
    any run of the study reported.
    """

    workload: str
    options: Mapping[str, Any]
    horizon: Horizon | None
    training: Mapping[str, str]
    devices: tuple[str, ...]
    space: str
    searched: Mapping[str, str]
    not_searched: tuple[str, ...]
    torch: tuple[str, ...]

    @property
    def horizon_in_words(self) -> str:
        """The horizon as text, as ``18 epochs``."""
        return "not recorded" if self.horizon is None else str(self.horizon)

    def to_json(self) -> dict[str, Any]:
        """Return the document's key ``valid_for``."""
        return {
            "workload": self.workload,
            "options": dict(self.options),
            "model_and_data": "as the workload gives them",
            "horizon": self.horizon_in_words,
            "training": dict(self.training),
            "recipe": dict(self.training),
            "devices": list(self.devices),
            "space": self.space,
            "searched": dict(self.searched),
            "not_searched": list(self.not_searched),
            "torch": list(self.torch),
        }


@dataclass(frozen=True, slots=True)
class PhaseCost:
    """What runs took: how many have ended, their seconds of training and of evaluation, their cost in full runs."""

    runs: int
    train_seconds: float
    eval_seconds: float
    full_runs: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What a study spent, by phase and in all."""

    phases: Mapping[Phase, PhaseCost]

    @property
    def total(self) -> PhaseCost:
        """The sums over the phases."""
        rows = self.phases.values()
        return PhaseCost(
            runs=sum(row.runs for row in rows),
            train_seconds=sum(row.train_seconds for row in rows),
            eval_seconds=sum(row.eval_seconds for row in rows),
            full_runs=sum(row.full_runs for row in rows),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the document's key ``cost``: the sums, and the same by phase."""
        phases = {phase.value: asdict(row) for phase, row in self.phases.items()}
        return {**asdict(self.total), "phases": phases}


@dataclass(frozen=True, slots=True)
class Evidence:
    """The answer, and everything that it rests on.

    ``arm``, ``trial``, ``setting`` and ``camp`` are what is recommended, ``why`` the reason in a clause. ``min_effect``
    is the smallest difference that matters, in the metric's unit; None where no run has measured it. ``gains`` has one
    entry for each :class:`Reference`. ``test`` holds the metrics on the test split. ``recording`` says where the runs
    come from, if others made them; it is empty for a study of ours. ``started_from`` maps each earlier study to the
    number of its settings that were tried first.
    """

    study: str
    metric: str
    direction: str
    alpha: float
    min_effect: float | None
    min_effect_source: EffectSource
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
    valid_for: ValidFor
    cost: Cost
    recording: str = ""
    started_from: Mapping[str, int] = field(default_factory=dict)

    @property
    def min_effect_given(self) -> bool:
        return self.min_effect_source is EffectSource.GIVEN

    @property
    def camp_name(self) -> str:
        """The camp in words: SGDM, Adam family, other."""
        return camp_name(self.camp)

    @property
    def schedule(self) -> Mapping[str, Scalar]:
        """The recommended schedule: its kind and its parameters."""
        return self.setting.schedule

    def has(self, code: CaveatCode) -> bool:
        """Whether the answer has a caveat with this code."""
        return any(caveat.code is code for caveat in self.caveats)

    def gain(self, over: Reference) -> Gain:
        """Return the gain over a reference; what was not measured has a reason instead of numbers."""
        return next(gain for gain in self.gains if gain.over is over)

    def to_json(self) -> dict[str, Any]:
        """Return the document of this study alone; see :func:`document`."""
        return document([self])

    def study_json(self) -> dict[str, Any]:
        """Return the study's part of the document."""
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
            "gain_over_default": _gain(self.gain(Reference.DEFAULT)),
            "gain_over_current": _gain(self.gain(Reference.CURRENT)),
            "test": dict(self.test),
            "pairs": [asdict(pair) for pair in self.pairs],
            "arms": [arm.to_json() for arm in self.arms],
            "caveats": [asdict(caveat) for caveat in self.caveats],
            "valid_for": self.valid_for.to_json(),
            "started_from": dict(self.started_from),
            "cost": self.cost.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Nothing:
    """What there is to say of a study that cannot recommend anything: how its runs ended, as ``reason`` and by arm."""

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
                "kind": VerdictKind.INCONCLUSIVE,
                "arm": None,
                "camp": None,
                "seeds_needed": None,
                "sentence": self.reason,
                "reason": self.reason,
            },
            "family_verdict": asdict(FamilyVerdict(VerdictKind.NOT_ASSESSED, self.reason)),
            "recommended": {"arm": None, "camp": None, "params": None, "schedule": None, "why": self.reason},
            "pairs": [],
            "arms": [row.to_json() for row in self.arms],
            "caveats": [{"code": CaveatCode.NO_RESULT, "text": self.reason}],
        }


def document(answers: Iterable[Evidence | Nothing]) -> dict[str, Any]:
    """Return the document of one study or more: plain JSON, null for a number that is not finite."""
    return {"schema_version": SCHEMA_VERSION, "studies": [finite(answer.study_json()) for answer in answers]}


def finite(value: Any) -> Any:
    """Return the data with None for every number that is not finite, and plain texts for the members of enumerations.

    >>> finite({"p": float("nan"), "interval": (0.5, float("inf")), "n": 3})
    {'p': None, 'interval': [0.5, None], 'n': 3}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


def known_camp(camp: str) -> str | None:
    """Return the camp, or None for that of an optimizer which the table of families does not have."""
    return None if camp == UNKNOWN else camp


def _kind(verdict: Verdict) -> VerdictKind:
    """The kind that programs see: a study of one arm is inconclusive, with the reason that nothing can be compared."""
    return VerdictKind.INCONCLUSIVE if verdict.kind is VerdictKind.SINGLE else verdict.kind


def _gain(gain: Gain) -> dict[str, Any]:
    values = asdict(gain)
    del values["over"]
    return values
