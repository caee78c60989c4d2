"""Proposals: a function of seed, arm, index and what was told, also after a restart."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import optuna
import pytest
import torch
from optuna.trial import TrialState

from tuner.config.documents import Section
from tuner.config.space import ArmSpace, Dimension
from tuner.config.space_files import read_space
from tuner.core.errors import StorageError
from tuner.core.records import (
    Horizon,
    Measurement,
    Outcome,
    Phase,
    RunRecord,
    RunResult,
    RunSpec,
    Setting,
    Source,
    State,
    TrialRecord,
    WorkloadRef,
)
from tuner.core.values import Scalar
from tuner.search.arm import ArmSearch, open_arm
from tuner.search.optuna_arm import CONSTRAINT, INDEX, open_storage
from tuner.search.proposals import random_point, sobol_point, split
from tuner.search.samplers import distribution

RATE = {"low": 1e-5, "high": 3e-2, "scale": "log"}
DECAY = {"low": 1e-4, "high": 1.0, "scale": "log", "or_zero": True}


def arm_space(kinds: object = ("cosine", "wsd"), trials: int = 12, **adamw: object) -> ArmSpace:
    kind = {"choices": list(kinds)} if isinstance(kinds, tuple) else kinds
    data = {
        "name": "s",
        "schedule": {"kind": kind, "drops": {"low": 1, "high": 4}},
        "arms": {"adamw": {"learning_rate": RATE, "weight_decay": DECAY, **adamw}},
    }
    return read_space(Section(data, "s")).arm("adamw")


def propose(arm: ArmSearch, index: int) -> TrialRecord:
    return arm.propose(arm.proposal(index))


def ended(trial: TrialRecord, result: RunResult, rung: int = 0) -> RunRecord:
    """The trial's run of the search, on a rung of its ladder."""
    spec = RunSpec(
        "toy",
        trial.arm,
        trial.index,
        Phase.EXPLORE,
        0,
        Horizon(90, "steps"),
        trial.setting,
        WorkloadRef("toy:W"),
        "loss",
        "minimize",
        rung,
    )
    return RunRecord(spec, State.RUNNING, 1).ended(result)


class Bench:
    """An arm's search whose process can be restarted at will."""

    def __init__(self, url: str, sampler: str, seed: int = 1, planned: int = 12, name: str = "toy") -> None:
        self.url, self.sampler, self.seed, self.planned, self.name = url, sampler, seed, planned, name
        self.space = arm_space(("cosine", "wsd") if sampler != "cmaes" else "cosine")
        self.arm = self.restart()

    def restart(self) -> ArmSearch:
        storage = open_storage(self.url)
        self.arm = open_arm(storage, self.name, self.space, self.sampler, self.seed, self.planned, -1)
        return self.arm

    def drive(self, indices: Sequence[int], restart: bool = False) -> list[TrialRecord]:
        found = []
        for index in indices:
            if restart:
                self.restart()
            trial = propose(self.arm, index)
            found.append(trial)
            if restart:
                self.restart()
            self.arm.tell(ended(trial, told(trial)))
        return found


def loss(coordinates: dict[str, Scalar] | object) -> float:
    assert isinstance(coordinates, dict)
    return (math.log10(float(coordinates["learning_rate"])) + 3) ** 2 + 0.1 * float(coordinates["schedule.drops"])


def told(trial: TrialRecord) -> RunResult:
    """The best is beside the cliff: every learning rate above 3e-3 diverges."""
    if trial.coordinates["learning_rate"] > 3e-3:  # type: ignore[operator]
        return RunResult(Outcome.DIVERGED, step=3)
    if trial.index == 5:
        return RunResult(Outcome.FAILED)
    return RunResult(Outcome.COMPLETED, loss(trial.coordinates), step=90)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/a.db"


SAMPLERS = {"tpe": 10, "gp": 4, "random": 6, "sobol": 6, "cmaes": 10}
"""How many proposals each is tried with: a model that fits for seconds gets few."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The GP is fitted with torch, which is slower with two threads than with one when both cores are taken."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("sampler", "n"), SAMPLERS.items())
class TestTheSameSeed:
    def test_gives_the_same_proposals(self, sampler: str, n: int, url: str) -> None:
        one = Bench(url, sampler, planned=n).drive(range(n))
        assert one == Bench(url, sampler, planned=n, name="again").drive(range(n))
        other = Bench(url, sampler, planned=n, seed=2, name="other").drive(range(n))
        assert [t.coordinates for t in one[2:]] != [t.coordinates for t in other[2:]]
        assert len({str(t.coordinates) for t in one}) == n

    def test_also_after_a_restart_at_every_index(self, sampler: str, n: int, url: str) -> None:
        whole = Bench(url, sampler, planned=n).drive(range(n))
        assert Bench(url, sampler, planned=n, name="again").drive(range(n), restart=True) == whole

    def test_sources_follow_the_plan(self, sampler: str, n: int, url: str) -> None:
        bench = Bench(url, sampler, planned=n)
        parts, sources = bench.arm.split, [t.source for t in bench.drive(range(n))]
        assert parts == split(sampler, n, 1)
        rest = {"sobol": Source.SOBOL, "random": Source.RANDOM}.get(sampler, Source.MODEL)
        assert sources == [Source.DEFAULT] + [Source.SOBOL] * parts.sobol + [rest] * parts.model
        assert propose(bench.arm, n).source is rest, "an extension goes on with the model"


class TestKnownSettings:
    def test_come_first_and_as_they_are(self, url: str) -> None:
        space = arm_space()
        schedule: dict[str, Scalar] = {"kind": "linear", "end_ratio": 0.3, "warmup": 0.05}
        hyper = {**space.family.default.hyperparameters, "learning_rate": 0.1, "eps": 1e-7}
        mine = Setting("adamw", hyper, schedule)
        arm = open_arm(open_storage(url), "toy", space.including(mine), "tpe", 0, 12, -1)
        first, second, third = (propose(arm, i) for i in range(3))
        assert (first.source, first.setting) == (Source.DEFAULT, space.default)
        assert (second.source, second.setting) == (Source.CURRENT, mine)
        assert second.coordinates["schedule.kind"] == "linear"
        assert third.source is Source.SOBOL
        reopened = open_arm(open_storage(url), "toy", space.including(mine), "tpe", 0, 12, -1)
        assert [propose(reopened, i) for i in range(3)] == [first, second, third]

    def test_that_lie_outside_are_left_out(self, url: str) -> None:
        space = arm_space(learning_rate={"low": 0.1, "high": 1.0, "scale": "log"})
        arm = open_arm(open_storage(url), "toy", space, "tpe", 0, 12, -1)
        assert arm.split.initial == 0
        assert propose(arm, 0).source is Source.SOBOL


class TestOrphans:
    """Between Optuna's tables and ours a kill leaves a proposal that our table does not know."""

    def test_are_adopted(self, url: str) -> None:
        bench = Bench(url, "tpe")
        done = bench.drive(range(7))
        orphan = propose(bench.arm, 7)
        bench.restart()
        adopted = propose(bench.arm, 7)
        assert adopted == orphan
        assert optuna_trials(url)[7].state is TrialState.RUNNING
        bench.arm.tell(ended(adopted, told(adopted)))
        rest = [adopted, *bench.drive(range(8, 12))]
        assert [*done, *rest] == Bench(url, "tpe", name="again").drive(range(12))
        assert len(optuna_trials(url)) == 12


def optuna_trials(url: str, name: str = "toy") -> list[optuna.trial.FrozenTrial]:
    return open_storage(url).get_all_trials(open_storage(url).get_study_id_from_name(f"{name}/adamw"))


class TestTelling:
    def propose(self, url: str, results: Sequence[RunResult]) -> list[optuna.trial.FrozenTrial]:
        arm = Bench(url, "random").arm
        trials = [propose(arm, i) for i in range(len(results))]
        for trial, result in zip(trials, results, strict=True):
            arm.tell(ended(trial, result))
        return optuna_trials(url)

    def test_completed(self, url: str) -> None:
        (trial,) = self.propose(url, [RunResult(Outcome.COMPLETED, 0.1 + 0.2)])
        assert (trial.state, trial.values, trial.constraints) == (TrialState.COMPLETE, [0.1 + 0.2], {CONSTRAINT: 0.0})
        assert trial.user_attrs[INDEX] == 0

    def test_diverged_is_the_worst_finite_value_and_a_constraint(self, url: str) -> None:
        done = [RunResult(Outcome.COMPLETED, value) for value in (3.0, 7.0, 1.0)]
        diverged = [RunResult(Outcome.DIVERGED, step=step) for step in (0, 9)]
        trials = self.propose(url, [*done, *diverged])
        assert [t.state for t in trials] == [TrialState.COMPLETE] * 5
        assert [t.values for t in trials[3:]] == [[7.0], [7.0]]
        early, late = (t.constraints[CONSTRAINT] for t in trials[3:])
        assert early > late > 0, "the sooner the worse"

    def test_diverged_before_anything_completed(self, url: str) -> None:
        """There is no worst value of the arm yet: the run's own stands in, and without one it teaches nothing."""
        arm = Bench(url, "random").arm
        first, second = propose(arm, 0), propose(arm, 1)
        measured = (Measurement(1, {"loss": 4.0}), Measurement(2, {"loss": 9.0}), Measurement(3, {"gain": 11.0}))
        arm.tell(ended(first, RunResult(Outcome.DIVERGED, step=1)))
        arm.tell(ended(second, RunResult(Outcome.DIVERGED, step=1, measurements=measured)))
        one, two = optuna_trials(url)
        assert (one.state, one.values) == (TrialState.FAIL, None)
        assert (two.state, two.values) == (TrialState.COMPLETE, [9.0])
        assert two.constraints[CONSTRAINT] > 0

    @pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.LOST])
    def test_failed_teaches_nothing(self, url: str, outcome: Outcome) -> None:
        (trial,) = self.propose(url, [RunResult(outcome)])
        assert (trial.state, trial.values) == (TrialState.FAIL, None)

    @pytest.mark.parametrize(
        "first", [RunResult(Outcome.COMPLETED, 1.0), RunResult(Outcome.DIVERGED, step=2), RunResult(Outcome.FAILED)]
    )
    def test_twice_changes_nothing(self, url: str, first: RunResult) -> None:
        bench = Bench(url, "tpe")
        trial = propose(bench.arm, 0)
        bench.arm.tell(ended(trial, first))
        (before,) = optuna_trials(url)
        for again in (first, RunResult(Outcome.COMPLETED, 99.0), RunResult(Outcome.FAILED)):
            bench.arm.tell(ended(trial, again))
            bench.restart()
            bench.arm.tell(ended(trial, again))
        assert optuna_trials(url) == [before]


def late_falls(url: str, sampler: str, seed: int, tell: Callable[[TrialRecord], RunResult]) -> float:
    """Which share of the model's proposals lies beyond the cliff."""
    bench = Bench(url, sampler, seed=seed, planned=30, name=f"{sampler}{seed}")
    late = []
    for index in range(30):
        trial = propose(bench.arm, index)
        bench.arm.tell(ended(trial, tell(trial)))
        if trial.source is Source.MODEL and index >= 15:
            late.append(trial.coordinates["learning_rate"] > 3e-3)  # type: ignore[operator]
    return sum(late) / len(late)


def test_the_cliff_is_learned(url: str) -> None:
    """Three tenths of the axis diverge, with better and better values up to the edge."""

    def tell(trial: TrialRecord) -> RunResult:
        rate = float(trial.coordinates["learning_rate"])
        if rate > 3e-3:
            return RunResult(Outcome.DIVERGED, step=3)
        return RunResult(Outcome.COMPLETED, -math.log10(rate), step=90)

    shares = [late_falls(url, "tpe", seed, tell) for seed in (0, 1)]
    assert sum(shares) / 2 < 0.5, shares


class TestPoints:
    def test_sobol_is_one_even_sequence(self) -> None:
        space = arm_space()
        points = [sobol_point(space, 5, i) for i in range(16)]
        for d in space.dimensions:
            if not d.choices and not d.integer:
                cells = sorted(int(16 * (d.share(p[d.name]) or 0.0)) for p in points)
                assert cells == list(range(16)), d.name
        assert sum(p["schedule.kind"] == "cosine" for p in points) == 8

    def test_points_depend_on_seed_and_arm_alone(self) -> None:
        space = arm_space()
        for draw in (sobol_point, random_point):
            assert draw(space, 5, 3) == draw(space, 5, 3)
            assert draw(space, 5, 3) != draw(space, 6, 3)
            assert draw(space, 5, 3) != draw(space, 5, 4)

    @pytest.mark.parametrize("trials", [1, 2, 3, 4, 7, 12, 40, 500])
    @pytest.mark.parametrize("sampler", ["random", "sobol", "tpe", "gp", "cmaes"])
    def test_parts_make_up_the_whole(self, sampler: str, trials: int) -> None:
        for initial in (0, 1, 2):
            parts = split(sampler, trials, initial)
            assert parts.initial + parts.sobol + parts.model == trials
            assert min(parts.initial, parts.sobol, parts.model) >= 0
            if sampler in ("tpe", "gp", "cmaes") and trials > 2:
                assert parts.sobol.bit_count() == 1

    def test_errors_of_the_database_are_ours(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        arm = Bench(url, "random").arm

        def fail(*args: object) -> None:
            raise optuna.exceptions.StorageInternalError("postgresql://ann:hunter2@h is gone\nmore")

        monkeypatch.setattr(arm._optuna.study, "add_trial", fail)
        with pytest.raises(StorageError, match=r"Optuna's tables cannot be used: postgresql://ann:\*\*\*@h is gone\."):
            propose(arm, 0)

    def test_distributions(self) -> None:
        zero = Dimension("l2", 1e-7, 1.0, log=True, or_zero=True)
        found = distribution(zero)
        assert isinstance(found, optuna.distributions.FloatDistribution)
        assert (found.low, found.high, found.log) == (zero.floor, 1.0, True)
        assert distribution(Dimension("n", 1, 4, integer=True)) == optuna.distributions.IntDistribution(1, 4)
        kinds = Dimension("k", choices={"a": 1, "b": 1})
        assert distribution(kinds) == optuna.distributions.CategoricalDistribution(["a", "b"])


class TestWiderRanges:
    """What was proposed stays; what comes next knows it in the wider range."""

    @pytest.mark.parametrize("sampler", ["tpe", "gp", "sobol"])
    def test_go_on_in_the_same_study(self, sampler: str, url: str) -> None:
        storage = open_storage(url)
        narrow = arm_space(learning_rate={"low": 1e-5, "high": 1e-4, "scale": "log"})
        first = open_arm(storage, "toy", narrow, sampler, 1, 4, -1)
        for index in range(4):
            trial = propose(first, index)
            value = -math.log10(float(trial.coordinates["learning_rate"]))
            first.tell(ended(trial, RunResult(Outcome.COMPLETED, value)))
        wide = arm_space(learning_rate={"low": 1e-5, "high": 1e-2, "scale": "log"})
        second = open_arm(storage, "toy", wide, sampler, 1, 4, -1)
        beyond = [propose(second, index) for index in range(4, 8)]
        assert max(float(trial.coordinates["learning_rate"]) for trial in beyond) > 1e-4
        again = open_arm(storage, "toy", wide, sampler, 1, 4, -1)
        assert [propose(again, index) for index in range(4, 8)] == beyond
        axes = {str(trial.distributions) for trial in second._optuna.shadow.get_trials(deepcopy=False)}
        assert len(axes) == 1, "samplers model together only what has one range"


class TestStoredNames:
    """Optuna's tables keep the name of training options that they had: samplers see dimensions in its order."""

    def search(self, url: str, sampler: str = "tpe") -> ArmSearch:
        space = arm_space(training={"clip_norm": {"low": 0.1, "high": 10.0, "scale": "log"}})
        return open_arm(open_storage(url), "toy", space, sampler, 1, 8, -1)

    @pytest.mark.parametrize("sampler", ["tpe", "random"])
    def test_ours_in_records_the_old_ones_in_optuna(self, url: str, sampler: str) -> None:
        arm = self.search(url, sampler)
        trials = []
        for index in range(8):
            trials.append(propose(arm, index))
            arm.tell(ended(trials[-1], told(trials[-1])))
        names = {d.name for d in arm.space.dimensions}
        assert "training.clip_norm" in names
        assert all(set(trial.coordinates) == names for trial in trials)
        (kept,) = open_storage(url).get_all_studies()
        rows = open_storage(url).get_all_trials(kept._study_id)
        assert {name for row in rows for name in row.params} == {name.replace("training.", "recipe.") for name in names}
        assert [propose(self.search(url, sampler), trial.index) for trial in trials] == trials
