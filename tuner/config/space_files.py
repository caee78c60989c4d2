"""Search spaces as YAML: where they are, ``extends``, every key checked where it stands; ``space`` is their meaning."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tuner.catalog import training_options
from tuner.catalog.families import FAMILIES, ONE_RATE, SWITCH, Family, family, is_family
from tuner.catalog.schedules import SCHEDULES, SIGNALS, WARMUP, WARMUP_SHAPES, Parameter, Schedule
from tuner.catalog.training_options import FREEZE, MULTIPLIER, NO_DECAY
from tuner.config.documents import Section, read_yaml
from tuner.config.renamed import space_with_present_names
from tuner.config.shipped import find_space
from tuner.config.space import EFFECTIVE, KIND, ONE_MINUS, SCHEDULE, TRAINING, ArmSpace, Dimension, SearchSpace
from tuner.core.errors import InputError, SpaceError
from tuner.core.records import Setting
from tuner.core.values import Scalar

_ARM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_TEXTS: Mapping[str, tuple[str, ...]] = {
    "kind": tuple(SCHEDULES),
    "warmup_shape": tuple(WARMUP_SHAPES),
    "signal": SIGNALS,
}
_PATTERNS = {"multipliers": MULTIPLIER, "freeze": FREEZE, "no_decay_patterns": NO_DECAY}
_YES_NO = ("no", "yes")
_AVERAGE = TRAINING + "average"
_NOT_HYPERPARAMETERS = ("family", "schedule", "training", "initial_settings")


@dataclass(frozen=True, slots=True)
class Part:
    """Dimensions and fixed values of one section; a later part takes the place of what an earlier one says."""

    dimensions: tuple[Dimension, ...] = ()
    fixed: Mapping[str, Scalar] = field(default_factory=dict)

    def under(self, later: Part) -> Part:
        """Return both together; ``later`` wins."""
        said = {_plain(d.name) for d in later.dimensions} | {_plain(name) for name in later.fixed}
        kept = tuple(d for d in self.dimensions if _plain(d.name) not in said)
        fixed = {name: value for name, value in self.fixed.items() if _plain(name) not in said}
        return Part((*kept, *later.dimensions), {**fixed, **later.fixed})


def _plain(name: str) -> str:
    """A coordinate without the way in which it is searched."""
    head, dot, key = (
        name.rpartition(".") if name.startswith((SCHEDULE, TRAINING)) and ":" not in name else ("", "", name)
    )
    return head + dot + ("learning_rate" if key == EFFECTIVE else key.removeprefix(ONE_MINUS))


# -- where spaces are


# -- reading


def read_space(
    section: Section,
    only: list[str] | None = None,
    study: Part | None = None,
    workload: Mapping[str, Scalar] | None = None,
    near: Path | None = None,
) -> SearchSpace:
    """Read a space: ``name``, ``about``, ``extends``, shared ``schedule`` and ``training``, and ``arms``.

    An arm that lists no hyperparameter searches its family's published ranges. Of training options, what the study says
    (``study``) counts most, then the arm, then the space, then what the workload takes for granted.

    Raises:
        SpaceError: with file, line, key, what was found, what was expected.
    """
    try:
        section = _extended(section, near, ())
        name = section.text("name")
        about = section.text("about", "")
        schedule = read_part(section.section("schedule", {}), SCHEDULE)
        shared = (
            Part(fixed={TRAINING + key: value for key, value in (workload or {}).items()}),
            read_training(section.section("training", {})),
        )
        table = section.section("arms")
        if not table.data:
            raise section.error("arms", "is empty", "at least one arm", f"Families: {', '.join(FAMILIES)}.")
        arms = tuple(_arm(table, arm, schedule, shared, study or Part()) for arm in table.names())
        section.finish()
    except InputError as error:
        raise SpaceError(str(error)) from None
    if only is not None:
        arms = tuple(arm for arm in arms if arm.arm in only)
    return SearchSpace(name, about, arms, dict(section.data))


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
    said = {_plain(key) for key in above}
    data = {key: value for key, value in below.items() if key in above or _plain(key) not in said}
    for key, value in above.items():
        old = data.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and not (_is_dimension(value) or _is_dimension(old)):
            data[key] = _merged(old, value)
        elif value is not None or key not in data:
            data[key] = value
    return data


def _is_dimension(value: Any) -> bool:
    return isinstance(value, Mapping) and bool({"low", "high", "choices"} & set(value))


def _arm(table: Section, name: str, schedule: Part, shared: tuple[Part, ...], study: Part) -> ArmSpace:
    section = table.section(name, {})
    if not _ARM.fullmatch(name) or name == "current":
        expected = "letters, digits, '.', '_', '-' (40 at most), and not 'current'"
        raise table.error(name, "cannot name an arm", expected)
    raw = section.take("family", None)
    known = [*FAMILIES, *([raw] if isinstance(raw, str) and is_family(raw) else [])]
    family_name = section.choice("family", known, None) or name
    if not is_family(family_name):
        expected = f"one of {', '.join(FAMILIES)}, or lookahead-FAMILY"
        raise table.error(name, "is not an optimizer family", expected, "Or add 'family: ...'.")
    row = family(family_name)
    timed = _fitting(row, schedule).under(read_part(section.section("schedule", {}), SCHEDULE))
    own = _hyperparameters(section, row)
    layers = [_own_average(row, part) for part in (*shared, read_training(section.section("training", {})), study)]
    whole = own.under(timed)
    for layer in layers:
        whole = whole.under(layer)
    base = {key.removeprefix(TRAINING): value for layer in layers for key, value in layer.fixed.items()}
    space = ArmSpace(name, row, whole.dimensions, fixed=whole.fixed, base=base)
    space = _with_initial_settings(section, space, study)
    section.finish()
    if not own.dimensions:
        raise table.error(name, "searches nothing", "at least the learning rate", "Fix less.")
    _check_kinds(table, name, space)
    _check_rates(table, name, space)
    _corners(table, name, space)
    return space


def _hyperparameters(section: Section, row: Family) -> Part:
    """What the arm says of its optimizer, or the family's published ranges for all that it does not fix."""
    said = read_part(section, "", row)
    names = [d.name for d in said.dimensions]
    if EFFECTIVE in [*names, *said.fixed] and "learning_rate" in [*names, *said.fixed]:
        raise section.error("learning_rate", f"stands beside {EFFECTIVE}", "one of the two", "Remove one.")
    return said if said.dimensions else published(row).under(said)


def published(row: Family) -> Part:
    """Return the ranges in which a family is searched where nothing else is said."""
    found = []
    for h in row.hyperparameters:
        if h.search is None:
            continue
        name = h.search.coordinate or h.name
        low, high, integer = _bounds(name, row)
        s = h.search
        found.append(Dimension(name, s.low, s.high, s.log, integer, s.or_zero, {}, s.opens_at, low, high))
    return Part(tuple(found))


def _fitting(row: Family, schedule: Part) -> Part:
    """The shared schedule as far as a family takes one: some are offered a warm-up only."""
    if row.schedules is None:
        return schedule
    kept = tuple(d for d in schedule.dimensions if d.name.startswith(f"{SCHEDULE}warmup"))
    fixed = {key: value for key, value in schedule.fixed.items() if key.startswith(f"{SCHEDULE}warmup")}
    plain = {SCHEDULE + key: value for key, value in row.default_schedule.items() if key != "warmup"}
    return Part(kept, {**plain, **fixed})


def _check_kinds(table: Section, name: str, space: ArmSpace) -> None:
    allowed = space.family.schedules
    if allowed is None:
        return
    kinds = next((tuple(d.choices) for d in space.all_dimensions if d.name == KIND), (space.fixed.get(KIND),))
    for kind in kinds:
        if kind not in allowed:
            found = f"offers the schedule {kind!r} to {space.family.name}, which averages by itself"
            raise table.error(name, found, f"{' or '.join(allowed)} with a warm-up", "Leave its schedule out.")


def _corners(table: Section, name: str, space: ArmSpace) -> None:
    """Refuse a space in which a corner of the cube is no valid setting."""
    table.guard(name, space.check_corners)


def _own_average(row: Family, part: Part) -> Part:
    """The training options without averages, for families that average by themselves."""
    if SWITCH not in row.needs:
        return part
    fixed = {key: value for key, value in part.fixed.items() if key != _AVERAGE}
    return Part(tuple(d for d in part.dimensions if d.name != _AVERAGE), fixed)


def _check_rates(table: Section, name: str, space: ArmSpace) -> None:
    """Refuse learning rates that differ by group where the family finds one for all."""
    if ONE_RATE not in space.family.needs:
        return
    said = {d.name for d in space.all_dimensions} | {key for key, value in space.fixed.items() if value != 1.0}
    for key in sorted(said):
        if key.startswith((TRAINING + MULTIPLIER, TRAINING + "layer_decay")):
            found = f"has {key} for {space.family.name}, which finds one learning rate for all parameters"
            raise table.error(name, found, "none", "Leave it out of this arm's training options, or the arm out.")


def _with_initial_settings(section: Section, space: ArmSpace, study: Part) -> ArmSpace:
    """The space with settings from the literature: hyperparameters, ``schedule``, ``training``, and ``source``."""
    raw = section.take("initial_settings", [])
    if not isinstance(raw, list) or not all(isinstance(entry, Mapping) for entry in raw):
        raise section.error(
            "initial_settings", f"is {raw!r}", "a list of settings, each {learning_rate: ..., source: ...}"
        )
    entries = [section.item("initial_settings", i) for i in range(len(raw))]
    sources = [entry.text("source") for entry in entries]
    found = [read_initial(entry, space, study) for entry in entries]
    origins = {setting.fingerprint: source for setting, source in zip(found, sources, strict=True)}
    return replace(space, published=tuple(found), origins=origins)


def read_initial(section: Section, space: ArmSpace, study: Part) -> Setting:
    """Read one setting that an arm shall try: its own training options over the arm's, the study's over both."""
    found = read_setting(section, space.family, space.default.training)
    counts_most = {key.removeprefix(TRAINING): value for key, value in study.fixed.items()}
    return replace(found, training={**found.training, **counts_most})


def read_setting(section: Section, row: Family, base: Mapping[str, Scalar], kind: str = "") -> Setting:
    """Read one complete setting of a family: hyperparameters, ``schedule``, ``training`` over ``base``.

    ``kind`` is the schedule of one that names none; the family's own if it is empty.
    """
    taken = ("family", "schedule", "training", "source")
    given = {key: section.take(key) for key in section.names() if key not in taken}
    for key in given:
        section.guard(key, partial(row.complete, {key: given[key]}))
    timed = dict(section.section("schedule", {"kind": kind} if kind else dict(row.default_schedule)).data)
    schedule = section.guard("schedule", lambda: Schedule.of(timed))
    own = dict(read_training(section.section("training", {})).fixed)
    section.finish()
    rest = training_options.complete({**base, **{key.removeprefix(TRAINING): value for key, value in own.items()}})
    return Setting(row.name, dict(row.complete(given)), schedule.setting, rest)


def read_training(section: Section) -> Part:
    """Read training options: by name, and ``multipliers``, ``freeze``, ``no_decay_patterns`` by pattern."""
    patterns = Part()
    for key, prefix in _PATTERNS.items():
        if key in section:
            patterns = patterns.under(_patterns(section, key, prefix))
        else:
            section.take(key, None)
    return read_part(section, TRAINING, skip=tuple(_PATTERNS)).under(patterns)


def _patterns(section: Section, key: str, prefix: str) -> Part:
    raw = section.take(key)
    if isinstance(raw, list) and prefix != MULTIPLIER:
        raw = dict.fromkeys(map(str, raw), "yes")
        return Part(fixed={TRAINING + prefix + glob: value for glob, value in raw.items()})
    return read_part(section.section(key), TRAINING + prefix)


def read_part(section: Section, prefix: str, row: Family | None = None, skip: tuple[str, ...] = ()) -> Part:
    """Read the dimensions and fixed values of a section of an arm, a schedule or of training options."""
    dimensions: list[Dimension] = []
    fixed: dict[str, Scalar] = {}
    for key in section.names():
        if key in skip or (row is not None and key in _NOT_HYPERPARAMETERS):
            continue
        name = prefix + key
        texts = _texts(name)
        low, high, integer = (0.0, 0.0, False) if texts else _known_bounds(section, key, name, row)
        if isinstance(section.take(key), Mapping):
            dimensions.append(_dimension(section.section(key), name, texts, low, high, integer))
        elif texts:
            fixed[name] = _word(section, key, texts)
        else:
            value = (section.integer if integer else section.number)(key, low=low, high=high)
            turned = key.startswith(ONE_MINUS)
            fixed[prefix + key.removeprefix(ONE_MINUS)] = 1.0 - value if turned else value
    if row is None:
        section.finish()
    return Part(tuple(dimensions), fixed)


def _texts(name: str) -> tuple[str, ...]:
    """The words that a coordinate of this name may be; none for numbers."""
    if name.startswith(SCHEDULE):
        return _TEXTS.get(name.removeprefix(SCHEDULE), ())
    key = name.removeprefix(TRAINING)
    if name.startswith(TRAINING) and (training_options.is_option(key)):
        return training_options.option(key).choices
    return ()


def _word(section: Section, key: str, texts: tuple[str, ...]) -> Any:
    if texts != _YES_NO:
        return section.choice(key, texts)
    value = _yes_no(section.take(key))
    if value not in texts:
        raise section.error(key, f"is {value!r}", "yes or no")
    return value


def _yes_no(value: Any) -> Any:
    return {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value


def _known_bounds(section: Section, key: str, name: str, row: Family | None) -> tuple[float, float, bool]:
    found: tuple[float, float, bool] | None = _bounds(name, row)
    if found is not None:
        return found
    if row is not None:
        rows = [h.name for h in row.hyperparameters]
        extra = [EFFECTIVE] if row.heavy_ball else []
        extra += [ONE_MINUS + h.name for h in row.hyperparameters if h.low >= 0 and h.high < 1]
        raise section.error(key, f"is not a hyperparameter of {row.name}", f"one of {', '.join([*rows, *extra])}")
    if name.startswith(SCHEDULE):
        names = ", ".join([*_TEXTS, *_parameters()])
        raise section.error(key, "is not a parameter of a schedule", f"one of {names}")
    names = ", ".join([*training_options.TRAINING_OPTIONS, *_PATTERNS])
    raise section.error(key, "is not a training option", f"one of {names}")


def _parameters() -> dict[str, Parameter]:
    return {p.name: p for k in SCHEDULES.values() for p in k.parameters} | {WARMUP.name: WARMUP}


def _bounds(name: str, row: Family | None) -> Any:
    """The bounds that a coordinate of this name may have, and whether it is whole; None if there is no such thing."""
    if name.startswith(SCHEDULE):
        p = _parameters().get(name.removeprefix(SCHEDULE))
        return None if p is None else (p.low, p.high, p.integer)
    if name.startswith(TRAINING):
        key = name.removeprefix(TRAINING)
        base = key.removeprefix(ONE_MINUS)
        if not training_options.is_option(base):
            return None
        r = training_options.option(base)
        return (r.low, r.high, r.integer) if base == key else (1.0 - r.high, 1.0 - r.low, False) if r.high < 1 else None
    assert row is not None
    rows = {h.name: h for h in row.hyperparameters}
    if name in rows:
        return rows[name].low, rows[name].high, rows[name].integer
    if name == EFFECTIVE and row.heavy_ball:
        return 0.0, 1e6, False
    h = rows.get(name.removeprefix(ONE_MINUS)) if name.startswith(ONE_MINUS) else None
    return (1.0 - h.high, 1.0 - h.low, False) if h and h.low >= 0 and h.high < 1 else None


def _dimension(
    section: Section, name: str, texts: tuple[str, ...], low: float, high: float, integer: bool
) -> Dimension:
    opens_at = section.integer("opens_at", 1, low=1)
    if texts or "choices" in section:
        choices = _choices(section, name, texts, low, high, integer)
        section.finish()
        return Dimension(name, choices=choices, opens_at=opens_at)
    number = section.integer if integer else section.number
    first = number("low", low=low, high=high)
    last = number("high", low=low, high=high)
    if not first < last:
        raise section.error("low", f"is {first:g} but high is {last:g}", "low below high", "Swap them or widen.")
    log = section.choice("scale", ["linear", "log"], "linear") == "log"
    or_zero = section.flag("or_zero", False)
    if log and first <= 0:
        raise section.error("low", f"is {first:g} on a log scale", "a number above 0", "Use or_zero for exact zeros.")
    if or_zero and (integer or not log):
        where = "for whole numbers" if integer else "on a linear scale"
        raise section.error("or_zero", f"is true {where}", "scale: log of a number", "Let low be 0 instead.")
    section.finish()
    found = Dimension(name, first, last, log, integer, or_zero, opens_at=opens_at, least=low, most=high)
    if log and found.floor <= 0:
        raise section.error("low", f"is {first:g} with or_zero", "more room to 0", "Take a larger 'low'.")
    return found


def _choices(
    section: Section, name: str, texts: tuple[str, ...], low: float, high: float, integer: bool
) -> dict[Scalar, int]:
    """Words or numbers out of which one is chosen, each with the budget that opens it."""
    raw = section.take("choices")
    if isinstance(raw, list):
        raw = dict.fromkeys((str(_yes_no(item)) for item in raw), 1)
        table = Section(
            raw, section.source, (*section.path, "choices"), {section.path: section.place("choices").line or 0}
        )
    else:
        table = section.section("choices")
    what = "schedules" if name == KIND else "words"
    if not table.data:
        raise section.error("choices", "is empty", f"some of {', '.join(texts) or 'the numbers that make sense'}")
    found: dict[Scalar, int] = {}
    spelled = {"True": "yes", "False": "no"} if texts == _YES_NO else {}
    for key in table.names():
        word = spelled.get(key, key)
        if texts and word not in texts:
            raise section.error("choices", f"names {key!r}", f"{what} out of {', '.join(texts)}")
        value = word if texts else _number(key, integer)
        if not texts and (not isinstance(value, int | float) or not low <= value <= high):
            raise section.error("choices", f"names {key!r}", f"numbers from {low:g} to {high:g}")
        found[value] = table.integer(key, low=1)
    return found


def _number(text: str, integer: bool) -> Scalar:
    try:
        return int(text) if integer else float(text)
    except ValueError:
        return text


def with_current(space: SearchSpace, current: Setting) -> SearchSpace:
    """Return the space with the user's current setting in the arms of its family, widened to contain it."""
    arms = tuple(arm.including(current) if arm.family.name == current.family else arm for arm in space.arms)
    for arm in arms:
        arm.check_corners()
    return replace(space, arms=arms)
