"""A workload that trains in milliseconds, and fails or diverges on demand: for tests, demonstrations and dry runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from tuner.training.optimizers import Bundle
from tuner.training.workloads.base import Batch, Workload, shuffled

SPLITS = {"train": 256, "validation": 64, "test": 64}


class ToyQuadratic(Workload):
    """Linear regression with noise: a torch model of 9 parameters and a quadratic loss.

    ``loss`` is the mean squared error. The splits have 256, 64 and 64 examples.

    Args:
        diverge_above: learning rates above this turn the loss into NaN.
        fail_at: the number of the update, counted from 1, that raises ``RuntimeError``.
        sleep: seconds that each update waits.
        dropout: share of the inputs that is dropped in training.
        eval_every_steps: as in ``Workload``; an epoch has 16 steps.
    """

    metric = "loss"
    direction = "minimize"
    has_test = True

    def __init__(
        self,
        diverge_above: float | None = None,
        fail_at: int | None = None,
        sleep: float = 0.0,
        dropout: float = 0.0,
        eval_every_steps: int | None = None,
    ) -> None:
        self.diverge_above = diverge_above
        self.fail_at = fail_at
        self.sleep = sleep
        self.dropout = dropout
        self.eval_every_steps = eval_every_steps

    def setup(self) -> None:
        generator = torch.Generator().manual_seed(0)
        scale = torch.logspace(0, -1, 8)
        truth = torch.randn(8, generator=generator)
        self.data: dict[str, tuple[Tensor, Tensor]] = {}
        for split, size in SPLITS.items():
            x = torch.randn(size, 8, generator=generator) * scale
            y = x @ truth + 0.1 * torch.randn(size, generator=generator)
            self.data[split] = x.to(self.device), y.to(self.device)

    @property
    def steps_per_epoch(self) -> int:
        return SPLITS["train"] // 16

    def model(self, seed: int) -> nn.Module:  # noqa: ARG002
        return _Linear(self.dropout)

    def train_batches(self, epoch: int, seed: int) -> Iterator[Batch]:
        x, y = self.data["train"]
        for chosen in shuffled(SPLITS["train"], 16, epoch, seed, self.device):
            yield x[chosen], y[chosen]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(model(x), y)

    def train_step(self, model: nn.Module, batch: Batch, bundle: Bundle) -> Tensor:
        assert isinstance(model, _Linear)
        model.updates += 1
        if self.fail_at is not None and int(model.updates) == self.fail_at:
            raise RuntimeError(f"the toy fails at update {self.fail_at}, as it was told to")
        if self.sleep:
            time.sleep(self.sleep)
        loss = super().train_step(model, batch, bundle)
        if self.diverge_above is not None and bundle.learning_rate > self.diverge_above:
            return loss * float("nan")
        return loss

    def evaluate(self, model: nn.Module, split: str) -> Mapping[str, float]:
        return {"loss": float(self.loss(model, self.data[split]))}


class _Linear(nn.Module):
    """One linear layer, and the number of its updates, which a checkpoint keeps."""

    updates: Tensor

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(8, 1)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(self.dropout(x)).squeeze(-1)
        return out
