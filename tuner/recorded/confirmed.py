"""Which setting of each arm was confirmed, and on which seeds; values of the confirmation are not read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from tuner.core.records import Outcome, Phase
from tuner.recorded.rows import RecordedRun

Numbers = Mapping[tuple[str, str], int]
"""(arm, setting) -> the trial's index in its arm."""


def finalists_of(rows: Sequence[RecordedRun], index: Numbers) -> tuple[dict[str, int], tuple[int, ...]]:
    """Return each arm's finalist, by name of the arm, and all seeds on which finalists were confirmed.

    An arm's finalist is its trial with runs of the phase confirm. If several trials have such runs, it is the one that
    was best in the search at the full horizon; if none of them was searched, the one with most seeds. The values that
    judge the finalist never choose it. An arm without confirmed runs has no finalist. If no arm has any, each arm's
    finalist is its best trial of the search, and there are no seeds. If no run completed, no arm has a finalist.

    Args:
        rows: the runs of one study.
        index: the index of each setting in its arm.
    """
    if all(row.outcome is not Outcome.COMPLETED for row in rows):
        return {}, ()
    confirmed: dict[str, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        if row.phase is Phase.CONFIRM:
            confirmed[row.arm][index[row.arm, row.setting]].add(row.seed)
    scores = _search_scores(rows, index)
    if not confirmed:
        arms = sorted({arm for arm, _ in scores})
        return {arm: _best(arm, [trial for name, trial in scores if name == arm], scores) for arm in arms}, ()
    finalists = {arm: _finalist(arm, trials, scores) for arm, trials in sorted(confirmed.items())}
    return finalists, tuple(sorted({seed for arm, trial in finalists.items() for seed in confirmed[arm][trial]}))


def _finalist(arm: str, trials: Mapping[int, set[int]], scores: Mapping[tuple[str, int], float]) -> int:
    searched = [trial for trial in trials if (arm, trial) in scores]
    if searched:
        return _best(arm, searched, scores)
    return min(trials, key=lambda trial: (-len(trials[trial]), trial))


def _best(arm: str, trials: Sequence[int], scores: Mapping[tuple[str, int], float]) -> int:
    return min(trials, key=lambda trial: (-scores[arm, trial], trial))


def _search_scores(rows: Sequence[RecordedRun], index: Numbers) -> dict[tuple[str, int], float]:
    """The mean score of each arm's trials over their search runs at the full horizon; more is better."""
    full = max((row.horizon or 0 for row in rows), default=0)
    scores: dict[tuple[str, int], list[float]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.arm, row.setting, row.seed)):
        counts = row.phase is Phase.EXPLORE and (row.horizon or 0) == full and row.outcome is Outcome.COMPLETED
        if counts and row.value is not None:
            sign = 1.0 if row.direction == "maximize" else -1.0
            scores[row.arm, index[row.arm, row.setting]].append(sign * row.value)
    return {key: sum(values) / len(values) for key, values in scores.items()}
