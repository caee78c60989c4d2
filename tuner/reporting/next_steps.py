"""What to do next, most useful first, as commands with their reasons; the records are not looked at here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tuner.analysis.evidence import CaveatCode, Evidence
from tuner.analysis.verdict.kinds import VerdictKind

_ENOUGH = "enough to settle it with 80 % probability"
_MATTERS = "the smallest difference that matters to you; more seeds alone will not settle it."
_WIDER = "Widen the range at whose edge the recommended setting lies, in a space of your own, and search again."
_LOWER = "Lower the upper end of the learning-rate range of the arms in which many runs diverged."


@dataclass(frozen=True, slots=True)
class NextStep:
    """A ``command`` as it is typed and ``why``; without a command, ``why`` is what to do, as a sentence."""

    command: str
    why: str


def next_steps(evidence: Evidence) -> list[NextStep]:
    """Return what to do now."""
    return list(_for_recording(evidence) if evidence.recording else _for_study(evidence))


def _for_study(evidence: Evidence) -> Iterator[NextStep]:
    name, needed = evidence.study, evidence.verdict.seeds_needed
    if evidence.has(CaveatCode.UNFINISHED):
        yield NextStep(f"tuner resume {name}", "the confirmation has not ended")
    elif evidence.has(CaveatCode.NOT_CONFIRMED):
        yield NextStep(f"tuner extend {name} --seeds 10", "train the finalists on fresh seeds")
    elif needed:
        yield NextStep(f"tuner extend {name} --seeds {needed}", _ENOUGH)
    elif evidence.verdict.kind is VerdictKind.INCONCLUSIVE:
        yield _do(f"Set confirmation.min_effect to {_MATTERS}")
    if evidence.has(CaveatCode.EDGE_OF_RANGE):
        yield _do(_WIDER)
    if evidence.has(CaveatCode.MANY_DIVERGED):
        yield _do(_LOWER)
    yield NextStep(f"tuner recommend {name} --json", "this answer as JSON")


def _for_recording(evidence: Evidence) -> Iterator[NextStep]:
    """What to record next, where somebody else trains."""
    needed, unconfirmed = evidence.verdict.seeds_needed, evidence.has(CaveatCode.NOT_CONFIRMED)
    if unconfirmed:
        yield _do("Train the best setting of each arm on the same ten fresh seeds, as runs of phase confirm.")
    elif evidence.has(CaveatCode.ARM_NOT_CONFIRMED):
        yield _do("Train the best settings of the other arms on the seeds of the confirmed ones.")
    if needed:
        yield _do(f"Train the finalists on {needed} shared fresh seeds in total: {_ENOUGH}.")
    elif evidence.verdict.kind is VerdictKind.INCONCLUSIVE and not unconfirmed:
        yield _do(f"Set --min-effect to {_MATTERS}")
    if evidence.has(CaveatCode.EDGE_OF_RANGE):
        yield _do("Try settings beyond the edge at which the recommended one lies.")
    if evidence.has(CaveatCode.MANY_DIVERGED):
        yield _do(_LOWER)
    yield NextStep("tuner analyze ... --json", "this answer as JSON")


def _do(sentence: str) -> NextStep:
    return NextStep("", sentence)
