"""The optimizer families: a frozen table of what can be set, with which bounds, and where it is searched; no torch.

``tuner.training.optimizers`` holds the torch half of each row. L2 in the gradient (``l2``) and decoupled
weight decay (``weight_decay``) are two hyperparameters with two names, in every family that can do either.
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
"""Families that step along an average of gradients, those that divide by an average of their squares, the rest.

Sign (lion) and orthogonal (muon) steps are neither, and SWATS is first one and then the other.
"""


_BASES = table(*classical.ROWS, *modern.BOUNDED, *modern.REST)

FAMILIES: Mapping[str, Family] = table(
    *classical.ROWS,
    *modern.BOUNDED,
    modern.lookahead(_BASES["sgdm"]),
    modern.lookahead(_BASES["adamw"]),
    *modern.REST,
)
"""The rows by name. More exist: ``family("lookahead-NAME")`` is one for each row that can be looked ahead over."""


def camp_name(camp: str) -> str:
    """Return a camp in words.

    >>> camp_name("adam"), camp_name(UNKNOWN)
    ('Adam family', 'unknown family')
    """
    return CAMPS.get(camp, "unknown family")


def family(name: str) -> Family:
    """Return the row of that name; one that looks ahead over another is derived where the table has none.

    >>> family("lookahead-lion").state_slots
    2

    Raises:
        InputError: there is none.
    """
    if name in FAMILIES:
        return FAMILIES[name]
    base = _BASES.get(name.removeprefix(LOOKAHEAD)) if name.startswith(LOOKAHEAD) else None
    if base is not None and SWITCH not in base.needs:
        return modern.lookahead(base)
    if base is not None:
        raise InputError(
            f"optimizer family is {name!r}; {base.name} averages its weights itself, and Lookahead would "
            "evaluate others. Use it alone, or another base."
        )
    raise InputError(
        f"optimizer family is {name!r}; expected one of {', '.join(FAMILIES)}, or {LOOKAHEAD} before another of them."
    )


def is_family(name: str) -> bool:
    """Whether ``family`` has a row of that name."""
    base = name.removeprefix(LOOKAHEAD)
    return name in FAMILIES or (name.startswith(LOOKAHEAD) and base in _BASES and SWITCH not in _BASES[base].needs)
