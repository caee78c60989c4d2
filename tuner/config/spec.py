"""A study's question as values: as it stands in a study file, and, complete and checked, as the ledger keeps it.

How a file is read is in :mod:`tuner.config.study_file`, how a stored document is read in :mod:`tuner.config.stored`,
what changes later in :mod:`tuner.config.changes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tuner.config.fidelity import Fidelity
from tuner.config.initial_settings import InitialSetting
from tuner.config.parts import WrittenTraining
from tuner.config.space import ArmSpace, SearchSpace
from tuner.config.widened import Widening
from tuner.config.written import WrittenSetting, WrittenSpace
from tuner.core.records import Horizon, Setting, WorkloadRef
from tuner.core.values import Scalar, derive_seed

STORED_VERSION = 1
"""The version of the documents that :meth:`StudySpec.to_json` writes; older ones are read by ``stored``."""
SAMPLERS = ("surrogate", "random", "sobol", "tpe", "gp", "cmaes")
ON_A_LADDER = ("surrogate", "random", "sobol")
COMPARE, OPTIMISE = "compare", "optimise"
ALLOCATIONS = (COMPARE, OPTIMISE)
DIRECTIONS = ("maximize", "minimize")
DEFAULT_SPACE = "sgdm-vs-adam"
NEAREST = "nearest"
"""Stands for the recipes of the book that are nearest to the workload."""
UNLIMITED_PLAN = 24
"""With a budget of hours only, the space opens its dimensions as for this many trials per arm."""


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
    """What runs that others made bring along: where they come from, the confirmed finalists, and on which seeds.

    ``finalists`` maps an arm to the index of its trial. An arm that was never confirmed is in it only if none was.
    """

    source: str
    finalists: Mapping[str, int]
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """The value that a study improves, and in which direction: ``maximize`` or ``minimize``."""

    name: str
    direction: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a study file says, and what is stored of it as it stands; the rest is in the two classes below.

    ``written`` is the space as it was written and ``space`` what the study searches of it; ``written_current`` and
    ``current`` are the user's own setting, as written and complete. Each second one follows from the first, from the
    study's training options (``training``) and from those that its workload takes for granted
    (``workload_training``).

    ``known_recipes`` and ``warm_start`` name recipes and earlier studies to start from; ``initial_settings`` are the
    settings that were found there. ``widen`` asks the search to widen the ranges at whose edge it ends, ``widened`` is
    what it widened; ``space`` and ``budget`` are those that follow. ``tracking`` is MLflow's URI in a file; in a spec
    it is None, or ``none`` for a study that is not tracked.
    """

    name: str
    workload: WorkloadRef
    space: SearchSpace
    budget: Budget
    opened_for: int
    written: WrittenSpace = field(default_factory=WrittenSpace)
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
    written_current: WrittenSetting | None = None
    training: WrittenTraining = field(default_factory=WrittenTraining)
    workload_training: Mapping[str, Scalar] = field(default_factory=dict)
    known_recipes: tuple[str, ...] = ()
    warm_start: tuple[str, ...] = ()
    initial_settings: tuple[InitialSetting, ...] = ()
    widen: bool = False
    widened: tuple[Widening, ...] = ()
    tracking: str | None = field(default=None, repr=False)

    @property
    def arms(self) -> tuple[ArmSpace, ...]:
        return self.space.arms


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFile(Asked):
    """What somebody asked, checked as far as the file alone tells.

    A metric or a horizon that is None is the workload's. ``storage`` is where the study shall be kept.
    """

    metric: Metric | None = None
    horizon: Horizon | None = None
    storage: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySpec(Asked):
    """A study's question, complete and checked: what the ledger keeps.

    ``recording`` is None unless the runs were made elsewhere; then no file of ours asked the question.
    """

    metric: str
    direction: str
    horizon: Horizon
    recording: Recording | None = None

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
        """Return plain JSON that :func:`tuner.config.stored.stored_spec` reads back; it holds no URL."""
        return {
            "version": STORED_VERSION,
            "study": self.name,
            "workload": asdict(self.workload),
            "metric": {"name": self.metric, "direction": self.direction},
            "horizon": {self.horizon.unit: self.horizon.amount},
            "space": dict(self.written.document),
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
            "current": None if self.written_current is None else _setting_json(self.written_current),
            "training": dict(self.training.document),
            "workload_training": dict(self.workload_training),
            **self._start_json(),
            "tracking": self.tracking,
        }

    def _start_json(self) -> dict[str, Any]:
        """Where the search starts and what it widens; what is empty is left out."""
        values = {
            "known_recipes": list(self.known_recipes),
            "warm_start": list(self.warm_start),
            "initial_settings": [setting.to_json() for setting in self.initial_settings],
            "widen": self.widen,
            "widened": [widening.to_json() for widening in self.widened],
        }
        return {key: value for key, value in values.items() if value}


def _setting_json(setting: WrittenSetting) -> dict[str, Any]:
    rest = {"schedule": dict(setting.schedule), "training": dict(setting.training.document)}
    return {"family": setting.family, **setting.hyperparameters, **rest}
