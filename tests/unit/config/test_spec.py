"""The study file becomes a spec, and the spec survives its way through JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from analysis.records import SPACE, make_spec, make_study
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.catalog.training_options import complete
from tuner.config.documents import Section, parse_yaml
from tuner.config.shipped import find_space, list_spaces
from tuner.config.spec import Confirmation, Metric, StudySpec
from tuner.config.stored import stored_spec
from tuner.config.study_file import completed, read_study, read_study_file
from tuner.core.errors import InputError, SpaceError
from tuner.core.records import Horizon
from tuner.search.proposals import sobol_point
from tuner.storage.reading import to_text

CURRENT: dict[str, Any] = {
    "family": "adamw",
    "learning_rate": 0.5,
    "weight_decay": 0,
    "schedule": {"kind": "step", "gamma": 0.5},
}
EVERYTHING: dict[str, Any] = {
    "study": "My.study_1-a",
    "workload": {"path": "a.b:C.d", "folder": "/x", "options": {"width": 3, "deep": {"a": [1, None]}}},
    "metric": {"name": "val/loss", "direction": "minimize"},
    "horizon": {"epochs": 2.5},
    "space": "sgdm-vs-adam",
    "arms": ["adamw", "sgdm"],
    "budget": {"trials_per_arm": 30, "hours": 2, "gpu_hours": 3.5},
    "sampler": "gp",
    "seed": 9,
    "confirmation": {"seeds": 7, "max_runs": 40, "alpha": 0.1, "min_effect": 0.01, "references": False, "test": False},
    "resources": {"cpus": 2, "gpus": 0.25, "threads": 2, "parallel": 4, "device": "cuda", "precision": "bfloat16"},
    "executor": "local",
    "checkpoint_seconds": 5,
    "retries": 1,
    "stop_after_failures": 9,
    "current": CURRENT,
}


def through_the_ledger(spec: StudySpec) -> StudySpec:
    return stored_spec(json.loads(to_text(spec.to_json())), spec.name)


@pytest.mark.parametrize("left_out", [None, *list(EVERYTHING)[2:]])
@pytest.mark.parametrize("space", ["sgdm-vs-adam", "five-families", SPACE], ids=["shipped", "five", "inline"])
def test_json_round_trip(left_out: str | None, space: object) -> None:
    data = {**EVERYTHING, "space": space}
    data.pop(left_out or "", None)
    if left_out == "resources":
        data["budget"] = {"trials_per_arm": 30, "hours": 2}
    file = read_study(Section(data, "test"))
    assert (file.metric is None, file.horizon is None) == ("metric" not in data, "horizon" not in data)
    spec = completed(file, Metric("val/loss", "minimize"), Horizon(3, "epochs"))
    again = through_the_ledger(spec)
    assert again == spec
    assert again.to_json() == spec.to_json()
    assert [a.arm for a in again.arms] == [a.arm for a in spec.arms]
    for one, two in zip(spec.arms, again.arms, strict=True):
        assert one.dimensions == two.dimensions
        assert [list(d.choices) for d in one.dimensions] == [list(d.choices) for d in two.dimensions]
        assert sobol_point(one, spec.seed, 3) == sobol_point(two, spec.seed, 3)


@given(
    st.integers(1, 100_000),
    st.none() | st.floats(1e-6, 1e6),
    st.integers(0, 2**31 - 1),
    st.floats(1e-9, 0.5),
    st.integers(2, 500),
)
@settings(max_examples=30, deadline=None)
def test_numbers_keep_all_their_bits(trials: int, hours: float | None, seed: int, alpha: float, seeds: int) -> None:
    spec = make_spec(
        budget={"trials_per_arm": trials, "hours": hours}, seed=seed, confirmation={"alpha": alpha, "seeds": seeds}
    )
    assert through_the_ledger(spec) == spec


class TestDefaults:
    def test_the_shortest_file(self) -> None:
        file = read_study(parse_yaml("study: a\nworkload: m:C\n", "s"))
        assert (file.metric, file.horizon) == (None, None), "the workload says them"
        with pytest.raises(InputError, match=r"study 'a': metric is missing"):
            completed(file)
        with pytest.raises(InputError, match=r"study 'a': horizon is missing"):
            completed(file, Metric("loss", "minimize"))
        spec = completed(file, Metric("loss", "minimize"), Horizon(3, "epochs"))
        assert (spec.metric, spec.direction, str(spec.horizon)) == ("loss", "minimize", "3 epochs")
        assert (spec.space.name, [a.arm for a in spec.arms]) == ("sgdm-vs-adam", ["sgdm", "adamw"])
        assert (spec.budget.trials_per_arm, spec.budget.hours, spec.opened_for) == (12, None, 12)
        assert spec.confirmation == Confirmation()
        assert (spec.confirmation.seeds, spec.sampler, spec.executor, spec.seed) == (10, "surrogate", "ray", 0)
        assert (spec.fidelity.kind, spec.allocation) == ("ladder", "compare")
        assert spec.workload.folder == str(Path.cwd())
        assert through_the_ledger(spec) == spec

    def test_a_budget_of_hours_has_no_limit_of_trials(self) -> None:
        spec = make_spec(budget={"hours": 3})
        assert (spec.budget.trials_per_arm, spec.budget.planned, spec.opened_for) == (None, 24, 24)

    def test_horizons(self) -> None:
        assert make_spec(horizon={"steps": 7}).horizon == Horizon(7, "steps")
        assert make_spec(horizon={"epochs": 0.5}).horizon.steps(9) == 4
        assert Horizon(0.01, "epochs").steps(9) == 1

    def test_seeds(self) -> None:
        spec = make_spec()
        seeds = [spec.confirm_seed({"a": 1, "b": 2}, i) for i in range(50)]
        assert len({spec.search_seed, *seeds}) == 51
        assert seeds == [spec.confirm_seed({"b": 2, "a": 1}, i) for i in range(50)]
        assert seeds[0] != spec.confirm_seed({"a": 1, "b": 3}, 0)
        assert spec.search_seed != make_spec(seed=1).search_seed

    @pytest.mark.parametrize(("arms", "cap", "seeds"), [(2, None, 10), (2, 7, 3), (3, 100, 10), (2, 0, 0), (2, 1, 0)])
    def test_the_cap_on_seeds(self, arms: int, cap: int | None, seeds: int) -> None:
        assert Confirmation(max_runs=cap).seeds_for(arms) == seeds
        assert Confirmation(extensions=(15, 20)).total == 20


class TestSecrets:
    def test_places_never_reach_the_ledger_or_a_repr(self) -> None:
        url = "postgresql+psycopg://ann:hunter2@db/tuner"
        file = make_study(storage=url, tracking="http://ann:hunter2@mlflow:5000")
        assert (file.storage, file.tracking) == (url, "http://ann:hunter2@mlflow:5000")
        assert "hunter2" not in repr(file)
        spec = completed(file)
        assert "hunter2" not in repr(spec)
        assert "hunter2" not in json.dumps(spec.to_json())
        assert "storage" not in spec.to_json()


class TestSpaces:
    def test_are_found_beside_the_file_and_in_the_working_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        text = "name: {}\narms: {{sgdm: {{learning_rate: {{low: 0.1, high: 1}}}}}}\n"
        (tmp_path / "a" / "mine.yaml").write_text(text.format("beside"))
        (tmp_path / "a" / "study.yaml").write_text("study: a\nworkload: m:C\nspace: mine.yaml\n")
        monkeypatch.chdir(tmp_path / "b")
        assert read_study_file(tmp_path / "a" / "study.yaml").space.name == "beside"
        (tmp_path / "b" / "mine.yaml").write_text(text.format("here"))
        assert read_study_file(tmp_path / "a" / "study.yaml").space.name == "here"

    def test_shipped_names_win(self) -> None:
        assert find_space("quick") == list_spaces()["quick"]

    def test_errors_name_the_spaces_own_file(self, tmp_path: Path) -> None:
        (tmp_path / "mine.yaml").write_text("name: a\n\narms: {}\n")
        (tmp_path / "study.yaml").write_text("study: a\nworkload: m:C\nspace: mine.yaml\n")
        with pytest.raises(SpaceError, match=r"mine\.yaml:3: arms is empty"):
            read_study_file(tmp_path / "study.yaml")

    def test_arms_keep_the_spaces_order(self) -> None:
        assert [a.arm for a in make_spec(("nag", "sgdm")).arms] == ["sgdm", "nag"]

    def test_cmaes_takes_a_fixed_kind(self) -> None:
        assert make_spec(sampler="cmaes").sampler == "cmaes"
        with pytest.raises(InputError, match="is 'cmaes', but arm 'sgdm' chooses among schedule kinds"):
            make_spec(sampler="cmaes", space="quick")


class TestCurrent:
    def test_is_completed_and_becomes_known(self) -> None:
        spec = make_spec(current=CURRENT)
        assert spec.current is not None
        assert spec.current.hyperparameters["beta1"] == 0.9
        schedule = {"kind": "step", "drops": 2.0, "gamma": 0.5, "warmup": 0.0, "warmup_shape": "linear"}
        assert spec.current.schedule == schedule
        assert spec.current.training == complete({})
        assert spec.space.arm("adamw").initial_settings[-1] == spec.current
        assert spec.current not in spec.space.arm("sgdm").initial_settings

    def test_without_a_schedule_is_constant(self) -> None:
        current = make_spec(current={"family": "sgdm"}).current
        assert current is not None
        assert current.schedule == {"kind": "constant", "warmup": 0.0, "warmup_shape": "linear"}

    def test_that_no_space_can_hold_is_refused(self) -> None:
        wild = {"family": "sgdm", "learning_rate": 9000, "momentum": 0.0}
        with pytest.raises(InputError, match=r"test: current: arm 'sgdm': learning_rate of sgdm is"):
            make_spec(space="sgdm-vs-adam", budget={"trials_per_arm": 12}, current=wild)


def test_examples_are_studies() -> None:
    examples = Path(__file__).parents[3] / "examples"
    found = [read_study_file(path) for path in sorted(examples.glob("*.yaml"))]
    assert "digits" in [spec.name for spec in found]
