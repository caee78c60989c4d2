"""Search spaces as YAML: ``extends``, the arms, and every key checked where it stands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tuner.catalog.families import FAMILIES, Family, family, is_family
from tuner.catalog.schedules import Schedule
from tuner.config.documents import Section, read_yaml
from tuner.config.parts import Part, plain_name, read_part, read_training
from tuner.config.renamed import space_with_present_names
from tuner.config.shipped import find_space
from tuner.config.space import EFFECTIVE, KIND, SCHEDULE, SearchSpace
from tuner.config.written import WrittenArm, WrittenSetting, WrittenSpace, fitting, published
from tuner.core.errors import InputError, SpaceError

_ARM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")


def read_space(section: Section, near: Path | None = None) -> SearchSpace:
    """Read a space for itself, with all its arms and all its dimensions; see :func:`read_written`.

    Raises:
        SpaceError: with file, line, key, what was found, what was expected.
    """
    return read_written(section, near).searched(None, Part(), {})


def read_written(section: Section, near: Path | None = None) -> WrittenSpace:
    """Read a space: ``name``, ``about``, ``extends``, shared ``schedule`` and ``training``, and ``arms``.

    An arm that lists no hyperparameter searches its family's published ranges.

    Args:
        section: its document.
        near: the folder in which a space that it extends is looked up, beside the working folder.

    Raises:
        SpaceError: with file, line, key, what was found, what was expected.
    """
    try:
        section = _extended(section, near, ())
        name = section.text("name")
        about = section.text("about", "")
        schedule = read_part(section.section("schedule", {}), SCHEDULE)
        training = read_training(section.section("training", {})).part
        table = section.section("arms")
        if not table.data:
            raise section.error("arms", "is empty", "at least one arm", f"Families: {', '.join(FAMILIES)}.")
        arms = tuple(_arm(table, arm, schedule, training) for arm in table.names())
        section.finish()
    except InputError as error:
        raise SpaceError(str(error)) from None
    return WrittenSpace(name, about, arms, schedule, training, dict(section.data))


def _extended(section: Section, near: Path | None, seen: tuple[Path, ...]) -> Section:
    """The section with what it extends underneath; the one that is extended has to be whole itself."""
    section = space_with_present_names(section)
    if "extends" not in section:
        section.take("extends", None)
        return section
    given = section.text("extends")
    path = section.guard("extends", lambda: find_space(given, near)).resolve()
    if path in seen:
        raise section.error("extends", f"leads back to {path.name}", "a space that does not extend this one")
    parent = _extended(read_yaml(path), path.parent, (*seen, path))
    if not seen:
        read_space(parent)
    return section.over(_merged(parent.data, {key: value for key, value in section.data.items() if key != "extends"}))


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one document over another: sections merge, a dimension or a list is replaced as a whole."""
    said = {plain_name(key) for key in above}
    data = {key: value for key, value in below.items() if key in above or plain_name(key) not in said}
    for key, value in above.items():
        old = data.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and not (_is_dimension(value) or _is_dimension(old)):
            data[key] = _merged(old, value)
        elif value is not None or key not in data:
            data[key] = value
    return data


def _is_dimension(value: Any) -> bool:
    return isinstance(value, Mapping) and bool({"low", "high", "choices"} & set(value))


def _arm(table: Section, name: str, schedule: Part, training: Part) -> WrittenArm:
    section = table.section(name, {})
    if not _ARM.fullmatch(name) or name == "current":
        expected = "letters, digits, '.', '_', '-' (40 at most), and not 'current'"
        raise table.error(name, "cannot name an arm", expected)
    row = _family(table, section, name)
    arm = WrittenArm(
        arm=name,
        family=row,
        own=_own(section, row),
        schedule=fitting(row, schedule).under(read_part(section.section("schedule", {}), SCHEDULE)),
        training=(training, read_training(section.section("training", {})).part),
        published=_published(section, row),
        place=table.place(name),
    )
    section.finish()
    if not arm.own.dimensions:
        raise table.error(name, "searches nothing", "at least the learning rate", "Fix less.")
    _check_kinds(table, arm)
    return arm


def _family(table: Section, section: Section, name: str) -> Family:
    """The arm's optimizer family: what it says, or else its name."""
    raw = section.take("family", None)
    choices = [*FAMILIES, *([raw] if isinstance(raw, str) and is_family(raw) else [])]
    family_name = section.choice("family", choices, None) or name
    if not is_family(family_name):
        expected = f"one of {', '.join(FAMILIES)}, or lookahead-FAMILY"
        raise table.error(name, "is not an optimizer family", expected, "Or add 'family: ...'.")
    return family(family_name)


def _own(section: Section, row: Family) -> Part:
    """What the arm says of its optimizer, or the family's published ranges for all that it does not fix."""
    said = read_part(section, "", row)
    names = [*(d.name for d in said.dimensions), *said.fixed]
    if EFFECTIVE in names and "learning_rate" in names:
        raise section.error("learning_rate", f"stands beside {EFFECTIVE}", "one of the two", "Remove one.")
    return said if said.dimensions else published(row).under(said)


def _check_kinds(table: Section, arm: WrittenArm) -> None:
    """Refuse schedules that the family cannot take."""
    allowed = arm.family.schedules
    if allowed is None:
        return
    choices = next((tuple(d.choices) for d in arm.schedule.dimensions if d.name == KIND), None)
    for kind in choices or (arm.schedule.fixed.get(KIND),):
        if kind not in allowed:
            problem = f"offers the schedule {kind!r} to {arm.family.name}, which averages by itself"
            raise table.error(arm.arm, problem, f"{' or '.join(allowed)} with a warm-up", "Leave its schedule out.")


def _published(section: Section, row: Family) -> tuple[tuple[WrittenSetting, str], ...]:
    """The arm's initial settings, each with its source."""
    raw = section.take("initial_settings", [])
    if not isinstance(raw, list) or not all(isinstance(entry, Mapping) for entry in raw):
        expected = "a list of settings, each {learning_rate: ..., source: ...}"
        raise section.error("initial_settings", f"is {raw!r}", expected)
    entries = [section.item("initial_settings", i) for i in range(len(raw))]
    sources = [entry.text("source") for entry in entries]
    return tuple((read_setting(entry, row), source) for entry, source in zip(entries, sources, strict=True))


def read_setting(section: Section, row: Family, kind: str = "") -> WrittenSetting:
    """Read one setting of a family: hyperparameters, ``schedule``, ``training``.

    Args:
        section: its document.
        row: the family.
        kind: the schedule of a setting that names none; empty for the family's own.

    Raises:
        InputError: a key is unknown, or a value is out of its bounds; with file, line and key.
    """
    beside = ("family", "schedule", "training", "source")
    given = {key: section.take(key) for key in section.names() if key not in beside}
    for key in given:
        section.guard(key, partial(row.complete, {key: given[key]}))
    timed = dict(section.section("schedule", {"kind": kind} if kind else dict(row.default_schedule)).data)
    schedule = section.guard("schedule", lambda: Schedule.of(timed))
    training = read_training(section.section("training", {}))
    section.finish()
    return WrittenSetting(row.name, dict(row.complete(given)), schedule.setting, training)
