"""The study file: the one boundary at which what the user wrote becomes a checked ``StudySpec``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from tuner.catalog.families import FAMILIES, is_family
from tuner.catalog.families import family as family_named
from tuner.catalog.training_options import PRECISIONS
from tuner.config.documents import Section, read_yaml
from tuner.config.fidelity import FULL, LADDER, Fidelity, read_fidelity
from tuner.config.initial_settings import InitialSetting, read_all, with_initial_settings
from tuner.config.renamed import study_with_present_names
from tuner.config.shipped import check_recipe_name, find_space
from tuner.config.space import TRAINING, ArmSpace, SearchSpace
from tuner.config.space_files import Part, read_setting, read_space, read_training, with_current
from tuner.config.widened import Widening, read_widen, read_widened, with_widened
from tuner.core.ports import EXECUTORS
from tuner.core.records import Horizon, Setting, WorkloadRef
from tuner.core.values import Scalar, derive_seed

SAMPLERS = ("surrogate", "random", "sobol", "tpe", "gp", "cmaes")
ON_A_LADDER = ("surrogate", "random", "sobol")
COMPARE, OPTIMISE = "compare", "optimise"
ALLOCATIONS = (COMPARE, OPTIMISE)
DIRECTIONS = ("maximize", "minimize")
DEFAULT_SPACE = "sgdm-vs-adam"
NEAREST = "nearest"
"""Instead of a recipe's name: those of the book that are nearest to the workload."""
UNLIMITED_PLAN = 24
"""With a budget of hours only, the space is opened as for so many trials per arm."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")


@dataclass(frozen=True, slots=True)
class Budget:
    """When the search ends: trials per arm, hours, GPU-hours, whichever comes first; None is no limit."""

    trials_per_arm: int | None
    hours: float | None = None
    gpu_hours: float | None = None

    @property
    def planned(self) -> int:
        return self.trials_per_arm or UNLIMITED_PLAN


@dataclass(frozen=True, slots=True)
class Confirmation:
    """How finalists are compared: how many fresh seeds, at most how many runs, with which error rate.

    ``min_effect`` is the smallest difference of the metric that matters in practice; None takes one standard
    deviation of the seed noise, measured on ``noise_seeds`` extra runs of each finalist that never enter the verdict
    (0: on the compared runs themselves). ``references`` also trains the family's default and the user's current
    settings on the same seeds, so that the gain over them is measured and not guessed. ``extensions`` are the
    totals of seeds after each later extension; each is one more look at the data, paid for by the rule.
    """

    seeds: int = 10
    max_runs: int | None = None
    alpha: float = 0.05
    min_effect: float | None = None
    references: bool = True
    test: bool = True
    extensions: tuple[int, ...] = ()
    noise_seeds: int = 4

    @property
    def total(self) -> int:
        """Seeds per finalist, extensions included."""
        return max((self.seeds, *self.extensions))

    def seeds_for(self, arms: int) -> int:
        """How many seeds each of so many finalists gets under the cap."""
        return self.total if self.max_runs is None else min(self.total, self.max_runs // max(arms, 1))


@dataclass(frozen=True, slots=True)
class Resources:
    """What one run takes, and how many runs train at once (None: as many as fit).

    ``gpus`` None is one where the cluster has GPUs and ``device`` is not ``cpu``, else none.
    """

    cpus: float = 1.0
    gpus: float | None = None
    threads: int = 1
    parallel: int | None = None
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Recording:
    """What runs that others made bring along: whence they come, the finalists that they confirmed, on which seeds.

    ``finalists`` maps an arm to the index of its trial. An arm that was never confirmed is in it only if none was.
    """

    source: str
    finalists: Mapping[str, int]
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StudySpec:
    """The user's question, complete and checked. ``storage`` and ``tracking`` never reach the ledger.

    ``recording`` is None unless the runs were made elsewhere; then no file of ours asked the question. ``training`` and
    ``current_training`` are what the study file says of them, ``workload_training`` what the workload takes
    for granted; the arms of ``space`` and the setting ``current`` hold what follows. ``known_recipes`` and
    ``warm_start`` name recipes and earlier studies to start from, ``initial_settings`` holds those that were found
    there, once they are looked up. ``widen`` asks the search to widen the ranges at whose edge it ends, ``widened``
    holds what it widened; ``space`` and ``budget`` are those that follow.
    """

    name: str
    workload: WorkloadRef
    horizon: Horizon
    space: SearchSpace
    budget: Budget
    opened_for: int
    metric: str = ""
    direction: str = ""
    sampler: str = SAMPLERS[0]
    fidelity: Fidelity = field(default_factory=Fidelity)
    allocation: str = ALLOCATIONS[0]
    seed: int = 0
    confirmation: Confirmation = field(default_factory=Confirmation)
    resources: Resources = field(default_factory=Resources)
    executor: str = "ray"
    checkpoint_seconds: float = 30.0
    retries: int = 3
    stop_after_failures: int = 3
    current: Setting | None = None
    current_training: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    workload_training: Mapping[str, Scalar] = field(default_factory=dict)
    known_recipes: tuple[str, ...] = ()
    warm_start: tuple[str, ...] = ()
    initial_settings: tuple[InitialSetting, ...] = ()
    widen: bool = False
    widened: tuple[Widening, ...] = ()
    recording: Recording | None = None
    storage: str | None = field(default=None, repr=False)
    tracking: str | None = field(default=None, repr=False)

    @property
    def arms(self) -> tuple[ArmSpace, ...]:
        return self.space.arms

    @property
    def sign(self) -> int:
        """+1 where more is better, -1 where less is."""
        return 1 if self.direction == "maximize" else -1

    @property
    def rungs(self) -> tuple[Horizon, ...]:
        """The horizons of the search, rising; the last one is the full horizon, and often the only one."""
        return self.fidelity.ladder(self.horizon)

    @property
    def rung_costs(self) -> tuple[float, ...]:
        """What a run on each rung costs, as a share of a full run."""
        return tuple(rung.amount / self.horizon.amount for rung in self.rungs)

    @property
    def search_seed(self) -> int:
        """The training seed that all runs of the search share (common random numbers across arms)."""
        return derive_seed(self.seed, "search")

    def confirm_seed(self, finalists: Mapping[str, int], index: int) -> int:
        """Seed ``index`` of the verdict: a function of the finalists, so it cannot exist before they are fixed."""
        return derive_seed(self.seed, "confirm", sorted(finalists.items()), index)

    def noise_seed(self, finalists: Mapping[str, int], index: int) -> int:
        """Seed ``index`` on which the finalists show their noise; never one of the verdict's."""
        return derive_seed(self.seed, "noise", sorted(finalists.items()), index)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that :func:`read_spec` reads back; without the URLs of storage and tracking."""
        return {
            "study": self.name,
            "workload": {
                "path": self.workload.path,
                "folder": self.workload.folder,
                "options": dict(self.workload.options),
            },
            "metric": {"name": self.metric, "direction": self.direction} if self.metric else None,
            "horizon": {self.horizon.unit: self.horizon.amount} if self.horizon.amount else None,
            "space": dict(self.space.document),
            "arms": [arm.arm for arm in self.arms],
            "opened_for": self.opened_for,
            "budget": asdict(self.budget),
            "sampler": self.sampler,
            "fidelity": self.fidelity.to_json(),
            "allocation": self.allocation,
            "seed": self.seed,
            "confirmation": {**asdict(self.confirmation), "extensions": list(self.confirmation.extensions)},
            "resources": asdict(self.resources),
            "executor": self.executor,
            "checkpoint_seconds": self.checkpoint_seconds,
            "retries": self.retries,
            "stop_after_failures": self.stop_after_failures,
            "current": _setting_json(self.current, self.current_training),
            "training": dict(self.training),
            "workload_training": dict(self.workload_training),
            **self._where_json(),
            "tracking": "none" if self.tracking == "none" else None,
        }

    def _where_json(self) -> dict[str, Any]:
        """Where the search starts and what it widens; nothing where its space alone says it, as it always did."""
        found = {
            "known_recipes": list(self.known_recipes),
            "warm_start": list(self.warm_start),
            "initial_settings": [setting.to_json() for setting in self.initial_settings],
            "widen": self.widen,
            "widened": [widening.to_json() for widening in self.widened],
        }
        return {key: value for key, value in found.items() if value}

    def measuring(self, metric: str, direction: str) -> StudySpec:
        return replace(self, metric=metric, direction=direction)


def read_spec_file(path: Path) -> StudySpec:
    """Read a study file; relative spaces and workloads are looked up from the file's and the working folder.

    Raises:
        InputError: naming file, line, key, what was found, what was expected, what to do.
    """
    return read_spec(read_yaml(path), near=path.parent)


def stored_spec(spec: Mapping[str, Any], name: str) -> StudySpec:
    """Read back what the ledger keeps of a study file; one from before the ladder trained every run in full."""
    return read_spec(Section({"fidelity": FULL, **spec}, f"study {name!r} in the database"))


def read_spec(section: Section, near: Path | None = None) -> StudySpec:
    """As :func:`read_spec_file`, from a section of any source (a YAML file, keyword arguments, the ledger)."""
    section = study_with_present_names(section)
    name = section.text("study")
    if not _NAME.fullmatch(name):
        raise section.error("study", f"is {name!r}", "letters, digits, '.', '_', '-' (60 at most)")
    budget = _budget(section)
    opened_for = section.integer("opened_for", budget.planned, low=1)
    confirmation = _confirmation(section)
    resources, precision = _resources(section)
    ours = section.section("training", {})
    said = read_training(ours)
    taken = dict(section.section("workload_training", {}).data)
    if precision is not None and "precision" in ours.data:
        found = "stands in resources, too"
        raise ours.error("precision", found, "one of the two", "Remove resources.precision, its older place.")
    if precision is not None:
        said = Part(said.dimensions, {**said.fixed, TRAINING + "precision": precision})
    space = _space(section, near, opened_for, said, taken)
    current, own = _current(section, {**taken, **{key.removeprefix(TRAINING): v for key, v in said.fixed.items()}})
    if current is not None:
        space = section.guard("current", lambda: with_current(space, current))
    initial = read_all(section)
    space = section.guard("initial_settings", lambda: with_initial_settings(space, initial, said))
    widened = read_widened(section)
    space = with_widened(space, widened)
    metric, direction = _metric(section)
    spec = StudySpec(
        name=name,
        workload=_workload(section),
        horizon=_horizon(section),
        space=space,
        budget=budget,
        opened_for=opened_for,
        metric=metric,
        direction=direction,
        sampler=(sampler := section.choice("sampler", SAMPLERS, SAMPLERS[0])),
        fidelity=read_fidelity(section, LADDER if sampler in ON_A_LADDER else FULL).settled(
            max(len(arm.dimensions) for arm in space.arms), opened_for
        ),
        allocation=section.choice("allocation", ALLOCATIONS, ALLOCATIONS[0]),
        seed=section.integer("seed", 0, low=0, high=2**31 - 1),
        confirmation=confirmation,
        resources=resources,
        executor=section.choice("executor", EXECUTORS, "ray"),
        checkpoint_seconds=section.number("checkpoint_seconds", 30.0, low=0.0),
        retries=section.integer("retries", 3, low=0),
        stop_after_failures=section.integer("stop_after_failures", 3, low=1),
        current=current,
        current_training=own,
        training=dict(ours.data) | ({} if precision is None else {"precision": precision}),
        workload_training=taken,
        known_recipes=_recipe_names(section),
        warm_start=_study_names(section, name),
        initial_settings=initial,
        widen=read_widen(section, budget.trials_per_arm, sampler),
        widened=widened,
        storage=section.text("storage", None),
        tracking=section.text("tracking", None),
    )
    section.finish()
    if budget.gpu_hours is not None and not spec.resources.gpus:
        found = "is set, but a run takes no GPU" if spec.resources.gpus == 0 else "is set, but resources.gpus is not"
        raise section.section("budget").error(
            "gpu_hours", found, "resources: {gpus: ...} above 0", "Say how much a run takes."
        )
    _check_search(section, spec)
    return spec


def _check_search(section: Section, spec: StudySpec) -> None:
    """Refuse samplers where they cannot work."""
    if spec.fidelity.kind == LADDER and spec.sampler not in ON_A_LADDER:
        fits = f"one of {', '.join(ON_A_LADDER)} with fidelity: ladder"
        raise section.error("sampler", f"is {spec.sampler!r}", fits, "Take one of them, or fidelity: full.")
    section.guard("fidelity", partial(spec.fidelity.check, spec.horizon))
    if spec.sampler == "cmaes":
        _refuse_kinds(section, spec)


def _several(section: Section, key: str) -> tuple[str, ...]:
    """One name or a list of names, none of them twice."""
    found = section.take(key, [])
    names = [found] if isinstance(found, str) else section.texts(key, [])
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


def _metric(section: Section) -> tuple[str, str]:
    if "metric" not in section:
        section.take("metric", None)
        return "", ""
    inner = section.section("metric")
    found = inner.text("name"), inner.choice("direction", DIRECTIONS)
    inner.finish()
    return found


def _horizon(section: Section) -> Horizon:
    """The horizon, or 0 steps where the workload has to say it."""
    if "horizon" not in section:
        section.take("horizon", None)
        return Horizon(0, "steps")
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
    found = Confirmation(
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
    return found


def _extensions(section: Section) -> tuple[int, ...]:
    found = section.take("extensions", [])
    whole = isinstance(found, list) and all(isinstance(n, int) and not isinstance(n, bool) for n in found)
    if not whole or any(b <= a for a, b in pairwise([section.data.get("seeds") or 10, *found])):
        raise section.error("extensions", f"is {found!r}", "a list of whole numbers that grow, the first above 'seeds'")
    return tuple(found)


def _resources(section: Section) -> tuple[Resources, str | None]:
    """The resources, and the precision where studies from before the training options have it."""
    inner = section.section("resources", {})
    found = Resources(
        cpus=inner.number("cpus", 1.0, low=0.0, above=True),
        gpus=inner.number("gpus", None, low=0.0),
        threads=inner.integer("threads", 1, low=1),
        parallel=inner.integer("parallel", None, low=1),
        device=inner.choice("device", ("auto", "cpu", "cuda"), "auto"),
    )
    precision = inner.choice("precision", PRECISIONS, None)
    inner.finish()
    if found.gpus and found.gpus > 1 and found.gpus != int(found.gpus):
        raise inner.error("gpus", f"is {found.gpus:g}", "a share below 1, or a whole number")
    if found.gpus and found.device == "cpu":
        raise inner.error("gpus", f"is {found.gpus:g} with device: cpu", "0", "Remove one of the two.")
    return replace(found, gpus=0.0) if found.device == "cpu" else found, precision


def _space(section: Section, near: Path | None, trials: int, ours: Part, workload: Mapping[str, Scalar]) -> SearchSpace:
    only = section.texts("arms", None)
    raw = section.take("space", DEFAULT_SPACE)
    if isinstance(raw, Mapping):
        space = read_space(section.section("space"), only, ours, workload, near)
    else:
        found = section.guard("space", lambda: find_space(str(raw), near))
        space = read_space(read_yaml(found), only, ours, workload, found.parent)
    missing = [arm for arm in only or [] if arm not in {a.arm for a in space.arms}]
    if missing:
        known = ", ".join(str(key) for key in space.document["arms"])
        raise section.error("arms", f"names {missing[0]!r}", f"arms of the space {space.name!r}: {known}")
    opened = replace(space, arms=tuple(replace(arm, trials=trials) for arm in space.arms))
    for arm in opened.arms:
        if not arm.dimensions:
            first = min(d.opens_at for d in arm.all_dimensions)
            raise section.error(
                "space",
                f"opens no setting of arm {arm.arm!r} with {trials} trials per arm",
                f"a budget of at least {first} trials per arm",
                "Raise trials_per_arm, or lower 'opens_at' of the learning rate.",
            )
    return opened


def _current(section: Section, base: Mapping[str, Scalar]) -> tuple[Setting | None, Mapping[str, Any]]:
    """The user's own setting, complete, and what was written of its training options."""
    if "current" not in section:
        section.take("current", None)
        return None, {}
    inner = section.section("current")
    raw = inner.take("family")
    name = inner.choice("family", [*FAMILIES, *([raw] if isinstance(raw, str) and is_family(raw) else [])])
    found = read_setting(inner, family_named(name), base, kind="constant")
    return found, dict(inner.section("training", {}).data)


def _refuse_kinds(section: Section, spec: StudySpec) -> None:
    for arm in spec.arms:
        if any(d.choices for d in arm.dimensions):
            raise section.error(
                "sampler",
                f"is 'cmaes', but arm {arm.arm!r} chooses among schedule kinds",
                "a space with one fixed kind",
                "Set 'kind: cosine' (say) in the space, or take another sampler.",
            )


def _setting_json(setting: Setting | None, training: Mapping[str, Any]) -> dict[str, Any] | None:
    if setting is None:
        return None
    rest = {"schedule": dict(setting.schedule), "training": dict(training)}
    return {"family": setting.family, **setting.hyperparameters, **rest}
