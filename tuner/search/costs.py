"""What a run of the search costs, as a share of a full one; who may spend how much is said in ``allocation``."""

from __future__ import annotations

from tuner.config.spec import StudySpec
from tuner.core.records import Outcome, RunRecord


def cost_of(spec: StudySpec, run: RunRecord, full_steps: int) -> float:
    """Return the cost of one run as a share of a full one, which takes ``full_steps`` optimizer steps.

    A run that a pruner stopped costs what it trained; one that diverged, failed or was lost is not refunded.
    """
    share = run.spec.horizon.amount / spec.horizon.amount if spec.horizon.amount else 1.0
    if run.outcome is Outcome.PRUNED and run.result is not None:
        share *= min(1.0, run.result.step / max(full_steps, 1))
    return share
