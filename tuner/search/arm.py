"""One arm's search: which setting it would try next, and what Optuna is told of how a run ended.

A proposal is a function of the study's seed, the arm, the proposal's index, and what the arm has been told. It reaches
SQL in one transaction, complete or not at all, and is found there again when a study is resumed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuner.catalog.training_options import told
from tuner.config.space import ArmSpace, from_stored_axis, to_stored_axis
from tuner.core.records import Outcome, RunRecord, Setting, Source, TrialRecord
from tuner.core.values import Scalar, derive_seed
from tuner.search.cube import Cube
from tuner.search.ladder import SMALL, Ladder, Seen, Step
from tuner.search.optuna_arm import INDEX, SOURCE, OptunaArm, open_study
from tuner.search.proposals import SURROGATE, Proposal, random_point, sobol_point, split, split_for
from tuner.search.samplers import distribution, sampled
from tuner.search.surrogate import Array
from tuner.study_records import StudyRecords


def _coordinates(params: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Optuna's parameters by the names that dimensions have here."""
    return {from_stored_axis(name): value for name, value in params.items()}


class ArmSearch:
    """Proposes settings for one arm, and learns from how their runs ended.

    Args:
        space: the arm's dimensions and its initial settings.
        sampler: one of :data:`tuner.config.spec.SAMPLERS`.
        seed: the study's.
        planned: how many proposals the first budget foresaw; they are split by it (:func:`split_for`).
        study: the arm's Optuna study in SQL.
        sign: +1 where more of the metric is better, -1 where less is.
        costs: what a run on each rung of the ladder takes, as a share of a full run; (1.0,) where all runs are full.
        catalogue: proposals are restricted to the settings of these trials, such as those of a recorded table.
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
        self.split = split(sampler, planned, 0) if catalogue else split_for(sampler, planned, space)
        self._sampler, self._seed, self._sign = sampler, seed, sign
        self._cube = Cube(space, catalogue)
        self._ladder = Ladder(costs, self._cube.labels, len(space.dimensions))
        self._axes = {to_stored_axis(d.name): distribution(d) for d in space.dimensions}
        self._optuna = OptunaArm(study, self._axes, sign)
        encoded = [(setting, space.encode(setting)) for setting in (() if catalogue else space.initial_settings)]
        self._initial = [(setting, coordinates) for setting, coordinates in encoded if coordinates is not None]
        self._points: dict[int, tuple[float, ...]] = {}

    @property
    def initial_settings(self) -> tuple[Setting, ...]:
        """The initial settings that will be proposed."""
        return tuple(setting for setting, _ in self._initial[: self.split.initial])

    # -- what to try next

    def seen(self, records: StudyRecords) -> list[Seen]:
        """Return what the arm's runs of the search showed, in the order in which they were handed out."""
        shown = []
        for run in records.search_runs[self.space.arm]:
            trial = run.spec.trial
            if trial not in self._points:
                self._points[trial] = self._cube.point(records.by_key[self.space.arm, trial].coordinates)
            shown.append(Seen(trial, self._points[trial], run.spec.rung, run.score(self._sign)))
        return shown

    def next(
        self, seen: Sequence[Seen], proposed: int, budget: float, left: float, exhausted: bool = False
    ) -> Step | None:
        """Return what this arm would train next, or None. A function of the arguments, the seed and the space alone.

        Args:
            seen: what its runs showed, as from :meth:`seen`.
            proposed: how many settings it has proposed.
            budget: what it may spend in all, in full runs.
            left: what is left of the budget, in full runs.
            exhausted: propose nothing new; only settings that are there go on, up the ladder.
        """
        if exhausted:
            nothing = np.empty((0, len(self.space.dimensions)))
            return self._ladder.next(seen, lambda: nothing, budget, left, 10**9) if len(self.costs) > 1 else None
        if len(self.costs) == 1 and (self._sampler != SURROGATE or proposed < self.split.initial + self.split.sobol):
            return Step(0) if left >= 1.0 - SMALL else None
        return self._ladder.next(seen, lambda: self._candidates(seen, proposed), budget, left, proposed)

    def _candidates(self, seen: Sequence[Seen], proposed: int) -> Array:
        """New points to choose from: the surrogate's own, or the one that another sampler comes to next."""
        if self._sampler != SURROGATE:
            coordinates = self._cube.snapped(self._without_model(proposed))
            return np.array([self._cube.point(coordinates)])
        highest = max((one.rung for one in seen if math.isfinite(one.score)), default=0)
        ended = [one for one in seen if one.rung == highest and math.isfinite(one.score)]
        best = max(ended, key=lambda one: one.score, default=None)
        seed = derive_seed(self._seed, self.space.arm, "candidates", len(seen))
        return self._cube.candidates(best.point if best else None, [one.point for one in seen], seed)

    def _without_model(self, index: int) -> dict[str, Scalar]:
        """The next point of the design, which learns nothing."""
        if self._sampler == "random":
            return random_point(self.space, self._seed, index)
        return sobol_point(self.space, self._seed, index - self.split.initial)

    def proposal(self, index: int, point: Sequence[float] | None = None) -> Proposal:
        """Return the setting with this index among the arm's proposals; nothing is written.

        ``point`` is where in the unit cube :meth:`next` chose it, if it did. If a kill struck between Optuna's tables
        and ours, the proposal is in SQL already, and that one is returned.
        """
        if index in self._optuna.trials:
            return Proposal(self._record(index, self._optuna.trials[index]))
        source, setting, attrs = Source.MODEL, None, dict[str, object]()
        if index < self.split.initial:
            setting, coordinates = self._initial[index]
            source = self.space.source_of(setting)
        elif point is not None and self._sampler == SURROGATE:
            coordinates = self._cube.coordinates(point)
        elif self._sampler == "random":
            source, coordinates = Source.RANDOM, self._without_model(index)
        elif index < self.split.initial + self.split.sobol or self._sampler in ("sobol", SURROGATE):
            source, coordinates = Source.SOBOL, self._without_model(index)
        else:
            seed = derive_seed(self._seed, self.space.arm, "model", index)
            params, attrs = sampled(self._sampler, seed, self._optuna.shadow, self._axes)
            coordinates = _coordinates(params)
        if (snapped := self._cube.snapped(coordinates)) != coordinates:
            setting, coordinates = None, snapped
        setting = setting or self._cube.setting(coordinates)
        return Proposal(TrialRecord(self.space.arm, index, source, setting, coordinates), attrs)

    def _record(self, index: int, trial: FrozenTrial) -> TrialRecord:
        """The trial of a proposal that is in Optuna's tables."""
        initial = index < self.split.initial
        coordinates, source = _coordinates(trial.params), Source(trial.user_attrs[SOURCE])
        setting = self._initial[index][0] if initial else self._cube.setting(coordinates)
        return TrialRecord(self.space.arm, index, source, setting, coordinates, trial.number)

    def propose(self, proposal: Proposal) -> TrialRecord:
        """Put a proposal into SQL as a running Optuna trial, unless it is there; return it with its number there.

        Raises:
            StorageError: the database fails.
        """
        trial = proposal.trial
        if trial.optuna_number is not None:
            return trial
        running = create_trial(
            state=TrialState.RUNNING,
            params={to_stored_axis(name): value for name, value in trial.coordinates.items()},
            distributions=self._axes,
            user_attrs={INDEX: trial.index, SOURCE: trial.source.value, "setting": told(trial.setting)},
            system_attrs=dict(proposal.attrs),
        )
        return replace(trial, optuna_number=self._optuna.add(trial.index, running))

    # -- what Optuna is told

    def tell(self, run: RunRecord) -> None:
        """Tell Optuna how a trial's ladder ended, at the full horizon or where it broke off.

        A completed run below the full horizon is not told, and telling twice changes nothing. Divergence is told as
        COMPLETE with the worst finite value of the arm (before it has one, with the worst that the run itself
        measured) and a violated constraint, the sooner the worse: told as FAIL, the sampler would ignore it and
        propose the cliff again.

        Raises:
            StorageError: the database fails.
        """
        assert run.result is not None
        index, outcome = run.spec.trial, run.result.outcome
        if outcome is Outcome.COMPLETED and run.spec.rung < len(self.costs) - 1:
            return
        if self._optuna.is_finished(index):
            return
        value, violation = run.result.value, 0.0
        if outcome in (Outcome.DIVERGED, Outcome.PRUNED):
            value, violation = self._worst(run), 1.0 / (1.0 + run.result.step)
        if value is None or outcome in (Outcome.FAILED, Outcome.LOST):
            self._optuna.fail(index)
        else:
            self._optuna.complete(index, value, violation)

    def _worst(self, run: RunRecord) -> float | None:
        """The worst value of the arm's trials, before there is one that of the run's own measurements."""
        worst = self._optuna.worst()
        if worst is not None:
            return worst
        measured = [m.values[run.spec.metric] for m in run.curve if run.spec.metric in m.values]
        return min(measured, key=lambda value: value * self._sign, default=None)

    def leave(self, run: RunRecord) -> None:
        """Tell Optuna that this run ended its trial's ladder; below the full horizon, as pruned with the run's value.

        Raises:
            StorageError: the database fails.
        """
        if run.spec.rung < len(self.costs) - 1 and not self._optuna.is_finished(run.spec.trial):
            self._optuna.prune(run.spec.trial, run.spec.rung, run.value)


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
    """Open the Optuna study ``<study>/<arm>``, made if it is not there; the rest as in :class:`ArmSearch`.

    Raises:
        StorageError: the database fails.
    """
    in_sql = open_study(storage, f"{study}/{space.arm}", sign)
    return ArmSearch(space, sampler, seed, planned, in_sql, sign, costs, catalogue)
