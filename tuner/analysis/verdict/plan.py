"""Which runs come after the search: noise, confirmation, references, test. Nothing is trained or stored here."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.analysis.verdict.contest import Contest, contest
from tuner.analysis.verdict.looks import Look, looks_of
from tuner.analysis.verdict.references import covered, reference_trials
from tuner.config.spec import StudySpec
from tuner.core.records import Phase, RunRequest, State
from tuner.study_records import StudyRecords


@dataclass(frozen=True, slots=True)
class ConfirmationCost:
    """At most how many runs follow the search; fewer where an arm is dropped at a look."""

    seeds: int
    noise: int
    confirm: int
    references: int
    test: int
    looks: tuple[Look, ...]

    @property
    def total(self) -> int:
        return self.noise + self.confirm + self.references + self.test


def plan_cost(spec: StudySpec, n_arms: int) -> ConfirmationCost:
    """Return what confirming so many finalists costs at most, for showing it before the study starts."""
    looks = looks_of(spec, n_arms)
    if not looks:
        return ConfirmationCost(0, 0, 0, 0, 0, ())
    seeds, plan = looks[-1].seeds, spec.confirmation
    confirm = seeds * n_arms
    wanted = (1 + (spec.current is not None)) if plan.references else 0
    room = wanted if plan.max_runs is None else min(wanted, max(0, plan.max_runs - confirm) // seeds)
    noise = noise_seeds(spec, n_arms, confirm + seeds * room) * n_arms
    return ConfirmationCost(seeds, noise, confirm, seeds * room, int(plan.test), looks)


def noise_seeds(spec: StudySpec, n_arms: int, others: int) -> int:
    """Return on how many seeds of its own each finalist shows its noise: under the cap, what ``others`` leave.

    None where the smallest difference that matters was given, and where there is nothing to compare; one run alone
    shows no noise.
    """
    plan = spec.confirmation
    if plan.min_effect is not None or n_arms < 2:
        return 0
    room = plan.noise_seeds if plan.max_runs is None else max(0, plan.max_runs - others) // n_arms
    seeds = min(plan.noise_seeds, room)
    return seeds if seeds > 1 else 0


def next_runs(records: StudyRecords) -> tuple[RunRequest, ...]:
    """Return the next batch of runs that the answer wants; () when it has all.

    To be asked when the search is over and nothing is queued or running. A pure function of the records, so a
    resumed study goes on by itself. A run that ended, however it did, is not asked for again. More seeds continue
    the same list of seeds; more trials may change the finalists, which then have a list of their own.
    """
    spec, state = records.spec, contest(records)
    if not state.looks:
        return ()
    known = {(run.spec.arm, run.spec.trial, run.spec.phase, run.spec.seed) for run in records.runs}
    for batch in (_noise(spec, state), _confirm(state), _reference(records, state), _test(spec, state)):
        fresh = tuple(r for r in batch if (r.arm, r.trial, r.phase, r.seed) not in known)
        if fresh:
            return fresh
    return ()


def _noise(spec: StudySpec, state: Contest) -> list[RunRequest]:
    """Once, before the first run of the verdict; a study that was confirmed without them gets none later."""
    if any(row.any() for row in state.samples.ended.values()):
        return []
    count = plan_cost(spec, len(state.chosen)).noise // len(state.chosen)
    seeds = [spec.noise_seed(state.chosen, i) for i in range(count)]
    return [RunRequest(arm, state.chosen[arm], Phase.NOISE, seed) for seed in seeds for arm in state.chosen]


def _confirm(state: Contest) -> list[RunRequest]:
    if state.ahead is None:
        return []
    seeds = state.samples.seeds[: state.ahead.seeds]
    return [RunRequest(arm, state.chosen[arm], Phase.CONFIRM, seed) for seed in seeds for arm in state.alive]


def _reference(records: StudyRecords, state: Contest) -> list[RunRequest]:
    """References train on the seeds of the recommended finalist; each only if all of its runs fit under the cap."""
    plan = records.spec.confirmation
    if not plan.references or state.recommended is None:
        return []
    arm, limit = state.recommended, plan.max_runs
    seeds, runs = covered(state, arm), records.in_phase(Phase.CONFIRM, Phase.REFERENCE)
    spent = sum(run.spec.seed in seeds for run in runs)
    existing = {(run.spec.arm, run.spec.trial, run.spec.seed) for run in runs if run.state is State.ENDED}
    requests: list[RunRequest] = []
    for trial in reference_trials(records, arm, state.chosen[arm]).values():
        missing = [seed for seed in seeds if (trial.arm, trial.index, seed) not in existing]
        if limit is None or spent + len(missing) <= limit:
            requests += [RunRequest(trial.arm, trial.index, Phase.REFERENCE, seed) for seed in missing]
            spent += len(missing)
    return list(dict.fromkeys(requests))


def _test(spec: StudySpec, state: Contest) -> list[RunRequest]:
    if not spec.confirmation.test or state.recommended is None:
        return []
    arm = state.recommended
    return [RunRequest(arm, state.chosen[arm], Phase.TEST, state.samples.seeds[0])]
