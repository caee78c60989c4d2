"""The figures of the verdict: arms side by side, paired differences, learning curves over their schedules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tuner.analysis.analysis import Analysis
from tuner.analysis.evidence import ArmRow
from tuner.analysis.statistics.estimates import Array
from tuner.analysis.verdict.contest import Contest, pair_rows
from tuner.analysis.verdict.decision import Pair
from tuner.analysis.verdict.kinds import PairVerdict
from tuner.catalog.schedules import SCHEDULES, Schedule
from tuner.core.records import Setting
from tuner.core.values import short
from tuner.reporting import words
from tuner.reporting.pictures import Curves, band, finalist_curves, focus, scale
from tuner.reporting.report.svg import (
    INK,
    PALE,
    PAPER,
    SHADE,
    WIDTH,
    Picture,
    Style,
    drawing,
    inline,
    margin,
    plain,
    sideways,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Styles = Mapping[str, Style]
_TURNED = {PairVerdict.A: PairVerdict.B, PairVerdict.B: PairVerdict.A}
_ROW = 0.36
_POINTS = 240


def arms(analysis: Analysis, styles: Styles) -> Picture:
    """Draw every arm as a row: its fresh seeds, their mean with its interval, and the best value of its search."""
    evidence, state, sign = analysis.evidence, analysis.contest, analysis.records.spec.sign
    rows = [row for row in evidence.arms if row.best_value is not None]
    seeds = {row.arm: _fresh(state, row.arm, sign) for row in rows}
    low, high = scale([*(row.best_value or 0.0 for row in rows), *(v for s in seeds.values() for v in s)], sign)
    names = [row.arm for row in rows]
    with drawing(0.75 + _ROW * max(1, len(rows)), left=margin(names)) as (figure, axes):
        sideways(axes, names)
        for y, row in enumerate(rows):
            _arm(axes, y, row, seeds[row.arm], styles[row.arm], (low, high))
        axes.set_xlim(low, high)
        axes.set_xlabel(f"{evidence.metric} ({'more' if sign > 0 else 'less'} is better)")
        svg = inline(figure, "arms", "Arms side by side. " + " ".join(_said(evidence.metric, row) for row in rows))
    level = words.percent(1 - evidence.alpha)
    text = f"Small marks: single fresh seeds. Large mark and bar: their mean with its {level} interval."
    return Picture(svg, text + " Hollow circle: the best value of the search, which is a lucky draw.")


def _arm(axes: Axes, y: int, row: ArmRow, seeds: Sequence[float], style: Style, ends: tuple[float, float]) -> None:
    inside = [value for value in seeds if ends[0] <= value <= ends[1]]
    spread = [y + 0.07 * ((i % 3) - 1) for i in range(len(inside))]
    axes.plot(inside, spread, style.marker, color=style.colour, markersize=3.5, alpha=0.45, markeredgewidth=0)
    if row.best_value is not None:
        axes.plot([row.best_value], [y], "o", mfc="none", mec=PALE, markersize=7, mew=1.1)
    if row.mean is None:
        return
    if row.ci_low is not None and row.ci_high is not None:
        axes.plot([row.ci_low, row.ci_high], [y, y], color=style.colour, linewidth=2.2, solid_capstyle="butt")
    axes.plot([row.mean], [y], style.marker, color=style.colour, mec=PAPER, mew=0.8, markersize=8)


def _fresh(state: Contest, arm: str, sign: int) -> list[float]:
    row = state.samples.scores.get(arm)
    return [] if row is None else [float(v) * sign for v in row if math.isfinite(v)]


def _said(metric: str, row: ArmRow) -> str:
    if row.mean is None:
        return f"{row.arm}: best {metric} of the search {short(row.best_value)}."
    return f"{row.arm}: mean {metric} {short(row.mean)} on {row.n_confirmed} fresh seeds."


def differences(analysis: Analysis, styles: Styles) -> Picture | None:
    """Draw the recommended arm against each other one, seed by seed; None where no two have common seeds."""
    evidence, sign = analysis.evidence, analysis.records.spec.sign
    found = [(row.arm, pair) for row in evidence.arms if (pair := _against(evidence.pairs, evidence.arm, row.arm))]
    pairs = [(other, pair) for other, pair in found if pair.n_pairs]
    if not pairs:
        return None
    names = [other for other, _ in pairs]
    with drawing(0.95 + 0.42 * len(pairs), left=margin(names), top=0.3) as (figure, axes):
        sideways(axes, names)
        if evidence.min_effect is not None:
            axes.axvspan(-evidence.min_effect, evidence.min_effect, color=SHADE, linewidth=0, zorder=0)
        axes.axvline(0, color=INK, linewidth=1)
        for y, (other, pair) in enumerate(pairs):
            _pair(axes, y, pair, pair_rows(analysis.contest, evidence.arm, other) * sign, styles[other])
        low, high = axes.get_xlim()
        reach = 0.35 * max(-low, high)  # both sides stay in sight
        axes.set_xlim(min(low, -reach), max(high, reach))
        left, right = ("other is better", f"{evidence.arm} is better")[::sign]
        for x, text, side in ((0.0, f"← {left}", "left"), (1.0, f"{right} →", "right")):
            axes.text(x, 1.02, text, transform=axes.transAxes, ha=side, va="bottom", fontsize=8.5, color=INK)
        axes.set_xlabel(f"{evidence.metric}: {evidence.arm} − other")
        label = " ".join(_told(evidence.arm, other, pair) for other, pair in pairs)
        svg = inline(figure, "differences", f"Paired differences. {label}")
    level = words.percent(1 - evidence.alpha)
    text = f"Each small mark is one seed in both arms; the large one is the mean with its {level} interval."
    if evidence.min_effect is not None:
        text += f" Shaded: differences below {short(evidence.min_effect)}, which count as none in practice."
    return Picture(svg, text)


def _pair(axes: Axes, y: int, pair: Pair, values: Array, style: Style) -> None:
    spread = [y + 0.08 * ((i % 3) - 1) for i in range(len(values))]
    axes.plot(values, spread, style.marker, color=style.colour, markersize=4, alpha=0.5, markeredgewidth=0)
    if pair.ci_low is not None and pair.ci_high is not None:
        axes.plot([pair.ci_low, pair.ci_high], [y, y], color=INK, linewidth=2.2, solid_capstyle="butt")
    assert pair.difference is not None
    axes.plot([pair.difference], [y], "D", color=INK, mec=PAPER, mew=0.8, markersize=7.5)


def _against(pairs: Sequence[Pair], arm: str, other: str) -> Pair | None:
    """The pair seen from ``arm``: its difference is arm - other."""
    for pair in pairs:
        if (pair.a, pair.b) == (arm, other):
            return pair
        if (pair.a, pair.b) == (other, arm):
            return flipped(pair)
    return None


def flipped(pair: Pair) -> Pair:
    """Return the same comparison seen from its second arm."""

    def turned(value: float | None) -> float | None:
        return None if value is None else -value

    return replace(
        pair,
        a=pair.b,
        b=pair.a,
        difference=turned(pair.difference),
        ci_low=turned(pair.ci_high),
        ci_high=turned(pair.ci_low),
        prob_a_better=None if pair.prob_a_better is None else 1 - pair.prob_a_better,
        verdict=_TURNED.get(pair.verdict, pair.verdict),
    )


def _told(arm: str, other: str, pair: Pair) -> str:
    span = words.interval(pair.ci_low, pair.ci_high)
    return f"{arm} minus {other}: {short(pair.difference)} ({span}) over {pair.n_pairs} pairs."


def learning_curves(analysis: Analysis, styles: Styles) -> Picture | None:
    """Draw the metric of each finalist over the steps, and under it its learning rate; None without measurements."""
    curves = finalist_curves(analysis)
    if not curves:
        return None
    last = max(steps[-1] for rows in curves.values() for steps, _ in rows)
    with drawing(3.6, bottom=1.42) as (figure, axes):
        below = figure.add_axes((0.6 / WIDTH, 0.46 / 3.6, 1 - 0.72 / WIDTH, 0.8 / 3.6), sharex=axes)
        _draw_curves(axes, curves, styles)
        _draw_schedules(below, analysis, list(curves), styles, float(last))
        focus(axes, curves)
        axes.set_ylabel(analysis.records.spec.metric)
        axes.set_xlim(0, last * 1.02)
        axes.tick_params(axis="x", labelbottom=False)
        below.set_ylim(0, 1.1)
        below.set_ylabel("rate / peak")
        below.set_xlabel("optimizer step")
        ends = [f"{arm} ends at {short(float(band(rows)[2][-1]))}" for arm, rows in curves.items()]
        label = f"Learning curves of the finalists: {'; '.join(ends)}. Below, the learning rate of each over the steps."
        svg = inline(figure, "curves", label)
    caption = "Above: mean and range over the seeds. Below: the learning rate as a share of its peak."
    if any(_follows(setting) for setting in _finalists(analysis).values()):
        caption += " A schedule that follows the metric is drawn without its reductions."
    return Picture(svg, caption)


def _draw_curves(axes: Axes, curves: Curves, styles: Styles) -> None:
    for arm, rows in curves.items():
        style, (steps, low, middle, high) = styles[arm], band(rows)
        if not style.spoken:
            axes.plot(steps, middle, color=PALE, linewidth=0.8, zorder=1)
            continue
        axes.fill_between(steps, low, high, color=style.colour, alpha=0.16, linewidth=0)
        every = max(1, len(steps) // 7)
        line = {"color": style.colour, "linewidth": 1.7, "linestyle": style.dash}
        axes.plot(steps, middle, marker=style.marker, markersize=4, markevery=every, **line)


def _draw_schedules(axes: Axes, analysis: Analysis, arms: Sequence[str], styles: Styles, last: float) -> None:
    plain(axes)
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    for arm, setting in _finalists(analysis).items():
        if arm not in arms or setting.schedule.get("kind") not in SCHEDULES:
            continue
        style, schedule = styles[arm], Schedule.of(setting.schedule)
        factors = [schedule.multipliers(i, _POINTS).lr for i in range(_POINTS)]
        peak = max(factors) or 1.0
        steps = [last * i / _POINTS for i in range(_POINTS)]
        width = 1.7 if style.spoken else 0.8
        axes.plot(steps, [f / peak for f in factors], color=style.colour, linewidth=width, linestyle=style.dash)


def _finalists(analysis: Analysis) -> dict[str, Setting]:
    return {row.arm: row.best for row in analysis.evidence.arms if row.best is not None}


def _follows(setting: Setting) -> bool:
    kind = SCHEDULES.get(str(setting.schedule.get("kind")))
    return kind is not None and kind.follows_metric
