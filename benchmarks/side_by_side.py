"""The product beside the plain script: 24 settings x 18 epochs of the digits CNN, two cores, in one call.

    python benchmarks/side_by_side.py [--repeats 3]

Each round runs, in turn and as whole processes: ``tuner run`` (all 432 epochs, SQLite and MLflow on), and
``plain_ray_tune.py`` (Ray Tune, OptunaSearch, ASHA, MLflow's logger) once with
Tune's defaults and once with ``reuse_actors=True``. It prints the median seconds of each, the ratios, and where the
product's time goes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
STUDY = """\
study: side-by-side
workload: tuner.training.workloads.digits:DigitsCNN
horizon: {epochs: 18}
budget: {trials_per_arm: 12}
confirmation: {max_runs: 0}
"""


def whole(command: list[str], folder: Path) -> tuple[float, str]:
    """Run a command in a folder; return its seconds and the last line that it printed."""
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return seconds, (done.stdout.strip().splitlines() or [""])[-1]


def product(folder: Path) -> float:
    (folder / "study.yaml").write_text(STUDY)
    return whole([sys.executable, "-m", "tuner", "run", "study.yaml"], folder)[0]


def plain(folder: Path, *, reuse: bool) -> tuple[float, dict[str, float]]:
    command = [sys.executable, str(HERE / "plain_ray_tune.py"), *(["--reuse"] if reuse else [])]
    seconds, said = whole(command, folder)
    return seconds, json.loads(said)


def breakdown(folder: Path, seconds: float) -> None:
    """Print where the product's seconds went, from the timestamps in its ledger."""
    from tuner.storage.ledger import Ledger

    ledger = Ledger(f"sqlite:///{folder}/tuner.db")
    row = ledger.study("side-by-side")
    results = [run.result for run in ledger.runs(row) if run.result]
    first, last = min(r.started_at for r in results), max(r.finished_at for r in results)
    training = sum(r.train_seconds + r.eval_seconds for r in results)
    inside = sum(r.finished_at - r.started_at for r in results)
    print(f"where {seconds:.1f} s of the product went ({len(results)} runs, {len(results) * 18} epochs):")
    print(f"  Ray's start, workers and their imports   {first - row.created_at:6.1f} s")
    print(f"  first run's begin to last run's end      {last - first:6.1f} s on 2 slots, of which")
    print(f"    training and evaluation                {training / 2:6.1f} s a slot")
    print(f"    models, optimizers, first-run imports  {(inside - training) / 2:6.1f} s a slot")
    print(f"    idle: SQL, Optuna, Tune, the wire      {last - first - inside / 2:6.1f} s a slot")
    rest = seconds - (last - row.created_at)
    print(f"  the driver's imports before, and after the last run: verdict, pictures, MLflow catching up {rest:6.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    names = ("tuner", "plain, Tune's defaults", "plain, reuse_actors")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    epochs: dict[str, list[float]] = {name: [] for name in names}
    for number in range(repeats):
        base = Path(tempfile.mkdtemp(prefix="side-by-side-"))
        folders = [base / str(i) for i in range(3)]
        for folder in folders:
            folder.mkdir()
        seconds[names[0]].append(product(folders[0]))
        epochs[names[0]].append(24 * 18)
        for name, folder, reuse in ((names[1], folders[1], False), (names[2], folders[2], True)):
            taken, said = plain(folder, reuse=reuse)
            seconds[name].append(taken)
            epochs[name].append(said["epochs"])
        print(f"round {number + 1}: " + ", ".join(f"{name} {seconds[name][-1]:.1f} s" for name in names), flush=True)
        if number == repeats - 1:
            breakdown(folders[0], seconds[names[0]][-1])
    ours = statistics.median(seconds[names[0]])
    for name in names:
        median = statistics.median(seconds[name])
        done = statistics.median(epochs[name])
        print(f"{name:<24} median {median:6.1f} s for {done:.0f} epochs; tuner takes {ours / median:.2f} of it")
    print(f"cores {os.cpu_count()}, load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
