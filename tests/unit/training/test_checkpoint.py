from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tuner.core.records import Outcome, Phase
from tuner.core.values import digest
from tuner.training.checkpoint import Checkpoints, discard
from tuner.training.run import train
from tuner.training.workloads import Batch
from tuner.training.workloads.toy import ToyQuadratic

from .helpers import CHARS, DIGITS, TOY, assign, numbers, trained

LONG: dict[str, dict[str, Any]] = {
    TOY: {"steps": 40, "options": {"dropout": 0.3, "eval_every_steps": 5}, "family": "nadam"},
    DIGITS: {"steps": 40, "options": {"dropout": 0.3}, "metric": "accuracy", "family": "adamw"},
    CHARS: {"steps": 5, "options": {"dropout": 0.1, "width": 16, "eval_every_steps": 2}, "family": "nag"},
}


@pytest.mark.parametrize("path", LONG)
@pytest.mark.parametrize("stops", [1, 2])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(path: str, stops: int, tmp_path: Path) -> None:
    whole = trained(assign(path, **LONG[path]))
    for attempt in range(1, stops + 1):
        generator = train(assign(path, checkpoints=str(tmp_path), attempt=attempt, **LONG[path]))
        at = next(generator).step
        generator.close()
    result = trained(assign(path, checkpoints=str(tmp_path), attempt=9, **LONG[path]))
    assert result.resumed_at == at
    assert numbers(result) == numbers(whole)
    assert result.train_seconds > 0


class Dying(ToyQuadratic):
    """Dies at an update once, like a worker that loses its node."""

    def __init__(self, at: int) -> None:
        super().__init__(dropout=0.3)
        self.at = at

    def train_batches(self, epoch: int, seed: int) -> Iterator[Batch]:
        order = torch.randperm(256).tolist()  # from the global generator, drawn at the epoch's start
        random.shuffle(order)
        x, y = self.data["train"]
        for start in range(0, 256, 16):
            chosen = order[start : start + 16]
            yield x[chosen] + 0.1 * torch.randn(16, 8), y[chosen]

    def train_step(self, model: Any, batch: Batch, bundle: Any) -> torch.Tensor:
        if int(model.updates) + 1 == self.at:
            raise SystemExit
        return super().train_step(model, batch, bundle)


@pytest.mark.parametrize("at", [2, 15, 16, 17, 18, 33, 40])
def test_a_run_goes_on_from_any_step_of_an_epoch(at: int, tmp_path: Path) -> None:
    whole = trained(assign(), Dying(0))
    with pytest.raises(SystemExit):
        trained(assign(checkpoints=str(tmp_path), checkpoint_seconds=1e-9), Dying(at))
    result = trained(assign(checkpoints=str(tmp_path), checkpoint_seconds=1e-9, attempt=2), Dying(0))
    assert result.resumed_at == at - 1
    assert numbers(result) == numbers(whole)


def test_a_run_that_ended_but_was_not_told_is_not_trained_again(tmp_path: Path) -> None:
    first = trained(assign(checkpoints=str(tmp_path), phase=Phase.TEST))
    again = trained(assign(checkpoints=str(tmp_path), phase=Phase.TEST, attempt=2))
    assert again.resumed_at == again.step == 40
    assert numbers(first) == numbers(again)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_a_damaged_checkpoint_is_skipped(damage: str, tmp_path: Path) -> None:
    whole = trained(assign())
    for attempt in (1, 2):
        generator = train(assign(checkpoints=str(tmp_path), attempt=attempt))
        next(generator)
        generator.close()
    newest = tmp_path / "attempt-2.pt"
    data = bytearray(newest.read_bytes())
    if damage == "flip":
        for place in range(len(data) // 3, len(data) // 3 + 500):
            data[place] ^= 0xFF
    newest.write_bytes({"cut": data[: len(data) // 2], "flip": data, "empty": b"", "text": b"hello"}[damage])
    result = trained(assign(checkpoints=str(tmp_path), attempt=3))
    assert result.resumed_at == 16
    assert numbers(result) == numbers(whole)
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    result = trained(assign(checkpoints=str(tmp_path), attempt=4))
    assert result.resumed_at == 0
    assert numbers(result) == numbers(whole)


def test_a_checkpoint_of_another_run_is_skipped(tmp_path: Path) -> None:
    trained(assign(checkpoints=str(tmp_path), seed=5))
    assert trained(assign(checkpoints=str(tmp_path), seed=6, attempt=2)).resumed_at == 0


def test_no_folder_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert trained(assign()).outcome is Outcome.COMPLETED
    assert not list(tmp_path.iterdir())


def test_checkpoints_are_spaced_by_seconds_of_training(tmp_path: Path) -> None:
    checkpoints = Checkpoints(assign(checkpoints=str(tmp_path), checkpoint_seconds=30.0))
    assert not checkpoints.due(29.0, evaluated=True)
    assert checkpoints.due(30.0, evaluated=False)
    checkpoints.save({"x": nn.Linear(1, 1).state_dict()}, 30.0)
    assert not checkpoints.due(59.0, evaluated=True)
    assert checkpoints.due(60.0, evaluated=False)


def test_a_kill_while_writing_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(assign(checkpoints=str(tmp_path)))
    checkpoints.save({"n": 1}, 0.0)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save({"n": 2}, 0.0)
    assert checkpoints.load() == {"n": 1}
    discard(str(tmp_path))
    assert not tmp_path.exists()


def test_discard_leaves_what_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    Checkpoints(assign(checkpoints=str(tmp_path))).save({"n": 1}, 0.0)
    discard(str(tmp_path))
    discard("")
    discard(str(tmp_path / "gone"))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_checkpoint_made_when_training_options_were_the_recipe_is_found(tmp_path: Path) -> None:
    run = assign(steps=1, training={"clip_norm": 1.0}, checkpoints=str(tmp_path))
    data = run.spec.to_json()
    setting = {key: data["setting"][key] for key in ("family", "hyperparameters", "schedule")}
    before = digest({**data, "setting": {**setting, "recipe": {"clip_norm": 1.0}}})
    torch.save({"spec": before, "state": {"step": 7}}, tmp_path / "attempt-1.pt")
    assert Checkpoints(run).load() == {"step": 7}
