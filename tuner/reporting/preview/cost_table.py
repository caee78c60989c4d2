"""What a study will take on this machine: a few steps of each arm are trained and timed, nothing is stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tuner.analysis.verdict.plan import plan_cost
from tuner.config.space import ArmSpace
from tuner.config.spec import StudySpec
from tuner.core.errors import WorkloadError
from tuner.core.records import Assignment, Horizon, Outcome, Phase, RunResult, RunSpec
from tuner.reporting.live import clock

if TYPE_CHECKING:
    from rich.console import RenderableType

TIMED_STEPS = 20


def timed(spec: StudySpec) -> Mapping[str, tuple[float, float]]:
    """Train a few steps of each arm's default here; return seconds per step and per evaluation, by arm.

    Raises:
        WorkloadError: the default of an arm does not train.
    """
    from tuner.training.run import warm_up

    warm_up()
    seconds: dict[str, tuple[float, float]] = {}
    for arm in spec.arms:
        probe = _probe(spec, arm)
        _train(probe)  # the first one loads the data
        result, evaluations = _train(probe)
        if result.outcome is Outcome.FAILED:
            raise WorkloadError(
                f"workload {spec.workload.path!r}: a trial run of {probe.horizon} with {arm.arm}'s default"
                f" {result.outcome}: {result.reason}; expected it to train. Fix it first.\n{result.traceback}".rstrip()
            )
        seconds[arm.arm] = result.train_seconds / max(result.step, 1), result.eval_seconds / max(evaluations, 1)
    return seconds


def _probe(spec: StudySpec, arm: ArmSpace) -> RunSpec:
    """A short run of the arm's default."""
    steps = min(TIMED_STEPS, round(spec.horizon.amount)) if spec.horizon.unit == "steps" else TIMED_STEPS
    return RunSpec(
        study=spec.name,
        arm=arm.arm,
        trial=0,
        phase=Phase.EXPLORE,
        seed=0,
        horizon=Horizon(steps, "steps"),
        setting=arm.default,
        workload=spec.workload,
        metric=spec.metric,
        direction=spec.direction,
        threads=spec.resources.threads,
        device=spec.resources.device,
    )


def _train(probe: RunSpec) -> tuple[RunResult, int]:
    """The result of the run, and how many evaluations it made."""
    from tuner.training.run import train

    training, evaluations = train(Assignment(probe, 1)), 0
    while True:
        try:
            next(training)
        except StopIteration as end:
            return end.value, evaluations
        evaluations += 1


def cost(spec: StudySpec, seconds: Mapping[str, tuple[float, float]]) -> RenderableType:
    """Draw what the study will take, from the timed steps."""
    from rich.table import Table
    from rich.text import Text

    length = _length(spec)
    if length is None:
        return Text(
            f"Cost: not estimated, because only the training function knows how many steps {spec.horizon} take."
        )
    steps, evaluations = length
    after = plan_cost(spec, len(spec.arms))
    planned = f" ({spec.budget.planned} trials assumed)" if spec.budget.trials_per_arm is None else ""
    table = Table(title=f"Cost on this machine{planned}, one run at a time", title_justify="left")
    for name in ("arm", "a step", "a run", "search", "confirmation"):
        table.add_column(name, justify="left" if name == "arm" else "right")
    total = 0.0
    for arm, (step, evaluation) in seconds.items():
        run = steps * step + evaluations * evaluation
        search, confirm = run * spec.budget.planned, run * (after.seeds + after.noise // len(spec.arms))
        total += search + confirm
        table.add_row(arm, f"{step * 1000:.2f} ms", f"{run:.2f} s", clock(search), clock(confirm))
    rest = (after.references + after.test) * max(steps * s + evaluations * e for s, e in seconds.values())
    total_time = clock(total + rest)
    table.caption = f"at most {total_time} of training in total; with several runs at once, divide by their number"
    return table


def _length(spec: StudySpec) -> tuple[int, int] | None:
    """Steps and evaluations of a run of the default at the full horizon; None where only the user's function knows."""
    from tuner.training.environment import choose_device
    from tuner.training.workloads.base import Workload
    from tuner.training.workloads.load import load

    target = load(spec.workload)
    if not isinstance(target, Workload):
        return None if spec.horizon.unit == "epochs" else (round(spec.horizon.amount), 1)
    training = spec.arms[0].default.training
    target.place(choose_device(spec.resources.device), training)
    per_epoch = max(1, target.steps_per_epoch // int(training["accumulation"]))
    steps = spec.horizon.steps(per_epoch)
    return steps, max(1, steps // (target.eval_every_steps or per_epoch))
