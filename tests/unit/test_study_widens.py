"""A study whose optimum lies beyond its range: it goes on in a wider one, also after a stop at any moment."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from test_study import Place, Script, make, scripted

from tuner import bootstrap, workflow
from tuner.config.spec import StudySpec
from tuner.core.ports import Signal
from tuner.core.records import Assignment, Measurement, Outcome, Phase, RunResult
from tuner.study import Study

SPACE = {
    "name": "narrow",
    "schedule": {"kind": "cosine"},
    "arms": {
        "sgdm": {"learning_rate": {"low": 1e-4, "high": 1e-2, "scale": "log"}},
        "adamw": {"learning_rate": {"low": 1e-3, "high": 10.0, "scale": "log"}},
    },
}
BEST = 0.05
HOW: dict[str, dict[str, Any]] = {
    "tpe": {"fidelity": "full", "sampler": "tpe"},
    "surrogate": {"fidelity": "full"},
    "ladder": {"horizon": {"steps": 150}, "budget": {"trials_per_arm": 6}},
    "optimise": {"horizon": {"steps": 150}, "budget": {"trials_per_arm": 6}, "allocation": "optimise"},
}
SOBOL: dict[str, Any] = {"fidelity": "full", "sampler": "sobol"}


def played(assignment: Assignment, index: int = 0) -> RunResult:
    """Loss: how many decades the rate is away from the best one; short runs show a little of it only."""
    rate = float(assignment.spec.setting.hyperparameters["learning_rate"])
    steps = int(assignment.spec.horizon.amount)
    loss = abs(math.log10(rate / BEST)) + assignment.spec.seed % 97 / 1e5 + 1.0 / steps
    return RunResult(Outcome.COMPLETED, loss, steps, measurements=(Measurement(steps, {"loss": loss}),))


def asked(**changes: Any) -> StudySpec:
    plan = {"seeds": 2, "test": False, "noise_seeds": 0, "references": False}
    common = {"space": SPACE, "budget": {"trials_per_arm": 10}, "confirmation": plan}
    return make(**{**common, "widen": True, **changes})


def stored(place: Place) -> StudySpec:
    return bootstrap.stored("toy", place.settings)


def settings_tried(place: Place) -> list[Any]:
    """The ledger, less the times."""
    trials, runs = place.ledger()
    told = [(run.run_id, run.spec.setting, run.spec.horizon, run.outcome, run.value) for run in runs]
    return [[(t.arm, t.index, t.source, t.setting, t.coordinates) for t in trials], told, stored(place).to_json()]


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "write_all", lambda *args: [])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="module", params=HOW)
def how(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def ended(how: str, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A whole study, in one go."""
    place = Place(tmp_path_factory.mktemp(how))
    scripted(place, asked(**HOW[how]), Script(played))
    return place


class TestTheOptimumBeyondTheRange:
    def test_is_found(self, ended: Place) -> None:
        spec = stored(ended)
        assert spec.space.arm("sgdm").dimensions[0].high >= 0.1
        ledger = bootstrap.open_ledger(ended.settings)
        evidence = workflow.analysis_of(ledger, "toy").evidence
        noted = [data for _, kind, data in ledger.notes(ledger.study("toy")) if kind == "widened"]
        ledger.close()
        best = next(row.best for row in evidence.arms if row.arm == "sgdm")
        assert best is not None
        assert best.hyperparameters["learning_rate"] > 1e-2
        assert "range_widened" in {caveat.code for caveat in evidence.caveats}
        assert noted == [widening.to_json() for widening in spec.widened]
        assert len(noted) <= 2

    def test_is_found_the_same_after_stops(self, ended: Place, place: Place, how: str) -> None:
        spec, stops = asked(**HOW[how]), 0
        while not scripted(place, spec, Script(played, stop_after=6)).finished:
            spec, stops = bootstrap.create(asked(**HOW[how]), place.settings), stops + 1
        assert stops >= 4
        assert settings_tried(place) == settings_tried(ended)

    def test_budgets(self, ended: Place) -> None:
        spec, (_, runs) = stored(ended), ended.ledger()
        assert spec.budget.trials_per_arm is not None
        costs = dict.fromkeys(("sgdm", "adamw"), 0.0)
        for run in runs:
            if run.spec.phase is Phase.EXPLORE:
                costs[run.spec.arm] += spec.rung_costs[run.spec.rung]
        assert sum(costs.values()) <= 2 * spec.budget.trials_per_arm + 1e-6
        assert sum(costs.values()) > 2 * (spec.budget.trials_per_arm - 1)
        if spec.allocation == "compare":
            assert abs(costs["sgdm"] - costs["adamw"]) < 1

    def test_optuna_keeps_nothing_running(self, ended: Place) -> None:
        for study in optuna.get_all_study_summaries(ended.settings.storage):
            trials = optuna.load_study(study_name=study.study_name, storage=ended.settings.storage).trials
            assert all(trial.state.is_finished() for trial in trials)


def test_every_moment_is_a_good_one_to_stop(place: Place, tmp_path: Path) -> None:
    """Also the one between the wider ranges in SQL and the first run in them."""
    (tmp_path / "whole").mkdir()
    whole = Place(tmp_path / "whole")
    few = {"fidelity": "full", "sampler": "sobol", "budget": {"trials_per_arm": 8}, "confirmation": {"max_runs": 0}}
    scripted(whole, asked(**few), Script(played))
    with place.session(asked(**few)) as session:
        Script(played).run(Killed(session.study))
    assert stored(place).widened
    assert len(place.ledger()[0]) == 16
    scripted(place, stored(place), Script(played))
    assert settings_tried(place) == settings_tried(whole)


class Killed:
    """A study whose driver dies as soon as the wider ranges are in SQL."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.tell, self.release, self.observe = study.tell, study.release, study.observe
        self.parallel = 1
        study._search = self._search  # type: ignore[method-assign]
        self._real = type(study)._search

    def _search(self) -> Assignment | None:
        return None if self.study.spec.widened else self._real(self.study)

    def ask(self) -> Assignment | Signal:
        found = self.study.ask()
        return Signal.FINISHED if self.study.spec.widened else found


def test_without_the_key_there_is_the_alarm_alone(place: Place) -> None:
    scripted(place, asked(widen=False, **SOBOL), Script(played))
    ledger = bootstrap.open_ledger(place.settings)
    codes = {caveat.code for caveat in workflow.analysis_of(ledger, "toy").evidence.caveats}
    ledger.close()
    assert "range_widened" not in codes
    assert stored(place).space.arm("sgdm").dimensions[0].high == 1e-2
    assert max(float(t.setting.hyperparameters["learning_rate"]) for t in place.ledger()[0] if t.arm == "sgdm") <= 1e-2


def test_the_file_still_asks_the_same_question(place: Place) -> None:
    scripted(place, asked(**SOBOL), Script(played))
    assert bootstrap.create(asked(**SOBOL), place.settings) == stored(place)
    assert stored(place).widened


def test_an_extension_goes_on_in_the_wider_range(place: Place) -> None:
    scripted(place, asked(confirmation={"max_runs": 0}, **SOBOL), Script(played))
    before = stored(place)
    bootstrap.update(workflow.extend(before, trials=2), place.settings)
    scripted(place, stored(place), Script(played))
    after = stored(place)
    assert after.widened[: len(before.widened)] == before.widened
    assert before.budget.trials_per_arm is not None
    more = sum(one.trials for one in after.widened) - sum(one.trials for one in before.widened)
    assert after.budget.trials_per_arm == before.budget.trials_per_arm + 2 + more
