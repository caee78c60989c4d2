"""A recorded run and a point of its curve, as frozen rows; files and the ledger's records are not known here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tuner.catalog.training_options import is_option
from tuner.config.space import TRAINING, from_stored_axis, to_stored_axis
from tuner.core.records import Outcome, Phase
from tuner.core.values import Scalar

NOT_RECORDED = "not recorded"
"""The kind of a schedule that the recording does not name."""
PHASES = (Phase.EXPLORE.value, Phase.CONFIRM.value, Phase.NOISE.value)
"""The phases that a recording may have; runs of the phase noise only measure the seed noise of a finalist."""
EXACT = 2**53
"""Whole numbers below this are exact as floats."""


def option_of(param: str) -> str | None:
    """Return the training option that a param holds, or None; ``recipe.NAME`` is its name in older recordings.

    >>> option_of("training.clip_norm"), option_of("recipe.clip_norm"), option_of("recipe.flour"), option_of("beta1")
    ('clip_norm', 'clip_norm', None, None)
    """
    name = from_stored_axis(param)
    option = name.removeprefix(TRAINING)
    return option if option != name and is_option(option) else None


def param_name(written: str) -> str:
    """Return the name of a param, which an older recording may have written in another way.

    >>> param_name("recipe.clip_norm"), param_name("recipe.flour")
    ('training.clip_norm', 'recipe.flour')
    """
    return from_stored_axis(written) if option_of(written) else written


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run that another program or an earlier study trained: arm, setting, phase and how it ended.

    ``value`` is the metric at the horizon: finite if the run completed, else None. ``horizon`` is in the unit of the
    curve's steps, ``seconds`` is the time of the whole run; None where they are not recorded. ``sampler`` says how the
    setting was proposed: ``random``, ``sobol``, or any other text, which counts as a sampler that saw earlier results.
    """

    run_id: str
    arm: str
    seed: int
    phase: Phase
    outcome: Outcome
    direction: str
    value: float | None
    study: str = "runs"
    metric: str = "value"
    params: Mapping[str, Scalar] = field(default_factory=dict)
    schedule: Mapping[str, Scalar] = field(default_factory=lambda: {"kind": NOT_RECORDED})
    horizon: float | None = None
    seconds: float | None = None
    sampler: str = ""

    @property
    def setting(self) -> str:
        """Params and schedule as one text, in a fixed order; runs of an arm with the same text are seeds of one trial.

        >>> a = RecordedRun("1", "x", 0, Phase.EXPLORE, Outcome.COMPLETED, "minimize", 0.1, params={"b": 1, "a": 2})
        >>> a.setting
        '[{"a": 2, "b": 1}, {"kind": "not recorded"}]'
        """
        params = {to_stored_axis(name) if option_of(name) else name: value for name, value in self.params.items()}
        return json.dumps([plain(params), plain(self.schedule)], sort_keys=True)


@dataclass(frozen=True, slots=True)
class RecordedPoint:
    """The metric of a run after ``step`` steps and ``seconds`` since its start. A diverged run's value may be NaN."""

    step: int
    value: float
    seconds: float | None = None


Curves = Mapping[str, Sequence[RecordedPoint]]
"""The points of each run, by run id, in the order of steps."""


def plain(values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return the values with whole numbers as ints, so that 1 and 1.0 are the same setting."""
    return {name: number(value) if isinstance(value, float) else value for name, value in values.items()}


def number(value: float) -> int | float:
    """Return a whole number as an int, where that loses nothing.

    >>> number(3.0), number(0.5), number(1e300)
    (3, 0.5, 1e+300)
    """
    return int(value) if value.is_integer() and abs(value) < EXACT else value
