"""Tables for people: studies, a study's state, optimizer families, schedules, spaces, the installation's health."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tuner.families import CAMPS, FAMILIES, Family
from tuner.records import Outcome, Phase, RunRecord, State, TrialRecord, short
from tuner.reporting.live import clock, table
from tuner.schedules import SCHEDULES, WARMUP, Kind
from tuner.space import SearchSpace
from tuner.spec import StudySpec
from tuner.storage.reading import StudyRow
from tuner.study import Snapshot

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
    if not rows:
        return "No study yet. Start one with: tuner run STUDY.yaml"
    drawn = _table("Studies", "name", "state", "runs", "driven by", "started", "time used")
    for row in rows:
        started = datetime.datetime.fromtimestamp(row.created_at).strftime("%Y-%m-%d %H:%M")
        drawn.add_row(
            row.name, row.state, str(counts[row.name]), holders[row.name] or "-", started, clock(row.seconds_used)
        )
    return drawn


def status(
    row: StudyRow, spec: StudySpec, trials: Sequence[TrialRecord], runs: Sequence[RunRecord], holder: str | None
) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    active = [run.spec.phase.value for run in runs if run.state is not State.ENDED]
    phase = "finished" if row.state == "finished" else active[-1] if active else Phase.EXPLORE.value
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
    snapshot = Snapshot(spec, tuple(trials), tuple(runs), phase, "")
    return Group(table(snapshot, row.seconds_used, None), Text("\n".join(lines)))


def families() -> RenderableType:
    drawn = _table("Optimizer families", "name", "camp", "state per parameter", "hyperparameters", "source")
    for row in FAMILIES.values():
        names = ", ".join(h.name for h in row.hyperparameters)
        drawn.add_row(row.name, CAMPS[row.camp], f"{4 * row.state_slots} bytes", names, row.source)
    return drawn


def family_page(row: Family) -> RenderableType:
    title = f"{row.name} ({CAMPS[row.camp]}): {row.source}"
    drawn = _table(title, "hyperparameter", "default", "bounds", "meaning")
    for h in row.hyperparameters:
        drawn.add_row(h.name, short(h.default), f"{h.low:g} to {h.high:g}", h.meaning)
    schedule = row.default_schedule["kind"]
    state = f"{4 * row.state_slots} bytes of state per parameter"
    drawn.caption = f"{state}; default schedule {schedule}; defaults: {row.default_source}"
    return drawn


def schedules() -> RenderableType:
    drawn = _table("Schedules (x: share of the horizon after the warm-up)", "kind", "factor", "parameters", "source")
    for kind in SCHEDULES.values():
        names = ", ".join(p.name for p in (*kind.parameters, WARMUP))
        drawn.add_row(kind.name, kind.formula, names, kind.source)
    return drawn


def schedule_page(kind: Kind) -> RenderableType:
    drawn = _table(f"{kind.name}: {kind.formula} ({kind.source})", "parameter", "default", "bounds", "meaning")
    for p in (*kind.parameters, WARMUP):
        drawn.add_row(p.name, short(p.default), f"{p.low:g} to {p.high:g}", p.meaning)
    return drawn


def spaces(found: Iterable[SearchSpace]) -> RenderableType:
    drawn = _table("Search spaces", "name", "arms", "about")
    for space in found:
        drawn.add_row(space.name, ", ".join(arm.arm for arm in space), space.about)
    return drawn


def health(findings: Sequence[tuple[str, bool | None, str]]) -> tuple[RenderableType, bool]:
    """Draw what was examined: a name, whether it is well (None: only told), and what was found."""
    drawn = _table("tuner doctor", "part", "", "found")
    for part, well, found in findings:
        drawn.add_row(part, {True: "ok", False: "PROBLEM", None: ""}[well], found)
    return drawn, all(well is not False for _, well, _ in findings)
