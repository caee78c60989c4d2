"""How the search will spend its budget: rungs or full runs, shares of the arms, proposals, wider ranges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tuner.analysis.widening import MOST, more_trials
from tuner.config.fidelity import LADDER, LEAST, PRUNE
from tuner.config.spec import OPTIMISE, StudySpec
from tuner.core.records import Horizon
from tuner.core.values import counted
from tuner.search.allocation import floor_of
from tuner.search.ladder import FULL_SHARE, design_size
from tuner.search.proposals import split_for

if TYPE_CHECKING:
    from rich.table import Table


def search(spec: StudySpec) -> Iterator[str]:
    """Say how long the search's runs train, and how the budget is shared out among the arms."""
    budget, kind = spec.budget.planned, spec.fidelity.kind
    full_runs = counted(budget, "full run")
    if len(spec.rungs) > 1:
        yield (
            f"Search (fidelity: ladder): each arm may spend {full_runs}; a shorter run costs its share of one. New"
            " settings first train for a short horizon, with a schedule timed to it. Promising ones train again for"
            " longer, up to the full horizon."
        )
    elif kind == LADDER:
        yield (
            f"Search (fidelity: ladder): every run trains over the full horizon, because a horizon of {spec.horizon}"
            f" leaves no room for a shorter rung (at least {Horizon(LEAST[spec.horizon.unit], spec.horizon.unit)})."
        )
    elif kind == PRUNE:
        yield (
            f"Search (fidelity: prune): each arm may spend {full_runs}. Every run is planned over the full horizon, and"
            f" the {spec.fidelity.pruner} pruner stops those that fall behind. It compares runs before their learning"
            " rate has decayed, which is unfair to slow starters."
        )
    else:
        yield "Search (fidelity: full): every run trains over the full horizon."
    if len(spec.arms) > 1 and spec.allocation == OPTIMISE:
        yield (
            f"Budget (allocation: optimise): every arm gets {counted(floor_of(budget), 'full run')}, and the rest of"
            f" {budget * len(spec.arms)} goes to the arms with the best prospects. The verdict will be about settings,"
            " not about optimizer families."
        )
    elif len(spec.arms) > 1:
        yield "Budget (allocation: compare): the same for every arm."


def widening(spec: StudySpec) -> str:
    """Say what happens where the search ends at the edge of a range."""
    return (
        "Where an arm's best trial lies at the edge of a range, the range is widened and the search goes on: at most"
        f" {MOST} times, each with {counted(more_trials(spec), 'more full run')} for every arm."
    )


def rung_table(spec: StudySpec) -> Table:
    """Draw the rungs with their costs, and roughly how many settings of each arm train there."""
    from rich.table import Table

    screened = {a.arm: design_size(spec.budget.planned, spec.rung_costs, len(a.dimensions)) for a in spec.arms}
    full = round(FULL_SHARE * spec.budget.planned) or 1
    table = Table(title="Rungs of the ladder", title_justify="left")
    for name in ("rung", "horizon", "cost, in full runs", "what trains there"):
        left = name in ("horizon", "what trains there")
        table.add_column(name, justify="left" if left else "right", overflow="fold")
    for rung, (horizon, share) in enumerate(zip(spec.rungs, spec.rung_costs, strict=True)):
        words = "settings that the shorter runs did not rule out"
        if rung == 0:
            counts = ", ".join(f"{arm} {count}" for arm, count in screened.items())
            words = f"new settings: about {counts} to begin with, more as the model asks for them"
        elif rung == len(spec.rungs) - 1:
            counts = ", ".join(f"{arm.arm} {full}" for arm in spec.arms)
            words = f"the most promising settings: at least about {counts}, more where short runs mislead"
        table.add_row(str(rung), str(horizon), f"{share:.3g}", words)
    return table


def plan_table(spec: StudySpec) -> Table:
    """Draw where the proposals of each arm come from."""
    from rich.table import Table

    table = Table(title="Where each arm's trials come from", title_justify="left")
    model = f"model-based ({spec.sampler})"
    for name in ("arm", "initial settings", "Sobol points", model, "dimensions searched"):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for arm in spec.arms:
        parts = split_for(spec.sampler, spec.budget.planned, arm)
        rest = str(parts.model) if spec.budget.trials_per_arm else "all others"
        table.add_row(arm.arm, str(parts.initial), str(parts.sobol), rest, str(len(arm.dimensions)))
    return table
