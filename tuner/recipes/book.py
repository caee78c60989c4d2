"""The recipe book: with which optimizer, settings and schedule well-known models were trained; a file for each.

Which recipe suits a workload is judged in :mod:`tuner.recipes.suggestion`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tuner.catalog.families import family, is_family
from tuner.catalog.training_options import OWN_OPTIONS
from tuner.config.documents import Section, did_you_mean, read_yaml
from tuner.config.initial_settings import InitialSetting
from tuner.config.shipped import check_recipe_name, recipe_folder, recipe_names
from tuner.core.errors import InputError, SpaceError
from tuner.core.records import Horizon, Setting, Source

KINDS = ("convnet", "transformer", "gan", "unet", "rnn", "mlp", "gnn")
"""What a model mainly is: the first word of a recipe's ``architecture``."""
TRAITS = (
    *KINDS,
    *("batch-norm", "layer-norm", "group-norm", "instance-norm", "rms-norm"),
    *("attention", "causal", "depthwise", "embedding", "encoder-decoder", "patches", "residual"),
)
TASKS = (
    *("image-classification", "detection", "segmentation", "image-generation", "image-to-image"),
    *("language-model", "masked-language-model", "text-classification", "text-to-text", "translation"),
    *("speech", "tabular", "node-classification", "contrastive", "self-supervised"),
    *("fine-tuning", "test-time-adaptation"),
)
FINE_TUNING = "fine-tuning"
EXAMPLES = ("images", "sequences", "examples")
"""Units that a workload counts its batch in; from a batch in another unit no learning rate is translated."""
UNITS = (*EXAMPLES, "tokens", "seconds of audio")

FURTHEST = 8.0
"""The learning rate grows with the batch up to so many times the recipe's batch, and no further."""
LINEAR, SQRT = "linear", "sqrt"
RULES: Mapping[str, str] = {
    LINEAR: "in proportion to the batch (Goyal et al. 2017, arXiv 1706.02677)",
    SQRT: "with the square root of the batch (Malladi et al. 2022, arXiv 2205.10287)",
}


@dataclass(frozen=True, slots=True)
class Published:
    """One recipe. ``written`` is its setting as the file has it; ``batch`` and ``horizon`` are None where nobody says.

    ``architecture`` begins with one of ``KINDS``. ``notes`` say what these fields cannot hold.
    """

    name: str
    title: str
    tasks: tuple[str, ...]
    architecture: tuple[str, ...]
    dataset: str
    parameters: float | None
    batch: int | None
    unit: str
    horizon: Horizon | None
    family: str
    written: Mapping[str, Any]
    source: str
    notes: str

    @property
    def kind(self) -> str:
        return self.architecture[0]

    @property
    def norms(self) -> tuple[str, ...]:
        return tuple(word for word in self.architecture if word.endswith("-norm"))

    @property
    def setting(self) -> Setting:
        """The complete setting as published."""
        return InitialSetting(self.family, self.written, Source.PUBLISHED, self.name).parsed().over({})

    def initial_setting(self, batch: int | None = None, takes: Iterable[str] = OWN_OPTIONS) -> InitialSetting:
        """Return the setting for a workload: its rate for that batch, and the training options that it takes."""
        translated = translation(self, batch)
        written = dict(self.written)
        options = {k: v for k, v in written.get("training", {}).items() if k not in OWN_OPTIONS or k in takes}
        dropped = [key for key in written.get("training", {}) if key not in options]
        written["training"] = options
        origin = f"recipe {self.name}"
        if translated is not None and translated.factor != 1.0:
            written["learning_rate"] = translated.learning_rate
            origin += f", learning rate for a batch of {translated.batch} instead of {self.batch}"
        if dropped:
            origin += f", without {', '.join(dropped)}"
        return InitialSetting(self.family, written, Source.PUBLISHED, origin)


@dataclass(frozen=True, slots=True)
class Translation:
    """A published learning rate at another batch size, by one of ``RULES``."""

    learning_rate: float
    batch: int
    factor: float
    rule: str


def translation(recipe: Published, batch: int | None) -> Translation | None:
    """Return the learning rate for ``batch`` examples; None where one of the two batches is not known in examples.

    The rate of SGD and its momenta grows with the batch, that of all others with its root; upwards for ``FURTHEST``
    times the batch at most, since either rule fails for large ones.

    >>> resnet = find_recipe("resnet-50")
    >>> translation(resnet, 32).learning_rate, translation(resnet, 8192).learning_rate
    (0.0125, 0.8)
    """
    if not batch or not recipe.batch or recipe.unit not in EXAMPLES:
        return None
    ratio = min(batch / recipe.batch, FURTHEST)
    rule = LINEAR if family(recipe.family).camp == "sgdm" else SQRT
    factor = ratio if rule == LINEAR else math.sqrt(ratio)
    rate = float(recipe.setting.hyperparameters["learning_rate"]) * factor
    return Translation(float(f"{rate:.4g}"), batch, factor, rule)


def find_recipe(name: str) -> Published:
    """Return a recipe of the book.

    Raises:
        InputError: there is none of that name.
    """
    return read_recipe_file(recipe_folder() / f"{check_recipe_name(name)}.yaml")


def all_recipes() -> tuple[Published, ...]:
    return tuple(map(find_recipe, recipe_names()))


def for_task(recipes: Iterable[Published], task: str) -> tuple[Published, ...]:
    """Return the recipes for a task.

    Raises:
        InputError: it is none of ``TASKS``.
    """
    if task not in TASKS:
        raise InputError(f"--for is {task!r}; expected one of {', '.join(TASKS)}. {did_you_mean(task, TASKS)}".rstrip())
    return tuple(recipe for recipe in recipes if task in recipe.tasks)


def read_recipe_file(path: Path) -> Published:
    """Read the file of one recipe.

    Raises:
        SpaceError: with file, line, key, what was found, what was expected.
    """
    try:
        return _read(read_yaml(path))
    except InputError as error:
        raise SpaceError(str(error)) from None


def _read(section: Section) -> Published:
    inner = section.section("setting")
    name = inner.text("family")
    if not is_family(name):
        raise inner.error("family", f"is {name!r}", "an optimizer family (tuner optimizers)")
    batch, unit = _batch(section)
    recipe = Published(
        name=section.text("name"),
        title=section.text("title"),
        tasks=_words(section, "tasks", TASKS),
        architecture=_words(section, "architecture", TRAITS),
        dataset=section.text("dataset"),
        parameters=section.number("parameters", None, low=1.0),
        batch=batch,
        unit=unit,
        horizon=_horizon(section),
        family=name,
        written={key: value for key, value in inner.data.items() if key != "family"},
        source=section.text("source"),
        notes=section.text("notes", ""),
    )
    section.finish()
    if recipe.kind not in KINDS:
        raise section.error("architecture", f"begins with {recipe.kind!r}", f"one of {', '.join(KINDS)} first")
    section.guard("setting", lambda: recipe.setting)
    if recipe.name != Path(section.source).stem:
        raise section.error("name", f"is {recipe.name!r}", f"the name of its file, {Path(section.source).stem!r}")
    return replace(recipe, written={"learning_rate": recipe.setting.hyperparameters["learning_rate"], **recipe.written})


def _words(section: Section, key: str, known: tuple[str, ...]) -> tuple[str, ...]:
    words = section.texts(key)
    for word in words:
        if word not in known:
            raise section.error(key, f"names {word!r}", f"some of {', '.join(known)}", did_you_mean(word, known))
    return tuple(words)


def _batch(section: Section) -> tuple[int | None, str]:
    if "batch" not in section:
        section.take("batch", None)
        return None, EXAMPLES[-1]
    inner = section.section("batch")
    batch = inner.integer("size", low=1), inner.choice("unit", UNITS)
    inner.finish()
    return batch


def _horizon(section: Section) -> Horizon | None:
    if "horizon" not in section:
        section.take("horizon", None)
        return None
    inner = section.section("horizon")
    unit = "epochs" if "epochs" in inner else "steps"
    horizon = Horizon(inner.number(unit, low=0.0, above=True), unit)
    inner.finish()
    return horizon
