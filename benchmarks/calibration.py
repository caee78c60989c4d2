"""Error rates and power of the verdict: whole simulated studies, judged by the product's own rule.

    python benchmarks/calibration.py --studies 4000 --out calibration.json

The truth is set, studies are simulated, verdicts are counted; nothing is trained. For every shape of noise, verdicts
from arrays are compared with verdicts from the same studies as records (``Analysis``).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tuner.analysis.analysis import Analysis
from tuner.analysis.statistics.estimates import Array
from tuner.analysis.verdict.advice import MOST, clear, search_seeds
from tuner.analysis.verdict.family import permutation_test
from tuner.analysis.verdict.finalists import finalists
from tuner.analysis.verdict.looks import extension_level, looks_for
from tuner.analysis.verdict.power import POWER, SHAPES, WIN, judge, seeds_at, seeds_for, shift_for
from tuner.config.documents import Section
from tuner.config.spec import StudySpec
from tuner.config.study_file import read_spec
from tuner.core.records import Horizon, Outcome, Phase, RunRecord, RunResult, RunSpec, Source, State, TrialRecord
from tuner.study_records import StudyRecords

ALPHA = 0.05
SEEDS = 10
TRIALS = 10
ARMS = ("sgdm", "nag", "adamw", "adam")
TIE_SEEDS = (6, 8, 10, 13, 16, 20, 24, 32, 40)


@dataclass(frozen=True, slots=True)
class Row:
    """One measured rate, with the bounds that it has to keep (None: no bound)."""

    part: str
    case: str
    what: str
    rate: float
    studies: int
    low: float | None = None
    high: float | None = None
    slack: float = 3.0

    @property
    def error(self) -> float:
        """The standard error of the rate; for a rate of 0 or 1, that of one study less or more."""
        rate = min(max(self.rate, 1 / self.studies), 1 - 1 / self.studies)
        return float(np.sqrt(rate * (1 - rate) / self.studies))

    @property
    def held(self) -> bool:
        """Whether the rate keeps its bounds, within ``slack`` standard errors."""
        high, low = (1.0 if self.high is None else self.high), (0.0 if self.low is None else self.low)
        return low - self.slack * self.error <= self.rate <= high + self.slack * self.error


def equal_finalists(rng: np.random.Generator, studies: int) -> list[Row]:
    """(a) and (e): arms whose true means are equal, of one shape or of unlike ones; the looks of ten seeds."""
    rows, looks = [], looks_for(SEEDS, ALPHA)
    for shape, draw in SHAPES.items():
        for arms in (2, 4):
            judged = judge(draw(rng, (arms, studies, SEEDS)), looks, ALPHA)
            what = f"false winner, {arms} equal arms"
            rows.append(Row("equal finalists", shape, what, float((judged.winner >= 0).mean()), studies, high=ALPHA))
    for case, other in _UNLIKE.items():
        draws = np.stack([rng.normal(size=(studies, SEEDS)), other(rng, (studies, SEEDS))])
        judged = judge(draws, looks, ALPHA)
        rate = float((judged.winner >= 0).mean())
        rows.append(Row("equal means, unlike shapes", case, "false winner, 2 arms", rate, studies, high=ALPHA))
    return rows


_UNLIKE: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "normal, normal of twice the spread": lambda rng, size: 2.0 * rng.normal(size=size),
    "normal, heavy-tailed": lambda rng, size: rng.standard_t(3, size=size),
    "normal, bimodal": lambda rng, size: rng.normal(size=size) + 4.0 * ((rng.random(size) < 0.3) - 0.3),
}


def power_at_three_of_four(rng: np.random.Generator, studies: int) -> list[Row]:
    """(c) and (e): one arm better on three of four seeds; ten seeds, and the number that ``tuner check`` advises."""
    rows, advised = [], seeds_for(ALPHA)
    assert advised is not None
    for shape, draw in SHAPES.items():
        for seeds, low in ((SEEDS, None), (advised, POWER)):
            draws = draw(rng, (2, studies, seeds))
            draws[0] += shift_for(shape, WIN)
            judged = judge(draws, looks_for(seeds, ALPHA), ALPHA, exact=False)
            part, case = f"P(A > B) = {WIN}", f"{shape}, {seeds} seeds"
            rows.append(Row(part, case, "the better arm wins", float((judged.winner == 0).mean()), studies, low=low))
            rows.append(Row(part, case, "decided at the interim look", float(judged.early.mean()), studies))
    return rows


def after_a_pilot(rng: np.random.Generator, studies: int) -> list[Row]:
    """(c): ten seeds; where they are inconclusive, one extension to the number in ``seeds_needed``."""
    looks, rows = looks_for(SEEDS, ALPHA), []
    level = extension_level(looks, ALPHA)
    least = seeds_at(level) or MOST
    for shape, draw in SHAPES.items():
        draws = draw(rng, (2, studies, 1_000))
        draws[0] += shift_for(shape, WIN)
        first = judge(draws[:, :, :SEEDS], looks, ALPHA)
        right, asked = first.winner == 0, []
        for study in np.flatnonzero(first.winner < 0):
            values = draws[:, study]
            margin = float(np.sqrt(values[:, :SEEDS].var(axis=1, ddof=1).mean()))
            start = SEEDS + 1 if clear(values[:, :SEEDS]) else least
            needed = search_seeds(values[:, :SEEDS], level, ALPHA, margin, start)
            asked.append(needed or 1_001)
            if needed:
                more = judge(values[:, None, :needed], looks_for(SEEDS, ALPHA, (needed,)), ALPHA, exact=False)
                right[study] = more.winner[0] == 0
        case = f"{shape}, 10 seeds, then {np.median(asked):.0f} in the median"
        what = "the better arm wins"
        rows.append(Row(f"P(A > B) = {WIN}, after a pilot", case, what, float(right.mean()), studies, low=POWER))
    return rows


def ties(rng: np.random.Generator, studies: int) -> list[Row]:
    """(d): how often two equal arms tie; min_effect is one standard deviation, measured on four other seeds per arm."""
    rows = []
    for shape in ("normal", "heavy-tailed"):
        for seeds in TIE_SEEDS:
            draws = SHAPES[shape](rng, (2, studies, seeds))
            outside = np.sqrt(SHAPES[shape](rng, (2, studies, 4)).var(axis=2, ddof=1).mean(axis=0))
            judged = judge(draws, looks_for(seeds, ALPHA), ALPHA, outside, exact=False)
            rows.append(Row("ties of equal arms", f"{shape}, {seeds} seeds", "tie", float(judged.tie.mean()), studies))
    return rows


def two_searches(rng: np.random.Generator, studies: int) -> list[Row]:
    """(b): the whole procedure for two arms with one space; trials differ by more than seeds do."""
    rows = []
    for shape, draw in SHAPES.items():
        quality = -rng.exponential(size=(2, studies, TRIALS))
        seen = quality + 0.1 * draw(rng, quality.shape)
        best = seen.argmax(axis=2)
        truth = np.take_along_axis(quality, best[:, :, None], axis=2)
        fresh = truth + 0.1 * draw(rng, (2, studies, SEEDS))
        winner = judge(fresh, looks_for(SEEDS, ALPHA), ALPHA).winner
        false = 0
        for study in np.flatnonzero(winner >= 0):
            p, gap = permutation_test(seen[0, study], seen[1, study])
            false += p <= ALPHA and (gap > 0) == (winner[study] == 0)
        part = "two arms, one space"
        rows.append(Row(part, shape, "the finalists' settings differ: winner", float((winner >= 0).mean()), studies))
        rows.append(Row(part, shape, "false family winner", false / studies, studies, high=ALPHA))
    return rows


def cross_check(rng: np.random.Generator, studies: int) -> list[Row]:
    """The same studies as records: the analysis must give the verdicts that the arrays gave, families included."""
    rows = []
    for shape, draw in SHAPES.items():
        agreed = 0
        for _ in range(studies):
            search = -rng.exponential(size=(2, TRIALS)) + 0.1 * draw(rng, (2, TRIALS))
            fresh = draw(rng, (2, SEEDS))
            fresh[0] += rng.choice([0.0, 1.5])
            judged = judge(fresh[:, None], looks_for(SEEDS, ALPHA), ALPHA)
            kind = "winner" if judged.winner[0] >= 0 else "tie" if judged.tie[0] else "inconclusive"
            arm = ARMS[int(judged.winner[0])] if kind == "winner" else None
            p, gap = permutation_test(search[0], search[1])
            family = arm is not None and p <= ALPHA and (gap > 0) == (arm == ARMS[0])
            answer = Analysis(records(search, fresh)).evidence
            same = (answer.verdict.kind, answer.verdict.arm) == (kind, arm)
            agreed += same and (answer.family.kind == "winner") == family
        rows.append(
            Row("arrays and records", shape, "the same verdicts", agreed / studies, studies, low=1.0, slack=0.0)
        )
    return rows


def records(search: Array, fresh: Array) -> StudyRecords:
    """Write arms by trials, and arms by seeds, as a study of the product."""
    arms = ARMS[: len(search)]
    rate = {"learning_rate": {"low": 1e-5, "high": 1.0, "scale": "log"}}
    data = {
        "study": "simulated",
        "workload": "simulated:Workload",
        "metric": {"name": "score", "direction": "maximize"},
        "horizon": {"steps": 1},
        "space": {"name": "one-rate", "arms": dict.fromkeys(arms, rate)},
        "budget": {"trials_per_arm": search.shape[1]},
        "sampler": "random",
        "fidelity": "full",
        "confirmation": {"seeds": fresh.shape[1], "alpha": ALPHA, "noise_seeds": 0},
    }
    spec = read_spec(Section(data, "calibration"))
    trials = [
        TrialRecord(arm, index, Source.RANDOM, spec.space.arm(arm).default, {})
        for arm in arms
        for index in range(search.shape[1])
    ]
    runs = [
        _run(spec, trial, Phase.EXPLORE, spec.search_seed, float(search[arms.index(trial.arm), trial.index]))
        for trial in trials
    ]
    chosen = finalists(StudyRecords(spec, tuple(trials), tuple(runs)))
    by_name = {(trial.arm, trial.index): trial for trial in trials}
    runs += [
        _run(spec, by_name[arm, chosen[arm]], Phase.CONFIRM, spec.confirm_seed(chosen, index), float(value))
        for arm, row in zip(arms, fresh, strict=True)
        for index, value in enumerate(row)
    ]
    return StudyRecords(spec, tuple(trials), tuple(runs))


def _run(spec: StudySpec, trial: TrialRecord, phase: Phase, seed: int, value: float) -> RunRecord:
    run = RunSpec(
        study=spec.name,
        arm=trial.arm,
        trial=trial.index,
        phase=phase,
        seed=seed,
        horizon=Horizon(1, "steps"),
        setting=trial.setting,
        workload=spec.workload,
        metric=spec.metric,
        direction=spec.direction,
    )
    return RunRecord(run, State.QUEUED).ended(RunResult(Outcome.COMPLETED, value, step=1))


def calibrate(studies: int, seed: int = 0) -> list[Row]:
    """Measure all rates; parts that search for the number of seeds in each study take fewer studies."""
    few = max(20, studies // 10)
    parts: Sequence[tuple[Callable[[np.random.Generator, int], list[Row]], int]] = (
        (equal_finalists, studies),
        (two_searches, studies),
        (power_at_three_of_four, studies),
        (after_a_pilot, few),
        (ties, studies),
        (cross_check, min(few, 100)),
    )
    return [row for number, (part, n) in enumerate(parts) for row in part(np.random.default_rng((seed, number)), n)]


def table(rows: Sequence[Row]) -> str:
    """Return the rates as Markdown."""
    lines = ["| part | case | what | rate | ± | bound |", "|---|---|---|---:|---:|---|"]
    for row in rows:
        bound = f"<= {row.high:g}" if row.high is not None else f">= {row.low:g}" if row.low is not None else ""
        held = "" if row.held else " **broken**"
        lines.append(
            f"| {row.part} | {row.case} | {row.what} | {100 * row.rate:.1f} % | {100 * row.error:.1f} | {bound}{held} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Run from the command line; return 1 if a bound is broken."""
    parser = argparse.ArgumentParser(description="Measure the error rates and the power of the verdict.")
    parser.add_argument("--studies", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write the rates as JSON")
    options = parser.parse_args()
    began = time.perf_counter()
    rows = calibrate(options.studies, options.seed)
    print(table(rows))
    print(f"\n{time.perf_counter() - began:.0f} s, at most {options.studies} studies per rate, seed {options.seed}")
    if options.out:
        options.out.write_text(json.dumps([asdict(row) | {"held": row.held} for row in rows], indent=1) + "\n")
    return 0 if all(row.held for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
