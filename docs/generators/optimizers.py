"""The reference page of the optimizers, ``docs/optimizers.md``, as text from the table; it times nothing."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from tuner.catalog.families import CAMPS, FAMILIES, LOOKAHEAD, Family, Hyperparameter
from tuner.core.values import short
from tuner.reporting.markdown import table
from tuner.reporting.words import linked, searched

_HEAD = """\
# Optimizers

Written by `python docs/generate.py` from `tuner/catalog/families/`; edit the table, not this file.
[adding.md](adding.md) shows how to add a family.

A family is an arm of a study, with hyperparameters, bounds and search ranges of its own. `tuner optimizers NAME` shows
one, with the time that its step takes on your machine. Nothing is implemented here: torch has the class, or
`pytorch_optimizer`, or `schedulefree`. A test walks the table: each family trains, goes on from a checkpoint bit for
bit, and (all but SOAP and Muon) does in float64 what a plain reference does.

In the formulas `w` are the weights, `g` the gradient (L2 in it), `lr` the learning rate under its schedule, `t` the
step from 1; `m`, `v` and so on are averages that start at 0, and `^` corrects their bias: `m^ = m / (1 - beta1^t)`.

## Two kinds of weight decay

They are two settings with two names and two ranges, in every family that can do either; both may be non-zero at once.
Biases and norms are spared unless the training options say otherwise (`no_decay`).

- `l2`: `g += l2 w`, before anything else is done with `g`: a penalty of l2 |w|^2 / 2 in the loss. An adaptive method
  divides it by the root of its second moment, so that weights with large gradients hardly decay.
- `weight_decay`: `w *= 1 - lr weight_decay`, before the step: all weights shrink alike, at the pace of the schedule
  (Loshchilov & Hutter 2019, [arXiv 1711.05101](https://arxiv.org/abs/1711.05101)). Where a family was published with
  a decay at another place, it has that one, and its formula says so.

For SGD without momentum they are the same thing. `sgdm` and `sgdw`, `adam` and `adamw` are twins that have one each.

## How they are searched

The ranges are those of a space that says nothing else, on the axis where good settings lie evenly: `1 - beta1` rather
than `beta1`, and for a heavy ball `effective_learning_rate` = learning_rate / (1 - momentum), how far a gradient moves
the weights in all. "0 or" puts exact zeros on an eighth of a log axis. A hyperparameter is searched from so many trials
per arm; with fewer it keeps its default. What has no range can be set, and only a space that lists it searches it.

The ranges come from Choi et al. 2019 ([arXiv 1910.05446](https://arxiv.org/abs/1910.05446)), AlgoPerf's search spaces,
Schmidt et al. 2021 ([arXiv 2007.01547](https://arxiv.org/abs/2007.01547)), TaskSet
([arXiv 2002.11887](https://arxiv.org/abs/2002.11887)) and the papers of the families, the order in which they open from
the Tuning Playbook. `lookahead-NAME` exists for every family but the schedule-free ones, with the ranges of its base.
"""


def markdown() -> str:
    """Return the text of ``docs/optimizers.md``; the state is measured for it, which loads torch and the libraries."""
    from tuner.training.optimizers.measure import state_bytes

    measured = {name: state_bytes(name) for name in FAMILIES}
    parts = [_HEAD, _overview(measured)]
    for camp, title in CAMPS.items():
        parts.append(f"## {title[0].upper()}{title[1:]}\n")
        parts += [_page(row) for row in FAMILIES.values() if row.camp == camp]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _overview(measured: Mapping[str, float]) -> str:
    rows = [
        (
            f"[`{row.name}`](#{row.name})",
            CAMPS[row.camp],
            f"{measured[row.name]:.1f}",
            str(sum(h.search is not None for h in row.hyperparameters)),
            f"`{row.formula}`",
        )
        for row in FAMILIES.values()
    ]
    return f"""\
## All of them

State: bytes per parameter that the optimizer keeps at its defaults in float32, measured on a model of a convolution
(3 x 3), a norm and three linear layers; of Adafactor, Muon and SOAP it depends on the shapes.

{table(("family", "camp", "state", "searched", "step"), rows)}"""


def _page(row: Family) -> str:
    base = row.name.removeprefix(LOOKAHEAD)
    own = [h for h in row.hyperparameters if base == row.name or h.name.startswith("lookahead_")]
    sentences = [row.note] if row.note else []
    if base != row.name:
        sentences.append(f"All other hyperparameters are those of [`{base}`](#{base}).")
    if row.momentum is not None:
        sentences.append(f"A schedule that cycles the momentum acts on `{row.momentum}`.")
    sentences += [f"Defaults: {linked(row.default_source)}.", f"Source: {linked(row.source)}."]
    return f"""\
### {row.name}

`{row.formula}`

{table(("hyperparameter", "default", "bounds", "searched", "from trials", "meaning"), map(_row, own))}

{textwrap.fill(" ".join(sentences), 118, break_on_hyphens=False, break_long_words=False)}
"""


def _row(h: Hyperparameter) -> Sequence[str]:
    bounds = f"{h.low:.7g} to {h.high:.7g}{', whole' if h.integer else ''}"
    opens = "" if h.search is None else str(h.search.opens_at)
    return f"`{h.name}`", short(float(h.default)), bounds, searched(h.search), opens, h.meaning
