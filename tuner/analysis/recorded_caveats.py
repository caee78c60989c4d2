"""The caveats of a recording: what others chose who made the runs. Those of every study stand in ``caveats.py``."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np

from tuner.analysis.evidence import Caveat, CaveatCode
from tuner.analysis.verdict.contest import Contest, pair_rows
from tuner.analysis.verdict.decision import FEWEST_PAIRS
from tuner.core.records import Outcome, Phase
from tuner.study_records import StudyRecords

Caveats = list[Caveat]


def recorded_seeds(records: StudyRecords, state: Contest) -> Caveats:
    """What is amiss with the seeds of the confirmation."""
    if state.samples.empty:
        return [
            Caveat(
                CaveatCode.NOT_CONFIRMED,
                "No setting was confirmed on fresh seeds: the value is the search's, too rosy.",
            )
        ]
    caveats = []
    pairs = {(a, b): len(pair_rows(state, a, b)) for a, b in combinations(state.chosen, 2)}
    if pairs and min(pairs.values()) < FEWEST_PAIRS:
        (a, b), least = min(pairs.items(), key=lambda item: item[1])
        text = f"{a} and {b} have {least} seeds in common: fewer than {FEWEST_PAIRS} pairs cannot reach p = 0.05."
        caveats.append(Caveat(CaveatCode.FEW_SEEDS, text))
    caveats += _unshared(state)
    mine = [run for run in records.runs if state.chosen.get(run.spec.arm) == run.spec.trial]
    lost = sum(run.spec.phase is Phase.CONFIRM and run.outcome is Outcome.LOST for run in mine)
    if lost:
        caveats.append(
            Caveat(CaveatCode.LOST_RUNS, f"Confirmation runs lost with their machine, and missing here: {lost}.")
        )
    searched = {(run.spec.arm, run.spec.seed) for run in mine if run.spec.phase is Phase.EXPLORE}
    stale = {run.spec.seed for run in mine if run.spec.phase is Phase.CONFIRM} & {seed for _, seed in searched}
    if stale:
        text = (
            f"Confirmation and search share seeds ({', '.join(map(str, sorted(stale)[:5]))}): what won the search by"
            " luck is lucky there again."
        )
        caveats.append(Caveat(CaveatCode.SEEDS_NOT_FRESH, text))
    return caveats


def _unshared(state: Contest) -> Caveats:
    if len(state.chosen) < 2:
        return []
    there = ~np.isnan(np.array([state.samples.scores[arm] for arm in state.chosen]))
    common, total = int(there.all(axis=0).sum()), int(there.any(axis=0).sum())
    if common == total:
        return []
    text = f"The arms were not confirmed on the same seeds: {common} of {total} are common to all. Pairs take theirs."
    return [Caveat(CaveatCode.UNSHARED_SEEDS, text)]


def recorded_trials(records: StudyRecords, state: Contest) -> Caveats:
    """What is amiss with the search: who was confirmed, out of how many."""
    caveats = []
    confirmed = {(run.spec.arm, run.spec.trial) for run in records.in_phase(Phase.CONFIRM)}
    out = [arm for arm in records.arms if arm not in state.chosen]
    if out and confirmed:
        text = f"No run of {', '.join(out)} is of the phase confirm: not compared."
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
            f"The search that led to the setting of {', '.join(chosen)} is not recorded: how much luck chose it cannot"
            " be seen; of several, the one with most seeds stands for the arm."
        )
        caveats.append(Caveat(CaveatCode.SEARCH_NOT_RECORDED, text))
    counts = {arm: len({trial for name, trial in explored if name == arm}) for arm in records.arms}
    if len(set(counts.values())) > 1 and any(counts.values()):
        sizes = ", ".join(f"{arm} {count}" for arm, count in counts.items())
        text = f"Arms were searched with different numbers of trials ({sizes}): more trials have more luck."
        caveats.append(Caveat(CaveatCode.UNEQUAL_TRIALS, text))
    return caveats


def recorded_failures(records: StudyRecords, _state: Contest) -> Caveats:
    """Runs that failed for another reason than divergence."""
    counts = Counter(run.spec.arm for run in records.runs if run.outcome is Outcome.FAILED)
    if not counts:
        return []
    where = ", ".join(f"{arm} {count}" for arm, count in sorted(counts.items()))
    return [Caveat(CaveatCode.FAILED_RUNS, f"Runs failed ({where}); in the confirmation they count as lost pairs.")]
