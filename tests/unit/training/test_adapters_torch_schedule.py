from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tuner.catalog.schedules import SCHEDULES, Schedule
from tuner.training.adapters.torch_schedule import ScheduleLR

STEPS = 20


def sgd() -> torch.optim.Optimizer:
    groups = [{"params": nn.Linear(2, 2).parameters()}, {"params": nn.Linear(2, 2).parameters(), "lr": 0.01}]
    return torch.optim.SGD(groups, lr=0.1, momentum=0.8)


def adamw() -> torch.optim.Optimizer:
    return torch.optim.AdamW(nn.Linear(2, 2).parameters(), lr=0.1, betas=(0.8, 0.99))


def rates(optimizer: torch.optim.Optimizer) -> list[tuple[float, float]]:
    return [(g["lr"], g["momentum"] if "momentum" in g else g["betas"][0]) for g in optimizer.param_groups]


def run(optimizer: torch.optim.Optimizer, scheduler: ScheduleLR, steps: int) -> list[Any]:
    seen = []
    for _ in range(steps):
        seen.append(rates(optimizer))
        assert scheduler.get_last_lr() == [lr for lr, _ in seen[-1]]
        optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize("make", [sgd, adamw])
@pytest.mark.parametrize("kind", SCHEDULES)
def test_every_group_follows_the_schedule_from_its_own_values(kind: str, make: Any) -> None:
    schedule, optimizer = Schedule.of({"kind": kind, "warmup": 0.1}), make()
    base = rates(optimizer)
    seen = run(optimizer, ScheduleLR(optimizer, schedule, STEPS), STEPS)
    for step, groups in enumerate(seen):
        factors = schedule.multipliers(step, STEPS)
        momentum = 1.0 if factors.momentum is None else factors.momentum
        assert groups == [pytest.approx((lr * factors.lr, m * momentum), rel=1e-12) for lr, m in base]


@pytest.mark.parametrize("make", [sgd, adamw])
def test_it_goes_on_from_its_state(make: Any) -> None:
    schedule = Schedule.of({"kind": "onecycle"})
    whole = make()
    expected = run(whole, ScheduleLR(whole, schedule, STEPS), STEPS + 3)
    assert expected[STEPS:] == [expected[STEPS - 1]] * 3
    first, second = make(), make()
    scheduler, other = ScheduleLR(first, schedule, STEPS), ScheduleLR(second, schedule, STEPS)
    run(first, scheduler, 7)
    other.load_state_dict(scheduler.state_dict())
    assert run(second, other, STEPS - 7) == expected[7:STEPS]
    second.load_state_dict(first.state_dict())  # replaces the groups
    other.load_state_dict(scheduler.state_dict())
    assert run(second, other, STEPS - 7) == expected[7:STEPS]


def test_a_schedule_that_changes_on_the_way_is_asked_at_each_step() -> None:
    optimizer, factor = adamw(), [1.0]
    now = {1.0: Schedule.of({"kind": "constant"}), 0.5: Schedule.of({"kind": "linear"})}
    scheduler = ScheduleLR(optimizer, lambda: now[factor[0]], STEPS)
    run(optimizer, scheduler, 10)
    factor[0] = 0.5
    scheduler.seek(10)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)


def test_a_plateau_is_shown_what_was_measured_and_remembers_it() -> None:
    optimizer, losses = adamw(), [1.0, 0.9, 0.9, 0.9, 0.9, 0.9]
    schedule = Schedule.of({"kind": "plateau", "patience": 0.1, "factor": 0.5})
    scheduler, follows = ScheduleLR(optimizer, schedule, STEPS), schedule
    for step, loss in enumerate(losses, start=1):
        run(optimizer, scheduler, 1)
        scheduler.measured(loss)
        follows = follows.after(step, STEPS, loss)
        assert optimizer.param_groups[0]["lr"] == 0.1 * follows.multipliers(step, STEPS).lr
    assert optimizer.param_groups[0]["lr"] < 0.1
    other = ScheduleLR(adamw(), schedule, STEPS)
    other.load_state_dict(scheduler.state_dict())
    assert other.get_last_lr() == scheduler.get_last_lr()
    assert other.schedule == scheduler.schedule


def test_what_comes_from_a_function_is_shown_nothing() -> None:
    scheduler = ScheduleLR(adamw(), lambda: Schedule.of({"kind": "plateau"}), STEPS)
    with pytest.raises(ValueError, match="comes from a function"):
        scheduler.measured(1.0)
