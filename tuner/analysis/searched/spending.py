"""What each arm's search has spent, in full runs, and what came within equal budgets; who wins is said elsewhere.

A run costs the share of the full horizon that it trained. A setting that is trained twice alike is paid once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tuner.config.fidelity import FULL, PRUNE
from tuner.config.spec import COMPARE, OPTIMISE, StudySpec
from tuner.core.records import Outcome, Phase, RunRecord, State

ALMOST_ONE = 1.0 - 1e-6
"""Arms that are served in turn may differ by just under one full run."""


def in_full_runs(spec: StudySpec) -> bool:
    """Whether budgets are counted in full runs; otherwise the number of proposals says it all."""
    return spec.recording is None and (spec.fidelity.kind != FULL or spec.allocation != COMPARE)


def spent(spec: StudySpec, runs: Sequence[RunRecord]) -> dict[str, float]:
    """Return arm -> what its ended runs of the search cost, in full runs; in the space's order."""
    return {arm.arm: _total(spec, runs, arm.arm) for arm in spec.arms}


def full_steps(spec: StudySpec, runs: Sequence[RunRecord]) -> int:
    """Return the optimizer steps of a full run, as far as one has completed; 0 before."""
    full = [run.result.step for run in runs if run.result and run.spec.horizon == spec.horizon]
    completed = [run.result.step for run in runs if run.result and run.outcome is Outcome.COMPLETED]
    return max(completed or full, default=0)


def smallest(spec: StudySpec, runs: Sequence[RunRecord]) -> float:
    """Return the smallest spending of the arms that have begun; one that ran out of settings sets no limit."""
    costs = spent(spec, runs)
    done = set(exhausted(spec, runs))
    return min(
        (cost for arm, cost in costs.items() if cost and arm not in done), default=max(costs.values(), default=0.0)
    )


def exhausted(spec: StudySpec, runs: Sequence[RunRecord]) -> tuple[str, ...]:
    """Return the arms that ran out of settings: those that were passed over while others had spent more.

    Arms are served in turn, the one that has spent least first. So one that trains nothing, while another that had
    spent more was given its last run later, had nothing new to train. (A run that may be pruned counts in full first.)
    """
    if spec.allocation == OPTIMISE:
        return ()
    rows = {arm.arm: _explored(runs, arm.arm) for arm in spec.arms}
    costs, steps = spent(spec, runs), full_steps(spec, runs)
    spare = 1.0 if spec.fidelity.kind == PRUNE else 1.0 - ALMOST_ONE

    def passed_over(arm: str, other: str) -> bool:
        mine, last = rows[arm][-1], rows[other][-1]
        before = costs[other] - (cost_of(spec, last, steps) if last.state is State.ENDED else 0.0)
        return _began(last) > _began(mine) and before > costs[arm] + spare

    idle = [arm for arm, row in rows.items() if row and all(run.state is State.ENDED for run in row)]
    return tuple(arm for arm in idle if any(passed_over(arm, other) for other in rows if rows[other]))


def equally_paid(spec: StudySpec, runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the runs of the search that compete: those that every arm's budget reached.

    Where arms' spending differs by more than one full run (the search was cut short), only what an arm had reached
    within the smallest spending and just under one more counts, in the order in which runs were handed out.
    Where the budget was moved on purpose, all compete.
    """
    costs = spent(spec, runs)
    begun = [cost for cost in costs.values() if cost]
    if spec.allocation == OPTIMISE or not begun or max(begun) - min(begun) <= 1.0:
        return [run for arm in costs for run in _explored(runs, arm)]
    limit = smallest(spec, runs) + ALMOST_ONE
    return [run for arm in costs for run, paid in _paid(spec, runs, arm) if paid <= limit]


def unequal(costs: Mapping[str, float]) -> str:
    """Say what budgets that were moved on purpose leave to be claimed.

    >>> unequal({"sgdm": 6.0, "adamw": 18.0}).partition(":")[0]
    "sgdm got 6, adamw 18 full runs' worth"
    """
    (first, least), *rest = costs.items()
    got = ", ".join([f"{first} got {least:.3g}", *(f"{arm} {cost:.3g}" for arm, cost in rest)])
    return f"{got} full runs' worth: the claim is about these settings; which family is better needs equal budgets"


def _explored(runs: Sequence[RunRecord], arm: str) -> list[RunRecord]:
    """The arm's runs of the search, in the order in which they were handed out."""
    mine = [run for run in runs if run.spec.arm == arm and run.spec.phase is Phase.EXPLORE]
    return sorted(mine, key=lambda run: (_began(run), run.run_id))


def cost_of(spec: StudySpec, run: RunRecord, full_steps: int) -> float:
    """Return the cost of one run as a share of a full one, which takes ``full_steps`` optimizer steps.

    A run that a pruner stopped costs what it trained; one that diverged, failed or was lost is not refunded.
    """
    share = run.spec.horizon.amount / spec.horizon.amount if spec.horizon.amount else 1.0
    if run.outcome is Outcome.PRUNED and run.result is not None:
        share *= min(1.0, run.result.step / max(full_steps, 1))
    return share


def _began(run: RunRecord) -> float:
    return run.result.started_at if run.result and run.result.started_at else run.started_at


def _paid(spec: StudySpec, runs: Sequence[RunRecord], arm: str) -> Iterator[tuple[RunRecord, float]]:
    """The arm's ended runs, each with what had been spent when it was paid."""
    paid: dict[tuple[str, float, int], float] = {}
    total, steps = 0.0, full_steps(spec, runs)
    for run in _explored(runs, arm):
        if run.state is State.ENDED:
            key, cost = (
                (run.spec.setting.fingerprint, run.spec.horizon.amount, run.spec.seed),
                cost_of(spec, run, steps),
            )
            total += cost - paid.get(key, 0.0)
            paid[key] = cost
            yield run, total


def _total(spec: StudySpec, runs: Sequence[RunRecord], arm: str) -> float:
    return max((total for _, total in _paid(spec, runs, arm)), default=0.0)
