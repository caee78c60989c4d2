"""The closing card in the terminal: the answer on one screen, drawn by rich or as plain lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.analysis.evidence import CaveatCode, Evidence, Nothing
from tuner.analysis.verdict.kinds import Reference, VerdictKind
from tuner.core.values import short
from tuner.reporting import words
from tuner.reporting.next_steps import next_steps

if TYPE_CHECKING:
    from rich.console import RenderableType

_COLOURS = {
    VerdictKind.WINNER: "green",
    VerdictKind.TIE: "cyan",
    VerdictKind.INCONCLUSIVE: "yellow",
    VerdictKind.SINGLE: "blue",
}
_QUIET = {
    CaveatCode.ONE_SEARCH_ONLY,
    CaveatCode.MIN_EFFECT_ASSUMED,
    CaveatCode.MIN_EFFECT_FROM_COMPARISON,
    CaveatCode.TIE_COST,
}
Row = tuple[str, str]


def headline(evidence: Evidence) -> str:
    """The verdict in three words."""
    if evidence.verdict.kind is VerdictKind.WINNER:
        return f"{evidence.verdict.arm} is better"
    return words.HEADLINES[evidence.verdict.kind]


def rows(evidence: Evidence) -> list[Row]:
    """Return the card's lines as label and text, the first the verdict."""
    found = [
        ("Verdict", evidence.verdict.sentence),
        *([("Families", words.family(evidence))] if words.family(evidence) else []),
        (
            "Use",
            f"{evidence.setting.family} ({evidence.camp_name}): {words.settings(evidence.setting.hyperparameters)}",
        ),
        ("Schedule", words.schedule(evidence)),
        *([("Training", words.training(evidence))] if words.training(evidence) else []),
        ("Because", evidence.why),
        ("Expect", f"{evidence.metric} {words.expected(evidence)}"),
    ]
    if started := words.started(evidence):
        found.append(("Start", f"warm, from {started}"))
    found += [("Gain", words.gain(evidence, over)) for over in Reference if _worth(evidence, over)]
    if evidence.test:
        found.append(("Test", ", ".join(f"{name} {short(value)}" for name, value in evidence.test.items())))
    found += [("Caveat", caveat.text) for caveat in evidence.caveats if caveat.code not in _QUIET]
    about = "" if words.family(evidence) else ": it is about these settings, not these families"
    found.append(("Caveat", f"one search, on this workload and horizon{about}"))
    found += [("Next", f"{step.command}  ({step.why})" if step.command else step.why) for step in next_steps(evidence)]
    return found


def text(evidence: Evidence | Nothing) -> str:
    """Return the card as plain lines, for logs and pipes."""
    if isinstance(evidence, Nothing):
        return f"{evidence.study}: nothing to recommend\n  {evidence.reason}\n"
    lines, last = [f"{evidence.study}: {headline(evidence)}"], ""
    for label, value in rows(evidence):
        lines.append(f"  {'' if label == last else label:<9} {value}")
        last = label
    return "\n".join(lines) + "\n"


def render(evidence: Evidence | Nothing) -> RenderableType:
    """Return the card for a rich console."""
    if isinstance(evidence, Nothing):
        return text(evidence)
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    last = ""
    for label, value in rows(evidence):
        bold = label in ("Verdict", "Use", "Schedule", "Training")
        grid.add_row("" if label == last else label, Text(value, style="bold" if bold else ""))
        last = label
    colour = _COLOURS[evidence.verdict.kind]
    title = Text(f" {evidence.study}: {headline(evidence)} ", style=f"bold {colour}")
    return Panel(grid, title=title, title_align="left", border_style=colour, padding=(1, 2))


def _worth(evidence: Evidence, over: Reference) -> bool:
    """The user's settings are not mentioned where none were given, nor the default where others made the runs."""
    return (over is Reference.DEFAULT and not evidence.recording) or evidence.gain(over).setting is not None
