"""The best settings of an earlier study, for a later one to start from; nothing is loaded or stored here."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from tuner.catalog.training_options import OWN_OPTIONS, changed, pattern_of
from tuner.config.initial_settings import InitialSetting
from tuner.config.spec import StudySpec
from tuner.core.records import Phase, Setting, Source, TrialRecord
from tuner.core.values import short
from tuner.study_records import StudyRecords

BEST = 3
"""At most this many settings of each arm are carried over."""
_BATCHES = (*OWN_OPTIONS, "batch_reference")


def best_settings(records: StudyRecords, families: Collection[str], workload: str) -> tuple[InitialSetting, ...]:
    """Return the best distinct settings of each arm, by their values in the search at the full horizon.

    Batch size, label smoothing and patterns on parameter names are carried over to the same workload only. What the
    earlier workload took for granted is not carried over at all.

    Args:
        records: of the earlier study.
        families: the optimizer families of the later study; settings of others are left out.
        workload: the path of the later study's workload, ``module:attribute``.
    """
    spec = records.spec
    values = {
        (run.spec.arm, run.spec.trial): run.value
        for run in records.in_phase(Phase.EXPLORE)
        if run.spec.horizon == spec.horizon and run.value is not None and math.isfinite(run.score(spec.sign))
    }
    settings: list[InitialSetting] = []
    for arm in dict.fromkeys(trial.arm for trial in records.trials):
        wanted = (t for t in records.trials_of(arm) if t.setting.family in families)
        tried = [t for t in wanted if (arm, t.index) in values]
        tried.sort(key=lambda t: (-spec.sign * values[t.arm, t.index], t.index))
        distinct = {t.setting.fingerprint: t for t in reversed(tried)}
        best = [t for t in tried if distinct[t.setting.fingerprint] is t][:BEST]
        settings += [_initial(spec, trial, values[arm, trial.index], workload) for trial in best]
    return tuple(settings)


def started_from(records: StudyRecords) -> dict[str, int]:
    """Return study -> how many of its settings were tried first, for each study that ``warm_start`` names."""
    spec = records.spec
    counts = dict.fromkeys(spec.warm_start, 0)
    for trial in records.trials:
        if trial.source is Source.EARLIER:
            origin = spec.space.arm(trial.arm).origins.get(trial.setting.fingerprint, "")
            name = next((name for name in counts if origin.startswith(_origin(name))), None)
            if name is not None:
                counts[name] += 1
    return counts


def _origin(study: str) -> str:
    return f"study {study}, "


def _initial(spec: StudySpec, trial: TrialRecord, value: float, workload: str) -> InitialSetting:
    same = spec.workload.path == workload
    origin = f"{_origin(spec.name)}{trial.arm} trial {trial.index}: {spec.metric} {short(value)}"
    if not same:
        origin += f" on {spec.workload.path}"
    return InitialSetting(trial.setting.family, _written(spec, trial.setting, same), Source.EARLIER, origin)


def _written(spec: StudySpec, setting: Setting, same: bool) -> Mapping[str, Any]:
    granted = spec.workload_training
    items = {key: value for key, value in changed(setting.training).items() if granted.get(key) != value}
    if not same:
        items = {key: value for key, value in items.items() if key not in _BATCHES and pattern_of(key) is None}
    return {**setting.hyperparameters, "schedule": dict(setting.schedule), "training": items}
