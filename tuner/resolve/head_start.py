"""Where a study starts from: recipes of the book, and the best settings of earlier studies in its database.

They are looked up once, when the study is made; from then on its own spec holds them, whatever becomes of book and
studies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tuner.analysis.searched.best_settings import best_settings
from tuner.catalog.training_options import complete
from tuner.config.changes import with_initial_settings
from tuner.config.initial_settings import InitialSetting
from tuner.config.spec import NEAREST, StudySpec
from tuner.config.stored import stored_spec
from tuner.core.errors import InputError
from tuner.core.values import Scalar
from tuner.recipes import book, suggestion
from tuner.recipes.book import Published
from tuner.recipes.suggestion import Features
from tuner.resolve.nearest import looked_at
from tuner.storage.ledger import Ledger
from tuner.study_records import StudyRecords

if TYPE_CHECKING:
    from tuner.training.workloads.load import Target

PER_FAMILY = 2
"""So many of the nearest recipes each arm's family gets."""


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
    recipes = [book.find_recipe(name) for name in spec.known_recipes if name != NEAREST]
    if NEAREST in spec.known_recipes:
        features = looked_at(target, spec.workload.path)
        batch = batch or features.batch
        recipes += [recipe for recipe in _nearest(spec, features) if recipe not in recipes]
    initial = [recipe.initial_setting(batch, takes or ()) for recipe in recipes]
    return with_initial_settings(spec, [*initial, *spec.initial_settings])


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
    earlier_ones: list[InitialSetting] = []
    for name in spec.warm_start:
        row = ledger.study(name)
        earlier = stored_spec(row.spec, name)
        if earlier.direction != spec.direction:
            raise InputError(
                f"study {spec.name!r}: warm_start names {name!r}, which has to {earlier.direction} {earlier.metric}; "
                f"expected one that has to {spec.direction} its metric, as {spec.metric} here. Leave it out."
            )
        records = StudyRecords(earlier, tuple(ledger.trials(row)), tuple(ledger.runs(row, measured=False)))
        best = best_settings(records, families, spec.workload.path)
        if not best:
            raise InputError(
                f"study {spec.name!r}: warm_start names {name!r}, which has completed no trial of "
                f"{', '.join(sorted(families))} over its full horizon of {earlier.horizon}; its arms are "
                f"{', '.join(a.arm for a in earlier.arms)}. Run it first, or leave it out."
            )
        earlier_ones += best
    return with_initial_settings(spec, [*spec.initial_settings, *earlier_ones])
