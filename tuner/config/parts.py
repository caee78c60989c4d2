"""One section of a space: its dimensions and its fixed values, each checked where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tuner.catalog.families import Family
from tuner.catalog.training_options import MULTIPLIER
from tuner.config.bounds import PATTERNS, YES_NO, Bounds, bounds_of, names_of
from tuner.config.documents import Section
from tuner.config.space import EFFECTIVE, KIND, ONE_MINUS, SCHEDULE, TRAINING, Dimension
from tuner.core.values import Scalar

BESIDE_HYPERPARAMETERS = ("family", "schedule", "training", "initial_settings")
"""Keys of an arm that are no hyperparameters of its optimizer."""


@dataclass(frozen=True, slots=True)
class Part:
    """Dimensions and fixed values of one section; a later part takes the place of what an earlier one says."""

    dimensions: tuple[Dimension, ...] = ()
    fixed: Mapping[str, Scalar] = field(default_factory=dict)

    def under(self, later: Part) -> Part:
        """Return both together; where both say something, ``later`` counts."""
        said = {plain_name(d.name) for d in later.dimensions} | {plain_name(name) for name in later.fixed}
        kept = tuple(d for d in self.dimensions if plain_name(d.name) not in said)
        fixed = {name: value for name, value in self.fixed.items() if plain_name(name) not in said}
        return Part((*kept, *later.dimensions), {**fixed, **later.fixed})

    @property
    def options(self) -> dict[str, Scalar]:
        """The training options that are fixed, by their own names."""
        return {key.removeprefix(TRAINING): value for key, value in self.fixed.items()}


@dataclass(frozen=True, slots=True)
class WrittenTraining:
    """Training options as somebody wrote them: the ``document`` that is stored, and the ``part`` that it means."""

    document: Mapping[str, Any] = field(default_factory=dict)
    part: Part = field(default_factory=Part, compare=False, repr=False)

    def fixing(self, name: str, value: Scalar) -> WrittenTraining:
        """Return them with one more option, at a fixed value."""
        part = Part(self.part.dimensions, {**self.part.fixed, TRAINING + name: value})
        return WrittenTraining({**self.document, name: value}, part)


def plain_name(name: str) -> str:
    """Return a coordinate's name without the way in which it is searched.

    >>> plain_name("effective_learning_rate"), plain_name("training.one_minus_ema_decay")
    ('learning_rate', 'training.ema_decay')
    >>> plain_name("training.multiplier:a.b")
    'training.multiplier:a.b'
    """
    has_prefix = name.startswith((SCHEDULE, TRAINING)) and ":" not in name
    head, dot, key = name.rpartition(".") if has_prefix else ("", "", name)
    return head + dot + ("learning_rate" if key == EFFECTIVE else key.removeprefix(ONE_MINUS))


def read_training(section: Section) -> WrittenTraining:
    """Read training options: by name, and ``multipliers``, ``freeze``, ``no_decay_patterns`` by pattern.

    Raises:
        InputError: an option is unknown, or a value is out of its bounds; with file, line and key.
    """
    patterns = Part()
    for key, prefix in PATTERNS.items():
        if key in section:
            patterns = patterns.under(_patterns(section, key, prefix))
        else:
            section.take(key, None)
    part = read_part(section, TRAINING, skip=tuple(PATTERNS)).under(patterns)
    return WrittenTraining(dict(section.data), part)


def _patterns(section: Section, key: str, prefix: str) -> Part:
    raw = section.take(key)
    if isinstance(raw, list) and prefix != MULTIPLIER:
        return Part(fixed={TRAINING + prefix + str(glob): "yes" for glob in raw})
    return read_part(section.section(key), TRAINING + prefix)


def read_part(section: Section, prefix: str, row: Family | None = None, skip: tuple[str, ...] = ()) -> Part:
    """Read the dimensions and fixed values of a section of an arm, of a schedule or of training options.

    Args:
        section: the section; with ``row`` it is an arm's, whose other keys are left to others.
        prefix: what the names of its coordinates begin with.
        row: the family whose hyperparameters stand there.
        skip: keys that are read elsewhere.

    Raises:
        InputError: a key is unknown, or a value is out of its bounds; with file, line and key.
    """
    dimensions: list[Dimension] = []
    fixed: dict[str, Scalar] = {}
    for key in section.names():
        if key in skip or (row is not None and key in BESIDE_HYPERPARAMETERS):
            continue
        name = prefix + key
        bounds = _bounds(section, key, name, row)
        if isinstance(section.take(key), Mapping):
            dimensions.append(_dimension(section.section(key), name, bounds))
        elif bounds.words:
            fixed[name] = _word(section, key, bounds.words)
        else:
            number = section.integer if bounds.integer else section.number
            value = number(key, low=bounds.low, high=bounds.high)
            turned = key.startswith(ONE_MINUS)
            fixed[prefix + key.removeprefix(ONE_MINUS)] = 1.0 - value if turned else value
    if row is None:
        section.finish()
    return Part(tuple(dimensions), fixed)


def _bounds(section: Section, key: str, name: str, row: Family | None) -> Bounds:
    bounds = bounds_of(name, row)
    if bounds is not None:
        return bounds
    prefix = next((prefix for prefix in (SCHEDULE, TRAINING) if name.startswith(prefix)), "")
    kinds = {SCHEDULE: "a parameter of a schedule", TRAINING: "a training option"}
    what = kinds[prefix] if row is None else f"a hyperparameter of {row.name}"
    raise section.error(key, f"is not {what}", f"one of {', '.join(names_of(prefix, row))}")


def _word(section: Section, key: str, words: tuple[str, ...]) -> Any:
    if words != YES_NO:
        return section.choice(key, words)
    value = _yes_no(section.take(key))
    if value not in words:
        raise section.error(key, f"is {value!r}", "yes or no")
    return value


def _yes_no(value: Any) -> Any:
    """Return YAML's true and false as the words that were meant."""
    return {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value


def _dimension(section: Section, name: str, bounds: Bounds) -> Dimension:
    opens_at = section.integer("opens_at", 1, low=1)
    if bounds.words or "choices" in section:
        choices = _choices(section, name, bounds)
        section.finish()
        return Dimension(name, choices=choices, opens_at=opens_at)
    number = section.integer if bounds.integer else section.number
    low, high = (number(key, low=bounds.low, high=bounds.high) for key in ("low", "high"))
    if not low < high:
        raise section.error("low", f"is {low:g} but high is {high:g}", "low below high", "Swap them or widen.")
    log = section.choice("scale", ["linear", "log"], "linear") == "log"
    or_zero = section.flag("or_zero", False)
    if log and low <= 0:
        raise section.error("low", f"is {low:g} on a log scale", "a number above 0", "Use or_zero for exact zeros.")
    if or_zero and (bounds.integer or not log):
        where = "for whole numbers" if bounds.integer else "on a linear scale"
        raise section.error("or_zero", f"is true {where}", "scale: log of a number", "Let low be 0 instead.")
    section.finish()
    dimension = Dimension(
        name, low, high, log, bounds.integer, or_zero, opens_at=opens_at, least=bounds.low, most=bounds.high
    )
    if log and dimension.floor <= 0:
        raise section.error("low", f"is {low:g} with or_zero", "more room to 0", "Take a larger 'low'.")
    return dimension


def _choices(section: Section, name: str, bounds: Bounds) -> dict[Scalar, int]:
    """Read words or numbers to choose from, each with the number of trials per arm that opens it."""
    raw = section.take("choices")
    listed = isinstance(raw, list)
    table = section.under("choices", {str(_yes_no(word)): 1 for word in raw}) if listed else section.section("choices")
    what = "schedules" if name == KIND else "words"
    if not table.data:
        expected = f"some of {', '.join(bounds.words) or 'the numbers that make sense'}"
        raise section.error("choices", "is empty", expected)
    choices: dict[Scalar, int] = {}
    for key in table.names():
        value = _choice(key, bounds)
        if bounds.words and value not in bounds.words:
            raise section.error("choices", f"names {key!r}", f"{what} out of {', '.join(bounds.words)}")
        if not bounds.words and (not isinstance(value, int | float) or not bounds.low <= value <= bounds.high):
            raise section.error("choices", f"names {key!r}", f"numbers from {bounds.low:g} to {bounds.high:g}")
        choices[value] = table.integer(key, low=1)
    return choices


def _choice(text: str, bounds: Bounds) -> Scalar:
    """Return what a key of ``choices`` stands for: a word, a number, or the text that is neither."""
    if bounds.words:
        return {"True": "yes", "False": "no"}.get(text, text) if bounds.words == YES_NO else text
    try:
        return int(text) if bounds.integer else float(text)
    except ValueError:
        return text
