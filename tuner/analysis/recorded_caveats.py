"""The caveats of a recording: what others chose who made the runs. Those of every study stand in ``caveats.py``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from tuner.analysis.evidence import Caveat
from tuner.analysis.verdict.contest import Contest, pair_rows
from tuner.analysis.verdict.decision import FEWEST_PAIRS
from tuner.config.spec import StudySpec
from tuner.core.records import Outcome, Phase, RunRecord, TrialRecord

Found = list[Caveat]


def recorded_seeds(_spec: StudySpec, _t: Sequence[TrialRecord], runs: Sequence[RunRecord], state: Contest) -> Found:
    """What is amiss with the seeds of the confirmation."""
    if state.samples.empty:
        return [
            Caveat("not_confirmed", "No setting was confirmed on fresh seeds: the value is the search's, too rosy.")
        ]
    found = []
    pairs = {(a, b): len(pair_rows(state, a, b)) for a, b in combinations(state.chosen, 2)}
    if pairs and min(pairs.values()) < FEWEST_PAIRS:
        (a, b), least = min(pairs.items(), key=lambda item: item[1])
        text = f"{a} and {b} have {least} seeds in common: fewer than {FEWEST_PAIRS} pairs cannot reach p = 0.05."
        found.append(Caveat("few_seeds", text))
    found += _unshared(state)
    mine = [run for run in runs if state.chosen.get(run.spec.arm) == run.spec.trial]
    lost = sum(run.spec.phase is Phase.CONFIRM and run.outcome is Outcome.LOST for run in mine)
    if lost:
        found.append(Caveat("lost_runs", f"Confirmation runs lost with their machine, and missing here: {lost}."))
    searched = {(run.spec.arm, run.spec.seed) for run in mine if run.spec.phase is Phase.EXPLORE}
    stale = {run.spec.seed for run in mine if run.spec.phase is Phase.CONFIRM} & {seed for _, seed in searched}
    if stale:
        text = (
            f"Confirmation and search share seeds ({', '.join(map(str, sorted(stale)[:5]))}): what won the search by"
            " luck is lucky there again."
        )
        found.append(Caveat("seeds_not_fresh", text))
    return found


def _unshared(state: Contest) -> Found:
    if len(state.chosen) < 2:
        return []
    there = ~np.isnan(np.array([state.samples.scores[arm] for arm in state.chosen]))
    common, total = int(there.all(axis=0).sum()), int(there.any(axis=0).sum())
    if common == total:
        return []
    text = f"The arms were not confirmed on the same seeds: {common} of {total} are common to all. Pairs take theirs."
    return [Caveat("unshared_seeds", text)]


def recorded_trials(spec: StudySpec, _t: Sequence[TrialRecord], runs: Sequence[RunRecord], state: Contest) -> Found:
    """What is amiss with the search: who was confirmed, out of how many."""
    found = []
    confirmed = {(run.spec.arm, run.spec.trial) for run in runs if run.spec.phase is Phase.CONFIRM}
    out = [arm.arm for arm in spec.arms if arm.arm not in state.chosen]
    if out and confirmed:
        text = f"No run of {', '.join(out)} is of the phase confirm: not compared."
        found.append(Caveat("arm_not_confirmed", text))
    elif out:
        found.append(Caveat("arm_without_result", f"No run of {', '.join(out)} completed: not compared."))
    several = [arm for arm, count in sorted(Counter(arm for arm, _ in confirmed).items()) if count > 1]
    if several:
        text = (
            f"Several settings of {', '.join(several)} were confirmed: the best one of the search stands for the arm."
        )
        found.append(Caveat("several_confirmed", text))
    explored = {(run.spec.arm, run.spec.trial) for run in runs if run.spec.phase is Phase.EXPLORE}
    chosen = [arm for arm, trial in state.chosen.items() if (arm, trial) not in explored]
    if chosen and confirmed:
        text = (
            f"The search that led to the setting of {', '.join(chosen)} is not recorded: how much luck chose it cannot"
            " be seen; of several, the one with most seeds stands for the arm."
        )
        found.append(Caveat("search_not_recorded", text))
    counts = {arm.arm: len({trial for name, trial in explored if name == arm.arm}) for arm in spec.arms}
    if len(set(counts.values())) > 1 and any(counts.values()):
        sizes = ", ".join(f"{arm} {count}" for arm, count in counts.items())
        text = f"Arms were searched with different numbers of trials ({sizes}): more trials have more luck."
        found.append(Caveat("unequal_trials", text))
    return found


def recorded_failures(_spec: StudySpec, _t: Sequence[TrialRecord], runs: Sequence[RunRecord], _state: Contest) -> Found:
    """Runs that failed for another reason than divergence."""
    counts = Counter(run.spec.arm for run in runs if run.outcome is Outcome.FAILED)
    if not counts:
        return []
    where = ", ".join(f"{arm} {count}" for arm, count in sorted(counts.items()))
    return [Caveat("failed_runs", f"Runs failed ({where}); in the confirmation they count as lost pairs.")]
