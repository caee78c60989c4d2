"""What to do next, most useful first, as commands with their reasons; the records are not looked at here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tuner.analysis.evidence import CaveatCode, Evidence
from tuner.analysis.verdict.kinds import VerdictKind

_WIDER = "Widen the range that the winner touches, in a space of your own, and search again."
_LOWER = "Lower the upper end of the learning rate where many runs diverged."


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
        yield NextStep(f"tuner extend {name} --seeds {needed}", "enough to settle it, 4 times of 5")
    elif evidence.verdict.kind is VerdictKind.INCONCLUSIVE:
        yield _do("Set confirmation.min_effect to the difference that matters to you; seeds alone will not settle it.")
    if evidence.has(CaveatCode.EDGE_OF_RANGE):
        yield _do(_WIDER)
    if evidence.has(CaveatCode.MANY_DIVERGED):
        yield _do(_LOWER)
    yield NextStep(f"tuner recommend {name} --json", "the same, for programs")


def _for_recording(evidence: Evidence) -> Iterator[NextStep]:
    """What to record next, where somebody else trains."""
    needed, unconfirmed = evidence.verdict.seeds_needed, evidence.has(CaveatCode.NOT_CONFIRMED)
    if unconfirmed:
        yield _do("Train the best setting of each arm on ten fresh seeds, the same for all: runs of phase confirm.")
    elif evidence.has(CaveatCode.ARM_NOT_CONFIRMED):
        yield _do("Train the best settings of the other arms on the seeds of the confirmed ones.")
    if needed:
        yield _do(f"Train the finalists on fresh seeds, the same for all, {needed} in all: enough 4 times of 5.")
    elif evidence.verdict.kind is VerdictKind.INCONCLUSIVE and not unconfirmed:
        yield _do("Say with --min-effect what difference matters to you; seeds alone will not settle it.")
    if evidence.has(CaveatCode.EDGE_OF_RANGE):
        yield _do("Try settings beyond the edge that the recommended one touches.")
    if evidence.has(CaveatCode.MANY_DIVERGED):
        yield _do(_LOWER)
    yield NextStep("tuner analyze ... --json", "the same, for programs")


def _do(sentence: str) -> NextStep:
    return NextStep("", sentence)
