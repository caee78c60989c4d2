"""Import a workload by its path, and check it. Nothing is trained here."""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from tuner.catalog.training_options import OWN_OPTIONS
from tuner.core.errors import Place, WorkloadError, wrong
from tuner.core.records import WorkloadRef
from tuner.core.values import Scalar
from tuner.training.workloads.base import Workload

Target: TypeAlias = Workload | Callable[[Any], Any]
"""What a study trains: an instance of ``Workload``, or a function ``train(run)``."""

_CACHE: dict[tuple[str, str, str], Target] = {}


@dataclass(frozen=True, slots=True)
class Description:
    """What a study has to know about a workload. Of a function nothing is known, so that all but ``training`` is None.

    Attributes:
        metric: the name of its metric.
        direction: ``maximize`` or ``minimize``.
        has_test: whether it has a test split.
        horizon: how long to train by default, ``{"epochs": 30}`` or ``{"steps": 5000}``.
        training: the training options of a study that sets none.
        takes: those of ``batch_size`` and ``label_smoothing`` that a study may set.
    """

    metric: str | None = None
    direction: str | None = None
    has_test: bool | None = None
    horizon: Mapping[str, float] | None = None
    training: Mapping[str, Scalar] = field(default_factory=dict)
    takes: frozenset[str] | None = None


def load(ref: WorkloadRef) -> Target:
    """Import a workload: a ``Workload`` class, of which an instance is made with the options, or a function.

    An instance is made once per process and reference, so that its data stays loaded between runs. ``ref.folder`` goes
    first on the import path. If a module of the same name is loaded from another folder, it is imported again.

    Raises:
        WorkloadError: it cannot be imported, is neither class nor function, or does not take the options.
    """
    key = (ref.path, ref.folder, json.dumps(dict(ref.options), sort_keys=True, default=str))
    if key not in _CACHE or _redefined(ref.path, _CACHE[key]):
        _CACHE[key] = _make(ref)
    return _CACHE[key]


def describe(target: Target) -> Description:
    """Return what is known about a workload before it trains."""
    if isinstance(target, Workload):
        takes = frozenset(name for name, own in zip(OWN_OPTIONS, target.own, strict=True) if own is not None)
        return Description(target.metric, target.direction, target.has_test, target.horizon, target.granted, takes)
    return Description()


def check(target: object, place: Place) -> Target:
    """Return the object if it is a workload with metric and direction, or a function of one argument.

    Args:
        target: the object.
        place: how error messages name it.

    Raises:
        WorkloadError: it is neither.
    """
    if isinstance(target, Workload):
        _check_workload(target, place)
        return target
    if callable(target) and not inspect.isclass(target):
        try:
            inspect.signature(target).bind(None)
        except TypeError:
            found = f"takes {inspect.signature(target)}"
            raise WorkloadError(wrong(place, found, "one argument, the run", "Write def train(run): ...")) from None
        return target
    found = f"is {'the class' if inspect.isclass(target) else 'of the type'} {_name(target)}"
    expected = "a tuner.Workload class or a function that takes one argument, the run"
    raise WorkloadError(wrong(place, found, expected, "Name another attribute after the colon."))


def _redefined(path: str, cached: Target) -> bool:
    """Return whether a notebook has redefined the name since it was loaded."""
    module, _, name = path.partition(":")
    current = getattr(sys.modules["__main__"], name, None)
    return module == "__main__" and current is not cached and current is not type(cached)


def _make(ref: WorkloadRef) -> Target:
    place = Place(f"workload {ref.path!r}")
    module_name, colon, attribute = ref.path.partition(":")
    if not (colon and module_name and attribute):
        expected = "module:attribute, as in 'my_package.train:Cifar'"
        raise WorkloadError(
            wrong(place, "names no module and attribute", expected, "Put a colon between module and attribute.")
        )
    target: Any = _import(module_name, ref.folder, place)
    for part in attribute.split("."):
        target = _attribute(target, part, module_name, place)
    if inspect.isclass(target) and issubclass(target, Workload):
        target = _instance(target, ref, place)
    return check(target, place)


def _import(name: str, folder: str, place: Place) -> ModuleType:
    if folder:
        root = str(Path(folder).resolve())
        if root not in sys.path:
            sys.path.insert(0, root)
        _forget_namesake(name.partition(".")[0], root)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            where = f"in {folder} or among the installed packages" if folder else "on Python's path"
            found = f"has no module {missing!r} {where}"
            todo = "Check the spelling, and start from the folder that holds it."
            raise WorkloadError(wrong(place, found, "a module that can be imported", todo)) from error
        todo = f"Install {missing.partition('.')[0]!r} where the runs train, or remove the import."
        found = f"imports {missing!r}, which is not installed"
        raise WorkloadError(wrong(place, found, "imports that succeed", todo)) from error
    except Exception as error:
        found = f"raises {type(error).__name__} when it is imported: {error}"
        todo = f"Try: python -c 'import {name}'"
        raise WorkloadError(wrong(place, found, "a module that can be imported", todo)) from error


def _forget_namesake(top: str, root: str) -> None:
    """Unload a module of this name that comes from another folder, if ``root`` has one too."""
    module = sys.modules.get(top)
    if module is None or top in ("__main__", "tuner") or top in sys.stdlib_module_names:
        return
    importlib.invalidate_caches()
    spec = PathFinder.find_spec(top, [root])
    if spec is None or spec.origin is None or spec.origin == getattr(module, "__file__", None):
        return
    for name in [key for key in sys.modules if key == top or key.startswith(f"{top}.")]:
        del sys.modules[name]
    sys.path.remove(root)
    sys.path.insert(0, root)


def _attribute(holder: Any, name: str, module: str, place: Place) -> Any:
    try:
        return getattr(holder, name)
    except AttributeError as error:
        if module == "__main__":
            found = f"names {name!r} of a notebook or script, which this process does not run"
            todo = "Move it to a module that workers can import, or use the executor 'local'."
            raise WorkloadError(wrong(place, found, "an attribute that workers can import", todo)) from error
        public = [key for key in vars(holder) if not key.startswith("_")]
        close = difflib.get_close_matches(name, public, n=1)
        todo = f"Did you mean {close[0]!r}?" if close else ""
        found = f"names {name!r}, which {module} does not have"
        raise WorkloadError(wrong(place, found, "a Workload class or a function", todo)) from error


def _instance(cls: type[Workload], ref: WorkloadRef, place: Place) -> Workload:
    missing = sorted(cls.__abstractmethods__)
    if missing:
        found = f"does not override {', '.join(missing)}"
        raise WorkloadError(wrong(place, found, "every abstract method of tuner.Workload", "Define them on the class."))
    try:
        inspect.signature(cls).bind(**ref.options)
    except TypeError as error:
        known = ", ".join(inspect.signature(cls).parameters) or "none"
        found = f"does not take the options {dict(ref.options)!r} ({error})"
        raise WorkloadError(wrong(place, found, f"options among: {known}", "Correct workload.options.")) from error
    try:
        return cls(**ref.options)
    except Exception as error:
        found = f"refuses its options {dict(ref.options)!r}: {type(error).__name__}: {error}"
        raise WorkloadError(wrong(place, found, "options that its constructor accepts", "Correct them.")) from error


def _check_workload(workload: Workload, place: Place) -> None:
    cls = type(workload)
    if not workload.metric or not isinstance(workload.metric, str):
        todo = "Set metric on the class, as in metric = 'accuracy'."
        raise WorkloadError(wrong(place, f"has the metric {workload.metric!r}", "a name that evaluate() returns", todo))
    if workload.direction not in ("maximize", "minimize"):
        found = f"has the direction {workload.direction!r}"
        raise WorkloadError(wrong(place, found, "'maximize' or 'minimize'", "Set direction on the class."))
    if cls.loss is Workload.loss and cls.train_step is Workload.train_step:
        raise WorkloadError(
            wrong(place, "overrides neither loss nor train_step", "one of the two", "Define loss(model, batch).")
        )


def _name(target: object) -> str:
    cls = target if inspect.isclass(target) else type(target)
    return f"{cls.__module__}.{cls.__qualname__}".removeprefix("builtins.")
