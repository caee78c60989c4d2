"""How a workload that is given in Python is named: by its import path, or itself where nothing can import it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.core.errors import InputError, WorkloadError
from tuner.core.records import WorkloadRef

_EXPECTED = "'module:attribute', a tuner.Workload class, or a function"


def reference_to(
    workload: str | type | object, options: Mapping[str, Any] | None = None
) -> tuple[WorkloadRef, Any | None]:
    """Return the name of a workload, and the workload itself if it is defined in ``__main__``.

    Args:
        workload: ``module:attribute``, or the class or function itself.
        options: its keyword arguments.

    Raises:
        WorkloadError: it is none of these.
        InputError: it is local to a function.
    """
    folder, options = str(Path.cwd()), options or {}
    if isinstance(workload, str):
        if ":" not in workload:
            raise WorkloadError(f"launch(): workload is {workload!r}; expected {_EXPECTED}.")
        return WorkloadRef(workload, folder, options), None
    if getattr(workload, "__name__", "") == "<lambda>":
        raise WorkloadError(f"launch(): workload is a lambda; expected {_EXPECTED}.")
    if not (inspect.isclass(workload) or inspect.isfunction(workload)):
        raise WorkloadError(f"launch(): workload is {workload!r}; expected {_EXPECTED}.")
    path = f"{workload.__module__}:{workload.__qualname__}"
    reference = WorkloadRef(path, folder, options)
    if workload.__module__ == "__main__":
        return reference, workload(**options) if inspect.isclass(workload) else workload
    if "<locals>" in path:
        raise InputError(f"launch(): workload {path!r} is local to a function; expected one at a module's top level.")
    return reference, None
