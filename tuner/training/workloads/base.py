"""The class that users derive from: it owns model, data, loss and metric, not optimizer and schedule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from tuner.catalog.training_options import complete
from tuner.core.errors import Place, WorkloadError, wrong
from tuner.core.records import Setting
from tuner.core.values import Scalar, derive_seed
from tuner.training.environment import autocast, seed_everything
from tuner.training.optimizers import Bundle, build

Batch: TypeAlias = Any
"""Whatever ``train_batches`` yields and ``loss`` takes: a tensor, or a nest of tuples, lists and dicts of them."""


SETUP_SEED = 0


class Workload(ABC):
    """What is trained: model, batches, loss, metric. Override the abstract methods, and ``loss`` or ``train_step``.

    One instance serves many runs in a process, so nothing of a single run belongs on ``self``. ``metric``
    names one of the values that ``evaluate`` returns and ``direction`` is ``maximize`` or ``minimize``.
    Evaluations come every ``eval_every_steps`` steps (None: at each end of an epoch), and always at the horizon.
    ``has_test`` says that ``evaluate`` knows the split ``test``; without it no test result is ever asked for.
    ``horizon``, ``{"epochs": 30}`` or ``{"steps": 5000}``, is how long a study trains that does not say it.

    ``training`` holds the training options that a study takes for granted if it does not say them, as in
    ``{"clip_norm": 1.0}`` (see :mod:`tuner.catalog.training_options`; ``recipe``, its earlier name, is read too). A
    workload that can train with other batch sizes gives ``batch_size`` a value on the class and reads
    ``self.batch_size`` (``steps_per_epoch`` too); so with ``label_smoothing``. Both are set before each run; None
    refuses to have them set. ``device`` and ``precision`` are set before ``setup``.
    """

    metric: str = ""
    direction: str = ""
    training: Mapping[str, Scalar] = {}
    batch_size: int | None = None
    label_smoothing: float | None = None
    eval_every_steps: int | None = None
    has_test: bool = False
    horizon: Mapping[str, float] | None = None
    device: torch.device = torch.device("cpu")
    precision: str = "float32"
    _placed: torch.device | None = None
    _own: tuple[int | None, float | None] | None = None

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

    def optimizer(self, setting: Setting, model: nn.Module, horizon: int) -> Bundle:
        """Build the optimizers for so many steps; override it where parts need their own (a GAN's two networks)."""
        return build(setting, model, horizon, self.device)

    def train_step(self, model: nn.Module, batch: Batch, bundle: Bundle) -> Tensor:
        """Train on one batch and return the training loss, detached. The schedule is already applied.

        The bundle accumulates, scales and clips; with ``accumulation: 4`` every fourth call updates the model.
        """
        bundle.zero_grad()
        with self.autocast():
            loss = self.loss(model, batch)
        bundle.backward(loss)
        bundle.step()
        return loss.detach()

    def calibrate(self, model: nn.Module, batch: Batch) -> None:
        """Run the model forward on a batch, for BatchNorm's statistics under averaged weights; by default its loss.

        Override it where there is no ``loss``.
        """
        with self.autocast():
            self.loss(model, batch)

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

    def place(self, device: torch.device, training: Mapping[str, Scalar]) -> None:
        """Take device and training options of the next run, and set up if this device was not yet. For the loop.

        Raises:
            WorkloadError: the training options set a batch size or a label smoothing that this workload does not take.
        """
        values = complete(training)
        self._own = size, smoothing = self.own
        self.device, self.precision = device, str(values["precision"])
        if size is None and values["batch_size"]:
            raise self._refuses(
                "batch_size", values["batch_size"], "a batch size on the class, and self.batch_size used"
            )
        if smoothing is None and values["label_smoothing"]:
            expected = "label_smoothing = 0.0 on the class, and self.label_smoothing used in loss()"
            raise self._refuses("label_smoothing", values["label_smoothing"], expected)
        self.batch_size = int(values["batch_size"]) or size
        self.label_smoothing = None if smoothing is None else float(values["label_smoothing"])
        if self._placed != device:
            seed_everything(SETUP_SEED)
            self.setup()
            self._placed = device

    @property
    def own(self) -> tuple[int | None, float | None]:
        """Batch size and label smoothing of its own, whatever the last run had set. For the loop."""
        return self._own or (self.batch_size, self.label_smoothing)

    @property
    def granted(self) -> dict[str, Scalar]:
        """The training options that it takes for granted, batch size and label smoothing of its own included."""
        size, smoothing = self.own
        own: dict[str, Scalar] = {} if size is None else {"batch_size": size, "batch_reference": size}
        own |= {} if smoothing is None else {"label_smoothing": smoothing}
        return {**own, **self._stated}

    @property
    def _stated(self) -> Mapping[str, Scalar]:
        """The training options that the class states, under the name of now or the earlier one."""
        earlier: Mapping[str, Scalar] = getattr(self, "recipe", {})
        if earlier and self.training:
            place = Place(f"workload {type(self).__name__}")
            found = "has training and recipe, which is the earlier name of training"
            raise WorkloadError(wrong(place, found, "one of the two", "Keep training."))
        return earlier or self.training

    def _refuses(self, name: str, value: Scalar, expected: str) -> WorkloadError:
        place = Place(f"workload {type(self).__name__}")
        return WorkloadError(wrong(place, f"does not take {name} = {value}", expected, f"Leave out training.{name}."))


def shuffled(size: int, batch_size: int, epoch: int, seed: int, device: torch.device | str = "cpu") -> Iterator[Tensor]:
    """Yield the index batches of an epoch (int64, ``[batch_size]``); an incomplete last one is dropped.

    The order is a function of ``(seed, epoch)`` and draws from no global generator. It goes to ``device`` once: indices
    on the CPU would make every step wait for a GPU.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, epoch))
    order = torch.randperm(size, generator=generator).to(device)
    for start in range(0, size - batch_size + 1, batch_size):
        yield order[start : start + batch_size]
