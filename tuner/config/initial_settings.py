"""Settings that a study shall try beside those of its space: recipes, and the best ones of earlier studies.

They are plain data, which the ledger keeps; :mod:`tuner.resolve.head_start` looks them up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tuner.catalog.families import family, is_family
from tuner.config.documents import Section
from tuner.config.parts import Part
from tuner.config.space import KIND, ArmSpace, SearchSpace
from tuner.config.space_files import read_setting
from tuner.config.written import WrittenSetting
from tuner.core.records import Source
from tuner.core.values import Scalar

_SOURCES = {"published": Source.PUBLISHED, "earlier": Source.EARLIER}


@dataclass(frozen=True, slots=True)
class InitialSetting:
    """One setting for the arms of its family.

    ``written`` is what stands under ``initial_settings`` in a space: hyperparameters, ``schedule``, ``training``; what
    it does not say has the family's default and the arm's training options. ``source`` is EARLIER or PUBLISHED,
    ``origin`` says in words where it was found.
    """

    family: str
    written: Mapping[str, Any]
    source: Source
    origin: str

    def parsed(self) -> WrittenSetting:
        """Return what was written, with complete hyperparameters and schedule.

        Raises:
            InputError: it breaks a bound of its family or its schedule; with its origin.
        """
        return read_setting(Section(self.written, self.origin), family(self.family))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that :func:`read_all` reads back."""
        return {"found": self.source.value, "origin": self.origin, "family": self.family, **self.written}


def read_all(section: Section) -> tuple[InitialSetting, ...]:
    """Read the key ``initial_settings`` of a study that the ledger keeps.

    Raises:
        InputError: an entry is no setting.
    """
    raw = section.take("initial_settings", [])
    if not isinstance(raw, list) or not all(isinstance(entry, Mapping) for entry in raw):
        raise section.error("initial_settings", f"is {raw!r}", "a list of settings, as the database keeps them")
    return tuple(_read(section.item("initial_settings", i)) for i in range(len(raw)))


def _read(entry: Section) -> InitialSetting:
    source, origin, name = entry.choice("found", list(_SOURCES)), entry.text("origin"), entry.text("family")
    if not is_family(name):
        raise entry.error("family", f"is {name!r}", "an optimizer family (tuner optimizers)")
    written = {key: value for key, value in entry.data.items() if key not in ("found", "origin", "family")}
    return InitialSetting(name, written, _SOURCES[source], origin)


def trying(space: SearchSpace, settings: Sequence[InitialSetting], study: Part) -> SearchSpace:
    """Return the space whose arms also try the settings of their families, before those of the space itself.

    A schedule that an arm does not offer yet is offered from then on; ranges stay as they are.

    Args:
        space: what the study searches so far.
        settings: what it shall try.
        study: the study's training options, which count more than those of a setting.

    Raises:
        InputError: a setting breaks a bound of its family or its schedule.
    """
    return replace(space, arms=tuple(_arm_with(arm, settings, study) for arm in space.arms))


def _arm_with(arm: ArmSpace, settings: Sequence[InitialSetting], study: Part) -> ArmSpace:
    mine = [(one, one.parsed().in_arm(arm, study)) for one in settings if one.family == arm.family.name]
    earlier = tuple(setting for one, setting in mine if one.source is Source.EARLIER)
    published = tuple(setting for one, setting in mine if one.source is Source.PUBLISHED)
    origins = {setting.fingerprint: one.origin for one, setting in reversed(mine)}
    return replace(
        _offering(arm, {str(setting.schedule["kind"]): 1 for _, setting in mine}),
        earlier=(*arm.earlier, *earlier),
        published=(*published, *arm.published),
        origins={**arm.origins, **origins},
    )


def _offering(arm: ArmSpace, kinds: Mapping[Scalar, int]) -> ArmSpace:
    """The arm with these kinds of schedules among its choices, if it chooses among several."""
    opened = arm.dimension(KIND)
    if opened is None or set(kinds) <= set(opened.choices):
        return arm
    wider = (replace(d, choices={**d.choices, **kinds}) if d.name == KIND else d for d in arm.all_dimensions)
    return replace(arm, all_dimensions=tuple(wider))
