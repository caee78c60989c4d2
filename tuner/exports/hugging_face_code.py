"""A setting as ``TrainingArguments``, with ``optimizers=`` beside them where Trainer has no name for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from tuner.catalog.families import SWITCH
from tuner.catalog.families.optimizer_class import Values, arguments
from tuner.exports import optimizer_code
from tuner.exports.torch_code import assembled, common_notes
from tuner.exports.writing import Export, Plan, call, header, literal, number

Named: TypeAlias = tuple[str, dict[str, float | int | str]]
"""The name of a schedule that Trainer has, and its keyword arguments."""

_GROUPED = (
    "Trainer spares from decay what is called bias or norm, the study every tensor of one dimension: check that it is "
    "the same in your model, or pass optimizers= as `tuner export --to torch` builds them."
)
_NEAR = (
    "the arguments alone train nearly the same: their warm-up begins at 0, not at a hundredth of the peak. Where "
    "optimizers= is passed, Trainer does not read optim, learning_rate, weight_decay and lr_scheduler_type."
)


def export(made: Plan) -> Export:
    """Return the arguments; and the code for ``optimizers=(optimizer, scheduler)`` unless they say it all exactly."""
    notes = [note for note in common_notes(made) if not note.startswith("set ")]
    r = made.training
    if r["clip_value"]:
        notes.append(f"Trainer does not clip by value: clip_value {number(r['clip_value'])} needs a callback.")
    if r["average"] != "none":
        notes.append(f"Trainer averages no weights: average {r['average']} needs a callback.")
    if SWITCH in made.row.needs:
        notes.append(
            "Trainer switches the weights when it evaluates; call trainer.optimizer.eval() before you save them."
        )
    by_name = _by_name(made)
    given = _loop(made) | by_name
    if by_name and not made.schedule.warmup:
        notes += [_GROUPED] if optimizer_code.decay(made).any else []
        body = "from transformers import TrainingArguments\n\nargs = " + call("TrainingArguments", given, 0) + "\n"
        return Export("huggingface", header(made, notes) + body, tuple(notes))
    notes += [_NEAR] if by_name else []
    use = "args = " + call("TrainingArguments", given, 0) + "\n" + _use(made)
    text = assembled(made, use, more=("from transformers import Trainer, TrainingArguments",))
    return Export("huggingface", header(made, notes) + text, tuple(notes))


def _use(made: Plan) -> str:
    steps = "" if made.steps else ", total_steps"
    return f'''

def trainer(model{steps}, **rest):
    """Return the Trainer, with the optimizer and the schedule that the study trained."""
    return Trainer(model=model, args=args, optimizers=build(model{steps}), **rest)
'''


def _loop(made: Plan) -> dict[str, str]:
    r = made.training
    given = {"output_dir": '"out"'}
    given |= {"max_steps": str(made.steps)} if made.steps else {}
    given |= {"num_train_epochs": number(made.epochs)} if made.epochs else {}
    given |= {"per_device_train_batch_size": str(r["batch_size"])} if r["batch_size"] else {}
    given |= {"gradient_accumulation_steps": str(r["accumulation"])} if r["accumulation"] != 1 else {}
    given |= {"max_grad_norm": number(float(r["clip_norm"]))}
    given |= {"bf16": "True"} if r["precision"] == "bfloat16" else {}
    given |= {"fp16": "True"} if r["precision"] == "float16" else {}
    return given | ({"label_smoothing_factor": number(r["label_smoothing"])} if r["label_smoothing"] else {})


# -- optimizers that Trainer has by name


def _optimizer(made: Plan) -> dict[str, str] | None:
    """The arguments that say the optimizer; None where none do so exactly."""
    how, named = optimizer_code.decay(made), made.row.trainer
    if named is None or how.is_added or not made.is_plain:
        return None
    if how.any and made.training["no_decay"] != "bias+norm":
        return None
    given = {"optim": f'"{named.optim}"', "learning_rate": number(made.rate), "weight_decay": number(how.own)}
    if named.arguments is not None:
        return given | optimizer_code.written(arguments(named.arguments, made.values))
    rest = ",".join(f"{key}={value}" for key, value in optimizer_code.arguments(made).items())
    return given | ({"optim_args": f'"{rest}"'} if rest else {})


def _by_name(made: Plan) -> dict[str, str]:
    """The arguments that say optimizer and schedule, but for where a warm-up begins; empty where none do."""
    given, found = _optimizer(made), _SCHEDULES.get(made.schedule.kind.name)
    named = None if found is None else found(made.schedule.parameters, made)
    warmup = made.schedule.warmup
    if given is None or named is None or (warmup and made.schedule.warmup_shape != "linear"):
        return {}
    name, options = named
    given["lr_scheduler_type"] = f'"{"constant_with_warmup" if warmup and name == "constant" else name}"'
    given |= {"lr_scheduler_kwargs": literal(options)} if options else {}
    return given | ({"warmup_steps": number(warmup)} if warmup else {})


# -- schedules that Trainer has by name


def _cosine(p: Values, made: Plan) -> Named:  # noqa: ARG001
    return ("cosine_with_min_lr", {"min_lr_rate": p["end_ratio"]}) if p["end_ratio"] else ("cosine", {})


def _linear(p: Values, made: Plan) -> Named | None:
    return _power(1.0, p["end_ratio"], made) if p["end_ratio"] else ("linear", {})


def _polynomial(p: Values, made: Plan) -> Named | None:
    return _power(p["power"], p["end_ratio"], made)


def _power(power: float, end: float, made: Plan) -> Named | None:
    return ("polynomial", {"power": power, "lr_end": made.rate * end}) if end < 1.0 else ("constant", {})


def _restarts(p: Values, made: Plan) -> Named | None:  # noqa: ARG001
    alike = p["end_ratio"] == 0.0 and (p["cycle_growth"] == 1.0 or p["cycles"] == 1)
    return ("cosine_with_restarts", {"num_cycles": int(p["cycles"])}) if alike else None


def _stable(decay: str) -> Callable[[Values, Plan], Named | None]:
    def named(p: Values, made: Plan) -> Named | None:
        """Its decay is counted in steps: exact where the share of all steps is a whole number of them."""
        length = p["decay_fraction"] * (1.0 - made.schedule.warmup) * (made.steps or 0)
        if not made.steps or abs(length - round(length)) > 1e-9:
            return None
        options: dict[str, float | int | str] = {
            "num_decay_steps": round(length),
            "decay_type": decay,
            "min_lr_ratio": p["end_ratio"],
        }
        return "warmup_stable_decay", options

    return named


def _inverse_sqrt(p: Values, made: Plan) -> Named | None:
    scale = p["timescale"] * (1.0 - made.schedule.warmup) * (made.steps or 0)
    whole = made.steps and abs(scale - round(scale)) < 1e-9
    return ("inverse_sqrt", {"timescale": round(scale)}) if whole else None


_SCHEDULES: Mapping[str, Callable[[Values, Plan], Named | None]] = MappingProxyType(
    {
        "constant": lambda p, made: ("constant", {}),  # noqa: ARG005
        "linear": _linear,
        "cosine": _cosine,
        "polynomial": _polynomial,
        "sgdr": _restarts,
        "wsd": _stable("linear"),
        "wsd-cosine": _stable("cosine"),
        "wsd-sqrt": _stable("1-sqrt"),
        "inverse-sqrt": _inverse_sqrt,
    }
)
