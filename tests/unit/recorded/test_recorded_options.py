"""Training options in recordings: ``training.NAME``, and ``recipe.NAME`` as it was called before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from recorded_tables import row, write

from tuner.core.errors import InputError
from tuner.recorded.csv_reading import read_runs
from tuner.recorded.mapping import DEFAULTS, Columns, TrackedRun, recorded_runs
from tuner.recorded.to_records import studies_of
from tuner.study_records import StudyRecords


def study(folder: Path, prefix: str) -> StudyRecords:
    options: list[dict[str, Any]] = [
        {f"param.{prefix}clip_norm": clip, "param.rho": rho, "param.recipe.flour": 1}
        for clip, rho in ((0.1, 3), (5.0, 2), (1.0, 1))
    ]
    rows = [row(f"r{i}", "sgdm", 1, 0.5 + i, "explore", **params) for i, params in enumerate(options)]
    (found,) = studies_of(read_runs(write(folder, rows)))
    return found


def test_both_names_are_one_option_and_number_the_trials_alike(tmp_path: Path) -> None:
    old, new = study(tmp_path, "recipe."), study(tmp_path, "training.")
    assert old == new
    assert [trial.setting.training["clip_norm"] for trial in new.trials] == [0.1, 1, 5]
    assert [d.name for d in new.spec.arms[0].dimensions] == ["training.clip_norm", "rho"], "the order of the old names"
    assert new.trials[0].setting.hyperparameters == {"recipe.flour": 1, "rho": 3}, "no option of ours"


@pytest.mark.parametrize(
    "params",
    [
        {"param.recipe.clip_norm": 1, "param.training.clip_norm": 1},
        {"params": '{"recipe.clip_norm": 1}', "param.training.clip_norm": 1},
    ],
)
def test_both_at_once_are_refused(tmp_path: Path, params: dict[str, Any]) -> None:
    with pytest.raises(
        InputError, match=r"runs.csv:2: .*training.clip_norm has training.clip_norm, beside recipe.clip"
    ):
        read_runs(write(tmp_path, [row("r1", "sgdm", 1, 0.5, "explore", **params)]))


@pytest.mark.parametrize("logged", ["recipe.clip_norm", "training.clip_norm"])
@pytest.mark.parametrize("mapped", ["params.recipe.clip_norm", "params.training.clip_norm", "params.*"])
def test_a_mapping_finds_either(logged: str, mapped: str) -> None:
    attributes = {"run_id": "1", "status": "FINISHED", "seconds": "1"}
    run = TrackedRun(attributes, {logged: "2.0", "seed": "1"}, {}, {"loss": 0.1})
    columns = {**DEFAULTS, "arm": "sgdm", "value": "metrics.loss", "direction": "minimize", "metric": "loss"}
    _, (found,) = recorded_runs([run], Columns(columns, (mapped,)), "s", "an experiment")
    assert found.params == {"training.clip_norm": 2}
