"""Equal budgets: which arms ran out of settings, and which runs compete. What runs cost is in ``study_records.py``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tuner.config.fidelity import FULL, PRUNE
from tuner.config.spec import COMPARE, OPTIMISE, StudySpec
from tuner.core.records import RunRecord, State
from tuner.study_records import StudyRecords, Training, ended

ALMOST_ONE = 1.0 - 1e-6
"""Arms that are served in turn may differ by just under one full run; the rest is room for rounding."""


def in_full_runs(spec: StudySpec) -> bool:
    """Whether budgets are counted in full runs; otherwise every proposal is one full run, and proposals are counted."""
    return spec.recording is None and (spec.fidelity.kind != FULL or spec.allocation != COMPARE)


def smallest(records: StudyRecords) -> float:
    """Return the smallest spending, in full runs, of the arms that have begun and did not run out of settings.

    Where none is left, the largest spending.
    """
    costs, done = records.spent, set(exhausted(records))
    limits = (cost for arm, cost in costs.items() if cost and arm not in done)
    return min(limits, default=max(costs.values(), default=0.0))


def exhausted(records: StudyRecords) -> tuple[str, ...]:
    """Return the arms that ran out of settings: those that were passed over although others had spent more.

    Arms are served in turn, the one that has spent least first. So an arm had nothing new to train if it trains nothing
    while another one, which had already spent more, began its last run later. A run that may be pruned counts in full
    until it ends, so with a pruner "more" means more by a full run.
    """
    spec = records.spec
    if spec.allocation == OPTIMISE:
        return ()
    rows = {arm: records.handed_out(arm) for arm in records.arms}
    costs = records.spent
    spare = 1.0 if spec.fidelity.kind == PRUNE else 1.0 - ALMOST_ONE

    def passed_over(arm: str, other: str) -> bool:
        last, later = rows[arm][-1], rows[other][-1]
        before = costs[other] - (records.cost(later) if later.state is State.ENDED else 0.0)
        return later.began > last.began and before > costs[arm] + spare

    idle = [arm for arm, row in rows.items() if row and all(run.state is State.ENDED for run in row)]
    return tuple(arm for arm in idle if any(passed_over(arm, other) for other in rows if rows[other]))


def equally_paid(records: StudyRecords) -> list[RunRecord]:
    """Return the runs of the search that compete, arm by arm, in the order in which they began.

    Where the arms' spending differs by more than one full run (the search was cut short), an arm's runs compete only
    until it had spent as much as the arm that spent least, plus just under one full run. Where the budget was moved
    between arms on purpose, all runs compete.
    """
    costs = records.spent
    begun = [cost for cost in costs.values() if cost]
    if records.spec.allocation == OPTIMISE or not begun or max(begun) - min(begun) <= 1.0:
        return [run for arm in costs for run in records.handed_out(arm)]
    limit = smallest(records) + ALMOST_ONE
    return [run for arm in costs for run, paid in _paid(records, arm) if paid <= limit]


def _paid(records: StudyRecords, arm: str) -> Iterator[tuple[RunRecord, float]]:
    """The arm's ended runs in the order in which they began, each with what the arm had spent by then, in full runs."""
    paid: dict[Training, float] = {}
    for run in ended(records.handed_out(arm)):
        paid |= records.paid([run])
        yield run, sum(paid.values())


def unequal(costs: Mapping[str, float]) -> str:
    """Say what budgets that were moved on purpose leave to be claimed.

    >>> unequal({"sgdm": 6.0, "adamw": 18.0})
    'sgdm got 6, adamw 18 full runs, and a verdict about families needs equal budgets'
    """
    (first, least), *rest = costs.items()
    got = ", ".join([f"{first} got {least:.3g}", *(f"{arm} {cost:.3g}" for arm, cost in rest)])
    return f"{got} full runs, and a verdict about families needs equal budgets"
