"""The finalist of an arm as an export: which setting it is, whence it comes, how long it trains."""

from __future__ import annotations

from tuner.analysis.evidence import Evidence
from tuner.core.errors import InputError
from tuner.core.records import Horizon, Setting
from tuner.exports.targets import export
from tuner.exports.writing import Export


def export_finalist(
    evidence: Evidence,
    to: str,
    *,
    arm: str | None = None,
    total_steps: int | None = None,
    epochs: float | None = None,
) -> Export:
    """Write the recommended setting, or the finalist of ``arm``, in the words of another tool.

    Args:
        evidence: the study's answer.
        to: a name out of ``TARGETS``.
        arm: None for the recommended one.
        total_steps: how many optimizer steps the training takes.
        epochs: how many epochs it takes, instead; with neither it is the study's horizon.

    Raises:
        InputError: there is no such target or arm, both lengths are given, or the target cannot express the setting.
    """
    setting, whence = _finalist(evidence, evidence.arm if arm is None else arm)
    about = (whence, evidence.verdict.sentence)
    return export(setting, to, horizon=_horizon(evidence, total_steps, epochs), about=about)


def _finalist(evidence: Evidence, arm: str) -> tuple[Setting, str]:
    if arm == evidence.arm:
        return evidence.setting, f"Recommended by study {evidence.study!r}: arm {arm}, trial {evidence.trial}."
    row = next((row for row in evidence.arms if row.arm == arm), None)
    if row is None or row.best is None:
        problem = "there is no arm" if row is None else "no run has finished in arm"
        known = ", ".join(row.arm for row in evidence.arms if row.best is not None)
        raise InputError(f"{problem} {arm!r} of study {evidence.study!r}; expected one of {known}.")
    whence = f"Finalist of arm {arm} (trial {row.trial}) in study {evidence.study!r}, which recommends"
    return row.best, f"{whence} {evidence.arm}."


def _horizon(evidence: Evidence, total_steps: int | None, epochs: float | None) -> Horizon | None:
    if total_steps is not None and epochs is not None:
        raise InputError(f"total_steps is {total_steps} and epochs {epochs:g}; expected one of the two.")
    if total_steps is not None:
        return Horizon(total_steps, "steps")
    if epochs is not None:
        return Horizon(epochs, "epochs")
    return evidence.valid_for.horizon
