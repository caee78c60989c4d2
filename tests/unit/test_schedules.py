"""The schedules against torch's own scheduler classes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import SGD
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    SequentialLR,
    StepLR,
)

from tuner.errors import InputError
from tuner.records import Scalar
from tuner.schedules import SCHEDULES, WARMUP, WARMUP_START, Schedule

HORIZON = 120
Make = Callable[[SGD, int], LRScheduler]


def torch_rates(make: Callable[[SGD], LRScheduler], steps: int) -> list[float]:
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def ours(setting: Mapping[str, Scalar], horizon: int = HORIZON) -> list[float]:
    schedule = Schedule.of(setting)
    return [schedule.multipliers(step, horizon).lr for step in range(horizon)]


def wsd(optimizer: SGD, steps: int, warm: int = 0) -> LRScheduler:
    """Torch cannot nest a SequentialLR in another, so the warm-up is one of its parts."""
    stable = round(steps * 0.75)
    parts: list[LRScheduler] = [LinearLR(optimizer, WARMUP_START, 1.0, warm)] if warm else []
    parts += [ConstantLR(optimizer, 1.0, stable), LinearLR(optimizer, 1.0, 0.05, steps - stable)]
    return SequentialLR(optimizer, parts, [warm, warm + stable] if warm else [stable])


ORACLES: dict[str, tuple[dict[str, Scalar], Make]] = {
    "constant": ({"kind": "constant"}, lambda o, n: ConstantLR(o, factor=1.0, total_iters=n)),
    "linear": (
        {"kind": "linear", "end_ratio": 0.1},
        lambda o, n: LinearLR(o, start_factor=1.0, end_factor=0.1, total_iters=n),
    ),
    "linear to 0": (
        {"kind": "linear"},
        lambda o, n: LinearLR(o, start_factor=1.0, end_factor=0.0, total_iters=n),
    ),
    "cosine": ({"kind": "cosine", "end_ratio": 0.02}, lambda o, n: CosineAnnealingLR(o, T_max=n, eta_min=0.02)),
    "cosine to 0": ({"kind": "cosine"}, lambda o, n: CosineAnnealingLR(o, T_max=n)),
    "step": ({"kind": "step", "drops": 2, "gamma": 0.3}, lambda o, n: StepLR(o, step_size=n // 3, gamma=0.3)),
    "step, four drops": ({"kind": "step", "drops": 4}, lambda o, n: StepLR(o, step_size=n // 5, gamma=0.1)),
    "wsd": ({"kind": "wsd", "decay_fraction": 0.25, "end_ratio": 0.05}, wsd),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter")
@pytest.mark.filterwarnings("ignore:To get the last learning rate")
@pytest.mark.parametrize("name", ORACLES)
class TestAsInTorch:
    def test_without_warm_up(self, name: str) -> None:
        setting, make = ORACLES[name]
        assert ours(setting) == pytest.approx(torch_rates(lambda o: make(o, HORIZON), HORIZON), abs=1e-7)

    def test_after_a_warm_up(self, name: str) -> None:
        setting, make = ORACLES[name]
        warm, rest = 30, 120

        def both(optimizer: SGD) -> LRScheduler:
            if name == "wsd":
                return wsd(optimizer, rest, warm)
            rise = LinearLR(optimizer, start_factor=WARMUP_START, end_factor=1.0, total_iters=warm)
            return SequentialLR(optimizer, [rise, make(optimizer, rest)], [warm])

        found = ours({**setting, "warmup": warm / (warm + rest)}, warm + rest)
        assert found == pytest.approx(torch_rates(both, warm + rest), abs=1e-7)


def settings_of(kind: str) -> st.SearchStrategy[dict[str, Scalar]]:
    values: dict[str, st.SearchStrategy[Scalar]] = {"kind": st.just(kind)}
    for p in (*SCHEDULES[kind].parameters, WARMUP):
        whole = st.integers(int(p.low), int(p.high))
        values[p.name] = whole if p.integer else st.floats(p.low, p.high)
    return st.fixed_dictionaries(values)


@given(st.sampled_from(list(SCHEDULES)).flatmap(settings_of), st.integers(1, 400))
@settings(max_examples=200, deadline=None)
def test_every_setting_stays_between_zero_and_the_peak(setting: dict[str, Scalar], horizon: int) -> None:
    rates = ours(setting, horizon)
    assert all(0.0 <= rate <= 1.0 + 1e-12 and math.isfinite(rate) for rate in rates)
    peak = math.ceil(float(setting["warmup"]) * horizon)
    rising, falling = rates[:peak], rates[peak:]
    assert all(b >= a for a, b in itertools.pairwise(rising))
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise(falling))


@given(st.sampled_from(list(SCHEDULES)).flatmap(settings_of), st.integers(1, 100), st.integers(2, 7))
@settings(max_examples=100, deadline=None)
def test_another_horizon_is_the_same_curve(setting: dict[str, Scalar], horizon: int, factor: int) -> None:
    schedule = Schedule.of(setting)
    for step in range(horizon):
        long = schedule.multipliers(step * factor, horizon * factor).lr
        assert schedule.multipliers(step, horizon).lr == pytest.approx(long, abs=1e-9)


@pytest.mark.parametrize("step", [-1, 10, 11])
def test_steps_outside_of_the_horizon_are_refused(step: int) -> None:
    with pytest.raises(ValueError, match="step is"):
        Schedule.of({"kind": "cosine"}).multipliers(step, 10)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({}, "schedule kind is ''; expected one of constant"),
        ({"kind": "cosin"}, "'cosin'"),
        ({"kind": "cosine", "gamma": 0.5}, "no parameter 'gamma'; expected one of end_ratio, warmup"),
        ({"kind": "cosine", "end_ratio": 2}, "end_ratio is 2; expected 0 to 1"),
        ({"kind": "cosine", "warmup": 0.9}, "warmup is 0.9; expected 0 to 0.5"),
        ({"kind": "cosine", "warmup": "0.1"}, "warmup is '0.1'; expected a number"),
        ({"kind": "cosine", "warmup": True}, "warmup is True; expected a number"),
        ({"kind": "cosine", "warmup": math.nan}, "warmup is nan; expected a number"),
        ({"kind": "step", "drops": 1.5}, "drops is 1.5; expected a whole number"),
        ({"kind": "wsd", "decay_fraction": 0.0}, "decay_fraction is 0; expected 0.01 to 1"),
    ],
)
def test_wrong_settings(setting: dict[str, Scalar], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Schedule.of(setting)


def test_the_table_is_frozen_and_complete() -> None:
    assert list(SCHEDULES) == ["constant", "linear", "cosine", "step", "wsd"]
    with pytest.raises(TypeError):
        SCHEDULES["mine"] = SCHEDULES["step"]  # type: ignore[index]
    for name, kind in SCHEDULES.items():
        assert kind.name == name
        assert kind.formula
        assert kind.source
        for p in kind.parameters:
            assert p.low <= p.default <= p.high
            assert p.meaning
