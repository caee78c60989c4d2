"""The optimizers of one run behind one face; it knows no family and no schedule by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch

from tuner.schedules import Multipliers

MAIN = "main"
"""The name of a model's optimizer where it has only one."""

_Base = tuple[float, float | None]


@final
class Bundle:
    """One or more named torch optimizers that are stepped, switched, saved and scheduled together.

    Names are dotted: ``main`` and ``partner`` for one model, ``generator``, ``generator.partner`` and
    ``discriminator`` for two. ``bundle["generator"]`` is the bundle of that model's optimizers alone.
    The learning rate and the momentum that a param group was built with are its base values: a schedule's
    multipliers act on them, so groups may have learning rates of their own.
    """

    def __init__(self, parts: Mapping[str, torch.optim.Optimizer]) -> None:
        assert parts, "a bundle needs at least one optimizer"
        self.parts = dict(parts)
        self._base = {name: [_base(group) for group in part.param_groups] for name, part in self.parts.items()}

    def __getitem__(self, name: str) -> Bundle:
        """Return the optimizers of that name and those below it; they stay under this bundle's schedule.

        Raises:
            KeyError: there are none.
        """
        inside = {key: part for key, part in self.parts.items() if key == name or key.startswith(f"{name}.")}
        if not inside:
            raise KeyError(f"no optimizer is named {name!r}; there are {', '.join(self.parts)}")
        view = Bundle.__new__(Bundle)
        view.parts, view._base = inside, {key: self._base[key] for key in inside}
        return view

    @property
    def learning_rate(self) -> float:
        """The learning rate of the first group, with the schedule's factor in it."""
        return float(next(iter(self.parts.values())).param_groups[0]["lr"])

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self.parts.values():
            part.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Update the parameters once."""
        for part in self.parts.values():
            part.step()

    def train(self) -> None:
        """Switch to the weights that are trained, for optimizers that keep others for evaluation."""
        self._switch("train")

    def eval(self) -> None:
        """Switch to the weights that are evaluated."""
        self._switch("eval")

    def _switch(self, mode: str) -> None:
        for part in self.parts.values():
            switch = getattr(part, mode, None)
            if switch is not None:
                switch()

    def apply(self, multipliers: Multipliers) -> None:
        """Set every group's learning rate, and its momentum or beta1 where one is scheduled, for the next update."""
        for name, part in self.parts.items():
            for group, (lr, momentum) in zip(part.param_groups, self._base[name], strict=True):
                group["lr"] = lr * multipliers.lr
                if multipliers.momentum is None or momentum is None:
                    continue
                if "momentum" in group:
                    group["momentum"] = momentum * multipliers.momentum
                else:
                    group["betas"] = (momentum * multipliers.momentum, *group["betas"][1:])

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every part under its name."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned; the base values stay those that this bundle was built with."""
        if set(state) != set(self.parts):
            raise ValueError(f"the state has the parts {sorted(state)}; expected {sorted(self.parts)}")
        for name, part in self.parts.items():
            part.load_state_dict(state[name])


def _base(group: Mapping[str, Any]) -> _Base:
    if "momentum" in group:
        return float(group["lr"]), float(group["momentum"])
    return float(group["lr"]), float(group["betas"][0]) if "betas" in group else None
