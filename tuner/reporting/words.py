"""Figures and findings as short plain phrases, shared by the documents and the card."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tuner.analysis.contest import INCONCLUSIVE, SINGLE, TIE, WINNER
from tuner.analysis.evidence import ArmRow, Evidence
from tuner.analysis.references import Gain
from tuner.recipe import changed
from tuner.records import Scalar, short

HEADLINES: Mapping[str, str] = {
    WINNER: "Better",
    TIE: "No practical difference",
    INCONCLUSIVE: "Undecided",
    SINGLE: "One arm only",
}
_USELESS = 0.05


def interval(low: float | None, high: float | None) -> str:
    """Return an interval in words.

    >>> interval(0.95, 0.97), interval(None, None)
    ('0.95 to 0.97', 'no interval')
    """
    return "no interval" if low is None or high is None else f"{short(low)} to {short(high)}"


def p_value(p: float | None) -> str:
    """Return a p-value in words.

    >>> p_value(0.03125), p_value(0.00001), p_value(None)
    ('p = 0.031', 'p < 0.0001', 'p = -')
    """
    if p is None:
        return "p = -"
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def linked(text: str) -> str:
    """Turn arXiv numbers into Markdown links.

    >>> linked("Polyak 1964; arXiv 1711.05101")
    'Polyak 1964; [arXiv 1711.05101](https://arxiv.org/abs/1711.05101)'
    """
    return re.sub(r"arXiv ([0-9.]+[0-9])", r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def percent(confidence: float) -> str:
    return f"{100 * confidence:g} %"


def expected(evidence: Evidence) -> str:
    found = evidence.expected
    if found.source == "search":
        return f"{short(found.value)} (one run of the search: expect less of a fresh one)"
    seeds = f"{found.n} fresh seed{'s' if found.n != 1 else ''}"
    if found.ci_low is None:
        return f"{short(found.value)} ({seeds})"
    span = interval(found.ci_low, found.ci_high)
    return f"{short(found.value)} ({percent(1 - evidence.alpha)} interval {span}, {seeds})"


def gain(evidence: Evidence, over: str) -> str:
    """Say what is gained over a reference, and when it is nothing or a loss, that."""
    found, name = evidence.gain(over), _reference(evidence, over)
    if found.gain is None:
        return f"over {name}: not measured ({found.reason})"
    if found.n_pairs == 0:
        return f"over {name}: none, {found.reason}"
    figures = f"{interval(found.ci_low, found.ci_high)}, {p_value(found.p)}, {found.n_pairs} pairs"
    return f"over {name}: {_signed(found.gain)} ({figures}){_judge(found)}"


def _judge(found: Gain) -> str:
    if found.gain is not None and found.p is not None and found.p <= _USELESS:
        return "" if found.gain > 0 else ": the reference is better; keep it"
    return ": no difference could be shown"


def _reference(evidence: Evidence, over: str) -> str:
    return f"the default of {evidence.setting.family}" if over == "default" else "your current settings"


def _signed(value: float) -> str:
    return f"{value:+.4g} better" if value > 0 else f"{value:+.4g}"


def settings(values: Mapping[str, Scalar]) -> str:
    return ", ".join(f"{name} {short(value)}" for name, value in values.items())


def schedule(evidence: Evidence) -> str:
    """The kind, then its parameters that are not zero, the warm-up's shape only where there is a warm-up."""
    rest = {name: value for name, value in evidence.schedule.items() if name != "kind" and value}
    if not rest.get("warmup"):
        rest.pop("warmup_shape", None)
    return str(evidence.schedule["kind"]) + (f" ({settings(rest)})" if rest else "")


def recipe(evidence: Evidence) -> str:
    """What else differs from the plainest training; empty where nothing does."""
    return settings(changed(evidence.setting.recipe))


def confirmed(row: ArmRow) -> str:
    if row.mean is None:
        return "-"
    return f"{short(row.mean)} ({interval(row.ci_low, row.ci_high)})" if row.ci_low is not None else short(row.mean)


def next_steps(evidence: Evidence) -> list[str]:
    """Say what to do now, most useful first; commands as they are typed."""
    name, codes = evidence.study, {caveat.code for caveat in evidence.caveats}
    steps = []
    needed = evidence.verdict.seeds_needed
    if "unfinished" in codes:
        steps.append(f"tuner resume {name}    (the confirmation has not ended)")
    elif "not_confirmed" in codes:
        steps.append(f"tuner extend {name} --seeds 10    (train the finalists on fresh seeds)")
    elif needed:
        steps.append(f"tuner extend {name} --seeds {needed}    (enough to settle it, 4 times of 5)")
    elif evidence.verdict.kind == INCONCLUSIVE:
        steps.append(
            "Set confirmation.min_effect to the difference that matters to you; seeds alone will not settle it."
        )
    if "edge_of_range" in codes:
        steps.append("Widen the range that the winner touches, in a space of your own, and search again.")
    if "many_diverged" in codes:
        steps.append("Lower the upper end of the learning rate where many runs diverged.")
    steps.append(f"tuner recommend {name} --json    (the same, for programs)")
    return steps
