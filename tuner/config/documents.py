"""YAML read so that every error can name file, line and key; what a key means is decided elsewhere."""

from __future__ import annotations

import difflib
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tuner.core.errors import InputError, Place, wrong

Path_ = tuple[str | int, ...]
MISSING: Any = object()
LARGEST = sys.float_info.max


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads ``1e-3`` as a number, as YAML 1.2 does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


def read_yaml(path: Path) -> Section:
    """Read a file whose top level is a mapping.

    Raises:
        InputError: the file cannot be read, is not YAML, repeats a key, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file. Check the path, or stand in the right folder.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text: {error}") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Section:
    """As :func:`read_yaml`, from a text.

    >>> parse_yaml("seed: 1\\nbudget: {hours: 2}", "s.yaml").section("budget").number("hours")
    2.0
    """
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise InputError(f"{source}: is empty; expected a mapping of keys to values.")
        if not isinstance(node, yaml.MappingNode):
            raise InputError(f"{source}:{node.start_mark.line + 1}: expected a mapping of keys to values.")
        lines: dict[Path_, int] = {}
        data = _plain(loader, node, (), lines, source)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"{source}{line}: is not valid YAML: {problem}.") from None
    except RecursionError:
        raise InputError(f"{source}: is nested too deeply, or holds an alias (*) of what it stands in.") from None
    finally:
        if loader is not None:
            loader.dispose()
    return Section(data, source, lines=lines)


def _plain(loader: _Loader, node: yaml.Node, path: Path_, lines: dict[Path_, int], source: str) -> Any:
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(_value(loader, key_node, source))
            line = key_node.start_mark.line + 1
            if key in values:
                first = lines[(*path, key)]
                raise InputError(f"{source}:{line}: {key} stands here again; it was set in line {first}. Keep one.")
            values[key] = _plain(loader, value_node, (*path, key), lines, source)
            lines[(*path, key)] = line
        return values
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, item, (*path, i), lines, source) for i, item in enumerate(node.value)]
    return _value(loader, node, source)


def _value(loader: _Loader, node: yaml.Node, source: str) -> Any:
    """A scalar as plain JSON; what YAML reads as a date stays the text that it is."""
    if node.tag == "tag:yaml.org,2002:timestamp":
        return node.value
    try:
        value = loader.construct_object(node, deep=True)
    except (ValueError, OverflowError) as error:
        line = node.start_mark.line + 1
        raise InputError(f"{source}:{line}: {str(node.value)[:40]!r} cannot be read as a value: {error}.") from None
    if isinstance(value, bytes):
        line = node.start_mark.line + 1
        raise InputError(f"{source}:{line}: holds binary data; expected numbers, texts, lists and mappings.")
    return value


class Section:
    """A mapping that knows where each of its keys stands; take the keys out, then call :meth:`finish`."""

    def __init__(
        self,
        data: Mapping[str, Any],
        source: str,
        path: Path_ = (),
        lines: Mapping[Path_, int] | None = None,
        written: Mapping[Path_, str] | None = None,
    ) -> None:
        self.data = data
        self.source = source
        self.path = path
        self._lines = lines or {}
        self._written = written or {}
        self._taken: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return self.data.get(key) is not None

    def names(self) -> Iterator[str]:
        return iter(self.data)

    def place(self, key: str = "") -> Place:
        path = (*self.path, key) if key else self.path
        words = [str(self._written.get(path[: i + 1], part)) for i, part in enumerate(path)]
        line = self._lines.get(path) or self._lines.get(self.path)
        return Place(self.source, line, ".".join(words))

    def error(self, key: str, found: str, expected: str, todo: str = "") -> InputError:
        return InputError(wrong(self.place(key), found, expected, todo))

    def take(self, key: str, default: Any = MISSING) -> Any:
        """Return the raw value; None counts as absent.

        Raises:
            InputError: it is absent and there is no default.
        """
        self._taken.add(key)
        value = self.data.get(key)
        if value is not None:
            return value
        if default is MISSING:
            raise self.error(key, "is missing", "a value", f"Add the key {key!r}.")
        return default

    def text(self, key: str, default: Any = MISSING) -> Any:
        value = self.take(key, default)
        if value is default or isinstance(value, str):
            return value
        raise self.error(key, f"is {value!r}", "a text")

    def choice(self, key: str, choices: Sequence[str], default: Any = MISSING) -> Any:
        value = self.take(key, default)
        if value is default or value in choices:
            return value
        raise self.error(key, f"is {value!r}", f"one of {', '.join(choices)}", did_you_mean(str(value), choices))

    def number(
        self, key: str, default: Any = MISSING, low: float = -math.inf, high: float = math.inf, above: bool = False
    ) -> Any:
        """Return a finite float in [low, high], or in (low, high] if ``above``."""
        value = self.take(key, default)
        if value is default:
            return value
        wanted = _bounds("a number", low, high, above)
        if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST <= value <= LARGEST:
            raise self.error(key, f"is {value!r}", wanted)
        if not low <= value <= high or (above and value == low):
            raise self.error(key, f"is {value!r}", wanted)
        return float(value)

    def integer(self, key: str, default: Any = MISSING, low: float = -math.inf, high: float = math.inf) -> Any:
        value = self.take(key, default)
        if value is default:
            return value
        wanted = _bounds("a whole number", low, high, False)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.error(key, f"is {value!r}", wanted)
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.take(key, default)
        if isinstance(value, bool):
            return value
        raise self.error(key, f"is {value!r}", "true or false")

    def section(self, key: str, default: Any = MISSING) -> Any:
        """Return the mapping under ``key`` as a section of its own (an empty one if the default is {})."""
        value = self.take(key, default)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.error(key, f"is {value!r}", "a mapping of keys to values")
        return Section(value, self.source, (*self.path, key), self._lines, self._written)

    def item(self, key: str, index: int) -> Section:
        """Return the mapping at a place of the list under ``key`` as a section of its own."""
        return Section(self.data[key][index], self.source, (*self.path, key, index), self._lines, self._written)

    def under(self, key: str, data: Mapping[str, Any]) -> Section:
        """Return a section with ``data`` in the place of what stands under ``key``."""
        place = (*self.path, key)
        return Section(data, self.source, place, {place: self._lines.get(place, 0)}, self._written)

    def over(self, data: Mapping[str, Any]) -> Section:
        """Return a section with other data; what was written here keeps its lines."""
        return Section(data, self.source, self.path, self._lines, self._written)

    def respelled(self, old: str, new: str, at: Sequence[str] = ()) -> Section:
        """Return the section with the key ``old`` called ``new``; errors still name what was written.

        Args:
            old: a key's earlier name.
            new: its name now.
            at: the keys that lead to the mappings that hold it, from here on; ``*`` is any key and any item of a list.

        Raises:
            InputError: one mapping has both keys.
        """
        lines, written = dict(self._lines), dict(self._written)

        def renamed(data: Any, path: Path_, ahead: Sequence[str]) -> Any:
            if isinstance(data, list) and ahead and ahead[0] == "*":
                return [renamed(item, (*path, i), ahead[1:]) for i, item in enumerate(data)]
            if not isinstance(data, Mapping):
                return data
            if ahead:
                return {
                    key: renamed(value, (*path, key), ahead[1:]) if ahead[0] in ("*", key) else value
                    for key, value in data.items()
                }
            if data.get(old) is None:
                return {key: value for key, value in data.items() if key != old}
            if data.get(new) is not None:
                here = Section(data, self.source, path, self._lines, self._written)
                raise here.error(old, f"stands beside {here.place(new)}, its name now", "one of the two", "Keep one.")
            for place in [place for place in lines if place[: len(path) + 1] == (*path, old)]:
                lines[(*path, new, *place[len(path) + 1 :])] = lines[place]
            written[(*path, new)] = str(written.get((*path, old), old))
            return {new if key == old else key: value for key, value in data.items() if key != new}

        return Section(renamed(self.data, self.path, at), self.source, self.path, lines, written)

    def texts(self, key: str, default: Any = MISSING) -> Any:
        value = self.take(key, default)
        if value is default:
            return value
        if not isinstance(value, list | tuple) or not value or not all(isinstance(item, str) for item in value):
            raise self.error(key, f"is {value!r}", "a list of texts, such as [sgdm, adamw]")
        return list(value)

    def guard(self, key: str, make: Callable[[], Any]) -> Any:
        """Run ``make``; an InputError of it is raised again with this key's place in front."""
        try:
            return make()
        except InputError as error:
            raise type(error)(f"{self.place(key)}: {error}") from None

    def finish(self) -> None:
        """Refuse what was not taken.

        Raises:
            InputError: a key is unknown; the nearest known one is suggested.
        """
        for key in self.data:
            if key not in self._taken:
                known = sorted(self._taken)
                expected = f"one of {', '.join(known)}" if known else "no key here"
                raise self.error(key, "is not a key here", expected, did_you_mean(key, known))


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return a question for the nearest known word, or nothing.

    >>> did_you_mean("sgmd", ["sgdm", "adamw"]), did_you_mean("x", ["sgdm"])
    ("Did you mean 'sgdm'?", '')
    """
    close = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else ""


def _bounds(what: str, low: float, high: float, above: bool) -> str:
    if math.isfinite(low) and math.isfinite(high):
        return f"{what} {'above' if above else 'from'} {low:g} {'and up ' if above else ''}to {high:g}"
    if math.isfinite(low):
        return f"{what} {'above' if above else 'of at least'} {low:g}"
    return f"{what} of at most {high:g}" if math.isfinite(high) else what
