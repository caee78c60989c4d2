"""A setting as a torch program: param groups, optimizer, schedule and the loop around them; needs nothing of tuner."""

from __future__ import annotations

import re

from tuner.catalog.families import SWITCH
from tuner.exports.groups_code import groups_code, is_single
from tuner.exports.optimizer_code import class_code, constructor, imports
from tuner.exports.schedule_code import scheduler, scheduler_code
from tuner.exports.writing import Export, Plan, header, number

_BATCH_NORM = (
    "the weights that are evaluated are not those that were trained: give BatchNorm its statistics anew, with "
    "torch.optim.swa_utils.update_bn"
)


def export(plan: Plan) -> Export:
    """Return the program: ``build`` for a loop of one's own, ``train`` as the loop that the study trained with."""
    notes = tuple(common_notes(plan))
    text = header(plan, notes) + assembled(plan, loop_code(plan))
    return Export("torch", text, notes)


def common_notes(plan: Plan) -> list[str]:
    """Return what every program leaves to the reader."""
    notes = [f"set {plan.batch} yourself."] if plan.batch else []
    if plan.schedule.kind.follows_metric:
        followed = {"train_loss": "the mean training loss since the last evaluation"}
        value = followed.get(str(plan.schedule.signal), "the validation metric (negated if more is better)")
        notes.append(f"call scheduler.measured(value) after each evaluation, with {value}.")
    if plan.training["average"] != "none" or SWITCH in plan.row.needs:
        notes.append(f"{_BATCH_NORM}.")
    return notes


def assembled(plan: Plan, *parts: str, more: tuple[str, ...] = ()) -> str:
    """Return a whole program: imports, groups, class, schedule, ``build``, and the given parts."""
    body = [groups_code(plan), class_code(plan), scheduler_code(plan), build_code(plan), *parts]
    code = "\n\n".join(part for part in body if part)
    return f"{_imports(plan, code, more)}\n\n{code}"


def total(plan: Plan) -> str:
    """Return the argument ``total_steps`` as source, with its default where it is known."""
    return f"total_steps={plan.steps}" if plan.steps else "total_steps"


def build_code(plan: Plan) -> str:
    """Return the source of ``build(model, total_steps)``."""
    params = "model.parameters()" if is_single(plan) else "param_groups(model)"
    switch = "    optimizer.train()\n" if SWITCH in plan.row.needs else ""
    return f'''def build(model, {total(plan)}):
    """Return the optimizer and its schedule, timed to ``total_steps`` optimizer steps."""
    optimizer = {constructor(plan, params, is_single(plan))}
{switch}    return optimizer, {scheduler(plan)}
'''


def loop_code(plan: Plan) -> str:
    """Return the source of ``train(model, batches, loss_of, total_steps)``."""
    r, count = plan.training, int(plan.training["accumulation"])
    every = f"{count} batches" if count > 1 else "a batch"
    result = "average.module" if r["average"] != "none" else "model"
    lines = ["optimizer, scheduler = build(model, total_steps)", "batches = iter(batches)"]
    scaled = r["precision"] == "float16"
    if r["precision"] != "float32":
        lines.append("device = next(model.parameters()).device.type")
    if scaled:
        lines.append("scaler = torch.amp.GradScaler(device)")
    if r["average"] != "none":
        rule = ", avg_fn=ema" if r["average"] == "ema" else ""
        lines.append(f"average = torch.optim.swa_utils.AveragedModel(model{rule})")
    lines += ["model.train()", f"for {'step' if r['average'] == 'swa' else '_'} in range(total_steps):"]
    lines += [f"    {line}" for line in (*_gradients(plan, count), *_update(plan))]
    lines += ["optimizer.eval()"] if SWITCH in plan.row.needs else []
    body = "\n".join(f"    {line}" for line in [*lines, f"return {result}"])
    averaging = average_code(plan)
    return (
        (averaging + "\n\n" if averaging else "")
        + f'''def train(model, batches, loss_of, {total(plan)}):
    """Train with {every} for each step; ``loss_of(model, batch)`` is the mean loss of a batch."""
{body}
'''
    )


def average_code(plan: Plan) -> str:
    """Return the source of the exponential average's rule; empty where there is none."""
    if plan.training["average"] != "ema":
        return ""
    return f'''def ema(average, weight, count):
    """The decay warms up, so that a short run is not averaged with its initialisation."""
    decay = min({number(plan.training["ema_decay"])}, (2 + int(count)) / (11 + int(count)))
    return torch.lerp(average, weight, 1 - decay)
'''


def _gradients(plan: Plan, count: int) -> list[str]:
    precision = str(plan.training["precision"])
    loss = "loss_of(model, next(batches))" + (f" / {count}" if count > 1 else "")
    lines = [f"loss = {loss}"]
    if precision != "float32":
        lines = [f"with torch.autocast(device, dtype=torch.{precision}):", f"    loss = {loss}"]
    lines.append("scaler.scale(loss).backward()" if precision == "float16" else "loss.backward()")
    return [f"for _ in range({count}):", *(f"    {line}" for line in lines)] if count > 1 else lines


def _update(plan: Plan) -> list[str]:
    r, scaled = plan.training, plan.training["precision"] == "float16"
    lines = ["scaler.unscale_(optimizer)"] if scaled else []
    lines += [f"nn.utils.clip_grad_norm_(model.parameters(), {number(r['clip_norm'])})"] if r["clip_norm"] else []
    lines += [f"nn.utils.clip_grad_value_(model.parameters(), {number(r['clip_value'])})"] if r["clip_value"] else []
    lines += ["scaler.step(optimizer)", "scaler.update()"] if scaled else ["optimizer.step()"]
    lines += ["scheduler.step()", "optimizer.zero_grad()"]
    if r["average"] == "swa":
        lines += [f"if step + 1 > int({number(r['swa_start'])} * total_steps):", "    average.update_parameters(model)"]
    return [*lines, "average.update_parameters(model)"] if r["average"] == "ema" else lines


def _imports(plan: Plan, code: str, more: tuple[str, ...]) -> str:
    first = ["import math"] if "math." in code else []
    first += ["from fnmatch import fnmatchcase"] if "fnmatchcase(" in code else []
    neural = ["from torch import nn"] if re.search(r"(?<!torch\.)\bnn\.", code) else []
    rest = sorted(["import torch", *more, *imports(plan), *neural], key=_place)
    return "\n".join([*first, "", *rest] if first else rest) + "\n"


def _place(line: str) -> tuple[bool, str]:
    """Where isort puts an import: plain ones first, then by module."""
    return line.startswith("from"), line.split()[1].lower()
