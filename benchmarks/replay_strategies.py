"""Strategies that search in a recorded table: the product's own ``Study``, and the common alternatives.

Each returns, per arm, the runs that it paid for, in order. Budgets are in full runs per arm.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import optuna
from replay_table import Table

from tuner.config.fidelity import FULL, LADDER, PRUNE, Fidelity, rungs_for
from tuner.config.spec import Budget, Resources, StudySpec
from tuner.core.ports import RunSource, Signal
from tuner.core.records import Assignment, Outcome, RunResult
from tuner.core.values import derive_seed
from tuner.search.arm import open_arm
from tuner.search.cube import Cube
from tuner.search.samplers import distribution
from tuner.storage.ledger import Ledger
from tuner.study import Study

optuna.logging.set_verbosity(optuna.logging.ERROR)
SMALL = 1e-9


@dataclass(slots=True)
class Spending:
    """The spending of one arm: ``full`` holds (full runs spent so far, setting) for each setting trained in full."""

    spent: float = 0.0
    full: list[tuple[float, int]] = field(default_factory=list)
    paid: set[tuple[int, float]] = field(default_factory=set)

    def pay(self, trial: int, share: float, reaches_end: bool) -> None:
        """Pay for a run; a run that is asked for twice is paid once."""
        if (trial, share) in self.paid:
            return
        self.paid.add((trial, share))
        self.spent += share
        if reaches_end:
            self.full.append((self.spent, trial))


Spendings = dict[str, Spending]

TUNER = {
    "tuner-ladder": (LADDER, "surrogate", "compare"),
    "tuner-full": (FULL, "surrogate", "compare"),
    "tuner-prune": (PRUNE, "surrogate", "compare"),
    "tuner-optimise": (LADDER, "surrogate", "optimise"),
}
OTHERS = ("random", "tpe", "tpe-group", "asha")
STRATEGIES = (*TUNER, *OTHERS)


def search(table: Table, strategy: str, budget: float, seed: int) -> Spendings:
    """Return the spending of each arm after the strategy has spent the budget on the table."""
    if strategy in TUNER:
        return _study(table, strategy, int(budget), seed)
    if strategy == "tpe-group":
        return _tpe_group(table, budget, seed)
    if strategy == "asha":
        return _asha(table, budget, seed)
    return {arm: _alone(table, arm, strategy, budget, derive_seed(seed, arm)) for arm in table.trials}


class TableExecutor:
    """An executor that looks runs up instead of training them."""

    def __init__(self, table: Table, numbers: dict[tuple[str, str], int]) -> None:
        self._table, self._numbers = table, numbers
        self.spendings: Spendings = {arm: Spending() for arm in table.trials}

    def prepare(self) -> None:
        """Do nothing: there is nothing to prepare."""

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def run(self, source: RunSource) -> None:
        clock = 0.0
        while isinstance(answer := source.ask(), Assignment):
            clock += 1.0
            self._train(source, answer, clock)
        assert answer is Signal.FINISHED

    def _train(self, source: RunSource, assignment: Assignment, clock: float) -> None:
        spec = assignment.spec
        trial, horizon = self._numbers[spec.arm, spec.setting.fingerprint], spec.horizon.amount
        outcome, value, curve = self._table.shown(spec.arm, trial, horizon)
        share = horizon / self._table.horizon
        for measured in curve:
            if not source.observe(assignment, (measured,)):
                self.spendings[spec.arm].pay(trial, measured.step / self._table.horizon, False)
                source.release(assignment)
                return
        self.spendings[spec.arm].pay(trial, share, horizon == self._table.horizon)
        result = RunResult(outcome, value, int(horizon), measurements=curve, started_at=clock, finished_at=clock + 0.5)
        source.tell(assignment, result)


def _study(table: Table, strategy: str, budget: int, seed: int) -> Spendings:
    """Run the product's own study on its own ledger; only the training is replaced by a look-up."""
    fidelity, sampler, allocation = TUNER[strategy]
    recorded, rungs = table.study.spec, _rungs(table, budget)
    if fidelity == LADDER and not rungs:
        fidelity = FULL  # no short run was recorded
    spec = replace(
        recorded,
        name="replay",
        recording=None,
        space=replace(recorded.space, arms=tuple(table.spaces.values())),
        budget=Budget(budget),
        opened_for=budget,
        sampler=sampler,
        seed=seed,
        fidelity=Fidelity(fidelity, horizons=rungs if fidelity == LADDER else ()),
        allocation=allocation,
        resources=Resources(parallel=1),
        stop_after_failures=10**9,
    )
    numbers = {
        (arm, trial.setting.fingerprint): trial.index for arm, trials in table.trials.items() for trial in trials
    }
    with tempfile.TemporaryDirectory(dir=_fast_folder()) as folder:
        return _drive(spec, table, TableExecutor(table, numbers), Path(folder))


def _rungs(table: Table, budget: int) -> tuple[float, ...]:
    """As many rungs as the product would take, moved to the nearest recorded steps below."""
    return table.rungs(rungs_for(max(len(space.dimensions) for space in table.spaces.values()), budget))


def _drive(spec: StudySpec, table: Table, executor: TableExecutor, folder: Path) -> Spendings:
    ledger = Ledger(f"sqlite:///{folder}/replay.db")
    ledger.migrate()
    lease = ledger.acquire(ledger.create(spec.name, {}))
    storage = optuna.storages.InMemoryStorage()
    arms = [
        open_arm(
            storage,
            spec.name,
            arm,
            spec.sampler,
            spec.seed,
            spec.opened_for,
            spec.sign,
            spec.rung_costs,
            table.trials[arm.arm],
        )
        for arm in spec.arms
    ]
    try:
        executor.run(Study(spec, ledger, lease, arms, lambda _: (), folder))
    finally:
        ledger.release(lease)
        ledger.close()
    return executor.spendings


def _fast_folder() -> str | None:
    """A folder in memory, if there is one: the ledger of a replay is not kept."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _alone(table: Table, arm: str, strategy: str, budget: float, seed: int) -> Spending:
    """One Optuna study for one arm, every run in full: random, or TPE with its defaults."""
    sampler = optuna.samplers.TPESampler(seed=seed) if strategy == "tpe" else optuna.samplers.RandomSampler(seed=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    space, cube, spending = table.spaces[arm], Cube(table.spaces[arm], table.trials[arm]), Spending()
    distributions = {d.name: distribution(d) for d in space.dimensions}
    for _ in range(int(20 * budget)):
        if spending.spent >= budget - SMALL or len(spending.paid) == len(table.trials[arm]):
            break
        trial = study.ask(distributions)
        number = table.trials[arm][cube.nearest(trial.params)].index
        spending.pay(number, 1.0, True)
        _tell(study, trial, table.score(arm, number))
    return spending


def _tell(study: optuna.Study, trial: optuna.Trial, score: float) -> None:
    if math.isfinite(score):
        study.tell(trial, score)
    else:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)


def _tpe_group(table: Table, budget: float, seed: int) -> Spendings:
    """One Optuna study over all arms: the arm as a choice, its settings conditional on it, ``group=True``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    spendings = {arm: Spending() for arm in table.trials}
    cubes = {arm: Cube(table.spaces[arm], table.trials[arm]) for arm in table.trials}
    total = budget * len(spendings)
    for _ in range(int(20 * total)):
        if sum(spending.spent for spending in spendings.values()) >= total - SMALL:
            break
        trial = study.ask()
        arm = trial.suggest_categorical("arm", sorted(spendings))
        params = {d.name: _suggest(trial, f"{arm} {d.name}", distribution(d)) for d in table.spaces[arm].dimensions}
        number = table.trials[arm][cubes[arm].nearest(params)].index
        spendings[arm].pay(number, 1.0, True)
        _tell(study, trial, table.score(arm, number))
    return spendings


def _suggest(trial: optuna.Trial, name: str, axis: optuna.distributions.BaseDistribution) -> float | int | str:
    return trial._suggest(name, axis)  # the same axis for every strategy


def _asha(table: Table, budget: float, seed: int) -> Spendings:
    """Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934) over all arms together, on prefixes.

    Settings are random. A promoted run continues from where it was, so only its further training is paid.
    """
    rungs = [*_prefixes(table), table.horizon]
    rng, spendings = np.random.default_rng(seed), {arm: Spending() for arm in table.trials}
    scores: list[dict[tuple[str, int], float]] = [{} for _ in rungs]
    everything = [(arm, trial.index) for arm, trials in table.trials.items() for trial in trials]
    order: Iterator[int] = iter(rng.permutation(len(everything)).tolist())
    total = budget * len(spendings)
    while sum(spending.spent for spending in spendings.values()) < total - SMALL:
        job = _promotable(scores, top=len(rungs) - 1)
        if job is None:
            place = next(order, None)
            if place is None:
                break
            job = everything[place], 0
        (arm, number), rung = job
        outcome, value, _ = table.shown(arm, number, rungs[rung])
        good = outcome is Outcome.COMPLETED and value is not None
        scores[rung][arm, number] = value * table.sign if good and value is not None else -math.inf
        before = rungs[rung - 1] if rung else 0.0
        spendings[arm].pay(number, (rungs[rung] - before) / table.horizon + rung * SMALL, rung == len(rungs) - 1)
    return spendings


def _prefixes(table: Table) -> list[float]:
    below = [step for step in table.steps if 0 < step < table.horizon]
    targets = (table.horizon / 9, table.horizon / 3)
    return sorted({max([s for s in below if s <= target] or below[:1]) for target in targets} if below else set())


def _promotable(scores: list[dict[tuple[str, int], float]], top: int) -> tuple[tuple[str, int], int] | None:
    """The best setting in the top third of a rung that was not promoted yet, from the highest rung down."""
    for rung in range(top - 1, -1, -1):
        ranked = sorted(scores[rung], key=lambda key: -scores[rung][key])
        for key in ranked[: len(ranked) // 3]:
            if key not in scores[rung + 1] and math.isfinite(scores[rung][key]):
                return key, rung + 1
    return None
