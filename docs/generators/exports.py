"""The page on exports, with an example of each target as the code writes it; nothing is trained here."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.catalog.families import FAMILIES
from tuner.core.records import Horizon, Setting
from tuner.exports import export
from tuner.exports.timm_line import NAMED_SCHEDULES
from tuner.reporting.markdown import table

_SGDM = Setting(
    "sgdm",
    {"learning_rate": 0.08, "momentum": 0.95, "l2": 5e-4},
    {"kind": "cosine", "warmup": 0.05},
    {"clip_norm": 1.0, "label_smoothing": 0.1},
)
_ADAMW = Setting(
    "adamw",
    {"learning_rate": 3e-4, "weight_decay": 0.1, "beta2": 0.98},
    {"kind": "linear", "warmup": 0.0},
    {"clip_norm": 1.0, "precision": "bfloat16", "batch_size": 32},
)
_IN_TIMM = sum(row.timm is not None and not row.looks_ahead for row in FAMILIES.values())


@dataclass(frozen=True, slots=True)
class Example:
    """A target with its row in the page's table, and the setting that the page exports to it."""

    target: str
    what: str
    needs: str
    language: str
    setting: Setting
    horizon: Horizon | None
    words: str


EXAMPLES = (
    Example(
        "torch",
        "param groups, optimizer, schedule, loop; every family and schedule",
        "torch, the family's library",
        "python",
        _SGDM,
        Horizon(9000, "steps"),
        "`build` is for a loop of your own, `train` is the study's.",
    ),
    Example(
        "lightning",
        "a mixin with `configure_optimizers`, and the Trainer's arguments",
        "the same, lightning",
        "python",
        _SGDM,
        Horizon(18, "epochs"),
        "`class Model(Tuned, LightningModule)`, `Trainer(**TRAINER)`.",
    ),
    Example(
        "huggingface",
        "`TrainingArguments`, and `optimizers=` where they are not exact",
        "the same, transformers 5",
        "python",
        _ADAMW,
        Horizon(9000, "steps"),
        "Where Trainer has no name for the optimizer or the schedule, or the schedule warms up (Trainer's warm-up\n"
        "begins at 0, the study's at a hundredth of the peak), the text also builds `optimizers=`, which is exact.",
    ),
    Example(
        "timm",
        f"options of `train.py`; {_IN_TIMM} families, {len(NAMED_SCHEDULES)} schedules",
        "timm",
        "sh",
        _SGDM,
        Horizon(20, "epochs"),
        "For `train.py` of timm 1.0.31. It counts whole epochs: for a study in steps give `--epochs N`. Biases and\n"
        "tensors of one dimension do not decay, as in the study; a norm of more dimensions does.",
    ),
    Example(
        "yaml",
        "the entry `current` of a study file",
        "tuner",
        "yaml",
        _SGDM,
        None,
        "It reads back to the same setting, whatever the other study's training options are.",
    ),
)
"""One for each target, in the order of ``tuner.exports.TARGETS``."""


def markdown() -> str:
    """Return the page ``docs/exports.md``."""
    rows = [(f"`{example.target}`", example.what, example.needs) for example in EXAMPLES]
    parts = [_HEAD, table(("target", "what it is", "what it needs"), rows) + "\n", _FOOT]
    for example in EXAMPLES:
        about = f"Recommended by study 'digits': arm {example.setting.family}, trial 7."
        text = export(example.setting, example.target, horizon=example.horizon, about=(about,)).text
        parts.append(f"## {example.target}\n\n{example.words}\n\n```{example.language}\n{text}```\n")
    return "\n".join(parts)


_HEAD = """# Exports

Written by `python docs/generate.py`; a test fails when it is stale.

`tuner export NAME --to torch` writes what a study recommends as code to paste (`--arm ARM`: another arm's finalist;
`--steps N` or `--epochs N`: for another horizon than the study's; `--out FILE`). In Python:
`print(study.recommend().export("torch").text)`; `.notes` is what the target leaves to you; the text has it
in the comment at its top, too. What a target does not have at all is refused with exit code 2.
"""

_FOOT = """\
None but `yaml` needs tuner. L2 and decoupled decay are what they were in the study: where a class lacks one of the two,
the code extends it by a step of its own. The tests train with each text and compare weights and rates with the study's
own loop: every family and every schedule for torch, all that timm has, a selection for Lightning and Hugging Face.
"""
