"""The confirmation runs as numbers by arm and seed; the rule that reads them is in ``contest.py``."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tuner.analysis.statistics.estimates import Array, noise_sd, pooled_sd
from tuner.analysis.verdict.looks import looks_of
from tuner.core.records import Outcome, Phase, RunRecord, State
from tuner.study_records import Key, StudyRecords

Ended = Mapping[tuple[str, int, int], RunRecord]
"""(arm, trial, seed) -> the ended run."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Scores (value times the direction's sign: more is better) of each finalist on the verdict's seeds.

    Both mappings are from arm to a row with one entry per seed. In ``scores``, NaN is a run that is missing (it has not
    ended, or was lost with its machine), -inf one that loses its pair: it diverged, or the user's code failed. In
    ``ended``, 1 is a run that has ended, lost or not, and 0 one that has not.
    """

    seeds: tuple[int, ...]
    scores: Mapping[str, Array]
    ended: Mapping[str, Array]

    def at(self, seeds: int | None = None) -> dict[str, Array]:
        """Return arm -> scores on the first ``seeds`` seeds (None: on all), with -inf replaced by :func:`penalised`.

        Only what those seeds showed enters, so a look gives the same answer whenever it is repeated.
        """
        arms = list(self.scores)
        filled = penalised([self.scores[arm][:seeds] for arm in arms])
        return dict(zip(arms, filled, strict=True))

    def complete(self, arms: Iterable[str], seeds: int) -> bool:
        """Whether all runs of these arms on the first ``seeds`` seeds have ended."""
        return all(bool(self.ended[arm][:seeds].all()) for arm in arms)

    def measured(self, arm: str, seeds: int | None = None) -> bool:
        """Whether any of the arm's runs on the first ``seeds`` seeds (None: on all) has a finite score."""
        return bool(np.isfinite(self.scores[arm][:seeds]).any())

    @property
    def barren(self) -> bool:
        """Whether no run of any arm has a finite score, so that nothing on fresh seeds compares the arms."""
        return not any(self.measured(arm) for arm in self.scores)

    @property
    def empty(self) -> bool:
        """Whether every run of every arm is missing."""
        return all(bool(np.isnan(row).all()) for row in self.scores.values())


def collect(records: StudyRecords, chosen: Mapping[str, int]) -> Samples:
    """Gather the confirmation runs of the finalists; ``chosen`` maps an arm to the index of its trial.

    Runs of other sets of finalists have other seeds and stay out.
    """
    spec = records.spec
    looks = looks_of(spec, len(chosen))
    planned = tuple(spec.confirm_seed(chosen, i) for i in range(looks[-1].seeds if looks else 0))
    seeds = planned if spec.recording is None else spec.recording.seeds
    index = ended_runs(records.runs, Phase.CONFIRM)
    scores, ended = {}, {}
    for arm, trial in chosen.items():
        scores[arm] = score_row(index, (arm, trial), seeds, spec.sign)
        over = spec.recording is not None  # a recording gets no more runs: what is not recorded is missing
        ended[arm] = np.array([over or (arm, trial, seed) in index for seed in seeds], dtype=float)
    return Samples(seeds, scores, ended)


def ended_runs(runs: Sequence[RunRecord], *phases: Phase) -> Ended:
    """Return (arm, trial, seed) -> the ended run of these phases.

    Where two phases have a run of the same trial and seed, one that was lost gives way; else the phase that is named
    first counts.
    """
    wanted = [run for run in runs if run.state is State.ENDED and run.spec.phase in phases]
    wanted.sort(key=lambda run: (run.outcome is not Outcome.LOST, -phases.index(run.spec.phase)))
    return {(run.spec.arm, run.spec.trial, run.spec.seed): run for run in wanted}


def score_row(index: Ended, trial: Key, seeds: Sequence[int], sign: int) -> Array:
    """Return one score per seed: NaN where the run is missing, -inf where it loses its pair."""
    runs = (index.get((*trial, seed)) for seed in seeds)
    return np.array([math.nan if run is None else run.score(sign) for run in runs], dtype=float)


def penalised(rows: Sequence[Array]) -> list[Array]:
    """Replace -inf by the worst finite score of all rows, less one pooled standard deviation; NaN stays.

    The worst score itself would let a diverged run tie with the worst run that completed; it must lose its pair. Two
    diverged runs of a pair still differ by 0. Without any finite score, all -inf become 0.
    """
    finite = [row[np.isfinite(row)] for row in rows]
    everything = np.concatenate(finite) if finite else np.empty(0)
    if not len(everything):
        return [np.where(np.isneginf(row), 0.0, row) for row in rows]
    worst = float(everything.min())
    gap = max(pooled_sd(finite), 1e-9 * max(1.0, abs(worst)))
    return [np.where(np.isneginf(row), worst - gap, row) for row in rows]


def outside_noise(records: StudyRecords) -> float | None:
    """Return the seed noise outside the comparison, in the metric's unit; None where no trial shows any.

    It is the standard deviation within trials, by :func:`tuner.analysis.statistics.estimates.noise_sd`, over the
    completed runs of the search and of the noise phase at the full horizon, of trials with two seeds or more. The
    phases stay apart, because a finalist's one run of the search was chosen for its luck.
    """
    groups: dict[tuple[str, int, Phase], dict[int, float]] = defaultdict(dict)
    for run in sorted(records.in_phase(Phase.EXPLORE, Phase.NOISE), key=lambda run: run.run_id):
        value = run.value
        if run.spec.horizon == records.spec.horizon and value is not None and math.isfinite(run.score(1)):
            groups[run.spec.arm, run.spec.trial, run.spec.phase][run.spec.seed] = value
    repeated = [np.array(list(values.values())) for values in groups.values() if len(values) > 1]
    return noise_sd(repeated) if repeated else None


def noise(rows: Iterable[Array]) -> float:
    """Return the seed noise: the standard deviation within rows (one per arm), over their finite scores."""
    return noise_sd([row[np.isfinite(row)] for row in rows])


def differences(a: Array, b: Array) -> Array:
    """Return a - b on the seeds on which both have a score."""
    both = ~(np.isnan(a) | np.isnan(b))
    return a[both] - b[both]


def present(row: Array) -> Array:
    """Return the scores without the missing ones."""
    return row[~np.isnan(row)]


def mean(row: Array) -> float:
    """Return the mean of the scores that are not missing; -inf without any."""
    scores = present(row)
    return float(scores.mean()) if len(scores) else -math.inf
