"""Workloads as people hand them over: a module of the working folder, and what a script's ``__main__`` defines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CLASS = """
import torch
from torch import nn
import tuner

class MyWorkload(tuner.Workload):
    metric = "loss"
    direction = "minimize"
    steps_per_epoch = 8
    horizon = {"epochs": 2}

    def setup(self):
        self.x = torch.randn(64, 4)
        self.y = self.x @ torch.tensor([1.0, -2.0, 0.5, 3.0])

    def model(self, seed):
        return nn.Linear(4, 1)

    def train_batches(self, epoch, seed):
        for start in range(0, 64, 8):
            yield self.x[start : start + 8], self.y[start : start + 8]

    def loss(self, model, batch):
        x, y = batch
        return nn.functional.mse_loss(model(x).squeeze(-1), y)

    def evaluate(self, model, split):
        return {"loss": self.loss(model, (self.x, self.y)).item()}
"""

LAUNCH = """
import json
import tuner

if __name__ == "__main__":
    study = tuner.launch(
        workload=MyWorkload, name="notebook", space="quick", arms=["sgdm", "adamw"], trials_per_arm=2,
        confirmation={"seeds": 2, "references": False}, executor="EXECUTOR", tracking="none",
        resources={"device": "cpu", "parallel": 2},
    )
    assert study.wait()
    print(json.dumps(study.recommend().to_json()))
"""

YAML = """
study: folder
workload: my_train:MyWorkload
space: quick
arms: [sgdm, adamw]
budget: {trials_per_arm: 1}
confirmation: {seeds: 2, references: false}
resources: {parallel: 1, device: cpu}
executor: local
tracking: none
"""


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TUNER_", "RAY_", "COV_"))}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def test_a_module_of_the_folder_one_stands_in(tmp_path: Path) -> None:
    (tmp_path / "my_train.py").write_text(CLASS)
    (tmp_path / "study.yaml").write_text(YAML)
    done = python(tmp_path, "-m", "tuner", "run", "study.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "studies" / "folder" / "recommendation.md").is_file()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "study.yaml").write_text(YAML)
    done = python(elsewhere, "-m", "tuner", "run", "study.yaml")
    assert done.returncode == 2
    assert "has no module 'my_train'" in done.stderr
    assert not (elsewhere / "tuner.db").exists()


@pytest.mark.ray
def test_a_class_of_main_trains_on_ray(tmp_path: Path) -> None:
    (tmp_path / "notebook.py").write_text(CLASS + LAUNCH.replace("EXECUTOR", "ray"))
    done = python(tmp_path, "notebook.py")
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["schema_version"]
    assert (tmp_path / "studies" / "notebook" / "recommendation.md").is_file()
    done = python(tmp_path, "-m", "tuner", "resume", "notebook")
    assert done.returncode == 2, "another process does not have the class"
    assert "was defined in a notebook or script" in done.stderr


def test_a_class_of_main_trains_in_this_process(tmp_path: Path) -> None:
    (tmp_path / "notebook.py").write_text(CLASS + LAUNCH.replace("EXECUTOR", "local"))
    done = python(tmp_path, "notebook.py")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_class_that_cannot_travel_is_refused_at_once(tmp_path: Path) -> None:
    lock = (
        "\nimport threading\nLOCK = threading.Lock()\nMyWorkload.__init__ = lambda self: setattr(self, 'lock', LOCK)\n"
    )
    (tmp_path / "notebook.py").write_text(CLASS + lock + LAUNCH.replace("EXECUTOR", "ray"))
    done = python(tmp_path, "notebook.py")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "WorkloadError" in last
    assert "cannot be sent to Ray's workers" in last
    assert "cannot pickle '_thread.lock'" in last
    assert not (tmp_path / "tuner.db").exists(), "nothing is written"
