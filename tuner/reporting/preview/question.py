"""The parts of ``tuner check`` that need no workload, in their order: the question, the space, the plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tuner.config.spec import StudySpec
from tuner.core.values import counted
from tuner.reporting.preview.confirmation_plan import confirmation
from tuner.reporting.preview.initial_table import initial_table
from tuner.reporting.preview.search_plan import plan_table, rung_table, search, widening
from tuner.reporting.preview.space_table import space_table

if TYPE_CHECKING:
    from rich.console import RenderableType


def pages(spec: StudySpec) -> Iterator[RenderableType]:
    """Yield the question, the space, how the search goes, the initial settings, and the confirmation."""
    from rich.text import Text

    yield Text(question(spec))
    yield space_table(spec.space)
    yield Text("\n".join(search(spec)))
    if spec.widen:
        yield Text(widening(spec))
    yield rung_table(spec) if len(spec.rungs) > 1 else plan_table(spec)
    yield initial_table(spec)
    yield Text(confirmation(spec))


def question(spec: StudySpec) -> str:
    """Say in one line what is optimised, for how long, with which budget."""
    budget = spec.budget
    limits = [f"{counted(budget.trials_per_arm, 'trial')} per arm" if budget.trials_per_arm else ""]
    limits += [f"{budget.hours:g} h" if budget.hours else "", f"{budget.gpu_hours:g} GPU-h" if budget.gpu_hours else ""]
    return (
        f"Study {spec.name}: {spec.direction} {spec.metric} of {spec.workload.path}, {spec.horizon} a run, "
        f"{' or '.join(limit for limit in limits if limit)}, sampler {spec.sampler}, seed {spec.seed}"
    )
