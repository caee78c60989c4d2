"""Stored studies read back: documents of older versions are brought up to the present one, step by step.

A document without ``version`` is from before documents had one, and may lack any of what came since. Each step looks
for what it changes, so that a step finds nothing to do in a document that is newer than it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tuner.config.documents import Section
from tuner.config.fidelity import FULL
from tuner.config.renamed import space_with_present_names, study_with_present_names
from tuner.config.space import from_stored_axis
from tuner.config.spec import STORED_VERSION, StudySpec
from tuner.config.study_file import read_spec
from tuner.core.errors import StorageError

Document = Mapping[str, Any]


def stored_spec(document: Document, name: str) -> StudySpec:
    """Read what the ledger keeps of a study.

    Args:
        document: what :meth:`StudySpec.to_json` wrote, now or in an earlier version.
        name: the study's name, for errors.

    Raises:
        InputError: it holds what no version wrote.
        StorageError: a later version of tuner wrote it.
    """
    present = {key: value for key, value in upgraded(document, name).items() if key != "version"}
    return read_spec(Section(present, _place(name)))


def says_workload_training(document: Document) -> bool:
    """Return whether a stored study holds the training options that its workload takes for granted.

    One from before there were training options does not; what it trained with, only its workload can say.
    """
    return bool({"workload_training", "workload_recipe"} & set(document))


def upgraded(document: Document, name: str) -> Document:
    """Return a stored document in its present version.

    Raises:
        StorageError: a later version of tuner wrote it.
    """
    version = document.get("version", 0)
    if version > STORED_VERSION:
        raise StorageError(
            f"study {name!r} was stored by a later tuner (document version {version}); expected one of at most "
            f"{STORED_VERSION}. Upgrade tuner."
        )
    for step in (step for since, steps in _STEPS.items() if since > version for step in steps):
        document = step(document, name)
    return {**document, "version": STORED_VERSION}


def _trained_in_full(document: Document, _name: str) -> Document:
    """Before there was a ladder, the search trained every run over the full horizon."""
    return {"fidelity": FULL, **document}


def _present_names(document: Document, name: str) -> Document:
    """Training options were the ``recipe``, initial settings were ``known``."""
    study = study_with_present_names(Section(document, _place(name))).data
    space = study.get("space")
    if not isinstance(space, Mapping):
        return study
    return {**study, "space": space_with_present_names(Section(space, _place(name), ("space",))).data}


def _precision_among_training_options(document: Document, _name: str) -> Document:
    """Before there were training options, the precision stood in ``resources``."""
    resources = document.get("resources") or {}
    if resources.get("precision") is None:
        return document
    training = {**(document.get("training") or {}), "precision": resources["precision"]}
    kept = {key: value for key, value in resources.items() if key != "precision"}
    return {**document, "resources": kept, "training": training}


def _widened_by_present_names(document: Document, _name: str) -> Document:
    """A widened range of a training option had its older name."""
    if not document.get("widened"):
        return document
    widened = [
        {**one, "moved": [{**end, "dimension": from_stored_axis(end["dimension"])} for end in one["moved"]]}
        for one in document["widened"]
    ]
    return {**document, "widened": widened}


_STEPS: Mapping[int, tuple[Callable[[Document, str], Document], ...]] = {
    1: (_trained_in_full, _present_names, _precision_among_training_options, _widened_by_present_names),
}
"""Version -> the steps that bring an older document up to it, in this order."""


def _place(name: str) -> str:
    return f"study {name!r} in the database"
