"""The schedules against torch's own scheduler classes and those of transformers."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import SGD
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from transformers.optimization import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_cosine_with_hard_restarts_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup,
    get_inverse_sqrt_schedule,
    get_linear_schedule_with_warmup,
    get_polynomial_decay_schedule_with_warmup,
    get_wsd_schedule,
)

from tuner.catalog.schedules import SCHEDULES, SIGNALS, WARMUP, WARMUP_SHAPES, WARMUP_START, Schedule
from tuner.core.errors import InputError
from tuner.core.values import Scalar

HORIZON = 120
WARM = 30
MOMENTUM = 0.95
Rates = list[tuple[float, float]]
Make = Callable[[SGD, int], LRScheduler]


def torch_rates(make: Make, steps: int) -> Rates:
    """Learning rate and momentum of every step, for a peak of 1 and the momentum ``MOMENTUM``."""
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=MOMENTUM)
    scheduler = make(optimizer, steps)
    rates = []
    for _ in range(steps):
        rates.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))
        optimizer.step()
        scheduler.step()
    return rates


def ours(setting: Mapping[str, Scalar], horizon: int = HORIZON) -> Rates:
    schedule = Schedule.of(setting)
    factors = [schedule.multipliers(step, horizon) for step in range(horizon)]
    return [(f.lr, MOMENTUM * (1.0 if f.momentum is None else f.momentum)) for f in factors]


def same(found: Rates, expected: Rates) -> None:
    assert len(found) == len(expected)
    for column in (0, 1):
        assert [row[column] for row in found] == pytest.approx([row[column] for row in expected], rel=0, abs=1e-7)


def wsd(optimizer: SGD, steps: int) -> LRScheduler:
    stable = round(steps * 0.75)
    parts = [ConstantLR(optimizer, 1.0, stable), LinearLR(optimizer, 1.0, 0.05, steps - stable)]
    return SequentialLR(optimizer, parts, [stable])


def one_cycle(rise: float, start: float, end: float, lowest: float) -> Make:
    def make(optimizer: SGD, n: int) -> LRScheduler:
        # Torch ends at step total_steps - 1 and peaks at pct_start * total_steps - 1; ours ends at step n (which
        # no update has any more) and peaks at rise * n.
        return OneCycleLR(
            optimizer,
            max_lr=1.0,
            total_steps=n + 1,
            pct_start=(rise * n + 1) / (n + 1),
            div_factor=1 / start,
            final_div_factor=start / end,
            base_momentum=MOMENTUM * lowest,
            max_momentum=MOMENTUM,
        )

    return make


def cyclic(cycles: int, base: float, lowest: float) -> Make:
    return lambda o, n: CyclicLR(
        o,
        base_lr=base,
        max_lr=1.0,
        step_size_up=n // (2 * cycles),
        base_momentum=MOMENTUM * lowest,
        max_momentum=MOMENTUM,
    )


ORACLES: dict[str, tuple[dict[str, Scalar], Make]] = {
    "constant": ({"kind": "constant"}, lambda o, n: ConstantLR(o, factor=1.0, total_iters=n)),
    "linear": (
        {"kind": "linear", "end_ratio": 0.1},
        lambda o, n: LinearLR(o, start_factor=1.0, end_factor=0.1, total_iters=n),
    ),
    "linear to 0": ({"kind": "linear"}, lambda o, n: LinearLR(o, start_factor=1.0, end_factor=0.0, total_iters=n)),
    "cosine": ({"kind": "cosine", "end_ratio": 0.02}, lambda o, n: CosineAnnealingLR(o, T_max=n, eta_min=0.02)),
    "cosine to 0": ({"kind": "cosine"}, lambda o, n: CosineAnnealingLR(o, T_max=n)),
    "polynomial": ({"kind": "polynomial"}, lambda o, n: PolynomialLR(o, total_iters=n, power=2.0)),
    "polynomial, 0.9": (
        {"kind": "polynomial", "power": 0.9},
        lambda o, n: PolynomialLR(o, total_iters=n, power=0.9),
    ),
    "exponential": ({"kind": "exponential"}, lambda o, n: ExponentialLR(o, gamma=0.01 ** (1 / n))),
    "exponential, steep": (
        {"kind": "exponential", "final_ratio": 1e-5},
        lambda o, n: ExponentialLR(o, gamma=1e-5 ** (1 / n)),
    ),
    "step": ({"kind": "step", "drops": 2, "gamma": 0.3}, lambda o, n: StepLR(o, step_size=n // 3, gamma=0.3)),
    "step, four drops": ({"kind": "step", "drops": 4}, lambda o, n: StepLR(o, step_size=n // 5, gamma=0.1)),
    "multistep": ({"kind": "multistep"}, lambda o, n: MultiStepLR(o, [n // 2, n * 3 // 4], gamma=0.1)),
    "multistep, late": (
        {"kind": "multistep", "first_drop": 0.7, "drop_spacing": 0.25, "drops": 3, "gamma": 0.2},
        lambda o, n: MultiStepLR(o, [math.ceil(n * m) for m in (0.7, 0.775, 0.83125)], gamma=0.2),
    ),
    "sgdr": ({"kind": "sgdr", "cycles": 4}, lambda o, n: CosineAnnealingWarmRestarts(o, T_0=n // 15, T_mult=2)),
    "sgdr, equal cycles": (
        {"kind": "sgdr", "cycles": 3, "cycle_growth": 1, "end_ratio": 0.1},
        lambda o, n: CosineAnnealingWarmRestarts(o, T_0=n // 3, T_mult=1, eta_min=0.1),
    ),
    "onecycle": ({"kind": "onecycle", "end_ratio": 4e-6}, one_cycle(0.3, 0.04, 4e-6, 0.85 / 0.95)),
    "onecycle, early": (
        {"kind": "onecycle", "rise": 0.1, "start_ratio": 0.2, "end_ratio": 0.05, "momentum_ratio": 0.5},
        one_cycle(0.1, 0.2, 0.05, 0.5),
    ),
    "cyclical": ({"kind": "cyclical"}, cyclic(3, 0.1, 0.85 / 0.95)),
    "cyclical, momentum alone": (
        {"kind": "cyclical", "cycles": 5, "base_ratio": 0.25, "momentum_ratio": 1},
        cyclic(5, 0.25, 1.0),
    ),
    "wsd": ({"kind": "wsd", "decay_fraction": 0.25, "end_ratio": 0.05}, wsd),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter")
@pytest.mark.filterwarnings("ignore:To get the last learning rate")
@pytest.mark.parametrize("name", ORACLES)
class TestAsInTorch:
    def test_without_warm_up(self, name: str) -> None:
        setting, make = ORACLES[name]
        same(ours(setting), torch_rates(make, HORIZON))

    def test_after_a_warm_up(self, name: str) -> None:
        # Torch can nest neither a SequentialLR nor a scheduler that sets the momentum in a SequentialLR, so its
        # two curves are joined here: the warm-up leads to where the schedule begins.
        setting, make = ORACLES[name]
        later = torch_rates(make, HORIZON)
        rise = torch_rates(lambda o, n: LinearLR(o, WARMUP_START, 1.0, n), WARM)
        expected = [(lr * later[0][0], later[0][1]) for lr, _ in rise] + later
        same(ours({**setting, "warmup": WARM / (WARM + HORIZON)}, WARM + HORIZON), expected)


TRANSFORMERS: dict[str, tuple[dict[str, Scalar], Callable[[SGD, int, int], LRScheduler]]] = {
    "constant": ({"kind": "constant"}, lambda o, w, n: get_constant_schedule_with_warmup(o, w)),
    "linear": ({"kind": "linear"}, get_linear_schedule_with_warmup),
    "cosine": ({"kind": "cosine"}, get_cosine_schedule_with_warmup),
    "cosine to a tenth": (
        {"kind": "cosine", "end_ratio": 0.1},
        lambda o, w, n: get_cosine_with_min_lr_schedule_with_warmup(o, w, n, min_lr_rate=0.1),
    ),
    "polynomial": (
        {"kind": "polynomial", "power": 1.5, "end_ratio": 0.1},
        lambda o, w, n: get_polynomial_decay_schedule_with_warmup(o, w, n, lr_end=0.1, power=1.5),
    ),
    "sgdr": (
        {"kind": "sgdr", "cycles": 4, "cycle_growth": 1},
        lambda o, w, n: get_cosine_with_hard_restarts_schedule_with_warmup(o, w, n, num_cycles=4),
    ),
    "inverse-sqrt": (
        {"kind": "inverse-sqrt", "timescale": 0.1},
        lambda o, w, n: get_inverse_sqrt_schedule(o, w, timescale=(n - w) // 10),
    ),
    "inverse-sqrt, as long as the warm-up": (
        {"kind": "inverse-sqrt", "timescale": WARM / HORIZON},
        lambda o, w, n: get_inverse_sqrt_schedule(o, w, timescale=WARM),
    ),
} | {
    f"{kind}, {end:g}": (
        {"kind": kind, "decay_fraction": 0.35, "end_ratio": end},
        lambda o, w, n, decay=decay, end=end: get_wsd_schedule(
            o, w, round(0.35 * (n - w)), n, decay_type=decay, min_lr_ratio=end
        ),
    )
    for kind, decay in {"wsd": "linear", "wsd-cosine": "cosine", "wsd-sqrt": "1-sqrt"}.items()
    for end in (0.0, 0.2)
}


@pytest.mark.parametrize("name", TRANSFORMERS)
class TestAsInTransformers:
    def test_without_warm_up(self, name: str) -> None:
        setting, make = TRANSFORMERS[name]
        same(ours(setting), torch_rates(lambda o, n: make(o, 0, n), HORIZON))

    def test_after_a_warm_up(self, name: str) -> None:
        # A warm-up of transformers begins at 0 (a step that does nothing), ours at WARMUP_START.
        setting, make = TRANSFORMERS[name]
        expected = torch_rates(lambda o, n: make(o, WARM, n), WARM + HORIZON)
        found = ours({**setting, "warmup": WARM / (WARM + HORIZON)}, WARM + HORIZON)
        same(found[WARM:], expected[WARM:])


class TestWarmUps:
    @pytest.mark.parametrize("shape", ["linear", "cosine"])
    def test_as_in_transformers(self, shape: str) -> None:
        # With an end of WARMUP_START the warm-up of this one schedule begins there too.
        setting = {"kind": "wsd", "end_ratio": WARMUP_START, "warmup": 0.2, "warmup_shape": shape}
        expected = torch_rates(
            lambda o, n: get_wsd_schedule(
                o, 30, 24, n, warmup_type=shape, decay_type="linear", min_lr_ratio=WARMUP_START
            ),
            150,
        )
        same(ours(setting, 150), expected)

    def test_exponential_as_in_torch(self) -> None:
        rise = torch_rates(lambda o, n: ExponentialLR(o, gamma=(1 / WARMUP_START) ** (1 / n)), WARM)
        found = ours({"kind": "constant", "warmup": 0.25, "warmup_shape": "exponential"})
        same(found, [(WARMUP_START * lr, m) for lr, m in rise] + [(1.0, MOMENTUM)] * (HORIZON - WARM))

    @pytest.mark.parametrize("shape", WARMUP_SHAPES)
    def test_ends(self, shape: str) -> None:
        assert WARMUP_SHAPES[shape](0.0, 0.3) == pytest.approx(WARMUP_START, abs=1e-15)
        assert WARMUP_SHAPES[shape](0.3, 0.3) == pytest.approx(1.0, abs=1e-15)

    def test_the_shapes_are_frozen(self) -> None:
        assert list(WARMUP_SHAPES) == ["linear", "cosine", "exponential"]
        with pytest.raises(TypeError):
            WARMUP_SHAPES["mine"] = WARMUP_SHAPES["linear"]  # type: ignore[index]


def settings_of(kind: str) -> st.SearchStrategy[dict[str, Scalar]]:
    values: dict[str, st.SearchStrategy[Any]] = {
        "kind": st.just(kind),
        "warmup_shape": st.sampled_from([*WARMUP_SHAPES]),
    }
    if SCHEDULES[kind].follows_metric:
        values["signal"] = st.sampled_from(SIGNALS)
    for p in (*SCHEDULES[kind].parameters, WARMUP):
        whole = st.integers(int(p.low), int(p.high))
        values[p.name] = whole if p.integer else st.floats(p.low, p.high)
    return st.fixed_dictionaries(values)


ANY = st.sampled_from(list(SCHEDULES)).flatmap(settings_of)
UP_AND_DOWN = ("sgdr", "onecycle", "cyclical")


@given(ANY, st.integers(1, 300))
@settings(max_examples=300, deadline=None)
def test_every_setting_stays_between_zero_and_the_peak(setting: dict[str, Scalar], horizon: int) -> None:
    schedule = Schedule.of(setting)
    factors = [schedule.multipliers(step, horizon) for step in range(horizon)]
    rates = [f.lr for f in factors]
    assert all(0.0 <= rate <= 1.0 + 1e-12 and math.isfinite(rate) for rate in rates)
    momenta = [f.momentum for f in factors if f.momentum is not None]
    assert len(momenta) == (horizon if "momentum_ratio" in setting else 0)
    assert all(float(setting["momentum_ratio"]) - 1e-12 <= momentum <= 1.0 + 1e-12 for momentum in momenta)
    peak = math.ceil(float(setting["warmup"]) * horizon)
    rising, falling = rates[:peak], rates[peak:]
    assert all(b >= a for a, b in itertools.pairwise(rising))
    if setting["kind"] not in UP_AND_DOWN:
        assert all(b <= a + 1e-12 for a, b in itertools.pairwise(falling))


@given(ANY, st.integers(1, 100), st.integers(2, 7))
@settings(max_examples=150, deadline=None)
def test_another_horizon_is_the_same_curve(setting: dict[str, Scalar], horizon: int, factor: int) -> None:
    schedule = Schedule.of(setting)
    for step in range(horizon):
        long = schedule.multipliers(step * factor, horizon * factor)
        assert schedule.multipliers(step, horizon) == long


@given(ANY)
@settings(max_examples=100, deadline=None)
def test_the_setting_builds_the_same_schedule(setting: dict[str, Scalar]) -> None:
    schedule = Schedule.of(setting)
    assert schedule.setting == setting
    assert Schedule.of(json.loads(json.dumps(schedule.setting))) == schedule


def test_a_setting_is_completed_with_the_defaults() -> None:
    assert Schedule.of({"kind": "plateau", "factor": 0.5}).setting == {
        "kind": "plateau",
        "factor": 0.5,
        "patience": 0.1,
        "threshold": 1e-4,
        "min_ratio": 0.0,
        "warmup": 0.0,
        "warmup_shape": "linear",
        "signal": "train_loss",
    }


@pytest.mark.parametrize("growth", [1.0, 1.0 + 1e-12, 1.37, 2.0, 3.0])
@pytest.mark.parametrize("cycles", [1, 2, 5, 7])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 1 / 3])
def test_the_cycles_of_sgdr_begin_at_the_peak_and_end_at_the_horizon(growth: float, cycles: int, warmup: float) -> None:
    setting = {"kind": "sgdr", "cycles": cycles, "cycle_growth": growth, "warmup": warmup}
    rates = [lr for lr, _ in ours(setting, 6000)][round(6000 * warmup) :]
    restarts = [t for t in range(1, len(rates)) if rates[t] > rates[t - 1]]
    lengths = [b - a for a, b in itertools.pairwise([0, *restarts, len(rates)])]
    total = sum(growth**i for i in range(cycles))
    assert lengths == pytest.approx([len(rates) * growth**i / total for i in range(cycles)], abs=2)
    assert rates[-1] < 1e-3


@pytest.mark.parametrize("cycles", range(1, 11))
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.3])
def test_cycles_that_begin_on_a_step_are_not_missed(cycles: int, warmup: float) -> None:
    horizon = 70 * cycles
    length = 70 - round(70 * warmup)
    begins = [horizon - length * i for i in range(cycles, 0, -1)]
    common = {"cycles": cycles, "warmup": warmup}
    restarting = [lr for lr, _ in ours({"kind": "sgdr", "cycle_growth": 1, **common}, horizon)]
    turning = [lr for lr, _ in ours({"kind": "cyclical", "base_ratio": 0, **common}, horizon)]
    assert [t for t in range(begins[0], horizon) if restarting[t] == 1.0] == begins
    assert [t for t in range(begins[0], horizon) if turning[t] < 1e-9] == begins


def test_the_root_of_a_rounding_error_is_no_decay() -> None:
    for warm in range(101):
        setting = {"kind": "wsd-sqrt", "decay_fraction": 0.01, "warmup": warm / (warm + 100)}
        assert Schedule.of(setting).multipliers(warm + 99, warm + 100).lr == 1.0


@pytest.mark.parametrize("step", [-1, 10, 11])
def test_steps_outside_of_the_horizon_are_refused(step: int) -> None:
    with pytest.raises(ValueError, match="step is"):
        Schedule.of({"kind": "cosine"}).multipliers(step, 10)


# -- reduce on plateau

VALUES = st.one_of(st.floats(0.01, 10.0), st.sampled_from([0.5, 0.4999, 0.49995, 1.0, 1.00005, 2.0]), st.just(math.nan))
PLATEAUS = st.fixed_dictionaries(
    {
        "factor": st.floats(0.05, 0.95),
        "threshold": st.one_of(st.just(1e-4), st.floats(0.0, 0.5)),
        "min_ratio": st.one_of(st.just(0.0), st.floats(0.0, 1.0)),
    }
)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("warm", [0, 4])
@given(st.lists(VALUES, max_size=40), st.integers(1, 5), st.integers(0, 4), PLATEAUS)
@settings(max_examples=150, deadline=None)
def test_plateau_as_in_torch(
    mode: str, warm: int, values: list[float], every: int, patience: int, numbers: dict[str, float]
) -> None:
    horizon = every * (2 * warm + len(values) + 1)
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = ReduceLROnPlateau(
        optimizer,
        mode,  # type: ignore[arg-type]
        factor=numbers["factor"],
        patience=patience,
        threshold=numbers["threshold"],
        min_lr=numbers["min_ratio"],
        eps=0.0,
    )
    shares = {"patience": min(1.0, patience * every / horizon), "warmup": warm * every / horizon}
    schedule = Schedule.of({"kind": "plateau", **numbers, **shares})
    # The value at the very end of the warm-up is the first that counts; torch is shown no other.
    before, counted = [0.02] * (warm - 1), [1.0, *values]
    for number, value in enumerate(before + counted, start=1):
        step = number * every
        schedule = schedule.after(step, horizon, value if mode == "min" else -value)
        if number > len(before):
            scheduler.step(value)
            if step < horizon:
                rate = optimizer.param_groups[0]["lr"]
                assert schedule.multipliers(step, horizon).lr == pytest.approx(rate, rel=0, abs=1e-7)


class TestPlateau:
    def seen(self, losses: list[float], every: int = 10, horizon: int = 200, **numbers: Scalar) -> Schedule:
        schedule = Schedule.of({"kind": "plateau", "patience": 0.1, "factor": 0.5, **numbers})
        for number, loss in enumerate(losses, start=1):
            schedule = schedule.after(number * every, horizon, loss)
        return schedule

    def test_it_waits_for_a_share_of_the_horizon_however_often_one_measures(self) -> None:
        # 20 steps are waited, from the first measurement on; the next measurement after them reduces.
        for every, reduced_at in {1: 22, 2: 24, 5: 30, 10: 40, 15: 45}.items():
            count = reduced_at // every
            assert self.seen([1.0] * (count - 1), every).multipliers(100, 200).lr == 1.0
            assert self.seen([1.0] * count, every).multipliers(100, 200).lr == 0.5

    def test_the_frozen_schedule_stays_as_it_was(self) -> None:
        before = self.seen([1.0, 1.0, 1.0])
        after = before.after(40, 200, 1.0)
        assert (before.multipliers(40, 200).lr, after.multipliers(40, 200).lr) == (1.0, 0.5)

    def test_values_from_inside_the_warm_up_are_not_looked_at(self) -> None:
        schedule = self.seen([0.1] * 9, warmup=0.5)
        assert schedule == Schedule.of(schedule.setting)
        assert schedule.after(100, 200, 2.0).state_json() == {"ratio": 1.0, "best": 2.0, "since": 100}

    def test_values_that_are_not_finite_are_no_improvement(self) -> None:
        assert self.seen([math.nan] * 9).state_json() == {"ratio": 1.0, "best": None, "since": 0}
        schedule = self.seen([3.0, math.nan, -math.inf, math.inf])
        assert schedule.state_json() == {"ratio": 0.5, "best": 3.0, "since": 40}

    def test_a_value_around_zero(self) -> None:
        assert self.seen([0.0, 0.0, 0.0, 0.0]).multipliers(50, 200).lr == 0.5
        assert self.seen([0.0, 0.0, 0.0, -0.01]).multipliers(50, 200).lr == 1.0
        assert self.seen([-1.0, -1.00001, -1.00002, -1.00003]).multipliers(50, 200).lr == 0.5
        assert self.seen([-1.0, -1.001, -1.002, -1.003]).multipliers(50, 200).lr == 1.0

    @given(st.lists(st.floats(-10, 10), max_size=30), st.integers(0, 30))
    @settings(max_examples=50, deadline=None)
    def test_it_continues_from_its_json(self, losses: list[float], cut: int) -> None:
        first = self.seen(losses[:cut], every=5)
        again = Schedule.of(first.setting).with_state(json.loads(json.dumps(first.state_json())))
        assert again == first
        for number, loss in enumerate(losses[cut:], start=cut + 1):
            first, again = first.after(number * 5, 200, loss), again.after(number * 5, 200, loss)
        assert again == first

    def test_a_state_of_another_kind_is_refused(self) -> None:
        with pytest.raises(ValueError, match="expected a state for schedule 'plateau'"):
            Schedule.of({"kind": "plateau"}).with_state(None)
        with pytest.raises(ValueError, match="expected no state for schedule 'cosine'"):
            Schedule.of({"kind": "cosine"}).with_state({"ratio": 1.0, "best": None, "since": 0})

    @pytest.mark.parametrize("step", [0, -1, 11])
    def test_steps_outside_of_the_horizon_are_refused(self, step: int) -> None:
        with pytest.raises(ValueError, match=f"step is {step}; expected 0 < step <= 10"):
            Schedule.of({"kind": "plateau"}).after(step, 10, 1.0)


@pytest.mark.parametrize("name", [name for name, kind in SCHEDULES.items() if not kind.follows_metric])
def test_a_kind_without_state_returns_itself(name: str) -> None:
    schedule = Schedule.of({"kind": name})
    assert schedule.after(10, 20, 1.0) is schedule
    assert schedule.state_json() is None
    assert schedule.with_state(None) is schedule


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({}, "schedule kind is ''; expected one of constant"),
        ({"kind": "cosin"}, "'cosin'"),
        ({"kind": "cosine", "gamma": 0.5}, "no parameter 'gamma'; expected one of end_ratio, warmup, warmup_shape"),
        ({"kind": "cosine", "signal": "validation"}, "no parameter 'signal'"),
        ({"kind": "cosine", "end_ratio": 2}, "end_ratio is 2; expected 0 to 1"),
        ({"kind": "cosine", "warmup": 0.9}, "warmup is 0.9; expected 0 to 0.5"),
        ({"kind": "cosine", "warmup": "0.1"}, "warmup is '0.1'; expected a number"),
        ({"kind": "cosine", "warmup": True}, "warmup is True; expected a number"),
        ({"kind": "cosine", "warmup": math.nan}, "warmup is nan; expected a number"),
        ({"kind": "cosine", "warmup_shape": "sine"}, "warmup_shape is 'sine'; expected one of linear, cosine"),
        ({"kind": "cosine", "warmup_shape": 1}, "warmup_shape is 1; expected one of linear"),
        ({"kind": "step", "drops": 1.5}, "drops is 1.5; expected a whole number"),
        ({"kind": "sgdr", "cycles": 2.5}, "cycles is 2.5; expected a whole number"),
        ({"kind": "wsd", "decay_fraction": 0.0}, "decay_fraction is 0; expected 0.01 to 1"),
        ({"kind": "exponential", "final_ratio": 0.0}, "final_ratio is 0; expected 1e-06 to 1"),
        ({"kind": "plateau", "signal": "test"}, "signal is 'test'; expected one of train_loss, validation"),
    ],
)
def test_wrong_settings(setting: dict[str, Scalar], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Schedule.of(setting)


def test_the_table_is_frozen_and_complete() -> None:
    judged = {str(setting["kind"]) for setting, _ in (*ORACLES.values(), *TRANSFORMERS.values())}
    assert set(SCHEDULES) == {*judged, "plateau"}
    assert len(SCHEDULES) == 15
    with pytest.raises(TypeError):
        SCHEDULES["mine"] = SCHEDULES["step"]  # type: ignore[index]
    for name, kind in SCHEDULES.items():
        assert kind.name == name
        assert kind.formula
        assert kind.source
        assert kind.meaning
        assert bool(kind.note) == kind.follows_metric
        for p in kind.parameters:
            assert p.low <= p.default <= p.high
            assert p.meaning


def test_a_name_is_one_parameter_whichever_kinds_share_it() -> None:
    parameters = [p for kind in SCHEDULES.values() for p in (*kind.parameters, WARMUP)]
    assert len({p.name for p in parameters}) == len({id(p) for p in parameters})
    shared = {p.name for p in parameters if sum(q is p for q in parameters) > 1}
    assert shared == {"warmup", "end_ratio", "drops", "gamma", "cycles", "momentum_ratio", "decay_fraction"}
