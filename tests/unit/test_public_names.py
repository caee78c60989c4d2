"""What users may rely on, and what an import may not drag in."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

import tuner
from tuner.cli import main

NAMES = [
    "Recommendation",
    "Run",
    "StudyHandle",
    "TunerError",
    "Workload",
    "__version__",
    "analyze",
    "launch",
    "open_study",
]
VERBS = {
    "analyze": [
        "--alpha",
        "--curves",
        "--json",
        "--mapping",
        "--min-effect",
        "--mlflow-experiment",
        "--report",
        "--runs",
        "--tracking",
    ],
    "check": ["--no-timing"],
    "doctor": ["--ray-address", "--storage", "--tracking"],
    "export": ["--arm", "--epochs", "--out", "--steps", "--storage", "--to", "--tracking"],
    "export-runs": ["--curves", "--runs", "--storage", "--tracking"],
    "extend": ["--arm", "--hours", "--ray-address", "--seeds", "--storage", "--tracking", "--trials"],
    "list": ["--storage", "--tracking"],
    "mirror": ["--follow", "--rebuild", "--storage", "--tracking"],
    "optimizers": ["--no-measure"],
    "recipes": ["--for", "--json"],
    "recommend": ["--json", "--storage", "--tracking"],
    "report": ["--out", "--storage", "--tracking"],
    "resume": ["--ray-address", "--storage", "--tracking"],
    "run": ["--executor", "--ray-address", "--storage", "--tracking"],
    "schedules": ["--plot", "--plot-file"],
    "spaces": [],
    "status": ["--storage", "--tracking"],
    "suggest": ["--json", "--options", "--pretrained"],
    "ui": ["--host", "--port", "--storage", "--tracking"],
}


def test_public_names() -> None:
    assert sorted(tuner.__all__) == tuner.__all__ == dir(tuner) == NAMES
    for name in NAMES:
        assert getattr(tuner, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nosuch'"):
        _ = tuner.nosuch


def test_verbs_and_their_options() -> None:
    assert isinstance(main, click.Group)
    found = {
        name: sorted(option for p in command.params if isinstance(p, click.Option) for option in p.opts)
        for name, command in main.commands.items()
    }
    assert found == VERBS
    assert all(command.help for command in main.commands.values())


HEAVY = "torch ray mlflow optuna sqlalchemy alembic pandas numpy scipy sklearn matplotlib rich psutil yaml"
IMPORTS = [
    ("tuner", HEAVY),
    ("tuner.cli", HEAVY.replace(" rich", "")),
    ("tuner.training.run", "ray mlflow optuna sqlalchemy alembic pandas matplotlib click tuner.study tuner.storage"),
    ("tuner.study", "torch ray mlflow matplotlib"),
    ("tuner.analysis.conclusion", "torch ray mlflow optuna sqlalchemy matplotlib"),
    ("tuner.config.spec", "torch ray mlflow optuna sqlalchemy numpy"),
    ("tuner.execution.local", "ray mlflow optuna sqlalchemy tuner.study"),
    ("tuner.tracking.description", "mlflow torch ray"),
]


@pytest.mark.parametrize(("module", "unwanted"), IMPORTS)
def test_imports_stay_light(module: str, unwanted: str) -> None:
    code = f"import sys, {module}; print([name for name in {unwanted.split()} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("args", ["--help", "run --help", "--version", "optimizers --help"])
def test_help_stays_light(args: str) -> None:
    code = (
        "import sys\nfrom tuner.cli import main\n"
        f"try: main({args.split()})\nexcept SystemExit as end: assert not end.code\n"
        f"print([name for name in {HEAVY.split()} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
