"""Averaged weights to evaluate, and BatchNorm statistics that fit them; nothing trains here."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any, final

import torch
from torch import Tensor, nn

from tuner.catalog.training_options import complete
from tuner.core.values import Scalar

CALIBRATION_BATCHES = 16
"""How many training batches give BatchNorm its statistics, before weights that never trained are evaluated."""


@final
class Average:
    """An average of a model's weights over its training: exponential (``ema``) or plain (``swa``).

    The exponential one warms up: its decay after ``t`` updates is at most ``(1 + t) / (10 + t)``, so that a short run
    is not averaged with its initialisation (as TensorFlow's ``ExponentialMovingAverage(num_updates)``). The plain one
    begins after the share ``swa_start`` of the horizon (Izmailov et al. 2018, arXiv 1803.05407).
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
        """Take in the weights after ``step`` optimizer steps; buffers are copied.

        As ``torch.optim.swa_utils.AveragedModel``, in a few kernels; with that one the CPU waits for a GPU each time.
        """
        if step <= self._first:
            return
        self._updates += 1
        t = self._updates
        share = 1.0 / t if self._plain else 1.0 - min(self._decay, (1.0 + t) / (10.0 + t))
        ours: list[Tensor] = list(self._averaged.parameters())
        theirs: list[Tensor] = list(self._source.parameters())
        with torch.no_grad():
            torch._foreach_lerp_(ours, theirs, share if t > 1 else 1.0)
            if buffers := list(self._averaged.buffers()):
                torch._foreach_copy_(buffers, list(self._source.buffers()))

    @property
    def model(self) -> nn.Module:
        """The module to evaluate: a copy with the average, or the model itself before the average has begun."""
        return self._averaged if self._updates else self._source

    def state_dict(self) -> dict[str, Any]:
        return {"averaged": self._averaged.state_dict(), "updates": self._updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._averaged.load_state_dict(state["averaged"])
        self._updates = state["updates"]


def running_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return the norms that keep running statistics."""
    found = (m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    return [m for m in found if m.track_running_stats]


@contextmanager
def calibrated(model: nn.Module, batches: Iterable[Any], forward: Callable[[nn.Module, Any], Any]) -> Iterator[None]:
    """Give BatchNorm the statistics of ``batches`` under the model's present weights, while the context is open.

    Weights that were averaged never trained, so the running statistics that training left do not fit them (Izmailov et
    al. 2018, section 3.2; as ``torch.optim.swa_utils.update_bn``). ``forward`` runs the model on one of the first
    16 batches, without gradients and in eval mode but for the norms. A model without BatchNorm draws no batch.
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
