"""The table of a search space: every setting of every arm, its range, and what is searched at this budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tuner.config.space import ArmSpace, Dimension, SearchSpace
from tuner.core.values import Scalar, short

if TYPE_CHECKING:
    from rich.table import Table

_ONE_MINUS = "one_minus_"


def space_table(space: SearchSpace) -> Table:
    """Draw every dimension of every arm: from which budget on it is searched, else the value it is fixed at."""
    from rich.table import Table

    table = Table(title=f"Space {space.name}: {space.about}", title_justify="left")
    for name in ("arm", "setting", "range", "searched from", "in this study"):
        table.add_column(name, overflow="fold")
    for arm in space:
        searched, values = {d.name: d for d in arm.dimensions}, _default_values(arm)
        for i, d in enumerate(arm.all_dimensions):
            is_searched = d.name in searched
            budget = "any budget" if d.opens_at == 1 else f"{d.opens_at} trials"
            state = "searched" if is_searched else _fixed(d, values)
            row = (arm.arm if i == 0 else "", d.name, str(searched.get(d.name, d)), budget, state)
            table.add_row(*row, style="" if is_searched else "dim")
        for name, value in arm.fixed.items():
            table.add_row("", name, "", "", f"fixed: {short(value)}", style="dim")
        table.add_section()
    return table


def _default_values(arm: ArmSpace) -> Mapping[str, Scalar]:
    """The values of the setting in the middle of all searched ranges, by the names that dimensions have."""
    middle = arm.decode({d.name: d.at(0.5) for d in arm.dimensions})
    values = {**middle.hyperparameters, **{f"schedule.{k}": v for k, v in middle.schedule.items()}}
    return values | {f"training.{k}": v for k, v in middle.training.items()}


def _fixed(dimension: Dimension, values: Mapping[str, Scalar]) -> str:
    """The value that a closed dimension is fixed at; a dash where the schedule does not use it."""
    name = dimension.name
    value = values.get(name, values.get(name.replace(_ONE_MINUS, "")))
    if value is None:
        return "not used"
    if _ONE_MINUS in name:
        value = 1 - float(value)
    return f"fixed: {value:.4g}" if isinstance(value, float) else f"fixed: {value}"
