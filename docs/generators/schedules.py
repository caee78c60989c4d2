"""The reference page of the schedules, ``docs/schedules.md``, as text from the table; it draws nothing."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from tuner.catalog.schedules import SCHEDULES, SIGNALS, WARMUP, WARMUP_SHAPES, WARMUP_START, Kind, Parameter
from tuner.core.values import short
from tuner.reporting.markdown import table
from tuner.reporting.words import linked

WARMUP_FORMULAS: Mapping[str, str] = MappingProxyType(
    {
        "linear": "s + (1 - s) u",
        "cosine": "1 + (s - 1) (1 + cos(pi u)) / 2",
        "exponential": "s ** (1 - u)",
    }
)

_HEAD = """\
# Learning-rate schedules

Written by `python docs/generate.py` from `tuner/catalog/schedules/shapes.py`; edit the table, not this file.

A schedule gives two factors for every update: one on the setting's learning rate, which is its peak, and, where it
cycles one, another on the setting's momentum (beta1 for the Adam family). It is a function of the share of the horizon
that has passed, and all of its parameters are dimensionless: timed to another horizon it is the same curve. `x` is the
share of the part after the warm-up, from 0 to 1. `tuner schedules NAME --plot` draws one.

![Every schedule with its default and two other settings, and the warm-up shapes](images/schedules.png)

```yaml
schedule: {kind: cosine, end_ratio: 0.1, warmup: 0.05, warmup_shape: linear}
```
"""


def markdown() -> str:
    """Return the text of ``docs/schedules.md``."""
    parts = [
        _HEAD,
        "## Kinds\n",
        table(
            ("kind", "factor on the learning rate", "where people use it", "source"),
            [(f"`{k.name}`", f"`{k.formula}`", k.meaning, linked(k.source)) for k in SCHEDULES.values()],
        ),
        "## Parameters\n\nA name means the same, with the same bounds, in every kind that has it.\n",
        table(("parameter", "default", "bounds", "meaning", "kinds"), [_row(p) for p in _parameters()]),
        _warm_ups(),
        *(_note(kind) for kind in SCHEDULES.values() if kind.follows_metric),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _parameters() -> list[Parameter]:
    parameters = {p.name: p for kind in SCHEDULES.values() for p in kind.parameters}
    return [*parameters.values(), WARMUP]


def _row(p: Parameter) -> Sequence[str]:
    kinds = [f"`{kind.name}`" for kind in SCHEDULES.values() if p in kind.parameters]
    bounds = f"{p.low:g} to {p.high:g}{', whole' if p.integer else ''}"
    return f"`{p.name}`", short(p.default), bounds, p.meaning, ", ".join(kinds) or "all"


def _warm_ups() -> str:
    shapes = [(f"`{name}`", f"`{WARMUP_FORMULAS[name]}`") for name in WARMUP_SHAPES]
    return f"""\
## Warm-up

`warmup` puts a rise before any kind: from s = {WARMUP_START:g} of the rate with which the schedule begins, up to it.
`warmup_shape` is its shape, `{next(iter(WARMUP_SHAPES))}` by default; u is the share of the warm-up that has passed.

{table(("warmup_shape", "factor"), shapes)}"""


def _note(kind: Kind) -> str:
    return f"""\
## What `{kind.name}` does to comparability

{textwrap.fill(kind.note, 118)}

`signal` says what it follows: `{SIGNALS[0]}` (the default), the mean training loss since the last measurement, or
`{SIGNALS[1]}`, the study's metric. A value counts as an improvement if it is better than the best one by more than
`threshold`, relative to it. Values from inside the warm-up are not looked at.
"""
