"""A row of a table as texts, whose cells are read as checked values; rules that join cells are not here."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.core.errors import InputError, Place, wrong
from tuner.core.values import Scalar
from tuner.recorded.rows import NOT_RECORDED, number


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of a row by column, without blanks around them, and the row's place for error messages.

    ``source`` is a file with a ``line``, or it names the row by itself and ``line`` is None.
    """

    cells: Mapping[str, str]
    source: str
    line: int | None = None

    def error(self, column: str, found: str, expected: str, todo: str = "") -> InputError:
        """Return an error for a cell: its place, what was found, what was expected, and what to do."""
        return InputError(wrong(Place(self.source, self.line, column), found, expected, todo))

    def text(self, column: str, default: str = "") -> str:
        return self.cells.get(column) or default

    def name(self, column: str) -> str:
        """Return a text that may not be empty."""
        text = self.text(column)
        if not text:
            raise self.error(column, "is empty", "a name")
        return text

    def choice(self, column: str, choices: Sequence[str]) -> str:
        """Return a text that must be one of the choices."""
        text = self.text(column)
        if text not in choices:
            raise self.error(column, f"is {text!r}", f"one of {', '.join(choices)}")
        return text

    def whole(self, column: str, low: float = -math.inf) -> int:
        """Return a whole number of at least ``low``; 42.0 is one too, because tables with gaps write it so."""
        value = self._float(column)
        if value is None or not value.is_integer() or value < low:
            bound = f" of at least {low:g}" if math.isfinite(low) else ""
            raise self.error(column, f"is {self.text(column)!r}", f"a whole number{bound}")
        try:
            return int(self.text(column))
        except ValueError:
            return int(value)

    def positive(self, column: str, zero: bool = False) -> float | None:
        """Return a finite number above 0 (or 0, where ``zero`` allows it); None for an empty cell."""
        if not self.text(column):
            return None
        value = self._float(column)
        if value is None or not math.isfinite(value) or value < 0 or (value == 0 and not zero):
            expected = "a finite number of at least 0" if zero else "a finite number above 0"
            raise self.error(column, f"is {self.text(column)!r}", f"{expected}, or nothing")
        return value

    def number(self, column: str) -> float | None:
        """Return a number, NaN and infinities included; None for an empty cell."""
        if not self.text(column):
            return None
        value = self._float(column)
        if value is None:
            raise self.error(column, f"is {self.text(column)!r}", "a number, or nothing")
        return value

    def scalar(self, column: str) -> Scalar | None:
        """Return a number, true or false, or else the text itself; None for an empty cell."""
        text = self.text(column)
        if not text:
            return None
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        value = self._float(column)
        if value is None:
            return text
        if not math.isfinite(value):
            raise self.error(column, f"is {text!r}", "a finite number, a text, or nothing")
        return number(value)

    def mapping(self, column: str) -> dict[str, Scalar]:
        """Return a JSON object of names and values; a nested value stays JSON text, and null is left out."""
        text = self.text(column)
        if not text:
            return {}
        try:
            values = json.loads(text, parse_constant=_refuse)
        except ValueError as error:
            raise self.error(column, f"is {text[:40]!r}, which is no JSON ({error})", _OBJECT) from None
        if not isinstance(values, dict):
            raise self.error(column, f"is {text[:40]!r}", _OBJECT)
        return {name: self._plain(column, name, value) for name, value in values.items() if value is not None}

    def schedule(self, column: str) -> dict[str, Scalar]:
        """Return a schedule, whose cell is its name or a JSON object with a ``kind``."""
        text = self.text(column)
        if not text.startswith("{"):
            return {"kind": text or NOT_RECORDED}
        values = self.mapping(column)
        if not isinstance(values.get("kind"), str) or not values["kind"]:
            raise self.error(column, f"is {text[:40]!r}", 'a name, or a JSON object with a name under "kind"')
        return values

    def _plain(self, column: str, name: str, value: Any) -> Scalar:
        if isinstance(value, float) and not math.isfinite(value):
            raise self.error(f"{column}.{name}", f"is {value}", "a finite number, a text, true or false")
        if isinstance(value, float):
            return number(value)
        if isinstance(value, int) and abs(value) > sys.float_info.max:
            raise self.error(f"{column}.{name}", f"is {str(value)[:40]}...", "a number that a float can hold")
        return value if isinstance(value, bool | int | str) else json.dumps(value, sort_keys=True)

    def _float(self, column: str) -> float | None:
        text = self.text(column)
        try:
            return None if "_" in text else float(text)
        except ValueError:
            return None


_OBJECT = 'a JSON object, such as {"learning_rate": 0.1}'


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")
