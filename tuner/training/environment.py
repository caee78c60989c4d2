"""What makes a run repeat bit for bit: device, precision, threads, random states. No training is here."""

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
from tuner.core.values import counted

memory: Any = deterministic  # torch defines its attributes at run time; type checkers do not know them

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is CUDA if this machine has it, otherwise the CPU.

    Raises:
        InputError: torch does not know the device, or this machine does not have it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device is {name!r}; expected auto, cpu, cuda or cuda:0.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        devices = counted(torch.cuda.device_count(), "CUDA device")
        raise InputError(f"device is {name!r}, but torch sees {devices} here; expected auto or cpu.")
    return device


def device_name(device: torch.device) -> str:
    """Return the device's name for the ledger, with the model of a GPU: ``cpu``, ``cuda (NVIDIA H200)``."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Return the context for forward passes: torch's autocast, or one that does nothing for float32.

    Raises:
        InputError: the precision is not one of ``PRECISIONS``.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}; expected {' or '.join(PRECISIONS)}.")
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_DTYPES[precision])


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, numpy and torch, those of all CUDA devices included."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:  # torch.manual_seed formats a traceback for each kind of device not started yet: 0.3 ms against 2 us
        torch.default_generator.manual_seed(seed)


def capture_rng() -> dict[str, Any]:
    """Return the states of the generators of Python, numpy and torch (CUDA too, once it is in use)."""
    state = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_rng(state: dict[str, Any]) -> None:
    """Set the generators to the states that ``capture_rng`` returned."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its queued work, so that a time read afterwards includes it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def filled_memory() -> Iterator[None]:
    """Fill newly allocated tensors with NaN inside the context, so that a parameter left uninitialised always diverges.

    Use it only while a model is made. In training it would add a kernel for each new tensor (16 to 105 a step in the
    built-in workloads).
    """
    before, memory.fill_uninitialized_memory = memory.fill_uninitialized_memory, True
    try:
        yield
    finally:
        memory.fill_uninitialized_memory = before


@contextmanager
def prepared(spec: RunSpec, device: torch.device) -> Iterator[None]:
    """Set threads, deterministic kernels and seeds for a run inside the context, and restore them afterwards.

    Kernels without a deterministic form are used with a warning. New tensors are not filled with NaN, which torch does
    by default with deterministic kernels; see ``filled_memory``.
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
