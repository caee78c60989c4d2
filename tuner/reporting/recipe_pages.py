"""Pages on the recipe book and what it suggests: tables for people, YAML to paste. Ranking: recipes/suggestion.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tuner.catalog.families import CAMPS, family
from tuner.catalog.training_options import changed
from tuner.core.values import Scalar, short
from tuner.recipes.book import FINE_TUNING, Published
from tuner.recipes.suggestion import KIND_WORDS, Features, Match, amount, translated

if TYPE_CHECKING:
    from rich.console import RenderableType

_DECAYS = ("weight_decay", "l2")
_PLAIN = ("kind", "warmup_shape")


def recipes(rows: Sequence[Published]) -> RenderableType:
    """Draw the book: a row for each recipe."""
    from rich.table import Table

    table = Table(title="Recipe book", title_justify="left")
    for name in ("name", "architecture", "optimizer", "learning rate", "decay", "schedule", "batch", "source"):
        table.add_column(name, overflow="fold", justify="right" if name in ("learning rate", "decay") else "left")
    for recipe in rows:
        values = recipe.setting.hyperparameters
        table.add_row(
            recipe.name,
            ", ".join(recipe.architecture[:2]),
            recipe.family,
            short(values["learning_rate"]),
            decay(values),
            str(recipe.setting.schedule["kind"]),
            batch(recipe),
            recipe.source,
        )
    table.caption = "tuner recipes NAME shows all of one; decay is L2 or decoupled, whichever the optimizer has"
    return table


def decay(values: Mapping[str, Scalar]) -> str:
    """Return the decay that is on, with its name where it is an L2 penalty.

    >>> decay({"l2": 1e-4}), decay({"weight_decay": 0.05, "l2": 0.0}), decay({"l2": 0.0})
    ('0.0001 (L2)', '0.05', '-')
    """
    named = next((name for name in _DECAYS if values.get(name)), None)
    if named is None:
        return "-"
    return short(values[named]) + (" (L2)" if named == "l2" else "")


def batch(recipe: Published) -> str:
    return f"{recipe.batch:,} {recipe.unit}" if recipe.batch else "-"


def recipe_page(recipe: Published) -> str:
    """Return everything about one recipe, with YAML to paste."""
    setting = recipe.setting
    row = family(recipe.family)
    rest = {k: v for k, v in setting.schedule.items() if v and k not in _PLAIN}
    facts = {
        "for": ", ".join(recipe.tasks),
        "model": ", ".join(recipe.architecture)
        + (f"; {amount(recipe.parameters)} parameters" if recipe.parameters else ""),
        "data": recipe.dataset,
        "optimizer": f"{recipe.family} ({CAMPS[row.camp]}): {_settings(setting.hyperparameters)}",
        "schedule": str(setting.schedule["kind"]) + (f" ({_settings(rest)})" if rest else ""),
        "training": _settings(changed(setting.training)) or "all at their defaults",
        "batch": batch(recipe),
        "horizon": str(recipe.horizon) if recipe.horizon else "not stated",
        "source": recipe.source,
        "notes": recipe.notes or "-",
    }
    lines = [f"{recipe.name}: {recipe.title}", ""]
    lines += [f"{key + ':':<11}{value}" for key, value in facts.items()]
    lines += ["", "For a study file: the arm of its family tries it first, at the learning rate for your batch size:"]
    lines += ["", f"known_recipes: [{recipe.name}]"]
    lines += ["", f"Or as published, in a space, under arms: {recipe.family}:", "", "initial_settings:"]
    lines += _indented(as_yaml([{**recipe.written, "source": f"recipe {recipe.name}"}]))
    lines += ["", "Or as the settings that you use today:", "", "current:"]
    lines += _indented(as_yaml({"family": recipe.family, **recipe.written}))
    return "\n".join(lines)


def _settings(values: Mapping[str, Scalar]) -> str:
    return ", ".join(f"{name} {short(value)}" for name, value in values.items())


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]


def as_yaml(data: Any) -> str:
    """Return plain data as YAML that tuner reads back the same."""
    import yaml

    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)


def recipe_json(recipe: Published) -> dict[str, Any]:
    """Return a recipe as plain JSON."""
    return {
        "name": recipe.name,
        "title": recipe.title,
        "tasks": list(recipe.tasks),
        "architecture": list(recipe.architecture),
        "family": recipe.family,
        "setting": dict(recipe.written),
        "batch": {"size": recipe.batch, "unit": recipe.unit} if recipe.batch else None,
        "horizon": {recipe.horizon.unit: recipe.horizon.amount} if recipe.horizon else None,
        "dataset": recipe.dataset,
        "parameters": recipe.parameters,
        "source": recipe.source,
        "notes": recipe.notes,
    }


def looks(features: Features) -> str:
    """Say what a workload's model looks like."""
    layers = ", ".join(f"{count} {name}" for name, count in sorted(features.layers.items(), key=lambda x: -x[1])[:8])
    others = sorted(features.traits - {features.kind})
    lines = [
        f"Your model is {KIND_WORDS[features.kind]} of {amount(features.parameters)} parameters ({layers})"
        + (f", with {', '.join(others)}." if others else "."),
        f"Its task seems to be {' or '.join(sorted(features.tasks))}: {features.direction} {features.metric}, "
        f"batch size {features.batch or 'unknown'}, horizon {features.horizon or 'not stated'}.",
    ]
    return "\n".join([*lines, *features.remarks])


def suggestion(features: Features, matches: Sequence[Match], document: Mapping[str, Any]) -> str:
    """Say which recipes are nearest and why, and give a study file that tries them first."""
    if not matches:
        none = "The recipe book has no similar model; the default space starts from the optimizers' defaults."
        return f"{looks(features)}\n\n{none}"
    lines = [looks(features), "", "Nearest recipes, before anything is trained:", ""]
    for i, match in enumerate(matches, 1):
        lines += [f"{i}. {match.recipe.name} ({match.recipe.title}); similarity {match.score:.1f}"]
        lines += [f"   why:       {'; '.join(match.reasons)}"]
        lines += [f"   optimizer: {match.recipe.setting}"]
        lines += [f"   rate:      {translated(match, features)}"]
        lines += [f"   source:    {match.recipe.source}"]
    scratch = not any(FINE_TUNING in match.recipe.tasks for match in matches)
    lines += ["", "If the model is already pretrained, add --pretrained."] if scratch else []
    lines += ["", "A study file that tries them first:", "", as_yaml(dict(document)).rstrip()]
    return "\n".join(lines)


def suggestion_json(features: Features, matches: Iterable[Match], document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a suggestion as plain JSON, with a ``schema_version``."""
    return {
        "schema_version": 1,
        "workload": {
            "kind": features.kind,
            "traits": sorted(features.traits),
            "tasks": sorted(features.tasks),
            "layers": dict(features.layers),
            "parameters": features.parameters,
            "batch": features.batch,
            "horizon": {features.horizon.unit: features.horizon.amount} if features.horizon else None,
            "metric": features.metric,
            "direction": features.direction,
            "remarks": list(features.remarks),
        },
        "nearest": [
            {
                **recipe_json(match.recipe),
                "score": match.score,
                "reasons": list(match.reasons),
                "learning_rate": match.recipe.initial_setting(features.batch, features.takes).written["learning_rate"],
            }
            for match in matches
        ],
        "study": dict(document),
    }
