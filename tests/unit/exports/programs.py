"""A small model with every kind of parameter, and an export's text as a running module."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tuner.catalog.families import family
from tuner.catalog.schedules import Schedule
from tuner.core.records import Horizon, Setting
from tuner.core.values import Scalar
from tuner.exports import Export, export
from tuner.training.averaging import Average
from tuner.training.optimizers import build

STEPS = 20


class Net(nn.Module):
    """Embedding, hidden matrices, a norm of two dimensions, biases, an output; in double precision.

    Two programs that compute the same in another order then stay within 1e-9 of each other on every processor.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(7, 6)
        self.body = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 6))
        self.norm = nn.LayerNorm((1, 6))
        self.out = nn.Linear(6, 3)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.norm(self.body(self.embed(x)).unsqueeze(1)).squeeze(1))


class Flat(Net):
    """Without a norm of two dimensions: timm spares what has one."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6, dtype=torch.float64)


class Square(Flat):
    """Of square matrices, for SOAP: of a gradient that is not square it takes a basis that rounding chooses."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, 6)
        self.body = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 6))
        self.out = nn.Linear(6, 6)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x % 6)


class Single(Net):
    """In single precision: autocast leaves double precision as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.float()


def batches(count: int = 10_000) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        yield torch.randint(7, (16,), generator=generator), torch.randint(3, (16,), generator=generator)


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def a_setting(
    name: str, schedule: Mapping[str, Scalar] | None = None, training: Any = None, **values: float
) -> Setting:
    row = family(name)
    given = {"l2": 0.01} if "l2" in row.default.hyperparameters else {"weight_decay": 0.1}
    return Setting(name, {**given, **values}, schedule or {"kind": "cosine", "warmup": 0.2}, training or {})


def exported(setting: Setting, to: str, steps: int = STEPS, **more: Any) -> Export:
    return export(setting, to, horizon=Horizon(steps, "steps"), **more)


def module_of(text: str) -> dict[str, Any]:
    """Run a text; the names that it defines."""
    found: dict[str, Any] = {"__name__": "exported"}
    exec(compile(text, "exported.py", "exec"), found)
    return found


def trained_by_us(setting: Setting, steps: int = STEPS, kind_of: type[Net] = Net) -> nn.Module:
    """Train with the bundle, as every run of a study does."""
    model = kind_of()
    bundle = build(setting, model, steps)
    schedule, source = Schedule.of(setting.schedule), batches()
    training = {"precision": "float32", "average": "none", **setting.training}
    average = Average(model, training, steps) if training["average"] != "none" else None
    kind = torch.bfloat16 if training["precision"] == "bfloat16" else torch.float16
    for step in range(steps):
        bundle.apply(schedule.multipliers(step, steps))
        done = False
        while not done:
            bundle.zero_grad()
            with torch.autocast("cpu", dtype=kind, enabled=training["precision"] != "float32"):
                loss = loss_of(model, next(source))
            bundle.backward(loss)
            done = bundle.step()
        if average is not None:
            average.update(step + 1)
    bundle.eval()
    return average.model if average is not None else model


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in copy.deepcopy(model).parameters()])
