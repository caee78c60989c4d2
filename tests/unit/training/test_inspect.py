"""What is seen of models: our own workloads, and small ones of every kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tuner.core.records import Horizon, WorkloadRef
from tuner.recipes.book import KINDS, TASKS, TRAITS, all_recipes
from tuner.recipes.suggestion import Features, alike, rank
from tuner.training.inspect import look
from tuner.training.workloads import Workload
from tuner.training.workloads.cifar import CifarResNet
from tuner.training.workloads.load import load

OWN: list[tuple[str, str, set[str], str, str]] = [
    ("digits:DigitsCNN", "convnet", {"batch-norm"}, "image-classification", "resnet-cifar"),
    ("chars:CharTransformer", "transformer", {"causal", "embedding", "layer-norm"}, "language-model", "nanogpt-char"),
    ("gan:DigitsGAN", "gan", {"mlp"}, "image-generation", "wgan-gp"),
    ("unet:DigitsUNet", "unet", {"convnet", "group-norm"}, "segmentation", "unet-nnunet"),
    ("text:ManualPassages", "transformer", {"embedding", "layer-norm"}, "text-classification", "bert-base"),
    ("tabular:TabularMLP", "mlp", set(), "tabular", "mlp-sklearn"),
]


@pytest.mark.parametrize(("name", "kind", "traits", "task", "nearest"), OWN, ids=[row[0] for row in OWN])
def test_our_own_workloads(name: str, kind: str, traits: set[str], task: str, nearest: str) -> None:
    target = load(WorkloadRef(f"tuner.training.workloads.{name}"))
    assert isinstance(target, Workload)
    found = look(target)
    assert (found.kind, found.traits, found.tasks) == (kind, {kind, *traits}, {task})
    assert found.batch == target.batch_size
    assert found.parameters == sum(p.numel() for p in target.model(0).parameters())
    assert alike(rank(all_recipes(), found))[0].recipe.name == nearest


class Given(Workload):
    """A workload around any model and batch."""

    metric, direction, horizon = "loss", "minimize", {"steps": 10}

    def __init__(self, model: nn.Module, *batch: Tensor) -> None:
        self._model, self._batch = model, batch

    @property
    def steps_per_epoch(self) -> int:
        return 1

    def model(self, seed: int) -> nn.Module:
        return self._model

    def train_batches(self, epoch: int, seed: int) -> Iterator[Any]:
        yield self._batch

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        found = model(batch[0])
        return (found[0] if isinstance(found, tuple) else found).float().mean()

    def evaluate(self, model: nn.Module, split: str) -> Mapping[str, float]:
        return {"loss": 0.0}


def seen(model: nn.Module, *batch: Tensor) -> Features:
    found = look(Given(model, *batch))
    assert found.kind in KINDS
    assert found.traits <= set(TRAITS)
    assert found.tasks <= set(TASKS)
    return found


IMAGES, TOKENS, LABELS = torch.randn(6, 3, 8, 8), torch.zeros(6, 5, dtype=torch.long), torch.zeros(6, dtype=torch.long)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1, groups=3)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.first(x)
        return x + self.second(x)


class Patched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.attention = nn.Conv2d(3, 8, 4, stride=4), nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens)[0]


class ByHand(nn.Module):
    """Attention without a module or a function of its own, masked by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(7, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = self.token(x)
        scores = (h @ h.transpose(1, 2)).masked_fill(torch.ones(5, 5).triu(1).bool(), -1e9)
        return scores.softmax(-1) @ h


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token, self.rnn = nn.Embedding(7, 8), nn.LSTM(8, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(self.token(x))[0]


class Rising(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(self.conv(x), scale_factor=2)


def test_residuals_and_depthwise_convolutions() -> None:
    found = seen(Residual(), IMAGES, LABELS)
    assert (found.kind, found.traits) == ("convnet", {"convnet", "residual", "depthwise"})
    assert found.tasks == {"image-classification"}
    assert (found.batch, found.horizon) == (6, Horizon(10.0, "steps"))


def test_patches() -> None:
    found = seen(Patched(), IMAGES, LABELS)
    assert (found.kind, found.traits) == ("transformer", {"transformer", "patches"})
    assert found.tasks == {"image-classification"}


def test_attention_by_hand() -> None:
    found = seen(ByHand(), TOKENS, TOKENS)
    assert (found.kind, found.tasks) == ("transformer", {"language-model"})
    assert "causal" in found.traits


def test_recurrent() -> None:
    found = seen(Recurrent(), TOKENS, TOKENS)
    assert (found.kind, found.tasks) == ("rnn", {"language-model"})


def test_what_rises_again_is_a_unet() -> None:
    masks = torch.zeros(6, 8, 8, dtype=torch.long)
    assert seen(Rising(), IMAGES, masks).tasks == {"segmentation"}
    assert seen(Rising(), IMAGES, IMAGES).tasks == {"image-to-image", "image-generation"}


@pytest.mark.parametrize(
    ("norm", "word"),
    [
        (nn.BatchNorm2d(3), "batch-norm"),
        (nn.SyncBatchNorm(3), "batch-norm"),
        (nn.GroupNorm(1, 3), "group-norm"),
        (nn.InstanceNorm2d(3), "instance-norm"),
        (nn.LayerNorm(8), "layer-norm"),
        (nn.RMSNorm(8), "rms-norm"),
    ],
)
def test_norms(norm: nn.Module, word: str) -> None:
    assert seen(nn.Sequential(nn.Conv2d(3, 3, 1), norm), IMAGES, LABELS).norms == {word}


def test_a_loss_that_fails_leaves_a_remark() -> None:
    found = look(Given(nn.Linear(4, 1), torch.randn(6, 3)))
    assert "Its loss could not be computed on 2 examples (RuntimeError" in found.remarks[0]
    assert found.kind == "mlp"


def test_the_residual_network_on_cifar() -> None:
    found = seen(CifarResNet(width=8).model(0), torch.randn(4, 3, 32, 32), LABELS[:4])
    assert (found.kind, found.norms) == ("convnet", {"batch-norm"})
    assert "residual" in found.traits
    assert alike(rank(all_recipes(), found))[0].recipe.name == "resnet-cifar"
