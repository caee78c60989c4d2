"""What the search trains next, from records alone: no ledger, no gate, no training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import optuna
import pytest
from analysis.records import make_spec

from tuner.config.spec import StudySpec
from tuner.core.records import Horizon, Measurement, Outcome, Phase, RunRecord, RunResult, Source, State, TrialRecord
from tuner.search.arm import open_arm
from tuner.search.clock import SearchClock
from tuner.search.failures import FailureStreak
from tuner.search.lessons import Lessons, leave_ladders, tell_again
from tuner.search.policy import REPEATS, NextRun, budget_of, exhausted, first_rung, next_run
from tuner.search.pruning import hopeless, pruned
from tuner.study_records import StudyRecords

FEW = {
    "name": "few",
    "schedule": {"kind": {"choices": ["cosine", "linear"]}},
    "arms": {"sgdm": {"learning_rate": {"choices": [0.01, 0.1]}}},
}
LADDER: dict[str, Any] = {"horizon": {"steps": 450}, "sampler": "random"}
Play = Callable[[RunRecord], RunResult]


def played(run: RunRecord) -> RunResult:
    """More is better: minus how many decades the rate is away from 0.03; short runs show a little less."""
    hyper, steps = run.spec.setting.hyperparameters, int(run.spec.horizon.amount)
    value = -abs(math.log10(float(hyper["learning_rate"]) / 0.03)) - 1.0 / steps
    return RunResult(Outcome.COMPLETED, value, steps, train_seconds=60.0)


class Search:
    """A search whose records are all there is."""

    def __init__(self, **changes: Any) -> None:
        spec = make_spec(**changes)
        storage = optuna.storages.InMemoryStorage()
        how = spec.sampler, spec.seed, spec.opened_for, spec.sign, spec.rung_costs
        self.arms = {arm.arm: open_arm(storage, spec.name, arm, *how) for arm in spec.arms}
        self.records = StudyRecords(spec, (), ())

    def begin(self, step: NextRun) -> RunRecord:
        trials = self.records.trials
        if step.proposal is not None:
            trials = (*trials, self.arms[step.spec.arm].propose(step.proposal))
        run = RunRecord(step.spec, State.RUNNING, 1)
        self.records = replace(self.records, trials=trials, runs=(*self.records.runs, run))
        return run

    def end(self, run: RunRecord, result: RunResult) -> RunRecord:
        ended = run.ended(result)
        runs = tuple(ended if one.run_id == run.run_id else one for one in self.records.runs)
        self.records = replace(self.records, runs=runs)
        self.arms[run.spec.arm].tell(ended)
        return ended

    def run(self, play: Play = played) -> Search:
        while (step := next_run(self.records, self.arms)) is not None:
            run = self.begin(step)
            self.end(run, step.result or play(run))
            assert len(self.records.runs) < 500
        return self

    def optuna_trials(self, arm: str) -> list[optuna.trial.FrozenTrial]:
        return self.arms[arm]._optuna.study.get_trials()


class TestNextRun:
    @pytest.mark.parametrize("how", [{}, {"sampler": "tpe", "fidelity": "full"}, LADDER, {"allocation": "optimise"}])
    def test_is_a_function_of_the_records_that_writes_nothing(self, how: dict[str, Any]) -> None:
        search = Search(**how)
        while (step := next_run(search.records, search.arms)) is not None:
            before = {arm: search.optuna_trials(arm) for arm in search.arms}
            assert next_run(search.records, search.arms) == step
            assert {arm: search.optuna_trials(arm) for arm in search.arms} == before
            search.end(search.begin(step), RunResult(Outcome.COMPLETED, 0.5, 3))

    def test_keeps_the_budget_with_runs_in_training(self) -> None:
        search = Search(**LADDER)
        while (step := next_run(search.records, search.arms)) is not None:
            search.begin(step)
        assert {run.state for run in search.records.runs} == {State.RUNNING}
        for arm in search.arms:
            assert 4 - 1 / 9 < search.records.committed(arm) <= 4 + 1e-9

    def test_goes_up_the_ladder_with_trials_that_are_there(self) -> None:
        search = Search(arms=["adamw"], **LADDER)
        steps = []
        while (step := next_run(search.records, search.arms)) is not None:
            steps.append((step.proposal is None, step.spec.trial, step.spec.rung))
            search.end(search.begin(step), played(search.records.runs[-1]))
        new = [trial for further, trial, _ in steps if not further]
        assert new == list(range(len(new)))
        assert any(further for further, *_ in steps)
        assert len({(trial, rung) for _, trial, rung in steps}) == len(steps)

    def test_what_was_trained_before_has_its_result_at_once(self) -> None:
        search = Search(space=FEW, arms=["sgdm"], budget={"trials_per_arm": 6}, **LADDER).run()
        runs = search.records.runs
        copies = [run for run in runs if run.result and "not trained again" in run.result.reason]
        trained = [search.records.training(run.spec) for run in runs if run not in copies]
        assert copies
        assert len(set(trained)) == len(trained)
        for run in copies:
            first = next(one for one in runs if search.records.training(one.spec) == search.records.training(run.spec))
            assert run.result is not None
            assert first.result is not None
            assert run.result.reason == f"the same as {first.run_id}: not trained again"
            assert (run.value, run.result.train_seconds) == (first.value, 0.0)

    @pytest.mark.parametrize(("outcome", "copied"), [(Outcome.DIVERGED, True), (Outcome.FAILED, False)])
    def test_only_what_ended_by_itself_is_copied(self, outcome: Outcome, copied: bool) -> None:
        few = Search(space=FEW, arms=["sgdm"], budget={"trials_per_arm": 30}, fidelity="full", sampler="random")
        few.run(lambda run: RunResult(outcome, step=1))
        assert any("not trained again" in run.result.reason for run in few.records.runs if run.result) is copied

    def test_stops_proposing_where_nothing_is_new(self) -> None:
        few = Search(space=FEW, arms=["sgdm"], budget={"trials_per_arm": 30}, fidelity="full", sampler="random").run()
        assert exhausted(few.records, "sgdm")
        prints = [trial.setting.fingerprint for trial in few.records.trials]
        assert len(set(prints)) <= 4
        assert not set(prints[-REPEATS:]) - set(prints[:-REPEATS])
        shorter = replace(few.records, trials=few.records.trials[:-1])
        assert not exhausted(shorter, "sgdm"), "it was asked no more often than needed"


class TestTheFirstRung:
    def trial(self, spec: StudySpec, source: Source, kind: str = "cosine") -> TrialRecord:
        setting = spec.space.arm("adamw").default
        return TrialRecord("adamw", 0, source, replace(setting, schedule={**setting.schedule, "kind": kind}), {})

    @pytest.mark.parametrize(
        ("source", "kind", "left", "rung"),
        [
            (Source.SOBOL, "cosine", 4.0, 0),
            (Source.PUBLISHED, "cosine", 4.0, 0),
            (Source.DEFAULT, "cosine", 4.0, 2),
            (Source.CURRENT, "cosine", 1.0, 2),
            (Source.DEFAULT, "cosine", 0.9, 0),
            (Source.SOBOL, "plateau", 4.0, 2),
        ],
    )
    def test_is_the_full_horizon_for_what_others_are_compared_with(
        self, source: Source, kind: str, left: float, rung: int
    ) -> None:
        spec = make_spec(**LADDER)
        assert len(spec.rungs) == 3
        assert first_rung(spec, self.trial(spec, source, kind), 0, left) == rung


def test_budgets_in_full_runs() -> None:
    spec = make_spec()
    assert budget_of(spec, {"sgdm": 3.0, "adamw": 0.0}) == 4.0
    hours = make_spec(budget={"hours": 2})
    spent = [{"sgdm": least, "adamw": least + 9} for least in (0.0, 23.0, 23.1, 28.9, 29.0)]
    assert [budget_of(hours, one) for one in spent] == [24, 24, 30, 30, 36]


class TestWhatOptunaIsTold:
    def states(self, search: Search, arm: str = "adamw") -> list[str]:
        return [trial.state.name for trial in search.optuna_trials(arm)]

    def begun(self, count: int, **changes: Any) -> tuple[Search, list[RunRecord]]:
        search, runs = Search(arms=["adamw"], **changes), []
        for _ in range(count):
            step = next_run(search.records, search.arms)
            assert step is not None
            runs.append(search.begin(step))
        return search, runs

    def test_failures_wait_until_a_run_ends_otherwise(self) -> None:
        search, (one, two, three) = self.begun(3, fidelity="full")
        lessons = Lessons()
        lessons.add(one.ended(RunResult(Outcome.FAILED)), search.arms)
        lessons.add(two.ended(RunResult(Outcome.LOST)), search.arms)
        assert self.states(search) == ["RUNNING"] * 3
        lessons.add(three.ended(RunResult(Outcome.COMPLETED, 0.5, 3)), search.arms)
        assert self.states(search) == ["FAIL", "FAIL", "COMPLETE"]

    def test_what_a_kill_kept_from_it_is_told_in_the_order_of_ends(self) -> None:
        search, (one, two) = self.begun(2, fidelity="full")
        worst = one.ended(RunResult(Outcome.COMPLETED, 0.1, 3, finished_at=5.0))
        late = two.ended(RunResult(Outcome.DIVERGED, step=1, finished_at=9.0))
        tell_again(replace(search.records, runs=(late, worst)), search.arms)
        assert [trial.values for trial in search.optuna_trials("adamw")] == [[0.1], [0.1]]

    def test_ladders_are_left_with_the_value_of_the_highest_rung(self) -> None:
        search, runs = self.begun(2, **LADDER)
        assert [run.spec.rung for run in runs] == [2, 0]
        for run in runs:
            search.end(run, played(run))
        assert self.states(search) == ["COMPLETE", "RUNNING"]
        leave_ladders(search.records, search.arms)
        leave_ladders(search.records, search.arms)
        assert self.states(search) == ["COMPLETE", "PRUNED"]
        assert search.optuna_trials("adamw")[1].intermediate_values == {0: search.records.runs[1].value}


class TestPruning:
    def test_a_run_that_is_far_behind_is_stopped_with_what_it_measured(self) -> None:
        search = Search(arms=["adamw"], fidelity="prune", sampler="random", budget={"trials_per_arm": 9})
        metric = search.records.spec.metric

        def curve(value: float) -> tuple[Measurement, ...]:
            return tuple(Measurement(step, {metric: value}, train_seconds=1.0 * step) for step in (1, 2))

        for value in (0.5, 0.6, 0.7, 0.8):
            step = next_run(search.records, search.arms)
            assert step is not None
            search.end(search.begin(step), RunResult(Outcome.COMPLETED, value, 3, measurements=curve(value)))
        step = next_run(search.records, search.arms)
        assert step is not None
        run = search.begin(step)
        bad, good, done = replace(run, curve=curve(0.1)), replace(run, curve=curve(0.9)), replace(run, curve=curve(0.1))
        assert hopeless(search.records, bad)
        assert not hopeless(search.records, good)
        longest = (*done.curve, Measurement(3, {metric: 0.1}))
        assert not hopeless(search.records, replace(done, curve=longest)), "it has trained to its end"
        result = pruned(bad, "median")
        assert (result.outcome, result.value, result.step, result.train_seconds) == (Outcome.PRUNED, None, 2, 2.0)
        assert result.reason == "stopped by the median pruner"


class TestTheClock:
    def test_hours_of_all_drivers_count(self) -> None:
        records = StudyRecords(make_spec(budget={"hours": 2}), (), ())
        assert not SearchClock(7000.0).over(records)
        assert SearchClock(7200.0).over(records)

    def test_it_stands_still_at_the_end_of_the_search(self) -> None:
        clock, records = SearchClock(0.0), StudyRecords(make_spec(), (), ())
        assert not clock.over(records)
        clock.end()
        seconds = clock.seconds
        clock.end()
        assert (clock.seconds, clock.over(records)) == (seconds, True)

    def test_gpu_hours_are_those_of_ended_runs_of_the_search(self) -> None:
        budget = {"budget": {"gpu_hours": 1.5 / 60}, "resources": {"gpus": 0.5}}
        search, clock = Search(arms=["adamw"], sampler="random", **budget), SearchClock(0.0)
        for minutes in (1, 2, 3):
            assert not clock.over(search.records)
            step = next_run(search.records, search.arms)
            assert step is not None
            search.end(search.begin(step), RunResult(Outcome.COMPLETED, 0.1, 3, train_seconds=50, eval_seconds=10))
            assert search.records.training_seconds == 60 * minutes
        assert clock.over(search.records)


class TestFailures:
    def ended(self, outcome: Outcome) -> RunRecord:
        spec = make_spec()
        trial = TrialRecord("adamw", 3, Source.SOBOL, spec.space.arm("adamw").default, {})
        run = StudyRecords(spec, (trial,), ()).run_spec(trial, Phase.EXPLORE, seed=1)
        assert run.horizon == Horizon(3, "epochs")
        return RunRecord(run, State.RUNNING, 1).ended(RunResult(outcome, reason="a bug", traceback="Traceback: x\n"))

    def test_in_a_row_stop_a_study_and_others_begin_anew(self) -> None:
        spec, streak = make_spec(stop_after_failures=2), FailureStreak()
        for outcome in (Outcome.FAILED, Outcome.DIVERGED, Outcome.LOST):
            streak = streak.after(self.ended(outcome), spec)
            assert streak.message == ""
        streak = streak.after(self.ended(Outcome.FAILED), spec)
        assert streak.length == 2
        assert "2 runs in a row failed in the user's code" in streak.message
        assert "with: a bug. Mend it, then go on with 'tuner resume toy'" in streak.message
        assert streak.message.endswith("\n\nTraceback: x")
        assert streak.after(self.ended(Outcome.COMPLETED), spec) == FailureStreak(0, streak.message)
        assert "3 runs in a row lost their workers" in streak.after(self.ended(Outcome.LOST), spec).message
