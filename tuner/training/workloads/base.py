"""The class that users derive from: it owns model, data, loss and metric, not optimizer and schedule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from tuner.records import Setting, derive_seed
from tuner.training.environment import autocast, seed_everything
from tuner.training.optimizers import Bundle, build

Batch: TypeAlias = Any
"""Whatever ``train_batches`` yields and ``loss`` takes: a tensor, or a nest of tuples, lists and dicts of them."""


SETUP_SEED = 0


class Workload(ABC):
    """What is trained: model, batches, loss, metric. Override the abstract methods, and ``loss`` or ``train_step``.

    One instance serves many runs in a process, so nothing of a single run belongs on ``self``. ``metric``
    names one of the values that ``evaluate`` returns and ``direction`` is ``maximize`` or ``minimize``.
    ``clip_norm`` bounds the gradient's 2-norm in the default ``train_step``. Evaluations come every
    ``eval_every_steps`` steps (None: at each end of an epoch), and always at the horizon. ``has_test``
    says that ``evaluate`` knows the split ``test``; without it no test result is ever asked for. ``horizon``,
    ``{"epochs": 30}`` or ``{"steps": 5000}``, is how long a study trains that does not say it.
    ``device`` and ``precision`` are set before ``setup``.
    """

    metric: str = ""
    direction: str = ""
    clip_norm: float | None = None
    eval_every_steps: int | None = None
    has_test: bool = False
    horizon: Mapping[str, float] | None = None
    device: torch.device = torch.device("cpu")
    precision: str = "float32"
    _placed: torch.device | None = None

    def setup(self) -> None:  # noqa: B027 (overriding it is optional)
        """Load the data, once per process and device, before the first run.

        The generators are seeded the same way every time, so that all workers split the data alike.
        """

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """How many batches an epoch has."""

    @abstractmethod
    def model(self, seed: int) -> nn.Module:
        """Return a fresh model. The generators of Python, numpy and torch are already seeded."""

    @abstractmethod
    def train_batches(self, epoch: int, seed: int) -> Iterable[Batch]:
        """Return the batches of an epoch (from 0): at least ``steps_per_epoch``, a function of epoch and seed alone."""

    @abstractmethod
    def evaluate(self, model: nn.Module, split: str) -> Mapping[str, float]:
        """Return the metrics on ``validation`` or ``test``. The model is in eval mode and gradients are off."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the scalar training loss of a batch that is already on ``device``."""
        raise NotImplementedError(f"{type(self).__name__} overrides neither loss nor train_step")

    def optimizer(self, setting: Setting, model: nn.Module) -> Bundle:
        """Build the optimizers; override it where a model's parts need their own (a GAN's two networks)."""
        return build(setting, model)

    def train_step(self, model: nn.Module, batch: Batch, bundle: Bundle) -> Tensor:
        """Update the model once and return the training loss, detached. The schedule is already applied."""
        bundle.zero_grad()
        with self.autocast():
            loss = self.loss(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), self.clip_norm)
        bundle.step()
        return loss.detach()

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which forward passes belong, for the run's precision."""
        return autocast(self.device, self.precision)

    def to_device(self, batch: Batch) -> Batch:
        """Return the batch with every tensor in it on ``device``; the loop calls it before ``train_step``."""
        if isinstance(batch, Tensor):
            return batch.to(self.device, non_blocking=True)
        if isinstance(batch, Mapping):
            return {key: self.to_device(value) for key, value in batch.items()}
        if isinstance(batch, tuple) and hasattr(batch, "_fields"):
            return type(batch)(*(self.to_device(item) for item in batch))
        if isinstance(batch, list | tuple):
            return type(batch)(self.to_device(item) for item in batch)
        return batch

    def place(self, device: torch.device, precision: str) -> None:
        """Take device and precision of the next run, and set up if that was not done for this device. For the loop."""
        self.device, self.precision = device, precision
        if self._placed != device:
            seed_everything(SETUP_SEED)
            self.setup()
            self._placed = device


def shuffled(size: int, batch_size: int, epoch: int, seed: int) -> Iterator[Tensor]:
    """Yield the index batches of an epoch (int64, ``[batch_size]``, on the CPU); an incomplete last one is dropped.

    The order is a function of ``(seed, epoch)`` and draws from no global generator.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, epoch))
    order = torch.randperm(size, generator=generator)
    for start in range(0, size - batch_size + 1, batch_size):
        yield order[start : start + batch_size]
