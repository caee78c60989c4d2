"""What ``test_adapters`` asks of a library, for Lightning's ``Trainer``; see there for the names."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from tuner.catalog.schedules import Schedule
from tuner.core.records import Assignment
from tuner.training.adapters.lightning import fit
from tuner.training.handle import Run
from tuner.training.optimizers import build

from .helpers import Seen

lightning = pytest.importorskip("lightning.pytorch")

PACKAGE, EXTRA = "lightning.pytorch", "lightning"
LOSS, ACCURACY, TEST_LOSS = "val_loss", "val_accuracy", "test_loss"
RATE = 3e-2
PER_EPOCH = 6

ALONE: dict[str, Any] = {}
SAVES: dict[str, Any] = {}
FREQUENT = {"val_check_interval": 1.0}
RHYTHMS = [{"val_check_interval": 1.0}, {"val_check_interval": None, "check_val_every_n_epoch": 5}]
QUIET = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}


def spared(name: str) -> bool:
    return name not in ("layers.0.weight", "layers.4.weight")


def data(count: int, seed: int) -> TensorDataset:
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, (x.sum(1) > 0).long())


class Net(lightning.LightningModule):  # type: ignore[misc, name-defined]
    """What a user has: layers, a loss, logged metrics, an optimizer of their own (which is not asked)."""

    def __init__(self, norm: type[nn.Module] = nn.LayerNorm) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), norm(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
        self.seen = Seen()
        self.die_at = 0

    def loss(self, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.trainer.global_step + 1 == self.die_at:
            raise SystemExit
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.evaluate("val", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.evaluate("test", batch)

    def evaluate(self, split: str, batch: Any) -> None:
        hits = (self.layers(batch[0]).argmax(1) == batch[1]).float().mean()
        self.log_dict({f"{split}_loss": self.loss(batch), f"{split}_accuracy": hits})

    def on_validation_epoch_end(self) -> None:
        self.seen.evaluations.append({name: float(value) for name, value in self.trainer.callback_metrics.items()})

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.seen.groups(optimizer)

    def on_train_end(self) -> None:
        groups = self.trainer.optimizers[0].param_groups
        decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
        self.seen.decays = {name: decay[id(p)] for name, p in self.named_parameters()}

    def configure_optimizers(self) -> Any:
        raise AssertionError("the run brings its own")


def body(
    seen: Seen | None = None,
    every: int = 3,
    die_at: int = 0,
    workers: int = 0,
    test: bool = False,
    module: Callable[[], Any] = Net,
    **options: Any,
) -> Callable[[Run], None]:
    own = options.pop("train_dataloaders", None)
    loaders = {
        "val_dataloaders": DataLoader(data(24, 1), 8),
        "test_dataloaders": DataLoader(data(24, 1), 8) if test else None,
    }
    names = options.pop("metric_names", None)

    def train_it(run: Run) -> None:
        net = module()
        net.seen, net.die_at = seen or Seen(), die_at
        train = DataLoader(data(48, 0), 8, shuffle=True, num_workers=workers) if own is None else own
        given = {"val_check_interval": every, **options}
        fit(run, net, train_dataloaders=train, trainer_options=given, metric_names=names, **loaders)

    return train_it


def alone(assignment: Assignment, steps: int) -> list[float]:
    cosine = Schedule.of({"kind": "cosine"})

    class Alone(Net):
        def configure_optimizers(self) -> Any:
            optimizer = build(assignment.spec.setting, self, steps, torch.device("cpu")).parts["main"]
            rates = torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda step: cosine.multipliers(min(step, steps - 1), steps).lr
            )
            return [optimizer], [{"scheduler": rates, "interval": "step"}]

    torch.manual_seed(3)
    net = Alone()
    trainer = lightning.Trainer(
        max_steps=steps, val_check_interval=3, num_sanity_val_steps=0, accelerator="cpu", **QUIET
    )
    trainer.fit(net, DataLoader(data(48, 0), 8, shuffle=True), DataLoader(data(24, 1), 8))
    return [value["val_loss"] for value in net.seen.evaluations]


class Spoilt(Net):
    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        with torch.no_grad():
            self.layers[0].weight.fill_(float("nan"))

    def evaluate(self, split: str, batch: Any) -> None:
        self.log("val_loss", torch.tensor(0.5))

    def loss(self, batch: Any) -> Tensor:
        return torch.nan_to_num(super().loss(batch))


def spoilt() -> Callable[[Run], None]:
    return body(module=Spoilt)


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return itertools.cycle(data(48, 0))


def endless() -> Callable[[Run], None]:
    return body(every=2, train_dataloaders=DataLoader(Endless(), 8))
