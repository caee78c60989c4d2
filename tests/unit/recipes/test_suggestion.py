"""From what a model looks like to a ranking of recipes, without torch."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.config.documents import Section
from tuner.config.study_file import read_study
from tuner.core.records import Horizon
from tuner.recipes.book import KINDS, TASKS, TRAITS, all_recipes, find_recipe
from tuner.recipes.suggestion import Features, alike, judge, rank, study_document, translated

BOOK = all_recipes()
CONVNET = Features(
    kind="convnet",
    traits=frozenset({"convnet", "batch-norm", "residual"}),
    tasks=frozenset({"image-classification"}),
    layers={"Conv2d": 20},
    parameters=11_000_000,
    batch=128,
    horizon=Horizon(30, "epochs"),
    metric="accuracy",
    direction="maximize",
    takes=frozenset({"batch_size", "label_smoothing"}),
)
features = st.builds(
    Features,
    kind=st.sampled_from(KINDS),
    traits=st.frozensets(st.sampled_from(TRAITS)),
    tasks=st.frozensets(st.sampled_from(TASKS), min_size=1),
    layers=st.just({}),
    parameters=st.integers(1, 10**11),
    batch=st.none() | st.integers(1, 10**5),
    horizon=st.none(),
    metric=st.just("loss"),
    direction=st.just("minimize"),
)


def names(found: Features, **more: object) -> list[str]:
    return [match.recipe.name for match in alike(rank(BOOK, found, **more))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "nearest"),
    [
        ({}, {"wide-resnet", "resnet-50", "resnet-cifar"}),
        ({"traits": frozenset({"convnet", "layer-norm", "depthwise", "residual"})}, {"convnext-t"}),
        ({"tasks": frozenset({"detection"})}, {"mask-rcnn", "yolov3", "yolov8"}),
        ({"kind": "transformer", "traits": frozenset({"transformer", "patches", "layer-norm"})}, {"deit-b", "swin-t"}),
        (
            {"kind": "rnn", "traits": frozenset({"rnn", "embedding"}), "tasks": frozenset({"language-model"})},
            {"awd-lstm"},
        ),
        ({"kind": "gan", "traits": frozenset({"gan", "convnet", "batch-norm"})}, {"dcgan"}),
    ],
)
def test_the_nearest_is_what_one_would_name(changes: dict[str, object], nearest: set[str]) -> None:
    assert names(replace(CONVNET, **changes))[0] in nearest  # type: ignore[arg-type]


def test_fine_tuning_is_for_pretrained_models_only() -> None:
    text = replace(
        CONVNET,
        kind="transformer",
        traits=frozenset({"transformer", "embedding", "layer-norm"}),
        tasks=frozenset({"text-classification"}),
    )
    assert "bert-finetune" not in names(text)
    assert names(text, pretrained=True)[0] == "bert-finetune"


def test_only_families_that_are_asked_for() -> None:
    found = rank(BOOK, CONVNET, families=("adamw",))
    assert {match.recipe.family for match in found} == {"adamw"}
    assert found[0].recipe.name == "convnext-t"


def test_other_kinds_of_models_are_not_alike() -> None:
    assert {match.recipe.kind for match in alike(rank(BOOK, CONVNET))} == {"convnet", "unet", "gan"}


@given(features, st.randoms(use_true_random=False))
def test_the_order_of_the_book_does_not_matter(found: Features, shuffled: random.Random) -> None:
    book = list(BOOK)
    shuffled.shuffle(book)
    assert rank(book, found) == rank(BOOK, found)
    scores = [match.score for match in rank(BOOK, found)]
    assert scores == sorted(scores, reverse=True)


@given(features)
def test_the_same_kind_counts_more_than_batch_and_size(found: Features) -> None:
    same = judge(replace(find_recipe("resnet-50"), architecture=(found.kind,)), found)
    assert same.score >= 4.0 - 0.5 * len(found.traits)
    assert same.related
    assert all(same.reasons)


def test_reasons_are_words() -> None:
    reasons = "; ".join(judge(find_recipe("resnet-50"), CONVNET).reasons)
    assert "a convolutional network, as yours; for image-classification" in reasons
    assert "parameters 25.6 M, yours 11 M; batch 256, yours 128" in reasons


def test_the_rate_names_its_rule() -> None:
    sgdm = translated(judge(find_recipe("resnet-50"), CONVNET), CONVNET)
    assert sgdm.startswith("0.05 for your batch of 128 (0.1 for 256), in proportion to the batch (Goyal et al. 2017")
    assert "Malladi et al. 2022" in translated(judge(find_recipe("swin-t"), CONVNET), CONVNET)
    tokens = translated(judge(find_recipe("llama2-7b"), CONVNET), CONVNET)
    assert tokens == "0.0003, as published for a batch of 4,000,000 tokens, which yours cannot be compared with"


@given(features, st.booleans())
def test_the_study_file_reads_and_tries_each_recipe_that_its_ranges_hold(found: Features, pretrained: bool) -> None:
    matches = alike(rank(BOOK, found, pretrained=pretrained))[:3]
    document = study_document("mine", "my.work:Load", {"width": 3}, matches, found)
    spec = read_study(Section({**document, "metric": {"name": "loss", "direction": "minimize"}}, "s"))
    tried = [setting for arm in spec.arms for setting in arm.initial_settings]
    assert {arm.family.name for arm in spec.arms} == {"sgdm", "adamw"} | {match.recipe.family for match in matches}
    assert len(tried) >= len(spec.arms)
    for arm in spec.arms:
        assert not any("schedule.kind" in why for setting in arm.initial_settings for why in arm.outside(setting))
