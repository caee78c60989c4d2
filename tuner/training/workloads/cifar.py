"""ResNet-18 on CIFAR-10 from a local folder; it reads the files that are there and downloads none."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tuner.core.errors import Place, WorkloadError, wrong
from tuner.core.values import derive_seed
from tuner.training.workloads.base import Batch, Workload, shuffled

VARIABLE = "TUNER_CIFAR10"
ARCHIVE_FOLDER = "cifar-10-batches-py"
TRAIN_FILES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_FILE = "test_batch"
CLASSES = 10
TRAIN = 45_000
HELD_OUT = 10
"""One in so many images of each class is for validation."""
PAD = 4
EVALUATION_BATCH = 1000
MEAN = (0.4914, 0.4822, 0.4465)
DEVIATION = (0.2470, 0.2435, 0.2616)
"""Of red, green and blue over the official training images; white is 1."""

Images: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Pixels ``[n, 3, 32, 32]`` and labels ``[n]``."""


class CifarResNet(Workload):
    """Ten kinds of things on 32 x 32 colour images: 45,000 for training, 5,000 validation, 10,000 test.

    The validation images are a tenth of each class of the five training files, always the same; the test images are
    those of ``test_batch``. Training images are padded by 4 pixels, cropped at random and mirrored half of the
    time (He et al. 2016, section 4.2), drawn anew in each epoch. ``accuracy`` is a share in [0, 1], ``loss`` the
    mean cross-entropy in nats, without label smoothing. An epoch is a pass over the training images: 351 steps at
    the batch size of 128. It is meant for a GPU: on one CPU core a step takes 10 s at the width of 64.

    Args:
        folder: where the files of CIFAR-10's python version are; if empty, the environment variable TUNER_CIFAR10
            says it. Each worker looks for itself, so name an absolute path that all nodes have.
        width: channels of the first stage; the last has eight times as many. 64 is ResNet-18: 11.2 million parameters.
        limit: train on at most so many images, as evenly spread over the classes as can be.
    """

    metric = "accuracy"
    direction = "maximize"
    has_test = True
    horizon: Mapping[str, float] | None = {"epochs": 30}
    batch_size: int = 128
    label_smoothing: float = 0.0

    def __init__(self, folder: str = "", width: int = 64, limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit}; expected at least 1, or None for all images")
        self.folder, self.width, self.limit = folder, width, limit
        self.train_size = min(TRAIN, limit or TRAIN)

    def setup(self) -> None:
        folder = find(self.folder)
        parts = [read(folder / name) for name in TRAIN_FILES]
        images, labels = np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])
        train, validation = split(labels)
        rows = {"train": train[: self.limit], "validation": validation}
        chosen = {name: (images[which], labels[which]) for name, which in rows.items()}
        chosen["test"] = read(folder / TEST_FILE)
        self.data = {
            name: (torch.from_numpy(x).to(self.device), torch.from_numpy(y).to(self.device))
            for name, (x, y) in chosen.items()
        }
        self.mean = torch.tensor(MEAN, device=self.device).view(3, 1, 1)
        self.deviation = torch.tensor(DEVIATION, device=self.device).view(3, 1, 1)
        self.train_size = len(rows["train"])

    @property
    def steps_per_epoch(self) -> int:
        return self.train_size // self.batch_size

    def model(self, seed: int) -> nn.Module:  # noqa: ARG002
        return _ResNet(self.width)

    def train_batches(self, epoch: int, seed: int) -> Iterator[Batch]:
        x, y = self.data["train"]
        generator = torch.Generator().manual_seed(derive_seed(seed, epoch, "augmentation"))
        shifts = torch.randint(2 * PAD + 1, (len(x), 2), generator=generator)
        mirrored = torch.rand(len(x), generator=generator) < 0.5
        # One copy an epoch: an index that comes from the CPU would make every step wait for the GPU.
        order = torch.cat(list(shuffled(len(x), self.batch_size, epoch, seed, x.device)))
        shifts, mirrored = shifts.to(x.device), mirrored.to(x.device)
        for start in range(0, len(order), self.batch_size):
            now = slice(start, start + self.batch_size)
            chosen = order[now]
            yield augmented(self._normalised(x[chosen]), shifts[now], mirrored[now]), y[chosen]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(model(x).float(), y, label_smoothing=self.label_smoothing)

    def evaluate(self, model: nn.Module, split: str) -> Mapping[str, float]:
        right, loss = (torch.zeros((), dtype=torch.float64, device=self.device) for _ in range(2))
        pixels, labels = self.data[split]
        for start in range(0, len(labels), EVALUATION_BATCH):
            x, y = pixels[start : start + EVALUATION_BATCH], labels[start : start + EVALUATION_BATCH]
            logits = model(self._normalised(x)).float()
            right += (logits.argmax(1) == y).sum()
            loss += nn.functional.cross_entropy(logits, y, reduction="sum")
        return {"accuracy": float(right) / len(labels), "loss": float(loss) / len(labels)}

    def _normalised(self, pixels: Tensor) -> Tensor:
        return (pixels.float() / 255 - self.mean) / self.deviation


def augmented(images: Tensor, shifts: Tensor, mirrored: Tensor) -> Tensor:
    """Return each image cut from its zero-padded self at its place, mirrored where asked; all on one device.

    Args:
        images: ``[n, channels, height, width]``, normalised, so that zero is the mean colour.
        shifts: int64 ``[n, 2]``, rows and columns, from 0 to 8; 4 leaves the image where it is.
        mirrored: bool ``[n]``; left and right change places.
    """
    count, channels, height, width = images.shape
    padded = nn.functional.pad(images, (PAD, PAD, PAD, PAD))
    which, channel, down, across = (torch.arange(size, device=images.device) for size in images.shape)
    across = torch.where(mirrored.unsqueeze(1), width - 1 - across, across)
    rows, columns = shifts[:, :1] + down, shifts[:, 1:] + across
    return padded[
        which.view(count, 1, 1, 1),
        channel.view(1, channels, 1, 1),
        rows.view(count, 1, height, 1),
        columns.view(count, 1, 1, width),
    ]


def find(folder: str) -> Path:
    """Return the folder that holds the six files: the one given, or the archive's own folder inside it.

    Raises:
        WorkloadError: no folder is named, or files are missing.
    """
    given, place = folder or os.environ.get(VARIABLE, ""), Place("workload CifarResNet")
    expected = (
        f"the six files {TRAIN_FILES[0]} to {TRAIN_FILES[-1]} and {TEST_FILE} (31 MB each) of CIFAR-10's python version"
    )
    todo = (
        "Unpack cifar-10-python.tar.gz (170 MB, from www.cs.toronto.edu/~kriz/cifar.html) on every node, and name its "
        f"folder {ARCHIVE_FOLDER}, or the one around it, by the option folder or by {VARIABLE}; nothing is downloaded."
    )
    if not given:
        raise WorkloadError(wrong(place, f"has no option folder, and {VARIABLE} is not set", expected, todo))
    folder_given = Path(given).expanduser().absolute()
    inner = folder_given / ARCHIVE_FOLDER
    where = inner if inner.is_dir() else folder_given
    missing = [name for name in (*TRAIN_FILES, TEST_FILE) if not (where / name).is_file()]
    if missing:
        found = f"finds no {', '.join(missing)} in {where}" if where.is_dir() else f"finds no folder {where}"
        raise WorkloadError(wrong(place, found, expected, todo))
    return where


def read(path: Path) -> Images:
    """Return the images of one official file: uint8 ``[n, 3, 32, 32]``, in red, green, blue, and their labels.

    Raises:
        WorkloadError: it is not such a file.
    """
    try:
        with path.open("rb") as file:
            content = _Arrays(file, encoding="bytes").load()
        pixels, labels = content[b"data"], np.asarray(content[b"labels"], dtype=np.int64)
        found = f"holds pixels {pixels.dtype} {list(pixels.shape)} and labels {list(labels.shape)}"
        fits = pixels.dtype == np.uint8 and pixels.shape == (len(labels), 3072) and labels.ndim == 1
        fits = fits and labels.min() >= 0 and labels.max() < CLASSES
    except Exception as error:  # a damaged pickle can raise anything
        found, fits = f"cannot be read ({type(error).__name__}: {error})", False
    if not fits:
        expected = "a pickled dict of 'data', uint8 [10000, 3072], and 'labels', 10,000 numbers from 0 to 9"
        raise WorkloadError(wrong(Place(str(path)), found, expected, "Unpack the archive anew."))
    return pixels.reshape(-1, 3, 32, 32), labels


def split(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows for training and for validation: a tenth of each class, the same ones every time.

    Any head of the training rows has as many of each class as can be.
    """
    rng = np.random.RandomState(0)  # the legacy generator: numpy promises never to change what it draws
    train: list[tuple[int, int, int]] = []
    validation: list[int] = []
    for kind in range(CLASSES):
        rows = rng.permutation(np.flatnonzero(labels == kind)).tolist()
        held_out = len(rows) // HELD_OUT
        validation += rows[:held_out]
        train += [(rank, kind, row) for rank, row in enumerate(rows[held_out:])]
    return np.array([row for _, _, row in sorted(train)], dtype=np.int64), np.array(validation, dtype=np.int64)


class _Arrays(pickle.Unpickler):
    """Knows numpy's arrays and plain data only: the files come from outside, and a pickle can name any function."""

    _KNOWN: Mapping[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        **{(f"numpy.{core}.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0] for core in ("core", "_core")},
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only numpy arrays are let in")
        return self._KNOWN[module, name]


class _ResNet(nn.Module):
    """ResNet-18 (He et al. 2016) for small images: a 3 x 3 stem without stride or pooling, projection shortcuts."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(_convolution(3, width, 3), nn.BatchNorm2d(width), nn.ReLU())
        self.stages = nn.Sequential()
        inputs = width
        for level in range(4):
            outputs = width * 2**level
            stride = 1 if level == 0 else 2
            self.stages.append(nn.Sequential(_Block(inputs, outputs, stride), _Block(outputs, outputs, 1)))
            inputs = outputs
        self.head = nn.Linear(inputs, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """From images ``[n, 3, 32, 32]`` to logits ``[n, 10]``."""
        # The plain mean: adaptive pooling has no deterministic gradient on CUDA.
        logits: Tensor = self.head(self.stages(self.stem(x)).mean((2, 3)))
        return logits


class _Block(nn.Module):
    """Two normalised 3 x 3 convolutions beside a shortcut that is projected where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = _convolution(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = _convolution(outputs, outputs, 3), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if (inputs, stride) != (outputs, 1):
            self.shortcut = nn.Sequential(_convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        hidden = nn.functional.relu(self.norm1(self.conv1(x)))
        out: Tensor = nn.functional.relu(self.norm2(self.conv2(hidden)) + self.shortcut(x))
        return out


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Return a padded convolution without bias, initialised as in He et al. 2015."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution
