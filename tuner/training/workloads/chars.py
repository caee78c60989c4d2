"""A workload: a small decoder-only Transformer that models the text of Python's own manual by characters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from tuner.core.values import Scalar, derive_seed
from tuner.training.workloads.base import Batch, Workload

CONTEXT = 64
"""Characters of a window."""
WINDOWS_PER_EPOCH = 3200
"""Random windows in an epoch (100 batches of 32); an epoch is not a pass over the text."""
EVALUATION_WINDOWS = 128
"""Windows of an evaluation, at fixed places."""


class CharTransformer(Workload):
    """Predict the next character of ``pydoc_data.topics``: 90 % to train, then 5 % each for validation and test.

    ``loss`` is the cross-entropy in nats per character on 128 fixed windows; uniform guessing over 103 characters has
    4.63. Compare values within one Python version only: the text is the language reference, which changes with each
    release (465,000 characters, 103 different ones, in Python 3.11).

    Args:
        width: of the residual stream; a multiple of ``heads``.
        layers: number of blocks.
        heads: of each attention.
        dropout: share of each block's output that is dropped.
        eval_every_steps: as in ``Workload``.
    """

    metric = "loss"
    direction = "minimize"
    has_test = True
    horizon: Mapping[str, float] | None = {"steps": 200}
    training: Mapping[str, Scalar] = {"clip_norm": 1.0}
    batch_size: int = 32

    def __init__(
        self, width: int = 64, layers: int = 2, heads: int = 4, dropout: float = 0.0, eval_every_steps: int = 50
    ) -> None:
        if width % heads:
            raise ValueError(f"width is {width}; expected a multiple of heads = {heads}")
        self.width, self.layers, self.heads, self.dropout = width, layers, heads, dropout
        self.eval_every_steps = eval_every_steps

    def setup(self) -> None:
        from pydoc_data.topics import topics

        text = "\n".join(topics[name] for name in sorted(topics))
        letters = {letter: index for index, letter in enumerate(sorted(set(text)))}
        self.vocabulary = len(letters)
        codes = torch.tensor([letters[letter] for letter in text], dtype=torch.int64, device=self.device)
        first, second = int(0.9 * len(codes)), int(0.95 * len(codes))
        self.data = {"train": codes[:first], "validation": codes[first:second], "test": codes[second:]}

    @property
    def steps_per_epoch(self) -> int:
        return WINDOWS_PER_EPOCH // self.batch_size

    def model(self, seed: int) -> nn.Module:  # noqa: ARG002
        return _Decoder(self.vocabulary, self.width, self.layers, self.heads, self.dropout)

    def train_batches(self, epoch: int, seed: int) -> Iterator[Batch]:
        codes = self.data["train"]
        generator = torch.Generator().manual_seed(derive_seed(seed, epoch))
        count = self.steps_per_epoch * self.batch_size
        starts = torch.randint(len(codes) - CONTEXT, (count, 1), generator=generator)
        places = (starts + torch.arange(CONTEXT + 1)).to(codes.device)  # once an epoch: each copy waits for the GPU
        for first in range(0, count, self.batch_size):
            windows = codes[places[first : first + self.batch_size]]
            yield windows[:, :-1], windows[:, 1:]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(model(x).flatten(0, 1).float(), y.flatten())

    def evaluate(self, model: nn.Module, split: str) -> Mapping[str, float]:
        codes = self.data[split]
        starts = torch.linspace(0, len(codes) - CONTEXT - 1, EVALUATION_WINDOWS).long().unsqueeze(1)
        windows = codes[(starts + torch.arange(CONTEXT + 1)).to(codes.device)]
        return {"loss": float(self.loss(model, (windows[:, :-1], windows[:, 1:])))}


class _Decoder(nn.Module):
    """Token and position embeddings, pre-norm blocks (Radford et al. 2019), a head with weights of its own."""

    def __init__(self, vocabulary: int, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.02 * torch.randn(CONTEXT, width))
        self.blocks = nn.Sequential(*(_Block(width, heads, dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        nn.init.normal_(self.token.weight, std=0.02)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, codes: Tensor) -> Tensor:
        """From codes ``[batch, length]`` to logits ``[batch, length, vocabulary]``."""
        x = self.token(codes) + self.position[: codes.shape[1]]
        logits: Tensor = self.head(self.norm(self.blocks(x)))
        return logits


class _Block(nn.Module):
    """Causal self-attention and an MLP of four times the width, each on normalised input, added to the residual."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.dropout(self.out(mixed.transpose(1, 2).reshape(batch, length, width)))
        hidden = nn.functional.gelu(self.up(self.norm2(x)))
        out: Tensor = x + self.dropout(self.down(hidden))
        return out
