from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tuner.catalog.families import FAMILIES
from tuner.core.records import Outcome, Phase
from tuner.training.averaging import calibrated
from tuner.training.handle import Run
from tuner.training.run import train

from .helpers import assign, drive, numbers, trained


def regression(run: Run, die_at: int = 0) -> None:
    """What a user writes: a loop of one's own, with a checkpoint."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 4, generator=generator), torch.randn(64, generator=generator)
    model = nn.Sequential(nn.Dropout(0.2), nn.Linear(4, 1), nn.Flatten(0)).to(run.device)
    total = run.total_steps(steps_per_epoch=10)
    bundle = run.optimizer(model)
    step = 0
    if state := run.load():
        model.load_state_dict(state["model"])
        bundle.load_state_dict(state["bundle"])
        step = state["step"]
    while step < total:
        if step + 1 == die_at:
            raise SystemExit
        bundle.apply(run.schedule.multipliers(step, total))
        bundle.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()  # type: ignore[no-untyped-call]
        bundle.step()
        step += 1
        if step % 5 == 0:
            with torch.no_grad(), run.evaluating():
                model.eval()
                loss = nn.functional.mse_loss(model(x), y)
                model.train()
            run.report(step=step, loss=loss.item())
            run.save({"model": model.state_dict(), "bundle": bundle.state_dict(), "step": step})
    if run.wants_test:
        run.report_test(loss=1.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_function_trains_and_repeats_bit_for_bit(family: str) -> None:
    results = [drive(train(assign(family=family, steps=2, unit="epochs"), regression)) for _ in range(2)]
    seen, result = results[0]
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert [m.step for m in seen] == [5, 10, 15, 20]
    assert result.value == seen[-1].values["loss"]
    assert result.eval_seconds > 0
    assert result.train_seconds > 0
    assert numbers(result) == numbers(results[1][1])


@pytest.mark.parametrize("die_at", [2, 6, 13])
def test_a_function_goes_on_from_its_checkpoint_bit_for_bit(die_at: int, tmp_path: Path) -> None:
    whole = trained(assign(steps=20), regression)
    with pytest.raises(SystemExit):
        trained(assign(steps=20, checkpoints=str(tmp_path)), lambda run: regression(run, die_at))
    result = trained(assign(steps=20, checkpoints=str(tmp_path), attempt=2), regression)
    assert result.resumed_at == (die_at - 1) // 5 * 5
    assert numbers(result) == numbers(whole)


def test_only_one_of_function_and_consumer_runs() -> None:
    generator = train(assign(steps=20), regression)
    for _ in range(4):
        next(generator)
        torch.rand(7)
    with pytest.raises(StopIteration) as end:
        next(generator)
    assert numbers(end.value.value) == numbers(trained(assign(steps=20), regression))


def test_closing_the_generator_unwinds_the_function() -> None:
    trail: list[str] = []

    def function(run: Run) -> None:
        try:
            while True:
                trail.append("step")
                try:
                    run.report(step=len(trail), loss=1.0)
                except Exception:
                    trail.append("swallowed")
        finally:
            trail.append("clean")

    before = threading.active_count()
    generator = train(assign(), function)
    next(generator)
    next(generator)
    generator.close()
    assert trail == ["step", "step", "clean"]
    assert threading.active_count() == before


@pytest.mark.parametrize("name", ["loss", "train_loss"])
def test_a_reported_value_that_is_not_finite_is_divergence(name: str) -> None:
    def function(run: Run) -> None:
        run.report(step=1, loss=1.0)
        run.report(step=2, **{name: float("nan")})
        raise AssertionError("is not reached")

    result = trained(assign(steps=10), function)
    assert result.outcome is Outcome.DIVERGED
    assert result.reason == f"{name} became nan at step 2 of 10"
    assert [m.step for m in result.measurements] == [1]


def nothing(run: Run) -> None:
    pass


def other(run: Run) -> None:
    run.report(step=40, accuracy=0.5)


def early(run: Run) -> None:
    run.report(step=39, loss=0.5)


def backwards(run: Run) -> None:
    run.report(step=2, loss=0.5)
    run.report(step=2, loss=0.5)


def peeks(run: Run) -> None:
    run.report_test(loss=0.5)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (nothing, "returned having reported nothing; expected 'loss'"),
        (other, "returned having reported accuracy; expected 'loss'"),
        (early, "returned after step 39; expected a report at step 40"),
        (backwards, "expected a larger step"),
        (peeks, "ask run.wants_test first"),
    ],
)
def test_a_function_that_breaks_the_contract_fails(function: Any, words: str) -> None:
    result = trained(assign(steps=40), function)
    assert result.outcome is Outcome.FAILED
    assert words in result.reason


def test_the_last_report_counts() -> None:
    def function(run: Run) -> None:
        run.report(step=20, loss=3.0)
        run.report(step=40, loss=2.0)
        run.report(step=41, accuracy=0.1)

    assert trained(assign(steps=40), function).value == 2.0


def test_tests_are_reported_in_their_phase() -> None:
    assert trained(assign(steps=20, phase=Phase.TEST), regression).tests == {"loss": 1.0}
    assert trained(assign(steps=20), regression).tests == {}


def test_the_handle_answers() -> None:
    answers: dict[str, Any] = {}

    def function(run: Run) -> None:
        answers.update(
            seed=run.seed, device=run.device.type, horizon=str(run.horizon), family=run.setting.family, o=run.options
        )
        answers.update(threads=torch.get_num_threads(), total=run.total_steps(steps_per_epoch=7), draw=torch.rand(1))
        run.report(step=14, loss=1.0)

    spec = assign(steps=2, unit="epochs", options={"a": 1}, threads=2)
    trained(spec, function)
    torch.manual_seed(3)
    assert answers.pop("draw") == torch.rand(1)
    assert answers == {
        "seed": 3,
        "device": "cpu",
        "horizon": "2 epochs",
        "family": "sgdm",
        "o": {"a": 1},
        "threads": 2,
        "total": 14,
    }


def whole(run: Run) -> None:
    """A loop that honours all training options."""
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    total = run.total_steps(steps_per_epoch=10)
    bundle, average = run.optimizer(model), run.average(model)
    size, smoothing = int(run.training["batch_size"]), float(run.training["label_smoothing"])
    assert (size, smoothing) == (8, 0.1)
    x = torch.linspace(-1, 1, 2 * size).reshape(size, 2)
    for step in range(total):
        bundle.apply(run.schedule.multipliers(step, total))
        updated = False
        while not updated:
            bundle.zero_grad()
            with run.autocast():
                loss = model(x).float().square().mean()
            bundle.backward(loss)
            updated = bundle.step()
        if average is not None:
            average.update(step + 1)
    assert average is not None
    shown = average.model
    with torch.no_grad(), run.evaluating(), calibrated(shown, [x], lambda net, batch: net(batch)):
        shown.eval()
        run.report(step=total, loss=shown(x).float().square().mean().item())


RECIPE = {
    "batch_size": 8,
    "label_smoothing": 0.1,
    "accumulation": 2,
    "clip_norm": 1.0,
    "average": "ema",
    "ema_decay": 0.9,
    "precision": "bfloat16",
    "multiplier:0.*": 0.1,
}


def test_a_function_can_honour_all_training_options() -> None:
    result = trained(assign(steps=20, training=RECIPE), whole)
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert result.value is not None
    assert result.value < 0.5


@pytest.mark.parametrize("name", ["batch_size", "label_smoothing", "average", "precision"])
def test_what_the_study_sets_and_the_function_ignores_fails_the_run(name: str) -> None:
    result = trained(assign(steps=20, training={name: RECIPE[name]}), regression)
    assert result.outcome is Outcome.FAILED
    assert f"never took {name} = {RECIPE[name]}" in result.reason
    assert "expected what the study sets to be honoured" in result.reason


def test_batches_are_not_counted_as_steps() -> None:
    def counting(run: Run) -> None:
        model = nn.Linear(1, 1)
        bundle, total = run.optimizer(model), run.total_steps(steps_per_epoch=4)
        for step in range(total):
            bundle.zero_grad()
            bundle.backward(model(torch.ones(1, 1)).sum())
            bundle.step()
            run.report(step=step + 1, loss=1.0)

    result = trained(assign(steps=8, training={"accumulation": 2}), counting)
    assert result.outcome is Outcome.FAILED
    assert "reports step 1 after 0 updates of the weights; expected optimizer steps, not batches" in result.reason


def test_half_an_accumulation_is_not_saved(tmp_path: Path) -> None:
    saved: list[bool] = []

    def function(run: Run) -> None:
        model = nn.Linear(1, 1)
        bundle = run.optimizer(model)
        for _ in range(2):
            bundle.zero_grad()
            bundle.backward(model(torch.ones(1, 1)).sum())
            bundle.step()
            saved.append(run.save({}))
        run.report(step=1, loss=1.0)

    trained(assign(steps=1, training={"accumulation": 2}, checkpoints=str(tmp_path)), function)
    assert saved == [False, True]


def test_batchnorm_gets_statistics_for_weights_that_did_not_train() -> None:
    seen: dict[str, float] = {}

    def function(run: Run) -> None:
        model = nn.BatchNorm1d(1)
        run.optimizer(model)
        with run.evaluating(model, [torch.full((4, 1), 7.0)]):
            seen[run.setting.family] = float(model.running_mean)  # type: ignore[arg-type]
        run.report(step=20, loss=1.0)

    for name in ("schedule-free-sgd", "sgdm"):
        assert trained(assign(family=name, steps=20), function).outcome is Outcome.COMPLETED
    assert seen == {"schedule-free-sgd": 7.0, "sgdm": 0.0}


def test_an_average_of_averages_is_refused() -> None:
    def function(run: Run) -> None:
        run.average(nn.Linear(1, 1))

    result = trained(assign(family="schedule-free-sgd", steps=20, training={"average": "ema"}), function)
    assert "but schedule-free-sgd averages by itself" in result.reason


def test_a_family_that_is_timed_to_the_horizon_has_to_know_it() -> None:
    def early(run: Run) -> None:
        run.optimizer(nn.Linear(1, 1))

    result = trained(assign(family="ademamix", steps=2, unit="epochs"), early)
    assert "asks for an optimizer before its length in steps is known" in result.reason
    assert trained(assign(family="ademamix", steps=20), regression).outcome is Outcome.COMPLETED


def test_optimizers_are_switched_around_an_evaluation() -> None:
    modes: list[bool] = []

    def function(run: Run) -> None:
        bundle = run.optimizer(nn.Linear(1, 1))
        modes.append(bundle.parts["main"].param_groups[0]["train_mode"])
        with run.evaluating():
            modes.append(bundle.parts["main"].param_groups[0]["train_mode"])
        modes.append(bundle.parts["main"].param_groups[0]["train_mode"])
        run.report(step=20, loss=1.0)

    result = trained(assign(family="schedule-free-sgd", steps=20), function)
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert modes == [True, False, True]


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_schedule_that_follows_the_metric_sees_each_report(direction: str) -> None:
    rates: list[float] = []

    def function(run: Run) -> None:
        for step in range(20):
            rates.append(run.schedule.multipliers(step, 20).lr)
            run.report(step=step + 1, loss=(1.0 if direction == "minimize" else -1.0) * (step + 1))

    schedule = {"kind": "plateau", "patience": 0.2, "signal": "validation"}
    result = trained(assign(steps=20, schedule=schedule, direction=direction), function)
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert rates[0] == 1.0
    assert rates[-1] < 0.2


def test_a_schedule_that_follows_the_training_loss_wants_it_reported() -> None:
    result = trained(assign(steps=20, schedule={"kind": "plateau"}), other)
    assert result.outcome is Outcome.FAILED
    assert "reports accuracy; expected 'train_loss' in each report" in result.reason
