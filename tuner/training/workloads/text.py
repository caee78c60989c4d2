"""A workload: classify passages of Python's own manual by their subject. The text comes with every CPython."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor, nn

from tuner.core.errors import Place, WorkloadError, wrong
from tuner.core.values import counted
from tuner.training.workloads.base import Batch, Workload, shuffled

WORDS = 24
"""Words in a passage."""
SIZES = {"train": 80, "validation": 40, "test": 40}
"""Passages of each class."""
SHINGLE = 8
"""No two passages share this many words in a row."""
SPLIT_SEED = 0
MODELS = ("bag", "encoder")
CLASSES: Mapping[str, str] = MappingProxyType(
    {
        "special methods": "specialnames",
        "compound statements": "compound",
        "simple statements": "assignment import raise assert del global nonlocal return pass break continue",
        "expressions": "comparisons calls binary operator-summary subscriptions slicings booleans power "
        "atom-identifiers exprlists attribute-references unary bitwise conversions lists shifting lambda",
        "types": "types objects",
        "containers": "typesseq typesmapping dict",
        "strings": "string-methods formatstrings strings",
    }
)
"""Each class with its topics of ``pydoc_data``; no topic contains another."""

Passage: TypeAlias = tuple[str, ...]


class ManualPassages(Workload):
    """Classify passages of 24 words by their subject, one of seven: 560 to train, 280 validation, 280 test.

    The text is that of ``pydoc_data.topics``, Python's language reference. Passages follow one another without overlap.
    A passage that shares eight words in a row with an earlier one is left out. Each split has the same number of
    passages of each class (80, 40, 40), drawn once from a fixed seed. So ``accuracy``, a share in [0, 1], is the
    balanced accuracy too, and is 0.143 by chance. ``loss`` is the mean cross-entropy in nats, without label smoothing;
    it is ln 7 = 1.95 by chance. The vocabulary is that of the training passages, without the words that occur once.
    Compare values within one Python version only: the text changes with each release.

    An epoch is a pass over the training passages: 17 steps at the batch size of 32. A run of the default horizon, 204
    steps, takes 2 s on one core, or 0.2 s with the bag.

    Args:
        model: ``encoder``, a small Transformer, or ``bag``, the mean of the words' vectors.
        width: of the words' vectors; with the encoder a multiple of ``heads``.
        layers: blocks of the encoder.
        heads: of each attention of the encoder.
        dropout: share of the bag, or of each of the encoder's outputs, that is dropped.

    Raises:
        ValueError: the model is unknown, or the width is no multiple of the heads.
    """

    metric = "accuracy"
    direction = "maximize"
    has_test = True
    horizon: Mapping[str, float] | None = {"epochs": 12}
    batch_size: int = 32
    label_smoothing: float = 0.0

    def __init__(
        self, model: str = "encoder", width: int = 32, layers: int = 1, heads: int = 4, dropout: float = 0.1
    ) -> None:
        if model not in MODELS:
            raise ValueError(f"model is {model!r}; expected {' or '.join(MODELS)}")
        if model == "encoder" and width % heads:
            raise ValueError(f"width is {width}; expected a multiple of heads = {heads}")
        self.kind, self.width, self.layers, self.heads, self.dropout = model, width, layers, heads, dropout

    def setup(self) -> None:
        splits = divided(passages())
        counts = Counter(word for passage, _ in splits["train"] for word in passage)
        frequent = sorted(word for word, count in counts.items() if count > 1)
        codes = {word: code for code, word in enumerate(frequent, start=1)}
        self.vocabulary = 1 + len(codes)
        self.data: dict[str, tuple[Tensor, Tensor]] = {}
        for split, pairs in splits.items():
            x = torch.tensor([[codes.get(word, 0) for word in passage] for passage, _ in pairs])
            y = torch.tensor([kind for _, kind in pairs])
            self.data[split] = x.to(self.device), y.to(self.device)

    @property
    def steps_per_epoch(self) -> int:
        return len(CLASSES) * SIZES["train"] // self.batch_size

    def model(self, seed: int) -> nn.Module:  # noqa: ARG002
        if self.kind == "bag":
            return _Bag(self.vocabulary, self.width, self.dropout)
        return _Encoder(self.vocabulary, self.width, self.layers, self.heads, self.dropout)

    def train_batches(self, epoch: int, seed: int) -> Iterator[Batch]:
        x, y = self.data["train"]
        for chosen in shuffled(len(x), self.batch_size, epoch, seed, self.device):
            yield x[chosen], y[chosen]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(model(x).float(), y, label_smoothing=self.label_smoothing)

    def evaluate(self, model: nn.Module, split: str) -> Mapping[str, float]:
        x, y = self.data[split]
        logits = model(x).float()
        return {
            "accuracy": float((logits.argmax(1) == y).double().mean()),
            "loss": float(nn.functional.cross_entropy(logits, y)),
        }


def passages() -> list[list[Passage]]:
    """Return a list of passages for each class, in the order of ``CLASSES`` and of the manual.

    Words are in lower case, without digits and punctuation.

    Raises:
        WorkloadError: this Python's manual lacks a topic.
    """
    from pydoc_data.topics import topics

    by_class: list[list[Passage]] = []
    seen: set[Passage] = set()
    for names in CLASSES.values():
        kept = []
        for name in names.split():
            if name not in topics:
                raise _unusable_manual(f"has no topic {name!r}")
            words = re.findall("[a-z]+", topics[name].lower())
            for start in range(0, len(words) - WORDS + 1, WORDS):
                passage = tuple(words[start : start + WORDS])
                shingles = {passage[at : at + SHINGLE] for at in range(WORDS - SHINGLE + 1)}
                if seen.isdisjoint(shingles):
                    kept.append(passage)
                    seen |= shingles
        by_class.append(kept)
    return by_class


def divided(by_class: list[list[Passage]]) -> dict[str, list[tuple[Passage, int]]]:
    """Return each split's passages with the indices of their classes, drawn at random from the same seed each time.

    Raises:
        WorkloadError: a class has fewer than 160 passages.
    """
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    splits: dict[str, list[tuple[Passage, int]]] = {split: [] for split in SIZES}
    for kind, (name, members) in enumerate(zip(CLASSES, by_class, strict=True)):
        if len(members) < sum(SIZES.values()):
            raise _unusable_manual(f"has {counted(len(members), 'passage')} on {name}")
        order = torch.randperm(len(members), generator=generator).tolist()
        for split, size in SIZES.items():
            splits[split] += [(members[order.pop()], kind) for _ in range(size)]
    return splits


def _unusable_manual(found: str) -> WorkloadError:
    place = Place(f"the manual of Python {sys.version_info.major}.{sys.version_info.minor}")
    expected, todo = "160 passages of each class, as in 3.11 to 3.13", "Use one of these Python versions."
    return WorkloadError(wrong(place, found, expected, todo))


class _Bag(nn.Module):
    """The mean of the word vectors, normalised, and a linear layer (as in Joulin et al. 2017)."""

    def __init__(self, vocabulary: int, width: int, dropout: float) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.norm, self.dropout, self.head = nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, len(CLASSES))
        nn.init.normal_(self.words.weight, std=0.02)

    def forward(self, codes: Tensor) -> Tensor:
        """From codes ``[batch, words]`` to logits ``[batch, classes]``."""
        logits: Tensor = self.head(self.dropout(self.norm(self.words(codes).mean(1))))
        return logits


class _Encoder(nn.Module):
    """Word and position embeddings, pre-norm Transformer blocks (Vaswani et al. 2017), the mean over words, a head."""

    def __init__(self, vocabulary: int, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.02 * torch.randn(WORDS, width))
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True)
                for _ in range(layers)
            )
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, len(CLASSES))
        nn.init.normal_(self.words.weight, std=0.02)

    def forward(self, codes: Tensor) -> Tensor:
        """From codes ``[batch, words]`` to logits ``[batch, classes]``."""
        logits: Tensor = self.head(self.norm(self.blocks(self.words(codes) + self.position)).mean(1))
        return logits
