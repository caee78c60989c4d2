"""Whether two specs ask the same: a comparison of values."""

from __future__ import annotations

from dataclasses import replace

from tuner.config.spec import Budget, Resources, StudySpec

Question = tuple[StudySpec, tuple[str, ...]]


def question(spec: StudySpec) -> Question:
    """Return what a study asks, and the names of its arms; only for a comparison with another one.

    Left out is how its runs are placed and kept alive, which settings were found where it starts from, and what its
    search widened. Of the resources, threads and device stay: the others change no number. The order of keys in a space
    does not count.
    """
    plain = replace(
        spec,
        executor="",
        checkpoint_seconds=0.0,
        retries=0,
        stop_after_failures=0,
        tracking=None,
        workload=replace(spec.workload, folder=""),
        resources=Resources(threads=spec.resources.threads, device=spec.resources.device),
        budget=asked_budget(spec),
        space=replace(spec.space, arms=()),
        current=None,
        initial_settings=(),
        widened=(),
    )
    return plain, tuple(arm.arm for arm in spec.arms)


def asked_budget(spec: StudySpec) -> Budget:
    """Return the budget without the trials that came with wider ranges."""
    trials = spec.budget.trials_per_arm
    if trials is None:
        return spec.budget
    return replace(spec.budget, trials_per_arm=trials - sum(widening.trials for widening in spec.widened))


def placed_as(spec: StudySpec, other: StudySpec) -> StudySpec:
    """Return a spec whose runs are placed and kept alive as another one says; no answer depends on it."""
    return replace(
        spec,
        executor=other.executor,
        checkpoint_seconds=other.checkpoint_seconds,
        retries=other.retries,
        stop_after_failures=other.stop_after_failures,
        tracking=other.tracking,
        resources=other.resources,
        workload=other.workload,
    )


def stored_alike(one: StudySpec, other: StudySpec) -> bool:
    """Return whether the ledger would keep the same of both, but for the order of keys."""
    plain, names = question(one)
    return (plain, names) == question(other) and replace(one, space=other.space, current=other.current) == other
