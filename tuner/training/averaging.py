"""Averaged weights to evaluate, and BatchNorm statistics that fit them. No weight is trained here."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import Any, TypeAlias, final

import torch
from torch import Tensor, nn

from tuner.catalog.training_options import complete
from tuner.core.values import Scalar
from tuner.training.optimizers import Bundle

CALIBRATION_BATCHES = 16
"""Number of training batches from which BatchNorm gets its statistics before averaged weights are evaluated."""

Forward: TypeAlias = Callable[[nn.Module, Any], Any]
"""Runs a model on a batch of training data; what it returns is not used."""


@final
class Average:
    """An average of a model's weights over its training: exponential (``ema``) or plain (``swa``).

    The decay of the exponential average after ``t`` updates is at most ``(1 + t) / (10 + t)``, so that a short run is
    not averaged with its initialisation (as in TensorFlow's ``ExponentialMovingAverage(num_updates)``). The plain
    average begins after the share ``swa_start`` of the horizon (Izmailov et al. 2018, arXiv 1803.05407).

    Args:
        model: the model that trains. A copy of it holds the average; averaging does not change the model.
        training: the training options; ``average`` is ``ema`` or ``swa``.
        horizon: the run's length in optimizer steps.
    """

    def __init__(self, model: nn.Module, training: Mapping[str, Scalar], horizon: int) -> None:
        values = complete(training)
        assert values["average"] != "none"
        self._plain = values["average"] == "swa"
        self._first = int(float(values["swa_start"]) * horizon) if self._plain else 0
        self._decay = float(values["ema_decay"])
        self._source = model
        self._averaged = copy.deepcopy(model).requires_grad_(False)
        self._updates = 0

    def update(self, step: int) -> None:
        """Add the model's weights after ``step`` optimizer steps to the average; copy its buffers.

        Does what ``torch.optim.swa_utils.AveragedModel`` does, in a few kernels and without waiting for the GPU.
        """
        if step <= self._first:
            return
        self._updates += 1
        t = self._updates
        share = 1.0 / t if self._plain else 1.0 - min(self._decay, (1.0 + t) / (10.0 + t))
        averages: list[Tensor] = list(self._averaged.parameters())
        weights: list[Tensor] = list(self._source.parameters())
        with torch.no_grad():
            torch._foreach_lerp_(averages, weights, share if t > 1 else 1.0)
            if buffers := list(self._averaged.buffers()):
                torch._foreach_copy_(buffers, list(self._source.buffers()))

    @property
    def model(self) -> nn.Module:
        """The module to evaluate: a copy with the average, or the model itself before the average has begun."""
        return self._averaged if self._updates else self._source

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights and the number of updates, for a checkpoint."""
        return {"averaged": self._averaged.state_dict(), "updates": self._updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what ``state_dict`` returned."""
        self._averaged.load_state_dict(state["averaged"])
        self._updates = state["updates"]


def running_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return the BatchNorm modules that keep running statistics."""
    norms = (m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    return [m for m in norms if m.track_running_stats]


def by_calling(model: nn.Module, batch: Any) -> Any:
    """Run a model on a batch that it takes as its only argument."""
    return model(batch)


@contextmanager
def calibrated(model: nn.Module, batches: Iterable[Any], forward: Forward) -> Iterator[None]:
    """Give BatchNorm the statistics of ``batches`` under the model's current weights, inside the context.

    The running statistics that training left do not fit averaged weights (Izmailov et al. 2018, section 3.2; as in
    ``torch.optim.swa_utils.update_bn``). The old statistics come back when the context ends.

    Args:
        model: the model that is evaluated inside the context.
        batches: training batches; the first 16 are used, and none is drawn if the model has no BatchNorm.
        forward: runs the model on one batch. It is called without gradients and in eval mode, except for the norms.
    """
    norms = running_norms(model)
    if not norms:
        yield
        return
    before = [({name: buffer.clone() for name, buffer in m.named_buffers()}, m.momentum) for m in norms]
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # torch's own word for a plain average
            norm.train()
        with torch.no_grad():
            for batch in islice(batches, CALIBRATION_BATCHES):
                forward(model, batch)
        for module, mode in modes.items():
            module.training = mode
        yield
    finally:
        for norm, (buffers, momentum) in zip(norms, before, strict=True):
            norm.load_state_dict(buffers, strict=False)
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def evaluation_weights(
    bundles: Sequence[Bundle],
    averaged: bool,
    model: nn.Module | None,
    batches: Iterable[Any],
    forward: Forward,
) -> Iterator[None]:
    """Switch optimizers to the weights that they keep for evaluation, inside the context, and fit BatchNorm to them.

    Args:
        bundles: the run's optimizers.
        averaged: whether the weights that are evaluated are averages, which never trained themselves.
        model: the model that is evaluated; None leaves its BatchNorm statistics as they are.
        batches: training batches, as in ``calibrated``. None is drawn if the weights are the trained ones.
        forward: as in ``calibrated``.
    """
    for bundle in bundles:
        bundle.eval()
    untrained = averaged or any(bundle.switches for bundle in bundles)
    try:
        with calibrated(model, batches, forward) if model is not None and untrained else nullcontext():
            yield
    finally:
        for bundle in bundles:
            bundle.train()
