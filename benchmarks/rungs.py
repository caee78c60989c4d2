"""Compare rungs with prefixes: how well each ranks the settings of recorded runs; nothing is trained here.

    python benchmarks/rungs.py --runs benchmarks/recorded/own-runs.csv.gz --curves benchmarks/recorded/own-curves.csv.gz

For each study whose settings were trained at several horizons, two values are compared with the end of the full run:
that of the run whose schedule is timed to a lower horizon (the rung), and that of the full run at the same step (the
prefix). Settings are compared by rank; a diverged run is the worst.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from tuner.core.errors import InputError, TunerError
from tuner.core.records import Phase
from tuner.recorded.csv_reading import read_curves, read_runs
from tuner.recorded.rows import Curves, RecordedRun

Array: TypeAlias = NDArray[np.float64]

RESAMPLES = 2_000
RUNG, PREFIX, FULL = 0, 1, 2
"""The columns of scores."""


@dataclass(frozen=True, slots=True)
class Part:
    """The settings of a study at one lower horizon.

    ``scores`` has shape (settings, 3), more is better: the run timed to ``horizon``, the full run after ``horizon``
    steps, the full run at its end.
    """

    study: str
    horizon: float
    full: float
    arms: tuple[str, ...]
    kinds: tuple[str, ...]
    scores: Array


@dataclass(frozen=True, slots=True)
class Agreement:
    """Spearman's correlations of rung and of prefix with the full run in one arm; the 95 % interval of their gap.

    ``places`` are the ranks in full of the setting that leads on the rung, and of the one that leads among the prefixes
    (the mean rank where several lead).
    """

    part: Part
    arm: str
    settings: int
    rung: float
    prefix: float
    low: float
    high: float
    places: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Tilt:
    """How far one side is ranked above another, among the better half of all settings.

    In points: the mean share of the others that a setting beats, of the first side less that of the second, times
    100. ``low`` and ``high`` are 95 % intervals of rung less full and of prefix less full.
    """

    part: Part
    sides: tuple[str, str]
    settings: tuple[int, int]
    points: tuple[float, float, float]
    low: tuple[float, float]
    high: tuple[float, float]


def parts(rows: Iterable[RecordedRun], curves: Curves) -> list[Part]:
    """Return every study at every lower horizon, with the search's settings that ran at all horizons."""
    studies: dict[str, dict[tuple[str, str], dict[float, RecordedRun]]] = {}
    for row in rows:
        if row.phase is Phase.EXPLORE and row.horizon:
            studies.setdefault(row.study, {}).setdefault((row.arm, row.setting), {})[row.horizon] = row
    comparisons = []
    for study, settings in sorted(studies.items()):
        horizons = sorted({horizon for runs in settings.values() for horizon in runs})
        whole = [settings[key] for key in sorted(settings) if len(settings[key]) == len(horizons)]
        comparisons += [_part(study, whole, horizon, horizons[-1], curves) for horizon in horizons[:-1] if whole]
    return comparisons


def _part(
    study: str, settings: Sequence[dict[float, RecordedRun]], horizon: float, full: float, curves: Curves
) -> Part:
    ends = [runs[full] for runs in settings]
    scores = [
        (_score(end, runs[horizon].value), _score(end, _at(curves, end, horizon)), _score(end, end.value))
        for runs, end in zip(settings, ends, strict=True)
    ]
    kinds = tuple(str(end.schedule["kind"]) for end in ends)
    return Part(study, horizon, full, tuple(end.arm for end in ends), kinds, np.array(scores))


def _at(curves: Curves, run: RecordedRun, step: float) -> float | None:
    return next((point.value for point in curves.get(run.run_id, ()) if point.step == step), None)


def _score(run: RecordedRun, value: float | None) -> float:
    if value is None or math.isnan(value):
        return -math.inf
    return value if run.direction == "maximize" else -value


def agreements(part: Part) -> list[Agreement]:
    """Return one agreement per arm."""
    agreed = []
    for arm in sorted(set(part.arms)):
        scores = part.scores[np.array(part.arms) == arm]
        places = rankdata(-scores[:, FULL], method="min")
        leaders = [float(places[s == s.max()].mean()) for s in (scores[:, RUNG], scores[:, PREFIX])]
        low, high = _interval(scores, lambda drawn: float(np.subtract(*correlations(drawn))))
        rung, prefix = correlations(scores)
        agreed.append(Agreement(part, arm, len(scores), rung, prefix, low, high, (leaders[0], leaders[1])))
    return agreed


def correlations(scores: Array) -> tuple[float, float]:
    """Return the rank correlations of rung and prefix with the full run; NaN where a column is constant.

    >>> correlations(np.array([[1.0, 3.0, 10.0], [2.0, 2.0, 20.0], [3.0, -np.inf, 30.0]]))
    (1.0, -1.0)
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        matrix = np.corrcoef(rankdata(scores, axis=0), rowvar=False)
    return round(float(matrix[RUNG, FULL]), 12), round(float(matrix[PREFIX, FULL]), 12)


def tilts(part: Part) -> list[Tilt]:
    """Return a tilt for each pair of arms and each pair of schedules."""
    better = part.scores[:, FULL] >= np.median(part.scores[:, FULL])
    tilted = []
    for names in (part.arms, part.kinds):
        labels, scores = np.array(names)[better], part.scores[better]
        for a, b in combinations(sorted(set(labels.tolist()), reverse=True), 2):
            chosen = (labels == a) | (labels == b)
            tilted.append(_tilt(part, (a, b), (labels == a)[chosen], scores[chosen]))
    return tilted


def _tilt(part: Part, sides: tuple[str, str], first: NDArray[np.bool_], scores: Array) -> Tilt:
    points = tilt(first, scores)
    labelled = np.column_stack([scores, first])

    def beyond(column: int) -> Callable[[Array], float]:
        def statistic(drawn: Array) -> float:
            points_drawn = tilt(drawn[:, 3].astype(bool), drawn[:, :3])
            return points_drawn[column] - points_drawn[FULL]

        return statistic

    bounds = [_interval(labelled, beyond(column)) for column in (RUNG, PREFIX)]
    counts = int(first.sum()), int((~first).sum())
    return Tilt(part, sides, counts, points, (bounds[0][0], bounds[1][0]), (bounds[0][1], bounds[1][1]))


def tilt(first: NDArray[np.bool_], scores: Array) -> tuple[float, float, float]:
    """Return, for each column, how much higher the first side is ranked: 100 is all above all, 0 no difference.

    >>> scores = np.array([[4.0, 1.0, 1.0], [3.0, 2.0, 4.0], [2.0, 3.0, 2.0], [1.0, 4.0, 3.0]])
    >>> tilt(np.array([True, True, False, False]), scores)
    (100.0, -100.0, 0.0)
    """
    if first.all() or not first.any():
        return math.nan, math.nan, math.nan
    ranks = rankdata(scores, axis=0)
    gap = (ranks[first].mean(axis=0) - ranks[~first].mean(axis=0)) * 200 / len(first)
    return float(gap[RUNG]), float(gap[PREFIX]), float(gap[FULL])


def _interval(rows: Array, statistic: Callable[[Array], float]) -> tuple[float, float]:
    """The 95 % interval of a statistic over resampled settings; NaN if it never has a value."""
    rng = np.random.default_rng(0)
    drawn = np.array([statistic(rows[rng.integers(len(rows), size=len(rows))]) for _ in range(RESAMPLES)])
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.quantile(drawn, (0.025, 0.975)) if len(drawn) else (math.nan, math.nan)
    return float(low), float(high)


def agreement_table(rows: Iterable[Agreement]) -> str:
    """Return agreements as Markdown."""
    lines = [
        "| study | arm | settings | trained | rung | prefix | rung - prefix (95 %) | leader's place: rung | prefix |",
        "|---|---|---:|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        gap = f"{row.rung - row.prefix:+.2f} ({row.low:+.2f} to {row.high:+.2f})"
        lines.append(
            f"| {row.part.study} | {row.arm} | {row.settings} | {_length(row.part)} "
            f"| {row.rung:.2f} | {row.prefix:.2f} | {gap} | {row.places[0]:g} | {row.places[1]:g} |"
        )
    return "\n".join(lines)


def tilt_table(rows: Iterable[Tilt]) -> str:
    """Return tilts as Markdown."""
    lines = [
        "| study | sides | settings | trained | full | rung | prefix | rung - full (95 %) | prefix - full (95 %) |",
        "|---|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        gaps = [
            f"{row.points[c] - row.points[FULL]:+.0f} ({row.low[c]:+.0f} to {row.high[c]:+.0f})" for c in (RUNG, PREFIX)
        ]
        points = " | ".join(f"{row.points[column]:+.0f}" for column in (FULL, RUNG, PREFIX))
        lines.append(
            f"| {row.part.study} | {' over '.join(row.sides)} | {row.settings[0]}, {row.settings[1]} "
            f"| {_length(row.part)} | {points} | {' | '.join(gaps)} |"
        )
    return "\n".join(lines)


def _length(part: Part) -> str:
    return f"{part.horizon:g} of {part.full:g} steps"


def main(words: Sequence[str] | None = None) -> int:
    """Run from the command line; return 2 if the tables are wrong or hold no study with several horizons."""
    parser = argparse.ArgumentParser(description="Compare the ladder's rungs with prefixes of full runs.")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--curves", type=Path, required=True)
    given = parser.parse_args(words)
    try:
        rows = read_runs(given.runs)
        comparisons = parts(rows, read_curves(given.curves, rows))
        if not comparisons:
            raise InputError(f"{given.runs}: no setting was trained at several horizons; expected a ladder of them.")
    except TunerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(agreement_table(one for part in comparisons for one in agreements(part)))
    print()
    print(tilt_table(one for part in comparisons for one in tilts(part)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
