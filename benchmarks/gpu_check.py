"""What only a GPU can show, checked with the product's own code: prints a section of docs/results.md.

    python benchmarks/gpu_check.py [--device cuda] [--check NAME ...]

Needs a CUDA device; ``--device cpu`` runs what makes sense without one, to try the script out. Needs torch and numpy;
with scikit-learn, Ray, pytorch_optimizer and schedulefree it checks more, and says what it left out. The exit status
is 1 if a check failed. ``gpu_check.sh`` runs this and the speed of the loop in one call.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import re
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))  # also for the workers of Ray, which import this file by its name
from training_loop import assignment, finish

from tuner.catalog.families import FAMILIES
from tuner.catalog.schedules import Schedule
from tuner.catalog.training_options import PRECISIONS, complete
from tuner.core.errors import InputError
from tuner.core.ports import Signal
from tuner.core.records import Assignment, Measurement, Outcome, RunResult, WorkloadRef
from tuner.core.values import Scalar
from tuner.training.averaging import Average
from tuner.training.environment import choose_device, prepared
from tuner.training.loop import CHECK_STEPS
from tuner.training.optimizers import Bundle
from tuner.training.run import train, warm_up
from tuner.training.workloads import Batch, Workload
from tuner.training.workloads.chars import CONTEXT, CharTransformer
from tuner.training.workloads.load import load

PATH = "tuner.training.workloads."
TOY = WorkloadRef(PATH + "toy:ToyQuadratic")
DIGITS = WorkloadRef(PATH + "digits:DigitsCNN")
MIB = 2**20
RARELY = 1_000_000
WARM_STEPS, WATCHED_STEPS = 5, 10


@dataclass(frozen=True)
class Row:
    """One line of the report: ``ok`` (None: the check was left out), and in ``what`` the reason or the observation."""

    check: str
    ok: bool | None
    what: str

    def __str__(self) -> str:
        word = {True: "yes", False: "**NO**", None: "left out"}[self.ok]
        return f"| {self.check} | {word} | {self.what.replace('|', '/')} |"


def chars(device: torch.device) -> WorkloadRef:
    """The Transformer; a tiny one on a CPU, where 16 bits are slow."""
    size = {} if device.type == "cuda" else {"width": 16, "layers": 1}
    return WorkloadRef(PATH + "chars:CharTransformer", "", {"eval_every_steps": RARELY, **size})


def workloads(device: torch.device) -> dict[str, WorkloadRef]:
    """The built-in workloads whose data are available."""
    with_data = {"digits": DIGITS, "tabular": WorkloadRef(PATH + "tabular:TabularMLP")} if has("sklearn") else {}
    return {"toy": TOY, "chars": chars(device), **with_data}


def has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def tensors(nest: Any) -> Iterator[Tensor]:
    """Every tensor in a nest of mappings and sequences."""
    if isinstance(nest, Tensor):
        yield nest
    elif isinstance(nest, Mapping):
        for item in nest.values():
            yield from tensors(item)
    elif isinstance(nest, list | tuple):
        for item in nest:
            yield from tensors(item)


@dataclass
class Steps:
    """A workload with model and optimizer, to be stepped one by one: the middle of the product's loop."""

    workload: Workload
    model: nn.Module
    bundle: Bundle
    average: Average | None
    batches: list[Batch]
    schedule: Schedule
    horizon: int
    done: int = 0

    @staticmethod
    def of(run: Assignment, device: torch.device, count: int = WARM_STEPS + WATCHED_STEPS) -> Steps:
        spec, workload = run.spec, load(run.spec.workload)
        assert isinstance(workload, Workload)
        training = complete({**workload.training, **spec.setting.training})
        workload.place(device, training)
        model = workload.model(spec.seed).to(device)
        bundle = workload.optimizer(replace(spec.setting, training=training), model, count)
        average = None if training["average"] == "none" else Average(model, training, count)
        batches = [workload.to_device(batch) for batch, _ in zip(workload.train_batches(0, 0), range(4), strict=False)]
        model.train()
        bundle.train()
        return Steps(workload, model, bundle, average, batches, Schedule.of(spec.setting.schedule), count)

    def step(self) -> Tensor:
        self.bundle.apply(self.schedule.multipliers(self.done, self.horizon))
        loss = self.workload.train_step(self.model, self.batches[self.done % len(self.batches)], self.bundle)
        self.done += 1
        if self.average is not None:
            self.average.update(self.done)
        return loss


# -- the checks


def placement(device: torch.device) -> Iterator[Row]:
    """On which device everything is."""
    for name, reference in workloads(device).items():
        run = assignment(reference, "adamw", 2, device)
        with prepared(run.spec, device):
            steps = Steps.of(run, device)
            loss = steps.step()
        state = [t for t in tensors(steps.bundle.parts["main"].state_dict()["state"]) if t.ndim]
        places = {
            "parameters": {t.device.type for t in steps.model.parameters()},
            "buffers": {t.device.type for t in steps.model.buffers()} or {device.type},
            "batches": {t.device.type for t in tensors(steps.batches)},
            "optimizer": {t.device.type for t in state},
            "loss": {loss.device.type},
        }
        wrong = {part: devices for part, devices in places.items() if devices != {device.type}}
        yield Row(f"{name}: model, batches, optimizer on {device.type}", not wrong, str(wrong) if wrong else "all")


def precision(device: torch.device) -> Iterator[Row]:
    """Runs in each precision; the scaler of float16 grows and backs off."""
    for family in ("sgdm", "adamw"):
        for kind in PRECISIONS:
            result = finish(train(assignment(chars(device), family, 60, device, training={"precision": kind})))
            said = f"loss {result.value:.4f} in {result.train_seconds:.1f} s" if result.value else result.reason
            yield Row(f"chars, {family} in {kind}", result.outcome is Outcome.COMPLETED, said)
        run = assignment(chars(device), family, 40, device, training={"precision": "float16"})
        with prepared(run.spec, device):
            yield _scaler(family, Steps.of(run, device, 40))


def _scaler(family: str, steps: Steps) -> Row:
    state = steps.bundle.state_dict()
    state["main"]["scaler"] |= {"growth_interval": 5, "scale": 1024.0}
    steps.bundle.load_state_dict(state)
    losses = torch.stack([steps.step() for _ in range(20)])
    grown = float(steps.bundle.state_dict()["main"]["scaler"]["scale"])
    before = [p.detach().clone() for p in steps.model.parameters()]
    steps.bundle.zero_grad()
    steps.bundle.backward(steps.workload.loss(steps.model, steps.batches[0]) * float("inf"))
    steps.bundle.step()
    backed = float(steps.bundle.state_dict()["main"]["scaler"]["scale"])
    same = all(torch.equal(p, q) for p, q in zip(before, steps.model.parameters(), strict=True))
    finite = bool(losses.isfinite().all())
    ok = grown > 1024 and backed == grown / 2 and same and finite
    what = f"scale 1024, after 20 steps {grown:g}, after an infinite loss {backed:g}; weights "
    return Row(f"the scaler of float16, {family}", ok, what + ("kept then" if same else "CHANGED then"))


def averaging(device: torch.device) -> Iterator[Row]:
    """Averaged weights are evaluated."""
    reference = DIGITS if has("sklearn") else chars(device)
    plain = finish(train(assignment(reference, "sgdm", 60, device)))
    for kind in ("ema", "swa"):
        result = finish(train(assignment(reference, "sgdm", 60, device, training={"average": kind, "ema_decay": 0.9})))
        what = f"validation loss {result.value}, without {plain.value}" if result.value else result.reason
        yield Row(f"average {kind}", result.value is not None and result.value != plain.value, what)


def waiting(device: torch.device) -> Iterator[Row]:
    """Whether a step makes the host wait for the GPU."""
    if device.type != "cuda":
        yield Row("no step waits for the GPU", None, "there is no GPU to wait for")
        return
    for family in ("sgdm", "adamw"):
        for kind in PRECISIONS:
            for average in ("none", "ema", "swa"):
                training: dict[str, Scalar] = {
                    "precision": kind,
                    "average": average,
                    "swa_start": 0.0,
                    "clip_norm": 1.0,
                }
                wait = _first_wait(assignment(chars(device), family, 100, device, training=training))
                yield Row(f"no wait in a step: {family}, {kind}, average {average}", not wait, wait or "none")
    others = [name for name in FAMILIES if name not in ("sgdm", "adamw")]
    for kind in ("float32", "float16"):
        waits = {}
        for family in others:
            try:
                wait = _first_wait(assignment(chars(device), family, 100, device, training={"precision": kind}))
            except Exception as error:
                wait = f"{type(error).__name__}: {str(error)[:80]}"
            if wait:
                waits[family] = wait
        said = "; ".join(f"{family}: {wait}" for family, wait in waits.items()) or "none"
        yield Row(f"other families that wait in a step, {kind} (for information)", None if waits else True, said)
    for name, reference in workloads(device).items():
        yield _waits_of_the_loop(name, reference, device)


def _first_wait(run: Assignment) -> str:
    """The place of the first wait in a step, after warm-up steps; empty if there is none."""
    device = torch.device(run.spec.device)
    with prepared(run.spec, device):
        steps = Steps.of(run, device)
        for _ in range(WARM_STEPS):
            steps.step()
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(WATCHED_STEPS):
                steps.step()
        except RuntimeError as error:
            if "synchroniz" not in str(error):
                raise
            frames = traceback.extract_tb(error.__traceback__)
            return " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames[-3:]))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return ""


def _waits_of_the_loop(name: str, reference: WorkloadRef, device: torch.device) -> Row:
    """Waits of the whole loop per step, data and checks of the losses included, from runs of two lengths."""
    workload = load(reference)
    assert isinstance(workload, Workload)
    before, counts = workload.eval_every_steps, []
    places: Counter[str] = Counter()
    workload.eval_every_steps = RARELY
    try:
        for steps in (2 * CHECK_STEPS, 4 * CHECK_STEPS):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                torch.cuda.set_sync_debug_mode("warn")
                result = finish(train(assignment(reference, "sgdm", steps, device), workload))
                torch.cuda.set_sync_debug_mode("default")
            seen = [w for w in caught if "synchroniz" in str(w.message)]
            counts.append(len(seen))
            places = Counter(f"{Path(w.filename).name}:{w.lineno}" for w in seen)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        workload.eval_every_steps = before
    each = (counts[1] - counts[0]) / (2 * CHECK_STEPS)
    most = ", ".join(f"{count} in {place}" for place, count in places.most_common(3))
    what = f"{each:.2f} a step: {counts[1]} in {4 * CHECK_STEPS} steps ({most})"
    limit = 2 / CHECK_STEPS + 1 / workload.steps_per_epoch  # for a look at the losses, and for an epoch's beginning
    return Row(f"waits of the whole loop, {name}", result.outcome is Outcome.COMPLETED and each <= limit, what)


class Peak(CharTransformer):
    """A Transformer that measures the memory of its process, and names the process."""

    def evaluate(self, model: nn.Module, split: str) -> Mapping[str, float]:
        on_gpu = self.device.type == "cuda"
        free, total = torch.cuda.mem_get_info(self.device) if on_gpu else (0, 0)
        memory = {
            "peak": torch.cuda.max_memory_allocated(self.device) / MIB if on_gpu else 0.0,
            "reserved": torch.cuda.memory_reserved(self.device) / MIB if on_gpu else 0.0,
            "in_use": (total - free) / MIB,
        }
        return {**super().evaluate(model, split), **memory, "process": float(os.getpid())}


class TwoRuns:
    """A source with two runs that may train at the same time."""

    parallel = 2

    def __init__(self, runs: list[Assignment]) -> None:
        self.waiting, self.results = list(runs), dict[int, RunResult]()
        self.count = len(runs)

    def ask(self) -> Assignment | Signal:
        if self.waiting:
            return self.waiting.pop(0)
        return Signal.FINISHED if len(self.results) == self.count else Signal.WAIT

    def observe(self, assignment: Assignment, measurements: tuple[Measurement, ...]) -> bool:  # noqa: ARG002
        return True

    def tell(self, assignment: Assignment, result: RunResult) -> None:
        self.results[assignment.spec.seed] = result

    def release(self, assignment: Assignment) -> None:
        self.waiting.append(assignment)


def shares(device: torch.device) -> Iterator[Row]:
    """Two runs on one GPU at the same time, each at half of it."""
    if not has("ray"):
        yield Row("two runs at half a GPU each", None, "Ray is not installed")
        return
    from tuner.execution.ray_tune import RayTuneExecutor

    options = {"width": 128, "layers": 4, "eval_every_steps": 20}
    if device.type != "cuda":
        options = {"width": 16, "layers": 1, "eval_every_steps": 20}
    reference = WorkloadRef("gpu_check:Peak", str(Path(__file__).parent), options)
    first = assignment(reference, "adamw", 200 if device.type == "cuda" else 100, device)
    source = TwoRuns([first, replace(first, spec=replace(first.spec, seed=first.spec.seed + 1))])
    gpus = 0.5 if device.type == "cuda" else 0.0
    executor = RayTuneExecutor(cpus=1.0, gpus=gpus, local_cpus=2)
    executor.prepare()
    try:
        executor.run(source)
    finally:
        executor.close()
    results = list(source.results.values())
    ended = all(result.outcome is Outcome.COMPLETED for result in results)
    overlap = min(r.finished_at for r in results) - max(r.started_at for r in results)
    processes = {result.measurements[-1].values["process"] for result in results if result.measurements}
    yield Row(
        f"two runs at {gpus} GPUs each, at the same time in two processes",
        ended and overlap > 0 and len(processes) == 2,
        f"{overlap:.1f} s side by side" if ended else "; ".join(result.reason for result in results),
    )
    for result in results:
        values = result.measurements[-1].values if result.measurements else {}
        said = "{peak:.0f} MiB at the peak, {reserved:.0f} reserved, {in_use:.0f} in use on the whole GPU"
        yield Row("memory of a process", None if gpus == 0 else bool(values), said.format(**values) if values else "?")


class Absurd(CharTransformer):
    """A batch so large that the third of its activations does not fit on the GPU; on a CPU, not even an address."""

    def train_batches(self, epoch: int, seed: int) -> Iterator[Batch]:  # noqa: ARG002
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            size = int(0.4 * free / (4 * CONTEXT * self.width))
            yield torch.zeros(2, size, CONTEXT, dtype=torch.int64, device=self.device).unbind()
        yield torch.zeros(2**60, dtype=torch.uint8), torch.zeros(1)


def out_of_memory(device: torch.device) -> Iterator[Row]:
    """A run that does not fit fails with a clear message, and the next one in this process trains."""
    on_gpu = device.type == "cuda"
    before = torch.cuda.memory_allocated(device) if on_gpu else 0
    result = finish(train(assignment(chars(device), "adamw", 20, device), Absurd()))
    after = torch.cuda.memory_allocated(device) if on_gpu else 0
    ours = "the GPU ran out of memory" in result.reason if on_gpu else "memory" in result.reason
    yield Row("a run that does not fit fails, and says so", result.outcome is Outcome.FAILED and ours, result.reason)
    said = f"{before / MIB:.0f} MiB before, {after / MIB:.0f} after" if on_gpu else "no GPU"
    yield Row("its memory is given back", after - before < 64 * MIB if on_gpu else None, said)
    again = finish(train(assignment(chars(device), "adamw", 20, device)))
    yield Row(
        "the next run in the same process trains", again.outcome is Outcome.COMPLETED, again.reason or "completed"
    )


def determinism(device: torch.device) -> Iterator[Row]:
    """The same run twice."""
    for name, reference in workloads(device).items():
        for kind in PRECISIONS:
            run = assignment(reference, "adamw", 60, device, training={"precision": kind})
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                results = [finish(train(run)) for _ in range(2)]
            texts = [[(m.step, dict(m.values)) for m in result.measurements] for result in results]
            same = texts[0] == texts[1] and results[0].outcome is Outcome.COMPLETED
            said = {m[1] for w in caught if (m := re.match(r"(\S+) does not have a deterministic", str(w.message)))}
            what = "same bits" if same else f"{results[0].value} and {results[1].value} {results[0].reason}"
            what += f"; no deterministic kernel: {', '.join(sorted(said))}" if said else ""
            yield Row(f"{name} in {kind}, twice", same, what)


def families(device: torch.device) -> Iterator[Row]:
    """Every family trains for 20 steps."""
    reference = WorkloadRef(PATH + "chars:CharTransformer", "", {"width": 16, "layers": 1, "eval_every_steps": 20})
    convolutions = DIGITS if has("sklearn") else None
    for name, place in (("chars", reference), ("digits", convolutions)):
        if place is None:
            yield Row("each family trains digits", None, "scikit-learn is not installed")
            continue
        results = {family: finish(train(assignment(place, family, 20, device))) for family in FAMILIES}
        missing = {family for family, result in results.items() if "is not installed" in result.reason}
        failed = {f: r.reason for f, r in results.items() if r.outcome is not Outcome.COMPLETED and f not in missing}
        said = "; ".join(f"{family}: {reason}" for family, reason in failed.items()) or "none failed"
        yield Row(f"{len(results) - len(missing)} families train {name} for 20 steps", not failed, said)
        if missing:
            yield Row(f"other families train {name}", None, f"packages not installed: {', '.join(sorted(missing))}")


CHECKS: dict[str, Callable[[torch.device], Iterator[Row]]] = {
    "placement": placement,
    "precision": precision,
    "averaging": averaging,
    "waiting": waiting,
    "out_of_memory": out_of_memory,
    "determinism": determinism,
    "families": families,
    "shares": shares,
}


def machine(device: torch.device) -> str:
    """The device and what runs on it, in words."""
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    if device.type != "cuda":
        return f"{device} ({platform.machine()}), {versions}"
    about = torch.cuda.get_device_properties(device)
    memory = f"{about.total_memory / 2**30:.0f} GiB, compute capability {about.major}.{about.minor}"
    return f"{about.name} ({memory}), CUDA {torch.version.cuda}, {versions}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--check", choices=CHECKS, action="append", help="only this one; may be repeated")
    given = parser.parse_args()
    try:
        device = choose_device(given.device)
    except InputError as error:
        parser.error(str(error))
    torch.set_num_threads(1)
    warm_up()
    print(f"{machine(device)}.\n\n| check | as it should be | seen |\n|---|---|---|")
    failed = 0
    for name in given.check or CHECKS:
        began, rows = time.perf_counter(), list[Row]()
        try:
            rows.extend(CHECKS[name](device))
        except Exception as error:
            traceback.print_exc()
            rows.append(Row(name, False, f"broke off: {type(error).__name__}: {str(error).splitlines()[0][:200]}"))
        for row in rows:
            print(row, flush=True)
        failed += sum(row.ok is False for row in rows)
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    print(f"\n{'Everything is as it should be' if not failed else f'{failed} checks failed'}.")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
