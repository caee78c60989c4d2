"""The study file: the one boundary at which what the user wrote becomes a checked :class:`StudyFile`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

from tuner.catalog.families import FAMILIES, is_family
from tuner.catalog.families import family as family_named
from tuner.catalog.training_options import PRECISIONS
from tuner.config.changes import put_together
from tuner.config.documents import Section, read_yaml
from tuner.config.fidelity import FULL, LADDER, read_fidelity
from tuner.config.initial_settings import read_all
from tuner.config.parts import WrittenTraining, read_training
from tuner.config.renamed import study_with_present_names
from tuner.config.shipped import check_recipe_name, find_space
from tuner.config.space import SearchSpace
from tuner.config.space_files import read_setting, read_written
from tuner.config.spec import (
    ALLOCATIONS,
    DEFAULT_SPACE,
    DIRECTIONS,
    NEAREST,
    ON_A_LADDER,
    SAMPLERS,
    Asked,
    Budget,
    Confirmation,
    Metric,
    Resources,
    StudyFile,
    StudySpec,
)
from tuner.config.widened import read_widen, read_widened
from tuner.config.written import WrittenSetting, WrittenSpace
from tuner.core.errors import InputError
from tuner.core.ports import EXECUTORS
from tuner.core.records import Horizon, WorkloadRef

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")


def read_study_file(path: Path) -> StudyFile:
    """Read a study file; relative spaces and workloads are looked up from the file's and the working folder.

    Raises:
        InputError: naming file, line, key, what was found, what was expected, what to do.
    """
    return read_study(read_yaml(path), near=path.parent)


def read_study(section: Section, near: Path | None = None) -> StudyFile:
    """As :func:`read_study_file`, from a section of any source: a YAML file, keyword arguments, the ledger."""
    section = study_with_present_names(section)
    name = section.text("study")
    if not _NAME.fullmatch(name):
        raise section.error("study", f"is {name!r}", "letters, digits, '.', '_', '-' (60 at most)")
    budget = _budget(section)
    resources, training = _resources_and_training(section)
    written = _space(section, near)
    sampler = section.choice("sampler", SAMPLERS, SAMPLERS[0])
    file = StudyFile(
        name=name,
        workload=_workload(section),
        metric=_metric(section),
        horizon=_horizon(section),
        space=SearchSpace(written.name, written.about, (), written.document),
        written=written,
        budget=budget,
        opened_for=section.integer("opened_for", budget.planned, low=1),
        sampler=sampler,
        fidelity=read_fidelity(section, LADDER if sampler in ON_A_LADDER else FULL),
        allocation=section.choice("allocation", ALLOCATIONS, ALLOCATIONS[0]),
        seed=section.integer("seed", 0, low=0, high=2**31 - 1),
        confirmation=_confirmation(section),
        resources=resources,
        executor=section.choice("executor", EXECUTORS, "ray"),
        checkpoint_seconds=section.number("checkpoint_seconds", 30.0, low=0.0),
        retries=section.integer("retries", 3, low=0),
        stop_after_failures=section.integer("stop_after_failures", 3, low=1),
        written_current=_current(section),
        training=training,
        workload_training=dict(section.section("workload_training", {}).data),
        known_recipes=_recipe_names(section),
        warm_start=_study_names(section, name),
        initial_settings=read_all(section),
        widen=read_widen(section, budget.trials_per_arm, sampler),
        widened=read_widened(section),
        storage=section.text("storage", None),
        tracking=section.text("tracking", None),
    )
    return _checked(section, put_together(file, _arms(section, written), section.guard))


def read_spec(section: Section, near: Path | None = None) -> StudySpec:
    """Read a study that leaves nothing to its workload; as :func:`read_study` otherwise.

    Raises:
        InputError: the metric or the horizon is missing.
    """
    return completed(read_study(section, near))


def completed(file: StudyFile, metric: Metric | None = None, horizon: Horizon | None = None) -> StudySpec:
    """Return the spec of a file, with the metric and the horizon that it leaves open.

    Raises:
        InputError: nobody says them, or the horizon does not fit the rungs that the file asks for.
    """
    metric, horizon = file.metric or metric, file.horizon or horizon
    if metric is None or horizon is None:
        missing = "metric" if metric is None else "horizon"
        raise InputError(f"study {file.name!r}: {missing} is missing. Add the key {missing!r}.")
    file.fidelity.check(horizon)
    shared = {field.name: getattr(file, field.name) for field in fields(Asked)}
    shared["tracking"] = "none" if file.tracking == "none" else None
    return StudySpec(**shared, metric=metric.name, direction=metric.direction, horizon=horizon)


def _checked(section: Section, file: StudyFile) -> StudyFile:
    """The file with its number of rungs; refuse keys that are not there, and parts that do not go together."""
    dimensions = max(len(arm.dimensions) for arm in file.arms)
    file = replace(file, fidelity=file.fidelity.settled(dimensions, file.opened_for))
    section.finish()
    if file.budget.gpu_hours is not None and not file.resources.gpus:
        problem = "is set, but a run takes no GPU" if file.resources.gpus == 0 else "is set, but resources.gpus is not"
        raise section.section("budget").error(
            "gpu_hours", problem, "resources: {gpus: ...} above 0", "Say how much a run takes."
        )
    if file.fidelity.kind == LADDER and file.sampler not in ON_A_LADDER:
        fits = f"one of {', '.join(ON_A_LADDER)} with fidelity: ladder"
        raise section.error("sampler", f"is {file.sampler!r}", fits, "Take one of them, or fidelity: full.")
    if file.horizon is not None:
        section.guard("fidelity", partial(file.fidelity.check, file.horizon))
    if file.sampler == "cmaes":
        _refuse_kinds(section, file)
    return file


def _several(section: Section, key: str) -> tuple[str, ...]:
    """One name or a list of names, none of them twice."""
    raw = section.take(key, [])
    names = [raw] if isinstance(raw, str) else section.texts(key, [])
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise section.error(key, f"names {twice!r} twice", "each name once")
    return tuple(names)


def _recipe_names(section: Section) -> tuple[str, ...]:
    names = _several(section, "known_recipes")
    for name in names:
        if name != NEAREST:
            section.guard("known_recipes", partial(check_recipe_name, name))
    return names


def _study_names(section: Section, own: str) -> tuple[str, ...]:
    names = _several(section, "warm_start")
    if own in names:
        raise section.error("warm_start", f"names {own!r}, this study itself", "earlier studies of the same database")
    return names


def _workload(section: Section) -> WorkloadRef:
    raw = section.take("workload")
    if isinstance(raw, str):
        path, folder, options = raw, "", {}
    else:
        inner = section.section("workload")
        path, folder = inner.text("path"), inner.text("folder", "")
        options = dict(inner.section("options", {}).data)
        inner.finish()
    module, _, attribute = path.partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), *attribute.split(".")]):
        raise section.error("workload", f"is {path!r}", "'module:attribute', such as my_pkg.train:Cifar")
    return WorkloadRef(path, folder or str(Path.cwd()), options)


def _metric(section: Section) -> Metric | None:
    if "metric" not in section:
        section.take("metric", None)
        return None
    inner = section.section("metric")
    metric = Metric(inner.text("name"), inner.choice("direction", DIRECTIONS))
    inner.finish()
    return metric


def _horizon(section: Section) -> Horizon | None:
    if "horizon" not in section:
        section.take("horizon", None)
        return None
    inner = section.section("horizon")
    if len(inner.data) != 1 or next(iter(inner.data)) not in ("steps", "epochs"):
        raise section.error("horizon", f"is {dict(inner.data)!r}", "{steps: N} or {epochs: N}")
    unit = next(iter(inner.data))
    if unit == "steps" and isinstance(inner.data[unit], int):
        return Horizon(inner.integer("steps", low=1), "steps")
    return Horizon(inner.number(unit, low=0.0, above=True), unit)


def _budget(section: Section) -> Budget:
    inner = section.section("budget", {})
    hours = inner.number("hours", None, low=0.0, above=True)
    gpu_hours = inner.number("gpu_hours", None, low=0.0, above=True)
    limited = hours is not None or gpu_hours is not None
    trials = inner.integer("trials_per_arm", None if limited else 12, low=1, high=100_000)
    inner.finish()
    return Budget(trials, hours, gpu_hours)


def _confirmation(section: Section) -> Confirmation:
    inner = section.section("confirmation", {})
    confirmation = Confirmation(
        seeds=inner.integer("seeds", 10, low=2, high=10_000),
        max_runs=inner.integer("max_runs", None, low=0),
        alpha=inner.number("alpha", 0.05, low=0.0, high=0.5, above=True),
        min_effect=inner.number("min_effect", None, low=0.0),
        references=inner.flag("references", True),
        test=inner.flag("test", True),
        extensions=_extensions(inner),
        noise_seeds=inner.integer("noise_seeds", 4, low=0, high=1_000),
    )
    inner.finish()
    return confirmation


def _extensions(section: Section) -> tuple[int, ...]:
    totals = section.take("extensions", [])
    whole = isinstance(totals, list) and all(isinstance(n, int) and not isinstance(n, bool) for n in totals)
    if not whole or any(b <= a for a, b in pairwise([section.data.get("seeds") or 10, *totals])):
        raise section.error(
            "extensions", f"is {totals!r}", "a list of whole numbers that grow, the first above 'seeds'"
        )
    return tuple(totals)


def _resources_and_training(section: Section) -> tuple[Resources, WrittenTraining]:
    """The resources and the training options, the precision among them: its older place is ``resources``."""
    inner = section.section("resources", {})
    resources = Resources(
        cpus=inner.number("cpus", 1.0, low=0.0, above=True),
        gpus=inner.number("gpus", None, low=0.0),
        threads=inner.integer("threads", 1, low=1),
        parallel=inner.integer("parallel", None, low=1),
        device=inner.choice("device", ("auto", "cpu", "cuda"), "auto"),
    )
    precision = inner.choice("precision", PRECISIONS, None)
    inner.finish()
    gpus = resources.gpus
    if gpus and gpus > 1 and gpus != int(gpus):
        raise inner.error("gpus", f"is {gpus:g}", "a share below 1, or a whole number")
    if gpus and resources.device == "cpu":
        raise inner.error("gpus", f"is {gpus:g} with device: cpu", "0", "Remove one of the two.")
    options = section.section("training", {})
    training = read_training(options)
    if precision is not None and "precision" in options.data:
        problem = "stands in resources, too"
        raise options.error("precision", problem, "one of the two", "Remove resources.precision, its older place.")
    if precision is not None:
        training = training.fixing("precision", precision)
    return replace(resources, gpus=0.0) if resources.device == "cpu" else resources, training


def _space(section: Section, near: Path | None) -> WrittenSpace:
    raw = section.take("space", DEFAULT_SPACE)
    if isinstance(raw, Mapping):
        return read_written(section.section("space"), near)
    path = section.guard("space", lambda: find_space(str(raw), near))
    return read_written(read_yaml(path), path.parent)


def _arms(section: Section, written: WrittenSpace) -> list[str] | None:
    """The names of the arms that the study takes; None for all."""
    names: list[str] | None = section.texts("arms", None)
    there = [arm.arm for arm in written.arms]
    missing = [name for name in names or [] if name not in there]
    if missing:
        raise section.error("arms", f"names {missing[0]!r}", f"arms of the space {written.name!r}: {', '.join(there)}")
    return names


def _current(section: Section) -> WrittenSetting | None:
    """The user's own setting; without a schedule its rate is constant."""
    if "current" not in section:
        section.take("current", None)
        return None
    inner = section.section("current")
    raw = inner.take("family")
    name = inner.choice("family", [*FAMILIES, *([raw] if isinstance(raw, str) and is_family(raw) else [])])
    return read_setting(inner, family_named(name), kind="constant")


def _refuse_kinds(section: Section, file: StudyFile) -> None:
    for arm in file.arms:
        if any(d.choices for d in arm.dimensions):
            raise section.error(
                "sampler",
                f"is 'cmaes', but arm {arm.arm!r} chooses among schedule kinds",
                "a space with one fixed kind",
                "Set 'kind: cosine' (say) in the space, or take another sampler.",
            )
