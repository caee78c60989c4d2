"""What ``make quick`` takes for touched."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def touched() -> ModuleType:
    spec = importlib.util.spec_from_file_location("touched", ROOT / "tests" / "touched.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("training/test_loop.py", "training/test_adapters_lightning.py", "search/test_search_arm.py"):
        (tmp_path / "tests/unit" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tests/unit" / name).touch()
    (tmp_path / "tests/unit/test_study.py").touch()
    (tmp_path / "tests/unit/analysis/verdict").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "tests"),
    [
        ("tuner/training/loop.py", "training/test_loop.py"),
        ("tuner/training/adapters/common.py", "training/test_adapters_lightning.py"),
        ("tuner/training/averaging.py", "training"),
        ("tuner/search/arm.py", "search/test_search_arm.py"),
        ("tuner/study.py", "test_study.py"),
        ("tuner/analysis/verdict/looks.py", "analysis/verdict"),
        ("tuner/analysis/verdict/__init__.py", "analysis/verdict"),
        ("tests/unit/training/test_loop.py", "training/test_loop.py"),
        ("tests/unit/training/helpers.py", "training"),
        ("search_spaces/quick.yaml", "config"),
        ("docs/optimizers.md", "docs"),
    ],
)
def test_a_changed_file_touches_the_touched_by_its_name(
    touched: ModuleType, root: Path, changed: str, tests: str
) -> None:
    assert touched.touched_by(Path(changed), root) == [Path("tests/unit") / tests]


@pytest.mark.parametrize("changed", ["tuner/doctor.py", "README.md", "tests/e2e/test_kill.py", "tests/unit/gone.py"])
def test_what_touches_none(touched: ModuleType, root: Path, changed: str) -> None:
    assert touched.touched_by(Path(changed), root) == []


def test_the_fast_ones_always_run_and_nothing_runs_twice(touched: ModuleType, root: Path) -> None:
    changed = [Path("tuner/training/loop.py"), Path("tuner/training/averaging.py")]
    chosen = touched.chosen(changed, root)
    assert set(chosen) == {Path("tests/unit") / name for name in (*touched.FAST, "training")}
    assert all((ROOT / "tests/unit" / name).is_dir() for name in touched.FAST)
