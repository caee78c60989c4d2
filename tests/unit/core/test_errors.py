from __future__ import annotations

import inspect

import pytest

from tuner.core import errors
from tuner.core.errors import InputError, Place, TunerError, wrong

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, TunerError)]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_is_in_the_tree_of_the_module(cls: type[TunerError]) -> None:
    assert cls.__name__ in (errors.__doc__ or "")
    assert cls.__doc__
    assert cls.exit_code == (1 if cls is errors.StudyStopped else 2)
    assert str(cls("what")) == "what"


def test_python_knows_them_too() -> None:
    assert issubclass(InputError, ValueError)
    assert issubclass(errors.StudyNotFound, LookupError)
    assert issubclass(errors.SpaceError, InputError)
    assert issubclass(errors.WorkloadError, InputError)


def test_places_and_words() -> None:
    assert str(Place("s.yaml")) == "s.yaml"
    assert str(Place("s.yaml", 3)) == "s.yaml:3"
    assert str(Place("s.yaml", 3, "a.b")) == "s.yaml:3: a.b"
    assert wrong(Place("s", 1, "a"), "is 1", "2") == "s:1: a is 1; expected 2."
