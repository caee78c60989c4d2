"""A schedule as torch's own scheduler class, for loops that step one; its shape is of ``tuner.catalog.schedules``."""

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

    As with torch's own, ``step()`` follows ``optimizer.step()``, and what the groups hold when the scheduler is made
    are the base values. ``LambdaLR`` cannot cycle a momentum; this can. ``schedule`` may be a function that returns
    one, which is asked before each update: a schedule that follows a metric changes on the way. Beyond the last of
    ``total_steps`` the last values stay.

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
        """The schedule as it stands."""
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
        """Set the groups for the update that leads from ``step`` to ``step + 1``, however often ``step()`` was called.

        Loops that skip a scheduler's step where float16 overflowed, or that measure after it, call this first.
        """
        self.last_epoch = step
        self._last_lr = self.get_lr()

    def measured(self, value: float) -> None:
        """Show a schedule that follows a metric what was measured after the steps so far; smaller is better.

        To other schedules it means nothing.

        Raises:
            ValueError: the schedule comes from a function, whose owner shows it what is measured; or no step was made.
        """
        if self._own is None:
            raise ValueError("the schedule comes from a function; expected that its owner shows it what is measured")
        self._own = self._own.after(min(self.last_epoch, self._total), self._total, value)
        self._last_lr = self.get_lr()

    def state_dict(self) -> dict[str, Any]:
        """Return the steps taken, and what the schedule remembers; it and the base values are those of this object."""
        remembered = None if self._own is None else self._own.state_json()
        return {"last_epoch": self.last_epoch, "_step_count": self._step_count, "schedule": remembered}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the steps that ``state_dict`` returned, and set the groups for the next update."""
        given = dict(state_dict)
        remembered = given.pop("schedule")
        if self._own is not None:
            self._own = self._own.with_state(remembered)
        self.__dict__.update(given)
        self._last_lr = self.get_lr()
