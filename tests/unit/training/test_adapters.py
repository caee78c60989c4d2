"""One suite for the adapters: what a run promises holds in every library's own loop.

Each library has a module ``adapters_NAME`` with a model, data, and these names:

- ``body(seen, every, die_at, workers, test, ...)``: the body of ``train(run)``. It evaluates every so many updates,
  notes in ``seen`` what the trainer does, dies before an update, loads data in so many processes, and brings test
  data, which are the validation data again. Further options are those of the library's trainer.
- ``alone(assignment, steps)``: the losses of the library's own loop with the same optimizer and rates, with the options
  ``ALONE`` and a report every three updates. ``spoilt()``, ``endless()``: bodies that break their weights, and that
  train on data without a length.
- ``LOSS``, ``ACCURACY``, ``TEST_LOSS``: what the library calls its metrics. ``RATE``: a learning rate that learns.
  ``spared(name)``: whether a parameter must not decay. ``FREQUENT``, ``SAVES``, ``RHYTHMS``: options of the trainer.

What only one library has is in ``test_adapters_NAME``. Data have six batches in an epoch, and models have dropout.
"""

from __future__ import annotations

import importlib
import multiprocessing
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tuner.catalog.schedules import Schedule
from tuner.core.records import Assignment, Outcome, Phase, RunResult
from tuner.training.run import train

from .helpers import Seen, assign, curve, numbers, setting, trained

pytestmark = [
    pytest.mark.usefixtures("temporary", "little_garbage"),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec"),
]


@pytest.fixture(params=["hugging_face", "lightning"], scope="module")
def kit(request: pytest.FixtureRequest) -> Any:
    return importlib.import_module(f".adapters_{request.param}", __package__)


def adamw(kit: Any, training: Mapping[str, Any] | None = None, **given: Any) -> Assignment:
    return setting(assign(family="adamw", **{"metric": kit.LOSS, **given}), training, learning_rate=kit.RATE)


def test_every_evaluation_is_a_report_with_the_librarys_own_values(kit: Any) -> None:
    seen = Seen()
    result = trained(adamw(kit, steps=11, metric=kit.ACCURACY), kit.body(seen))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert [m.step for m in result.measurements] == [3, 6, 9, 11]
    for name in (kit.LOSS, kit.ACCURACY):
        assert curve(result, name) == [values[name] for values in seen.evaluations]
    assert all(set(m.values) == {"train_loss", kit.LOSS, kit.ACCURACY} for m in result.measurements)
    assert result.value == seen.evaluations[-1][kit.ACCURACY]
    assert result.eval_seconds > 0 < result.train_seconds


def test_it_trains_as_the_library_alone_would_with_the_same_optimizer(kit: Any) -> None:
    """The library's own loop with the same optimizer, rates and threads, on the same seed: the same to the last bit."""
    assignment = adamw(kit, steps=12, schedule={"kind": "cosine"})
    threads = torch.get_num_threads()
    torch.set_num_threads(assignment.spec.threads)
    try:
        alone = kit.alone(assignment, 12)
    finally:
        torch.set_num_threads(threads)
    assert curve(trained(assignment, kit.body(**kit.ALONE)), kit.LOSS) == alone


def test_it_repeats_bit_for_bit_and_the_seed_matters(kit: Any) -> None:
    first, second = (trained(adamw(kit, steps=8), kit.body()) for _ in range(2))
    assert numbers(first) == numbers(second)
    assert trained(adamw(kit, steps=8, seed=4), kit.body()).value != first.value


def test_biases_and_norms_do_not_decay(kit: Any) -> None:
    seen = Seen()
    trained(adamw(kit, steps=2), kit.body(seen))
    assert {name for name, value in seen.decays.items() if value == 0.0} == {n for n in seen.decays if kit.spared(n)}
    assert any(seen.decays.values())


@pytest.mark.parametrize(
    ("family", "schedule"),
    [
        ("adamw", {"kind": "cosine", "warmup": 0.25}),
        ("sgdm", {"kind": "onecycle"}),
        ("adamw", {"kind": "onecycle"}),
        ("sgdm", {"kind": "wsd", "warmup": 0.1}),
    ],
)
@pytest.mark.parametrize("accumulation", [1, 2])
def test_rate_and_momentum_follow_the_schedule(
    kit: Any, family: str, schedule: dict[str, Any], accumulation: int
) -> None:
    seen = Seen()
    assignment = assign(family=family, steps=9, schedule=schedule, metric=kit.LOSS)
    result = trained(setting(assignment, {"accumulation": accumulation}, learning_rate=1e-3), kit.body(seen))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    factors = [Schedule.of(schedule).multipliers(step, 9) for step in range(9)]
    hyper = assignment.spec.setting.hyperparameters
    momentum = float(hyper["momentum"] if family == "sgdm" else hyper["beta1"])
    expected = [(1e-3 * f.lr, momentum * (1.0 if f.momentum is None else f.momentum)) for f in factors]
    assert [step[0] for step in seen.rates] == [pytest.approx(pair, rel=1e-12) for pair in expected]
    assert all(step[0] == step[1] for step in seen.rates)


@pytest.mark.parametrize(("batches", "steps"), [(1, 12), (4, 4)])
def test_an_epoch_is_counted_in_updates(kit: Any, batches: int, steps: int) -> None:
    seen = Seen()
    result = trained(adamw(kit, {"accumulation": batches}, steps=2, unit="epochs"), kit.body(seen))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert result.step == len(seen.rates) == steps


def test_a_loss_that_is_not_finite_is_divergence(kit: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assignment = setting(assign(steps=80, metric=kit.LOSS), learning_rate=1e4, l2=10.0)
    result = trained(assignment, kit.body(**kit.FREQUENT))
    assert result.outcome is Outcome.DIVERGED
    assert "became nan at step" in result.reason
    assert result.step < 80
    assert capfd.readouterr() == ("", "")


def test_weights_that_are_not_finite_are_divergence_though_the_metric_is(kit: Any) -> None:
    result = trained(adamw(kit, steps=6), kit.spoilt())
    assert result.outcome is Outcome.DIVERGED
    assert result.reason == "weights became nan at step 3 of 6"


@pytest.mark.parametrize("workers", [0, 1])
def test_closing_the_generator_leaves_nothing_behind(
    kit: Any, workers: int, temporary: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    threads = set(threading.enumerate())
    generator = train(adamw(kit, steps=20), kit.body(workers=workers))
    next(generator)
    next(generator)
    assert list(temporary.glob("tuner-*"))
    generator.close()
    until = time.monotonic() + 5.0  # a data loader's worker takes a moment to leave
    while (set(threading.enumerate()) != threads or multiprocessing.active_children()) and time.monotonic() < until:
        time.sleep(0.02)
    assert set(threading.enumerate()) == threads
    assert not multiprocessing.active_children()
    assert not list(temporary.glob("tuner-*"))
    assert not list(Path.cwd().iterdir())
    assert capfd.readouterr() == ("", "")
    assert trained(adamw(kit, steps=6), kit.body()).outcome is Outcome.COMPLETED


def test_nothing_is_written_or_printed(kit: Any, capfd: pytest.CaptureFixture[str]) -> None:
    result = trained(adamw(kit, steps=6), kit.body(**kit.SAVES))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert capfd.readouterr() == ("", "")
    assert not list(Path.cwd().iterdir())


@pytest.fixture(scope="module")
def whole(kit: Any) -> RunResult:
    return trained(adamw(kit, steps=15), kit.body(every=2))


@pytest.mark.parametrize(
    ("kit", "workers"), [("hugging_face", 0), ("lightning", 0), ("lightning", 1)], indirect=["kit"], scope="module"
)
@pytest.mark.parametrize("die_at", [2, 4, 6, 7, 10, 14])
def test_a_killed_run_goes_on_bit_for_bit(
    kit: Any, die_at: int, workers: int, tmp_path: Path, whole: RunResult
) -> None:
    """Evaluations at 2, 4, 6, ...: inside epochs of 6 updates and at their ends; shuffled data, dropout."""
    assert whole.outcome is Outcome.COMPLETED, whole.traceback
    place = adamw(kit, steps=15, checkpoints=str(tmp_path / "run"))
    with pytest.raises(SystemExit):
        trained(place, kit.body(every=2, die_at=die_at, workers=workers))
    result = trained(replace(place, attempt=2), kit.body(every=2, workers=workers))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert result.resumed_at == (die_at - 1) // 2 * 2
    assert numbers(result) == numbers(whole)


@pytest.mark.parametrize("training", [{"average": "ema", "ema_decay": 0.9}, {"average": "swa", "swa_start": 0.4}])
def test_averaged_weights_are_evaluated_and_training_goes_on_with_the_last(
    kit: Any, training: dict[str, Any], tmp_path: Path
) -> None:
    plain = trained(adamw(kit, steps=12), kit.body())
    averaged = trained(adamw(kit, training, steps=12, phase=Phase.TEST), kit.body(test=True))
    assert averaged.outcome is Outcome.COMPLETED, averaged.traceback
    assert curve(averaged, "train_loss") == curve(plain, "train_loss")
    assert averaged.tests[kit.TEST_LOSS] == pytest.approx(averaged.value, rel=1e-6)
    assert averaged.value != pytest.approx(plain.value, rel=1e-4)
    if training["average"] == "ema":  # from the first update on
        assert all(a != b for a, b in zip(curve(averaged, kit.LOSS), curve(plain, kit.LOSS), strict=True))
    place = adamw(kit, training, steps=12, phase=Phase.TEST, checkpoints=str(tmp_path / "run"))
    with pytest.raises(SystemExit):
        trained(place, kit.body(die_at=11, test=True))
    assert numbers(trained(replace(place, attempt=2), kit.body(test=True))) == numbers(averaged)


@pytest.mark.parametrize("signal", ["train_loss", "validation"])
def test_a_schedule_that_follows_a_metric_sees_the_reports(kit: Any, signal: str) -> None:
    seen = Seen()
    schedule = {"kind": "plateau", "patience": 0.0, "factor": 0.5, "threshold": 0.1, "signal": signal}
    result = trained(adamw(kit, steps=6, schedule=schedule), kit.body(seen, every=1))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    follows, rates = Schedule.of(schedule), []
    for step, loss in enumerate(curve(result, kit.LOSS if signal == "validation" else "train_loss"), start=1):
        rates.append(kit.RATE * follows.multipliers(step - 1, 6).lr)
        follows = follows.after(step, 6, loss)
    assert [step[0][0] for step in seen.rates] == rates
    assert min(rates) < max(rates)


def test_the_horizon_is_evaluated_whatever_the_rhythm(kit: Any) -> None:
    for rhythm in kit.RHYTHMS:
        result = trained(adamw(kit, steps=8, metric=kit.ACCURACY), kit.body(**rhythm))
        assert result.outcome is Outcome.COMPLETED, (rhythm, result.traceback)
        assert result.measurements[-1].step == 8, rhythm
        assert "train_loss" in result.measurements[-1].values, rhythm


@pytest.mark.parametrize(
    ("family", "training"), [("adamw", {}), ("adamw", {"average": "ema"}), ("schedule-free-adamw", {})]
)
def test_the_test_split_is_evaluated_in_its_phase_alone(
    kit: Any, family: str, training: dict[str, Any], tmp_path: Path
) -> None:
    """The validation data again, so that the test shows the very weights that the last report did."""
    given = {"family": family, "steps": 5, "metric": kit.LOSS, "schedule": {"kind": "constant"}}
    place = setting(assign(**given, phase=Phase.TEST, checkpoints=str(tmp_path / "run")), training)
    tested = trained(place, kit.body(test=True))
    assert len(tested.tests) == 2
    assert tested.tests[kit.TEST_LOSS] == pytest.approx(tested.value, rel=1e-6)
    assert trained(setting(assign(**given, phase=Phase.TEST), training), kit.body()).tests == {}
    assert trained(setting(assign(**given), training), kit.body(test=True)).tests == {}
    again = trained(replace(place, attempt=2), kit.body(test=True))
    assert again.resumed_at == 5
    assert again.tests == tested.tests


def test_only_the_metrics_asked_for_are_reported(kit: Any) -> None:
    result = trained(adamw(kit, steps=3, metric=kit.ACCURACY), kit.body(metric_names=[kit.ACCURACY]))
    assert set(result.measurements[0].values) == {kit.ACCURACY, "train_loss"}


def test_data_without_a_length_trains_for_steps(kit: Any) -> None:
    result = trained(adamw(kit, steps=5), kit.endless())
    assert result.outcome is Outcome.COMPLETED, result.traceback


def test_what_no_library_can_honour_is_refused(kit: Any) -> None:
    result = trained(adamw(kit, {"precision": "float16"}, steps=1), kit.body())
    assert result.outcome is Outcome.FAILED
    assert "trains in float16 on a CPU" in result.reason
    assert result.step == 0


def test_a_missing_package_is_named_with_its_extra(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    body = kit.body()
    monkeypatch.setitem(sys.modules, kit.PACKAGE, None)
    result = trained(adamw(kit, steps=1), body)
    assert result.outcome is Outcome.FAILED
    assert f'pip install "tuner[{kit.EXTRA}]"' in result.reason
