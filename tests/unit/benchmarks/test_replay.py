"""Replays of recorded runs: the accounting is right, and a small version fails when the default strategy gets worse."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from benchmark_scripts import BENCHMARKS, loaded

RECORDED = BENCHMARKS / "recorded"
DEEPOBS = RECORDED / "deepobs-runs.csv.gz", RECORDED / "deepobs-curves.csv.gz"
TASKSET = RECORDED / "taskset-runs.csv.gz", RECORDED / "taskset-curves.csv.gz"

SMALL_RUNS = """run_id,study,arm,seed,phase,outcome,direction,value,schedule,horizon,param.learning_rate
a1,one,sgd,0,explore,completed,minimize,0.5,constant,9,0.001
a2,one,sgd,0,explore,completed,minimize,0.2,constant,9,0.01
a3,one,sgd,0,explore,diverged,minimize,,constant,9,1.0
b1,one,adam,0,explore,completed,minimize,0.4,constant,9,0.0001
b2,one,adam,0,explore,completed,minimize,0.3,constant,9,0.001
c1,two,sgd,0,explore,completed,minimize,2.0,constant,9,0.001
c2,two,sgd,0,explore,completed,minimize,1.0,constant,9,0.01
"""


@pytest.fixture(scope="module")
def replay() -> Iterator[ModuleType]:
    yield from loaded("replay")
    for name in ("replay", "replay_table", "replay_strategies"):
        sys.modules.pop(name, None)
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, Path]:
    runs, curves = tmp_path / "runs.csv", tmp_path / "curves.csv"
    runs.write_text(SMALL_RUNS)
    points = [
        f"{run},{step},{value + (9 - step) * 0.1}"
        for run, value in (("a1", 0.5), ("a2", 0.2), ("b1", 0.4), ("b2", 0.3), ("c1", 2.0), ("c2", 1.0))
        for step in (1, 3, 6, 9)
    ]
    curves.write_text("run_id,step,value\n" + "\n".join([*points, "a3,1,5.0"]) + "\n")
    return runs, curves


class TestTable:
    def test_a_rung_shows_the_curve_up_to_there(self, replay: ModuleType, small: tuple[Path, Path]) -> None:
        one, two = replay.read_tables(*small)
        assert (one.name, two.name, one.rungs(), one.sign) == ("one", "two", (1.0, 3.0), -1)
        by_rate = {t.setting.hyperparameters["learning_rate"]: t.index for t in one.trials["sgd"]}
        outcome, value, curve = one.shown("sgd", by_rate[0.01], 3.0)
        assert (outcome.value, value, len(curve)) == ("completed", pytest.approx(0.8), 2)
        assert one.shown("sgd", by_rate[1.0], 9.0)[0].value == "diverged"
        assert one.shown("sgd", by_rate[1.0], 1.0)[1] is None, "its curve ends there, nobody knows what followed"

    def test_good_is_within_one_percent_of_the_way_from_the_median(
        self, replay: ModuleType, small: tuple[Path, Path]
    ) -> None:
        one = replay.read_tables(*small)[0]
        best, unit = one.scale(["sgd"])
        assert (best, unit) == (-0.2, pytest.approx(0.15))
        finals = {trial.index: one.good("sgd", trial.index) for trial in one.trials["sgd"]}
        assert sorted(finals.values()) == [False, False, True]
        assert not one.good("sgd", None)


class TestAccounting:
    @pytest.mark.parametrize("strategy", ["random", "tpe", "tuner-full", "tuner-ladder", "tpe-group", "asha"])
    def test_a_setting_is_paid_once_and_the_budget_is_kept(
        self, replay: ModuleType, small: tuple[Path, Path], strategy: str
    ) -> None:
        one = replay.read_tables(*small)[0]
        for budget in (2.0, 5.0):
            found = replay.search(one, strategy, budget, seed=3)
            total = sum(spending.spent for spending in found.values())
            assert total <= budget * 2 + 1
            for arm, spending in found.items():
                assert len({trial for _, trial in spending.full}) == len(spending.full) <= len(one.trials[arm])
                assert spending.spent == pytest.approx(sum(share for _, share in spending.paid), abs=1e-6)

    def test_the_study_spends_no_more_than_its_budget(self, replay: ModuleType) -> None:
        tables = {table.name: table for table in replay.read_tables(*DEEPOBS)}
        table = tables["quadratic_deep"]
        for strategy in ("tuner-ladder", "tuner-full", "tuner-prune"):
            for spending in replay.search(table, strategy, 4, seed=1).values():
                assert 3.0 < spending.spent <= 4.0 + 1e-6
        moved = replay.search(table, "tuner-optimise", 4, seed=1)
        assert all(spending.spent >= 1.8 for spending in moved.values()), "every arm has a floor of about half"
        assert sum(spending.spent for spending in moved.values()) <= 12.0 + 1e-6

    def test_one_seed_gives_one_answer(self, replay: ModuleType) -> None:
        replay.load(*DEEPOBS)
        scores = [replay.repeat("fmnist_2c2d", "tuner-ladder", 3, 7, 0) for _ in range(2)]
        assert scores[0] == scores[1]


class TestCommand:
    def test_json_of_every_study_and_strategy(
        self, replay: ModuleType, small: tuple[Path, Path], tmp_path: Path
    ) -> None:
        out = tmp_path / "out.json"
        options = ["--runs", str(small[0]), "--curves", str(small[1]), "--budget", "3", "--repeats", "2"]
        strategies = ["--strategy", "tuner-ladder", "random", "--processes", "1", "--json", str(out)]
        assert replay.main([*options, *strategies]) == 0
        found = json.loads(out.read_text())["studies"]
        assert list(found) == ["one", "two"]
        for study in found.values():
            assert list(study) == ["tuner-ladder", "random"]
            for row in study.values():
                assert {"finalists_good", "arm_good", "regret", "cost_to_good"} <= set(row)

    def test_a_table_that_is_none(self, replay: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        wrong = tmp_path / "runs.csv"
        wrong.write_text("run_id,arm\n1,sgd\n")
        assert replay.main(["--runs", str(wrong)]) == 2
        assert str(wrong) in capsys.readouterr().err


class TestFiguresDoNotGetWorse:
    """The full figures are in docs/results.md; these are few repeats with room to spare."""

    @staticmethod
    def mean(replay: ModuleType, study: str, strategy: str, budget: float, repeats: int) -> tuple[float, float, float]:
        scores = [replay.repeat(study, strategy, budget, 0, i) for i in range(repeats)]
        return tuple(
            sum(getattr(score, name) for score in scores) / repeats for name in ("finalists_good", "arm_good", "regret")
        )

    @pytest.mark.parametrize(
        ("study", "finalists", "arm"),
        [("cifar10_3c3d", 0.65, 0.8), ("fmnist_2c2d", 0.8, 0.65), ("quadratic_deep", 0.5, 0.35)],
    )
    def test_the_ladder_on_half_the_budget(self, replay: ModuleType, study: str, finalists: float, arm: float) -> None:
        replay.load(*DEEPOBS)
        good, right, _ = self.mean(replay, study, "tuner-ladder", 6, 8)
        assert good >= finalists
        assert right >= arm

    def test_eight_dimensions(self, replay: ModuleType) -> None:
        replay.load(*TASKSET)
        ours = self.mean(replay, "taskset_4", "tuner-ladder", 12, 3)
        tpe = self.mean(replay, "taskset_4", "tpe", 24, 12)
        assert ours[2] < tpe[2]
