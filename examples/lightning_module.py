"""A ``LightningModule`` as a workload: a small convolutional net on scikit-learn's digits."""

from __future__ import annotations

from functools import cache

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from tuner.training.adapters.lightning import fit
from tuner.training.handle import Run


@cache
def data() -> dict[str, Dataset[tuple[Tensor, ...]]]:
    """1,797 digits of 8 by 8 pixels: 800 to train, 400 to validate, the rest to test; the same split for every run."""
    images, labels = load_digits(return_X_y=True)
    digits = TensorDataset(torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(labels))
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0)).tolist()
    bounds = {"train": slice(0, 800), "validation": slice(800, 1200), "test": slice(1200, None)}
    return {split: Subset(digits, order[part]) for split, part in bounds.items()}


class Digits(pl.LightningModule):
    """A module as a user has it. A ``configure_optimizers`` would be ignored: the run provides the optimizer."""

    def __init__(self, smoothing: float) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2),
            nn.GroupNorm(4, 32),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(288, 10),
        )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:  # noqa: ARG002
        x, y = batch
        return nn.functional.cross_entropy(self.layers(x), y, label_smoothing=self.smoothing)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:  # noqa: ARG002
        self.measure("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:  # noqa: ARG002
        self.measure("test", batch)

    def measure(self, split: str, batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        logits = self.layers(x)
        accuracy = (logits.argmax(1) == y).float().mean()
        self.log_dict({f"{split}_loss": nn.functional.cross_entropy(logits, y), f"{split}_accuracy": accuracy})


def train(run: Run) -> None:
    """Train: build module and loaders as usual, and call ``fit(run, module)`` instead of ``Trainer(...).fit``."""
    size = int(run.training["batch_size"]) or 32  # so that a study can set or search both options
    module = Digits(smoothing=float(run.training["label_smoothing"]))
    fit(
        run,
        module,
        train_dataloaders=DataLoader(data()["train"], size, shuffle=True),
        val_dataloaders=DataLoader(data()["validation"], 400),
        test_dataloaders=DataLoader(data()["test"], 400),
    )
