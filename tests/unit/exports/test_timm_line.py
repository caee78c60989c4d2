"""The exported options, read as timm's train.py reads them, train as the study's settings do."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import shlex
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch

from exports.programs import Flat, a_setting, batches, loss_of, trained_by_us, weights
from tuner.catalog.families import FAMILIES
from tuner.catalog.schedules import SCHEDULES, Schedule
from tuner.core.errors import InputError
from tuner.core.records import Horizon, Setting
from tuner.exports import export

if importlib.util.find_spec("timm") is None:
    pytest.skip("timm is not installed", allow_module_level=True)

EPOCHS, UPDATES = 10, 2
NAMED = [name for name, row in FAMILIES.items() if row.timm and not row.looks_ahead]
UNSCHEDULED = ("inverse-sqrt", "onecycle", "cyclical", "plateau")
OTHERWISE = ("exponential", "multistep")


@pytest.fixture(scope="module")
def timm() -> Iterator[Any]:
    """timm's two factories; without its models, which need torchvision, where that is not installed."""
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "timm"}
    try:
        importlib.import_module("timm")
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.split(".")[0] == "timm"]:
            del sys.modules[name]
        spec = importlib.util.find_spec("timm")
        assert spec is not None
        bare, models = ModuleType("timm"), ModuleType("timm.models")
        bare.__path__ = list(spec.submodule_search_locations or [])
        models.group_parameters = None  # type: ignore[attr-defined]
        sys.modules |= {"timm": bare, "timm.models": models}
    yield argparse.Namespace(
        optim=importlib.import_module("timm.optim"), scheduler=importlib.import_module("timm.scheduler")
    )
    for name in [name for name in sys.modules if name.split(".")[0] == "timm"]:
        del sys.modules[name]
    sys.modules |= before


class Pairs(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        pairs = (value.split("=", 1) for value in values)
        setattr(namespace, self.dest, {key: ast.literal_eval(value) for key, value in pairs})


def parsed(text: str) -> argparse.Namespace:
    """Read a command line with the types and defaults of train.py's options."""
    parser = argparse.ArgumentParser()
    for name in ("data-dir", "model", "opt", "sched", "clip-mode", "amp-dtype", "lr-decay-fn"):
        parser.add_argument(f"--{name}")
    for name, default in {
        "lr": 0.1,
        "weight-decay": 2e-5,
        "momentum": 0.9,
        "opt-eps": None,
        "clip-grad": None,
        "warmup-lr": 1e-5,
        "min-lr": 0.0,
        "decay-epochs": 90.0,
        "decay-rate": 0.1,
        "lr-cycle-mul": 1.0,
        "lr-cycle-decay": 0.5,
        "smoothing": 0.1,
        "layer-decay": None,
        "model-ema-decay": 0.9998,
    }.items():
        parser.add_argument(f"--{name}", type=float, default=default)
    for name, whole in {
        "epochs": 300,
        "warmup-epochs": 5,
        "lr-cycle-limit": 1,
        "batch-size": 128,
        "grad-accum-steps": 1,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=whole)
    for name in ("warmup-prefix", "sched-on-updates", "amp", "model-ema"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--opt-betas", type=float, nargs="+")
    parser.add_argument("--decay-milestones", type=int, nargs="+", default=[90, 180, 270])
    parser.add_argument("--opt-kwargs", nargs="*", default={}, action=Pairs)
    words = shlex.split(text.replace("\\\n", " "), comments=True)
    assert words[:2] == ["python", "train.py"]
    return parser.parse_args(words[2:])


def built(timm: Any, setting: Setting) -> tuple[Any, Any, Any, int]:
    args = parsed(export(setting, "timm", horizon=Horizon(EPOCHS, "epochs")).text)
    model = Flat()
    optimizer = timm.optim.create_optimizer_v2(model, **timm.optim.optimizer_kwargs(cfg=args), **args.opt_kwargs)
    kwargs = timm.scheduler.scheduler_kwargs(args, decreasing_metric=True)
    scheduler, epochs = timm.scheduler.create_scheduler_v2(optimizer, **kwargs, updates_per_epoch=UPDATES)
    return model, optimizer, scheduler, epochs


def rates(timm: Any, setting: Setting) -> list[float]:
    _, optimizer, scheduler, epochs = built(timm, setting)
    assert epochs == EPOCHS
    found = []
    for update in range(EPOCHS * UPDATES):
        scheduler.step_update(update)
        found.append(optimizer.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize("name", NAMED)
def test_a_family_trains_to_the_same_weights(timm: Any, name: str) -> None:
    known = FAMILIES[name].default.hyperparameters
    later = name in ("nag", "amsgrad", "nadam", "radam") or known.get("weight_decay")
    values = {key: value for key, value in {"l2": 0.0, "weight_decay": 0.2}.items() if key in known} if later else {}
    setting = a_setting(name, {"kind": "cosine", "warmup": 0.2}, **values)
    model, optimizer, scheduler, _ = built(timm, setting)
    source = batches()
    for update in range(EPOCHS * UPDATES):
        scheduler.step_update(update)
        optimizer.zero_grad()
        loss_of(model, next(source)).backward()
        optimizer.step()
    ours = weights(trained_by_us(setting, EPOCHS * UPDATES, Flat))
    torch.testing.assert_close(weights(model), ours, rtol=1e-7, atol=1e-7)  # its eps of Lamb stands elsewhere


@pytest.mark.parametrize("warmup", [0.0, 0.2])
@pytest.mark.parametrize("kind", [kind for kind in SCHEDULES if kind not in (*UNSCHEDULED, *OTHERWISE, "sgdr")])
def test_a_schedule_has_the_same_rates(timm: Any, kind: str, warmup: float) -> None:
    whole = {"decay_fraction": 0.25} if kind.startswith("wsd") else {}  # timm rounds it to updates
    setting = a_setting("sgdm", {"kind": kind, "warmup": warmup, **whole})
    wanted = [Schedule.of(setting.schedule).multipliers(step, EPOCHS * UPDATES).lr * 0.1 for step in range(20)]
    assert rates(timm, setting) == pytest.approx(wanted, rel=1e-6, abs=1e-12)


def test_cycles_have_the_same_rates(timm: Any) -> None:
    setting = a_setting("sgdm", {"kind": "sgdr", "cycles": 2, "cycle_growth": 1.0, "end_ratio": 0.1})
    wanted = [Schedule.of(setting.schedule).multipliers(step, EPOCHS * UPDATES).lr * 0.1 for step in range(20)]
    assert rates(timm, setting) == pytest.approx(wanted)


@pytest.mark.parametrize(("kind", "slack"), [("exponential", 1), ("multistep", 1)])
def test_schedules_that_come_near_say_how(timm: Any, kind: str, slack: int) -> None:
    setting = a_setting("sgdm", {"kind": kind, "first_drop": 0.5} if kind == "multistep" else {"kind": kind})
    found = export(setting, "timm", horizon=Horizon(EPOCHS, "epochs"))
    assert found.notes
    schedule = Schedule.of(setting.schedule)
    for step, rate in enumerate(rates(timm, setting)):
        near = [schedule.multipliers(min(max(step + by, 0), 19), 20).lr * 0.1 for by in range(-slack, slack + 1)]
        assert any(rate == pytest.approx(value, rel=1e-6) for value in near)


@pytest.mark.parametrize("kind", UNSCHEDULED)
def test_a_schedule_that_train_py_lacks_is_refused(kind: str) -> None:
    with pytest.raises(InputError, match="no schedule"):
        export(a_setting("sgdm", {"kind": kind}), "timm", horizon=Horizon(EPOCHS, "epochs"))


@pytest.mark.parametrize("name", [name for name in FAMILIES if name.removeprefix("lookahead-") not in NAMED])
def test_a_family_that_timm_lacks_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="Export it to torch"):
        export(a_setting(name, {"kind": "constant"}), "timm", horizon=Horizon(EPOCHS, "epochs"))


def test_the_epochs_have_to_be_known() -> None:
    for horizon in (None, Horizon(100, "steps")):
        with pytest.raises(InputError, match="counts epochs"):
            export(a_setting("sgdm"), "timm", horizon=horizon)


def test_the_training_options_becomes_options_and_what_is_left_out_is_said() -> None:
    training = {
        "clip_norm": 1.0,
        "clip_value": 0.1,
        "accumulation": 2,
        "batch_size": 64,
        "average": "ema",
        "precision": "bfloat16",
        "label_smoothing": 0.1,
        "no_decay": "nothing",
        "layer_decay": 0.8,
        "multiplier:head.*": 10.0,
        "freeze:a.*": "yes",
    }
    found = export(a_setting("lookahead-adamw", None, training), "timm", horizon=Horizon(9.4, "epochs"))
    args = parsed(found.text)
    assert (args.clip_grad, args.clip_mode, args.grad_accum_steps, args.batch_size) == (1.0, "norm", 2, 64)
    assert (args.model_ema, args.model_ema_decay, args.amp, args.amp_dtype) == (True, 0.999, True, "bfloat16")
    assert (args.smoothing, args.layer_decay, args.opt) == (0.1, 0.8, "lookahead_adamw")
    assert args.epochs + args.warmup_epochs == 9
    said = " ".join(found.notes)
    for word in (
        "clip_value 0.1",
        "warms up",
        "group_matcher",
        "nothing",
        "head.*",
        "a.*",
        "every 5",
        "9.4",
        "one device",
    ):
        assert word in said
