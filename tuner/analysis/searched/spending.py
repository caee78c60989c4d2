"""What came within equal budgets: which arms ran out of settings, which runs compete. Costs: :class:`StudyRecords`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tuner.config.fidelity import FULL, PRUNE
from tuner.config.spec import COMPARE, OPTIMISE, StudySpec
from tuner.core.records import RunRecord, State
from tuner.study_records import StudyRecords, Training, ended

ALMOST_ONE = 1.0 - 1e-6
"""Arms that are served in turn may differ by just under one full run."""


def in_full_runs(spec: StudySpec) -> bool:
    """Whether budgets are counted in full runs; otherwise the number of proposals says it all."""
    return spec.recording is None and (spec.fidelity.kind != FULL or spec.allocation != COMPARE)


def smallest(records: StudyRecords) -> float:
    """Return the smallest spending, in full runs, of the arms that have begun.

    An arm that ran out of settings sets no limit.
    """
    costs, done = records.spent, set(exhausted(records))
    limits = (cost for arm, cost in costs.items() if cost and arm not in done)
    return min(limits, default=max(costs.values(), default=0.0))


def exhausted(records: StudyRecords) -> tuple[str, ...]:
    """Return the arms that ran out of settings: those that were passed over while others had spent more.

    Arms are served in turn, the one that has spent least first. So one that trains nothing, while another that had
    spent more was given its last run later, had nothing new to train. (A run that may be pruned counts in full first.)
    """
    spec = records.spec
    if spec.allocation == OPTIMISE:
        return ()
    rows = {arm: records.handed_out(arm) for arm in records.arms}
    costs = records.spent
    spare = 1.0 if spec.fidelity.kind == PRUNE else 1.0 - ALMOST_ONE

    def passed_over(arm: str, other: str) -> bool:
        mine, last = rows[arm][-1], rows[other][-1]
        before = costs[other] - (records.cost(last) if last.state is State.ENDED else 0.0)
        return last.began > mine.began and before > costs[arm] + spare

    idle = [arm for arm, row in rows.items() if row and all(run.state is State.ENDED for run in row)]
    return tuple(arm for arm in idle if any(passed_over(arm, other) for other in rows if rows[other]))


def equally_paid(records: StudyRecords) -> list[RunRecord]:
    """Return the runs of the search that compete: those that every arm's budget reached.

    Where arms' spending differs by more than one full run (the search was cut short), only what an arm had reached
    within the smallest spending and just under one more counts, in the order in which runs were handed out.
    Where the budget was moved on purpose, all compete.
    """
    costs = records.spent
    begun = [cost for cost in costs.values() if cost]
    if records.spec.allocation == OPTIMISE or not begun or max(begun) - min(begun) <= 1.0:
        return [run for arm in costs for run in records.handed_out(arm)]
    limit = smallest(records) + ALMOST_ONE
    return [run for arm in costs for run, paid in _paid(records, arm) if paid <= limit]


def _paid(records: StudyRecords, arm: str) -> Iterator[tuple[RunRecord, float]]:
    """The arm's ended runs, each with what had been spent when it was paid."""
    paid: dict[Training, float] = {}
    for run in ended(records.handed_out(arm)):
        paid |= records.paid([run])
        yield run, sum(paid.values())


def unequal(costs: Mapping[str, float]) -> str:
    """Say what budgets that were moved on purpose leave to be claimed.

    >>> unequal({"sgdm": 6.0, "adamw": 18.0}).partition(":")[0]
    "sgdm got 6, adamw 18 full runs' worth"
    """
    (first, least), *rest = costs.items()
    got = ", ".join([f"{first} got {least:.3g}", *(f"{arm} {cost:.3g}" for arm, cost in rest)])
    return f"{got} full runs' worth: the claim is about these settings; which family is better needs equal budgets"
