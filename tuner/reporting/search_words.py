"""What the search taught, as rows and sentences for the Markdown and the HTML page; neither markup nor figures."""

from __future__ import annotations

from collections.abc import Sequence

from tuner.analysis.findings import Findings
from tuner.analysis.searched.sensitivity import in_words
from tuner.analysis.searched.tuning_curves import CONFIDENCES, TuningCurve
from tuner.core.values import short
from tuner.reporting import words
from tuner.search.shares import CHANCE, SHUFFLES, Importance

Row = tuple[str, ...]

BUDGET_HEAD = ("arm", "trials", "median of the best", f"{words.percent(CONFIDENCES[0])} band")
BUDGET_MEANING = (
    "What the best of so many trials comes to, one search as good as another: the median, and a band that holds for all"
    " budgets at once (Lourie, Cho and He 2023). Independent trials only; diverged and failed ones count as the worst."
)
SENSITIVITY_MEANING = (
    "How wide the range of learning rates is in which trials came close to the arm's best, whatever their other"
    " settings. A wide range forgives a poor guess."
)
IMPORTANCE_MEANING = (
    "How far good trials lie apart from all trials along each dimension (PED-ANOVA), as a share of the arm's total."
    f" A dimension stands out if at most {words.percent(CHANCE)} of {SHUFFLES} shuffles of the values reach as much;"
    " with few trials little does, and that proves nothing."
)
IMPORTANCE_HEAD = ("arm", "dimension", "share", "by chance", "")


RUNGS_MEANING = (
    "Whether short runs rank an arm's settings as full runs do: Spearman's rank correlation over the settings that"
    " trained on both. Only promising settings go up the ladder, so it is lower than over all settings."
)
RUNGS_HEAD = ("arm", "short run", "full run", "settings on both", "rank correlation")


def budget_rows(curve: TuningCurve) -> list[Row]:
    """Return the curve at 1, 2, 4, ... trials and at all of them."""
    band = curve.band(CONFIDENCES[0])
    rows: list[Row] = []
    for i in _doubling(len(curve.budgets)):
        median = curve.median[i]
        middle = "diverged" if median is None else short(median)
        rows.append((curve.arm, str(curve.budgets[i]), middle, _band(band.worst[i], band.best[i])))
    return rows


def _doubling(n: int) -> list[int]:
    """Positions of 1, 2, 4, ..., n.

    >>> _doubling(6)
    [0, 1, 3, 5]
    """
    return sorted({min(2**k, n) - 1 for k in range(n.bit_length() + 1)}) if n else []


def _band(worst: float | None, best: float | None) -> str:
    """Say what a band is where these trials bound it on one side only.

    >>> _band(0.9, 0.95), _band(0.9, None), _band(None, 0.95), _band(None, None)
    ('0.9 to 0.95', '0.9 or better', '0.95 or worse', 'not bounded by so few trials')
    """
    if worst is None:
        return "not bounded by so few trials" if best is None else f"{short(best)} or worse"
    return f"{short(worst)} or better" if best is None else f"{short(worst)} to {short(best)}"


def budget_notes(findings: Findings) -> list[str]:
    """Return for each arm how many trials its curve rests on, or why it has none."""
    return [f"{curve.arm}: {_note(curve)}." for curve in findings.curves]


def _note(curve: TuningCurve) -> str:
    if not curve.budgets:
        return f"no curve; {curve.reason}"
    bad = f", {curve.diverged} of them diverged or failed" if curve.diverged else ""
    reason = f". {curve.reason}" if curve.reason else ""
    return f"{curve.n} independent trials{bad}{reason}"


def sensitivity_notes(findings: Findings) -> list[str]:
    return [f"{row.arm} (`{row.name}`): {in_words(row)}." for row in findings.sensitivities]


def importance_rows(importances: Sequence[Importance]) -> list[Row]:
    return [
        (
            found.arm,
            share.name,
            f"{100 * share.share:.0f} %",
            f"{100 * share.chance:.0f} %",
            "stands out" if share.stands_out else "",
        )
        for found in importances
        for share in found.shares
    ]


def importance_notes(importances: Sequence[Importance]) -> list[str]:
    """Return for each arm without importances why it has none, and where they rest on short runs."""
    none = [f"{found.arm}: none; {found.reason}." for found in importances if found.reason]
    short = [
        f"{found.arm}: from {found.n} short runs of {found.horizon}; too few settings trained over the full horizon."
        for found in importances
        if found.horizon
    ]
    return none + short


def edge_notes(findings: Findings) -> list[str]:
    return [f"{edge.arm}: {edge.text}." for edge in findings.edges]


def rung_rows(findings: Findings) -> list[Row]:
    """Return the rank agreement of each rung with the full horizon; none where all runs were full ones."""
    return [
        (
            row.arm,
            str(row.horizon),
            str(row.full),
            str(row.n),
            "-" if row.correlation is None else f"{row.correlation:.2f}",
        )
        for row in findings.rungs
    ]


def diverged_share(findings: Findings, arm: str) -> str:
    """Say how many of an arm's trials diverged in the search."""
    bad, ended = findings.diverged(arm)
    return f"{bad} of {ended}" + (f" ({100 * bad / ended:.0f} %)" if bad else "") if ended else "-"
