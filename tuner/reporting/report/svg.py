"""Figures as inline SVG: narrow enough for a phone, coloured by the page, with ids of their own; no data is known.

Colours are written as custom properties of CSS, so that one picture serves light, dark and print.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuner.reporting.pictures import MARKERS, PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, PALE, GRID, PAPER, SHADE = "#222222", "#8a8a8a", "#e4e4e4", "#fdfdfd", "#efefec"
COLOURS: Mapping[str, str] = {
    INK: "ink",
    PALE: "pale",
    GRID: "grid",
    PAPER: "paper",
    SHADE: "shade",
    **{colour.lower(): f"s{i + 1}" for i, colour in enumerate(PALETTE)},
}
"""The colour that matplotlib draws -> the custom property of CSS that replaces it."""
DASHES = ("-", (0, (5, 1.6)), (0, (1.4, 1.2)), (0, (6, 1.5, 1.4, 1.5)), (0, (3, 1)), (0, (8, 2)), (0, (1, 2)))
WIDTH = 3.8
"""Of a figure, in inches: about what a phone shows without scaling."""
_SETTINGS: Any = {
    "svg.hashsalt": "tuner",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
}
_CLEANING = (
    (r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", ""),
    (r' xmlns(:\w+)?="[^"]*"', ""),
    ("xlink:href", "href"),
    (r'<g id="[^"]*">', "<g>"),
    (r"font-family: [^;\"]*; ", ""),
    (r' transform="rotate\(-0 [^"]*"', ""),
    (r"\n\s*", "\n"),
)
"""What a page needs none of: metadata, styles that would reach beyond the figure, fonts."""


@dataclass(frozen=True, slots=True)
class Style:
    """How an arm is drawn everywhere: by mark and dash as well as by colour. ``spoken`` is False for pale ones."""

    colour: str
    marker: str
    dash: Any
    spoken: bool = True

    @property
    def name(self) -> str:
        return COLOURS[self.colour]


def styles(arms: Sequence[str], ranked: Sequence[str]) -> dict[str, Style]:
    """Return a style per arm; of more arms than colours, those ranked best have one of their own, the rest are pale."""
    spoken = [arm for arm in arms if arm in ranked[: len(PALETTE) - 1]] if len(arms) > len(PALETTE) else list(arms)
    drawn = {arm: Style(PALE, "o", "-", spoken=False) for arm in arms}
    for i, arm in enumerate(spoken):
        drawn[arm] = Style(PALETTE[i].lower(), MARKERS[i], DASHES[i])
    return drawn


@contextmanager
def drawing(
    height: float, *, left: float = 0.6, right: float = 0.12, bottom: float = 0.48, top: float = 0.12
) -> Iterator[tuple[Figure, Axes]]:
    """Give a figure of the page's width with one axes; margins in inches."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context(_SETTINGS):
        figure = Figure(figsize=(WIDTH, height))
        figure.patch.set_alpha(0)
        FigureCanvasSVG(figure)
        axes = figure.add_axes((left / WIDTH, bottom / height, 1 - (left + right) / WIDTH, 1 - (bottom + top) / height))
        plain(axes)
        yield figure, axes


def plain(axes: Axes) -> None:
    """Only what is needed: two spines, a pale grid across."""
    axes.patch.set_alpha(0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(PALE)
    axes.tick_params(colors=INK, labelsize=9, length=3, color=PALE)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.locator_params(nbins=5, min_n_ticks=2)


def log_axis(axes: Axes, low: float, high: float, ticks: Sequence[tuple[float, str]] = ()) -> None:
    """Make x logarithmic with plain numbers as labels (never more than five), after the ``ticks`` given."""
    axes.set_xscale("log")
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    step = max(1, math.ceil((last - first + 1) / 5))
    marks = [(10.0**power, f"{10.0**power:g}") for power in range(first, last + 1, step)]
    marks = [mark for mark in marks if all(mark[0] > 20 * at for at, _ in ticks)]
    if len(marks) < 2:
        marks = [(value, f"{value:.2g}") for value in (low, math.sqrt(low * high), high)]
    shown = [*ticks, *marks]
    axes.set_xticks([at for at, _ in shown], [text for _, text in shown], minor=False)
    axes.minorticks_off()


def sideways(axes: Axes, names: Sequence[str]) -> None:
    """Rows from the top, named at the left; the grid runs down."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=GRID, linewidth=0.8)


def margin(names: Sequence[str]) -> float:
    """How many inches names at the left need."""
    return min(1.6, 0.2 + 0.074 * max((len(line) for name in names for line in name.split("\n")), default=0))


def inline(figure: Figure, name: str, label: str) -> str:
    """Return the figure as an ``<svg>`` to stand in HTML: ``name`` makes its ids unique, ``label`` is read aloud."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    body = text[text.index("<svg") :]
    for pattern, replacement in _CLEANING:
        body = re.sub(pattern, replacement, body, flags=re.DOTALL)
    body = re.sub(r"<g>\n((?:<use [^>]*>\n)+)</g>", _hoisted, body)
    body = re.sub(r' (?:d|x|y|transform)="[^"]*"', _rounded, body)
    body = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", body)
    for colour, variable in COLOURS.items():
        body = body.replace(colour, f"var(--{variable})")
    opening = body[: body.index(">") + 1]
    size = re.search(r'viewBox="[^"]*"', opening)
    assert size is not None
    return f'<svg class="figure" role="img" {size.group()} aria-label="{_quoted(label)}">{body[len(opening) :]}'.strip()


def _hoisted(group: re.Match[str]) -> str:
    """One style for a group of marks instead of one for each; a thousand trials make a large page otherwise."""
    marks = group.group(1)
    used = set(re.findall(r' style="([^"]*)"', marks))
    if len(used) != 1:
        return group.group()
    return f'<g style="{used.pop()}">\n' + re.sub(r' style="[^"]*"', "", marks) + "</g>"


def _rounded(attribute: re.Match[str]) -> str:
    """Places on the page to a hundredth of a point."""
    return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number.group()):.2f}", attribute.group())


def _quoted(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure for the page: its SVG, and what stands under it."""

    svg: str
    caption: str = ""
