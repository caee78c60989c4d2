"""The fixed words of an answer, as types: kinds of verdict, references, sources of figures. The JSON has their values.

Nothing is decided here.
"""

from __future__ import annotations

from enum import StrEnum


class VerdictKind(StrEnum):
    """What is said of the finalists' settings, or of their families."""

    WINNER = "winner"
    TIE = "tie"
    INCONCLUSIVE = "inconclusive"
    SINGLE = "single"
    """One arm only, so there is nothing to compare."""
    NOT_ASSESSED = "not_assessed"
    """Of families only: the records do not allow a verdict about them."""


class PairVerdict(StrEnum):
    """What is said of two finalists: the first is better, the second is better, a tie, or inconclusive."""

    A = "a"
    B = "b"
    TIE = "tie"
    INCONCLUSIVE = "inconclusive"


class EffectSource(StrEnum):
    """Where the smallest difference that matters comes from.

    The user has ``GIVEN`` it; or it is one standard deviation of the seed noise, measured on runs ``OUTSIDE`` the
    comparison or, where no other run shows it, on the ``COMPARED`` runs.
    """

    GIVEN = "given"
    OUTSIDE = "outside"
    COMPARED = "comparison"


class Reference(StrEnum):
    """What the recommended setting is measured against: the family's default, the user's own setting."""

    DEFAULT = "default"
    CURRENT = "current"


class ExpectedSource(StrEnum):
    """Where the expected value comes from; that of the search is the best of many noisy ones, so it is too good."""

    CONFIRMATION = "confirmation"
    SEARCH = "search"
