"""What ``tuner check`` shows before anything is spent: the space, the plan, the cost. Trains one step of each arm."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from tuner.analysis.verdict.advice import outlook
from tuner.analysis.verdict.family import fewest_trials
from tuner.analysis.verdict.looks import looks_of, smallest_decisive
from tuner.analysis.verdict.plan import plan_cost
from tuner.analysis.widening import MOST, more_trials
from tuner.config.fidelity import LADDER, LEAST, PRUNE
from tuner.config.space import SearchSpace
from tuner.config.spec import OPTIMISE, StudySpec
from tuner.core.records import Assignment, Horizon, Outcome, Phase, RunSpec, Setting
from tuner.core.values import short
from tuner.reporting.initial_table import initial_table
from tuner.reporting.live import clock
from tuner.search.allocation import floor_of
from tuner.search.ladder import FULL_SHARE, design_size
from tuner.search.proposals import split_for

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from tuner.training.workloads.base import Workload

TIMED_STEPS = 20
_OUT_OF_REACH = 0.2


def pages(spec: StudySpec) -> Iterator[RenderableType]:
    """Yield the parts: the question, the space, the plan."""
    from rich.text import Text

    budget = spec.budget
    limits = [f"{budget.trials_per_arm} trials per arm" if budget.trials_per_arm else ""]
    limits += [f"{budget.hours:g} h" if budget.hours else "", f"{budget.gpu_hours:g} GPU-h" if budget.gpu_hours else ""]
    yield Text(
        f"Study {spec.name}: {spec.direction} {spec.metric} of {spec.workload.path}, {spec.horizon} a run, "
        f"{' or '.join(limit for limit in limits if limit)}, sampler {spec.sampler}, seed {spec.seed}"
    )
    yield space_table(spec.space)
    yield Text("\n".join(_search(spec)))
    if spec.widen:
        yield Text(_widening(spec))
    if len(spec.rungs) > 1:
        yield rung_table(spec)
    else:
        yield plan_table(spec)
    yield initial_table(spec)
    yield Text(confirmation(spec))


def space_table(space: SearchSpace) -> Table:
    """Draw every dimension of every arm, whether this budget searches it, and what is fixed."""
    from rich.table import Table

    table = Table(title=f"Space {space.name}: {space.about}", title_justify="left")
    for name in ("arm", "searched", "range", "opened from", "otherwise"):
        table.add_column(name, overflow="fold")
    for arm in space:
        opened = {d.name: d for d in arm.dimensions}
        default = arm.decode({d.name: d.at(0.5) for d in arm.dimensions})
        values = {**default.hyperparameters, **{f"schedule.{k}": v for k, v in default.schedule.items()}}
        values |= {f"training.{k}": v for k, v in default.training.items()}
        for i, d in enumerate(arm.all_dimensions):
            shown = opened.get(d.name, d)
            closed = d.name not in opened
            base = d.name.replace("one_minus_", "")
            value = values.get(d.name, values.get(base, "-"))
            value = 1 - float(value) if base != d.name and value != "-" else value
            fixed = f"{value:.4g}" if isinstance(value, float) else str(value)
            when = "always" if d.opens_at == 1 else f"{d.opens_at} trials"
            row = (arm.arm if i == 0 else "", d.name, str(shown), when, f"fixed: {fixed}" if closed else "searched")
            table.add_row(*row, style="dim" if closed else "")
        for name, value in arm.fixed.items():
            table.add_row("", name, "", "", f"fixed: {short(value)}", style="dim")
        table.add_section()
    return table


def _search(spec: StudySpec) -> Iterator[str]:
    """How long the search's runs train, and how the budget is shared out among the arms."""
    budget, kind = spec.budget.planned, spec.fidelity.kind
    if len(spec.rungs) > 1:
        yield (
            f"Search: fidelity ladder. An arm's {budget} trials are {budget} full runs' worth: settings begin with"
            " short runs, whose schedules are timed to them, and promising ones train again over the full horizon."
        )
    elif kind == LADDER:
        yield (
            f"Search: fidelity ladder, but a horizon of {spec.horizon} leaves no room for a shorter rung (at least"
            f" {Horizon(LEAST[spec.horizon.unit], spec.horizon.unit)}): every run is a full one."
        )
    elif kind == PRUNE:
        yield (
            f"Search: fidelity prune. Full horizons, stopped on the way by the {spec.fidelity.pruner} pruner; an arm's"
            f" {budget} trials are {budget} full runs' worth. A prefix of a decaying schedule is unfair to slow"
            " starters."
        )
    else:
        yield "Search: fidelity full. Every run trains over the full horizon."
    if len(spec.arms) > 1 and spec.allocation == OPTIMISE:
        yield (
            f"Allocation: optimise. Every arm gets {floor_of(budget):g} full runs' worth, then the rest of"
            f" {budget * len(spec.arms)} moves to the arms with the best prospects. The verdict will be about settings"
            " only."
        )
    elif len(spec.arms) > 1:
        yield "Allocation: compare. Every arm gets the same budget."


def rung_table(spec: StudySpec) -> Table:
    """Draw the rungs with their costs, and roughly how many settings of each arm come to which."""
    from rich.table import Table

    first, few = {}, {}
    for arm in spec.arms:
        first[arm.arm] = design_size(spec.budget.planned, spec.rung_costs, len(arm.dimensions))
        few[arm.arm] = round(FULL_SHARE * spec.budget.planned) or 1
    table = Table(title="Rungs of the ladder", title_justify="left")
    for name in ("rung", "horizon", "costs of a full run", "what for"):
        table.add_column(name, justify="left" if name in ("horizon", "what for") else "right", overflow="fold")
    screened = ", ".join(f"{arm} {count}" for arm, count in first.items())
    full = ", ".join(f"{arm} {count}" for arm, count in few.items())
    for rung, (horizon, share) in enumerate(zip(spec.rungs, spec.rung_costs, strict=True)):
        words = "settings that the short runs leave open"
        if rung == 0:
            words = f"about so many settings at first: {screened}; more as the model asks for them"
        elif rung == len(spec.rungs) - 1:
            words = f"at least about so many full runs: {full}; more where short runs mislead"
        table.add_row(str(rung), str(horizon), f"{share:.3g}", words)
    return table


def plan_table(spec: StudySpec) -> Table:
    """Draw how each arm's proposals divide."""
    from rich.table import Table

    table = Table(title="Proposals of each arm", title_justify="left")
    for name in ("arm", "initial settings", "Sobol points", f"model-based ({spec.sampler})", "dimensions"):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for arm in spec.arms:
        parts = split_for(spec.sampler, spec.budget.planned, arm)
        model = str(parts.model) if spec.budget.trials_per_arm else "all others"
        table.add_row(arm.arm, str(parts.initial), str(parts.sobol), model, str(len(arm.dimensions)))
    return table


def _widening(spec: StudySpec) -> str:
    return (
        f"Where the search ends at the edge of a range, it goes on in a wider one: {MOST} times at most, each with"
        f" {more_trials(spec)} more full runs' worth for every arm."
    )


def confirmation(spec: StudySpec) -> str:
    """Say what the verdict will rest on, and what it cannot say."""
    cost = plan_cost(spec, len(spec.arms))
    if not cost.seeds:
        return f"Confirmation: none (max_runs is {spec.confirmation.max_runs}); without it no arm can be called better."
    noise = f"{cost.noise} runs that show the noise between seeds, then " if cost.noise else ""
    text = (
        f"Confirmation: {noise}{len(spec.arms)} finalists on {cost.seeds} fresh seeds ({cost.confirm} runs at most), "
        f"then {cost.references} runs of the default{' and your settings' if spec.current else ''} on the same seeds"
        f" and {cost.test} for the test split: {cost.total} runs at most."
    )
    return "\n".join([text, *_sight(spec), *_families(spec)])


def _sight(spec: StudySpec) -> Iterator[str]:
    """What the planned seeds can tell apart, and whether a tie is within their reach."""
    seen = outlook(spec, len(spec.arms))
    if seen is None or len(spec.arms) < 2:
        return
    needed, worst = smallest_decisive(looks_of(spec, len(spec.arms))[-1].level), "whatever the shape of the noise"
    if seen.seeds < needed:
        yield f"With {seen.seeds} seeds no arm can be called better: that takes {needed} at least."
    elif seen.smallest is None:
        yield f"{seen.seeds} seeds see no difference reliably (in 80 % of studies, {worst})."
    else:
        yield (
            f"{seen.seeds} seeds see in 80 % of studies, {worst}, that one finalist is better if it wins on"
            f" {100 * seen.smallest:.0f} % of the seeds."
        )
    if seen.advised is not None and seen.advised > seen.seeds:
        yield f"To see 75 % as reliably takes {seen.advised} seeds (confirmation.seeds)."
    margin = "" if spec.confirmation.min_effect is None else ", if min_effect is as large"
    yield (
        f"Two equal finalists come out as 'no practical difference' in {100 * seen.ties:.0f} % of studies with a margin"
        f" of one standard deviation of the noise between seeds{margin}."
    )
    if seen.seeds_for_ties is not None and seen.seeds < seen.seeds_for_ties:
        reach = "out of reach" if seen.ties < _OUT_OF_REACH else "unlikely"
        yield (
            f"So a tie is {reach} at {seen.seeds} seeds: {seen.seeds_for_ties} find one in every second study; a"
            " larger confirmation.min_effect, if you can live with it, in more."
        )


def _families(spec: StudySpec) -> Iterator[str]:
    """Whether the claim about families can be assessed: from so many independent trials."""
    if len(spec.arms) < 2:
        return
    if spec.allocation == OPTIMISE:
        return
    if spec.fidelity.kind == PRUNE or len(spec.rungs) > 1:
        yield (
            f"The verdict will be about settings, not families: fidelity: {spec.fidelity.kind} chooses which trials"
            " reach the full horizon, and what is chosen is no sample. To judge families, take fidelity: full."
        )
        return
    least, counts = fewest_trials(spec.confirmation.alpha), {}
    for arm in spec.arms:
        parts = split_for(spec.sampler, spec.budget.planned, arm)
        counts[arm.arm] = parts.sobol + (parts.model if spec.sampler == "random" else 0)
    few = [f"{arm} {count}" for arm, count in counts.items() if count < least]
    if few:
        yield (
            f"The verdict will be about settings, not families: to judge the luck of a search takes {least} independent"
            f" trials per arm (Sobol or random), here {', '.join(few)}. More trials, or sampler: random, give more."
        )


def groups(spec: StudySpec) -> Iterator[RenderableType]:
    """Draw which parameter lands in which param group, for each arm's default; arms that agree share a table.

    Raises:
        WorkloadError: a pattern of the training options matches no parameter.
    """
    from rich.table import Table
    from rich.text import Text

    from tuner.training.environment import seed_everything
    from tuner.training.param_groups import folded
    from tuner.training.workloads.base import Workload
    from tuner.training.workloads.load import load

    target = load(spec.workload)
    if not isinstance(target, Workload):
        yield Text("Param groups: a function makes its model only while it trains.")
        return
    seen: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for arm in spec.arms:
        seed_everything(0)
        seen.setdefault(tuple(_landed(arm.default, target, folded)), []).append(arm.arm)
    for rows, arms in seen.items():
        table = Table(title=f"Param groups of {', '.join(arms)}, with the default's values", title_justify="left")
        for name in ("optimizer", "learning rate", "decay", "tensors", "numbers", "parameters"):
            table.add_column(name, justify="right" if name in ("tensors", "numbers") else "left", overflow="fold")
        for row in rows:
            table.add_row(*row)
        yield table


def _landed(setting: Setting, workload: Workload, folded: Callable[[Sequence[str]], str]) -> Iterator[tuple[str, ...]]:
    import torch

    from tuner.training.optimizers.landing import landings

    workload.place(torch.device("cpu"), setting.training)
    model = workload.model(0)
    for found in landings(workload.optimizer(setting, model, TIMED_STEPS), model):
        rate = "frozen" if found.learning_rate is None else f"{found.learning_rate:g}"
        decay = f"{found.decay:g}" if found.decay else "none"
        yield found.optimizer or "-", rate, decay, str(len(found.names)), f"{found.numbers:,}", folded(found.names)


def timed(spec: StudySpec) -> Mapping[str, tuple[float, float]]:
    """Train a few steps of each arm's default here; return seconds per step and per evaluation, by arm."""
    from tuner.training.run import train, warm_up

    warm_up()
    found = {}
    for arm in spec.arms:
        steps = min(TIMED_STEPS, round(spec.horizon.amount)) if spec.horizon.unit == "steps" else TIMED_STEPS
        probe = RunSpec(
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
        for _ in range(2):  # the first one loads the data
            began, training = time.perf_counter(), train(Assignment(probe, 1))
            evaluations = 0
            try:
                while True:
                    next(training)
                    evaluations += 1
            except StopIteration as end:
                result = end.value
        if result.outcome is Outcome.FAILED:
            from tuner.core.errors import WorkloadError

            raise WorkloadError(
                f"workload {spec.workload.path!r}: a trial of {steps} steps with {arm.arm}'s default {result.outcome}: "
                f"{result.reason}; expected it to train. Mend it first.\n{result.traceback}".rstrip()
            )
        seconds = time.perf_counter() - began
        found[arm.arm] = (
            result.train_seconds / max(result.step, 1),
            result.eval_seconds / max(evaluations, 1),
            seconds,
        )
    return {name: (per_step, per_evaluation) for name, (per_step, per_evaluation, _) in found.items()}


def cost(spec: StudySpec, seconds: Mapping[str, tuple[float, float]]) -> RenderableType:
    """Draw what the study will take, from the timed steps."""
    from rich.table import Table
    from rich.text import Text

    length = _length(spec)
    if length is None:
        return Text(f"Cost: a function says how long {spec.horizon} is only while it trains; one run shows it.")
    steps, evaluations = length
    after = plan_cost(spec, len(spec.arms))
    planned = f" ({spec.budget.planned} trials assumed)" if spec.budget.trials_per_arm is None else ""
    table = Table(title=f"Cost on this machine{planned}, one run at a time", title_justify="left")
    for name in ("arm", "a step", "a run", "the search", "its confirmation"):
        table.add_column(name, justify="left" if name == "arm" else "right")
    total = 0.0
    for arm, (step, evaluation) in seconds.items():
        run = steps * step + evaluations * evaluation
        search, confirm = run * spec.budget.planned, run * (after.seeds + after.noise // len(spec.arms))
        total += search + confirm
        table.add_row(arm, f"{step * 1000:.2f} ms", f"{run:.2f} s", clock(search), clock(confirm))
    rest = (after.references + after.test) * max(steps * s + evaluations * e for s, e in seconds.values())
    table.caption = f"at most {clock(total + rest)} of training in all; divide by the runs that train at once"
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
