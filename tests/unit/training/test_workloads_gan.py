from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tuner.catalog.families import FAMILIES
from tuner.core.records import Outcome, Phase, Setting, WorkloadRef
from tuner.training.run import train
from tuner.training.workloads.gan import DISCRIMINATOR, GENERATOR, DigitsGAN, digits, squared_mmd
from tuner.training.workloads.load import describe, load

from .helpers import BUILT_IN, assign, numbers, trained

GAN = BUILT_IN + "gan:DigitsGAN"


@pytest.fixture(scope="module")
def workload() -> DigitsGAN:
    made = DigitsGAN(width=32)
    made.place(torch.device("cpu"), {})
    return made


def given(**more: Any) -> dict[str, Any]:
    return {"options": {"width": 32, "eval_every_steps": 10}, "metric": "mmd", "family": "adam", **more}


def test_it_says_what_a_study_needs() -> None:
    told = describe(load(WorkloadRef(GAN)))
    assert (told.metric, told.direction, told.has_test, told.horizon) == ("mmd", "minimize", True, {"steps": 600})


def test_the_splits_are_stratified_and_share_no_digit() -> None:
    splits = digits()
    assert {split: len(x) for split, (x, _) in splits.items()} == {"train": 1000, "validation": 400, "test": 397}
    for _, shown in splits.values():
        assert float(shown.bincount().min() / len(shown)) > 0.09
    seen = [image.numpy().tobytes() for x, _ in splits.values() for image in x]
    assert len(set(seen)) == len(seen) == 1797
    assert [float(splits["train"][0].min()), float(splits["train"][0].max())] == [-1.0, 1.0]


def test_the_features_are_the_same_whatever_was_drawn_and_however_many_threads(workload: DigitsGAN) -> None:
    torch.manual_seed(3)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    other = DigitsGAN()
    torch.set_num_threads(2)
    try:
        other.setup()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)
    for name, weight in workload.classifier.state_dict().items():
        assert torch.equal(weight, other.classifier.state_dict()[name])


def test_the_classifier_knows_digits_it_was_not_trained_on(workload: DigitsGAN) -> None:
    images, shown = digits()["test"]
    features = workload.classifier(images)
    assert float((workload.classifier.kinds(features) == shown).double().mean()) > 0.93
    assert float(workload.classifier(digits()["train"][0]).square().mean()) == pytest.approx(1.0, abs=1e-5)


def test_squared_mmd_is_unbiased_and_agrees_with_sums_over_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(7, 3, generator=generator), 0.5 + torch.randn(5, 3, generator=generator)

    def kernel(a: Tensor, b: Tensor) -> float:
        return float((a.double() @ b.double() / 3 + 1) ** 3)

    among_x = [kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
    among_y = [kernel(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j]
    between = [kernel(a, b) for a in x for b in y]
    slow = sum(among_x) / len(among_x) + sum(among_y) / len(among_y) - 2 * sum(between) / len(between)
    assert squared_mmd(x, y) == pytest.approx(slow, rel=1e-9)
    draws = torch.randn(400, 2, 20, 3, generator=generator)
    estimates = torch.tensor([squared_mmd(a, b) for a, b in draws])
    assert abs(float(estimates.mean())) < 3 * float(estimates.std()) / 20


def test_collapse_and_noise_score_worse_than_digits_that_were_held_out(workload: DigitsGAN) -> None:
    (train_images, shown), (held_out, _) = digits()["train"], digits()["test"]
    generator = torch.Generator().manual_seed(0)

    def mmd(images: Tensor) -> float:
        return workload.compare(images, "validation")["mmd"]

    noise = 2 * torch.rand(1000, 64, generator=generator) - 1
    mean, covariance = train_images.mean(0), torch.cov(train_images.T) + 1e-4 * torch.eye(64)
    gaussian = mean + torch.randn(1000, 64, generator=generator) @ torch.linalg.cholesky(covariance).T
    real = mmd(held_out)
    assert abs(real) < 0.02
    assert mmd(train_images[:1].expand(1000, -1)) > 1  # one mode
    assert mmd(train_images[shown < 2]) > 0.3  # two
    assert mmd(train_images[shown < 5]) > 0.1  # five
    assert mmd(train_images[shown < 8]) > 0.025  # eight
    assert mmd(mean.expand(1000, -1)) > 0.5  # the mean of all
    assert mmd(noise) > 1
    assert mmd(gaussian.clamp(-1, 1)) > 0.08  # the right mean and covariance


def test_classes_counts_the_kinds_that_are_generated(workload: DigitsGAN) -> None:
    images, shown = digits()["train"]
    assert workload.compare(images, "test")["classes"] == pytest.approx(10, abs=0.05)
    assert workload.compare(images[shown < 5], "test")["classes"] == pytest.approx(5, abs=0.2)
    assert workload.compare(images[:1].expand(50, -1), "test")["classes"] == 1.0


def test_the_setting_is_used_for_both_networks(workload: DigitsGAN) -> None:
    model = workload.model(0)
    bundle = workload.optimizer(FAMILIES["adam"].default, model, 10)
    assert set(bundle.parts) == {GENERATOR, DISCRIMINATOR}
    for name, part in bundle.parts.items():
        owned = {id(p) for group in part.param_groups for p in group["params"]}
        assert owned == {id(p) for p in model.get_submodule(name).parameters()}


def _one_step_by_hand(model: nn.ModuleDict, batch: Any, rate: float) -> Tensor:
    """The same step with the derivatives of each network's loss taken apart."""
    real, (first, second) = batch
    one, other = model[DISCRIMINATOR], model[GENERATOR]
    real = real.clone().requires_grad_()
    scores, fakes = one(real), one(other(first).detach())
    slope = torch.autograd.grad(scores.sum(), real, create_graph=True)[0]
    penalty = 0.5 * (slope**2).sum(1).mean()
    judged = -nn.functional.logsigmoid(scores).mean() - nn.functional.logsigmoid(-fakes).mean() + penalty
    for p, g in zip(one.parameters(), torch.autograd.grad(judged, list(one.parameters())), strict=True):
        p.data -= rate * g
    fooled = -nn.functional.logsigmoid(one(other(second))).mean()
    for p, g in zip(other.parameters(), torch.autograd.grad(fooled, list(other.parameters())), strict=True):
        p.data -= rate * g
    return judged.detach() + fooled.detach()


def test_a_step_is_that_of_the_non_saturating_loss_with_r1(workload: DigitsGAN) -> None:
    model, twin = workload.model(0), workload.model(0)
    twin.load_state_dict(model.state_dict())
    setting = Setting("sgdm", {"learning_rate": 0.05, "momentum": 0.0, "l2": 0.0}, {"kind": "constant"})
    bundle = workload.optimizer(setting, model, 3)
    for batch in islice(workload.train_batches(0, 1), 3):
        assert isinstance(twin, nn.ModuleDict)
        expected = _one_step_by_hand(twin, batch, 0.05)
        assert float(workload.train_step(model, batch, bundle)) == pytest.approx(float(expected), rel=1e-5)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, twin.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_it_trains_and_repeats_bit_for_bit() -> None:
    options = {"width": 64, "eval_every_steps": 50}
    run = {"steps": 100, "hyperparameters": {"learning_rate": 3e-3, "beta1": 0.5}, "phase": Phase.TEST}
    result = trained(assign(GAN, **{**given(), "options": options, **run}))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    mmds = [m.values["mmd"] for m in result.measurements]
    assert result.tests["mmd"] < 0.4 < mmds[0]
    short = [trained(assign(GAN, **given(steps=20))) for _ in range(2)]
    assert numbers(short[0]) == numbers(short[1])


@pytest.mark.parametrize("training", [{"batch_size": 100, "average": "ema"}, {"accumulation": 2, "clip_norm": 0.1}])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(training: dict[str, Any], tmp_path: Path) -> None:
    run = given(steps=15, training=training)
    whole = trained(assign(GAN, **run))
    assert whole.outcome is Outcome.COMPLETED, whole.traceback
    generator = train(assign(GAN, checkpoints=str(tmp_path), **run))
    at = next(generator).step
    generator.close()
    result = trained(assign(GAN, checkpoints=str(tmp_path), attempt=2, **run))
    assert result.resumed_at == at == 10
    assert numbers(result) == numbers(whole)


def test_the_length_of_an_epoch_follows_the_batch_size(workload: DigitsGAN) -> None:
    workload.place(torch.device("cpu"), {"batch_size": 100})
    assert workload.steps_per_epoch == len(list(workload.train_batches(0, 0))) == 10
    workload.place(torch.device("cpu"), {})
    assert workload.steps_per_epoch == len(list(workload.train_batches(0, 0))) == 15


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_it_trains_in_half_precision(precision: str) -> None:
    result = trained(assign(GAN, **given(steps=4, training={"precision": precision})))
    assert result.outcome is Outcome.COMPLETED, result.traceback
