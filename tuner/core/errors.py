"""Every error that tuner raises on purpose, and the form of its message; whoever raises one words it.

TunerError                    exit code 2, unless the class says otherwise
├── InputError (ValueError)   a study file, a space, a setting or an argument is wrong
│   ├── SpaceError            ... in a search space
│   └── WorkloadError         ... the workload cannot be imported, or lacks something
├── StudyNotFound (LookupError)
├── StudyExists               the name is taken by a study with another question
├── StudyBusy                 another driver holds the study's lease
├── LeaseLost                 this driver's lease was taken over; it must stop writing
├── StorageError              the database cannot be reached, or its schema is not ours
├── ExecutorError             Ray cannot be started or reached
├── NoEvidence                nothing finished yet, so nothing can be recommended
└── StudyStopped              several runs in a row failed in the user's code (exit code 1)
"""

from __future__ import annotations

from dataclasses import dataclass


class TunerError(Exception):
    """The base of all errors whose message is meant for the user."""

    exit_code = 2


class InputError(TunerError, ValueError):
    """What the user wrote is wrong; nothing was changed."""


class SpaceError(InputError):
    """A search space is wrong."""


class WorkloadError(InputError):
    """A workload cannot be imported, or does not offer what the study asks of it."""


class StudyNotFound(TunerError, LookupError):
    """The database holds no study of that name."""


class StudyExists(TunerError):
    """The database already holds a study of that name that asks something else."""


class StudyBusy(TunerError):
    """A living driver holds the lease of the study."""


class LeaseLost(TunerError):
    """Another driver has taken over; whatever this one writes is refused."""


class StorageError(TunerError):
    """The database is out of reach, or its tables are not of this version."""


class ExecutorError(TunerError):
    """The executor cannot place runs."""


class NoEvidence(TunerError):
    """The study has no finished runs to recommend from."""


class StudyStopped(TunerError):
    """The study gave up, because several runs in a row failed in the user's code."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where something the user wrote is: a file or call, a line (from 1) and a dotted key.

    >>> str(Place("study.yaml", 12, "budget.hours"))
    'study.yaml:12: budget.hours'
    >>> str(Place("launch()", None, "seed"))
    'launch(): seed'
    """

    source: str
    line: int | None = None
    key: str = ""

    def __str__(self) -> str:
        head = self.source if self.line is None else f"{self.source}:{self.line}"
        return f"{head}: {self.key}" if self.key else head


def wrong(place: Place, found: str, expected: str, todo: str = "") -> str:
    """Return the message of an error: where it is, what was found, what was expected, what to do.

    >>> wrong(Place("s.yaml", 3, "seed"), "is 'x'", "an integer", "Write a number.")
    "s.yaml:3: seed is 'x'; expected an integer. Write a number."
    """
    message = f"{place} {found}; expected {expected}."
    return f"{message} {todo}" if todo else message
