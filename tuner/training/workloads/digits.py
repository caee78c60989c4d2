"""A workload: a CNN with BatchNorm on scikit-learn's handwritten digits (8 x 8 pixels), which need no download."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from tuner.training.workloads.base import Batch, Workload, shuffled

TRAIN = 600
VALIDATION = 600


class DigitsCNN(Workload):
    """Classify digits into ten classes: 600 training, 600 validation and 597 test images, in fixed stratified splits.

    ``accuracy`` is a share in [0, 1]; ``loss`` is the mean cross-entropy in nats, without label smoothing. The training
    set is small so that settings differ: with all of the data most of them reach 99 %.

    Args:
        width: channels of the first convolution; the second has twice as many.
        dropout: share of the last hidden layer that is dropped.
    """

    metric = "accuracy"
    direction = "maximize"
    has_test = True
    horizon: Mapping[str, float] | None = {"epochs": 18}
    batch_size: int = 32
    label_smoothing: float = 0.0

    def __init__(self, width: int = 8, dropout: float = 0.0) -> None:
        self.width = width
        self.dropout = dropout

    def setup(self) -> None:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        images, labels = digits.images, digits.target
        train_x, rest_x, train_y, rest_y = train_test_split(
            images, labels, train_size=TRAIN, stratify=labels, random_state=0
        )
        validation_x, test_x, validation_y, test_y = train_test_split(
            rest_x, rest_y, train_size=VALIDATION, stratify=rest_y, random_state=0
        )
        mean, deviation = float(train_x.mean()), float(train_x.std())
        splits = {"train": (train_x, train_y), "validation": (validation_x, validation_y), "test": (test_x, test_y)}
        self.data: dict[str, tuple[Tensor, Tensor]] = {}
        for split, (x, y) in splits.items():
            pixels = torch.tensor((x - mean) / deviation, dtype=torch.float32).unsqueeze(1)
            self.data[split] = pixels.to(self.device), torch.tensor(y, dtype=torch.int64, device=self.device)

    @property
    def steps_per_epoch(self) -> int:
        return TRAIN // self.batch_size

    def model(self, seed: int) -> nn.Module:  # noqa: ARG002
        w = self.width
        return nn.Sequential(
            nn.Conv2d(1, w, 3, padding=1, bias=False),
            nn.BatchNorm2d(w),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(w, 2 * w, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * w),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(self.dropout),
            nn.Linear(8 * w, 10),
        )

    def train_batches(self, epoch: int, seed: int) -> Iterator[Batch]:
        x, y = self.data["train"]
        for chosen in shuffled(TRAIN, self.batch_size, epoch, seed, self.device):
            yield x[chosen], y[chosen]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(model(x), y, label_smoothing=self.label_smoothing)

    def evaluate(self, model: nn.Module, split: str) -> Mapping[str, float]:
        x, y = self.data[split]
        logits = model(x)
        return {
            "accuracy": float((logits.argmax(1) == y).double().mean()),
            "loss": float(nn.functional.cross_entropy(logits, y)),
        }
