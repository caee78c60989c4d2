"""Which parameter lands in which param group, for each arm's default; builds the model, trains nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tuner.config.spec import StudySpec
from tuner.core.records import Setting

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tuner.training.workloads.base import Workload

_TOTAL_STEPS = 20
"""Steps that the optimizer is timed to; how long it trains does not move a parameter to another group."""
_NUMBERS = ("tensors", "parameters")
Row = tuple[str, ...]


def groups(spec: StudySpec) -> Iterator[RenderableType]:
    """Draw the param groups of each arm's default setting; arms with the same groups share a table.

    Raises:
        WorkloadError: a pattern of the training options matches no parameter.
    """
    from rich.table import Table
    from rich.text import Text

    from tuner.training.environment import seed_everything
    from tuner.training.workloads.base import Workload
    from tuner.training.workloads.load import load

    target = load(spec.workload)
    if not isinstance(target, Workload):
        yield Text("Param groups: not shown, because a training function builds its model only while it trains.")
        return
    arms_by_rows: dict[tuple[Row, ...], list[str]] = {}
    for arm in spec.arms:
        seed_everything(0)
        arms_by_rows.setdefault(tuple(_rows(arm.default, target)), []).append(arm.arm)
    for rows, arms in arms_by_rows.items():
        table = Table(title=f"Param groups of {', '.join(arms)}, at the default setting", title_justify="left")
        for name in ("optimizer", "learning rate", "decay", *_NUMBERS, "names"):
            table.add_column(name, justify="right" if name in _NUMBERS else "left", overflow="fold")
        for row in rows:
            table.add_row(*row)
        yield table


def _rows(setting: Setting, workload: Workload) -> Iterator[Row]:
    """One row for each param group: optimizer, learning rate, decay, tensors, numbers in them, names."""
    import torch

    from tuner.training.optimizers.landing import landings
    from tuner.training.param_groups import folded

    workload.place(torch.device("cpu"), setting.training)
    model = workload.model(0)
    for group in landings(workload.optimizer(setting, model, _TOTAL_STEPS), model):
        rate = "frozen" if group.learning_rate is None else f"{group.learning_rate:g}"
        decay = f"{group.decay:g}" if group.decay else "none"
        yield group.optimizer or "-", rate, decay, str(len(group.names)), f"{group.numbers:,}", folded(group.names)
