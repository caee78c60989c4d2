"""Changes of a study's question, as functions on values: whatever follows from what changes is put together again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from tuner.catalog.families import FAMILIES, family, is_family
from tuner.config.initial_settings import InitialSetting, trying
from tuner.config.spec import Asked
from tuner.config.widened import with_widened
from tuner.config.written import WrittenArm, WrittenSpace, check_open, fitting, published, with_current
from tuner.core.errors import InputError, Place
from tuner.core.values import Scalar

Question = TypeVar("Question", bound=Asked)
Guard = Callable[[str, Callable[[], Any]], Any]
"""Calls a function, and names the key of a study file in front of an InputError that it raises."""


def _unguarded(_key: str, make: Callable[[], Any]) -> Any:
    return make()


def put_together(asked: Question, arms: Collection[str] | None, guard: Guard = _unguarded) -> Question:
    """Return the question with the space and the current setting that follow from what it says.

    Args:
        asked: what was asked, whatever its ``space`` and ``current`` are.
        arms: the names of the arms that the study takes; None for all that its space has.
        guard: names the key that is wrong.

    Raises:
        SpaceError: an arm is no valid space, or cannot be widened to contain the current setting.
        InputError: a budget opens nothing of an arm, or an initial setting breaks a bound.
    """
    study = asked.training.part
    space = asked.written.searched(arms, study, asked.workload_training, asked.opened_for)
    guard("space", lambda: check_open(space))
    current = None
    if asked.written_current is not None:
        current = asked.written_current.over({**asked.workload_training, **study.options})
        space = guard("current", lambda: with_current(space, current))
    space = guard("initial_settings", lambda: trying(space, asked.initial_settings, study))
    return replace(asked, space=with_widened(space, asked.widened), current=current)


def with_workload_training(asked: Question, training: Mapping[str, Scalar]) -> Question:
    """Return the question over the training options that its workload takes for granted."""
    return put_together(replace(asked, workload_training=dict(training)), _names(asked))


def with_initial_settings(asked: Question, settings: Iterable[InitialSetting]) -> Question:
    """Return the question with these settings to try first; one that is given twice is kept once."""
    distinct: list[InitialSetting] = []
    for setting in settings:
        if setting not in distinct:
            distinct.append(setting)
    return put_together(replace(asked, initial_settings=tuple(distinct)), _names(asked))


def with_arm(asked: Question, arm: str) -> Question:
    """Return the question with one more arm: of the study's own space, or a family with its published ranges.

    Raises:
        InputError: the study has it already, or there is no such arm.
    """
    names = _names(asked)
    if arm in names:
        raise InputError(f"arm {arm!r} is in the study already; expected one that is not: it has {', '.join(names)}.")
    own = [written.arm for written in asked.written.arms]
    if arm not in own and not is_family(arm):
        others = sorted({*own, *FAMILIES} - set(names))
        raise InputError(f"there is no arm {arm!r}; expected one of {', '.join(others)}, or lookahead-FAMILY.")
    if arm not in own:
        asked = replace(asked, written=_with_family(asked.written, arm))
    return put_together(asked, [*names, arm])


def _names(asked: Asked) -> list[str]:
    return [arm.arm for arm in asked.arms]


def _with_family(space: WrittenSpace, name: str) -> WrittenSpace:
    """The space with an arm that says nothing, as ``NAME:`` under ``arms``."""
    row = family(name)
    place = Place("the study's space", key=f"arms.{name}")
    arm = WrittenArm(name, row, published(row), fitting(row, space.schedule), (space.training,), place=place)
    document = {**space.document, "arms": {**space.document["arms"], name: None}}
    return replace(space, arms=(*space.arms, arm), document=document)
