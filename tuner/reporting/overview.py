"""Tables for people: studies, a study's state, optimizer families, schedules, spaces, the installation's health."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tuner.catalog.families import CAMPS, FAMILIES, Family
from tuner.catalog.schedules import SCHEDULES, SIGNALS, WARMUP, WARMUP_SHAPES, Kind
from tuner.config.space import SearchSpace
from tuner.core.records import Outcome, Phase, State
from tuner.core.values import exactly, short
from tuner.doctor import Finding, Health
from tuner.reporting.live import FINISHED, clock, table
from tuner.reporting.words import searched
from tuner.storage.reading import StudyRow
from tuner.study_records import StudyRecords

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    drawn = Table(title=title, title_justify="left")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    return drawn


def studies(rows: Sequence[StudyRow], holders: Mapping[str, str | None], counts: Mapping[str, int]) -> RenderableType:
    """Draw the studies of a database, with who drives each and how many runs it has, both by the study's name."""
    if not rows:
        return "No study yet. Start one with: tuner run STUDY.yaml"
    drawn = _table("Studies", "name", "state", "runs", "driven by", "started", "time used")
    for row in rows:
        started = datetime.datetime.fromtimestamp(row.created_at).strftime("%Y-%m-%d %H:%M")
        drawn.add_row(
            row.name, row.state, str(counts[row.name]), holders[row.name] or "-", started, clock(row.seconds_used)
        )
    return drawn


def status(row: StudyRow, records: StudyRecords, holder: str | None) -> RenderableType:
    """Draw where a study stands: its table, its state, its last failures, and how to go on."""
    from rich.console import Group
    from rich.text import Text

    runs = records.runs
    active = [run.spec.phase.value for run in runs if run.state is not State.ENDED]
    phase = FINISHED if row.state == "finished" else active[-1] if active else Phase.EXPLORE.value
    counts = Counter(run.outcome.value if run.outcome else run.state.value for run in runs)
    lines = [
        f"state: {row.state}" + (f" ({row.reason})" if row.reason else ""),
        f"driven by: {holder or 'nobody'}",
        f"runs: {', '.join(f'{count} {name}' for name, count in sorted(counts.items())) or 'none yet'}",
    ]
    failures = [run for run in runs if run.outcome in (Outcome.FAILED, Outcome.LOST)]
    lines += [f"{run.run_id}: {run.outcome}: {run.result.reason}" for run in failures[-3:] if run.result]
    if row.state != "finished" and holder is None:
        lines.append(f"go on with: tuner resume {row.name}")
    return Group(table(records, phase, row.seconds_used, None), Text("\n".join(lines)))


def families(measured: Mapping[str, tuple[float, float]] | None = None) -> RenderableType:
    """Draw the table of families. ``measured``: bytes of state per parameter and a step's cost relative to sgd."""
    drawn = _table(
        "Optimizer families", "name", "camp", "state B/param", "a step, sgd = 1", "hyperparameters", "source"
    )
    for row in FAMILIES.values():
        names = ", ".join(h.name for h in row.hyperparameters)
        state, step = _costs(row, measured)
        drawn.add_row(row.name, CAMPS[row.camp], state, step, names, row.source)
    drawn.caption = (
        "measured on a small network on this machine; lookahead-NAME wraps most of them"
        if measured
        else "from the table"
    )
    return drawn


def _costs(row: Family, measured: Mapping[str, tuple[float, float]] | None) -> tuple[str, str]:
    if measured is None:
        return f"{4 * row.state_slots:g}", "-"
    state, step = measured[row.name]
    return f"{state:.3g}", f"{step:.1f}"


def family_page(row: Family, measured: Mapping[str, tuple[float, float]] | None = None) -> RenderableType:
    """Draw one family with its hyperparameters; ``measured`` as in :func:`families`."""
    title = f"{row.name} ({CAMPS[row.camp]}): {row.source}"
    drawn = _table(title, "hyperparameter", "default", "bounds", "searched range", "searched from", "meaning")
    for h in row.hyperparameters:
        bounds = f"{exactly(h.low)} to {exactly(h.high)}"
        opens = "" if h.search is None else f"{h.search.opens_at} trials" if h.search.opens_at > 1 else "any budget"
        drawn.add_row(h.name, short(h.default), bounds, searched(h.search) or "not searched", opens, h.meaning)
    state, step = _costs(row, measured)
    cost = f"{state} bytes of state per parameter" + (
        f", a step costs {step} times sgd's (measured here)" * bool(measured)
    )
    needs = f"; needs: {', '.join(sorted(row.needs))}" if row.needs else ""
    schedule = row.default_schedule["kind"]
    lines = (row.formula, row.note, cost + needs, f"default schedule {schedule}; defaults: {row.default_source}")
    drawn.caption = "\n".join(line for line in lines if line)
    return drawn


def schedules() -> RenderableType:
    """Draw the kinds of schedules."""
    drawn = _table("Schedules (x: share of the horizon after the warm-up)", "kind", "factor", "parameters", "source")
    for kind in SCHEDULES.values():
        names = ", ".join(p.name for p in kind.parameters) or "-"
        drawn.add_row(kind.name, kind.formula, names, kind.source)
    shapes = ", ".join(WARMUP_SHAPES)
    drawn.caption = f"each may begin with a warm-up: warmup (share of the horizon), warmup_shape ({shapes})"
    return drawn


def schedule_page(kind: Kind) -> RenderableType:
    """Draw one kind of schedule with its parameters."""
    drawn = _table(f"{kind.name}: {kind.formula} ({kind.source})", "parameter", "default", "bounds", "meaning")
    for p in (*kind.parameters, WARMUP):
        drawn.add_row(p.name, short(p.default), f"{p.low:g} to {p.high:g}", p.meaning)
    shapes = ", ".join(WARMUP_SHAPES)
    drawn.add_row("warmup_shape", "linear", shapes, "how the rate rises")
    if kind.follows_metric:
        drawn.add_row("signal", SIGNALS[0], ", ".join(SIGNALS), "what the schedule follows")
    drawn.caption = "\n".join(text for text in (kind.meaning, kind.note) if text)
    return drawn


def spaces(rows: Iterable[SearchSpace]) -> RenderableType:
    """Draw the search spaces."""
    drawn = _table("Search spaces", "name", "arms", "about")
    for space in rows:
        drawn.add_row(space.name, ", ".join(arm.arm for arm in space), space.about)
    return drawn


def health(findings: Sequence[Finding]) -> tuple[RenderableType, bool]:
    """Draw what was examined, and return whether all is well."""
    drawn = _table("tuner doctor", "part", "", "result")
    words = {Health.WELL: "ok", Health.PROBLEM: "PROBLEM", Health.TOLD: ""}
    for finding in findings:
        drawn.add_row(finding.part, words[finding.health], finding.text)
    return drawn, all(finding.health is not Health.PROBLEM for finding in findings)
