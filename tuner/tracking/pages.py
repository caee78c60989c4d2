"""What MLflow shows of a run and of a study, as plain values; neither MLflow nor the ledger is read or written here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.catalog.training_options import told
from tuner.core.records import Horizon, Measurement, Outcome, Phase, RunRecord, Source, State
from tuner.core.settings import hide_secrets
from tuner.core.values import Scalar
from tuner.tracking import view

NOTE = "mlflow.note.content"
STUDY_TAG = "tuner.study"
LEDGER_TAG = "tuner.ledger"
RUN_TAG = "tuner.run_id"
NONFINITE_TAG = "tuner.nonfinite"
RESERVED = ("value", "train_seconds", "eval_seconds")

_STATUS = {
    Outcome.COMPLETED: "FINISHED",
    Outcome.PRUNED: "KILLED",
    Outcome.DIVERGED: "FAILED",
    Outcome.FAILED: "FAILED",
    Outcome.LOST: "FAILED",
}
_STUDY_STATUS = {"finished": "FINISHED", "stopped": "FAILED"}
_KEY = re.compile(r"[^\w\-. :/]")
NOTE_LENGTH = 7500
_TRACE_LENGTH = 5000
_NAMED = 8


@dataclass(frozen=True, slots=True)
class Point:
    """A value of a metric after ``step`` optimizer steps and ``seconds`` since the run's start."""

    key: str
    value: float
    step: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Page:
    """What is shown of one run. ``started`` and ``ended`` are in seconds since the epoch; ``ended`` is None before."""

    run_id: str
    name: str
    status: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    curve: tuple[Measurement, ...]
    final: tuple[Point, ...]
    started: float
    ended: float | None


def run_page(
    record: RunRecord, source: Source | None, now: float, arms: Sequence[str] = (), full: Horizon | None = None
) -> Page:
    """Return what is shown of a run that is in training or has ended.

    Args:
        record: the run.
        source: how its trial was proposed, if that is known.
        now: seconds since the epoch. If the ledger has no start of the run yet, it is ``now`` less the seconds that
            the run has measured.
        arms: the study's arms; an arm's place among them decides its colour.
        full: the study's horizon, if it is known.
    """
    result = record.result
    elapsed = max((m.train_seconds + m.eval_seconds for m in record.curve), default=0.0)
    started, ended = record.started_at or now - elapsed, None
    if result is not None:
        started = result.started_at or (result.finished_at or now) - elapsed
        elapsed = max(elapsed, result.finished_at - started)
        ended = started + elapsed
    return Page(
        run_id=record.run_id,
        name=run_name(record, full),
        status=_run_status(record),
        tags=_tags(record, source) | {view.COLOR_TAG: view.color(record.spec.arm, arms)},
        params=_params(record),
        curve=record.curve,
        final=tuple(_final(record, elapsed)),
        started=started,
        ended=ended,
    )


def run_name(record: RunRecord, full: Horizon | None = None) -> str:
    """Return a run's name: arm and trial, then what tells it from the trial's other runs.

    ``sgdm #7``, ``sgdm #7 · confirm · seed 123``, and ``sgdm #7 · 2 epochs`` on a rung below the ``full`` horizon. The
    arm comes first because MLflow's table shows about twenty letters.
    """
    spec = record.spec
    words = [f"{spec.arm} #{spec.trial}"]
    if spec.phase is not Phase.EXPLORE:
        words += [spec.phase.value, f"seed {spec.seed}"]
    if full is not None and spec.horizon != full:
        words.append(str(spec.horizon))
    return " · ".join(words)


def _run_status(record: RunRecord) -> str:
    if record.outcome is not None:
        return _STATUS[record.outcome]
    return "RUNNING" if record.state is State.RUNNING else "SCHEDULED"


def _tags(record: RunRecord, source: Source | None) -> dict[str, str]:
    spec, result = record.spec, record.result
    not_finite = [
        f"{key} at step {m.step}" for m in record.curve for key, v in m.values.items() if not math.isfinite(v)
    ]
    tags = {
        STUDY_TAG: spec.study,
        RUN_TAG: record.run_id,
        "arm": spec.arm,
        "family": spec.setting.family,
        "schedule": str(spec.setting.schedule["kind"]),
        "phase": spec.phase.value,
        "trial": str(spec.trial),
        "rung": str(spec.rung),
        "seed": str(spec.seed),
        "attempt": str(record.attempt),
        "outcome": result.outcome.value if result else record.state.value,
        "mlflow.source.name": "tuner",
        NOTE: _run_note(record),
    }
    if source is not None:
        tags["source"] = source.value
    if result is not None:
        tags["device"] = result.device
        not_finite += [f"{key} at the end" for key, value in _end_values(record) if not math.isfinite(value)]
        if result.reason:
            tags["reason"] = hide_secrets(result.reason)[:1000]
    if not_finite:
        more = f" and {len(not_finite) - _NAMED} more" if len(not_finite) > _NAMED else ""
        tags[NONFINITE_TAG] = f"NaN or infinite, so not shown: {', '.join(not_finite[:_NAMED])}{more}"
    return {key: value for key, value in tags.items() if value}


def _run_note(record: RunRecord) -> str:
    """The run's page in Markdown: its setting, why it ended early, and the end of its traceback."""
    lines = [f"`{told(record.spec.setting)}`"]
    if record.result is not None and record.result.reason:
        lines.append(f"**{record.result.outcome.value}**: {record.result.reason}")
    if record.result is not None and record.result.traceback:
        trace = record.result.traceback
        cut = trace if len(trace) <= _TRACE_LENGTH else f"[...]\n{trace[-_TRACE_LENGTH:]}"
        lines.append(f"```\n{cut.rstrip()}\n```")
    return hide_secrets("\n\n".join(lines))[:NOTE_LENGTH]


def _params(record: RunRecord) -> dict[str, str]:
    setting = record.spec.setting
    params: dict[str, Scalar] = {"family": setting.family}
    params |= setting.hyperparameters
    params |= {f"schedule.{key}": value for key, value in setting.schedule.items()}
    params |= {f"training.{key}": value for key, value in setting.training.items()}
    params["horizon"] = str(record.spec.horizon)
    texts: dict[str, str] = {}
    for key, value in params.items():
        name = clean(key)
        while name in texts:  # two patterns may differ only in letters that MLflow's names cannot have
            name += "_"
        texts[name] = str(value)
    return texts


def _end_values(record: RunRecord) -> Iterator[tuple[str, float]]:
    assert record.result is not None
    if record.result.value is not None:
        yield "value", record.result.value
    yield "train_seconds", round(record.result.train_seconds, 3)
    yield "eval_seconds", round(record.result.eval_seconds, 3)
    yield from ((f"test.{key}", value) for key, value in record.result.tests.items())


def _final(record: RunRecord, seconds: float) -> Iterator[Point]:
    """The final values, all at step 0, because MLflow draws a metric with one step as bars and not as a curve."""
    if record.result is None:
        return
    for key, value in _end_values(record):
        if math.isfinite(value):
            yield Point(clean(key), value, 0, seconds)


def curve_points(measurements: Iterable[Measurement]) -> Iterator[Point]:
    """Return the finite values of measurements; a metric with the name of one of ours becomes ``measured.<name>``."""
    for m in measurements:
        for name, value in m.values.items():
            if math.isfinite(value):
                key = f"measured.{name}" if name in RESERVED else clean(name)
                yield Point(key, float(value), m.step, m.train_seconds + m.eval_seconds)


def study_points(metrics: Mapping[str, float], revision: int, seconds: float) -> list[Point]:
    """Return a study's finite numbers as points, at a revision of the ledger and seconds after the study's start."""
    return [Point(clean(key), value, revision, seconds) for key, value in metrics.items() if math.isfinite(value)]


def clean(key: str) -> str:
    """Return a key with the letters that MLflow allows, at most 250 of them.

    >>> clean("top-5 (%)"), clean("/loss")
    ('top-5 ___', 'loss')
    """
    return _KEY.sub("_", key).strip("/.")[:250] or "_"


def study_status(state: str, driven: bool) -> str:
    """Return the parent run's status; an open study without a driver was interrupted, and can be resumed."""
    return _STUDY_STATUS.get(state) or ("RUNNING" if driven else "KILLED")


def full_horizon(spec: Mapping[str, Any]) -> Horizon | None:
    """Return the full horizon of a stored spec; None if it names none.

    >>> full_horizon({"horizon": {"epochs": 18}})
    Horizon(amount=18, unit='epochs')
    """
    return next((Horizon(amount, unit) for unit, amount in (spec.get("horizon") or {}).items()), None)


def study_params(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return what a study asks for and an extension cannot change, because MLflow's params cannot change."""
    metric = spec.get("metric") or {}
    params = {
        "workload": (spec.get("workload") or {}).get("path"),
        "metric": metric.get("name"),
        "direction": metric.get("direction"),
        "horizon": full_horizon(spec),
        "space": (spec.get("space") or {}).get("name"),
        "sampler": spec.get("sampler"),
        "fidelity": (spec.get("fidelity") or {}).get("kind"),
        "allocation": spec.get("allocation"),
        "seed": spec.get("seed"),
        "executor": spec.get("executor"),
    }
    return {key: str(value) for key, value in params.items() if value not in (None, "")}


def study_tags(spec: Mapping[str, Any], state: str, reason: str) -> dict[str, str]:
    """Return what a study asks for and an extension may change, its state, and why it stopped."""
    budget = {f"budget.{key}": value for key, value in (spec.get("budget") or {}).items()}
    tags = {
        **budget,
        "arms": ", ".join(spec.get("arms") or ()),
        "confirmation.seeds": (spec.get("confirmation") or {}).get("seeds"),
        "state": state,
        "reason": hide_secrets(reason)[:1000],
        "phase": "study",
        "mlflow.source.name": "tuner",
    }
    return {key: str(value) for key, value in tags.items() if value not in (None, "")}
