"""Keys that had other names once: a file or a stored document that has them is read as if it had those of now.

``recipe`` was the name of what is ``training`` now, ``known`` that of ``initial_settings``.
"""

from __future__ import annotations

from tuner.config.documents import Section

_RECIPE = ("recipe", "training")
_KNOWN = ("known", "initial_settings")


def study_with_present_names(section: Section) -> Section:
    """Return a study file, or what the ledger keeps of one, with the keys of now; its space is read by itself.

    Raises:
        InputError: a key stands there under both names; with both places.
    """
    section = section.respelled(*_RECIPE).respelled(*_RECIPE, at=("current",))
    section = section.respelled("workload_recipe", "workload_training").respelled(*_KNOWN)
    return section.respelled(*_RECIPE, at=("initial_settings", "*"))


def space_with_present_names(section: Section) -> Section:
    """Return a space, as it was written, with the keys of now.

    Raises:
        InputError: a key stands there under both names; with both places.
    """
    section = section.respelled(*_RECIPE).respelled(*_RECIPE, at=("arms", "*"))
    section = section.respelled(*_KNOWN, at=("arms", "*"))
    return section.respelled(*_RECIPE, at=("arms", "*", "initial_settings", "*"))
