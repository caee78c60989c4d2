"""``Workload``, the class that users derive from. It owns model, data, loss and metric, not optimizer and schedule."""

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
"""What ``train_batches`` yields and ``loss`` takes: a tensor, or nested tuples, lists and dicts of tensors."""

SETUP_SEED = 0
"""The seed of the generators before ``setup``, the same for all runs."""


class Workload(ABC):
    """What is trained: model, batches, loss, metric. Override the abstract methods, and ``loss`` or ``train_step``.

    One instance serves many runs in a process, so keep nothing of a single run on ``self``.

    Attributes:
        metric: the study's metric, one of the names that ``evaluate`` returns.
        direction: ``maximize`` or ``minimize``.
        training: the training options that a study uses if it does not set them, as in ``{"clip_norm": 1.0}`` (see
            :mod:`tuner.catalog.training_options`). Its earlier name, ``recipe``, is read too.
        batch_size: examples of a batch. Give it a value on the class if the workload can train with other batch sizes,
            and read ``self.batch_size``, in ``steps_per_epoch`` too: the loop sets it before each run. With None a
            study cannot set it.
        label_smoothing: share of the target that is spread over all classes; set and read like ``batch_size``.
        eval_every_steps: optimizer steps between evaluations; None evaluates at the end of each epoch. The last
            evaluation is always at the horizon.
        has_test: whether ``evaluate`` takes the split ``test``. Without it a study has no test result.
        horizon: ``{"epochs": 30}`` or ``{"steps": 5000}``, how long a study trains that does not say it.
        device: where to train; the loop sets it before ``setup``.
        precision: ``float32``, ``bfloat16`` or ``float16``; the loop sets it before ``setup``.
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
        """Load the data to ``device``. It is called once per process and device, before the first run.

        The generators have the same seed in each call, so that all workers split the data alike.
        """

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """The number of batches in an epoch, at least 1."""

    @abstractmethod
    def model(self, seed: int) -> nn.Module:
        """Return a newly initialised model. The generators of Python, numpy and torch are already seeded."""

    @abstractmethod
    def train_batches(self, epoch: int, seed: int) -> Iterable[Batch]:
        """Return the batches of an epoch, counted from 0: at least ``steps_per_epoch`` batches.

        They depend on epoch and seed alone, so that a run that was killed can continue inside an epoch.
        """

    @abstractmethod
    def evaluate(self, model: nn.Module, split: str) -> Mapping[str, float]:
        """Return the metrics on ``validation`` or ``test`` by name. The model is in eval mode and gradients are off."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the training loss of a batch, a scalar tensor. The batch is already on ``device``."""
        raise NotImplementedError(
            f"{type(self).__name__} overrides neither loss nor train_step; expected one of the two"
        )

    def optimizer(self, setting: Setting, model: nn.Module, horizon: int) -> Bundle:
        """Build the run's optimizers. Override it where parts of the model need their own, as a GAN's two networks do.

        Args:
            setting: optimizer family, hyperparameters and training options.
            model: what ``model`` returned, on ``device``.
            horizon: the run's length in optimizer steps.
        """
        return build(setting, model, horizon, self.device)

    def train_step(self, model: nn.Module, batch: Batch, bundle: Bundle) -> Tensor:
        """Train on one batch and return its loss, a detached scalar. The schedule is already applied.

        The bundle accumulates, scales and clips gradients: with ``accumulation: 4`` each fourth call updates the model.
        """
        bundle.zero_grad()
        with self.autocast():
            loss = self.loss(model, batch)
        bundle.backward(loss)
        bundle.step()
        return loss.detach()

    def calibrate(self, model: nn.Module, batch: Batch) -> None:
        """Run the model forward on a training batch, so that BatchNorm gets statistics that fit averaged weights.

        By default it computes the loss. Override it if the workload has no ``loss``.
        """
        with self.autocast():
            self.loss(model, batch)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context for forward passes in the run's precision."""
        return autocast(self.device, self.precision)

    def to_device(self, batch: Batch) -> Batch:
        """Return the batch with all its tensors on ``device``. The loop calls it before ``train_step``."""
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
        """Set device and training options of the next run, and call ``setup`` if the device is new. For the loop.

        Raises:
            WorkloadError: the options set a batch size or a label smoothing, and the workload does not take it.
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
        """The class's batch size and label smoothing, whatever the last run had set. For the loop."""
        return self._own or (self.batch_size, self.label_smoothing)

    @property
    def granted(self) -> dict[str, Scalar]:
        """The training options of a study that sets none: the class's own, with its batch size and label smoothing."""
        size, smoothing = self.own
        own: dict[str, Scalar] = {} if size is None else {"batch_size": size, "batch_reference": size}
        own |= {} if smoothing is None else {"label_smoothing": smoothing}
        return {**own, **self._stated}

    @property
    def _stated(self) -> Mapping[str, Scalar]:
        """The training options that the class states as ``training``, or by their earlier name as ``recipe``."""
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
    """Yield an epoch's examples in random order, as indices of one batch each; an incomplete last batch is dropped.

    The order depends on seed and epoch alone and uses no global generator. It is copied to ``device`` once, because
    indices on the CPU would make each step wait for a GPU.

    Args:
        size: number of examples.
        batch_size: examples of a batch.
        epoch: counted from 0.
        seed: the run's seed.
        device: where the indices are needed.

    Yields:
        int64 ``[batch_size]``, indices from 0 to ``size - 1``.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, epoch))
    order = torch.randperm(size, generator=generator).to(device)
    for start in range(0, size - batch_size + 1, batch_size):
        yield order[start : start + batch_size]
