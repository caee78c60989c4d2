"""What the recommendation is measured against, the family's default and the user's current settings, and the gains.

Which of their runs are trained is in ``plan.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from tuner.analysis.statistics.estimates import bootstrap_interval, prob_better
from tuner.analysis.statistics.flips import sign_flip_p
from tuner.analysis.verdict.contest import Contest
from tuner.analysis.verdict.kinds import Reference
from tuner.analysis.verdict.samples import differences, ended_runs, penalised, score_row
from tuner.config.spec import StudySpec
from tuner.core.records import Phase, Setting, Source, TrialRecord
from tuner.study_records import StudyRecords


@dataclass(frozen=True, slots=True)
class Gain:
    """How much better the recommended setting is than a reference: the mean over ``n_pairs`` common fresh seeds.

    ``gain`` and its interval are in the metric's unit; above 0 is better, in either direction of the metric. ``p`` is
    that of the sign-flip test, ``prob_better`` the share of pairs that are won. All are None where the gain was not
    measured; ``reason`` says why, or that both are the same setting.
    """

    over: Reference
    setting: Setting | None = None
    gain: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    p: float | None = None
    prob_better: float | None = None
    n_pairs: int = 0
    reason: str = ""


def reference_trials(
    records: StudyRecords, arm: str, finalist: int, include_same: bool = False
) -> dict[Reference, TrialRecord]:
    """Return the trials that stand for the default and the current setting, in this order.

    Left out are a setting that no trial has, and one that is the finalist's own, unless ``include_same``.

    Args:
        records: the study's.
        arm: the recommended arm; the default is that of its family.
        finalist: the index of the arm's finalist.
        include_same: whether to keep a reference that has the same setting as the finalist.
    """
    spec = records.spec
    ordered = sorted(records.trials, key=lambda trial: (trial.arm != arm, trial.arm, trial.index))
    recommended = records.by_key.get((arm, finalist))
    references: dict[Reference, TrialRecord] = {}
    default = spec.space.arm(arm).default
    candidates = [t for t in ordered if t.arm == arm]
    named = next((t for t in candidates if t.source is Source.DEFAULT), None)
    if pick := named or next((t for t in candidates if t.setting == default), None):
        references[Reference.DEFAULT] = pick
    named = next((t for t in ordered if t.source is Source.CURRENT), None)
    if named is None and spec.current is not None:
        named = next((t for t in ordered if t.setting == spec.current), None)
    if named:
        references[Reference.CURRENT] = named
    if include_same or recommended is None:
        return references
    same = recommended.setting.fingerprint
    return {over: trial for over, trial in references.items() if trial.setting.fingerprint != same}


def covered(state: Contest, arm: str) -> tuple[int, ...]:
    """Return the seeds on which the arm's finalist has ended its confirmation runs."""
    row = state.samples.ended[arm]
    return tuple(seed for seed, ended in zip(state.samples.seeds, row, strict=True) if ended)


def gain_over(over: Reference, records: StudyRecords, state: Contest) -> Gain:
    """Compare the recommended finalist with a reference, paired on their common fresh seeds."""
    spec, arm = records.spec, state.recommended
    assert arm is not None
    if spec.recording is not None:
        return Gain(over, reason="recorded runs do not say which setting it was")
    finalist = state.chosen[arm]
    other = reference_trials(records, arm, finalist, include_same=True).get(over)
    if other is None:
        missing = (
            "no current settings were given" if over is Reference.CURRENT else "the default was not among the trials"
        )
        return Gain(over, reason=missing)
    recommended = records.by_key.get((arm, finalist))
    if recommended is not None and recommended.setting.fingerprint == other.setting.fingerprint:
        return Gain(over, other.setting, 0.0, 0.0, 0.0, 1.0, 0.5, 0, "it is the same setting")
    index = ended_runs(records.runs, Phase.CONFIRM, Phase.REFERENCE)
    seeds = covered(state, arm)
    a, b = penalised(
        [
            score_row(index, (arm, finalist), seeds, spec.sign),
            score_row(index, (other.arm, other.index), seeds, spec.sign),
        ]
    )
    pairs = differences(a, b)
    if not len(pairs):
        return Gain(over, other.setting, reason=_unmeasured(spec))
    low, high = bootstrap_interval(pairs, 1.0 - spec.confirmation.alpha) or (None, None)
    gain, p = float(pairs.mean()), sign_flip_p(pairs)
    return Gain(over, other.setting, gain, low, high, p, prob_better(pairs), len(pairs))


def _unmeasured(spec: StudySpec) -> str:
    """Why there is no run of the reference on a fresh seed."""
    plan = spec.confirmation
    if not plan.references:
        return "references are switched off (confirmation.references)"
    if plan.max_runs is not None:
        return "confirmation.max_runs left no room for its runs"
    return "its runs on the fresh seeds have not ended yet"
