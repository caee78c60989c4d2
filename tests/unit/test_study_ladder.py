"""Studies on a ladder, pruned ones, and budgets that move: what they spend, and what they do after a stop."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from test_study import Place, Script, make, scripted

from tuner import bootstrap, workflow
from tuner.analysis.verdict.finalists import finalists
from tuner.config.documents import Section
from tuner.config.spec import StudySpec
from tuner.config.stored import stored_spec
from tuner.config.study_file import read_study
from tuner.core.errors import InputError
from tuner.core.records import (
    Assignment,
    Horizon,
    Measurement,
    Outcome,
    Phase,
    RunRecord,
    RunResult,
    Source,
    State,
)
from tuner.resolve.asked import resolve
from tuner.study import Study
from tuner.study_records import StudyRecords

FULL = 450
RUNGS = {0: 50, 1: 150, 2: FULL}
BUDGET = 4


def ladder(**changes: Any) -> StudySpec:
    return make(
        **{
            "horizon": {"steps": FULL},
            "budget": {"trials_per_arm": BUDGET},
            "confirmation": {"max_runs": 0},
            **changes,
        }
    )


def pruning(**changes: Any) -> StudySpec:
    return ladder(
        **{
            "horizon": {"steps": 60},
            "budget": {"trials_per_arm": 7},
            "fidelity": "prune",
            "options": {"eval_every_steps": 10},
            **changes,
        }
    )


def played(assignment: Assignment, index: int = 0) -> RunResult:
    """Loss: how many decades the rate is away from the best one, of which short runs show a little less."""
    rate = float(assignment.spec.setting.hyperparameters["learning_rate"])
    steps = int(assignment.spec.horizon.amount)
    loss = abs(math.log10(rate / 0.03)) + 1.0 / steps + assignment.spec.seed % 97 / 1e5
    return RunResult(
        Outcome.COMPLETED, loss, steps, measurements=(Measurement(steps, {"loss": loss}),), train_seconds=steps / 1e3
    )


def searched(runs: list[RunRecord], arm: str | None = None) -> list[RunRecord]:
    return [run for run in runs if run.spec.phase is Phase.EXPLORE and arm in (None, run.spec.arm)]


def optuna_trials(place: Place, arm: str) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=f"toy/{arm}", storage=place.settings.storage).get_trials(deepcopy=False)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "write_all", lambda *args: [])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Place:
    (tmp_path / "elsewhere").mkdir()
    return Place(tmp_path / "elsewhere")


class TestALadder:
    def test_trains_on_its_rungs_within_the_budget(self, place: Place) -> None:
        spec = ladder()
        assert scripted(place, spec, Script(played)).finished
        trials, runs = place.ledger()
        assert {run.spec.rung: run.spec.horizon for run in runs} == {
            rung: Horizon(steps, "steps") for rung, steps in RUNGS.items() if rung in {r.spec.rung for r in runs}
        }
        assert {run.spec.rung for run in runs} >= {0, 2}
        costs = StudyRecords(spec, (), tuple(runs)).spent
        assert all(BUDGET - 1 / 9 < cost <= BUDGET + 1e-9 for cost in costs.values()), costs
        for arm in ("sgdm", "adamw"):
            mine = [t for t in trials if t.arm == arm]
            assert len(mine) > BUDGET, "it screens more settings than it could train in full"
            assert [t.index for t in mine] == list(range(len(mine)))
            assert mine[0].source is Source.DEFAULT
            full = [run for run in searched(runs, arm) if run.spec.rung == 2]
            assert 1 <= len(full) <= BUDGET

    def test_arms_take_turns(self, place: Place) -> None:
        spec = ladder()
        script = Script(played)
        scripted(place, spec, script)
        costs = {"sgdm": 0.0, "adamw": 0.0}
        for assignment in script.handed:
            costs[assignment.spec.arm] += assignment.spec.horizon.amount / FULL
            assert abs(costs["sgdm"] - costs["adamw"]) <= 1.0 + 1e-9

    def test_finalists_come_from_full_runs(self, place: Place) -> None:
        def flattering(assignment: Assignment, index: int) -> RunResult:
            """Short runs look better than any full one can."""
            found = played(assignment)
            if assignment.spec.rung == 2:
                return found
            assert found.value is not None
            return RunResult(Outcome.COMPLETED, found.value - 100.0, found.step, measurements=found.measurements)

        spec = ladder(confirmation={"seeds": 2, "test": False, "noise_seeds": 0, "references": False})
        scripted(place, spec, Script(flattering))
        trials, runs = place.ledger()
        chosen = finalists(StudyRecords(spec, tuple(trials), tuple(runs)))
        for arm, trial in chosen.items():
            full = {r.spec.trial: r.value for r in searched(runs, arm) if r.spec.rung == 2}
            assert full[trial] == min(value for value in full.values() if value is not None)
        confirmed = [run for run in runs if run.spec.phase is Phase.CONFIRM]
        assert confirmed
        assert {run.spec.horizon for run in confirmed} == {Horizon(FULL, "steps")}
        assert {(run.spec.arm, run.spec.trial) for run in confirmed} == set(chosen.items())

    def test_optuna_is_told_once_how_each_ladder_ended(self, place: Place) -> None:
        scripted(place, ladder(), Script(played))
        _, runs = place.ledger()
        for arm in ("sgdm", "adamw"):
            full = {run.spec.trial: run.value for run in searched(runs, arm) if run.spec.rung == 2}
            short = {run.spec.trial: run for run in searched(runs, arm) if run.spec.trial not in full}
            assert short
            for number, trial in enumerate(optuna_trials(place, arm)):
                if number in full:
                    assert (trial.state, trial.value) == (TrialState.COMPLETE, full[number])
                else:
                    run = short[number]
                    assert trial.state is TrialState.PRUNED
                    assert trial.intermediate_values == {run.spec.rung: run.value}

    def test_what_broke_off_goes_no_further(self, place: Place) -> None:
        def breaking(assignment: Assignment, index: int) -> RunResult:
            rate = float(assignment.spec.setting.hyperparameters["learning_rate"])
            return RunResult(Outcome.DIVERGED, step=3, reason="nan") if rate > 0.1 else played(assignment)

        scripted(place, ladder(), Script(breaking))
        _, runs = place.ledger()
        bad = {(run.spec.arm, run.spec.trial) for run in runs if run.outcome is Outcome.DIVERGED}
        assert bad
        assert all(n == 1 for key, n in Counter((r.spec.arm, r.spec.trial) for r in runs).items() if key in bad)

    def test_a_lost_run_is_tried_again_on_its_rung(self, place: Place) -> None:
        def play(assignment: Assignment, index: int) -> RunResult:
            return RunResult(Outcome.LOST, reason="the node died") if index in (1, 9) else played(assignment)

        script = Script(play)
        spec = ladder()
        assert scripted(place, spec, script).finished
        _, runs = place.ledger()
        assert {run.outcome for run in runs} == {Outcome.COMPLETED}
        assert len(script.handed) == len(runs) + 2
        assert all(cost <= BUDGET + 1e-9 for cost in StudyRecords(spec, (), tuple(runs)).spent.values())

    def test_a_schedule_that_follows_the_metric_trains_in_full_only(self, place: Place) -> None:
        space = {
            "name": "s",
            "schedule": {"kind": {"choices": ["cosine", "plateau"]}},
            "arms": {"sgdm": {"learning_rate": {"low": 1e-3, "high": 1.0, "scale": "log"}}},
        }
        scripted(place, ladder(space=space), Script(played))
        _, runs = place.ledger()
        kinds = {(str(run.spec.setting.schedule["kind"]), run.spec.rung) for run in runs}
        assert {rung for kind, rung in kinds if kind == "plateau"} == {2}
        assert ("cosine", 0) in kinds

    def test_a_metric_that_falls_and_one_that_rises_are_searched_alike(self, place: Place, elsewhere: Place) -> None:
        def rising(assignment: Assignment, index: int) -> RunResult:
            found = played(assignment)
            assert found.value is not None
            return RunResult(Outcome.COMPLETED, -found.value, found.step)

        scripted(place, ladder(), Script(played))
        scripted(elsewhere, ladder(metric={"name": "gain", "direction": "maximize"}), Script(rising))
        assert [run.run_id for run in place.ledger()[1]] == [run.run_id for run in elsewhere.ledger()[1]]

    def test_a_stored_study_without_the_key_trains_in_full(self) -> None:
        data = ladder().to_json()
        del data["fidelity"], data["version"]
        assert stored_spec(data, "toy").rungs == (Horizon(FULL, "steps"),)


def stopping(study: Study, at: int) -> Callable[[Assignment, tuple[Measurement, ...]], bool]:
    """The study's ``observe``, which stops it at a measurement."""
    observe, seen = study.observe, iter(range(1, 10_000))

    def observing(assignment: Assignment, found: tuple[Measurement, ...]) -> bool:
        if next(seen) == at:
            study.stop("enough")
        return observe(assignment, found)

    return observing


class TestStopAndResume:
    def test_after_every_few_runs_it_ends_as_if_it_had_not_stopped(self, place: Place, elsewhere: Place) -> None:
        spec = ladder(confirmation={"seeds": 2, "test": False, "noise_seeds": 0})
        scripted(elsewhere, spec, Script(played))
        for _ in range(40):
            if scripted(place, spec, Script(played, stop_after=5)).finished:
                break
        assert place.numbers() == elsewhere.numbers()
        for arm in ("sgdm", "adamw"):
            one, two = (optuna_trials(where, arm) for where in (place, elsewhere))
            assert [(t.state, t.values, t.intermediate_values) for t in one] == [
                (t.state, t.values, t.intermediate_values) for t in two
            ]

    def test_with_real_trainings(self, place: Place, elsewhere: Place) -> None:
        spec = ladder(horizon={"steps": 150}, budget={"trials_per_arm": 3}, options={"eval_every_steps": 25})
        assert [rung.amount for rung in spec.rungs] == [50, 150]
        elsewhere.run(spec)
        for stop_at in (4, 23, 40):
            with place.session(spec) as session:
                session.study.observe = stopping(session.study, stop_at)
                session.run()
        place.run(spec)
        assert place.numbers() == elsewhere.numbers()
        _, runs = place.ledger()
        assert {run.result.step for run in runs if run.result} == {50, 150}
        assert all(len(run.curve) == run.spec.horizon.amount / 25 for run in runs)

    def test_pruned_runs_are_the_same_after_stops(self, place: Place, elsewhere: Place) -> None:
        spec = pruning(arms=["sgdm"])
        elsewhere.run(spec)
        for stop_at in (5, 19, 30):
            with place.session(spec) as session:
                session.study.observe = stopping(session.study, stop_at)
                session.run()
        place.run(spec)
        assert place.numbers() == elsewhere.numbers()
        assert Outcome.PRUNED in {run.outcome for run in place.ledger()[1]}

    def test_a_longer_budget_goes_on(self, place: Place) -> None:
        spec = ladder()
        scripted(place, spec, Script(played))
        trials, runs = place.ledger()
        longer = workflow.extend(spec, trials=3)
        with bootstrap.session(longer, place.settings) as session:
            session.ledger.set_spec(session.lease, longer.to_json())
            Script(played).run(session.study)
        later_trials, later = place.ledger()
        assert later[: len(runs)] == runs
        assert [t for t in later_trials if t in trials] == trials
        costs = StudyRecords(longer, (), tuple(later)).spent
        assert all(BUDGET + 3 - 1 / 9 < cost <= BUDGET + 3 + 1e-9 for cost in costs.values())
        assert {t.state for arm in ("sgdm", "adamw") for t in optuna_trials(place, arm)} == {
            TrialState.COMPLETE,
            TrialState.PRUNED,
        }


class TestInParallel:
    def test_runs_in_training_count_as_spent(self, place: Place) -> None:
        spec = ladder(resources={"parallel": 4})
        with place.session(spec) as session:
            study, training = session.study, []
            while True:
                asked = study.ask()
                if isinstance(asked, Assignment):
                    training.append(asked)
                    if len(training) < 4:
                        continue
                elif not training:
                    break
                assignment = training.pop(len(training) // 2)
                study.tell(assignment, played(assignment))
        _, runs = place.ledger()
        assert {run.state for run in runs} == {State.ENDED}
        costs = StudyRecords(spec, (), tuple(runs)).spent
        assert all(BUDGET - 1 / 9 < cost <= BUDGET + 1e-9 for cost in costs.values()), costs


class TestPruning:
    @pytest.mark.parametrize("pruner", ["median", "asha"])
    def test_stops_runs_within_the_budget(self, place: Place, pruner: str) -> None:
        spec = pruning(fidelity={"kind": "prune", "pruner": pruner}, arms=["sgdm"])
        place.run(spec)
        trials, runs = place.ledger()
        outcomes = Counter(run.outcome for run in runs)
        assert outcomes[Outcome.PRUNED] >= 1
        assert set(outcomes) == {Outcome.PRUNED, Outcome.COMPLETED}
        assert len(trials) > 7, "what a pruned run leaves over is spent on others"
        assert 6.0 < StudyRecords(spec, (), tuple(runs)).spent["sgdm"] <= 7.0 + 1e-9
        for run in runs:
            assert run.spec.horizon == Horizon(60, "steps")
            if run.outcome is Outcome.PRUNED:
                assert run.result is not None
                assert 0 < run.result.step < 60
                assert f"stopped by the {pruner} pruner" in run.result.reason
                assert run.value is None
        assert all(trial.state.is_finished() for trial in optuna_trials(place, "sgdm"))
        chosen = finalists(StudyRecords(spec, tuple(trials), tuple(runs)))
        assert {run.outcome for run in runs if run.spec.trial == chosen["sgdm"]} == {Outcome.COMPLETED}


class TestABudgetThatMoves:
    @pytest.mark.parametrize("fidelity", ["ladder", "full"])
    def test_every_arm_gets_its_floor_and_the_rest_goes_to_the_better_one(self, place: Place, fidelity: str) -> None:
        def play(assignment: Assignment, index: int) -> RunResult:
            found = played(assignment)
            assert found.value is not None
            worse = 5.0 if assignment.spec.arm == "sgdm" else 0.0
            return RunResult(Outcome.COMPLETED, found.value + worse, found.step)

        spec = ladder(budget={"trials_per_arm": 6}, allocation="optimise", fidelity=fidelity)
        assert scripted(place, spec, Script(play)).finished
        costs = StudyRecords(spec, (), tuple(place.ledger()[1])).spent
        assert min(costs.values()) > 3 - 1 / 3
        assert 12 - 1 < sum(costs.values()) <= 12 + 1e-9
        assert costs["adamw"] > 6 > costs["sgdm"]

    def test_it_ends_the_same_after_stops(self, place: Place, elsewhere: Place) -> None:
        spec = ladder(allocation="optimise")
        scripted(elsewhere, spec, Script(played))
        for _ in range(40):
            if scripted(place, spec, Script(played, stop_after=4)).finished:
                break
        assert place.numbers() == elsewhere.numbers()


FEW = {
    "name": "few",
    "schedule": {"kind": {"choices": ["cosine", "linear"]}},
    "arms": {"sgdm": {"learning_rate": {"choices": [0.01, 0.1]}}},
}


class TestFewSettings:
    """A space with fewer settings than the budget could train."""

    @pytest.mark.parametrize(
        "how", [{}, {"sampler": "random"}, {"sampler": "tpe"}, {"sampler": "random", "fidelity": "full"}], ids=str
    )
    def test_nothing_is_trained_twice_and_there_is_a_finalist(self, place: Place, how: dict[str, str]) -> None:
        script = Script(played)
        spec = ladder(space=FEW, budget={"trials_per_arm": 6}, **how)
        assert scripted(place, spec, script).finished
        trained = [(a.spec.setting.fingerprint, a.spec.rung) for a in script.handed]
        assert len(set(trained)) == len(trained) <= 4 * len(spec.rungs)
        trials, runs = place.ledger()
        assert set(finalists(StudyRecords(spec, tuple(trials), tuple(runs)))) == {"sgdm"}
        copied = [run for run in runs if run.result and "not trained again" in run.result.reason]
        assert len(runs) == len(trained) + len(copied)
        assert all(run.result is not None and run.result.train_seconds == 0.0 for run in copied)
        assert {trial.state for trial in optuna_trials(place, "sgdm")} <= {TrialState.COMPLETE, TrialState.PRUNED}


class TestRungsOfAWorkload:
    def test_a_rung_beyond_the_workloads_own_horizon_is_refused(self) -> None:
        study = {"study": "d", "workload": "tuner.training.workloads.digits:DigitsCNN"}
        spec = read_study(Section({**study, "fidelity": {"kind": "ladder", "horizons": [100]}}, "test"))
        with pytest.raises(InputError, match="a rung of 100 epochs, and the full horizon is 18 epochs"):
            resolve(spec)
        with pytest.raises(InputError, match="whole steps"):
            ladder(fidelity={"kind": "ladder", "horizons": [0.5]})
