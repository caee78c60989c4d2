"""Which runs follow the search: noise, confirmation, references, test. Nothing is trained or stored here."""

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
    """How many runs follow the search at most, by phase; fewer where an arm is out at a look.

    ``seeds`` is the number of seeds per arm, ``looks`` when the data are looked at.
    """

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
    """Return what confirming ``n_arms`` finalists costs at most; it can be shown before the study starts."""
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
    """Return on how many seeds of their own the finalists show their noise, under what the cap on runs leaves.

    ``others`` is the number of runs of confirmation and references. 0 where the smallest difference that matters was
    given, where there is nothing to compare, and instead of 1: a single run shows no noise.
    """
    plan = spec.confirmation
    if plan.min_effect is not None or n_arms < 2:
        return 0
    room = plan.noise_seeds if plan.max_runs is None else max(0, plan.max_runs - others) // n_arms
    seeds = min(plan.noise_seeds, room)
    return seeds if seeds > 1 else 0


def next_runs(records: StudyRecords) -> tuple[RunRequest, ...]:
    """Return the next batch of runs that the answer needs; () when it has all.

    Call it when the search is over and nothing is queued or running. It is a pure function of the records, so a
    resumed study goes on by itself. A run that has ended, however it ended, is not asked for again. More seeds continue
    the same list of seeds; more trials may change the finalists, and other finalists have another list.
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
    """Runs that show the seed noise, before the first confirmation run; none once a confirmation run has ended."""
    if any(row.any() for row in state.samples.ended.values()):
        return []
    count = plan_cost(spec, len(state.chosen)).noise // len(state.chosen)
    seeds = [spec.noise_seed(state.chosen, i) for i in range(count)]
    return [RunRequest(arm, state.chosen[arm], Phase.NOISE, seed) for seed in seeds for arm in state.chosen]


def _confirm(state: Contest) -> list[RunRequest]:
    """The finalists still in, on all seeds of the next look."""
    if state.ahead is None:
        return []
    seeds = state.samples.seeds[: state.ahead.seeds]
    return [RunRequest(arm, state.chosen[arm], Phase.CONFIRM, seed) for seed in seeds for arm in state.alive]


def _reference(records: StudyRecords, state: Contest) -> list[RunRequest]:
    """The references on the seeds of the recommended finalist; each only if all of its runs fit under the cap."""
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
    """One run of the recommended finalist, which may see the test split."""
    if not spec.confirmation.test or state.recommended is None:
        return []
    arm = state.recommended
    return [RunRequest(arm, state.chosen[arm], Phase.TEST, state.samples.seeds[0])]
