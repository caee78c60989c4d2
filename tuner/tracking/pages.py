"""What is shown of a run and of a study, as plain values; neither MLflow nor the ledger is touched here."""

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
    """A metric's value; ``seconds`` since the run's start."""

    key: str
    value: float
    step: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Page:
    """All that is shown of one run. ``started`` and ``ended`` are seconds since the epoch; ``ended`` None: not yet."""

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
    """Lay out a run that is in training or has ended; ``full`` is the study's horizon, if it is known.

    A run whose start the ledger does not know yet is taken to have started ``now``
    less the seconds that it measured.
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
    """A run's name for people: the arm, the trial, and what sets it apart from the trial's other runs.

    What matters comes first, for MLflow's table shows some twenty letters: ``sgdm #7``, ``sgdm #7 · confirm 123``, and
    ``sgdm #7 · 2 epochs`` on a rung below the ``full`` horizon.
    """
    spec = record.spec
    words = [f"{spec.arm} #{spec.trial}"]
    if spec.phase is not Phase.EXPLORE:
        words.append(f"{spec.phase.value} {spec.seed}")
    if full is not None and spec.horizon != full:
        words.append(str(spec.horizon))
    return " · ".join(words)


def _run_status(record: RunRecord) -> str:
    if record.outcome is not None:
        return _STATUS[record.outcome]
    return "RUNNING" if record.state is State.RUNNING else "SCHEDULED"


def _tags(record: RunRecord, source: Source | None) -> dict[str, str]:
    spec, result = record.spec, record.result
    lost = [f"{m.step}: {key}" for m in record.curve for key, value in m.values.items() if not math.isfinite(value)]
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
        lost += [f"end: {key}" for key, value in _end_values(record) if not math.isfinite(value)]
        if result.reason:
            tags["reason"] = hide_secrets(result.reason)[:1000]
    if lost:
        more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        tags[NONFINITE_TAG] = f"not shown, at step {', '.join(lost[:_NAMED])}{more}"
    return {key: value for key, value in tags.items() if value}


def _run_note(record: RunRecord) -> str:
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
    found: dict[str, str] = {}
    for key, value in params.items():
        name = clean(key)
        while name in found:  # two patterns may differ only in what MLflow's names cannot hold
            name += "_"
        found[name] = str(value)
    return found


def _end_values(record: RunRecord) -> Iterator[tuple[str, float]]:
    assert record.result is not None
    if record.result.value is not None:
        yield "value", record.result.value
    yield "train_seconds", round(record.result.train_seconds, 3)
    yield "eval_seconds", round(record.result.eval_seconds, 3)
    yield from ((f"test.{key}", value) for key, value in record.result.tests.items())


def _final(record: RunRecord, seconds: float) -> Iterator[Point]:
    """What a run came to, all at step 0: that is how MLflow knows to draw bars instead of curves."""
    if record.result is None:
        return
    for key, value in _end_values(record):
        if math.isfinite(value):
            yield Point(clean(key), value, 0, seconds)


def curve_points(measurements: Iterable[Measurement]) -> Iterator[Point]:
    """The finite values of measurements; a metric that is called like one of ours is shown as ``measured.<name>``."""
    for m in measurements:
        for name, value in m.values.items():
            if math.isfinite(value):
                key = f"measured.{name}" if name in RESERVED else clean(name)
                yield Point(key, float(value), m.step, m.train_seconds + m.eval_seconds)


def study_points(metrics: Mapping[str, float], revision: int, seconds: float) -> list[Point]:
    """What a study says of itself in numbers, as of a revision of the ledger, so many seconds after its start."""
    return [Point(clean(key), value, revision, seconds) for key, value in metrics.items() if math.isfinite(value)]


def clean(key: str) -> str:
    """A name that MLflow takes.

    >>> clean("top-5 (%)"), clean("/loss")
    ('top-5 ___', 'loss')
    """
    return _KEY.sub("_", key).strip("/.")[:250] or "_"


def study_status(state: str, driven: bool) -> str:
    """The parent run's status; an open study that nobody drives was interrupted, and can be resumed."""
    return _STUDY_STATUS.get(state) or ("RUNNING" if driven else "KILLED")


def full_horizon(spec: Mapping[str, Any]) -> Horizon | None:
    """The horizon that a stored study asks for.

    >>> full_horizon({"horizon": {"epochs": 18}})
    Horizon(amount=18, unit='epochs')
    """
    return next((Horizon(amount, unit) for unit, amount in (spec.get("horizon") or {}).items()), None)


def study_params(spec: Mapping[str, Any]) -> dict[str, str]:
    """What a study asks, as far as extending it cannot change it (MLflow's params are immutable)."""
    metric = spec.get("metric") or {}
    found = {
        "workload": (spec.get("workload") or {}).get("path"),
        "metric": metric.get("name"),
        "direction": metric.get("direction"),
        "horizon": ", ".join(f"{amount:g} {unit}" for unit, amount in (spec.get("horizon") or {}).items()),
        "space": (spec.get("space") or {}).get("name"),
        "sampler": spec.get("sampler"),
        "fidelity": (spec.get("fidelity") or {}).get("kind"),
        "allocation": spec.get("allocation"),
        "seed": spec.get("seed"),
        "executor": spec.get("executor"),
    }
    return {key: str(value) for key, value in found.items() if value not in (None, "")}


def study_tags(spec: Mapping[str, Any], state: str, reason: str) -> dict[str, str]:
    """What a study asks and an extension may change, and where it stands."""
    budget = {f"budget.{key}": value for key, value in (spec.get("budget") or {}).items()}
    found = {
        **budget,
        "arms": ", ".join(spec.get("arms") or ()),
        "confirmation.seeds": (spec.get("confirmation") or {}).get("seeds"),
        "state": state,
        "reason": hide_secrets(reason)[:1000],
        "phase": "study",
        "mlflow.source.name": "tuner",
    }
    return {key: str(value) for key, value in found.items() if value not in (None, "")}
