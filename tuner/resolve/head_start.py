"""What a study knows before it begins: recipes of the book, and the best settings of earlier studies in its database.

Found once, when the study is made; from then on its own spec holds them, whatever becomes of book and studies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.analysis.searched.best_settings import best_settings
from tuner.catalog.training_options import complete
from tuner.config.initial_settings import InitialSetting
from tuner.config.spec import NEAREST, StudySpec, stored_spec
from tuner.core.errors import InputError, WorkloadError
from tuner.core.records import WorkloadRef
from tuner.core.values import Scalar
from tuner.recipes import book, suggestion
from tuner.recipes.book import Published
from tuner.recipes.suggestion import Features, Match
from tuner.storage.ledger import Ledger
from tuner.study_records import StudyRecords

if TYPE_CHECKING:
    from tuner.training.workloads.load import Target

PER_FAMILY = 2
"""So many of the nearest recipes each arm's family gets."""


def looked_at(target: Target, path: str) -> Features:
    """Build the workload's model on the CPU and look at it.

    Raises:
        WorkloadError: it is a function, which has no model before it trains.
    """
    from tuner.training.inspect import look
    from tuner.training.workloads.base import Workload

    if not isinstance(target, Workload):
        raise WorkloadError(
            f"workload {path!r} is a function, which makes its model only while it trains; expected a tuner.Workload "
            "class, whose model can be looked at. Choose by yourself: 'tuner recipes --for TASK' lists the recipes, "
            "'known_recipes: [NAME]' in the study file tries them first."
        )
    return look(target)


def options_of(text: str) -> dict[str, Any]:
    """Read a workload's keyword arguments from the command line.

    Raises:
        InputError: they are not a JSON object.
    """
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"--options is {text!r}, no JSON ({error}); expected an object: '{{\"width\": 16}}'."
        ) from None
    if not isinstance(found, dict):
        raise InputError(f"--options is {text!r}; expected a JSON object: '{{\"width\": 16}}'.")
    return found


def suggested(path: str, options: Mapping[str, Any], pretrained: bool) -> tuple[Features, list[Match], dict[str, Any]]:
    """Return what a workload looks like, the nearest recipes, and a study file that tries them first.

    Raises:
        WorkloadError: it cannot be imported, or is a function.
    """
    from tuner.training.workloads.load import load

    features = looked_at(load(WorkloadRef(path, str(Path.cwd()), options)), path)
    ranked = suggestion.rank(book.all_recipes(), features, pretrained=pretrained)
    matches = suggestion.alike(ranked)[: suggestion.NEAREST]
    name = re.sub(r"[^a-z0-9]+", "-", path.partition(":")[2].lower()).strip("-")
    return features, matches, suggestion.study_document(name, path, options, matches, features)


def with_recipes(spec: StudySpec, target: Target, takes: frozenset[str] | None) -> StudySpec:
    """Return the spec with the recipes that it asks for among the initial settings of its arms.

    Rates are those for the study's batch size where it is known, and training options of a recipe that the workload
    does not take are left out.

    Raises:
        WorkloadError: ``nearest`` is asked for, and the workload is a function.
    """
    if not spec.known_recipes:
        return spec
    batch = stated_batch(spec.arms[0].default.training)
    found = [book.find_recipe(name) for name in spec.known_recipes if name != NEAREST]
    if NEAREST in spec.known_recipes:
        features = looked_at(target, spec.workload.path)
        batch = batch or features.batch
        found += [recipe for recipe in _nearest(spec, features) if recipe not in found]
    initial = [recipe.initial_setting(batch, takes or ()) for recipe in found]
    return _starting_from(spec, [*initial, *spec.initial_settings])


def _nearest(spec: StudySpec, features: Features) -> list[Published]:
    recipes = book.all_recipes()
    families = dict.fromkeys(arm.family.name for arm in spec.arms)
    ranked = (suggestion.rank(recipes, features, families=(family,)) for family in families)
    return [match.recipe for matches in ranked for match in suggestion.alike(matches)[:PER_FAMILY]]


def stated_batch(training: Mapping[str, Scalar]) -> int | None:
    """Return for how many examples a step the learning rates of a study are stated; None where nobody says.

    >>> stated_batch({"batch_size": 64, "accumulation": 4}), stated_batch({})
    (256, None)
    >>> stated_batch({"batch_size": 64, "accumulation": 4, "batch_reference": 32, "batch_scaling": "linear"})
    32
    """
    values = complete(training)
    if values["batch_scaling"] != "none" and values["batch_reference"]:
        return int(values["batch_reference"])
    return int(values["batch_size"]) * int(values["accumulation"]) or None


def with_earlier(spec: StudySpec, ledger: Ledger) -> StudySpec:
    """Return the spec with the best settings of the studies in ``warm_start`` among the initial ones of its arms.

    Raises:
        StudyNotFound: the database has no study of a name.
        InputError: a study goes the other way, or has nothing for the arms of this one.
    """
    if not spec.warm_start:
        return spec
    families = {arm.family.name for arm in spec.arms}
    found: list[InitialSetting] = []
    for name in spec.warm_start:
        row = ledger.study(name)
        earlier = stored_spec(row.spec, name)
        if earlier.direction != spec.direction:
            raise InputError(
                f"study {spec.name!r}: warm_start names {name!r}, which has to {earlier.direction} {earlier.metric}; "
                f"expected one that has to {spec.direction} its metric, as {spec.metric} here. Leave it out."
            )
        records = StudyRecords.of(earlier, ledger.trials(row), ledger.runs(row, measured=False))
        best = best_settings(records, families, spec.workload.path)
        if not best:
            raise InputError(
                f"study {spec.name!r}: warm_start names {name!r}, which has completed no trial of "
                f"{', '.join(sorted(families))} over its full horizon of {earlier.horizon}; its arms are "
                f"{', '.join(a.arm for a in earlier.arms)}. Run it first, or leave it out."
            )
        found += best
    return _starting_from(spec, [*spec.initial_settings, *found])


def _starting_from(spec: StudySpec, initial: Iterable[InitialSetting]) -> StudySpec:
    """The spec read again with these initial settings; one that is found twice is kept once."""
    distinct: list[dict[str, Any]] = []
    for entry in initial:
        if (data := entry.to_json()) not in distinct:
            distinct.append(data)
    whole = stored_spec({**spec.to_json(), "initial_settings": distinct}, spec.name)
    return replace(whole, storage=spec.storage, tracking=spec.tracking)
