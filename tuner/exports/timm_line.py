"""A setting as options of timm's ``train.py``; what its classes do otherwise than the study's is said, or refused.

Written for timm 1.0.31, whose factories take these options under the same names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from tuner.catalog.families import FAMILIES
from tuner.catalog.families.optimizer_class import DECOUPLED, TimmOptimizer, Values, arguments
from tuner.catalog.schedules import WARMUP_START
from tuner.catalog.training_options import FREEZE, MULTIPLIER, NO_DECAY
from tuner.core.errors import InputError
from tuner.exports import optimizer_code
from tuner.exports.schedule_code import cycles_momentum, drops
from tuner.exports.writing import Export, Plan, header, number

Options: TypeAlias = dict[str, str]
Written: TypeAlias = tuple[Options, list[str]]
"""Options by name without dashes in front (a flag has an empty value), and notes."""


def export(made: Plan) -> Export:
    """Return the command line.

    Raises:
        InputError: timm has no such optimizer or schedule, or nobody says how many epochs there are.
    """
    parts = [_optimizer(made), _schedule(made), _training(made)]
    notes = [note for _, said in parts for note in said]
    if made.training["batch_size"]:
        notes.append("the batch size is one device's: divide it by the number of devices.")
    lines = [f"--{name} {value}".rstrip() for options, _ in parts for name, value in options.items()]
    command = " \\\n    ".join(["python train.py --data-dir DATA --model MODEL", *lines])
    return Export("timm", f"{header(made, notes)}{command}\n", tuple(notes))


# -- the optimizer


def _optimizer(made: Plan) -> Written:
    named = made.row.timm
    if named is None:
        families = ", ".join(name for name, row in FAMILIES.items() if row.timm and not row.looks_ahead)
        raise InputError(
            f"timm takes no optimizer family {made.row.name!r} as tuner trains it; expected one of {families}, or "
            "lookahead over one of them. Export it to torch, and give the optimizer to a loop of your own."
        )
    how, name, ahead = optimizer_code.decay(made), named.name(made.values), made.row.looks_ahead
    options = {"opt": f"lookahead_{name}" if ahead else name, "lr": number(made.rate)}
    options |= {"weight-decay": number(made.values.get("weight_decay", 0.0) or how.own)}
    options |= {"momentum": number(made.values.get("momentum", 0.0))}
    options |= {"opt-eps": number(made.values["eps"])} if "eps" in made.values else {}
    betas = [number(made.values[key]) for key in ("beta1", "beta2", "beta3") if key in made.values]
    options |= {"opt-betas": " ".join(betas)} if betas else {}
    more = optimizer_code.written(arguments(named.arguments, made.values))
    options |= {"opt-kwargs": " ".join(f"{key}={value}" for key, value in more.items())} if more else {}
    return options, [*([named.note] if named.note else []), *_lost_decay(made, named), *_lookahead(made)]


def _lost_decay(made: Plan, named: TimmOptimizer) -> list[str]:
    l2, decoupled = made.values.get("l2", 0.0), made.values.get("weight_decay", 0.0)
    if l2 and decoupled:
        return [f"train.py takes one decay: the L2 penalty {number(l2)} is left out."]
    if l2 and made.row.optimizer.weight_decay == DECOUPLED:
        return [f"the class decays decoupled only: the L2 penalty {number(l2)} is left out."]
    if decoupled and named.l2_only:
        return [f"the class takes --weight-decay as L2; the study's decay of {number(decoupled)} is decoupled."]
    return []


def _lookahead(made: Plan) -> list[str]:
    if not made.row.looks_ahead or (made.values["lookahead_k"], made.values["lookahead_alpha"]) == (6.0, 0.5):
        return []
    k, alpha = number(made.values["lookahead_k"]), number(made.values["lookahead_alpha"])
    return [f"timm looks ahead every 6 steps by 0.5, and has no option for it; the study did every {k} by {alpha}."]


# -- the schedule


def _schedule(made: Plan) -> Written:
    kind = made.schedule.kind.name
    if kind not in _SCHEDULES:
        raise InputError(
            f"timm's train.py has no schedule {kind!r}; expected one of {', '.join(_SCHEDULES)}. Export it to torch."
        )
    epochs, warm, notes = _epochs(made)
    options, said = _SCHEDULES[kind](made.schedule.parameters, epochs - warm, made)
    after = {"epochs": options.pop("epochs", str(epochs - warm))}
    rising: Options = {"warmup-epochs": str(warm)}
    if warm:
        first = made.schedule.kind.shape(0.0, made.schedule.parameters).lr
        rising |= {"warmup-lr": number(made.rate * first * WARMUP_START), "warmup-prefix": ""}
        if made.schedule.warmup_shape != "linear":
            notes.append(f"train.py warms up linearly; the study's warm-up is {made.schedule.warmup_shape}.")
    if cycles_momentum(made):
        notes.append("train.py leaves the momentum alone.")
    return options | after | rising | {"sched-on-updates": ""}, [*notes, *said]


def _epochs(made: Plan) -> tuple[int, int, list[str]]:
    """The epochs in all and those of the warm-up, which train.py counts whole; and what that changes."""
    if made.epochs is None:
        raise InputError(
            "timm's train.py counts epochs, and this horizon is not in epochs; expected how many you train. Give "
            "epochs=N (--epochs N)."
        )
    epochs = max(1, round(made.epochs))
    warm = round(made.schedule.warmup * epochs)
    if made.schedule.warmup and epochs > 1:
        warm = min(max(1, warm), epochs - 1)
    notes = [f"{number(made.epochs)} epochs are rounded to {epochs}."] if epochs != made.epochs else []
    exact = made.schedule.warmup * epochs
    if abs(exact - warm) > 1e-9:
        notes.append(f"train.py counts whole epochs: the warm-up of {number(exact)} is rounded to {warm}.")
    return epochs, warm, notes


def _low(p: Values, made: Plan) -> Options:
    return {"min-lr": number(made.rate * p["end_ratio"])}


def _constant(p: Values, left: int, made: Plan) -> Written:  # noqa: ARG001
    return {"sched": "constant"}, []


def _cosine(p: Values, left: int, made: Plan) -> Written:  # noqa: ARG001
    return {"sched": "cosine", **_low(p, made)}, []


def _linear(p: Values, left: int, made: Plan) -> Written:  # noqa: ARG001
    return {"sched": "poly", "decay-rate": "1", **_low(p, made)}, []


def _polynomial(p: Values, left: int, made: Plan) -> Written:  # noqa: ARG001
    return {"sched": "poly", "decay-rate": number(p["power"]), **_low(p, made)}, []


def _exponential(p: Values, left: int, made: Plan) -> Written:  # noqa: ARG001
    rate = number(p["final_ratio"] ** (1.0 / left))
    return {"sched": "step", "decay-epochs": "1", "decay-rate": rate}, [
        "the rate falls once an epoch, not at each step."
    ]


def _step(p: Values, left: int, made: Plan) -> Written:  # noqa: ARG001
    every = left / (p["drops"] + 1)
    return {"sched": "step", "decay-epochs": number(every), "decay-rate": number(p["gamma"])}, []


def _multistep(p: Values, left: int, made: Plan) -> Written:  # noqa: ARG001
    exact = [place * left for place in drops(p)]
    whole = [max(1, round(place)) for place in exact]
    notes = ["timm drops one update early."]
    if any(abs(a - b) > 1e-9 for a, b in zip(exact, whole, strict=True)):
        notes.append(f"drops after {', '.join(number(place) for place in exact)} epochs are rounded to whole ones.")
    options = {"sched": "multistep", "decay-milestones": " ".join(map(str, whole)), "decay-rate": number(p["gamma"])}
    return options, notes


def _sgdr(p: Values, left: int, made: Plan) -> Written:
    first = left / math.fsum(p["cycle_growth"] ** i for i in range(int(p["cycles"])))
    whole = max(1, round(first))
    cycles = {"lr-cycle-mul": number(p["cycle_growth"]), "lr-cycle-limit": number(p["cycles"]), "lr-cycle-decay": "1"}
    notes = [] if abs(first - whole) < 1e-9 else [f"the first cycle of {number(first)} epochs is rounded to {whole}."]
    return {"sched": "cosine", **_low(p, made), **cycles, "epochs": str(whole)}, notes


def _stable(decay: str) -> Callable[[Values, int, Plan], Written]:
    def written(p: Values, left: int, made: Plan) -> Written:
        share = number(p["decay_fraction"]) if p["decay_fraction"] < 1.0 else str(left)
        return {"sched": "wsd", "decay-epochs": share, "lr-decay-fn": decay, **_low(p, made)}, []

    return written


_SCHEDULES: Mapping[str, Callable[[Values, int, Plan], Written]] = MappingProxyType(
    {
        "constant": _constant,
        "linear": _linear,
        "cosine": _cosine,
        "polynomial": _polynomial,
        "exponential": _exponential,
        "step": _step,
        "multistep": _multistep,
        "sgdr": _sgdr,
        "wsd": _stable("linear"),
        "wsd-cosine": _stable("cosine"),
        "wsd-sqrt": _stable("1-sqrt"),
    }
)


# -- the training options


def _training(made: Plan) -> Written:
    r = made.training
    options: Options = {"batch-size": str(r["batch_size"])} if r["batch_size"] else {}
    options |= {"grad-accum-steps": str(r["accumulation"])} if r["accumulation"] != 1 else {}
    bound = r["clip_norm"] or r["clip_value"]
    options |= {"clip-grad": number(bound), "clip-mode": "norm" if r["clip_norm"] else "value"} if bound else {}
    options |= {"amp": "", "amp-dtype": str(r["precision"])} if r["precision"] != "float32" else {}
    options |= {"smoothing": number(float(r["label_smoothing"]))}
    options |= {"layer-decay": number(r["layer_decay"])} if r["layer_decay"] != 1.0 else {}
    options |= {"model-ema": "", "model-ema-decay": number(r["ema_decay"])} if r["average"] == "ema" else {}
    return options, _left_out(made)


def _left_out(made: Plan) -> list[str]:
    r, decays = made.training, optimizer_code.decay(made).any
    notes = []
    if r["clip_norm"] and r["clip_value"]:
        notes.append(f"train.py clips in one way: clip_value {number(r['clip_value'])} is left out.")
    if r["average"] == "ema":
        notes.append("timm's average starts at its full decay; the study's warms up.")
    if r["average"] == "swa":
        notes.append("train.py has no plain average of weights: average swa is left out.")
    if r["layer_decay"] != 1.0:
        notes.append("layers are what timm's group_matcher of the model says.")
    if r["no_decay"] != "bias+norm" and decays:
        notes.append(f"train.py spares biases and norms from decay, the study {r['no_decay']}.")
    for prefix, what in ((MULTIPLIER, "multipliers"), (FREEZE, "freezing"), (NO_DECAY, "no_decay patterns")):
        if made.patterns(prefix):
            notes.append(f"train.py has no option for {what}: {', '.join(made.patterns(prefix))} left out.")
    return notes
