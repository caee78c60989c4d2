"""Replay recorded runs: how good a strategy's answer is, and how soon, on tables where the truth is known.

    python benchmarks/replay.py --runs benchmarks/recorded/deepobs-runs.csv.gz \
        --curves benchmarks/recorded/deepobs-curves.csv.gz --strategy tuner-ladder --budget 6 --json out.json

The strategies ``tuner-...`` run the product's own Study; only the training is replaced by a look-up. Per study and
strategy, means over the repeats: (a) the share of arms whose finalist is within 1 % of that arm's best; (b) the share
of repeats in which the recommended arm is truly within 1 % of the best arm; (c) the regret of the recommended setting,
in units of |median - best|; (d) the full runs per arm until (a) first holds (the budget where it never does). 1 % is of
|median - best| over the finite final values.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from replay_strategies import STRATEGIES, Spendings, search
from replay_table import WITHIN, Table, read_tables

from tuner.core.errors import TunerError
from tuner.core.values import derive_seed

DEFAULT = "tuner-ladder"
"""The strategy of ``tuner run`` by default."""


@dataclass(frozen=True, slots=True)
class Score:
    """One repeat of one strategy on one study."""

    finalists_good: float
    arm_good: float
    regret: float
    cost_to_good: float


def judge(table: Table, spendings: Spendings, budget: float) -> Score:
    """Compare the finalists with the truth of the table. The finalist of an arm is its best full run."""
    finalists = {
        arm: max((trial for _, trial in one.full), key=lambda t, arm=arm: table.score(arm, t), default=None)
        for arm, one in spendings.items()
    }
    good = [table.good(arm, trial) for arm, trial in finalists.items()]
    costs = [
        next((cost for cost, trial in one.full if table.good(arm, trial)), budget) for arm, one in spendings.items()
    ]
    best, unit = table.scale()
    scores = {arm: table.score(arm, trial) for arm, trial in finalists.items() if trial is not None}
    if not scores or max(scores.values()) == -math.inf:
        return Score(float(np.mean(good)), 0.0, 1.0, float(np.mean(costs)))
    pick = max(scores, key=lambda arm: scores[arm])
    arm_good = best - table.scale([pick])[0] <= WITHIN * unit
    regret = (best - scores[pick]) / (unit or 1.0)
    return Score(float(np.mean(good)), float(arm_good), regret, float(np.mean(costs)))


_TABLES: dict[str, Table] = {}


def load(runs: Path, curves: Path | None) -> None:
    """Read the tables into this process; they replace those read before."""
    _TABLES.clear()
    _TABLES.update({table.name: table for table in read_tables(runs, curves)})


def repeat(study: str, strategy: str, budget: float, seed: int, index: int) -> Score:
    """Run one repeat; repeats of different strategies with the same index share their seed."""
    table = _TABLES[study]
    return judge(table, search(table, strategy, budget, derive_seed(seed, table.name, index)), budget)


def summary(scores: Sequence[Score]) -> dict[str, object]:
    """Return means over the repeats, and half the width of their 95 % intervals (by the normal approximation)."""
    columns = {name: np.array([asdict(score)[name] for score in scores]) for name in asdict(scores[0])}
    means: dict[str, object] = {name: float(values.mean()) for name, values in columns.items()}
    half = {
        name: 1.96 * float(v.std(ddof=1)) / math.sqrt(len(v)) if len(v) > 1 else None for name, v in columns.items()
    }
    means["half_width"] = half
    means["repeats"] = len(scores)
    return means


def line(study: str, strategy: str, budget: float, means: dict[str, object]) -> str:
    half = means["half_width"]
    assert isinstance(half, dict)
    cells = [
        f"{means[name]:.3f} ± {half[name] or 0.0:.3f}"
        for name in ("finalists_good", "arm_good", "regret", "cost_to_good")
    ]
    return f"| {study} | {strategy} | {budget:g} | " + " | ".join(cells) + " |"


HEAD = (
    "| study | strategy | budget | (a) finalists good | (b) arm good | (c) regret | (d) full runs to (a) |\n"
    "|---|---|---|---|---|---|---|"
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--curves", type=Path)
    parser.add_argument("--strategy", choices=STRATEGIES, nargs="+", default=[DEFAULT])
    parser.add_argument("--budget", type=float, default=6.0, help="full runs per arm")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--study", nargs="*", help="only these studies of the file")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, metavar="OUT")
    args = parser.parse_args(argv)
    if args.budget < 1 or args.budget != int(args.budget) or args.repeats < 1:
        parser.error("--budget and --repeats are whole numbers from 1 on")
    try:
        load(args.runs, args.curves)
    except TunerError as error:
        print(f"replay: {error}", file=sys.stderr)
        return error.exit_code
    if unknown := [name for name in args.study or [] if name not in _TABLES]:
        parser.error(f"--study names {unknown[0]!r}; the file holds {', '.join(_TABLES)}")
    studies: dict[str, dict[str, object]] = {}
    print(HEAD)
    with ProcessPoolExecutor(args.processes, initializer=load, initargs=(args.runs, args.curves)) as pool:
        for study in args.study or _TABLES:
            for strategy in args.strategy:
                run_repeat = partial(repeat, study, strategy, args.budget, args.seed)
                means = summary(list(pool.map(run_repeat, range(args.repeats), chunksize=max(1, args.repeats // 16))))
                studies.setdefault(study, {})[strategy] = means
                print(line(study, strategy, args.budget, means), flush=True)
    if args.json:
        document = {"budget": args.budget, "seed": args.seed, "studies": studies}
        args.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
