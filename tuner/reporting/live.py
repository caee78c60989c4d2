"""What a person sees while a study runs: a live table, or plain lines where there is no terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuner.analysis.plan import plan_cost
from tuner.records import Outcome, Phase, RunRecord, State, short
from tuner.study import Snapshot

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

LIVE_SECONDS = 0.5
PLAIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ArmLine:
    """An arm's line in the table."""

    arm: str
    done: int
    planned: int | None
    best: RunRecord | None
    diverged: int
    failed: int
    running: int
    confirmed: int


def arm_lines(snapshot: Snapshot) -> list[ArmLine]:
    return [_arm_line(snapshot, arm.arm) for arm in snapshot.spec.arms]


def _arm_line(snapshot: Snapshot, arm: str) -> ArmLine:
    runs = [run for run in snapshot.runs if run.spec.arm == arm]
    search = [run for run in runs if run.spec.phase is Phase.EXPLORE]
    values = [run for run in search if run.value is not None and run.outcome is Outcome.COMPLETED]
    sign = snapshot.spec.sign
    return ArmLine(
        arm=arm,
        done=sum(run.state is State.ENDED for run in search),
        planned=snapshot.spec.budget.trials_per_arm,
        best=max(values, key=lambda run: sign * (run.value or 0.0), default=None),
        diverged=sum(run.outcome is Outcome.DIVERGED for run in runs),
        failed=sum(run.outcome in (Outcome.FAILED, Outcome.LOST) for run in runs),
        running=sum(run.state is State.RUNNING for run in runs),
        confirmed=sum(run.state is State.ENDED for run in runs if run.spec.phase is Phase.CONFIRM),
    )


def total_runs(snapshot: Snapshot) -> int | None:
    """How many runs the study takes at most, confirmation included; None with a budget of hours."""
    trials = snapshot.spec.budget.trials_per_arm
    arms = len(snapshot.spec.arms)
    return None if trials is None else trials * arms + plan_cost(snapshot.spec, arms).total


def eta_seconds(snapshot: Snapshot, done_here: int, seconds: float) -> float | None:
    """Seconds to go at the pace since this driver began; None while nothing can be said."""
    total = total_runs(snapshot)
    ended = sum(run.state is State.ENDED for run in snapshot.runs)
    if snapshot.phase == "finished":
        return 0.0
    if total is None or done_here < 2:
        return None
    return max(0, total - ended) * seconds / done_here


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

    spec = snapshot.spec
    total = total_runs(snapshot)
    ended = sum(run.state is State.ENDED for run in snapshot.runs)
    head = f"{spec.name}: {PHASES[snapshot.phase]}" + (f" ({snapshot.stopping}: stopping)" if snapshot.stopping else "")
    foot = f"{ended} of {f'at most {total}' if total else '?'} runs, {clock(seconds)}, about {clock(eta)} to go"
    drawn = Table(title=head, caption=foot, title_justify="left", caption_justify="left", expand=False)
    for name, justify in (("arm", "left"), ("search", "right"), (f"best {spec.metric}", "right")):
        drawn.add_column(name, justify="right" if justify == "right" else "left", no_wrap=True)
    drawn.add_column("its settings", overflow="fold", ratio=1)
    for name in ("diverged", "failed", "confirmed", "now"):
        drawn.add_column(name, justify="right", no_wrap=True)
    for line in arm_lines(snapshot):
        best = line.best
        drawn.add_row(
            line.arm,
            f"{line.done}/{line.planned or '?'}",
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
    ended = sum(run.state is State.ENDED for run in snapshot.runs)
    parts = [
        f"{line.arm} {line.done}/{line.planned or '?'}"
        + (f" best {short(line.best.value)}" if line.best else "")
        + (f" diverged {line.diverged}" if line.diverged else "")
        + (f" failed {line.failed}" if line.failed else "")
        + (f" confirmed {line.confirmed}" if line.confirmed else "")
        for line in arm_lines(snapshot)
    ]
    total = total_runs(snapshot)
    runs = f"{ended}/{total}" if total else str(ended)
    return f"[{clock(seconds)}] {PHASES[snapshot.phase]}: {runs} runs, {clock(eta)} to go; {'; '.join(parts)}"


@contextmanager
def watching(look: Callable[[], Snapshot], console: Console) -> Iterator[None]:
    """Show a study while the block runs."""
    over, began = threading.Event(), time.monotonic()
    before = sum(run.state is State.ENDED for run in look().runs)

    def now() -> tuple[Snapshot, float, float | None]:
        snapshot, seconds = look(), time.monotonic() - began
        done_here = sum(run.state is State.ENDED for run in snapshot.runs) - before
        return snapshot, seconds, eta_seconds(snapshot, done_here, seconds)

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
