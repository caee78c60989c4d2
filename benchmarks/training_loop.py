"""The product's training loop against a hand-written one: seconds per step and the ratio, in interleaved rounds.

    python benchmarks/training_loop.py [--rounds 15] [--steps N] [--device auto] [--json FILE]

Each round trains every workload with both families three times: ``tuner`` is the product's run as an executor starts
it; ``hand`` the loop that an engineer writes with plain torch, with the same implementation of the optimizer;
``defaults`` that loop with the arguments that torch's optimizer has by itself. All of them have one thread, the same
seed, batches, schedule, clipping, param groups and evaluations, and the clock runs from before the model is made to
after the last evaluation. ``tuner`` and ``hand`` must end with the same validation loss, or nothing is reported. The
order rotates from round to round, and a ratio is formed inside its round, for a shared machine's speed drifts.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import math
import os
import random
import statistics
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tuner.catalog.families import FAMILIES
from tuner.core.errors import InputError
from tuner.core.records import Assignment, Horizon, Phase, RunResult, RunSpec, Setting, WorkloadRef
from tuner.core.values import Scalar
from tuner.training.environment import choose_device, device_name
from tuner.training.optimizers import build
from tuner.training.run import train, warm_up
from tuner.training.workloads import Workload
from tuner.training.workloads.load import load

LIMIT = 1.03
"""The largest allowed median of tuner / hand on the CPU."""
TOLERANCE = 1e-6
SEED = 3
PATH = "tuner.training.workloads."
WORKLOADS = {
    "digits": (PATH + "digits:DigitsCNN", 216),
    "tabular": (PATH + "tabular:TabularMLP", 400),
    "chars": (PATH + "chars:CharTransformer", 12),
}
"""The path of each workload, and the steps of a run (some tenths of a second on a CPU)."""
FAMILY_NAMES = ("sgdm", "adamw")
CHECKPOINTS = "checkpoints-of-the-benchmark"
"""A folder that is never created: the product's loop checks at each step whether a checkpoint is due; none ever is."""
CONTESTANTS = ("tuner", "hand", "defaults")


def assignment(
    workload: WorkloadRef,
    family: str,
    steps: int,
    device: torch.device,
    checkpoints: str = "",
    training: Mapping[str, Scalar] | None = None,
) -> Assignment:
    """Return a run with the family's defaults and a cosine schedule, as a study would hand it out."""
    setting = Setting(
        family, FAMILIES[family].default.hyperparameters, {"kind": "cosine", "warmup": 0.0}, training or {}
    )
    spec = RunSpec(
        study="benchmark",
        arm=family,
        trial=0,
        phase=Phase.EXPLORE,
        seed=SEED,
        horizon=Horizon(steps, "steps"),
        setting=setting,
        workload=workload,
        metric="loss",
        direction="minimize",
        device=str(device),
    )
    return Assignment(spec, attempt=1, checkpoints=checkpoints, checkpoint_seconds=math.inf)


def finish(training: Generator[Any, None, RunResult]) -> RunResult:
    """Run a training to its end and return the result."""
    while True:
        try:
            next(training)
        except StopIteration as end:
            result: RunResult = end.value
            return result


@dataclass(frozen=True)
class Case:
    """One workload with one family, trained for ``steps`` steps on a device."""

    workload: str
    family: str
    steps: int
    device: torch.device

    @property
    def assignment(self) -> Assignment:
        return assignment(WorkloadRef(WORKLOADS[self.workload][0]), self.family, self.steps, self.device, CHECKPOINTS)

    def load(self) -> Workload:
        """Return the workload with its data on the device already."""
        workload = load(self.assignment.spec.workload)
        assert isinstance(workload, Workload)
        workload.place(self.device, workload.training)
        return workload


def by_tuner(case: Case) -> float:
    result = finish(train(case.assignment))
    assert result.value is not None, result.reason
    return result.value


def by_hand(case: Case, flags: dict[str, bool]) -> float:
    workload = case.load()
    every = workload.eval_every_steps or workload.steps_per_epoch
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)
    model = workload.model(SEED).to(case.device)
    optimizer = plain_optimizer(case.family, model, flags)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: (1.0 + math.cos(math.pi * t / case.steps)) / 2.0)
    clip_norm = float(workload.training.get("clip_norm", 0.0))
    values: dict[str, float] = {}
    step, epoch = 0, 0
    model.train()
    while step < case.steps:
        for batch in workload.train_batches(epoch, SEED):
            x, y = (item.to(case.device) for item in batch)
            optimizer.zero_grad()
            loss = workload.loss(model, (x, y))
            loss.backward()
            if clip_norm:
                nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
            optimizer.step()
            schedule.step()
            step += 1
            if step % every == 0 or step == case.steps:
                model.eval()
                with torch.no_grad():
                    values = {"train_loss": loss.item(), **workload.evaluate(model, "validation")}
                model.train()
            if step == case.steps:
                break
        epoch += 1
    return values["loss"]


def plain_optimizer(family: str, model: nn.Module, flags: dict[str, bool]) -> torch.optim.Optimizer:
    """Torch's own class with the family's defaults; biases and norms do not decay."""
    values = FAMILIES[family].complete({})
    decay = values["l2" if family == "sgdm" else "weight_decay"]
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if family == "sgdm":
        return torch.optim.SGD(groups, lr=values["learning_rate"], momentum=values["momentum"], **flags)
    betas = values["beta1"], values["beta2"]
    return torch.optim.AdamW(groups, lr=values["learning_rate"], betas=betas, eps=values["eps"], **flags)


def implementation(case: Case) -> dict[str, bool]:
    """What our table of optimizers chooses for this model and device: ``{"fused": True}`` and so on."""
    model = case.load().model(SEED).to(case.device)
    bundle = build(case.assignment.spec.setting, model, case.steps, case.device)
    chosen = bundle.parts["main"].defaults
    return {name: True for name in ("fused", "foreach") if chosen.get(name)}


@dataclass(frozen=True)
class Time:
    """Seconds of a run by the clock, and CPU seconds of this process (which other processes do not increase)."""

    wall: float
    cpu: float


def timed(run: Callable[[], float], device: torch.device) -> tuple[Time, float]:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    wall, cpu = time.perf_counter(), time.process_time()
    loss = run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Time(time.perf_counter() - wall, time.process_time() - cpu), loss


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Run the rounds of one case.

    Raises:
        SystemExit: the two loops ended with different losses.
    """
    flags = implementation(case)
    runs: dict[str, Callable[[], float]] = {
        "tuner": lambda: by_tuner(case),
        "hand": lambda: by_hand(case, flags),
        "defaults": lambda: by_hand(case, {}),
    }
    losses = {name: run() for name, run in runs.items()}  # warms up, too
    if not abs(losses["tuner"] - losses["hand"]) <= TOLERANCE:
        raise SystemExit(f"{case.workload} {case.family}: the loops end with different losses, {losses}")
    times: dict[str, list[Time]] = {name: [] for name in runs}
    for number in range(rounds):
        turn = number % len(CONTESTANTS)
        for name in CONTESTANTS[turn:] + CONTESTANTS[:turn]:
            seconds, loss = timed(runs[name], case.device)
            assert loss == losses[name], f"{name} does not repeat: {loss} after {losses[name]}"
            times[name].append(seconds)
    return {
        "workload": case.workload,
        "family": case.family,
        "steps": case.steps,
        "implementation": "+".join(flags) or "loop",
        "loss": losses,
        "ms_per_step": {name: 1e3 * statistics.median(t.wall for t in of) / case.steps for name, of in times.items()},
        "ratio": ratios(times, "hand", "wall"),
        "cpu_ratio": ratios(times, "hand", "cpu"),
        "ratio_to_defaults": ratios(times, "defaults", "wall"),
    }


def ratios(times: dict[str, list[Time]], other: str, clock: str) -> dict[str, float]:
    """Median and quartiles of tuner's seconds over the other's, one ratio a round."""
    quotients = [getattr(a, clock) / getattr(b, clock) for a, b in zip(times["tuner"], times[other], strict=True)]
    low, middle, high = (
        statistics.quantiles(quotients, n=4, method="inclusive") if len(quotients) > 1 else quotients * 3
    )
    return {"low": low, "median": middle, "high": high}


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    head = ("workload", "family", "steps", "optimizer", *(f"{name}: ms/step" for name in CONTESTANTS))
    head += ("tuner / hand (quartiles)", "of CPU time", "tuner / defaults", "loss: tuner - hand", "defaults - hand")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        loss = row["loss"]
        cells = [row["workload"], row["family"], str(row["steps"]), row["implementation"]]
        cells += [f"{row['ms_per_step'][name]:.3f}" for name in CONTESTANTS]
        cells += ["{median:.3f} ({low:.3f} to {high:.3f})".format(**row["ratio"])]
        cells += [f"{row['cpu_ratio']['median']:.3f}", f"{row['ratio_to_defaults']['median']:.3f}"]
        cells += [f"{loss['tuner'] - loss['hand']:.1g}", f"{loss['defaults'] - loss['hand']:.1g}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, help="of every run; without it each workload has its own number")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--workload", choices=WORKLOADS, action="append", help="one of them; may be repeated")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    try:
        device = choose_device(given.device)
    except InputError as error:
        parser.error(str(error))
    warm_up()
    began = time.perf_counter()
    names = given.workload or list(WORKLOADS)
    if importlib.util.find_spec("sklearn") is None:
        print("scikit-learn is not installed: without digits and tabular, whose data come with it.")
        names = [name for name in names if name == "chars"]
    cases = [Case(name, family, given.steps or WORKLOADS[name][1], device) for name in names for family in FAMILY_NAMES]
    rows = [measure(case, given.rounds) for case in cases]
    print(table(rows))
    worst = max(rows, key=lambda row: float(row["ratio"]["median"]))
    goal = f" (limit {LIMIT})" if device.type == "cpu" else ""
    print(
        f"\nworst median of tuner / hand: {worst['ratio']['median']:.3f}, {worst['workload']} {worst['family']}{goal}"
    )
    load_average = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    where = f"{device_name(device)}, 1 thread of {os.cpu_count()} cores{load_average}"
    print(f"{where}, torch {torch.__version__}, {given.rounds} rounds in {time.perf_counter() - began:.0f} s")
    if given.json:
        about = {"device": device_name(device), "torch": torch.__version__, "rounds": given.rounds, "rows": rows}
        given.json.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
