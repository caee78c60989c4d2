from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tuner.core.errors import WorkloadError
from tuner.core.records import Outcome, Phase, WorkloadRef
from tuner.training.run import train
from tuner.training.workloads.load import describe, load
from tuner.training.workloads.unet import DigitsUNet, canvases, mean_iou

from .helpers import BUILT_IN, assign, numbers, trained

UNET = BUILT_IN + "unet:DigitsUNet"
SHORT: dict[str, Any] = {
    "options": {"width": 4},
    "metric": "iou",
    "family": "adamw",
    "hyperparameters": {"learning_rate": 1e-2},
}


@pytest.fixture(scope="module")
def workload() -> DigitsUNet:
    made = DigitsUNet()
    made.place(torch.device("cpu"), {})
    return made


def test_it_says_what_a_study_needs() -> None:
    told = describe(load(WorkloadRef(UNET)))
    assert (told.metric, told.direction, told.has_test, told.horizon) == ("iou", "maximize", True, {"epochs": 10})
    with pytest.raises(WorkloadError, match="width is 6; expected a multiple of 4"):
        load(WorkloadRef(UNET, "", {"width": 6}))


def test_the_canvases_are_the_same_every_time_and_differ_between_the_splits(workload: DigitsUNet) -> None:
    shapes = {split: tuple(x.shape) for split, (x, _) in workload.data.items()}
    assert shapes == {"train": (512, 1, 24, 24), "validation": (256, 1, 24, 24), "test": (256, 1, 24, 24)}
    torch.manual_seed(5)
    again = canvases()
    assert all(torch.equal(x, again[split][0]) for split, (x, _) in workload.data.items())
    assert all(torch.equal(y, again[split][1]) for split, (_, y) in workload.data.items())


def test_the_splits_draw_from_disjoint_digits(workload: DigitsUNet) -> None:
    """A digit's foreground is where its ink is: its bitmap, cut to its box, identifies nearly every digit."""

    def quarters(split: str) -> set[bytes]:
        masks = workload.data[split][1].bool().unfold(1, 12, 12).unfold(2, 12, 12).reshape(-1, 12, 12)
        boxes = set()
        for mask in masks[masks.flatten(1).any(1)]:
            rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
            box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            boxes.add(bytes(box.shape) + box.numpy().tobytes())
        return boxes

    train_digits = quarters("train")
    assert len(train_digits) > 500
    for split in ("validation", "test"):
        others = quarters(split)
        assert len(others & train_digits) < 0.1 * len(others)  # a plain stroke can have two authors


def test_a_canvas_has_two_digits_among_two_things_that_are_none(workload: DigitsUNet) -> None:
    x, y = workload.data["validation"]
    parts = (y == 1).unfold(1, 12, 12).unfold(2, 12, 12).flatten(3).any(3).flatten(1).sum(1)
    assert torch.equal(parts, torch.full((256,), 2))
    inked = (x.squeeze(1) > 0.5).unfold(1, 12, 12).unfold(2, 12, 12).flatten(3).any(3).flatten(1).sum(1)
    assert float(inked.double().mean()) > 3.9
    assert 0.08 < float(y.double().mean()) < 0.1


def test_iou_is_the_mean_over_the_classes_of_a_count_of_pixels(workload: DigitsUNet) -> None:
    y = workload.data["validation"][1]
    generator = torch.Generator().manual_seed(0)
    guess = torch.where(torch.rand(y.shape, generator=generator) < 0.2, 1 - y, y)
    pairs = list(zip(guess.flatten().tolist(), y.flatten().tolist(), strict=True))
    ious = [sum(a == b == kind for a, b in pairs) / sum(kind in pair for pair in pairs) for kind in (0, 1)]
    assert mean_iou(guess, y) == pytest.approx(sum(ious) / 2, abs=1e-12)
    assert mean_iou(y, y) == 1.0
    assert mean_iou(torch.zeros_like(y), y) == pytest.approx(0.456, abs=1e-3)


def test_the_loss_that_is_evaluated_has_no_label_smoothing(workload: DigitsUNet) -> None:
    model = workload.model(0)
    with torch.no_grad():
        plain, batch = workload.evaluate(model, "test"), workload.data["test"]
        assert plain["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(model(batch[0]), batch[1])))
        workload.place(torch.device("cpu"), {"label_smoothing": 0.2})
        assert workload.evaluate(model, "test") == plain
        assert float(workload.loss(model, batch)) > plain["loss"]
    workload.place(torch.device("cpu"), {})


def test_it_trains_and_repeats_bit_for_bit() -> None:
    first = trained(assign(UNET, steps=64, phase=Phase.TEST, **SHORT))
    assert first.outcome is Outcome.COMPLETED, first.traceback
    ious = [m.values["iou"] for m in first.measurements]
    assert ious[-1] > 0.6
    assert first.tests["iou"] > 0.6
    assert first.measurements[-1].values["train_loss"] < first.measurements[0].values["train_loss"]
    short = [trained(assign(UNET, steps=6, **SHORT)) for _ in range(2)]
    assert numbers(short[0]) == numbers(short[1])


def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path: Path) -> None:
    given: dict[str, Any] = {"steps": 12, "training": {"batch_size": 64, "label_smoothing": 0.1}, **SHORT}
    whole = trained(assign(UNET, **given))
    generator = train(assign(UNET, checkpoints=str(tmp_path), **given))
    at = next(generator).step
    generator.close()
    result = trained(assign(UNET, checkpoints=str(tmp_path), attempt=2, **given))
    assert result.resumed_at == at == 8  # an epoch of 512 canvases
    assert numbers(result) == numbers(whole)
