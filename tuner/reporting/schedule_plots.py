"""Pictures of the schedules: one kind, all of them, or a few lines of text; what they mean stands in the table."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tuner.catalog.schedules import SCHEDULES, WARMUP_SHAPES, Multipliers, Schedule
from tuner.core.values import Scalar, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Changes = Mapping[str, Scalar]

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
"""Okabe & Ito 2008: told apart with every common colour blindness; the widths differ as well."""
_WIDTHS = (2.4, 1.7, 1.3, 1.3)
_INK, _PALE, _GRID = "#222222", "#757575", "#E6E6E6"
_HORIZON = 1200
_MEASUREMENTS = 60
"""Values of the example loss that plateau is drawn against."""
_WARMUP = 0.1
_COLUMNS = 4
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Unicode's eight braille dots, by column and row."""

Words = list[tuple[str, str]]
"""Texts with their colours."""


def plot(kind_name: str, path: Path) -> Path:
    """Draw one kind (PNG or SVG by the file's ending): its default, variants, and the default after a warm-up.

    Below the learning rate stands the momentum where the kind cycles it, the example loss where it follows one.

    Raises:
        InputError: there is no such kind.
    """
    default = Schedule.of({"kind": kind_name})
    curves = [_replay(Schedule.of({"kind": kind_name, **c}), _HORIZON) for c in ({}, *default.kind.variants)]
    cycles = curves[0].factors[0].momentum is not None
    two = cycles or default.kind.follows_metric
    figure = _figure(7.6, 5.8 if two else 4.3, "constrained")
    panels = figure.subplots(1 + two, 1, sharex=True, squeeze=False, height_ratios=[2, 1] if two else [1])[:, 0]
    warm = _replay(Schedule.of({"kind": kind_name, "warmup": _WARMUP}), _HORIZON)
    panels[0].plot(_shares(), warm.rates, "--", color=_INK, linewidth=1.2, zorder=5)
    for number, curve in reversed(list(enumerate(curves))):
        _line(panels[0], curve.rates, number)
        if cycles:
            _line(panels[1], curve.momenta, number)
        elif two:
            panels[1].plot(*curve.measured, ".-", markersize=3.5, **_style(number))
    panels[0].set_ylabel("learning-rate factor", color=_INK)
    panels[-1].set_xlabel("share of the horizon", color=_INK)
    if two:
        panels[1].set_ylabel("momentum factor" if cycles else "example loss", color=_INK)
    for panel in panels:
        _bare(panel, 9)
    words = _words(kind_name, default.kind.variants)
    rows = [[(default.kind.meaning, _PALE)], [*words, (f"dashed: after a warm-up of {_WARMUP:g}", _INK)]]
    _heading(panels[0], kind_name, rows, 13, 9)
    return _save(figure, path)


def plot_all(path: Path) -> Path:
    """Draw all kinds and the warm-up shapes as small multiples (PNG or SVG by the file's ending)."""
    rows = math.ceil((len(SCHEDULES) + 1) / _COLUMNS)
    width, height = 2.75 * _COLUMNS, 2.15 * rows
    figure = _figure(width, height, None)
    panels = figure.subplots(rows, _COLUMNS, sharex=True, sharey=True).ravel()
    figure.subplots_adjust(
        left=0.62 / width, right=1 - 0.1 / width, bottom=0.55 / height, top=1 - 0.5 / height, wspace=0.13, hspace=0.42
    )
    for panel, name in zip(panels, SCHEDULES, strict=False):
        _small(panel, name)
    _small_warm_ups(panels[len(SCHEDULES)])
    for panel in panels[len(SCHEDULES) + 1 :]:
        panel.set_visible(False)
    panels[0].set(xlim=(-0.02, 1.02), ylim=(-0.04, 1.14))
    panels[0].set_xticks([0, 0.5, 1], ["0", "½", "1"])
    panels[0].set_yticks([0, 0.5, 1], ["0", "½", "1"])
    figure.supxlabel("share of the horizon", fontsize=10, color=_INK, y=0.1 / height)
    figure.supylabel("factor on the setting's learning rate", fontsize=10, color=_INK, x=0.1 / width)
    return _save(figure, path)


def sketch(schedule: Schedule, width: int = 64, height: int = 8) -> str:
    """Draw the learning-rate factor over the horizon with braille dots, for a terminal of any kind.

    ``width`` and ``height`` are those of the plot in characters; its axes take 3 columns and 2 lines more.

    >>> print(sketch(Schedule.of({"kind": "linear"}), width=12, height=3))
    1 ┤⠙⠲⢤⣀
      │   ⠈⠙⠒⠦⣄⡀
    0 ┤        ⠉⠓⠦⢤
      └────────────
       0    horizon
    """
    each = 8
    curve = _replay(schedule, 2 * width * each)
    cells = [[0] * width for _ in range(height)]
    last = curve.rates[0]
    for column in range(2 * width):
        values = curve.rates[column * each : (column + 1) * each]
        # A jump is drawn in the column that it leads to, so that the line has no gap.
        high, low = max(last, *values), min(last, *values)
        last = values[-1]
        for dot in range(_dot(high, height), _dot(low, height) + 1):
            cells[dot // 4][column // 2] |= _DOTS[column % 2][dot % 4]
    marks = {0: "1 ┤", height - 1: "0 ┤"}
    texts = ["".join(chr(0x2800 + cell) if cell else " " for cell in row) for row in cells]
    lines = [(marks.get(row, "  │") + text).rstrip() for row, text in enumerate(texts)]
    lines += ["  └" + "─" * width, "   0" + "horizon".rjust(width - 1)]
    lowest = min(curve.momenta)
    if lowest < 1.0:
        lines.append(f"   momentum factor: 1 where the rate is lowest, {lowest:.3g} at its peak")
    if schedule.kind.follows_metric:
        lines.append("   against an example loss")
    return "\n".join(lines)


def _dot(value: float, height: int) -> int:
    return round((1.0 - value) * (4 * height - 1))


# -- curves


@dataclass(frozen=True)
class _Curve:
    """The factors of every step, and the shares and values at which an example loss was measured."""

    factors: list[Multipliers]
    measured: tuple[list[float], list[float]]

    @property
    def rates(self) -> list[float]:
        return [factors.lr for factors in self.factors]

    @property
    def momenta(self) -> list[float]:
        return [1.0 if factors.momentum is None else factors.momentum for factors in self.factors]


def _replay(schedule: Schedule, horizon: int) -> _Curve:
    """Run the schedule against an example loss that answers to it: the lower the rate, the lower the floor."""
    every, noise = max(1, horizon // _MEASUREMENTS), random.Random(1)
    loss, factors, shares, values = 2.0, [], [], []
    for step in range(horizon):
        factors.append(schedule.multipliers(step, horizon))
        rate = factors[-1].lr
        loss += (0.2 + 0.8 * math.sqrt(rate) - loss) * 26.0 / horizon
        if (step + 1) % every == 0:
            shares.append((step + 1) / horizon)
            values.append(loss * (1.0 + 0.015 * math.sqrt(rate) * noise.uniform(-1.0, 1.0)))
            schedule = schedule.after(step + 1, horizon, values[-1])
    return _Curve(factors, (shares, values))


def _shares() -> list[float]:
    return [step / _HORIZON for step in range(_HORIZON)]


# -- drawing


def _words(kind: str, variants: Sequence[Changes]) -> Words:
    """The labels of the default and its variants; a parameter that all of them change is named once."""
    names = {tuple(changes) for changes in variants}
    only = next(iter(names))[0] if len(names) == 1 and len(next(iter(names))) == 1 else None
    if only:
        default = short(Schedule.of({"kind": kind}).parameters[only])
        texts = [f"{only} {default}", *(short(changes[only]) for changes in variants)]
    else:
        texts = ["default", *(", ".join(f"{k} {short(v)}" for k, v in changes.items()) for changes in variants)]
    return list(zip(texts, _COLOURS, strict=False))


def _small(panel: Axes, name: str) -> None:
    """One kind in a panel: its variants, its momentum or its loss, and a heading whose words carry the colours."""
    variants = SCHEDULES[name].variants[:2]
    for number, changes in enumerate(({}, *variants)):
        _line(panel, _replay(Schedule.of({"kind": name, **changes}), _HORIZON).rates, number)
    curve = _replay(Schedule.of({"kind": name}), _HORIZON)
    if min(curve.momenta) < 1.0:
        panel.plot(_shares(), curve.momenta, ":", color=_INK, linewidth=1.3, zorder=5)
        panel.text(1.0, 1.03, "momentum", ha="right", va="bottom", fontsize=7, color=_INK)
    if SCHEDULES[name].follows_metric:
        shares, values = curve.measured
        panel.plot(shares, [value / 2.0 for value in values], color="#A8A8A8", linewidth=1.0, zorder=1)
        panel.text(0.12, 0.66, "example loss", fontsize=7, color=_PALE)
    _heading(panel, name, [_words(name, variants)], 9.5, 7.5)
    _bare(panel, 8)


def _small_warm_ups(panel: Axes) -> None:
    for number, rise in enumerate(WARMUP_SHAPES.values()):
        _line(panel, [rise(x, 1.0) for x in _shares()], number)
    panel.text(0.0, 1.03, "over the warm-up alone", va="bottom", fontsize=7, color=_PALE)
    _heading(panel, "warm-up shapes", [list(zip(WARMUP_SHAPES, _COLOURS, strict=False))], 9.5, 7.5)
    _bare(panel, 8)


def _line(axes: Axes, values: Sequence[float], number: int) -> None:
    axes.plot(_shares(), values, solid_joinstyle="round", **_style(number))


def _style(number: int) -> dict[str, Any]:
    return {"color": _COLOURS[number], "linewidth": _WIDTHS[number], "zorder": 4 - number / 10}


def _heading(panel: Axes, title: str, rows: Sequence[Words], large: float, small: float) -> None:
    """Put a title and rows of coloured words above a panel."""
    from matplotlib.artist import Artist
    from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, TextArea, VPacker

    lines: list[Artist] = [TextArea(title, textprops={"fontsize": large, "fontweight": "bold", "color": _INK})]
    for row in rows:
        texts: list[Artist] = [TextArea(text, textprops={"fontsize": small, "color": colour}) for text, colour in row]
        lines.append(HPacker(children=texts, pad=0, sep=small))
    box = VPacker(children=lines, pad=0, sep=small / 3)
    anchor: dict[str, Any] = {"bbox_to_anchor": (0, 1), "bbox_transform": panel.transAxes}
    panel.add_artist(AnchoredOffsetbox("lower left", child=box, frameon=False, pad=0, borderpad=0.25, **anchor))


def _bare(axes: Axes, size: float) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_PALE)
    axes.tick_params(colors=_PALE, labelcolor=_INK, labelsize=size, length=3)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def _figure(width: float, height: float, layout: Literal["constrained"] | None) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=160, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> Path:
    """Write without dates, so that the same table gives the same bytes."""
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "tuner"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})
    return path
