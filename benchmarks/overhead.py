"""Seconds per run beyond the training itself: Ray executor, SQLite and MLflow on, steady state.

    python benchmarks/overhead.py [--trials 30] [--parallel 1]

The digits CNN is searched with ``parallel`` runs at a time. A worker records when a run began and ended. The time from
the end of a run to the start of the next one on the same slot is overhead: SQL, Optuna, Tune, messages. The first
quarter of the runs (imports, warm-up) is left out. Timers around the calls of ask, observe and tell show where the
driver spends the time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIMIT = 0.1


def timed(spent: dict[str, list[float]], name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any) -> Any:
        began = time.perf_counter()
        try:
            return call(*args)
        finally:
            spent[name].append(time.perf_counter() - began)

    return wrapper


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=30, help="trials per arm")
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--tracking", default="sqlite:///mlflow.db")
    given = parser.parse_args()
    os.chdir(tempfile.mkdtemp(prefix="tuner-overhead-"))

    from tuner import bootstrap
    from tuner.config.documents import Section
    from tuner.config.study_file import read_study
    from tuner.resolve.asked import resolve

    document = {
        "study": "overhead",
        "workload": "tuner.training.workloads.digits:DigitsCNN",
        "budget": {"trials_per_arm": given.trials},
        "confirmation": {"max_runs": 0},
        "resources": {"parallel": given.parallel},
        "tracking": given.tracking,
    }
    spec = resolve(read_study(Section(document, "overhead.py")))
    settings = bootstrap.settings_for(spec, None, None)
    bootstrap.create(spec, settings)
    spent: dict[str, list[float]] = defaultdict(list)
    with bootstrap.session(spec, settings) as session:
        study: Any = session.study
        for name in ("ask", "observe", "tell"):
            setattr(study, name, timed(spent, name, getattr(study, name)))
        ledger: Any = session.ledger
        ledger.finish = timed(spent, "tell: SQL", ledger.finish)
        ledger.add_trial = timed(spent, "ask: SQL", ledger.add_trial)
        for arm in study._arms.values():
            arm.propose = timed(spent, "ask: Optuna", arm.propose)
            arm.tell = timed(spent, "tell: Optuna", arm.tell)
        session.run()
        runs = sorted((run.result for run in study.snapshot().runs), key=lambda result: result.started_at)
    steady = runs[len(runs) // 4 :]
    lanes: list[float] = [0.0] * given.parallel
    gaps = []
    for result in steady:
        lane = min(range(given.parallel), key=lambda i: lanes[i])
        if lanes[lane]:
            gaps.append(result.started_at - lanes[lane])
        lanes[lane] = result.finished_at
    training = statistics.median(result.finished_at - result.started_at for result in steady)
    print(f"{len(steady)} runs in steady state, {given.parallel} at a time; a run trains {training:.3f} s (median)")
    print(f"between two runs: median {statistics.median(gaps):.3f} s, mean {statistics.fmean(gaps):.3f} s, ", end="")
    print(f"largest {max(gaps):.3f} s (limit {LIMIT} s for the mean)")
    for name, seconds in sorted(spent.items(), key=lambda item: -sum(item[1])):
        print(f"  {name:<14} {sum(seconds) / len(runs) * 1000:6.1f} ms per run, {len(seconds) / len(runs):5.1f} calls")
    print(f"cores {os.cpu_count()}, load {os.getloadavg()[0]:.1f}, in {Path.cwd()}")


if __name__ == "__main__":
    main()
