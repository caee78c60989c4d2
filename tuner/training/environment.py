"""What makes a run repeat bit for bit: device, precision, threads, random states; nothing about the training itself."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch.utils import deterministic

from tuner.catalog.training_options import PRECISIONS
from tuner.core.errors import InputError
from tuner.core.records import RunSpec

memory: Any = deterministic  # torch sets its attributes where no checker sees them

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str) -> torch.device:
    """Return the device of that name; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        InputError: torch knows no such device, or this machine does not have it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device is {name!r}; expected auto, cpu, cuda or cuda:0.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device is {name!r}, but torch sees {torch.cuda.device_count()} CUDA devices here; expected auto or cpu."
        )
    return device


def device_name(device: torch.device) -> str:
    """Return the device as the ledger names it, with the GPU's model: ``cpu``, ``cuda (NVIDIA H200)``."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return the context for forward passes: none for float32, else autocast.

    Raises:
        InputError: another precision.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}; expected {' or '.join(PRECISIONS)}.")
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_DTYPES[precision])


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, numpy and torch (every CUDA device included)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:  # torch's own writes down a traceback for each kind of device that may come later: 0.3 ms for 2 us
        torch.default_generator.manual_seed(seed)


def capture_rng() -> dict[str, Any]:
    """Return the states of all generators that a training may draw from."""
    state = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_rng(state: dict[str, Any]) -> None:
    """Set the generators back to what ``capture_rng`` returned."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given, so that a clock read now is right."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def filled_memory() -> Iterator[None]:
    """Let memory that nobody initialises hold NaN, so that a parameter left so is seen to diverge, in every run alike.

    While a model is made: for each new tensor of a training step it would cost a kernel (16 to 105 of them a step in
    the built-in workloads).
    """
    before, memory.fill_uninitialized_memory = memory.fill_uninitialized_memory, True
    try:
        yield
    finally:
        memory.fill_uninitialized_memory = before


@contextmanager
def prepared(spec: RunSpec, device: torch.device) -> Iterator[None]:
    """Set threads, deterministic kernels and seeds for a run; leave the process as it was found.

    Kernels that have no deterministic form warn and are used. Memory that was allocated and not written is not
    overwritten, as torch does by default where kernels are deterministic; see ``filled_memory``.
    """
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    mode, fill, rng = torch.get_deterministic_debug_mode(), memory.fill_uninitialized_memory, capture_rng()
    torch.set_num_threads(spec.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    seed_everything(spec.seed)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(mode)
        memory.fill_uninitialized_memory = fill
        torch.backends.cudnn.benchmark = benchmark
        restore_rng(rng)
