"""tuner: which optimizer, which learning-rate schedule, at which settings, and how sure are we?

The public names are listed in ``__all__``; everything is imported when it is first used, so that a worker
imports the training side alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuner.api import StudyHandle, analyze, launch, open_study
    from tuner.core.errors import TunerError
    from tuner.recommendation import Recommendation
    from tuner.training.handle import Run
    from tuner.training.workloads.base import Workload

__version__ = "0.1.0"

_PLACES = {
    "Recommendation": "tuner.recommendation",
    "Run": "tuner.training.handle",
    "StudyHandle": "tuner.api",
    "TunerError": "tuner.core.errors",
    "Workload": "tuner.training.workloads.base",
    "analyze": "tuner.api",
    "launch": "tuner.api",
    "open_study": "tuner.api",
}

__all__ = [
    "Recommendation",
    "Run",
    "StudyHandle",
    "TunerError",
    "Workload",
    "__version__",
    "analyze",
    "launch",
    "open_study",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'tuner' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return __all__
