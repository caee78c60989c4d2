from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from tuner.core.errors import WorkloadError
from tuner.core.records import Outcome, Phase, WorkloadRef
from tuner.training.run import train
from tuner.training.workloads.cifar import PAD, CifarResNet, augmented, find, read, split
from tuner.training.workloads.load import describe, load

from .helpers import BUILT_IN, assign, numbers, trained

CIFAR = BUILT_IN + "cifar:CifarResNet"
FILES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
SIZE = 40


class Python2Pickler(pickle._Pickler):
    """Writes byte strings, numpy's names and protocol 2 as Python 2 did when the official files were made."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)

    def save_string(self, text: bytes | str) -> None:
        data = text if isinstance(text, bytes) else text.encode("ascii")
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)

    dispatch[bytes] = dispatch[str] = save_string


def write_batch(path: Path, content: Any) -> None:
    with path.open("wb") as file:
        Python2Pickler(file, protocol=2).dump(content)
    path.write_bytes(path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))


def pictures(seed: int) -> dict[bytes, Any]:
    """As many of each class; a class has a colour of its own, under noise."""
    rng = np.random.RandomState(seed)
    labels = rng.permutation(np.arange(SIZE) % 10)
    colours = np.stack([np.arange(10) % 2, np.arange(10) // 2 % 3, np.arange(10) // 6]) * 80
    pixels = rng.randint(0, 80, (SIZE, 3, 1024)) + colours.T[labels][:, :, None]
    return {
        b"batch_label": b"training batch %d of 5" % seed,
        b"labels": labels.tolist(),
        b"data": pixels.reshape(SIZE, 3072).astype(np.uint8),
        b"filenames": [b"thing_%d.png" % number for number in range(SIZE)],
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("cifar")
    for seed, name in enumerate(FILES, start=1):
        write_batch(place / name, pictures(seed))
    return place


def small(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "options": {"folder": str(folder), "width": 4},
        "training": {"batch_size": 20},
        "metric": "accuracy",
        **more,
    }


def placed(folder: Path, **options: Any) -> CifarResNet:
    workload = CifarResNet(str(folder), width=4, **options)
    workload.place(torch.device("cpu"), {})
    return workload


def test_a_file_is_in_the_official_format_and_is_read(folder: Path) -> None:
    path, content = folder / "data_batch_2", pictures(2)
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in path.read_bytes()
    images, labels = read(path)
    assert (images.dtype, images.shape) == (np.uint8, (SIZE, 3, 32, 32))
    assert labels.tolist() == content[b"labels"]
    assert np.array_equal(images[7, 2, 1], content[b"data"][7, 2048 + 32 : 2048 + 64])


def test_the_splits_are_stratified_and_share_no_image(folder: Path) -> None:
    data = placed(folder).data
    assert {name: len(y) for name, (_, y) in data.items()} == {"train": 180, "validation": 20, "test": 40}
    assert torch.equal(data["validation"][1].bincount(), torch.full((10,), 2))
    assert torch.equal(data["train"][1].bincount(), torch.full((10,), 18))
    seen = [image.numpy().tobytes() for x, _ in data.values() for image in x]
    assert len(set(seen)) == len(seen) == 240


def test_the_official_split_is_45000_and_5000_and_any_head_of_it_is_stratified() -> None:
    labels = np.random.RandomState(1).permutation(np.arange(50_000) % 10)
    train_rows, validation = split(labels)
    assert (len(train_rows), len(validation)) == (45_000, 5_000)
    assert len(np.union1d(train_rows, validation)) == 50_000
    assert np.bincount(labels[validation]).tolist() == [500] * 10
    assert np.bincount(labels[train_rows[:1000]]).tolist() == [100] * 10
    assert np.array_equal(split(labels)[0], train_rows)


def test_a_limit_trains_on_so_many_images(folder: Path) -> None:
    workload = placed(folder, limit=50)
    assert torch.equal(workload.data["train"][1].bincount(), torch.full((10,), 5))
    assert len(workload.data["validation"][1]) == 20
    workload.batch_size = 10
    assert workload.steps_per_epoch == len(list(workload.train_batches(0, 0))) == 5


def test_the_length_of_an_epoch_is_known_before_the_files_are_read() -> None:
    assert CifarResNet().steps_per_epoch == 351
    assert CifarResNet(limit=1280).steps_per_epoch == 10


def test_the_model_is_resnet_18() -> None:
    assert sum(p.numel() for p in CifarResNet().model(0).parameters()) == 11_173_962
    model = CifarResNet(width=4).model(0)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(convolutions) == 17
    assert not any(isinstance(m, nn.MaxPool2d) for m in model.modules())
    assert model.stages(model.stem(torch.zeros(1, 3, 32, 32))).shape == (1, 32, 4, 4)  # type: ignore[operator]


def test_augmentation_crops_and_mirrors_like_a_loop_over_images() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(12, 3, 32, 32, generator=generator)
    shifts = torch.randint(2 * PAD + 1, (12, 2), generator=generator)
    mirrored = torch.rand(12, generator=generator) < 0.5
    made = augmented(images, shifts, mirrored)
    for number, (down, across) in enumerate(shifts.tolist()):
        padded = torch.zeros(3, 40, 40)
        padded[:, 4:36, 4:36] = images[number]
        crop = padded[:, down : down + 32, across : across + 32]
        assert torch.equal(made[number], crop.flip(2) if mirrored[number] else crop)
    assert torch.equal(augmented(images, torch.full((12, 2), PAD), torch.zeros(12, dtype=torch.bool)), images)


def test_augmentation_is_a_function_of_seed_and_epoch(folder: Path) -> None:
    workload = placed(folder)

    def first(epoch: int, seed: int) -> torch.Tensor:
        x: torch.Tensor = next(iter(workload.train_batches(epoch, seed)))[0]
        return x

    torch.manual_seed(1)
    one = first(0, 5)
    torch.manual_seed(2)
    assert torch.equal(one, first(0, 5))
    assert not torch.equal(one, first(1, 5))
    assert not torch.equal(one, first(0, 6))


def test_what_is_evaluated_is_not_augmented_and_has_no_label_smoothing(folder: Path) -> None:
    workload = placed(folder)
    model = workload.model(0).eval()
    batch = next(iter(workload.train_batches(0, 0)))
    with torch.no_grad():
        plain, loss = workload.evaluate(model, "validation"), float(workload.loss(model, batch))
        workload.place(torch.device("cpu"), {"label_smoothing": 0.3})
        assert workload.evaluate(model, "validation") == plain == workload.evaluate(model, "validation")
        assert float(workload.loss(model, batch)) != loss


def test_it_trains_and_repeats_bit_for_bit(folder: Path) -> None:
    given = small(folder, steps=36, family="adamw", hyperparameters={"learning_rate": 1e-2})
    result = trained(assign(CIFAR, phase=Phase.TEST, **given))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert [m.step for m in result.measurements] == [9, 18, 27, 36]
    losses = [m.values["train_loss"] for m in result.measurements]
    assert losses[-1] < 0.7 * losses[0]
    assert result.tests["accuracy"] > 0.3
    short = [trained(assign(CIFAR, **{**given, "steps": 5})) for _ in range(2)]
    assert numbers(short[0]) == numbers(short[1])


def test_a_run_that_was_stopped_goes_on_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    given = small(folder, steps=12)
    whole = trained(assign(CIFAR, **given))
    generator = train(assign(CIFAR, checkpoints=str(tmp_path), **given))
    at = next(generator).step
    generator.close()
    result = trained(assign(CIFAR, checkpoints=str(tmp_path), attempt=2, **given))
    assert result.resumed_at == at == 9
    assert numbers(result) == numbers(whole)


def test_the_folder_may_be_the_one_around_or_come_from_the_environment(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.symlink(folder, tmp_path / "cifar-10-batches-py")
    assert find(str(tmp_path)) == tmp_path / "cifar-10-batches-py"
    monkeypatch.setenv("TUNER_CIFAR10", str(folder))
    assert find("") == folder
    assert find(str(tmp_path)) != folder


def test_without_a_folder_the_error_says_what_to_put_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUNER_CIFAR10", raising=False)
    assert describe(load(WorkloadRef(CIFAR))).has_test
    result = trained(assign(CIFAR, metric="accuracy"))
    assert result.outcome is Outcome.FAILED
    for words in ("no option folder, and TUNER_CIFAR10 is not set", "data_batch_1 to data_batch_5 and test_batch"):
        assert words in result.reason
    assert "cifar-10-python.tar.gz (170 MB" in result.reason
    assert "31 MB each" in result.reason


def test_missing_files_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=f"finds no folder {tmp_path / 'gone'};"):
        find(str(tmp_path / "gone"))
    for name in FILES[:4]:
        os.symlink(folder / name, tmp_path / name)
    with pytest.raises(WorkloadError, match=f"finds no data_batch_5, test_batch in {tmp_path};"):
        find(str(tmp_path))


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("owned",)


DATA = pictures(1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({b"data": Malicious(), b"labels": []}, "asks for posix.mkdir; expected only numpy arrays"),
        ({b"data": DATA[b"data"]}, "KeyError: b'labels'"),
        ({**DATA, b"labels": DATA[b"labels"][1:]}, r"holds pixels uint8 \[40, 3072\] and labels \[39\]"),
        ({**DATA, b"labels": [10] * SIZE}, r"labels \[40\]; expected a pickled dict"),
        ({**DATA, b"data": DATA[b"data"].astype(np.float32)}, "holds pixels float32"),
        ({**DATA, b"data": DATA[b"data"][:, :100]}, r"holds pixels uint8 \[40, 100\]"),
        ({**DATA, b"data": DATA[b"data"].tolist()}, "AttributeError: 'list' object"),
        ([1, 2], "TypeError"),
    ],
)
def test_a_file_that_is_not_of_the_format_is_refused(
    content: Any, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_batch(tmp_path / "data_batch_1", content)
    with pytest.raises(WorkloadError, match=words) as raised:
        read(tmp_path / "data_batch_1")
    assert "Unpack the archive again" in str(raised.value)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("damage", [b"", b"hello", None])
def test_a_damaged_file_is_refused(folder: Path, damage: bytes | None, tmp_path: Path) -> None:
    whole = (folder / "test_batch").read_bytes()
    (tmp_path / "test_batch").write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    with pytest.raises(WorkloadError, match="test_batch cannot be read"):
        read(tmp_path / "test_batch")


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(WorkloadError, match="limit is 0; expected at least 1"):
        load(WorkloadRef(CIFAR, "", {"limit": 0}))
