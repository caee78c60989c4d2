"""When the verdict may look at the data, and how much of the error rate each look may spend. No data is read here.

Alpha spending (Lan & DeMets 1983, Biometrika 70(3)) in its simplest form, the Bonferroni split: an interim look half
way spends 0.32 alpha, the planned final look 0.5 alpha (0.82 alpha where no interim look is worth it), the k-th later
extension 0.18 alpha / 2**k. Their sum never exceeds alpha, whatever the number of extensions and whatever the user saw
before asking for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.config.spec import StudySpec

INTERIM, FINAL, LATER = 0.32, 0.5, 0.18
"""The shares of alpha: the interim look, the planned final look, all extensions together."""
METHOD = "paired sign flips (larger of mean and signed ranks), alpha spending by Bonferroni's split"
ONE_LOOK = "paired sign flips (larger of mean and signed ranks), one look at alpha"
"""The names of the rule in the JSON."""
_SAVING = 2
"""An interim look is taken if it can save at least this many seeds per arm."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the first ``seeds`` seeds: a pair is decided if its p is at most ``level``."""

    seeds: int
    level: float
    interim: bool = False


def looks_for(planned: int, alpha: float, extensions: Sequence[int] = ()) -> tuple[Look, ...]:
    """Return the looks of a confirmation.

    Args:
        planned: seeds per arm that were planned at first.
        alpha: the error rate of the whole confirmation.
        extensions: the total of seeds per arm after each later extension; those that add none have no look.

    >>> [(look.seeds, round(look.level, 5)) for look in looks_for(10, 0.05)]
    [(7, 0.016), (10, 0.025)]
    >>> [(look.seeds, round(look.level, 5)) for look in looks_for(40, 0.05)]
    [(20, 0.016), (40, 0.025)]
    >>> [(look.seeds, round(look.level, 5)) for look in looks_for(8, 0.05, (16, 32))]
    [(8, 0.041), (16, 0.0045), (32, 0.00225)]
    """
    if planned < 1:
        return ()
    first = max(smallest_decisive(INTERIM * alpha), (planned + 1) // 2)
    early = first + _SAVING <= planned
    looks = [Look(first, INTERIM * alpha, interim=True)] if early else []
    looks.append(Look(planned, (FINAL if early else INTERIM + FINAL) * alpha))
    for total in extensions:
        if total > looks[-1].seeds:
            looks.append(Look(total, extension_level(looks, alpha)))
    return tuple(looks)


def method_of(looks: Sequence[Look], alpha: float) -> str:
    """Return the name of the rule that these looks follow; a recording has one look, at alpha."""
    return ONE_LOOK if len(looks) == 1 and looks[0].level >= alpha else METHOD


def extension_level(looks: Sequence[Look], alpha: float) -> float:
    """Return the level of the look after one more extension."""
    done = sum(not look.interim for look in looks) - 1
    return float(LATER * alpha * 0.5 ** (max(done, 0) + 1))


def smallest_decisive(level: float) -> int:
    """Return the fewest pairs with which a sign-flip test can reach the level: 2**(1-n) <= level.

    >>> smallest_decisive(0.05), smallest_decisive(0.02), smallest_decisive(0.0025)
    (6, 7, 10)
    """
    n = 1
    while 2.0 ** (1 - n) > level:
        n += 1
    return n


def looks_of(spec: StudySpec, arms: int) -> tuple[Look, ...]:
    """Return the looks of a study with this number of finalists (arms), under its cap on runs.

    A recording is looked at once, at the full alpha, on all the seeds that it has.
    """
    if spec.recording is not None:
        seeds = len(spec.recording.seeds)
        return (Look(seeds, spec.confirmation.alpha),) if seeds else ()
    plan = spec.confirmation
    most = plan.seeds_for(arms)
    return looks_for(min(plan.seeds, most), plan.alpha, [min(total, most) for total in plan.extensions])
