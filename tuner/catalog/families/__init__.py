"""The optimizer families: a frozen table with one row for each optimizer; no torch.

A row holds all that the product knows of an optimizer: hyperparameters with bounds, search ranges and sources, the
class and its arguments, its names in other tools. The builder (``tuner.training.optimizers``), the exports and the
docs read it; ``docs/adding.md`` shows how to add one. L2 in the gradient (``l2``) and decoupled weight decay
(``weight_decay``) are two hyperparameters with two names, in every family that can do either.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tuner.catalog.families import classical, modern
from tuner.catalog.families.row import (
    HORIZON,
    LOOKAHEAD,
    ONE_RATE,
    PARTNER,
    SWITCH,
    UNKNOWN,
    Family,
    Hyperparameter,
    Search,
    unknown,
)
from tuner.core.errors import InputError
from tuner.core.values import table

__all__ = [
    "CAMPS",
    "FAMILIES",
    "HORIZON",
    "LOOKAHEAD",
    "ONE_RATE",
    "PARTNER",
    "SWITCH",
    "UNKNOWN",
    "Family",
    "Hyperparameter",
    "Search",
    "camp_name",
    "family",
    "is_family",
    "unknown",
]

CAMPS = MappingProxyType({"sgdm": "SGDM", "adam": "Adam family", "other": "other"})
"""The camps of families: steps along an average of gradients; steps divided by an average of their squares; others.

Sign steps (lion) and orthogonal steps (muon) are neither, and SWATS is first Adam and then SGD.
"""


_BASES = table(*classical.ROWS, *modern.BOUNDED, *modern.REST)

FAMILIES: Mapping[str, Family] = table(
    *classical.ROWS,
    *modern.BOUNDED,
    modern.lookahead(_BASES["sgdm"]),
    modern.lookahead(_BASES["adamw"]),
    *modern.REST,
)
"""The rows by name. ``family("lookahead-NAME")`` also derives one for every row that Lookahead may go over."""


def camp_name(camp: str) -> str:
    """Return a camp in words.

    >>> camp_name("adam"), camp_name(UNKNOWN)
    ('Adam family', 'unknown family')
    """
    return CAMPS.get(camp, "unknown family")


def family(name: str) -> Family:
    """Return the row of that name, derived from its base for a Lookahead that the table does not have.

    >>> family("lookahead-lion").state_slots
    2

    Raises:
        InputError: there is no such family.
    """
    if name in FAMILIES:
        return FAMILIES[name]
    base = _BASES.get(name.removeprefix(LOOKAHEAD)) if name.startswith(LOOKAHEAD) else None
    if base is not None and SWITCH not in base.needs:
        return modern.lookahead(base)
    if base is not None:
        raise InputError(
            f"optimizer family is {name!r}; {base.name} averages its weights itself, and Lookahead would "
            "evaluate others. Use it alone, or take another base."
        )
    raise InputError(
        f"optimizer family is {name!r}; expected one of {', '.join(FAMILIES)}, or {LOOKAHEAD} before another of them."
    )


def is_family(name: str) -> bool:
    """Return whether ``family`` has a row of that name."""
    base = name.removeprefix(LOOKAHEAD)
    return name in FAMILIES or (name.startswith(LOOKAHEAD) and base in _BASES and SWITCH not in _BASES[base].needs)
