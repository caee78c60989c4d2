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


def export(plan: Plan) -> Export:
    """Return the arguments, and the code for ``optimizers=(optimizer, scheduler)`` where they are not exact."""
    notes = [note for note in common_notes(plan) if not note.startswith("set ")]
    r = plan.training
    if r["clip_value"]:
        notes.append(f"Trainer does not clip by value: clip_value {number(r['clip_value'])} needs a callback.")
    if r["average"] != "none":
        notes.append(f"Trainer averages no weights: average {r['average']} needs a callback.")
    if SWITCH in plan.row.needs:
        notes.append(
            "Trainer switches the weights when it evaluates; call trainer.optimizer.eval() before you save them."
        )
    by_name = _by_name(plan)
    given = _loop(plan) | by_name
    if by_name and not plan.schedule.warmup:
        notes += [_GROUPED] if optimizer_code.decay(plan).any else []
        body = "from transformers import TrainingArguments\n\nargs = " + call("TrainingArguments", given, 0) + "\n"
        return Export("huggingface", header(plan, notes) + body, tuple(notes))
    notes += [_NEAR] if by_name else []
    use = "args = " + call("TrainingArguments", given, 0) + "\n" + _use(plan)
    text = assembled(plan, use, more=("from transformers import Trainer, TrainingArguments",))
    return Export("huggingface", header(plan, notes) + text, tuple(notes))


def _use(plan: Plan) -> str:
    steps = "" if plan.steps else ", total_steps"
    return f'''

def trainer(model{steps}, **rest):
    """Return the Trainer, with the optimizer and the schedule that the study trained."""
    return Trainer(model=model, args=args, optimizers=build(model{steps}), **rest)
'''


def _loop(plan: Plan) -> dict[str, str]:
    r = plan.training
    given = {"output_dir": '"out"'}
    given |= {"max_steps": str(plan.steps)} if plan.steps else {}
    given |= {"num_train_epochs": number(plan.epochs)} if plan.epochs else {}
    given |= {"per_device_train_batch_size": str(r["batch_size"])} if r["batch_size"] else {}
    given |= {"gradient_accumulation_steps": str(r["accumulation"])} if r["accumulation"] != 1 else {}
    given |= {"max_grad_norm": number(float(r["clip_norm"]))}
    given |= {"bf16": "True"} if r["precision"] == "bfloat16" else {}
    given |= {"fp16": "True"} if r["precision"] == "float16" else {}
    return given | ({"label_smoothing_factor": number(r["label_smoothing"])} if r["label_smoothing"] else {})


# -- optimizers that Trainer has by name


def _optimizer(plan: Plan) -> dict[str, str] | None:
    """Return the arguments that name the optimizer; None where Trainer has none that trains exactly the same."""
    how, named = optimizer_code.decay(plan), plan.row.trainer
    if named is None or how.is_added or not plan.is_plain:
        return None
    if how.any and plan.training["no_decay"] != "bias+norm":
        return None
    given = {"optim": f'"{named.optim}"', "learning_rate": number(plan.rate), "weight_decay": number(how.own)}
    if named.arguments is not None:
        return given | optimizer_code.written(arguments(named.arguments, plan.values))
    rest = ",".join(f"{key}={value}" for key, value in optimizer_code.arguments(plan).items())
    return given | ({"optim_args": f'"{rest}"'} if rest else {})


def _by_name(plan: Plan) -> dict[str, str]:
    """Return the arguments that name optimizer and schedule, exact but for where a warm-up begins; or nothing."""
    given, naming = _optimizer(plan), _SCHEDULES.get(plan.schedule.kind.name)
    named = None if naming is None else naming(plan.schedule.parameters, plan)
    warmup = plan.schedule.warmup
    if given is None or named is None or (warmup and plan.schedule.warmup_shape != "linear"):
        return {}
    name, options = named
    given["lr_scheduler_type"] = f'"{"constant_with_warmup" if warmup and name == "constant" else name}"'
    given |= {"lr_scheduler_kwargs": literal(options)} if options else {}
    return given | ({"warmup_steps": number(warmup)} if warmup else {})


# -- schedules that Trainer has by name


def _cosine(p: Values, plan: Plan) -> Named:  # noqa: ARG001
    return ("cosine_with_min_lr", {"min_lr_rate": p["end_ratio"]}) if p["end_ratio"] else ("cosine", {})


def _linear(p: Values, plan: Plan) -> Named | None:
    return _power(1.0, p["end_ratio"], plan) if p["end_ratio"] else ("linear", {})


def _polynomial(p: Values, plan: Plan) -> Named | None:
    return _power(p["power"], p["end_ratio"], plan)


def _power(power: float, end: float, plan: Plan) -> Named | None:
    return ("polynomial", {"power": power, "lr_end": plan.rate * end}) if end < 1.0 else ("constant", {})


def _restarts(p: Values, plan: Plan) -> Named | None:  # noqa: ARG001
    alike = p["end_ratio"] == 0.0 and (p["cycle_growth"] == 1.0 or p["cycles"] == 1)
    return ("cosine_with_restarts", {"num_cycles": int(p["cycles"])}) if alike else None


def _stable(decay: str) -> Callable[[Values, Plan], Named | None]:
    def named(p: Values, plan: Plan) -> Named | None:
        """Its decay is counted in steps: exact where the share of all steps is a whole number of them."""
        length = p["decay_fraction"] * (1.0 - plan.schedule.warmup) * (plan.steps or 0)
        if not plan.steps or abs(length - round(length)) > 1e-9:
            return None
        options: dict[str, float | int | str] = {
            "num_decay_steps": round(length),
            "decay_type": decay,
            "min_lr_ratio": p["end_ratio"],
        }
        return "warmup_stable_decay", options

    return named


def _inverse_sqrt(p: Values, plan: Plan) -> Named | None:
    scale = p["timescale"] * (1.0 - plan.schedule.warmup) * (plan.steps or 0)
    whole = plan.steps and abs(scale - round(scale)) < 1e-9
    return ("inverse_sqrt", {"timescale": round(scale)}) if whole else None


_SCHEDULES: Mapping[str, Callable[[Values, Plan], Named | None]] = MappingProxyType(
    {
        "constant": lambda p, plan: ("constant", {}),  # noqa: ARG005
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
