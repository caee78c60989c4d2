"""One arm's search: an Optuna study in SQL, and its shadow in memory from which the model proposes.

A proposal is a function of (study seed, arm, proposal index, what the arm has been told). The shadow is rebuilt
from SQL when a study is resumed; a proposal reaches SQL in one transaction, complete or not at all.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuner.catalog.training_options import told
from tuner.config.space import ArmSpace, Dimension, from_stored_axis, to_stored_axis
from tuner.core.errors import StorageError
from tuner.core.records import Outcome, RunResult, Setting, Source, TrialRecord
from tuner.core.settings import hide_secrets
from tuner.core.values import Scalar, derive_seed
from tuner.search.cube import Cube
from tuner.search.ladder import Ladder, Seen, Step
from tuner.search.proposals import SURROGATE, random_point, sobol_point, split, split_for
from tuner.search.surrogate import Array

INDEX = "tuner:index"
SOURCE = "tuner:source"
CONSTRAINT = "diverged"

optuna.logging.set_verbosity(optuna.logging.ERROR)


def distribution(dimension: Dimension) -> BaseDistribution:
    """Return Optuna's counterpart of a dimension's axis."""
    if dimension.choices:
        return CategoricalDistribution(list(dimension.choices))
    if dimension.integer:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.floor, dimension.high, log=dimension.log)


def make_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """Build the model-based sampler, seeded for one proposal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if name == "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=1, deterministic_objective=False)
        if name == "cmaes":
            return optuna.samplers.CmaEsSampler(seed=seed, n_startup_trials=1, warn_independent_sampling=False)
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=1)


def _coordinates(trial: FrozenTrial | optuna.Trial) -> dict[str, Scalar]:
    """Where a trial lies, by the names that dimensions have here."""
    return {from_stored_axis(name): value for name, value in trial.params.items()}


class ArmSearch:
    """Proposes settings for one arm, and learns from what is told.

    ``costs`` are the shares of a full run that the ladder's rungs take; (1.0,) where every run is a full one.
    ``catalogue`` restricts proposals to the settings of these trials, such as those of a recorded table.
    """

    def __init__(
        self,
        space: ArmSpace,
        sampler: str,
        seed: int,
        planned: int,
        study: optuna.Study,
        sign: int,
        costs: Sequence[float] = (1.0,),
        catalogue: Sequence[TrialRecord] = (),
    ) -> None:
        self.space = space
        self.costs = tuple(costs)
        self._cube = Cube(space, catalogue)
        self._ladder = Ladder(costs, self._cube.labels, len(space.dimensions))
        self._sampler = sampler
        self._seed = seed
        self._study = study
        self._sign = sign
        self._distributions = {to_stored_axis(d.name): distribution(d) for d in space.dimensions}
        encoded = [(setting, space.encode(setting)) for setting in (() if catalogue else space.initial_settings)]
        self._initial = [(setting, point) for setting, point in encoded if point is not None]
        self.split = split(sampler, planned, 0) if catalogue else split_for(sampler, planned, space)
        self._shadow = optuna.create_study(
            direction="maximize" if sign > 0 else "minimize",
            storage=optuna.storages.InMemoryStorage(),
            sampler=optuna.samplers.RandomSampler(seed=0),
            pruner=optuna.pruners.NopPruner(),
        )
        self._in_sql: dict[int, FrozenTrial] = {}
        for trial in study.get_trials(deepcopy=False):
            self._in_sql.setdefault(int(trial.user_attrs[INDEX]), trial)  # a fenced-off driver may have added a twin
        for index in sorted(self._in_sql):
            self._shadow.add_trial(self._on_these_axes(self._in_sql[index]))

    def _on_these_axes(self, trial: FrozenTrial) -> FrozenTrial:
        """The trial with the ranges of now: samplers model together only what all trials have on the same axis."""
        if set(trial.params) != set(self._distributions):
            return trial
        found = copy.copy(trial)
        found.distributions = dict(self._distributions)
        return found

    def point(self, coordinates: Mapping[str, Scalar]) -> tuple[float, ...]:
        """Return where a trial lies in the unit cube, as :class:`tuner.search.ladder.Seen` wants it."""
        return self._cube.point(coordinates)

    def next(
        self, seen: Sequence[Seen], offered: int, budget: float, left: float, exhausted: bool = False
    ) -> Step | None:
        """Return what this arm would train next, ``left`` of its ``budget`` (in full runs) to spend; None for nothing.

        ``exhausted``: no new settings, only those that were proposed before, further up the ladder. A function of its
        arguments, the seed and the space alone.
        """
        if exhausted:
            nothing = np.empty((0, len(self.space.dimensions)))
            return self._ladder.next(seen, lambda: nothing, budget, left, 10**9) if len(self.costs) > 1 else None
        if len(self.costs) == 1 and (self._sampler != SURROGATE or offered < self.split.initial + self.split.sobol):
            return Step(0) if left >= 1.0 - 1e-9 else None
        return self._ladder.next(seen, lambda: self._candidates(seen, offered), budget, left, offered)

    def _candidates(self, seen: Sequence[Seen], offered: int) -> Array:
        """New points to choose from: the surrogate's own, or the one that another sampler comes to next."""
        if self._sampler != SURROGATE:
            at = self._cube.snapped(self._plain(offered))
            return np.array([self._cube.point(at)])
        highest = max((one.rung for one in seen if math.isfinite(one.score)), default=0)
        ended = [one for one in seen if one.rung == highest and math.isfinite(one.score)]
        best = max(ended, key=lambda one: one.score, default=None)
        seed = derive_seed(self._seed, self.space.arm, "candidates", len(seen))
        return self._cube.candidates(best.point if best else None, [one.point for one in seen], seed)

    def _plain(self, index: int) -> dict[str, Scalar]:
        """A proposal that learns nothing: the next point of the design."""
        if self._sampler == "random":
            return random_point(self.space, self._seed, index)
        return sobol_point(self.space, self._seed, index - self.split.initial)

    def propose(self, index: int, at: Sequence[float] | None = None) -> TrialRecord:
        """Propose the setting with this index and put it into SQL as a running Optuna trial.

        ``at`` is the point that :meth:`next` chose, if it did. If a kill struck between Optuna's tables and ours, the
        proposal is in SQL already, and is adopted.
        """
        if index in self._in_sql:
            return self._record(self._in_sql[index])
        source, setting = Source.MODEL, None
        attrs: dict[str, object] = {}
        if index < self.split.initial:
            setting, encoded = self._initial[index]
            assert encoded is not None
            point = encoded
            source = self.space.source_of(setting)
        elif at is not None and self._sampler == SURROGATE:
            point = self._cube.coordinates(at)
        elif self._sampler == "random":
            source, point = Source.RANDOM, self._plain(index)
        elif index < self.split.initial + self.split.sobol or self._sampler in ("sobol", SURROGATE):
            source, point = Source.SOBOL, self._plain(index)
        else:
            point, attrs = self._from_model(index)
        if (snapped := self._cube.snapped(point)) != point:
            setting, point = None, snapped
        setting = setting or self._cube.setting(point)
        trial = create_trial(
            state=TrialState.RUNNING,
            params={to_stored_axis(name): value for name, value in point.items()},
            distributions=self._distributions,
            user_attrs={INDEX: index, SOURCE: source.value, "setting": told(setting)},
            system_attrs=attrs,
        )
        with _database_errors():
            self._study.add_trial(trial)
            added = self._study.get_trials(deepcopy=False)
        self._shadow.add_trial(trial)
        self._in_sql[index] = next(t for t in reversed(added) if t.user_attrs.get(INDEX) == index)
        return TrialRecord(self.space.arm, index, source, setting, point, self._in_sql[index].number)

    def _from_model(self, index: int) -> tuple[dict[str, Scalar], dict[str, object]]:
        """Ask the sampler, seeded by the index, for a point; the trial it leaves in the shadow is taken back."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sampler = make_sampler(self._sampler, derive_seed(self._seed, self.space.arm, "model", index))
            scratch = optuna.create_study(
                directions=self._shadow.directions, sampler=sampler, pruner=optuna.pruners.NopPruner()
            )
            for trial in self._shadow.get_trials(deepcopy=False):
                scratch.add_trial(trial)
            asked = scratch.ask(self._distributions)
            attrs = dict(scratch.get_trials(deepcopy=False)[asked.number].system_attrs)
        return _coordinates(asked), attrs

    def _record(self, trial: FrozenTrial) -> TrialRecord:
        index, source = int(trial.user_attrs[INDEX]), Source(trial.user_attrs[SOURCE])
        at = _coordinates(trial)
        setting = self._initial[index][0] if index < self.split.initial else self._cube.setting(at)
        return TrialRecord(self.space.arm, index, source, setting, at, trial.number)

    @property
    def initial_settings(self) -> tuple[Setting, ...]:
        """The initial settings that will be proposed."""
        return tuple(setting for setting, _ in self._initial[: self.split.initial])

    def leave(self, trial: TrialRecord, rung: int, value: float | None) -> None:
        """Tell Optuna that a trial's ladder ended below the full horizon: pruned, with the value that it had there."""
        with _database_errors():
            frozen = self._study.get_trials(deepcopy=False)[self._in_sql[trial.index].number]
            if frozen.state.is_finished():
                return
            for study, number in ((self._study, frozen.number), (self._shadow, trial.index)):
                mine = study.get_trials(deepcopy=False)[number]
                if value is not None and rung not in mine.intermediate_values:
                    optuna.trial.Trial(study, mine._trial_id).report(value, rung)
                study.tell(number, state=TrialState.PRUNED)

    def tell(self, trial: TrialRecord, result: RunResult, worst: float | None = None) -> None:
        """Tell Optuna how a trial's ladder ended at the full horizon, or broke off; telling twice changes nothing.

        Divergence is told as COMPLETE with the worst finite value of the arm (or ``worst``, the run's own, before
        the arm has one) and a violated constraint, the sooner the worse; told as FAIL the sampler would ignore
        it and propose the cliff again.
        """
        with _database_errors():
            frozen = self._study.get_trials(deepcopy=False)[self._in_sql[trial.index].number]
            if frozen.state.is_finished():
                return
            value, violation = self._told(result, worst)
            for study, number in ((self._study, frozen.number), (self._shadow, trial.index)):
                if value is None:
                    study.tell(number, state=TrialState.FAIL)
                    continue
                mine = study.get_trials(deepcopy=False)[number]
                if CONSTRAINT not in mine.constraints:
                    optuna.trial.Trial(study, mine._trial_id).set_constraint(CONSTRAINT, violation)
                study.tell(number, value)

    def _told(self, result: RunResult, worst: float | None) -> tuple[float | None, float]:
        if result.outcome is Outcome.COMPLETED:
            return result.value, 0.0
        if result.outcome in (Outcome.DIVERGED, Outcome.PRUNED):
            return self._worst(worst), 1.0 / (1.0 + result.step)
        return None, 0.0

    def _worst(self, own: float | None) -> float | None:
        done = self._shadow.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        values = [t.values[0] for t in done] or ([] if own is None else [own])
        return min(values, key=lambda v: v * self._sign, default=None)


@contextmanager
def _database_errors() -> Iterator[None]:
    """Turn what Optuna and its driver raise when the database fails into our error."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (OptunaError, SQLAlchemyError) as error:
        cause = hide_secrets((str(error).strip() or type(error).__name__).splitlines()[0])
        raise StorageError(f"Optuna's tables cannot be used: {cause}. Check that the database runs.") from error


def open_arm(
    storage: optuna.storages.BaseStorage,
    study: str,
    space: ArmSpace,
    sampler: str,
    seed: int,
    planned: int,
    sign: int,
    costs: Sequence[float] = (1.0,),
    catalogue: Sequence[TrialRecord] = (),
) -> ArmSearch:
    """Open the Optuna study ``<study>/<arm>``, made if it is not there; the rest as in :class:`ArmSearch`."""
    with _database_errors():
        in_sql = optuna.create_study(
            study_name=f"{study}/{space.arm}",
            storage=storage,
            direction="maximize" if sign > 0 else "minimize",
            load_if_exists=True,
            sampler=optuna.samplers.RandomSampler(seed=0),
            pruner=optuna.pruners.NopPruner(),
        )
    return ArmSearch(space, sampler, seed, planned, in_sql, sign, costs, catalogue)


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """Open Optuna's tables, made if they are not there."""
    import sqlalchemy

    sqlite = url.startswith("sqlite")
    kwargs: Mapping[str, object] = {"connect_args": {"timeout": 60}} if sqlite else {"pool_pre_ping": True}
    escaped = url.replace("{", "{{").replace("}", "}}")  # Optuna fills a template with the URL
    try:
        return optuna.storages.RDBStorage(escaped, engine_kwargs=dict(kwargs))
    except (sqlalchemy.exc.SQLAlchemyError, RuntimeError, ImportError) as error:
        raise StorageError(hide_secrets(f"{url}: Optuna's tables cannot be opened: {error}")) from None
