"""A workload: ResNet-18 on CIFAR-10, read from a local folder. It downloads nothing."""

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
"""The environment variable that names the folder, where the option ``folder`` does not."""
ARCHIVE_FOLDER = "cifar-10-batches-py"
TRAIN_FILES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_FILE = "test_batch"
CLASSES = 10
TRAIN = 45_000
"""Training images; another 5,000 of the training files are for validation."""
HELD_OUT = 10
"""One in 10 images of each class in the training files is for validation."""
PAD = 4
"""Pixels of padding on each side, before a training image is cropped at random."""
EVALUATION_BATCH = 1000
MEAN = (0.4914, 0.4822, 0.4465)
DEVIATION = (0.2470, 0.2435, 0.2616)
"""Mean and standard deviation of red, green and blue over the official training images; white is 1."""

Images: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Pixels ``[n, 3, 32, 32]`` and labels ``[n]``."""


class CifarResNet(Workload):
    """Classify colour images of 32 x 32 pixels into ten classes: 45,000 to train, 5,000 validation, 10,000 test.

    The validation images are a fixed tenth of each class of the five training files; the test images are those of
    ``test_batch``. In each epoch training images are padded by 4 pixels, cropped at random and mirrored with
    probability 0.5 (He et al. 2016, section 4.2). ``accuracy`` is a share in [0, 1], ``loss`` the mean cross-entropy in
    nats, without label smoothing. An epoch is a pass over the training images: 351 steps at the batch size of 128. Use
    a GPU: on one CPU core a step takes 10 s at the width of 64.

    Args:
        folder: holds the files of CIFAR-10's python version; if empty, the environment variable TUNER_CIFAR10 names
            the folder. Each worker reads it, so give an absolute path that all nodes have.
        width: channels of the first stage; the last has eight times as many. 64 is ResNet-18: 11.2 million parameters.
        limit: the largest number of training images, spread as evenly over the classes as possible; None uses all.

    Raises:
        ValueError: ``limit`` is less than 1.
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
        # One copy in an epoch: indices on the CPU would make each step wait for the GPU.
        order = torch.cat(list(shuffled(len(x), self.batch_size, epoch, seed, x.device)))
        shifts, mirrored = shifts.to(x.device), mirrored.to(x.device)
        for start in range(0, len(order), self.batch_size):
            batch = slice(start, start + self.batch_size)
            chosen = order[batch]
            yield augmented(self._normalised(x[chosen]), shifts[batch], mirrored[batch]), y[chosen]

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
    """Return images that are padded with zeros, cropped at given places, and mirrored where asked.

    Args:
        images: float ``[n, channels, height, width]``, normalised, so that zero is the mean colour.
        shifts: int64 ``[n, 2]``, top row and left column of the crop, from 0 to 8; 4 leaves the image in its place.
        mirrored: bool ``[n]``; where True, left and right are exchanged.

    Returns:
        The images, of the same shape and on the same device; all three arguments are on it.
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
    """Return the folder that holds the six files: the given folder, or the archive's own folder inside it.

    Args:
        folder: the folder; if empty, the environment variable TUNER_CIFAR10 names it.

    Raises:
        WorkloadError: no folder is named, or files are missing.
    """
    given, place = folder or os.environ.get(VARIABLE, ""), Place("workload CifarResNet")
    expected = (
        f"the six files {TRAIN_FILES[0]} to {TRAIN_FILES[-1]} and {TEST_FILE} (31 MB each) of CIFAR-10's python version"
    )
    todo = (
        "Unpack cifar-10-python.tar.gz (170 MB, from www.cs.toronto.edu/~kriz/cifar.html) on every node, and name its "
        f"folder {ARCHIVE_FOLDER}, or the folder around it, in the option folder or in {VARIABLE}."
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
    """Return the images of an official file, uint8 ``[n, 3, 32, 32]`` in red, green, blue, and labels, int64 ``[n]``.

    Raises:
        WorkloadError: the file cannot be read, or holds something else.
    """
    try:
        with path.open("rb") as file:
            content = _Arrays(file, encoding="bytes").load()
        pixels, labels = content[b"data"], np.asarray(content[b"labels"], dtype=np.int64)
        found = f"holds pixels {pixels.dtype} {list(pixels.shape)} and labels {list(labels.shape)}"
        fits = pixels.dtype == np.uint8 and pixels.shape == (len(labels), 3072) and labels.ndim == 1
        fits = fits and labels.min() >= 0 and labels.max() < CLASSES
    except Exception as error:  # a damaged pickle can raise any exception
        found, fits = f"cannot be read ({type(error).__name__}: {error})", False
    if not fits:
        expected = "a pickled dict of 'data', uint8 [10000, 3072], and 'labels', 10,000 numbers from 0 to 9"
        raise WorkloadError(wrong(Place(str(path)), found, expected, "Unpack the archive again."))
    return pixels.reshape(-1, 3, 32, 32), labels


def split(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows for training and for validation, int64 each: always the same tenth of each class for validation.

    The training rows are ordered such that the first k, for any k, have the classes as evenly as possible.
    """
    rng = np.random.RandomState(0)  # numpy promises that the legacy generator's numbers never change
    train: list[tuple[int, int, int]] = []
    validation: list[int] = []
    for kind in range(CLASSES):
        rows = rng.permutation(np.flatnonzero(labels == kind)).tolist()
        held_out = len(rows) // HELD_OUT
        validation += rows[:held_out]
        train += [(rank, kind, row) for rank, row in enumerate(rows[held_out:])]
    return np.array([row for _, _, row in sorted(train)], dtype=np.int64), np.array(validation, dtype=np.int64)


class _Arrays(pickle.Unpickler):
    """Loads numpy arrays and plain data only, because a pickle from outside can call any function that it names."""

    _ALLOWED: Mapping[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        **{(f"numpy.{core}.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0] for core in ("core", "_core")},
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}; expected only numpy arrays")
        return self._ALLOWED[module, name]


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
    """Two normalised 3 x 3 convolutions and a shortcut, which is projected where the shape changes."""

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
