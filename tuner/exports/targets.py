"""The targets of an export by name, and the one function that makes an export; each target has its own module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from tuner.core.errors import InputError
from tuner.core.records import Horizon, Setting
from tuner.exports import hugging_face_code, lightning_code, timm_line, torch_code, yaml_entry
from tuner.exports.writing import Export, Plan, completed

TARGETS: Mapping[str, Callable[[Plan], Export]] = MappingProxyType(
    {
        "torch": torch_code.export,
        "lightning": lightning_code.export,
        "huggingface": hugging_face_code.export,
        "timm": timm_line.export,
        "yaml": yaml_entry.export,
    }
)


def export(setting: Setting, to: str, *, horizon: Horizon | None = None, about: Iterable[str] = ()) -> Export:
    """Write a setting in the words of another tool.

    Args:
        setting: the setting; what it does not say has its default.
        to: a name out of ``TARGETS``.
        horizon: how long the training is; None for code that gets the steps when it runs (timm needs the epochs now).
        about: lines for the comment at the top, such as the study and its verdict.

    Raises:
        InputError: there is no such target, it cannot express the setting at all, or the setting is none.
    """
    if to not in TARGETS:
        raise InputError(f"the target of an export is {to!r}; expected one of {', '.join(TARGETS)}.")
    return TARGETS[to](completed(setting, horizon, about))
