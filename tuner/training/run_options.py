"""The training options that one run gets, with a note of which were read; the table of options is in the catalog."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import final

from tuner.catalog.training_options import complete, option
from tuner.core.values import Scalar


@final
class TrainingOptions(Mapping[str, Scalar]):
    """A run's training options by name, complete with defaults. Reading one counts as honouring it.

    A run whose study sets an option that was never read fails at its end, so that none is ignored in silence.
    """

    def __init__(self, given: Mapping[str, Scalar]) -> None:
        self._values = complete(given)
        self._read: set[str] = {"batch_reference"}

    def __getitem__(self, name: str) -> Scalar:
        self._read.add(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def take(self, *names: str) -> None:
        """Note that these options are honoured."""
        self._read.update(names)

    @property
    def untaken(self) -> dict[str, Scalar]:
        """The options that differ from their default and were never read."""
        return {k: v for k, v in self._values.items() if k not in self._read and v != option(k).default}
