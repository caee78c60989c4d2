"""The figures of the search: best at a budget, slices along each dimension, importance, sensitivity to the rate."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.analysis.analysis import Analysis
from tuner.analysis.searched.edges import EDGE, Edge
from tuner.analysis.searched.points import Point, used
from tuner.analysis.searched.sensitivity import Sensitivity, in_words
from tuner.analysis.searched.tuning_curves import CONFIDENCES, TuningCurve
from tuner.config.space import Dimension
from tuner.config.widened import UPPER
from tuner.core.records import Outcome
from tuner.core.values import Scalar, short
from tuner.reporting.pictures import scale
from tuner.reporting.report.svg import (
    INK,
    PALE,
    PAPER,
    SHADE,
    Picture,
    Style,
    drawing,
    inline,
    log_axis,
    margin,
    sideways,
)
from tuner.search.shares import Importance

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Styles = Mapping[str, Style]
Mark = tuple[str, str]
"""Marker and colour."""
_SQUEEZE = 2.0
_CROWD = 200
_BAD = (Outcome.DIVERGED, Outcome.FAILED)


def best_at_budget(analysis: Analysis, styles: Styles) -> dict[str, Picture]:
    """Draw the curve of each arm that has one, on one scale, the other arms' medians pale behind it."""
    curves = [curve for curve in analysis.findings.curves if curve.budgets]
    inner = [v for c in curves for row in (c.median, *(b.worst for b in c.bands)) for v in row if v is not None]
    low, high = scale(inner, analysis.records.spec.sign)
    return {c.arm: Picture(_budget(analysis, c, curves, styles[c.arm], (low, high))) for c in curves}


def _budget(
    analysis: Analysis, curve: TuningCurve, others: Sequence[TuningCurve], style: Style, ends: tuple[float, float]
) -> str:
    spec = analysis.records.spec
    most = max(curve.budgets[-1], 2)
    with drawing(2.25) as (figure, axes):
        for level, alpha in zip(sorted(CONFIDENCES, reverse=True), (0.12, 0.2), strict=True):
            band = curve.band(level)
            bottom, top = (ends[0], ends[1]) if spec.sign > 0 else (ends[1], ends[0])
            worst = [bottom if v is None else v for v in band.worst]
            best = [top if v is None else v for v in band.best]
            axes.fill_between(curve.budgets, worst, best, color=style.colour, alpha=alpha, linewidth=0)
        for other in others:
            if other.arm != curve.arm:
                axes.plot(other.budgets, _gaps(other.median), color=PALE, linewidth=0.9, linestyle=(0, (3, 2)))
        line: dict[str, Any] = {
            "color": style.colour,
            "linewidth": 1.8,
            "marker": style.marker,
            "markersize": 4.5,
            "markevery": max(1, most // 12),
        }
        axes.plot(curve.budgets, _gaps(curve.median), clip_on=False, **line)
        axes.set_xlim(0.9, most + 0.1)
        axes.set_ylim(*ends)
        step = max(1, math.ceil(most / 8))
        axes.set_xticks(range(1, most + 1, step), [str(k) for k in range(1, most + 1, step)])
        axes.set_xlabel("trials spent")
        axes.set_ylabel(spec.metric)
        label = f"Best at budget of {curve.arm}: median {short(curve.median[0])} with one trial"
        return inline(figure, f"budget-{_slug(curve.arm)}", f"{label}, {short(curve.median[-1])} with {curve.n}.")


def _gaps(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def slices(analysis: Analysis, arm: str, style: Style) -> list[Picture]:
    """Draw the values of an arm's trials against each dimension that it searches."""
    space = analysis.records.spec.space.arm(arm)
    points = analysis.findings.points[arm]
    if not any(point.value is not None for point in points):
        return []
    chosen = next((row.trial for row in analysis.evidence.arms if row.arm == arm), None)
    touched = {edge.dimension.name: edge for edge in analysis.findings.edges if edge.arm == arm}
    return [
        Picture(_slice(analysis, arm, d, points, chosen, touched.get(d.name), style))
        for d in space.dimensions
        if any(point.coordinate(d.name) is not None for point in points)
    ]


def _slice(
    analysis: Analysis,
    arm: str,
    dimension: Dimension,
    points: Sequence[Point],
    chosen: int | None,
    edge: Edge | None,
    style: Style,
) -> str:
    sign = analysis.records.spec.sign
    low, high = _upper_part([p.value for p in points if p.value is not None], sign)
    border = low if sign > 0 else high
    with drawing(2.1, left=0.75, bottom=0.5) as (figure, axes):
        _axis(axes, dimension)
        if edge is not None:
            _shade(axes, edge)
        groups: dict[Mark, list[tuple[float, float]]] = defaultdict(list)
        for point in points:
            x = _place(dimension, point)
            if x is None:
                continue
            value = point.value if point.value is not None and low <= point.value <= high else None
            idle = not used(dimension.name, point.trial)
            groups[_mark_of(point, value, idle, style, sign)].append((x, border if value is None else value))
            if point.trial.index == chosen and value is not None:
                axes.plot([x], [value], "o", mfc="none", mec=INK, markersize=11, mew=1.4, clip_on=False, zorder=5)
        for (marker, colour), places in groups.items():
            rim: dict[str, Any] = {"mew": 1.3} if marker in "x|" else {"mec": PAPER, "mew": 0.5}
            xs, ys = zip(*places, strict=True)
            axes.plot(
                xs,
                ys,
                marker,
                color=colour,
                markersize=5.2 if len(points) <= _CROWD else 3.0,
                clip_on=False,
                alpha=0.85,
                linestyle="",
                **rim,
            )
        axes.set_ylim(low, high)
        axes.set_xlabel(dimension.name)
        axes.set_ylabel(analysis.records.spec.metric)
        name = f"slice-{_slug(arm)}-{_slug(dimension.name)}"
        return inline(figure, name, _slice_said(analysis, arm, dimension, points, edge))


def _upper_part(values: Sequence[float], sign: int) -> tuple[float, float]:
    """The scale of a slice: all values, unless the worst third would squeeze the rest."""
    scores = np.sort(np.array(values) * sign)
    cut, top = scores[len(scores) // 3], scores[-1]
    if cut - scores[0] <= _SQUEEZE * (top - cut):
        cut = scores[0]
    spare = 0.1 * float(top - cut) or 0.05 * (abs(float(top)) or 1.0)
    low, high = float(cut) - spare, float(top) + spare
    return (low, high) if sign > 0 else (-high, -low)


def _mark_of(point: Point, shown: float | None, idle: bool, style: Style, sign: int) -> Mark:
    """How a trial is marked: by its arm, pale where it does not use the setting, at the border what has no place."""
    if point.value is None:
        return ("x", INK) if point.outcome in _BAD else ("|", PALE)
    if shown is None:
        return "v" if sign > 0 else "^", PALE
    return style.marker, PALE if idle else style.colour


def _axis(axes: Axes, dimension: Dimension) -> None:
    if dimension.choices:
        axes.set_xticks(range(len(dimension.choices)), [str(name) for name in dimension.choices])
        axes.set_xlim(-0.5, len(dimension.choices) - 0.5)
        return
    if dimension.log:
        zero = [(math.sqrt(dimension.floor * dimension.low), "0")] if dimension.or_zero else []
        log_axis(axes, dimension.low, dimension.high, zero)
        if dimension.or_zero:
            axes.axvline(dimension.low, color=PALE, linewidth=0.8, linestyle=(0, (2, 2)))
        spare = (dimension.high / dimension.floor) ** 0.03
        axes.set_xlim(dimension.floor / spare, dimension.high * spare)
        return
    spare = 0.03 * (dimension.high - dimension.low)
    axes.set_xlim(dimension.low - spare, dimension.high + spare)


def _place(dimension: Dimension, point: Point) -> float | None:
    found: Scalar | None = point.coordinate(dimension.name)
    if found is None:
        return None
    if dimension.choices:
        names = list(dimension.choices)
        return names.index(found) + 0.055 * ((point.trial.index % 7) - 3) if found in names else None
    return float(found) if isinstance(found, int | float) else None


def _shade(axes: Axes, edge: Edge) -> None:
    """The tenth of the axis at which the finalist lies, named."""
    d = edge.dimension
    inner = d.at(1 - EDGE) if edge.side == UPPER else d.at(EDGE)
    ends = (float(inner), d.high) if edge.side == UPPER else (d.floor, float(inner))
    axes.axvspan(*ends, color=SHADE, linewidth=0, zorder=0)
    side = "right" if edge.side == UPPER else "left"
    x = 1.0 if edge.side == UPPER else 0.0
    axes.text(x, 1.0, f"{edge.side} edge", transform=axes.transAxes, ha=side, va="bottom", fontsize=8.5, color=INK)


def _slice_said(analysis: Analysis, arm: str, dimension: Dimension, points: Sequence[Point], edge: Edge | None) -> str:
    bad = sum(point.outcome in _BAD for point in points)
    text = f"{analysis.records.spec.metric} of {len(points)} trials of {arm} against {dimension.name}, {dimension}"
    text += f"; {bad} diverged or failed" if bad else ""
    return text + (f"; the finalist lies at the {edge.side} edge" if edge else "") + "."


def importance(found: Importance, style: Style) -> Picture:
    """Draw the shares of one arm as bars; those that chance reaches as easily are hollow."""
    names = [share.name for share in found.shares]
    with drawing(0.62 + 0.27 * len(names), left=margin(names), right=0.3, bottom=0.46, top=0.05) as (figure, axes):
        sideways(axes, names)
        for y, share in enumerate(found.shares):
            face = style.colour if share.stands_out else "none"
            axes.barh([y], [share.share], height=0.6, color=face, edgecolor=style.colour, linewidth=1.2)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        axes.set_xlabel(f"share of {found.arm}'s importance" + (f", at {found.horizon}" if found.horizon else ""))
        told = ", ".join(f"{s.name} {100 * s.share:.0f} %" for s in found.shares)
        return Picture(inline(figure, f"importance-{_slug(found.arm)}", f"Importance within {found.arm}: {told}."))


def sensitivity(analysis: Analysis, styles: Styles) -> Picture | None:
    """Draw for each arm the range of rates searched, and in it the range in which good trials lie; None without any."""
    rows = [row for row in analysis.findings.sensitivities if row.decades is not None]
    if not rows:
        return None
    spans = {row.arm: _searched(analysis, row) for row in rows}
    low, high = min(a for a, _ in spans.values()), max(b for _, b in spans.values())
    names = [f"{row.arm}\n{_brief(row.name)}" for row in rows]
    with drawing(0.6 + 0.5 * len(rows), left=margin(names)) as (figure, axes):
        sideways(axes, names)
        log_axis(axes, low, high)
        axes.set_xlim(low / 1.3, high * 1.3)
        for y, row in enumerate(rows):
            _rates(axes, y, row, spans[row.arm], styles[row.arm])
        axes.set_xlabel("learning rate")
        label = "; ".join(f"{row.arm}: {in_words(row)}" for row in rows)
        svg = inline(figure, "sensitivity", f"Sensitivity to the learning rate. {label}.")
    caption = "Thin: the range searched. Thick: where good trials lie. Mark: the best one."
    if any(row.cliff is not None for row in rows):
        caption += " ×: the nearest above it that diverged."
    return Picture(svg, caption)


def _rates(axes: Axes, y: int, row: Sensitivity, span: tuple[float, float], style: Style) -> None:
    assert row.low is not None
    assert row.high is not None
    assert row.best is not None
    axes.plot(span, [y, y], color=PALE, linewidth=1.2)
    axes.plot([row.low, row.high], [y, y], color=style.colour, linewidth=6, alpha=0.55, solid_capstyle="round")
    axes.plot([row.best], [y], style.marker, color=style.colour, mec=PAPER, mew=0.8, markersize=8)
    if row.cliff is not None:
        axes.plot([row.best * 10**row.cliff], [y], "x", color=INK, markersize=6, mew=1.4)


def _searched(analysis: Analysis, row: Sensitivity) -> tuple[float, float]:
    dimension = analysis.records.spec.space.arm(row.arm).dimension(row.name)
    assert dimension is not None
    return dimension.low, dimension.high


def _brief(name: str) -> str:
    return "effective rate" if name.startswith("effective") else "rate"


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)
