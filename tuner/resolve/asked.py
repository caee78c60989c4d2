"""From a study file to the spec that is stored: what the file leaves open is taken from its workload."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tuner.catalog.training_options import OWN_OPTIONS, changed, learning_rate_factor
from tuner.config.changes import with_workload_training
from tuner.config.spec import Asked, Metric, StudyFile, StudySpec
from tuner.config.study_file import completed
from tuner.core.errors import InputError, WorkloadError
from tuner.core.records import Horizon
from tuner.resolve.head_start import with_recipes
from tuner.training.workloads.load import Description, describe, load


def resolve(file: StudyFile, workload: Any = None) -> StudySpec:
    """Import the workload, and take from it what the study file leaves open: metric, direction, horizon, training.

    Recipes that the study asks for are looked up; its earlier studies are not, for they need a database.

    Args:
        file: what was asked.
        workload: the workload itself, where it cannot be imported; None imports it.

    Raises:
        WorkloadError: it cannot be imported, is no workload, or does not take a batch size that the study sets.
        InputError: metric or horizon stands nowhere.
    """
    target = load(file.workload) if workload is None else workload
    about = describe(target)
    spec = completed(file, _metric(file, about), _horizon(file, about))
    if about.has_test is False:
        spec = replace(spec, confirmation=replace(spec.confirmation, test=False))
    _check_own_options(spec, about.takes)
    spec = with_workload_training(spec, about.training)
    spec = with_recipes(spec, target, about.takes)
    for arm in spec.arms if about.takes is None else ():  # a function: nobody will say what to scale from
        learning_rate_factor(arm.default.training)
    return spec


def _metric(file: StudyFile, about: Description) -> Metric:
    if file.metric is not None:
        return file.metric
    if not about.metric:
        raise InputError(
            f"study {file.name!r}: metric is missing, and {file.workload.path!r} is a function, which cannot say "
            "it; expected {name: ..., direction: maximize or minimize}. Add the key 'metric'."
        )
    return Metric(about.metric, str(about.direction))


def _horizon(file: StudyFile, about: Description) -> Horizon:
    if file.horizon is not None:
        return file.horizon
    if not about.horizon:
        raise InputError(
            f"study {file.name!r}: horizon is missing, and workload {file.workload.path!r} has none of its own; "
            "expected {epochs: N} or {steps: N}. Add the key 'horizon'."
        )
    unit, amount = next(iter(about.horizon.items()))
    return Horizon(amount, unit)


def _check_own_options(asked: Asked, takes: frozenset[str] | None) -> None:
    """Refuse a batch size or a label smoothing that the workload would ignore; a function says so when it trains."""
    for arm in asked.arms:
        said = {d.name for d in arm.all_dimensions} | set(arm.fixed)
        said |= {f"training.{name}" for setting in arm.initial_settings for name in changed(setting.training)}
        for name in OWN_OPTIONS:
            if takes is not None and name not in takes and f"training.{name}" in said:
                raise WorkloadError(
                    f"study {asked.name!r}: training.{name} is set, but workload {asked.workload.path!r} does not "
                    f"take it; expected a workload with {name!r} on its class. Leave it out, or use self.{name} there."
                )
