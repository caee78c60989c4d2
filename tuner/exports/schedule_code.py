"""A schedule as Python source: a function of the step, and the torch scheduler around it; no optimizer is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from tuner.catalog.schedules import WARMUP_START, Schedule, Values
from tuner.exports.writing import Plan, number

Shape: TypeAlias = Callable[[Values, bool], list[str]]
"""From a kind's parameters, and whether a momentum is cycled, to the lines that return the factor at ``x``."""


def scheduler_code(made: Plan) -> str:
    """Return the source of what ``scheduler`` builds with."""
    if made.schedule.kind.follows_metric:
        return _plateau(made.schedule)
    cycled = cycles_momentum(made)
    return _function(made.schedule, cycled) + (_CYCLED if cycled else "")


def scheduler(made: Plan) -> str:
    """Return the expression that builds the scheduler of ``optimizer``, timed to ``total_steps``."""
    if made.schedule.kind.follows_metric:
        return "Plateau(optimizer, total_steps)"
    if cycles_momentum(made):
        return "CycledLR(optimizer, total_steps)"
    return "torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step, total_steps))"


def cycles_momentum(made: Plan) -> bool:
    """Whether the schedule moves a momentum that the family has."""
    ratio = made.schedule.parameters.get("momentum_ratio", 1.0)
    return ratio != 1.0 and made.row.has_momentum


def _function(schedule: Schedule, cycled: bool) -> str:
    what = "learning rate and momentum" if cycled else "learning rate"
    lines = [
        f"def {'factors' if cycled else 'factor'}(step, total_steps):",
        f'    """{schedule.kind.name}: {what} of update ``step`` (from 0), relative to the optimizer\'s own."""',
    ]
    shape = _SHAPES[schedule.kind.name](schedule.parameters, cycled)
    if schedule.kind.name != "constant" or schedule.warmup:
        lines.append("    x = min(step, total_steps - 1) / total_steps")
    if schedule.warmup:
        warmup = number(schedule.warmup)
        lines += [f"    if x < {warmup}:  # {schedule.warmup_shape} warm-up"]
        lines += [f"        return {_risen(schedule)}{', 1.0' if cycled else ''}"]
        lines += [f"    x = (x - {warmup}) / (1 - {warmup})"] if schedule.kind.name != "constant" else []
    return "\n".join([*lines, *(f"    {line}" for line in shape)]) + "\n"


def _risen(schedule: Schedule) -> str:
    """The warm-up's factor at ``x``, times what the schedule begins with."""
    warmup, start = number(schedule.warmup), number(WARMUP_START)
    first = float(f"{schedule.kind.shape(0.0, schedule.parameters).lr:.15g}")
    rise = {
        "linear": f"{start} + {number(1 - WARMUP_START)} * x / {warmup}",
        "cosine": f"1 - {number(1 - WARMUP_START)} * (1 + math.cos(math.pi * x / {warmup})) / 2",
        "exponential": f"{start} ** (1 - x / {warmup})",
    }[schedule.warmup_shape]
    return rise if first == 1.0 else f"{number(first)} * ({rise})"


# -- shapes


def _between(first: float, last: float, share: str) -> str:
    """From ``first`` to ``last``, as ``share`` goes from 1 to 0."""
    factor = f"({share})" if share.startswith("1 - ") else share
    if last == 0.0:
        return share if first == 1.0 else f"{number(first)} * {factor}"
    return f"{number(last)} + ({number(first)} - {number(last)}) * {factor}"


def _half_wave(u: str, first: float, last: float) -> str:
    return _between(first, last, f"(1 + math.cos(math.pi * {u})) / 2")


def _returned(rate: str, momentum: str, cycled: bool) -> list[str]:
    return [f"rate = {rate}", f"return rate, {momentum}"] if cycled else [f"return {rate}"]


def _constant(p: Values, cycled: bool) -> list[str]:  # noqa: ARG001
    return ["return 1.0"]


def _linear(p: Values, cycled: bool) -> list[str]:  # noqa: ARG001
    return [f"return {_between(1.0, p['end_ratio'], '1 - x')}"]


def _cosine(p: Values, cycled: bool) -> list[str]:  # noqa: ARG001
    return [f"return {_half_wave('x', 1.0, p['end_ratio'])}"]


def _polynomial(p: Values, cycled: bool) -> list[str]:  # noqa: ARG001
    return [f"return {_between(1.0, p['end_ratio'], '(1 - x) ** ' + number(p['power']))}"]


def _exponential(p: Values, cycled: bool) -> list[str]:  # noqa: ARG001
    return [f"return {number(p['final_ratio'])} ** x"]


def _step(p: Values, cycled: bool) -> list[str]:  # noqa: ARG001
    return [f"return {number(p['gamma'])} ** math.floor({number(p['drops'] + 1)} * x + 1e-9)"]


def drops(p: Values) -> tuple[float, ...]:
    """Return where a multistep schedule drops, as shares of what follows the warm-up.

    >>> drops({"first_drop": 0.5, "drop_spacing": 0.5, "drops": 2})
    (0.5, 0.75)
    """
    return tuple(1.0 - (1.0 - p["first_drop"]) * (1.0 - p["drop_spacing"]) ** i for i in range(int(p["drops"])))


def _multistep(p: Values, cycled: bool) -> list[str]:  # noqa: ARG001
    places = ", ".join(number(place) for place in drops(p))
    return [f"return {number(p['gamma'])} ** sum(x >= drop - 1e-9 for drop in [{places}])"]


def _into_cycle(lengths: list[float]) -> list[str]:
    if len(set(lengths)) == 1:
        count = len(lengths)
        return [
            f"cycle = min(math.floor({count} * x + 1e-9), {count - 1})",
            f"u = max(0.0, {count} * x - cycle)  # how far into its cycle",
        ]
    return [
        f"u = x * {number(sum(lengths))}",
        f"for length in [{', '.join(number(length) for length in lengths)}]:  # of the cycles",
        f"    if u < length - 1e-9 or length == {number(lengths[-1])}:",
        "        break",
        "    u -= length",
        "u = max(0.0, u / length)",
    ]


def _sgdr(p: Values, cycled: bool) -> list[str]:  # noqa: ARG001
    lengths = [p["cycle_growth"] ** i for i in range(int(p["cycles"]))]
    return [*_into_cycle(lengths), f"return {_half_wave('u', 1.0, p['end_ratio'])}"]


def _onecycle(p: Values, cycled: bool) -> list[str]:
    rise, start, low = number(p["rise"]), p["start_ratio"], p["momentum_ratio"]
    rising = _returned(_half_wave("u", start, 1.0), _half_wave("u", 1.0, low), cycled)
    falling = _returned(_half_wave("u", 1.0, p["end_ratio"]), _half_wave("u", low, 1.0), cycled)
    up = [f"if x <= {rise}:", f"    u = x / {rise}", *(f"    {line}" for line in rising)]
    return [*up, f"u = (x - {rise}) / (1 - {rise})", *falling]


def _cyclical(p: Values, cycled: bool) -> list[str]:
    base, low = number(p["base_ratio"]), number(p["momentum_ratio"])
    return [
        *_into_cycle([1.0] * int(p["cycles"])),
        "height = 1 - abs(2 * u - 1)",
        *_returned(f"{base} + (1 - {base}) * height", f"1 + ({low} - 1) * height", cycled),
    ]


def _into_decay(p: Values) -> str:
    share = number(p["decay_fraction"])
    return f"u = max(0.0, (x - (1 - {share})) / {share})  # how far into the decay"


def _wsd(p: Values, cycled: bool) -> list[str]:  # noqa: ARG001
    return [_into_decay(p), f"return {_between(1.0, p['end_ratio'], '1 - u')}"]


def _wsd_cosine(p: Values, cycled: bool) -> list[str]:  # noqa: ARG001
    return [_into_decay(p), f"return {_half_wave('u', 1.0, p['end_ratio'])}"]


def _wsd_sqrt(p: Values, cycled: bool) -> list[str]:  # noqa: ARG001
    root = _between(1.0, p["end_ratio"], "1 - math.sqrt(u)")
    return [_into_decay(p), "u = u if u > 1e-9 else 0.0  # the root would blow a rounding error up", f"return {root}"]


def _inverse_sqrt(p: Values, cycled: bool) -> list[str]:  # noqa: ARG001
    scale = number(p["timescale"])
    return [f"return math.sqrt({scale} / ({scale} + x))"]


_SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "constant": _constant,
        "linear": _linear,
        "cosine": _cosine,
        "polynomial": _polynomial,
        "exponential": _exponential,
        "step": _step,
        "multistep": _multistep,
        "sgdr": _sgdr,
        "onecycle": _onecycle,
        "cyclical": _cyclical,
        "wsd": _wsd,
        "wsd-cosine": _wsd_cosine,
        "wsd-sqrt": _wsd_sqrt,
        "inverse-sqrt": _inverse_sqrt,
    }
)


# -- schedulers that torch lacks

_CYCLED = '''

class CycledLR(torch.optim.lr_scheduler.LRScheduler):
    """Sets the learning rate and the momentum (or beta1) of every group; LambdaLR leaves the momentum alone."""

    def __init__(self, optimizer, total_steps):
        self.total_steps = total_steps
        self.momenta = [g["momentum"] if "momentum" in g else g["betas"][0] for g in optimizer.param_groups]
        super().__init__(optimizer)

    def get_lr(self):
        rate, momentum = factors(self.last_epoch, self.total_steps)
        for group, base in zip(self.optimizer.param_groups, self.momenta):
            if "momentum" in group:
                group["momentum"] = base * momentum
            else:
                group["betas"] = (base * momentum, *group["betas"][1:])
        return [base * rate for base in self.base_lrs]
'''


def _plateau(schedule: Schedule) -> str:
    p = schedule.parameters
    factor, patience, least = number(p["factor"]), number(p["patience"]), number(p["min_ratio"])
    rising, early = "", ""
    if schedule.warmup:
        early = f"""
        if step / self.total_steps < {number(schedule.warmup)}:
            return"""
        rising = f"""
        x = min(self.last_epoch, self.total_steps - 1) / self.total_steps
        if x < {number(schedule.warmup)}:  # {schedule.warmup_shape} warm-up
            return [base * ({_risen(schedule)}) for base in self.base_lrs]"""
    return f'''class Plateau(torch.optim.lr_scheduler.LRScheduler):
    """Multiplies the rate by {factor} when nothing has improved for more than {patience} of all steps."""

    def __init__(self, optimizer, total_steps):
        self.total_steps = total_steps
        self.ratio, self.best, self.since = 1.0, None, 0
        super().__init__(optimizer)

    def get_lr(self):{rising}
        return [base * self.ratio for base in self.base_lrs]

    def measured(self, value):
        """Show it what was measured after the steps so far; smaller is better."""
        step = min(self.last_epoch, self.total_steps){early}
        bar = math.inf if self.best is None else self.best - {number(p["threshold"])} * abs(self.best)
        if math.isfinite(value) and value < bar:
            self.best, self.since = value, step
        elif self.best is not None and (step - self.since) / self.total_steps > {patience} + 1e-9:
            self.ratio, self.since = max(self.ratio * {factor}, {least}), step
        for group, rate in zip(self.optimizer.param_groups, self.get_lr()):
            group["lr"] = rate
'''
