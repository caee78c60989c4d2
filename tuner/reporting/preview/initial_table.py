"""The settings that a study tries first, where each comes from, and which are left out and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tuner.catalog.training_options import told
from tuner.config.space import ArmSpace
from tuner.config.spec import StudySpec
from tuner.core.records import Setting, Source
from tuner.core.values import counted
from tuner.search.proposals import split_for

if TYPE_CHECKING:
    from rich.table import Table


def initial_table(spec: StudySpec) -> Table:
    """Draw every initial setting of every arm: its source, and the number of its trial or why it is left out."""
    from rich.table import Table

    table = Table(title="Initial settings, tried first", title_justify="left")
    for name in ("arm", "trial", "from", "setting"):
        table.add_column(name, justify="right" if name == "trial" else "left", overflow="fold")
    for arm in spec.arms:
        for trial, source, setting, why in _rows(spec, arm):
            line = f"{told(setting)}\nleft out: {why}" if why else told(setting)
            table.add_row(arm.arm, trial, source, line, style="dim" if why else "")
        table.add_section()
    for source in homeless(spec):
        table.add_row("-", "-", source, "left out: no arm of its family", style="dim")
    return table


def _rows(spec: StudySpec, arm: ArmSpace) -> Iterator[tuple[str, str, Setting, str]]:
    """The number of its trial or a dash, its source, the setting, why it is left out (empty: it is not)."""
    places = split_for(spec.sampler, spec.opened_for, arm).initial
    full = f"this budget has room for {counted(places, 'initial setting')} per arm"
    tried = 0
    for setting in arm.initial_settings:
        why = "; ".join(arm.outside(setting)) or (full if tried >= places else "")
        yield "-" if why else str(tried), origin(arm, setting), setting, why
        tried += not why


def origin(arm: ArmSpace, setting: Setting) -> str:
    """Say where an initial setting comes from."""
    source = arm.source_of(setting)
    if source is Source.DEFAULT:
        return f"default of {arm.family.name}"
    if source is Source.CURRENT:
        return "your current settings"
    return arm.origins.get(setting.fingerprint, source.value)


def homeless(spec: StudySpec) -> list[str]:
    """Return the origins of the initial settings whose family has no arm in the study."""
    families = {arm.family.name for arm in spec.arms}
    return [
        f"{initial.origin} ({initial.family})" for initial in spec.initial_settings if initial.family not in families
    ]
