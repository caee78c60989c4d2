"""The optimizers of one run, stepped together: accumulate, scale, clip, step; no family is treated by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from tuner.catalog.schedules import Multipliers
from tuner.catalog.training_options import complete
from tuner.core.errors import Place, WorkloadError, wrong
from tuner.core.values import Scalar

MAIN = "main"
"""The name of a model's optimizer where there is only one model."""

_Base = tuple[float, float | None]


@final
class Bundle:
    """One torch optimizer for each named model; they are stepped, switched, saved and scheduled together.

    A single model's is named ``main``; a GAN's two are ``generator`` and ``discriminator``, and
    ``bundle["generator"]`` is the bundle of that one alone. Accumulation, clipping and (for float16) loss scaling
    happen in ``backward`` and ``step``. The learning rate and the momentum that a param group was built with
    are its base values: a schedule's multipliers act on them, so groups may have learning rates of their own.
    """

    def __init__(
        self,
        parts: Mapping[str, torch.optim.Optimizer],
        training: Mapping[str, Scalar] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        assert parts, "a bundle needs at least one optimizer"
        values, place = complete(training or {}), torch.device(device)
        self._steppers = {name: _Stepper(part, values, place) for name, part in parts.items()}
        self._alone = len(parts) == 1
        self.train()

    def __getitem__(self, name: str) -> Bundle:
        """Return the bundle of that optimizer alone; this bundle's schedule still sets its rate.

        Raises:
            KeyError: there is no optimizer of that name.
        """
        if name not in self._steppers:
            raise KeyError(f"no optimizer is named {name!r}; expected one of {', '.join(self._steppers)}")
        view = Bundle.__new__(Bundle)
        view._steppers, view._alone = {name: self._steppers[name]}, self._alone
        return view

    @property
    def parts(self) -> dict[str, torch.optim.Optimizer]:
        """The torch optimizers by name."""
        return {name: stepper.optimizer for name, stepper in self._steppers.items()}

    @property
    def pending(self) -> bool:
        """Whether an accumulation has begun and is not complete."""
        return any(stepper.pending for stepper in self._steppers.values())

    @property
    def updates(self) -> int:
        """How often the parameters have been updated since the bundle was built."""
        return max(stepper.updates for stepper in self._steppers.values())

    @property
    def learning_rate(self) -> float:
        """The learning rate of the first group, with the schedule's factor in it."""
        return float(next(iter(self._steppers.values())).optimizer.param_groups[0]["lr"])

    def zero_grad(self) -> None:
        """Set the gradients to None; within an accumulation they are kept."""
        for stepper in self._steppers.values():
            if not stepper.pending:
                stepper.forget()

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradients to those of this bundle's parameters, and to no others.

        The loss is divided by the batches of an accumulation, and scaled for float16.
        """
        for stepper in self._steppers.values():
            stepper.backward(loss, retain=len(self._steppers) > 1, alone=self._alone)

    def step(self) -> bool:
        """Update the parameters once: unscale, clip, step. With ``accumulation: n``, every n-th call updates.

        Returns:
            Whether the parameters were updated.

        Raises:
            WorkloadError: float16 or accumulation, and ``backward`` was not used.
        """
        return [stepper.step() for stepper in self._steppers.values()][-1]

    def train(self) -> None:
        """Switch to the weights that are trained, for optimizers that keep others for evaluation."""
        self._switch("train")

    def eval(self) -> None:
        """Switch to the weights that are evaluated."""
        self._switch("eval")

    @property
    def switches(self) -> bool:
        """Whether other weights are evaluated than trained."""
        return any(hasattr(stepper.optimizer, "eval") for stepper in self._steppers.values())

    def _switch(self, mode: str) -> None:
        for stepper in self._steppers.values():
            switch = getattr(stepper.optimizer, mode, None)
            if switch is not None:
                switch()

    def apply(self, multipliers: Multipliers) -> None:
        """Set every group's learning rate, and its momentum or beta1 where one is scheduled, for the next update."""
        for stepper in self._steppers.values():
            for group, (lr, momentum) in zip(stepper.optimizer.param_groups, stepper.base, strict=True):
                group["lr"] = lr * multipliers.lr
                if multipliers.momentum is None or momentum is None:
                    continue
                if "momentum" in group:
                    group["momentum"] = momentum * multipliers.momentum
                else:
                    group["betas"] = (momentum * multipliers.momentum, *group["betas"][1:])

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every part under its name."""
        return {name: stepper.state_dict() for name, stepper in self._steppers.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what ``state_dict`` returned; learning rate and momentum before any schedule stay this bundle's own."""
        if set(state) != set(self._steppers):
            raise ValueError(f"the state has the parts {sorted(state)}; expected {sorted(self._steppers)}")
        for name, stepper in self._steppers.items():
            stepper.load_state_dict(state[name])


class _Stepper:
    """One optimizer, with the accumulation, loss scaling and clipping before its update."""

    def __init__(self, optimizer: torch.optim.Optimizer, training: Mapping[str, Scalar], device: torch.device) -> None:
        self.optimizer = optimizer
        self.base = [_base(group) for group in optimizer.param_groups]
        self._params: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
        self._clip_norm, self._clip_value = float(training["clip_norm"]), float(training["clip_value"])
        self._accumulation = int(training["accumulation"])
        self._scaler = torch.amp.GradScaler(device.type) if training["precision"] == "float16" else None
        self._calls = self.updates = 0
        self._heard = False

    @property
    def pending(self) -> bool:
        """Whether an accumulation has begun and is not complete."""
        return self._calls % self._accumulation != 0

    def forget(self) -> None:
        # What zero_grad of every torch optimizer does, without the profiler's and the compiler's wrappers: 1 us for 19.
        for group in self.optimizer.param_groups:
            for p in group["params"]:
                p.grad = None

    def backward(self, loss: Tensor, retain: bool, alone: bool) -> None:
        if self._accumulation > 1:
            loss = loss / self._accumulation
        if self._scaler is not None:
            loss = self._scaler.scale(loss)
        self._heard = True
        torch.autograd.backward(loss, inputs=None if alone else self._params, retain_graph=retain)

    def step(self) -> bool:
        if not self._heard and (self._scaler is not None or self._accumulation > 1):
            what = "steps on gradients that bundle.backward did not make, with accumulation or float16"
            todo = "Call bundle.backward(loss) instead of loss.backward()."
            raise WorkloadError(wrong(Place("the training step"), what, "gradients that are divided and scaled", todo))
        self._heard = False
        self._calls += 1
        if self.pending:
            return False
        self.updates += 1
        if self._scaler is None:
            self._clip()
            self.optimizer.step()
            return True
        if self._clip_norm or self._clip_value:
            self._scaler.unscale_(self.optimizer)
            self._clip()
        self._scaler.step(self.optimizer)
        self._scaler.update()
        return True

    def _clip(self) -> None:
        if self._clip_norm:
            nn.utils.clip_grad_norm_(self._params, self._clip_norm)
        if self._clip_value:
            nn.utils.clip_grad_value_(self._params, self._clip_value)

    def state_dict(self) -> dict[str, Any]:
        scaler = self._scaler.state_dict() if self._scaler is not None else None
        return {"optimizer": self.optimizer.state_dict(), "scaler": scaler, "calls": self._calls}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self._calls = state["calls"]
        if self._scaler is not None:
            self._scaler.load_state_dict(state["scaler"])


def _base(group: Mapping[str, Any]) -> _Base:
    if "momentum" in group:
        return float(group["lr"]), float(group["momentum"])
    return float(group["lr"]), float(group["betas"][0]) if "betas" in group else None
