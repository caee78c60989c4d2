"""Which setting of each arm was confirmed, and on which seeds; no value of the confirmation is looked at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from tuner.core.records import Outcome, Phase
from tuner.recorded.rows import RecordedRun

Numbers = Mapping[tuple[str, str], int]
"""(arm, setting) -> the trial's index in its arm."""


def finalists_of(rows: Sequence[RecordedRun], index: Numbers) -> tuple[dict[str, int], tuple[int, ...]]:
    """Return arm -> index of its finalist, by name of the arm, and all seeds on which finalists were confirmed.

    The finalist is the trial with runs of the phase confirm. Of several, it is the best one of the search at the full
    horizon; where none of them was searched, the one with most seeds. It is never chosen by the values that are to
    judge it. An arm without such runs has no finalist, unless no arm has any: then its best of the search stands for
    it, and there are no seeds. Nobody has a finalist where no run completed at all.
    """
    if all(row.outcome is not Outcome.COMPLETED for row in rows):
        return {}, ()
    confirmed: dict[str, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        if row.phase is Phase.CONFIRM:
            confirmed[row.arm][index[row.arm, row.setting]].add(row.seed)
    best = _search_scores(rows, index)
    if not confirmed:
        arms = sorted({arm for arm, _ in best})
        return {arm: _best(arm, [trial for name, trial in best if name == arm], best) for arm in arms}, ()
    found = {arm: _finalist(arm, trials, best) for arm, trials in sorted(confirmed.items())}
    return found, tuple(sorted({seed for arm, trial in found.items() for seed in confirmed[arm][trial]}))


def _finalist(arm: str, trials: Mapping[int, set[int]], scores: Mapping[tuple[str, int], float]) -> int:
    searched = [trial for trial in trials if (arm, trial) in scores]
    if searched:
        return _best(arm, searched, scores)
    return min(trials, key=lambda trial: (-len(trials[trial]), trial))


def _best(arm: str, trials: Sequence[int], scores: Mapping[tuple[str, int], float]) -> int:
    return min(trials, key=lambda trial: (-scores[arm, trial], trial))


def _search_scores(rows: Sequence[RecordedRun], index: Numbers) -> dict[tuple[str, int], float]:
    """(arm, trial) -> mean over its search runs at the full horizon; more is better."""
    full = max((row.horizon or 0 for row in rows), default=0)
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.arm, row.setting, row.seed)):
        counts = row.phase is Phase.EXPLORE and (row.horizon or 0) == full and row.outcome is Outcome.COMPLETED
        if counts and row.value is not None:
            sign = 1.0 if row.direction == "maximize" else -1.0
            found[row.arm, index[row.arm, row.setting]].append(sign * row.value)
    return {key: sum(values) / len(values) for key, values in found.items()}
