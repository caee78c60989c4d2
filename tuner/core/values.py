"""Plain values: scalars, frozen tables, checked numbers, digests, seeds, numbers as text; no record is known here."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias, TypeVar

from tuner.core.errors import InputError

Scalar: TypeAlias = bool | int | float | str
"""The value of one setting."""


class Named(Protocol):
    """A row of a table."""

    @property
    def name(self) -> str: ...


Row = TypeVar("Row", bound=Named)


def table(*rows: Row) -> Mapping[str, Row]:
    """Return the rows by name, as a mapping that cannot be changed; two rows of one name are a bug of ours."""
    names = [row.name for row in rows]
    assert len(set(names)) == len(names), f"a duplicate row in {names}"
    return MappingProxyType({row.name: row for row in rows})


def checked(name: str, value: Scalar, low: float, high: float, whole: bool = False, of: str = "") -> float:
    """Return a value as a float, if it is a finite number inside its bounds; nothing is clamped.

    Clamping would merge distinct points of a search in silence.

    Args:
        name: what the value is called, for the message of the error.
        value: what the user wrote.
        low: the smallest value allowed.
        high: the largest value allowed.
        whole: whether it has to be a whole number.
        of: what the value belongs to, for the message of the error; empty for nothing.

    Raises:
        InputError: it is no finite number, out of bounds, or not whole where it has to be.
    """
    what = f"{name} of {of}" if of else name
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{what} is {value!r}; expected a number.")
    if not low <= value <= high:
        raise InputError(f"{what} is {value:g}; expected {exactly(low)} to {exactly(high)}.")
    if whole and value != int(value):
        raise InputError(f"{what} is {value:g}; expected a whole number.")
    return float(value)


def exactly(value: float) -> str:
    """Return a bound as text: six significant digits, or eight where six would change it.

    >>> exactly(0.1), exactly(1e6), exactly(0.9999999)
    ('0.1', '1e+06', '0.9999999')
    """
    return f"{value:g}" if float(f"{value:g}") == value else f"{value:.8g}"


def digest(data: Any) -> str:
    """Return twelve hexadecimal digits of plain JSON data, independent of the order of keys (SHA-256, cut off)."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def derive_seed(*parts: Any) -> int:
    """Return a seed in [0, 2**31) from any plain values, the same on every machine.

    >>> derive_seed(0, "sgdm", 1) == derive_seed(0, "sgdm", 1) != derive_seed(0, "sgdm", 2)
    True
    """
    text = json.dumps(parts, separators=(",", ":"), default=str)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def counted(number: float, noun: str) -> str:
    """Return a number with its noun: whole numbers exactly, others to three significant digits.

    >>> counted(1, "run"), counted(0, "fresh seed"), counted(1200, "trial"), counted(1.2345, "full run")
    ('1 run', '0 fresh seeds', '1,200 trials', '1.23 full runs')
    """
    text = f"{number:,}" if isinstance(number, int) else f"{number:.3g}"
    return f"{text} {noun}{'s' * (text != '1')}"


def short(value: Scalar | None) -> str:
    """Return a value as text: a float with four significant digits, "-" for None.

    >>> short(0.000123456), short(3), short("cosine"), short(None)
    ('0.0001235', '3', 'cosine', '-')
    """
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
