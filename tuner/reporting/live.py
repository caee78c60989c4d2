"""What a person sees while a study runs: a live table, or plain lines where there is no terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuner.analysis.verdict.plan import plan_cost
from tuner.config.fidelity import PRUNE
from tuner.config.spec import COMPARE
from tuner.core.records import Outcome, Phase, RunRecord, State
from tuner.core.values import counted, short
from tuner.study_records import StudyRecords

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tuner.study import Snapshot

LIVE_SECONDS = 0.5
PLAIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ArmLine:
    """An arm's line in the table.

    ``spent`` of ``planned`` full runs are done (None: the arm has no limit of its own), ``tried`` settings have begun.
    ``best`` is the best run over the full horizon.
    """

    arm: str
    spent: float
    planned: int | None
    tried: int
    best: RunRecord | None
    diverged: int
    failed: int
    running: int
    confirmed: int

    @property
    def progress(self) -> str:
        """How many full runs of the arm's budget are spent."""
        return f"{self.spent:.3g}/{self.planned or '?'}"


def arm_lines(records: StudyRecords) -> list[ArmLine]:
    """Return the line of each arm, in the space's order."""
    return [_arm_line(records, arm, cost) for arm, cost in records.spent.items()]


def _arm_line(records: StudyRecords, arm: str, cost: float) -> ArmLine:
    spec = records.spec
    runs = [run for run in records.runs if run.spec.arm == arm]
    full = [run for run in runs if run.spec.phase is Phase.EXPLORE and run.spec.horizon == spec.horizon]
    values = [run for run in full if run.value is not None and run.outcome is Outcome.COMPLETED]
    sign = spec.sign
    return ArmLine(
        arm=arm,
        spent=cost,
        planned=spec.budget.trials_per_arm if spec.allocation == COMPARE else None,
        tried=len({run.spec.trial for run in runs if run.spec.phase is Phase.EXPLORE}),
        best=max(values, key=lambda run: sign * (run.value or 0.0), default=None),
        diverged=sum(run.outcome is Outcome.DIVERGED for run in runs),
        failed=sum(run.outcome in (Outcome.FAILED, Outcome.LOST) for run in runs),
        running=sum(run.state is State.RUNNING for run in runs),
        confirmed=sum(run.state is State.ENDED for run in runs if run.spec.phase is Phase.CONFIRM),
    )


def total_work(records: StudyRecords) -> int | None:
    """Return the most full runs that the study takes, confirmation included; None with a budget of hours."""
    trials, arms = records.spec.budget.trials_per_arm, len(records.spec.arms)
    return None if trials is None else trials * arms + plan_cost(records.spec, arms).total


def work_done(records: StudyRecords) -> float:
    """Return how much of it has ended, in full runs."""
    after = sum(run.state is State.ENDED and run.spec.phase is not Phase.EXPLORE for run in records.runs)
    return sum(records.spent.values()) + after


def eta_seconds(records: StudyRecords, phase: str, done_here: float, seconds: float) -> float | None:
    """Return the seconds left at the pace of the work done since this driver began; None where that is unknown.

    Args:
        records: the study as it stands.
        phase: what it is doing, a key of ``PHASES``.
        done_here: full runs that have ended since this driver began.
        seconds: how long this driver has been at work.
    """
    total = total_work(records)
    if phase == FINISHED:
        return 0.0
    if total is None or done_here < 2:
        return None
    return max(0.0, total - work_done(records)) * seconds / done_here


def clock(seconds: float | None) -> str:
    """Return a duration in words.

    >>> clock(None), clock(42.4), clock(754), clock(7300)
    ('-', '42 s', '12 min 34 s', '2 h 01 min')
    """
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


FINISHED = "finished"
PHASES = {
    "explore": "searching",
    "noise": "measuring the noise between seeds",
    "confirm": "confirming the finalists on fresh seeds",
    "reference": "training the references (default, your settings) on the same seeds",
    "test": "evaluating the test split once",
    FINISHED: "finished",
}


def table(records: StudyRecords, phase: str, seconds: float, eta: float | None, stopping: str = "") -> Table:
    """Draw the live table.

    Args:
        records: the study as it stands.
        phase: what it is doing, a key of ``PHASES``.
        seconds: how long it has been at work.
        eta: about how many seconds are left; None leaves that out.
        stopping: why it is about to stop; empty if it is not.
    """
    from rich.table import Table

    spec = records.spec
    head = f"{spec.name}: {PHASES[phase]}" + (f" ({stopping}: stopping)" if stopping else "")
    foot = f"{_progress(records)}; {_time(seconds, None if phase == FINISHED else eta)}"
    on_ladder = len(spec.rungs) > 1
    drawn = Table(title=head, caption=foot, title_justify="left", caption_justify="left", expand=False)
    tried = ("settings tried",) if on_ladder else ()
    for name in ("arm", "full runs", *tried, f"best {spec.metric}"):
        drawn.add_column(name, justify="left" if name == "arm" else "right", no_wrap=name != "settings tried")
    drawn.add_column("its settings", overflow="fold", ratio=1)
    for name in ("diverged", "failed", "confirmed", "running"):
        drawn.add_column(name, justify="right", no_wrap=True)
    for line in arm_lines(records):
        best = line.best
        drawn.add_row(
            line.arm,
            line.progress,
            *((str(line.tried),) if on_ladder else ()),
            short(best.value) if best else "-",
            str(best.spec.setting).removeprefix(best.spec.setting.family + " ") if best else "",
            str(line.diverged or ""),
            str(line.failed or ""),
            str(line.confirmed or ""),
            str(line.running or ""),
        )
    return drawn


def plain(records: StudyRecords, phase: str, seconds: float, eta: float | None) -> str:
    """Return the same in one line; see :func:`table` for the arguments."""
    on_ladder = len(records.spec.rungs) > 1
    arms = [
        f"{line.arm} {line.progress} full runs"
        + (f", {counted(line.tried, 'setting')} tried" if on_ladder else "")
        + (f", best {short(line.best.value)}" if line.best else "")
        + (f", {line.diverged} diverged" if line.diverged else "")
        + (f", {line.failed} failed" if line.failed else "")
        + (f", {line.confirmed} confirmed" if line.confirmed else "")
        for line in arm_lines(records)
    ]
    left = "" if eta is None or phase == FINISHED else f", about {clock(eta)} left"
    return f"[{clock(seconds)}] {PHASES[phase]}: {_progress(records)}{left}; {'; '.join(arms)}"


def _time(seconds: float, eta: float | None) -> str:
    return f"{clock(seconds)} so far" + ("" if eta is None else f", about {clock(eta)} left")


def _progress(records: StudyRecords) -> str:
    """How much is done of what there is to do, in full runs where runs are of different lengths."""
    total, ended = total_work(records), sum(run.state is State.ENDED for run in records.runs)
    if len(records.spec.rungs) == 1 and records.spec.fidelity.kind != PRUNE:
        return f"{ended} of at most {counted(total, 'run')}" if total else f"{counted(ended, 'run')} ended"
    done, limit = work_done(records), f" of at most {total}" if total else ""
    return f"{counted(ended, 'run')} ended, worth {done:.3g}{limit} full runs"


@contextmanager
def watching(look: Callable[[], Snapshot], console: Console) -> Iterator[None]:
    """Show a study while the block runs."""
    over, began = threading.Event(), time.monotonic()
    before = work_done(look().records)

    def timed() -> tuple[Snapshot, float, float | None]:
        snapshot, seconds = look(), time.monotonic() - began
        done_here = work_done(snapshot.records) - before
        return snapshot, seconds, eta_seconds(snapshot.records, snapshot.phase, done_here, seconds)

    def line() -> str:
        snapshot, seconds, eta = timed()
        return plain(snapshot.records, snapshot.phase, seconds, eta)

    def drawn() -> Table:
        snapshot, seconds, eta = timed()
        return table(snapshot.records, snapshot.phase, seconds, eta, snapshot.stopping)

    if not console.is_terminal:
        thread = threading.Thread(target=_lines, args=(line, console, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            console.print(line(), soft_wrap=True, markup=False, highlight=False)
        return
    from rich.live import Live

    with Live(console=console, get_renderable=drawn, refresh_per_second=1 / LIVE_SECONDS):
        yield


def _lines(line: Callable[[], str], console: Console, over: threading.Event) -> None:
    while not over.wait(PLAIN_SECONDS):
        console.print(line(), soft_wrap=True, markup=False, highlight=False)
