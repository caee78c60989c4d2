"""Pickles a workload that workers cannot import, for the journey to Ray's workers; nothing is sent from here."""

from __future__ import annotations

import pickle
from typing import Any

from tuner.core.errors import WorkloadError


def packed(workload: Any, path: str) -> bytes:
    """Return a workload as bytes.

    Args:
        workload: the workload itself, as defined in ``__main__``.
        path: its name there, ``__main__:NAME``.

    Raises:
        WorkloadError: it cannot be pickled and unpickled; with the reason.
    """
    import cloudpickle

    try:
        payload: bytes = cloudpickle.dumps(workload)
        pickle.loads(payload)
    except Exception as error:
        raise WorkloadError(
            f"workload {path!r} is defined in __main__ and cannot be sent to Ray's workers: "
            f"{type(error).__name__}: {error}; expected one that can be pickled, or that can be imported. Load "
            "the data in setup(), move the workload into a module, or take executor='local'."
        ) from None
    return payload
