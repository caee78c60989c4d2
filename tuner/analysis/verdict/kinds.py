"""The words that an answer is made of, as types: kinds of verdict, sources of figures. JSON holds them as they are."""

from __future__ import annotations

from enum import StrEnum


class VerdictKind(StrEnum):
    """How the contest of the finalists' settings ended, or the one of their families."""

    WINNER = "winner"
    TIE = "tie"
    INCONCLUSIVE = "inconclusive"
    SINGLE = "single"
    """One arm only: there is nothing to compare."""
    NOT_ASSESSED = "not_assessed"
    """Said of families only: the records cannot carry the claim."""


class PairVerdict(StrEnum):
    """What is said of two finalists: the first is better, the second is, a tie, or nothing yet."""

    A = "a"
    B = "b"
    TIE = "tie"
    INCONCLUSIVE = "inconclusive"


class EffectSource(StrEnum):
    """Where the smallest difference that matters comes from.

    ``GIVEN`` by the user; else one standard deviation of the seed noise, measured ``OUTSIDE`` the comparison or, where
    no other run shows it, on the ``COMPARED`` runs.
    """

    GIVEN = "given"
    OUTSIDE = "outside"
    COMPARED = "comparison"


class Reference(StrEnum):
    """What the recommended setting is measured against: the family's default, the user's own setting."""

    DEFAULT = "default"
    CURRENT = "current"


class ExpectedSource(StrEnum):
    """Where the expected value comes from; the search's is the best of many noisy ones, so too good."""

    CONFIRMATION = "confirmation"
    SEARCH = "search"
