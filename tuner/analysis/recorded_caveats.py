"""The caveats of a recording: they follow from what those chose who made the runs. The others are in ``caveats.py``."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np

from tuner.analysis.evidence import Caveat, CaveatCode
from tuner.analysis.verdict.contest import Contest, pair_rows
from tuner.analysis.verdict.decision import FEWEST_PAIRS
from tuner.core.records import Outcome, Phase
from tuner.core.values import counted
from tuner.study_records import StudyRecords

Caveats = list[Caveat]


def recorded_seeds(records: StudyRecords, state: Contest) -> Caveats:
    """Return what is amiss with the seeds of the confirmation."""
    if state.samples.empty:
        return [
            Caveat(
                CaveatCode.NOT_CONFIRMED,
                "No setting was confirmed on fresh seeds: the value is the best of the search, so probably too good.",
            )
        ]
    caveats = []
    pairs = {(a, b): len(pair_rows(state, a, b)) for a, b in combinations(state.chosen, 2)}
    if pairs and min(pairs.values()) < FEWEST_PAIRS:
        (a, b), least = min(pairs.items(), key=lambda item: item[1])
        shared = counted(least, "seed")
        text = f"{a} and {b} share {shared}: with fewer than {FEWEST_PAIRS} pairs no p-value can reach 0.05."
        caveats.append(Caveat(CaveatCode.FEW_SEEDS, text))
    caveats += _unshared(state)
    finalists = [run for run in records.runs if state.chosen.get(run.spec.arm) == run.spec.trial]
    lost = sum(run.spec.phase is Phase.CONFIRM and run.outcome is Outcome.LOST for run in finalists)
    if lost:
        text = f"Confirmation runs that were lost with their machine and are missing here: {lost}."
        caveats.append(Caveat(CaveatCode.LOST_RUNS, text))
    searched, confirmed = (
        {run.spec.seed for run in finalists if run.spec.phase is phase} for phase in (Phase.EXPLORE, Phase.CONFIRM)
    )
    stale = searched & confirmed
    if stale:
        text = (
            f"Confirmation and search share seeds ({', '.join(map(str, sorted(stale)[:5]))}): a setting that"
            " won the search by luck is lucky there again."
        )
        caveats.append(Caveat(CaveatCode.SEEDS_NOT_FRESH, text))
    return caveats


def _unshared(state: Contest) -> Caveats:
    """Arms that were not confirmed on the same seeds."""
    if len(state.chosen) < 2:
        return []
    have = ~np.isnan(np.array([state.samples.scores[arm] for arm in state.chosen]))
    common, total = int(have.all(axis=0).sum()), int(have.any(axis=0).sum())
    if common == total:
        return []
    text = f"Not all arms were confirmed on the same seeds ({common} of {total} are): each pair uses those it shares."
    return [Caveat(CaveatCode.UNSHARED_SEEDS, text)]


def recorded_trials(records: StudyRecords, state: Contest) -> Caveats:
    """Return what is amiss with the search: which settings were confirmed, and out of how many trials."""
    caveats = []
    confirmed = {(run.spec.arm, run.spec.trial) for run in records.in_phase(Phase.CONFIRM)}
    out = [arm for arm in records.arms if arm not in state.chosen]
    if out and confirmed:
        text = f"No run of {', '.join(out)} has the phase confirm: not compared."
        caveats.append(Caveat(CaveatCode.ARM_NOT_CONFIRMED, text))
    elif out:
        caveats.append(Caveat(CaveatCode.ARM_WITHOUT_RESULT, f"No run of {', '.join(out)} completed: not compared."))
    several = [arm for arm, count in sorted(Counter(arm for arm, _ in confirmed).items()) if count > 1]
    if several:
        text = (
            f"Several settings of {', '.join(several)} were confirmed: the best one of the search stands for the arm."
        )
        caveats.append(Caveat(CaveatCode.SEVERAL_CONFIRMED, text))
    explored = {(run.spec.arm, run.spec.trial) for run in records.in_phase(Phase.EXPLORE)}
    chosen = [arm for arm, trial in state.chosen.items() if (arm, trial) not in explored]
    if chosen and confirmed:
        text = (
            f"The search that led to the setting of {', '.join(chosen)} is not recorded, so how lucky it was cannot be"
            " told. Of several settings, the one with most seeds stands for the arm."
        )
        caveats.append(Caveat(CaveatCode.SEARCH_NOT_RECORDED, text))
    counts = {arm: len({run.spec.trial for run in records.search_runs[arm]}) for arm in records.arms}
    if len(set(counts.values())) > 1 and any(counts.values()):
        sizes = ", ".join(f"{arm} {count}" for arm, count in counts.items())
        text = f"Arms were searched with different numbers of trials ({sizes}): more trials are more chances of luck."
        caveats.append(Caveat(CaveatCode.UNEQUAL_TRIALS, text))
    return caveats


def recorded_failures(records: StudyRecords) -> Caveats:
    """Return what to know of runs that failed for another reason than divergence."""
    counts = Counter(run.spec.arm for run in records.runs if run.outcome is Outcome.FAILED)
    if not counts:
        return []
    where = ", ".join(f"{arm} {count}" for arm, count in sorted(counts.items()))
    return [Caveat(CaveatCode.FAILED_RUNS, f"Runs failed ({where}); in the confirmation each one loses its pair.")]
