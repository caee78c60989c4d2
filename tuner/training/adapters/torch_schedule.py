"""A schedule as a torch ``LRScheduler``, for loops that step one. The schedules are in ``tuner.catalog.schedules``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from tuner.catalog.schedules import Schedule
from tuner.training.optimizers.bundle import MAIN, Bundle


@final
class ScheduleLR(LRScheduler):
    """Sets learning rate and momentum (or beta1) of every param group from a schedule's multipliers.

    As with torch's schedulers, call ``step()`` after ``optimizer.step()``; the values in the groups when the scheduler
    is made are the base values. Unlike ``LambdaLR`` it can cycle a momentum. After ``total_steps`` the values stay.

    Args:
        optimizer: its param groups are set.
        schedule: the schedule; or a function that returns it and is called before each update, for a schedule that
            follows a metric and so changes during training.
        total_steps: the run's length in optimizer steps.

    >>> import torch
    >>> sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    >>> scheduler = ScheduleLR(sgd, Schedule.of({"kind": "linear"}), total_steps=4)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates.append(round(scheduler.get_last_lr()[0], 3))
    ...     sgd.step()
    ...     scheduler.step()
    >>> rates
    [0.1, 0.075, 0.05, 0.025, 0.025]
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, schedule: Schedule | Callable[[], Schedule], total_steps: int
    ) -> None:
        self._own = schedule if isinstance(schedule, Schedule) else None
        self._ask = schedule if not isinstance(schedule, Schedule) else None
        self._total = total_steps
        self._groups = Bundle({MAIN: optimizer})
        super().__init__(optimizer)

    @property
    def schedule(self) -> Schedule:
        """The schedule in its current state."""
        if self._ask is not None:
            return self._ask()
        assert self._own is not None
        return self._own

    def get_lr(self) -> list[float | Tensor]:
        """Set the groups for the next update, momentum included, and return their learning rates."""
        step = min(max(self.last_epoch, 0), self._total - 1)
        self._groups.apply(self.schedule.multipliers(step, self._total))
        return [group["lr"] for group in self.optimizer.param_groups]

    def seek(self, step: int) -> None:
        """Set the groups for the update from ``step`` to ``step + 1``, however often ``step()`` was called.

        For loops that skip the scheduler's step when float16 overflows, or that evaluate after it.
        """
        self.last_epoch = step
        self._last_lr = self.get_lr()

    def measured(self, value: float) -> None:
        """Give the value of a metric after the steps so far to a schedule that follows it; smaller is better.

        Other schedules ignore it.

        Raises:
            ValueError: the schedule comes from a function, whose owner gives it the metric; or no step was made.
        """
        if self._own is None:
            raise ValueError(
                "the schedule comes from a function; expected a Schedule. Give the value to the function's owner."
            )
        self._own = self._own.after(min(self.last_epoch, self._total), self._total, value)
        self._last_lr = self.get_lr()

    def state_dict(self) -> dict[str, Any]:
        """Return the number of steps and the schedule's state, without the schedule itself and the base values."""
        schedule_state = None if self._own is None else self._own.state_json()
        return {"last_epoch": self.last_epoch, "_step_count": self._step_count, "schedule": schedule_state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what ``state_dict`` returned, and set the groups for the next update."""
        counts = dict(state_dict)
        schedule_state = counts.pop("schedule")
        if self._own is not None:
            self._own = self._own.with_state(schedule_state)
        self.__dict__.update(counts)
        self._last_lr = self.get_lr()
