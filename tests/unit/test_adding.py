"""What a newly added schedule, training option, export target, workload or executor still lacks, by name.

An optimizer's row is walked by ``catalog/test_families.py`` and ``training/test_optimizers_table.py``, a space by
``config/test_shipped_spaces.py``. ``docs/adding.md`` says where each thing is written.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from generators.exports import EXAMPLES
from torch import nn
from training.helpers import assign, trained

from tuner.bootstrap import make_executor
from tuner.catalog import training_options
from tuner.catalog.families import modern
from tuner.catalog.schedules import SCHEDULES, shapes
from tuner.catalog.training_options import OWN_OPTIONS, TRAINING_OPTIONS, option
from tuner.config.documents import parse_yaml
from tuner.config.space_files import read_space
from tuner.config.study_file import read_spec
from tuner.core.errors import InputError
from tuner.core.ports import EXECUTORS, Executor, RunSource
from tuner.core.records import Horizon, Outcome, Setting
from tuner.core.values import Scalar
from tuner.exports import TARGETS, Export, export, schedule_code
from tuner.exports.schedule_code import SHAPES
from tuner.exports.writing import Plan, completed
from tuner.training import workloads
from tuner.training.handle import Run
from tuner.training.optimizers.building import optimizer_of
from tuner.training.param_groups import groups
from tuner.training.workloads import Workload

ROOT = Path(__file__).parents[2]
PATTERNS: dict[str, Scalar] = {"multiplier:0.*": 0.5, "freeze:0.bias": "yes", "no_decay:0.weight": "yes"}
NEEDED: dict[str, dict[str, Scalar]] = {
    "ema_decay": {"average": "ema"},
    "swa_start": {"average": "swa"},
    "batch_reference": {"batch_size": 64, "batch_reference": 16, "batch_scaling": "sqrt"},
    "batch_scaling": {"batch_size": 64, "batch_reference": 16},
}
"""Training options that mean something beside others only."""


# -- schedules


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_has_its_source_for_exported_programs(name: str) -> None:
    assert name in SHAPES or SCHEDULES[name].follows_metric, f"schedule {name}: no source in schedule_code.SHAPES"


def test_no_source_is_left_of_a_schedule_that_is_gone() -> None:
    assert set(SHAPES) <= set(SCHEDULES)


# -- training options


def other(name: str) -> Scalar:
    """A value of a training option that is not its default."""
    row = option(name)
    if row.choices:
        return next(choice for choice in row.choices if choice != row.default)
    low, high, default = row.low, min(row.high, 64.0), float(row.default)
    value = high if default != high else (low + high) / 2
    return int(value) if row.integer else value * 0.5 if value == 64.0 else value


@pytest.mark.parametrize("name", [*TRAINING_OPTIONS, *PATTERNS])
def test_what_runs_train_with_takes_a_training_option(name: str) -> None:
    """A function that uses all of the handle honours it; a run that leaves one out fails by its name."""
    value = PATTERNS.get(name) or other(name)

    def function(run: Run) -> None:
        total = run.total_steps(steps_per_epoch=1)
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        run.optimizer(model)
        run.average(model)
        for own in OWN_OPTIONS:
            run.training[own]
        with run.autocast():
            run.report(step=total, loss=1.0)

    result = trained(assign(steps=4, training={**NEEDED.get(name, {}), name: value}), function)
    assert not result.reason, f"training option {name}: {result.reason}"


def body(text: str) -> list[str]:
    """The lines of an export without its comments, which name every option anyway."""
    return [line for line in text.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("name", [*TRAINING_OPTIONS, *PATTERNS])
def test_an_export_writes_a_training_option_or_says_that_it_is_left_out(name: str, to: str) -> None:
    def exported(training: Mapping[str, Scalar]) -> tuple[list[str], tuple[str, ...]]:
        setting = Setting("adamw", {}, {"kind": "cosine"}, dict(training))
        written = export(setting, to, horizon=Horizon(9, "epochs"))
        return body(written.text), written.notes

    needed, value = NEEDED.get(name, {}), PATTERNS.get(name) or other(name)
    leaves_out_what_is_needed = exported(needed)[0] == exported({})[0]  # and a note says so
    without = exported({} if leaves_out_what_is_needed else needed)
    assert exported({**needed, name: value}) != without, f"{to} drops the training option {name} in silence"


# -- export targets


def test_every_target_has_its_row_and_its_example_on_the_page_of_exports() -> None:
    assert [example.target for example in EXAMPLES] == list(TARGETS), "docs/generators/exports.py: EXAMPLES"
    assert all(example.what and example.needs and example.words for example in EXAMPLES)


# -- workloads


def built_in() -> list[type[Workload]]:
    modules = [f"{workloads.__name__}.{found.name}" for found in pkgutil.iter_modules(workloads.__path__)]
    classes = [kind for module in modules for kind in vars(importlib.import_module(module)).values()]
    return [
        kind
        for kind in dict.fromkeys(kind for kind in classes if inspect.isclass(kind) and issubclass(kind, Workload))
        if not inspect.isabstract(kind)
    ]


@pytest.mark.parametrize("kind", built_in(), ids=lambda kind: kind.__name__)
def test_a_workload_that_comes_with_tuner_says_what_it_is(kind: type[Workload]) -> None:
    assert (kind.__doc__ or "").strip(), f"{kind.__name__}: no docstring"
    assert re.fullmatch(r"[a-z_0-9]+", kind.metric), f"{kind.__name__}: no metric"
    assert kind.direction in ("maximize", "minimize"), f"{kind.__name__}: no direction"
    if kind.__name__ != "ToyQuadratic":  # the tests' own
        assert kind.horizon, f"{kind.__name__}: no horizon of its own"
        path = f"{kind.__module__}:{kind.__name__}"
        studies = [yaml.safe_load(file.read_text()) for file in (ROOT / "examples").glob("*.yaml")]
        named = [study["workload"] for study in studies]
        paths = {workload["path"] if isinstance(workload, dict) else workload for workload in named}
        assert path in paths, f"{kind.__name__}: no study of it in examples/"


# -- executors


def made(name: str) -> Executor:
    text = "study: x\nworkload: a.b:C\nmetric: {name: loss, direction: minimize}\nhorizon: {steps: 4}\n"
    spec = read_spec(parse_yaml(text, "x.yaml"))
    return make_executor(replace(spec, executor=name))


def test_every_executor_is_built_by_its_name() -> None:
    classes = {name: type(made(name)) for name in EXECUTORS}
    assert len(set(classes.values())) == len(EXECUTORS), f"bootstrap.make_executor builds one for two names: {classes}"
    with pytest.raises(AssertionError, match="no branch for the executor 'queue'"):
        made("queue")


@pytest.mark.parametrize("name", EXECUTORS)
def test_an_executor_has_the_methods_of_its_port(name: str) -> None:
    wanted = {member for member in vars(Executor) if not member.startswith("_")}
    lacking = sorted(member for member in wanted if not callable(getattr(made(name), member, None)))
    assert not lacking, f"executor {name}: no {', '.join(lacking)}"


# -- the page

PAGE = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")


def block(heading: str, language: str = "python", index: int = 0) -> str:
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.S)[index]


def defined(source: str, *modules: ModuleType, **names: Any) -> dict[str, Any]:
    """Run a block with what the module has in which it is to be written; the names afterwards."""
    space: dict[str, Any] = {key: value for module in modules for key, value in vars(module).items()} | names
    exec(compile(source, "adding.md", "exec", dont_inherit=True), space)
    return space


def test_the_optimizer_of_the_page_steps_as_its_formula_says() -> None:
    row = defined("row = " + block("An optimizer"), modern)["row"]
    values = row.complete({"learning_rate": 0.5, "weight_decay": 0.2})
    model = nn.Linear(2, 3, bias=False)
    before = model.weight.detach().clone()
    model.weight.grad = torch.tensor([[1.0, -2.0], [3.0, 0.5], [-1.0, 4.0]])
    optimizer_of(row, values, groups(model, {}), 10).step()
    torch.testing.assert_close(model.weight.detach(), before * (1 - 0.5 * 0.2) - 0.5 * model.weight.grad.sign())


def test_the_schedule_of_the_page_and_its_source_are_the_same() -> None:
    kind = defined(block("A schedule"), shapes)["INVERSE_TIME"]
    lines = defined(block("A schedule", index=1), schedule_code)["_inverse_time"]
    for changes in ({}, *kind.variants):
        values = {p.name: p.default for p in kind.parameters} | changes
        for x in (0.0, 0.3, 0.99):
            expression = lines(values, False)[0].removeprefix("return ")
            assert eval(expression, {"x": x}) == pytest.approx(kind.shape(x, values).lr)


def test_the_space_of_the_page_can_be_read() -> None:
    space = read_space(parse_yaml(block("A space", "yaml"), "adding.md"))
    assert [arm.arm for arm in space] == ["adamw", "lion"]
    for arm in space:
        arm.check_corners()


def test_the_workload_of_the_page_learns() -> None:
    workload = defined(block("A workload"))["Mine"]()
    result = trained(assign("adding:Mine", steps=5, unit="epochs"), workload)
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert result.value is not None
    assert result.value < 1.0


def test_the_training_option_of_the_page_changes_nothing_by_default() -> None:
    row = defined("row = " + block("A training option"), training_options)["row"]
    assert row.check(row.default) == 0.0
    with pytest.raises(InputError, match="gradient_noise"):
        row.check(-1.0)


def test_the_target_of_the_page_writes_the_setting() -> None:
    write = defined(block("An export target"), json=json, Plan=Plan, Export=Export)["export"]
    written = write(completed(Setting("adamw", {}, {"kind": "cosine"}, {"batch_size": 8}), None))
    assert json.loads(written.text)["beta2"] == 0.999
    assert written.notes == ("set batch size 8 yourself.",)


def test_the_executor_of_the_page_has_the_methods_of_the_port() -> None:
    executor = defined(block("An executor"), RunSource=RunSource)["QueueExecutor"]
    assert {m for m in vars(executor) if not m.startswith("_")} == {m for m in vars(Executor) if not m.startswith("_")}


def test_the_page_names_files_that_there_are() -> None:
    for name in re.findall(r"`((?:tuner|tests|docs|search_spaces|examples)/[\w./-]*)`", PAGE):
        assert (ROOT / name).exists(), f"docs/adding.md names {name}"
