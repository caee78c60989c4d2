"""The study with a real ledger, a real search and a toy workload that trains in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tuner import bootstrap, workflow
from tuner.config.documents import Section
from tuner.config.spec import StudySpec
from tuner.config.stored import stored_spec
from tuner.config.study_file import read_study
from tuner.core.errors import StudyStopped
from tuner.core.ports import RunSource, Signal
from tuner.core.records import (
    Assignment,
    Measurement,
    Outcome,
    Phase,
    RunRecord,
    RunResult,
    Source,
    State,
    TrialRecord,
)
from tuner.core.settings import Settings
from tuner.resolve.asked import resolve
from tuner.study import Study

SPACE = {
    "name": "s",
    "schedule": {"kind": {"choices": ["cosine", "wsd"]}},
    "arms": {
        "sgdm": {"learning_rate": {"low": 1e-3, "high": 1.0, "scale": "log"}},
        "adamw": {"learning_rate": {"low": 1e-4, "high": 0.3, "scale": "log"}},
    },
}


def make(**changes: Any) -> StudySpec:
    data = {
        "study": "toy",
        "workload": {"path": "tuner.training.workloads.toy:ToyQuadratic", "options": changes.pop("options", {})},
        "horizon": {"steps": 12},
        "space": SPACE,
        "budget": {"trials_per_arm": 5},
        "confirmation": {"seeds": 3, "test": False},
        "executor": "local",
        "seed": 11,
        **changes,
    }
    return resolve(read_study(Section(data, "test")))


class Place:
    """A folder with a database, and sessions in it."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(f"sqlite:///{folder}/tuner.db", "none", folder / "studies")

    def session(self, spec: StudySpec) -> Any:
        bootstrap.create(spec, self.settings)
        return bootstrap.session(spec, self.settings)

    def run(self, spec: StudySpec) -> None:
        with self.session(spec) as session:
            session.run()

    def ledger(self) -> tuple[list[TrialRecord], list[RunRecord]]:
        ledger = bootstrap.open_ledger(self.settings)
        row = ledger.study("toy")
        found = ledger.trials(row), ledger.runs(row)
        ledger.close()
        return found

    def numbers(self) -> tuple[Any, ...]:
        """All that must repeat bit for bit."""
        trials, runs = self.ledger()
        return trials, [
            (
                run.run_id,
                run.spec.setting,
                run.outcome,
                run.value,
                [(m.step, dict(m.values)) for m in run.curve],
                dict(run.result.tests) if run.result else {},
            )
            for run in runs
        ]


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than these studies do."""
    monkeypatch.setattr(workflow, "write_all", lambda *args: [])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Place:
    (tmp_path / "elsewhere").mkdir()
    return Place(tmp_path / "elsewhere")


class Script:
    """An executor that trains nothing: what comes of each run is a function of the assignment."""

    def __init__(self, play: Callable[[Assignment, int], RunResult | None], stop_after: int | None = None) -> None:
        self.play, self.stop_after = play, stop_after
        self.handed: list[Assignment] = []

    def run(self, source: RunSource) -> None:
        while isinstance(assignment := source.ask(), Assignment):
            self.handed.append(assignment)
            result = self.play(assignment, len(self.handed) - 1)
            if result is None:
                source.release(assignment)
            else:
                source.tell(assignment, result)
            if self.stop_after is not None and len(self.handed) >= self.stop_after:
                assert isinstance(source, Study)
                source.stop("enough")
        assert assignment is Signal.FINISHED

    def close(self) -> None: ...


def good(assignment: Assignment, index: int = 0) -> RunResult:
    rate = float(assignment.spec.setting.hyperparameters["learning_rate"])
    value = abs(rate - 0.05) + assignment.spec.seed % 97 / 1e5
    return RunResult(Outcome.COMPLETED, value, 12, measurements=(Measurement(12, {"loss": value}),), train_seconds=1.0)


def scripted(place: Place, spec: StudySpec, script: Script) -> Study:
    with place.session(spec) as session:
        script.run(session.study)
        study: Study = session.study
        return study


class TestAWholeStudy:
    def test_repeats_bit_for_bit(self, place: Place, elsewhere: Place) -> None:
        place.run(make())
        elsewhere.run(make())
        assert place.numbers() == elsewhere.numbers()
        trials, runs = place.ledger()
        assert {run.state for run in runs} == {State.ENDED}
        assert [t.source for t in trials if t.arm == "sgdm"][:2] == [Source.DEFAULT, Source.SOBOL]

    def test_another_seed_is_another_study(self, place: Place, elsewhere: Place) -> None:
        place.run(make(confirmation={"max_runs": 0}))
        elsewhere.run(make(confirmation={"max_runs": 0}, seed=12))
        assert place.numbers() != elsewhere.numbers()

    def test_every_arm_gets_the_same_budget_and_the_same_search_seed(self, place: Place) -> None:
        place.run(make(confirmation={"max_runs": 0}))
        trials, runs = place.ledger()
        assert [sum(t.arm == arm for t in trials) for arm in ("sgdm", "adamw")] == [5, 5]
        assert [t.index for t in trials if t.arm == "sgdm"] == list(range(5))
        assert {run.spec.seed for run in runs} == {make().search_seed}
        assert [run.spec.arm for run in runs[:4]] == ["sgdm", "adamw", "sgdm", "adamw"]

    def test_confirmation_is_on_fresh_common_seeds(self, place: Place) -> None:
        place.run(make())
        _, runs = place.ledger()
        confirm = [run for run in runs if run.spec.phase is Phase.CONFIRM]
        seeds = {arm: [run.spec.seed for run in confirm if run.spec.arm == arm] for arm in ("sgdm", "adamw")}
        assert len(seeds["sgdm"]) == 3
        assert seeds["sgdm"] == seeds["adamw"]
        assert make().search_seed not in seeds["sgdm"]

    def test_again_changes_nothing(self, place: Place) -> None:
        place.run(make())
        before = place.numbers()
        place.run(make())
        assert place.numbers() == before

    def test_no_checkpoint_is_left(self, place: Place) -> None:
        place.run(make(checkpoint_seconds=0))
        assert list((place.settings.folder / "toy" / "checkpoints").glob("*")) == []


class TestStopAndResume:
    @pytest.mark.parametrize("after", [1, 7, 12])
    def test_ends_as_if_it_had_not_stopped(self, place: Place, elsewhere: Place, after: int) -> None:
        spec = make()
        elsewhere.run(spec)
        with place.session(spec) as session:
            count = 0
            tell = session.study.tell

            def telling(assignment: Assignment, result: RunResult) -> None:
                nonlocal count
                tell(assignment, result)
                count += 1
                if count == after:
                    session.study.stop("enough")

            session.study.tell = telling
            session.run()
            assert not session.study.finished
        stored = stored_spec(bootstrap.open_ledger(place.settings).study("toy").spec, "toy")
        place.run(stored)
        assert place.numbers() == elsewhere.numbers()

    def test_in_the_middle_of_a_run(self, place: Place, elsewhere: Place) -> None:
        spec = make(options={"eval_every_steps": 4}, checkpoint_seconds=0)
        elsewhere.run(spec)
        with place.session(spec) as session:
            seen = 0
            observe = session.study.observe

            def observing(assignment: Assignment, found: tuple[Measurement, ...]) -> bool:
                nonlocal seen
                seen += 1
                if seen == 8:
                    session.study.stop("enough")
                answer: bool = observe(assignment, found)
                return answer

            session.study.observe = observing
            session.run()
            (waiting,) = [run for run in place.ledger()[1] if run.state is not State.ENDED]
            assert (waiting.state, waiting.attempt) == (State.QUEUED, 1)
        place.run(spec)
        assert place.numbers() == elsewhere.numbers()
        resumed = [run.result.resumed_at for run in place.ledger()[1] if run.result]
        assert any(resumed), "it went on from its checkpoint"

    def test_after_a_kill_that_left_a_run_in_training(self, place: Place, elsewhere: Place) -> None:
        elsewhere.run(make())
        with place.session(make()) as session:
            assignments = [session.study.ask() for _ in range(1)]
            assert all(isinstance(a, Assignment) for a in assignments)
        assert [run.state for run in place.ledger()[1]] == [State.RUNNING]
        place.run(make())
        assert place.numbers() == elsewhere.numbers()
        assert place.ledger()[1][0].attempt == 2

    def test_optuna_learns_what_a_kill_kept_from_it(
        self, place: Place, elsewhere: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        elsewhere.run(make())
        with place.session(make()) as session:
            monkeypatch.setattr(session.study._lessons, "tell", lambda arms: None)
            script = Script(good, stop_after=1)
            assignment = session.study.ask()
            assert isinstance(assignment, Assignment)
            from tuner.training.run import train

            training = train(assignment)
            try:
                while True:
                    next(training)
            except StopIteration as end:
                session.study.tell(assignment, end.value)
            assert script.handed == []
        place.run(make())
        assert place.numbers() == elsewhere.numbers()


class TestOutcomes:
    def test_divergence_is_kept_and_not_refunded(self, place: Place) -> None:
        place.run(make(options={"diverge_above": 0.06}, confirmation={"max_runs": 0}))
        trials, runs = place.ledger()
        diverged = [run for run in runs if run.outcome is Outcome.DIVERGED]
        assert diverged
        assert len(runs) == len(trials) == 10
        assert all(float(run.spec.setting.hyperparameters["learning_rate"]) > 0.06 for run in diverged)
        assert all(run.value is None and "nan at step" in (run.result.reason if run.result else "") for run in diverged)

    def test_three_failures_in_a_row_stop_it_with_the_traceback(self, place: Place) -> None:
        spec = make(options={"fail_at": 5})
        with pytest.raises(StudyStopped) as caught, place.session(spec) as session:
            session.run()
        message = str(caught.value)
        assert "3 runs in a row failed in the user's code" in message
        assert "Traceback" in message
        assert "the toy fails at update 5, as it was told to" in message
        assert "tuner resume toy" in message
        assert caught.value.exit_code == 1
        row = bootstrap.open_ledger(place.settings).study("toy")
        assert (row.state, "3 runs in a row" in row.reason, "\n" in row.reason) == ("stopped", True, False)
        assert [run.outcome for run in place.ledger()[1]] == [Outcome.FAILED] * 3

    def test_a_resume_tries_the_failed_ones_again(self, place: Place) -> None:
        spec = make(confirmation={"max_runs": 0})
        with place.session(spec) as session:
            Script(lambda a, i: RunResult(Outcome.FAILED, reason="bug") if i >= 2 else good(a)).run(session.study)
            assert session.study.failed_in_a_row
            session.ledger.set_state(session.lease, "stopped", "bug")
        script = Script(good)
        assert scripted(place, spec, script).finished
        assert [a.attempt for a in script.handed] == [2] * 3 + [1] * 5
        assert {run.outcome for run in place.ledger()[1]} == {Outcome.COMPLETED}

    def test_failures_apart_do_not_stop_it(self, place: Place) -> None:
        def play(assignment: Assignment, index: int) -> RunResult:
            return RunResult(Outcome.FAILED, reason="x") if index % 3 != 0 else good(assignment)

        study = scripted(place, make(confirmation={"max_runs": 0}), Script(play))
        assert study.finished
        assert study.failed_in_a_row == ""

    def test_a_lost_run_is_tried_again_then_final(self, place: Place) -> None:
        def play(assignment: Assignment, index: int) -> RunResult:
            return RunResult(Outcome.LOST, reason="the node died") if assignment.spec.trial == 1 else good(assignment)

        spec = make(retries=2, confirmation={"max_runs": 0}, budget={"trials_per_arm": 3}, arms=["sgdm"])
        script = Script(play)
        study = scripted(place, spec, script)
        assert study.finished
        assert [(a.spec.trial, a.attempt) for a in script.handed] == [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1)]
        lost = place.ledger()[1][1]
        assert (lost.state, lost.outcome) == (State.ENDED, Outcome.LOST)

    def test_a_lost_run_that_comes_back_counts(self, place: Place) -> None:
        def play(assignment: Assignment, index: int) -> RunResult:
            return RunResult(Outcome.LOST) if index == 1 else good(assignment)

        script = Script(play)
        scripted(place, make(confirmation={"max_runs": 0}), script)
        assert {run.outcome for run in place.ledger()[1]} == {Outcome.COMPLETED}
        assert len(script.handed) == 11

    def test_a_late_attempt_is_not_heard(self, place: Place) -> None:
        with place.session(make()) as session:
            study = session.study
            first = study.ask()
            study.tell(first, RunResult(Outcome.LOST))
            second = study.ask()
            assert (second.spec, second.attempt) == (first.spec, 2)
            study.tell(first, good(first))
            assert not study.observe(first, (Measurement(4, {"loss": 1.0}),))
            study.release(first)
            assert study.snapshot().runs[0].state is State.RUNNING
            assert study.observe(second, (Measurement(4, {"loss": 2.0}),))
            study.tell(second, good(second))
            study.tell(second, RunResult(Outcome.FAILED))
        (run,) = place.ledger()[1]
        assert (run.outcome, run.attempt) == (Outcome.COMPLETED, 2)


class TestAsking:
    @pytest.fixture
    def study(self, place: Place) -> Iterator[Study]:
        with place.session(make(resources={"parallel": 3})) as session:
            yield session.study

    def test_in_parallel(self, study: Study) -> None:
        assert study.parallel == 3
        asked = [study.ask() for _ in range(10)]
        assert len({a.spec.run_id for a in asked if isinstance(a, Assignment)}) == 10
        assert study.ask() is Signal.WAIT
        for assignment in asked:
            assert isinstance(assignment, Assignment)
            study.tell(assignment, good(assignment))
        after = study.ask()
        assert isinstance(after, Assignment)
        assert after.spec.phase is Phase.NOISE

    def test_after_a_stop(self, study: Study) -> None:
        one, two = study.ask(), study.ask()
        assert isinstance(one, Assignment)
        assert isinstance(two, Assignment)
        study.stop("enough")
        study.stop("a later reason")
        assert study.snapshot().stopping == "enough"
        assert study.ask() is Signal.WAIT
        assert not study.observe(one, (Measurement(1, {"loss": 1.0}),))
        study.release(one)
        assert study.ask() is Signal.WAIT
        study.tell(two, good(two))
        assert study.ask() is Signal.FINISHED
        assert not study.finished

    def test_snapshots_tell_the_phase(self, study: Study) -> None:
        assert study.snapshot().phase == "explore"
        while isinstance(assignment := study.ask(), Assignment):
            phase = study.snapshot().phase
            assert phase == assignment.spec.phase.value
            study.tell(assignment, good(assignment))
        assert study.snapshot().phase == "finished"

    def test_hours_end_the_search(self, place: Place) -> None:
        spec = make(budget={"hours": 1e-9}, study="hours")
        with place.session(spec) as session:
            assert session.study.ask() is Signal.FINISHED

    def test_gpu_hours_end_the_search(self, place: Place) -> None:
        budget = {"gpu_hours": 3.5 / 3600}
        spec = make(budget=budget, resources={"gpus": 0.5}, confirmation={"max_runs": 0}, study="gpu")
        with place.session(spec) as session:
            script = Script(good)
            script.run(session.study)
        assert len(script.handed) == 7


class TestTheCurrentSettings:
    def test_of_no_arm_are_a_trial_of_their_own(self, place: Place) -> None:
        spec = make(current={"family": "nadam", "learning_rate": 0.01})
        place.run(spec)
        place.run(spec)
        trials, runs = place.ledger()
        (mine,) = [t for t in trials if t.source is Source.CURRENT]
        assert (mine.arm, mine.index, mine.setting.family) == ("current", 0, "nadam")
        assert {run.spec.phase for run in runs if run.spec.arm == "current"} == {Phase.REFERENCE}

    def test_of_an_arm_are_its_second_trial(self, place: Place) -> None:
        place.run(make(current={"family": "adamw", "learning_rate": 0.9}, confirmation={"max_runs": 0}))
        mine = [t for t in place.ledger()[0] if t.source is Source.CURRENT]
        assert [(t.arm, t.index) for t in mine] == [("adamw", 1)]
        assert mine[0].setting == replace(
            mine[0].setting, schedule={"kind": "constant", "warmup": 0.0, "warmup_shape": "linear"}
        )


class TestExtending:
    def test_more_trials_go_on_where_a_longer_study_would_be(self, place: Place, elsewhere: Place) -> None:
        place.run(make(confirmation={"max_runs": 0}))
        first = place.numbers()[0]
        spec = workflow.extend(make(confirmation={"max_runs": 0}), trials=2)
        with bootstrap.session(spec, place.settings) as session:
            session.ledger.set_spec(session.lease, spec.to_json())
            session.run()
        trials = place.numbers()[0]
        assert [t for t in trials if t.index < 5] == first
        assert len(trials) == 14

    def test_another_arm_catches_up(self, place: Place) -> None:
        place.run(make(confirmation={"max_runs": 0}))
        spec = workflow.extend(make(confirmation={"max_runs": 0}), arm="nadam")
        with bootstrap.session(spec, place.settings) as session:
            session.ledger.set_spec(session.lease, spec.to_json())
            session.run()
        assert sum(t.arm == "nadam" for t in place.ledger()[0]) == 5
