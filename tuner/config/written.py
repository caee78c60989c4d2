"""A space as it was written, and the arms that follow from it for a study: values, and functions on them.

What an arm searches depends on four parties: the study's training options count most, then the arm's, then the
space's, then what the workload takes for granted. So arms are kept as they were written, and put together again
whenever one of the others is known better.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tuner.catalog import training_options
from tuner.catalog.families import ONE_RATE, SWITCH, Family
from tuner.catalog.training_options import MULTIPLIER
from tuner.config.bounds import bounds_of
from tuner.config.parts import Part, WrittenTraining
from tuner.config.space import SCHEDULE, TRAINING, ArmSpace, Dimension, SearchSpace
from tuner.core.errors import InputError, Place, SpaceError, wrong
from tuner.core.records import Setting
from tuner.core.values import Scalar

_AVERAGE = TRAINING + "average"


@dataclass(frozen=True, slots=True)
class WrittenSetting:
    """A setting with complete hyperparameters and schedule, and those training options that were written with it."""

    family: str
    hyperparameters: Mapping[str, Scalar]
    schedule: Mapping[str, Scalar]
    training: WrittenTraining

    def over(self, base: Mapping[str, Scalar]) -> Setting:
        """Return the complete setting; training options that were not written are those of ``base``."""
        options = training_options.complete({**base, **self.training.part.options})
        return Setting(self.family, self.hyperparameters, self.schedule, options)

    def in_arm(self, arm: ArmSpace, study: Part) -> Setting:
        """Return the complete setting in an arm: its training options over the arm's, the study's over both."""
        setting = self.over(arm.default.training)
        return replace(setting, training={**setting.training, **study.options})


@dataclass(frozen=True, slots=True)
class WrittenArm:
    """One arm as a space has it.

    ``own`` is what it says of its optimizer, ``schedule`` what it and its space say of the schedule, ``training`` what
    the space and then the arm say of training options. ``published`` are its initial settings, each with its source;
    ``place`` is where an error says that it stands.
    """

    arm: str
    family: Family
    own: Part
    schedule: Part
    training: tuple[Part, ...]
    published: tuple[tuple[WrittenSetting, str], ...] = ()
    place: Place = field(default_factory=lambda: Place("the space"), compare=False)

    def searched(self, study: Part, workload: Mapping[str, Scalar]) -> ArmSpace:
        """Return what the arm searches, under a study's training options and over its workload's.

        Raises:
            SpaceError: learning rates would differ where the family finds one for all, or a corner is no setting.
        """
        layers = [own_average(self.family, part) for part in (granted(workload), *self.training, study)]
        whole = self.own.under(self.schedule)
        for layer in layers:
            whole = whole.under(layer)
        base = {name: value for layer in layers for name, value in layer.options.items()}
        space = ArmSpace(self.arm, self.family, whole.dimensions, fixed=whole.fixed, base=base)
        settings = [(written.in_arm(space, study), source) for written, source in self.published]
        origins = {setting.fingerprint: source for setting, source in settings}
        space = replace(space, published=tuple(setting for setting, _ in settings), origins=origins)
        self._check_rates(space)
        try:
            space.check_corners()
        except InputError as error:
            raise SpaceError(f"{self.place}: {error}") from None
        return space

    def _check_rates(self, space: ArmSpace) -> None:
        """Refuse learning rates that differ by group where the family finds one for all."""
        said = {d.name for d in space.all_dimensions} | {key for key, value in space.fixed.items() if value != 1.0}
        for key in sorted(said) if ONE_RATE in self.family.needs else ():
            if key.startswith((TRAINING + MULTIPLIER, TRAINING + "layer_decay")):
                problem = f"has {key} for {self.family.name}, which finds one learning rate for all parameters"
                todo = "Leave it out of this arm's training options, or the arm out."
                raise SpaceError(wrong(self.place, problem, "none", todo))


@dataclass(frozen=True, slots=True)
class WrittenSpace:
    """A space as it was written.

    ``schedule`` and ``training`` are what it says for all arms. ``document`` is what it was read from: plain JSON that
    reads back the same, and alone makes two of them equal.
    """

    name: str = ""
    about: str = ""
    arms: tuple[WrittenArm, ...] = field(default=(), compare=False, repr=False)
    schedule: Part = field(default_factory=Part, compare=False, repr=False)
    training: Part = field(default_factory=Part, compare=False, repr=False)
    document: Mapping[str, Any] = field(default_factory=dict)

    def searched(
        self, only: Collection[str] | None, study: Part, workload: Mapping[str, Scalar], trials: int = 10**9
    ) -> SearchSpace:
        """Return the space that a study searches.

        Args:
            only: the names of the arms that it takes; None takes all.
            study: its own training options.
            workload: the training options that its workload takes for granted.
            trials: the trials per arm for which it opens dimensions.

        Raises:
            SpaceError: an arm is no valid space.
        """
        every = [arm.searched(study, workload) for arm in self.arms]
        arms = tuple(replace(arm, trials=trials) for arm in every if only is None or arm.arm in only)
        return SearchSpace(self.name, self.about, arms, self.document)


def check_open(space: SearchSpace) -> None:
    """Refuse an arm of which the budget opens nothing.

    Raises:
        InputError: there is one.
    """
    for arm in space.arms:
        if not arm.dimensions:
            first = min(d.opens_at for d in arm.all_dimensions)
            raise InputError(
                f"opens no setting of arm {arm.arm!r} with {arm.trials} trials per arm; expected a budget of at least "
                f"{first} trials per arm. Raise trials_per_arm, or lower 'opens_at' of the learning rate."
            )


def granted(workload: Mapping[str, Scalar]) -> Part:
    """Return the training options that a workload takes for granted as a part of fixed values."""
    return Part(fixed={TRAINING + name: value for name, value in workload.items()})


def published(row: Family) -> Part:
    """Return the ranges in which a family is searched where nothing else is said."""
    dimensions = []
    for h in row.hyperparameters:
        if (search := h.search) is not None:
            name = search.coordinate or h.name
            bounds = bounds_of(name, row)
            assert bounds is not None
            ends = search.low, search.high, search.log, bounds.integer, search.or_zero
            dimensions.append(Dimension(name, *ends, {}, search.opens_at, bounds.low, bounds.high))
    return Part(tuple(dimensions))


def fitting(row: Family, schedule: Part) -> Part:
    """Return a shared schedule as far as a family takes one: some take a warm-up only."""
    if row.schedules is None:
        return schedule
    warmup = f"{SCHEDULE}warmup"
    kept = tuple(d for d in schedule.dimensions if d.name.startswith(warmup))
    fixed = {key: value for key, value in schedule.fixed.items() if key.startswith(warmup)}
    plain = {SCHEDULE + key: value for key, value in row.default_schedule.items() if key != "warmup"}
    return Part(kept, {**plain, **fixed})


def own_average(row: Family, part: Part) -> Part:
    """Return training options without averages, for families that average by themselves."""
    if SWITCH not in row.needs:
        return part
    fixed = {key: value for key, value in part.fixed.items() if key != _AVERAGE}
    return Part(tuple(d for d in part.dimensions if d.name != _AVERAGE), fixed)


def with_current(space: SearchSpace, current: Setting) -> SearchSpace:
    """Return the space with the user's current setting in the arms of its family, widened to contain it.

    Raises:
        SpaceError: no space can contain it.
    """
    arms = tuple(arm.including(current) if arm.family.name == current.family else arm for arm in space.arms)
    for arm in arms:
        arm.check_corners()
    return replace(space, arms=arms)
