"""The recipe book: every recipe loads, builds a setting, and says where it is from; errors name their place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.catalog.families import family
from tuner.catalog.schedules import Schedule
from tuner.config.documents import Section
from tuner.config.initial_settings import read_all
from tuner.config.shipped import list_spaces, recipe_folder, recipe_names
from tuner.config.space_files import read_space
from tuner.core.errors import InputError, SpaceError
from tuner.recipes.book import (
    EXAMPLES,
    FURTHEST,
    KINDS,
    LINEAR,
    SQRT,
    TASKS,
    Published,
    all_recipes,
    find_recipe,
    for_task,
    read_recipe_file,
    translation,
)

RECIPES = {recipe.name: recipe for recipe in all_recipes()}
DEMANDED = {
    *("resnet-50", "resnet-50-v2", "mask-rcnn", "yolov3", "yolov8", "transformer-base", "bert-base", "bert-finetune"),
    *("roberta-base", "gpt3-125m", "nanogpt-124m", "t5-base", "biggan", "dcgan", "stylegan2", "memo", "vit-b-16"),
    *("deit-b", "convnext-t", "swin-t", "mobilenet-v2", "mobilenet-v3", "efficientnet-b0", "unet-nnunet"),
    *("wide-resnet", "resnet-cifar", "awd-lstm", "wav2vec2-base", "clip-vit-b-32", "detr", "llama2-7b"),
    *("mae-vit-b", "ddpm-cifar"),
}


def test_the_book_holds_what_people_look_for() -> None:
    assert set(RECIPES) >= DEMANDED
    assert list(RECIPES) == recipe_names()
    assert not set(RECIPES) & set(list_spaces())


def test_recipes_are_spread_over_models_and_tasks() -> None:
    assert {recipe.kind for recipe in RECIPES.values()} == set(KINDS)
    assert {task for recipe in RECIPES.values() for task in recipe.tasks} == set(TASKS)
    assert len({recipe.family for recipe in RECIPES.values()}) >= 8


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
class TestEvery:
    def test_is_a_complete_setting(self, recipe: Published) -> None:
        setting = recipe.setting
        assert family(recipe.family).complete(setting.hyperparameters) == setting.hyperparameters
        assert Schedule.of(setting.schedule).setting == setting.schedule
        assert 0.0 <= float(setting.schedule["warmup"]) <= 0.2
        assert Schedule.of(setting.schedule).multipliers(10**6 // 2, 10**6).lr <= 1.0

    def test_says_where_it_is_from(self, recipe: Published) -> None:
        assert re.search(r"(19|20)\d\d|[\w-]+/[\w-]+|torchvision|scikit-learn", recipe.source)
        assert recipe.batch is None or recipe.batch >= 1

    def test_can_be_a_known_setting_of_a_space(self, recipe: Published) -> None:
        entry = {**recipe.written, "source": recipe.source}
        data = {"name": "s", "arms": {recipe.family: {"initial_settings": [entry]}}}
        arm = read_space(Section(data, "s")).arm(recipe.family)
        assert arm.published == (recipe.setting,)
        assert arm.origins[recipe.setting.fingerprint] == recipe.source

    def test_survives_the_ledger(self, recipe: Published) -> None:
        initial = recipe.initial_setting(64)
        assert read_all(Section({"initial_settings": [initial.to_json()]}, "db")) == (initial,)


class TestTranslation:
    def test_linear_for_sgd_and_the_root_for_the_others(self) -> None:
        sgdm, adamw = translation(RECIPES["resnet-50"], 64), translation(RECIPES["convnext-t"], 1024)
        assert sgdm is not None
        assert adamw is not None
        assert (sgdm.rule, sgdm.learning_rate) == (LINEAR, 0.025)
        assert (adamw.rule, adamw.learning_rate) == (SQRT, 0.002)

    def test_only_between_batches_of_examples(self) -> None:
        assert translation(RECIPES["gpt3-125m"], 64) is None
        assert translation(RECIPES["gcn"], 64) is None
        assert translation(RECIPES["resnet-50"], None) is None

    @given(st.sampled_from([r for r in RECIPES.values() if r.batch and r.unit in EXAMPLES]), st.integers(1, 10**6))
    def test_grows_with_the_batch_and_not_without_end(self, recipe: Published, batch: int) -> None:
        found, more = translation(recipe, batch), translation(recipe, 2 * batch)
        assert found is not None
        assert more is not None
        assert 0 < found.learning_rate <= more.learning_rate * (1 + 1e-3)
        assert found.factor <= FURTHEST

    def test_a_known_setting_has_the_rate_and_says_so(self) -> None:
        initial = RECIPES["resnet-50-v2"].initial_setting(64, takes=())
        assert initial.written["learning_rate"] == 0.03125
        assert initial.written["training"] == {}
        assert "for a batch of 64 instead of 1024" in initial.origin
        assert "without label_smoothing" in initial.origin
        assert RECIPES["resnet-50-v2"].initial_setting(64, {"label_smoothing"}).written["training"] == {
            "label_smoothing": 0.1
        }
        assert RECIPES["resnet-50"].initial_setting().origin == "recipe resnet-50"


def test_for_a_task() -> None:
    assert {recipe.name for recipe in for_task(RECIPES.values(), "segmentation")} == {
        *("deeplabv3", "mask-rcnn", "unet-nnunet")
    }
    with pytest.raises(InputError, match=r"--for is 'segmentatio'.*Did you mean 'segmentation'"):
        for_task(RECIPES.values(), "segmentatio")


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'resnet-50'"):
        find_recipe("resnet50")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("family: sgdm", "family: sgmd", r"mine.yaml:\d+: setting.family is 'sgmd'"),
        ("momentum: 0.9", "momentum: 1.9", r"mine.yaml:\d+: setting"),
        ("kind: step", "kind: stairs", r"mine.yaml:\d+: setting"),
        ("[image-classification]", "[image]", r"mine.yaml:3: tasks names 'image'"),
        ("[convnet, ", "[residual, ", r"architecture begins with 'residual'"),
        ("unit: images", "unit: pictures", r"batch.unit is 'pictures'"),
        ("epochs: 90", "days: 90", r"horizon"),
        ("name: mine", "name: yours", r"name is 'yours'"),
        ("dataset:", "data:", r"dataset is missing"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    text = (recipe_folder() / "resnet-50.yaml").read_text().replace("name: resnet-50", "name: mine")
    assert old in text
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert read_recipe_file(path).family == "sgdm"
    path.write_text(text.replace(old, new))
    with pytest.raises(SpaceError, match=says):
        read_recipe_file(path)
