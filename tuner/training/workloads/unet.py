"""A workload: a small U-Net that marks the pixels of digits on canvases drawn from scikit-learn's digits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from tuner.training.workloads.base import Batch, Workload, shuffled

SIZES = {"train": 512, "validation": 256, "test": 256}
SIDE = 24
"""Pixels of a canvas's side."""
DIGIT = 8
"""Pixels of a digit's side."""
DIGITS, SCRAPS = 2, 2
"""Number of each on a canvas."""
INK = 0.25
"""A digit's pixels above this share of full black are foreground."""
NOISE = 0.1
"""Standard deviation of the noise on each pixel; full black is 1."""
CLASSES = 2
FOREGROUND = 0.09
"""The share of foreground pixels."""
GROUPS = 4
"""Groups of each GroupNorm."""


class DigitsUNet(Workload):
    """Mark the pixels that belong to a digit: 512 training, 256 validation and 256 test canvases of 24 x 24 pixels.

    Each canvas shows two digits and two scraps, which are digits with their quarters in another order. They have random
    places and random contrast, with Gaussian noise added; 9 % of the pixels are foreground. The canvases are drawn once
    from a fixed seed, and the splits use disjoint digits (60, 20 and 20 % of scikit-learn's 1,797).

    ``iou`` is the mean of the intersection over union, in [0, 1], of background and foreground, each over the whole
    split (as in the PASCAL VOC segmentation challenge); predicting only background gives 0.46. ``loss`` is the mean
    cross-entropy in nats per pixel, without label smoothing. An epoch is a pass over the training canvases: 32 steps at
    the batch size of 16. A run of the default horizon, 320 steps, takes 9 s on one core.

    Args:
        width: channels at full resolution, a multiple of 4; each lower level has twice as many as the one above.

    Raises:
        ValueError: the width is no multiple of 4.
    """

    metric = "iou"
    direction = "maximize"
    has_test = True
    horizon: Mapping[str, float] | None = {"epochs": 10}
    batch_size: int = 16
    label_smoothing: float = 0.0

    def __init__(self, width: int = 8) -> None:
        if width % GROUPS:
            raise ValueError(f"width is {width}; expected a multiple of {GROUPS}, the groups of each normalisation")
        self.width = width

    def setup(self) -> None:
        self.data = {split: (x.to(self.device), y.to(self.device)) for split, (x, y) in canvases().items()}

    @property
    def steps_per_epoch(self) -> int:
        return SIZES["train"] // self.batch_size

    def model(self, seed: int) -> nn.Module:  # noqa: ARG002
        return _UNet(self.width)

    def train_batches(self, epoch: int, seed: int) -> Iterator[Batch]:
        x, y = self.data["train"]
        for chosen in shuffled(SIZES["train"], self.batch_size, epoch, seed, self.device):
            yield x[chosen], y[chosen]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        return _cross_entropy(model(x), y, self.label_smoothing)

    def evaluate(self, model: nn.Module, split: str) -> Mapping[str, float]:
        x, y = self.data[split]
        logits = model(x)
        return {"iou": mean_iou(logits.argmax(1), y), "loss": float(_cross_entropy(logits, y))}


def mean_iou(predicted: Tensor, target: Tensor) -> float:
    """Return the mean over the classes of intersection over union, from two int64 tensors of the same shape.

    A class that occurs in neither tensor is left out.

    >>> mean_iou(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1]))
    0.5833333333333333
    """
    shares = []
    for kind in range(CLASSES):
        in_predicted, in_target = predicted == kind, target == kind
        union = int((in_predicted | in_target).sum())
        if union:
            shares.append(int((in_predicted & in_target).sum()) / union)
    return sum(shares) / len(shares)


def _cross_entropy(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    # Flattened, because the spatial form of this loss has no deterministic kernel on CUDA.
    flat = logits.movedim(1, -1).flatten(0, -2).float()
    return nn.functional.cross_entropy(flat, target.flatten(), label_smoothing=smoothing)


def canvases() -> dict[str, tuple[Tensor, Tensor]]:
    """Return each split's canvases, float32 ``[n, 1, 24, 24]``, and their classes, int64 ``[n, 24, 24]``."""
    from sklearn.datasets import load_digits

    images = torch.tensor(load_digits().images / 16.0, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(images), generator=generator)
    first, second = int(0.6 * len(order)), int(0.8 * len(order))
    parts = {"train": order[:first], "validation": order[first:second], "test": order[second:]}
    drawn = {}
    for split, size in SIZES.items():
        split_images = images[parts[split]]
        pairs = [_canvas(split_images, generator) for _ in range(size)]
        drawn[split] = torch.stack([x for x, _ in pairs]).unsqueeze(1), torch.stack([y for _, y in pairs])
    return drawn


def _canvas(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw a canvas and the class of each pixel, with a digit or a scrap at a random place in each quarter."""
    count, quarter = DIGITS + SCRAPS, SIDE // 2
    canvas, classes = torch.zeros(SIDE, SIDE), torch.zeros(SIDE, SIDE, dtype=torch.int64)
    quarters = torch.randperm(count, generator=generator).tolist()
    chosen = torch.randint(len(images), (count,), generator=generator).tolist()
    places = torch.randint(quarter - DIGIT + 1, (count, 2), generator=generator).tolist()
    contrasts = (0.6 + 0.4 * torch.rand(count, generator=generator)).tolist()
    for number in range(count):
        row, column = divmod(quarters[number], 2)
        top, left = row * quarter + places[number][0], column * quarter + places[number][1]
        area = slice(top, top + DIGIT), slice(left, left + DIGIT)
        image = images[chosen[number]]
        if number < DIGITS:
            classes[area] = (image > INK).long()
        else:
            image = _scrap(image, generator)
        canvas[area] = contrasts[number] * image
    return canvas + NOISE * torch.randn(SIDE, SIDE, generator=generator), classes


def _scrap(image: Tensor, generator: torch.Generator) -> Tensor:
    """Return the image with its quarters mirrored and in another order, which keeps the strokes and not the digit."""
    quarters = [part.flip(0, 1) for half in image.chunk(2, 0) for part in half.chunk(2, 1)]
    turn = 1 + int(torch.randint(3, (1,), generator=generator))
    a, b, c, d = (quarters[(place + turn) % 4] for place in range(4))
    return torch.cat([torch.cat([a, b], 1), torch.cat([c, d], 1)], 0)


class _UNet(nn.Module):
    """Three levels with skip connections, padded convolutions and learned up-sampling (Ronneberger et al. 2015).

    It has GroupNorm (Wu and He 2018) instead of BatchNorm, so that its output depends neither on the batch size, which
    a study may search, nor on running statistics. The head's bias starts at the classes' shares (Lin et al. 2017,
    section 4.1): otherwise many seeds need a hundred steps to learn that most pixels are background.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.down1, self.down2, self.bottom = _block(1, width), _block(width, 2 * width), _block(2 * width, 4 * width)
        self.rise2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.up2 = _block(4 * width, 2 * width)
        self.rise1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.up1 = _block(2 * width, width)
        self.head = nn.Conv2d(width, CLASSES, 1)
        with torch.no_grad():
            self.head.bias.copy_(torch.tensor([1 - FOREGROUND, FOREGROUND]).log())  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        """From canvases ``[n, 1, 24, 24]`` to logits ``[n, 2, 24, 24]``."""
        full = self.down1(x)
        half = self.down2(self.pool(full))
        quarter = self.bottom(self.pool(half))
        half = self.up2(torch.cat([self.rise2(quarter), half], 1))
        logits: Tensor = self.head(self.up1(torch.cat([self.rise1(half), full], 1)))
        return logits


def _block(inputs: int, outputs: int) -> nn.Sequential:
    """Return two 3 x 3 convolutions, each followed by GroupNorm and ReLU."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(GROUPS, outputs),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)
