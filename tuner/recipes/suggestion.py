"""Which published recipes are nearest to a workload, and why: from what a model looks like to a ranking.

A pure function of what :mod:`tuner.training.inspect` sees.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tuner.config.documents import read_yaml
from tuner.config.shipped import find_space
from tuner.config.space import KIND
from tuner.config.space_files import read_space
from tuner.core.records import Horizon
from tuner.core.values import Scalar
from tuner.recipes.book import EXAMPLES, FINE_TUNING, RULES, Published, translation

NEAREST = 3
"""So many recipes are proposed."""
_SPACES: Mapping[str, str] = {"convnet": "vision", "transformer": "transformer", "gan": "gan"}
"""The space that suits a kind of model; the default space for other kinds."""
_KIND, _TASK, _NORM, _TRAIT, _SIZE = 4.0, 2.0, 1.0, 0.5, 1.0
KIND_WORDS: Mapping[str, str] = {
    "convnet": "a convolutional network",
    "transformer": "a Transformer",
    "gan": "a GAN",
    "unet": "a U-Net",
    "rnn": "a recurrent network",
    "mlp": "a multi-layer perceptron",
    "gnn": "a graph network",
}
_TELLING = frozenset({"attention", "causal", "depthwise", "embedding", "encoder-decoder", "patches"})
"""Traits that count against a recipe where only one of the two has them."""
_RELATED: Mapping[frozenset[str], float] = {
    frozenset({"unet", "convnet"}): 1.5,
    frozenset({"gan", "convnet"}): 0.5,
    frozenset({"rnn", "transformer"}): 0.5,
    frozenset({"gnn", "mlp"}): 0.5,
}
"""Points for a recipe whose model is of another kind than the workload's, but alike (the same kind: 4)."""


@dataclass(frozen=True, slots=True)
class Features:
    """What a model and its workload look like.

    ``kind`` and ``traits`` are words of the recipe book, ``layers`` counts layers by the name of their class, ``tasks``
    are those that it may be trained for. ``batch`` is None where it cannot be told. ``takes`` are the training options
    that the workload honours itself. ``remarks`` say what could not be seen.
    """

    kind: str
    traits: frozenset[str]
    tasks: frozenset[str]
    layers: Mapping[str, int]
    parameters: int
    batch: int | None
    horizon: Horizon | None
    metric: str
    direction: str
    takes: frozenset[str] = frozenset()
    remarks: tuple[str, ...] = ()

    @property
    def norms(self) -> frozenset[str]:
        return frozenset(word for word in self.traits if word.endswith("-norm"))


@dataclass(frozen=True, slots=True)
class Match:
    """A recipe with its score for a workload, and the reasons in words."""

    recipe: Published
    score: float
    reasons: tuple[str, ...]
    related: bool


def rank(
    recipes: Iterable[Published],
    features: Features,
    *,
    families: Collection[str] | None = None,
    pretrained: bool = False,
) -> tuple[Match, ...]:
    """Return the recipes, nearest first, of ``families`` only if they are given.

    The kind of model counts most (4 points), then the task (2), the normalisation (1), each other trait (0.5, also
    against a recipe if only one of the two has it), then how near batch and number of parameters are (1 each; 0 from a
    factor of 10,000 on). Recipes for fine-tuning are for ``pretrained`` models, all others for those from scratch.
    """
    fitting = (r for r in recipes if (FINE_TUNING in r.tasks) == pretrained)
    mine = (r for r in fitting if families is None or r.family in families)
    return tuple(sorted((judge(r, features) for r in mine), key=lambda match: (-match.score, match.recipe.name)))


def alike(matches: Iterable[Match]) -> list[Match]:
    """Return the matches whose recipe is for the same kind of model, or for a kind that is like it."""
    return [match for match in matches if match.related]


def judge(recipe: Published, features: Features) -> Match:
    """Return the score of one recipe with its reasons."""
    parts = [
        _kind(recipe, features),
        _task(recipe, features),
        _norms(recipe, features),
        _traits(recipe, features),
        _nearness("parameters", recipe.parameters, features.parameters),
        _nearness("batch", recipe.batch if recipe.unit in EXAMPLES else None, features.batch),
    ]
    score = round(sum(points for points, _ in parts), 3)
    return Match(recipe, score, tuple(reason for _, reason in parts if reason), related=parts[0][0] > 0)


def _kind(recipe: Published, features: Features) -> tuple[float, str]:
    theirs, mine = KIND_WORDS[recipe.kind], KIND_WORDS[features.kind]
    if recipe.kind == features.kind:
        return _KIND, f"{theirs}, as yours"
    return _RELATED.get(frozenset({recipe.kind, features.kind}), 0.0), f"{theirs}, yours is {mine}"


def _task(recipe: Published, features: Features) -> tuple[float, str]:
    same = sorted(features.tasks & set(recipe.tasks))
    if same:
        return _TASK, f"for {same[0]}, as yours seems to be"
    return 0.0, f"for {recipe.tasks[0]}, yours seems to be for {' or '.join(sorted(features.tasks))}"


def _norms(recipe: Published, features: Features) -> tuple[float, str]:
    same = sorted(features.norms & set(recipe.norms))
    if same:
        return _NORM, f"{', '.join(same)} in both"
    if not features.norms and not recipe.norms:
        return _NORM, "without normalisation, as yours"
    theirs, mine = ", ".join(recipe.norms), ", ".join(sorted(features.norms))
    return 0.0, f"{theirs or 'no normalisation'}, yours has {mine or 'none'}"


def _traits(recipe: Published, features: Features) -> tuple[float, str]:
    theirs = set(recipe.architecture)
    same = sorted((features.traits & theirs) - features.norms - {features.kind})
    odd = (features.traits ^ theirs) & _TELLING
    reasons = [f"{', '.join(same)} in both"] if same else []
    reasons += [f"{word} in {'its' if word in theirs else 'your'} model only" for word in sorted(odd)]
    return _TRAIT * (len(same) - len(odd)), ", ".join(reasons)


def _nearness(what: str, theirs: float | None, mine: float | None) -> tuple[float, str]:
    if not theirs or not mine:
        return 0.0, ""
    away = abs(math.log10(theirs / mine))
    said = (f"{theirs:,}", f"{mine:,}") if what == "batch" else (amount(theirs), amount(mine))
    return _SIZE * max(0.0, 1.0 - away / 4.0), f"{what} {said[0]}, yours {said[1]}"


def amount(number: float) -> str:
    """Return a large number for people.

    >>> amount(25.6e6), amount(1234), amount(64), amount(6.7e9)
    ('25.6 M', '1.23 k', '64', '6.7 G')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:g}"


def study_document(
    name: str, workload: str, options: Mapping[str, Any], matches: Iterable[Match], features: Features
) -> dict[str, Any]:
    """Return a study file that tries the recipes first, as plain data.

    It extends the space for this kind of model, with SGDM, AdamW and the recipes' families as arms.
    """
    base = _SPACES.get(features.kind, "sgdm-vs-adam")
    offered = _offered(base)
    arms: dict[str, Any] = {}
    for match in matches:
        initial = match.recipe.initial_setting(features.batch, features.takes)
        entry = {**initial.written, "source": f"{initial.origin}: {match.recipe.source}"}
        arm = arms.setdefault(
            initial.family, {"schedule": {"kind": {"choices": dict(offered)}}, "initial_settings": []}
        )
        arm["schedule"]["kind"]["choices"][match.recipe.setting.schedule["kind"]] = 1
        arm["initial_settings"].append({key: value for key, value in entry.items() if value != {}})
    return {
        "study": name,
        "workload": {"path": workload, "options": dict(options)} if options else workload,
        "space": {
            "name": "suggested",
            "about": f"{base}, with the recipes that are nearest to this workload",
            "extends": base,
            "arms": arms,
        },
        "arms": list(dict.fromkeys(["sgdm", "adamw", *arms])),
        **({} if features.horizon else {"horizon": {"epochs": 10}}),
    }


def _offered(space: str) -> Mapping[Scalar, int]:
    """The schedules that a space offers, each with the budget that opens it."""
    arm = read_space(read_yaml(find_space(space))).arms[0]
    return next(d.choices for d in arm.all_dimensions if d.name == KIND)


def translated(match: Match, features: Features) -> str:
    """Say which learning rate the recipe has here, and by which rule."""
    here = translation(match.recipe, features.batch)
    rate = match.recipe.setting.hyperparameters["learning_rate"]
    if here is None:
        theirs = f"{match.recipe.batch:,} {match.recipe.unit}" if match.recipe.batch else "no stated size"
        return f"{rate:g}, as published for a batch of {theirs}, which yours cannot be compared with"
    said = f"{here.learning_rate:g} for your batch of {here.batch} ({rate:g} for {match.recipe.batch})"
    return f"{said}, {RULES[here.rule]}" if here.factor != 1.0 else said
