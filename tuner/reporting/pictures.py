"""The pictures of a study: learning curves of the finalists, and all values by arm (matplotlib, no global state)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.analysis.analysis import Analysis
from tuner.core.records import Outcome, Phase, RunRecord
from tuner.study_records import StudyRecords, ended

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B6B6B")
"""Okabe & Ito 2008: told apart with every common colour blindness."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_INK, _PALE = "#222222", "#8A8A8A"
_SPREAD = 6.0
"""Values further from the middle than so many interquartile ranges go to the border, like diverged ones."""

Curves = Mapping[str, list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]]


def learning_curves(analysis: Analysis, path: Path) -> Path:
    """Draw the metric of each finalist against the step: mean and range over its seeds.

    Of more arms than there are colours, the best few are in colour and the others pale.
    """
    spec, curves = analysis.records.spec, finalist_curves(analysis)
    figure, axes = _figure(8.0, max(4.6, 0.42 * len(curves)))
    ends: list[tuple[float, str, str]] = []
    bands = {arm: band(rows) for arm, rows in curves.items()}
    ranked = sorted(bands, key=lambda arm: -spec.sign * float(bands[arm][2][-1]))
    spoken = set(ranked if len(ranked) <= len(PALETTE) else ranked[: len(PALETTE) - 1])
    numbers = {arm: number for number, arm in enumerate(arm for arm in curves if arm in spoken)}
    for arm, rows in curves.items():
        steps, low, middle, high = bands[arm]
        colour = PALETTE[numbers[arm]] if arm in spoken else _PALE
        if arm in spoken:
            axes.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
            dots: dict[str, Any] = {"marker": _marker(numbers[arm]), "markersize": 4, "markevery": _sparse(steps)}
            axes.plot(steps, middle, color=colour, linewidth=2, **dots)
        else:
            axes.plot(steps, middle, color=colour, linewidth=0.9, zorder=1)
        seeds = f"{len(rows)} seed{'s' if len(rows) != 1 else ''}"
        ends.append((float(middle[-1]), f"{arm}  ({seeds})", colour))
    fresh = bool(analysis.records.in_phase(Phase.CONFIRM))
    what = "mean and range over fresh seeds" if fresh else "their runs in the search"
    focus(axes, curves)
    _direct_labels(axes, ends)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(spec.metric)
    axes.set_title(f"{spec.name}: finalists, {what}", loc="left", fontsize=12, color=_INK)
    if not curves:
        _nothing(axes)
    return _save(figure, path)


def values_by_arm(analysis: Analysis, path: Path) -> Path:
    """Draw the search's values of each arm in the order of proposal, and its finalist's fresh seeds beside them."""
    records, spec, arms = analysis.records, analysis.records.spec, analysis.records.arms
    figure, axes = _figure(max(6.4, 1.8 + 1.7 * len(arms)), 4.8)
    chosen, samples = analysis.contest.chosen, analysis.contest.samples
    values = records.search_values
    fresh = {arm: [v * spec.sign for v in samples.scores[arm] if math.isfinite(v)] for arm in chosen}
    low, high = scale([*values.values(), *(v for row in fresh.values() for v in row)], spec.sign)
    bad = _diverged(records)
    border, notes = low if spec.sign > 0 else high, {}
    for number, arm in enumerate(arms):
        colour, marker = PALETTE[number % len(PALETTE)], _marker(number)
        mine = {trial: value for (name, trial), value in values.items() if name == arm}
        total = max([*mine, *bad[arm], 0]) + 1
        place = {trial: number - 0.36 + 0.46 * (trial + 0.5) / total for trial in range(total)}
        off = [t for t, value in mine.items() if not low <= value <= high]
        inside = [t for t in mine if t not in off]
        _dots(axes, [place[t] for t in inside], [mine[t] for t in inside], colour, marker, 26, 0.55)
        out = sorted({*off, *bad[arm]})
        notes[arm] = _tally(len(bad[arm]), len(off))
        axes.plot([place[t] for t in out], [border] * len(out), "x", color=_INK, markersize=6, clip_on=False, zorder=4)
        if arm in chosen and chosen[arm] in inside:
            best = chosen[arm]
            axes.plot([place[best]], [mine[best]], "o", mfc="none", mec=_INK, markersize=11, mew=1.3, zorder=5)
        _beside(axes, number + 0.27, fresh.get(arm, []), colour, marker)
    axes.set_ylim(low, high)
    axes.set_xlim(-0.5, len(arms) - 0.5)
    axes.set_xticks(range(len(arms)), [f"{arm}\n{notes[arm]}" for arm in arms])
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel(f"{spec.metric} ({'more' if spec.sign > 0 else 'less'} is better)")
    what = "all values" if len(spec.rungs) == 1 else f"all values over {spec.horizon}"
    axes.set_title(f"{spec.name}: {what} by arm", loc="left", fontsize=12, color=_INK, pad=22)
    legend = (
        "left: search, in order of proposal (ring: finalist, ×: diverged or off the scale)   right: fresh seeds, mean"
    )
    axes.annotate(
        legend, (0, 1), (0, 7), xycoords="axes fraction", textcoords="offset points", fontsize=7.5, color=_PALE
    )
    return _save(figure, path)


def finalist_curves(analysis: Analysis) -> Curves:
    """The finite measurements of the finalists on fresh seeds; of the search where there are none."""
    spec, state = analysis.records.spec, analysis.contest
    seeds = set(state.samples.seeds)
    curves: dict[str, list[tuple[Any, Any]]] = {}
    for arm, trial in state.chosen.items():
        mine = ended(analysis.records.runs_of(arm, trial))
        confirm = [run for run in mine if run.spec.phase is Phase.CONFIRM and run.spec.seed in seeds]
        explore = [run for run in mine if run.spec.phase is Phase.EXPLORE and run.spec.horizon == spec.horizon]
        rows = [_points(run, spec.metric) for run in sorted(confirm or explore, key=lambda run: run.run_id)]
        if rows := [row for row in rows if len(row[0])]:
            curves[arm] = rows
    return curves


def _points(run: RunRecord, metric: str) -> tuple[Any, Any]:
    assert run.result is not None
    points = {m.step: m.values[metric] for m in run.result.measurements if metric in m.values}
    kept = sorted((step, value) for step, value in points.items() if math.isfinite(value))
    return np.array([step for step, _ in kept], dtype=float), np.array([value for _, value in kept], dtype=float)


def band(rows: Sequence[tuple[Any, Any]]) -> tuple[Any, Any, Any, Any]:
    """Steps, lowest, mean, highest; a step counts only if all runs that got that far measured it."""
    by_step: dict[float, list[float]] = defaultdict(list)
    for steps, values in rows:
        for step, value in zip(steps, values, strict=True):
            by_step[float(step)].append(float(value))
    usual = {s: len([1 for steps, _ in rows if len(steps) and steps[-1] >= s]) for s in by_step}
    steps = sorted(s for s, values in by_step.items() if len(values) == usual[s])
    columns = [by_step[s] for s in steps]
    return (
        np.array(steps),
        np.array([min(c) for c in columns]),
        np.array([sum(c) / len(c) for c in columns]),
        np.array([max(c) for c in columns]),
    )


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_PALE)
    axes.tick_params(colors=_INK, labelsize=9)
    axes.grid(axis="y", color="#E4E4E4", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def focus(axes: Axes, curves: Curves) -> None:
    """Leave the first steps off the scale where they would flatten the rest."""
    everything = [value for rows in curves.values() for _, values in rows for value in values]
    if not everything:
        return
    late = [v for rows in curves.values() for _, values in rows for v in values[len(values) // 5 :]]
    low, high = min(late), max(late)
    spare = 0.08 * (high - low) or 0.05 * (abs(high) or 1.0)
    axes.set_ylim(max(min(everything), low - spare) - 0.3 * spare, min(max(everything), high + spare) + 0.3 * spare)


def _direct_labels(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Name the curves at their ends, moved apart (evenly up and down) where they would overlap."""
    low, high = axes.get_ylim()
    gap = 0.055 * (high - low)
    ordered = sorted(ends)
    heights: list[float] = []
    for value, _, _ in ordered:
        heights.append(max(value, heights[-1] + gap) if heights else value)
    moved = sum(y - value for y, (value, _, _) in zip(heights, ordered, strict=True)) / max(1, len(ordered))
    moved = max(moved, max(heights, default=high) - high)  # none above the plot
    for y, (value, text, colour) in zip(heights, ordered, strict=True):
        axes.annotate(
            text,
            (1, value),
            (1.035, y - moved),
            xycoords=("axes fraction", "data"),
            textcoords=("axes fraction", "data"),
            color=colour,
            va="center",
            fontsize=9,
            fontweight="bold",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.9,
                "shrinkA": 2,
                "shrinkB": 1,
                "relpos": (0, 0.5),
            },
        )
    axes.margins(x=0.01)


def _dots(
    axes: Axes, x: Sequence[float], y: Sequence[float], colour: str, marker: str, size: int, alpha: float
) -> None:
    axes.scatter(x, y, s=size, color=colour, marker=marker, alpha=alpha, linewidths=0, zorder=3)


def _beside(axes: Axes, x: float, values: Sequence[float], colour: str, marker: str) -> None:
    """The values on fresh seeds: dots, spread by their rank, and a line at the mean."""
    if not values:
        return
    spread = [x + 0.045 * ((i % 5) - 2) for i in range(len(values))]
    _dots(axes, spread, values, colour, marker, 30, 0.9)
    middle = sum(values) / len(values)
    axes.plot([x - 0.14, x + 0.14], [middle, middle], color=_INK, linewidth=1.8, zorder=6)


def _diverged(records: StudyRecords) -> Mapping[str, list[int]]:
    trials: dict[str, list[int]] = defaultdict(list)
    for run in records.in_phase(Phase.EXPLORE):
        if run.outcome is Outcome.DIVERGED:
            trials[run.spec.arm].append(run.spec.trial)
    return trials


def scale(values: Sequence[float], sign: int) -> tuple[float, float]:
    """The scale: all values, unless some are hopelessly far on the bad side."""
    data = np.array([v for v in values if math.isfinite(v)])
    if not len(data):
        return 0.0, 1.0
    lower, middle, upper = np.quantile(data, [0.25, 0.5, 0.75])
    reach = _SPREAD * max(float(upper - lower), 1e-12)
    kept = data[(data - middle) * sign >= -reach]
    low, high = float(kept.min()), float(kept.max())
    spare = 0.08 * (high - low) or 0.05 * (abs(high) or 1.0)
    return low - spare, high + spare


def _marker(number: int) -> str:
    return MARKERS[number % len(MARKERS)]


def _sparse(steps: Sequence[float]) -> int:
    return max(1, len(steps) // 8)


def _tally(diverged: int, off: int) -> str:
    parts = [f"{diverged} diverged"] if diverged else []
    return ", ".join([*parts, f"{off} off the scale"] if off else parts)


def _nothing(axes: Axes) -> None:
    axes.text(0.5, 0.5, "no finalist has measurements yet", transform=axes.transAxes, ha="center", color=_PALE)


def _save(figure: Figure, path: Path) -> Path:
    """Write PNG or SVG by the file's ending, without dates, so that the same data give the same bytes."""
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "tuner"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})
    return path
