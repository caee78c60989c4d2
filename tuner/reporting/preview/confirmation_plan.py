"""What the verdict will rest on: the runs of the confirmation, what they can show, and what they cannot."""

from __future__ import annotations

from collections.abc import Iterator

from tuner.analysis.verdict.advice import outlook
from tuner.analysis.verdict.family import fewest_trials
from tuner.analysis.verdict.looks import looks_of, smallest_decisive
from tuner.analysis.verdict.plan import plan_cost
from tuner.config.fidelity import PRUNE
from tuner.config.spec import OPTIMISE, StudySpec
from tuner.core.values import counted
from tuner.search.proposals import split_for

_LARGE = 0.75
"""One arm winning on a larger share of the seeds is a large difference."""
_OUT_OF_REACH = 0.2


def confirmation(spec: StudySpec) -> str:
    """Say how many runs confirm the finalists, what so many seeds can show, and what the verdict will be about."""
    cost = plan_cost(spec, len(spec.arms))
    if not cost.seeds:
        return f"Confirmation: none (max_runs is {spec.confirmation.max_runs}). Without it no arm can be called better."
    each = "of each arm, its best setting," if len(spec.arms) > 1 else "(the best setting)"
    text = (
        f"Confirmation: at most {counted(cost.total, 'run')}. The finalist {each} trains on"
        f" {counted(cost.seeds, 'fresh seed')} that the search never used ({counted(cost.confirm, 'run')})."
    )
    others = [f"{cost.noise} to measure the noise between seeds"] if cost.noise else []
    references = "of the default and of your settings" if spec.current else "of the default"
    others += [f"{cost.references} {references} on the same seeds"] if cost.references else []
    others += [f"{cost.test} for the test split"] if cost.test else []
    rest = f" The other runs: {', '.join(others)}." if others else ""
    return "\n".join([text + rest, *_sight(spec), *_families(spec)])


def _sight(spec: StudySpec) -> Iterator[str]:
    """What the planned seeds can tell apart, and how often equal finalists are found to be equal."""
    seen = outlook(spec, len(spec.arms))
    if seen is None or len(spec.arms) < 2:
        return
    needed, seeds = smallest_decisive(looks_of(spec, len(spec.arms))[-1].level), counted(seen.seeds, "seed")
    reliably = "found in 80 % of studies, whatever the shape of the noise"
    if seen.seeds < needed:
        yield f"With {seeds} no arm can be called better: that takes at least {needed}."
    elif seen.smallest is None:
        yield f"With {seeds} even one side winning on 99 % of seeds is often missed (not {reliably})."
    else:
        size = "only large differences" if seen.smallest > _LARGE else "also smaller differences"
        share = f"about {100 * seen.smallest:.0f} % of seeds"
        yield f"With {seeds} {size} can be found: one side winning on {share} ({reliably})."
    if seen.advised is not None and seen.advised > seen.seeds:
        yield f"To find one side winning on 75 % of seeds as reliably, set confirmation.seeds: {seen.advised}."
    default = spec.confirmation.min_effect is None
    margin = "the default min_effect" if default else "if your min_effect is as large as"
    yield (
        f"Two equally good finalists end as 'no practical difference' in {100 * seen.ties:.0f} % of studies"
        f" ({margin}{',' * default} one standard deviation of the noise between seeds)."
    )
    if seen.seeds_for_ties is not None and seen.seeds < seen.seeds_for_ties:
        reach = "out of reach" if seen.ties < _OUT_OF_REACH else "unlikely"
        yield (
            f"So that verdict is {reach} with {seeds}: it takes {seen.seeds_for_ties} for every second study, fewer"
            " with a larger confirmation.min_effect, if you can accept one."
        )


def _families(spec: StudySpec) -> Iterator[str]:
    """Why the verdict will not cover optimizer families, where it will not."""
    if len(spec.arms) < 2 or spec.allocation == OPTIMISE:
        return
    if spec.fidelity.kind == PRUNE or len(spec.rungs) > 1:
        yield (
            "The verdict will be about settings, not about optimizer families: with fidelity:"
            f" {spec.fidelity.kind} early results decide which trials reach the full horizon, so those are no fair"
            " sample. To judge families, set fidelity: full."
        )
        return
    least, counts = fewest_trials(spec.confirmation.alpha), {}
    for arm in spec.arms:
        parts = split_for(spec.sampler, spec.budget.planned, arm)
        counts[arm.arm] = parts.sobol + (parts.model if spec.sampler == "random" else 0)
    few = [f"{arm} has {count}" for arm, count in counts.items() if count < least]
    if few:
        yield (
            "The verdict will be about settings, not about optimizer families: to judge the luck of a search takes"
            f" {least} independent trials per arm (Sobol or random), and {', '.join(few)}. More trials, or sampler:"
            " random, give more."
        )
