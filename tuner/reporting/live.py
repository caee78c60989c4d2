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
from tuner.core.values import short
from tuner.study import Snapshot

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

LIVE_SECONDS = 0.5
PLAIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ArmLine:
    """An arm's line in the table.

    ``spent`` of ``planned`` full runs are done (None: no limit of its own), ``tried`` settings have begun. ``best`` is
    a run over the full horizon.
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
        """Full runs' worth of the budget."""
        return f"{self.spent:.3g}/{self.planned or '?'}"


def arm_lines(snapshot: Snapshot) -> list[ArmLine]:
    return [_arm_line(snapshot, arm, cost) for arm, cost in snapshot.records.spent.items()]


def _arm_line(snapshot: Snapshot, arm: str, cost: float) -> ArmLine:
    spec = snapshot.records.spec
    runs = [run for run in snapshot.records.runs if run.spec.arm == arm]
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


def total_work(snapshot: Snapshot) -> int | None:
    """How many full runs' worth the study takes at most, confirmation included; None with a budget of hours."""
    trials = snapshot.records.spec.budget.trials_per_arm
    arms = len(snapshot.records.spec.arms)
    return None if trials is None else trials * arms + plan_cost(snapshot.records.spec, arms).total


def work_done(snapshot: Snapshot) -> float:
    """How many full runs' worth have ended."""
    after = sum(run.state is State.ENDED and run.spec.phase is not Phase.EXPLORE for run in snapshot.records.runs)
    return sum(snapshot.records.spent.values()) + after


def eta_seconds(snapshot: Snapshot, done_here: float, seconds: float) -> float | None:
    """Seconds to go at the pace of the work done since this driver began; None while nothing can be said."""
    total = total_work(snapshot)
    if snapshot.phase == "finished":
        return 0.0
    if total is None or done_here < 2:
        return None
    return max(0.0, total - work_done(snapshot)) * seconds / done_here


def clock(seconds: float | None) -> str:
    """Seconds for people.

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


PHASES = {
    "explore": "searching",
    "noise": "measuring the noise between seeds",
    "confirm": "confirming the finalists on fresh seeds",
    "reference": "measuring the default and your settings on the same seeds",
    "test": "evaluating the test split once",
    "finished": "finished",
}


def table(snapshot: Snapshot, seconds: float, eta: float | None) -> Table:
    """Draw the live table."""
    from rich.table import Table

    spec = snapshot.records.spec
    head = f"{spec.name}: {PHASES[snapshot.phase]}" + (f" ({snapshot.stopping}: stopping)" if snapshot.stopping else "")
    foot = f"{_progress(snapshot)}, {clock(seconds)}, about {clock(eta)} to go"
    several = len(spec.rungs) > 1
    drawn = Table(title=head, caption=foot, title_justify="left", caption_justify="left", expand=False)
    tried = (("tried", "right"),) if several else ()
    for name, justify in (("arm", "left"), ("search", "right"), *tried, (f"best {spec.metric}", "right")):
        drawn.add_column(name, justify="right" if justify == "right" else "left", no_wrap=True)
    drawn.add_column("its settings", overflow="fold", ratio=1)
    for name in ("diverged", "failed", "confirmed", "now"):
        drawn.add_column(name, justify="right", no_wrap=True)
    for line in arm_lines(snapshot):
        best = line.best
        drawn.add_row(
            line.arm,
            line.progress,
            *((str(line.tried),) if several else ()),
            short(best.value) if best else "-",
            str(best.spec.setting).removeprefix(best.spec.setting.family + " ") if best else "",
            str(line.diverged or ""),
            str(line.failed or ""),
            str(line.confirmed or ""),
            str(line.running or ""),
        )
    return drawn


def plain(snapshot: Snapshot, seconds: float, eta: float | None) -> str:
    """Say the same in one line."""
    several = len(snapshot.records.spec.rungs) > 1
    parts = [
        f"{line.arm} {line.progress}"
        + (f" tried {line.tried}" if several else "")
        + (f" best {short(line.best.value)}" if line.best else "")
        + (f" diverged {line.diverged}" if line.diverged else "")
        + (f" failed {line.failed}" if line.failed else "")
        + (f" confirmed {line.confirmed}" if line.confirmed else "")
        for line in arm_lines(snapshot)
    ]
    return f"[{clock(seconds)}] {PHASES[snapshot.phase]}: {_progress(snapshot)}, {clock(eta)} to go; {'; '.join(parts)}"


def _progress(snapshot: Snapshot) -> str:
    """How much is done of what there is to do; in full runs' worth where runs are not all alike."""
    total, ended = total_work(snapshot), sum(run.state is State.ENDED for run in snapshot.records.runs)
    if len(snapshot.records.spec.rungs) == 1 and snapshot.records.spec.fidelity.kind != PRUNE:
        return f"{ended} of {f'at most {total}' if total else '?'} runs"
    return f"{ended} runs, {work_done(snapshot):.3g} of {f'at most {total}' if total else '?'} full runs' worth"


@contextmanager
def watching(look: Callable[[], Snapshot], console: Console) -> Iterator[None]:
    """Show a study while the block runs."""
    over, began = threading.Event(), time.monotonic()
    before = work_done(look())

    def now() -> tuple[Snapshot, float, float | None]:
        snapshot, seconds = look(), time.monotonic() - began
        return snapshot, seconds, eta_seconds(snapshot, work_done(snapshot) - before, seconds)

    if not console.is_terminal:
        thread = threading.Thread(target=_lines, args=(now, console, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            console.print(plain(*now()), soft_wrap=True, markup=False, highlight=False)
        return
    from rich.live import Live

    with Live(console=console, get_renderable=lambda: table(*now()), refresh_per_second=1 / LIVE_SECONDS):
        yield


def _lines(now: Callable[[], tuple[Snapshot, float, float | None]], console: Console, over: threading.Event) -> None:
    while not over.wait(PLAIN_SECONDS):
        console.print(plain(*now()), soft_wrap=True, markup=False, highlight=False)
