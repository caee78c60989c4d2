"""The exported mixin and Trainer arguments train a LightningModule to the study's weights."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from exports.programs import (
    STEPS,
    Net,
    a_setting,
    batches,
    exported,
    loss_of,
    module_of,
    trained_by_us,
    weights,
)
from tuner.core.records import Horizon, Setting
from tuner.exports import export

lightning = pytest.importorskip("lightning")

CASES = {
    "sgdm": a_setting("sgdm", training={"clip_norm": 0.5}),
    "nag, decoupled": a_setting("nag", {"kind": "onecycle"}, {"clip_value": 0.02}, weight_decay=0.2),
    "clipped twice": a_setting("adamw", {"kind": "wsd"}, {"clip_value": 0.02, "clip_norm": 0.5}),
    "accumulated": a_setting("adam", {"kind": "step"}, {"accumulation": 2}),
    "patterns": a_setting("muon", training={"multiplier:body.*": 0.5, "layer_decay": 0.8}),
    "schedule-free": a_setting("schedule-free-adamw", {"kind": "constant", "warmup": 0.1}),
    "ema": a_setting("adamw", training={"average": "ema", "ema_decay": 0.6}),
    "swa": a_setting("sgdm", training={"average": "swa", "swa_start": 0.5}),
}


def fitted(program: dict[str, Any], folder: Path, count: int) -> tuple[Net, list[float]]:
    class Model(program["Tuned"], lightning.LightningModule, Net):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            lightning.LightningModule.__init__(self)
            net = Net()
            for name, child in net.named_children():
                setattr(self, name, child)
            self.rates: list[float] = []

        def training_step(self, batch: Any, index: int) -> Any:
            self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
            return loss_of(self, batch)

        def validation_step(self, batch: Any, index: int) -> None:
            loss_of(self, batch)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = Model()
        trainer = lightning.Trainer(
            **program["TRAINER"],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            val_check_interval=6,
        )
        trainer.fit(
            model, DataLoader(list(batches(count)), batch_size=None), DataLoader(list(batches(2)), batch_size=None)
        )
    return model, model.rates


@pytest.mark.parametrize("name", CASES)
def test_a_module_trains_to_the_same_weights(name: str, tmp_path: Path) -> None:
    setting = CASES[name]
    count = STEPS * int(setting.training.get("accumulation", 1))
    model, _ = fitted(module_of(exported(setting, "lightning").text), tmp_path, count)
    torch.testing.assert_close(weights(model), weights(trained_by_us(setting)), rtol=1e-9, atol=1e-9)


def test_a_horizon_in_epochs_is_timed_by_the_trainer(tmp_path: Path) -> None:
    setting = Setting("sgdm", {}, {"kind": "linear"})
    found = export(setting, "lightning", horizon=Horizon(2, "epochs"))
    assert '"max_epochs": 2' in found.text
    _, rates = fitted(module_of(found.text), tmp_path, 6)
    assert rates == pytest.approx([0.1 * (1 - step / 12) for step in range(12)])


def test_precision_and_its_notes() -> None:
    found = exported(a_setting("adamw", training={"precision": "bfloat16", "accumulation": 4}), "lightning")
    trainer = module_of(found.text)["TRAINER"]
    assert trainer == {"max_steps": STEPS, "accumulate_grad_batches": 4, "precision": "bf16-mixed"}
    assert "fewer batches" in found.notes[0]
