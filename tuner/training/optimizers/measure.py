"""What an optimizer costs, measured: bytes of state per parameter, and the time of a step relative to plain SGD."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tuner.catalog.families import family
from tuner.training.optimizers.building import build
from tuner.training.optimizers.bundle import Bundle

HORIZON = 1000
"""What the optimizers are told of the horizon; it changes no cost."""

STEPS = 10
"""Steps that are timed together, so that what comes once in ten steps (SOAP's basis) is in the figure."""


class Probe(nn.Module):
    """The model that costs are measured on: a convolution, a norm, two linear layers and an output; 52,298 parameters.

    Where the state depends on shapes (Adafactor, Muon, SOAP) the figure is that of this model: kernels of 3 x 3, square
    matrices, and a small share in vectors, as in most networks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(32, 64, 3)
        self.norm = nn.BatchNorm2d(64)
        self.first, self.second = nn.Linear(128, 128), nn.Linear(128, 128)
        self.output = nn.Linear(64, 10)


def state_bytes(name: str) -> float:
    """Return the bytes of state per parameter that a family keeps at its defaults, in float32.

    Counted are all tensors of more than one number that ``state_dict`` holds after three steps: what an optimizer must
    keep between steps, and a checkpoint grow by.

    Raises:
        InputError: there is no such family.
    """
    model, bundle = _prepared(name)
    for _ in range(3):
        _gradients(model)
        bundle.step()
    for group in bundle.parts["main"].param_groups:
        if "phase" in group:  # SWATS keeps Adam's averages when it turns to SGD
            group["phase"] = "sgd"
    _gradients(model)
    bundle.step()
    kept = [tensor for tensor in _tensors(bundle.parts["main"].state_dict()) if tensor.numel() > 1]
    return sum(tensor.numel() * tensor.element_size() for tensor in kept) / sum(p.numel() for p in model.parameters())


def step_costs(names: Sequence[str], repeats: int = 20, device: torch.device | str = "cpu") -> dict[str, float]:
    """Return the time of a step of each family, relative to ``sgd`` (which is 1 by definition).

    All families are built on the probe and step in turn, ``repeats`` rounds of ``STEPS`` each; the figure is the ratio
    of medians, so that what else the machine does strikes all of them alike. It holds for this machine and model size:
    the larger the model, the less the calls count and the more the arithmetic.

    Raises:
        InputError: there is no such family.
    """
    prepared = {name: _prepared(name, device) for name in dict.fromkeys(["sgd", *names])}
    taken: dict[str, list[float]] = {name: [] for name in prepared}
    for round_ in range(repeats + 1):
        for name, (model, bundle) in prepared.items():
            _gradients(model)
            seconds = _timed(bundle, torch.device(device))
            if round_:  # the first one allocates the state
                taken[name].append(seconds)
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    return {name: medians[name] / medians["sgd"] for name in names}


def costs(names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Measure families on one thread: bytes of state per parameter, and a step's time relative to ``sgd``.

    Raises:
        InputError: there is no such family.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two would wait for each other on a busy machine
    try:
        steps = step_costs(names, repeats=7)
        return {name: (state_bytes(name), steps[name]) for name in names}
    finally:
        torch.set_num_threads(threads)


def _prepared(name: str, device: torch.device | str = "cpu") -> tuple[Probe, Bundle]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Probe().to(device)
    bundle = build(family(name).default, model, HORIZON, device)
    bundle.train()
    return model, bundle


def _gradients(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.grad = (1e-3 * torch.randn(p.shape, generator=generator)).to(p.device)


def _timed(bundle: Bundle, device: torch.device) -> float:
    optimizer = bundle.parts["main"]
    optimizer.step()  # brings weights and state back into the caches, from which the last family drove them
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    for _ in range(STEPS):
        optimizer.step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _within(value.values())
    elif isinstance(value, list | tuple):
        yield from _within(value)


def _within(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        yield from _tensors(value)
