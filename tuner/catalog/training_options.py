"""The training options beside optimizer and schedule: a frozen table, and patterns on parameter names; no torch.

Clipping, accumulation, batch size with its scaling rule, averaged weights, precision, label smoothing, and how the
parameters fall into groups. Everything is fixed by default, may be searched, and is always recorded: a setting's
``training`` is complete.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tuner.core.errors import InputError
from tuner.core.records import Setting
from tuner.core.values import Scalar, checked, short, table

MULTIPLIER, FREEZE, NO_DECAY = "multiplier:", "freeze:", "no_decay:"
"""What a key with a pattern begins with; a glob on parameter names follows, as in ``multiplier:backbone.*``."""

OWN_OPTIONS = ("batch_size", "label_smoothing")
"""Options that only the workload itself can honour."""

PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class TrainingOption:
    """A row of the table: a number inside bounds, or one of ``choices``. ``default`` changes nothing."""

    name: str
    default: Scalar
    meaning: str
    source: str
    low: float = 0.0
    high: float = 0.0
    integer: bool = False
    choices: tuple[str, ...] = ()

    def check(self, value: Scalar) -> Scalar:
        """Return the value as this option stores it.

        Raises:
            InputError: it is of another kind, or out of bounds.
        """
        if self.choices:
            if value not in self.choices:
                raise InputError(f"{self.name} is {value!r}; expected one of {', '.join(self.choices)}.")
            return value
        number = checked(self.name, value, self.low, self.high, self.integer)
        return int(number) if self.integer else number


TRAINING_OPTIONS: Mapping[str, TrainingOption] = table(
    TrainingOption(
        "clip_norm",
        0.0,
        "bound of the 2-norm of the whole gradient; 0 is none",
        "Pascanu et al. 2013, arXiv 1211.5063",
        high=1e6,
    ),
    TrainingOption(
        "clip_value",
        0.0,
        "bound of each element of the gradient; 0 is none",
        "Mikolov 2012; torch.nn.utils.clip_grad_value_",
        high=1e6,
    ),
    TrainingOption(
        "accumulation",
        1,
        "batches whose mean gradient makes one optimizer step",
        "the effective batch is batch_size times accumulation",
        low=1,
        high=4096,
        integer=True,
    ),
    TrainingOption(
        "batch_size",
        0,
        "examples of a batch; 0 leaves the workload's own",
        "McCandlish et al. 2018, arXiv 1812.06162",
        high=1e7,
        integer=True,
    ),
    TrainingOption(
        "batch_reference",
        0,
        "batch size that the learning rate is stated for; 0 is the workload's own",
        "Goyal et al. 2017, arXiv 1706.02677 (256 there)",
        high=1e7,
        integer=True,
    ),
    TrainingOption(
        "batch_scaling",
        "none",
        "how the learning rate grows with effective batch over reference: none, linear, sqrt",
        "linear: Goyal et al. 2017, arXiv 1706.02677; sqrt: Malladi et al. 2022, arXiv 2205.10287",
        choices=("none", "linear", "sqrt"),
    ),
    TrainingOption(
        "average",
        "none",
        "weights that are evaluated: the last ones, their exponential (ema) or plain (swa) average",
        "ema: Polyak & Juditsky 1992; swa: Izmailov et al. 2018, arXiv 1803.05407",
        choices=("none", "ema", "swa"),
    ),
    TrainingOption(
        "ema_decay", 0.999, "decay of the average per step (average: ema)", "Polyak & Juditsky 1992", high=0.9999999
    ),
    TrainingOption(
        "swa_start",
        0.75,
        "share of the horizon after which the plain average begins (average: swa)",
        "Izmailov et al. 2018, arXiv 1803.05407, section 4",
        high=0.99,
    ),
    TrainingOption(
        "precision",
        "float32",
        "of forward and backward passes (autocast); float16 scales its loss",
        "Micikevicius et al. 2018, arXiv 1710.03740; torch.autocast",
        choices=PRECISIONS,
    ),
    TrainingOption(
        "label_smoothing",
        0.0,
        "share of the target that is spread over all classes",
        "Szegedy et al. 2016, arXiv 1512.00567, section 7",
        high=0.9,
    ),
    TrainingOption(
        "no_decay",
        "bias+norm",
        "what weight decay and L2 spare: nothing; biases and norms; those and embeddings",
        "Goyal et al. 2017, arXiv 1706.02677, section 5.3; Jia et al. 2018, arXiv 1807.11205, section 3.1",
        choices=("nothing", "bias+norm", "bias+norm+embedding"),
    ),
    TrainingOption(
        "layer_decay",
        1.0,
        "factor of the learning rate from each layer to the one below it",
        "Howard & Ruder 2018, arXiv 1801.06146 (discriminative fine-tuning); Clark et al. 2020, arXiv 2003.10555",
        low=0.01,
        high=1.0,
    ),
)


def pattern_of(key: str) -> tuple[str, str] | None:
    """Split a key with a pattern into what it does and the glob; None for a plain option.

    >>> pattern_of("multiplier:backbone.*"), pattern_of("clip_norm")
    (('multiplier:', 'backbone.*'), None)
    """
    for prefix in (MULTIPLIER, FREEZE, NO_DECAY):
        if key.startswith(prefix) and len(key) > len(prefix):
            return prefix, key.removeprefix(prefix)
    return None


def is_option(key: str) -> bool:
    """Return whether a key is one of the table, or one with a pattern."""
    return key in TRAINING_OPTIONS or pattern_of(key) is not None


def option(key: str) -> TrainingOption:
    """Return the row of a key; one is made for a key with a pattern.

    Raises:
        InputError: there is none.
    """
    if key in TRAINING_OPTIONS:
        return TRAINING_OPTIONS[key]
    pattern = pattern_of(key)
    if pattern is None:
        raise InputError(
            f"there is no training option {key!r}; expected one of {', '.join(TRAINING_OPTIONS)}, or a pattern."
        )
    prefix, glob = pattern
    if prefix == MULTIPLIER:
        return TrainingOption(key, 1.0, f"factor of the learning rate of {glob}", "", low=1e-6, high=1e6)
    what = "is not trained" if prefix == FREEZE else "does not decay"
    return TrainingOption(key, "no", f"whether {glob} {what}", "", choices=("no", "yes"))


def complete(given: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Fill what is not given with what changes nothing, and check every value.

    >>> complete({"clip_norm": 1})["clip_norm"], complete({})["precision"]
    (1.0, 'float32')

    Raises:
        InputError: an option is unknown, or a value is out of its bounds or choices.
    """
    values: dict[str, Scalar] = {name: row.default for name, row in TRAINING_OPTIONS.items()}
    for key, value in given.items():
        values[key] = option(key).check(value)
    return values


def changed(training: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return what differs from the defaults, for people; what only describes another option is left out with it.

    >>> changed(complete({"average": "ema", "batch_size": 32, "batch_reference": 32}))
    {'batch_size': 32, 'average': 'ema', 'ema_decay': 0.999}
    """
    values = complete(training)
    shown = {key: value for key, value in values.items() if value != option(key).default}
    shown.pop("batch_reference", None)
    described = {"ema_decay": values["average"] == "ema", "swa_start": values["average"] == "swa"}
    described["batch_reference"] = values["batch_scaling"] != "none"
    kept = {key for key in shown if described.get(key, True)} | {key for key, is_used in described.items() if is_used}
    return {key: value for key, value in values.items() if key in kept}


def told(setting: Setting) -> str:
    """Return a whole setting in words, with the training options that it changes.

    >>> told(Setting("sgd", {"learning_rate": 0.1}, {"kind": "constant"}, {"clip_norm": 1.0}))
    'sgd learning_rate=0.1, constant, clip_norm 1'
    """
    return ", ".join([str(setting), *(f"{name} {short(value)}" for name, value in changed(setting.training).items())])


def learning_rate_factor(training: Mapping[str, Scalar]) -> float:
    """Return the factor that the scaling rule puts on the learning rate.

    >>> learning_rate_factor({"batch_size": 128, "batch_reference": 32, "accumulation": 4, "batch_scaling": "sqrt"})
    4.0

    Raises:
        InputError: a batch size is to be scaled for, and nobody says from which one.
    """
    values = complete(training)
    size, reference = float(values["batch_size"]), float(values["batch_reference"])
    if values["batch_scaling"] != "none" and size and not reference:
        raise InputError(
            f"batch_scaling is {values['batch_scaling']!r} and batch_size {size:g}, but batch_reference is not known; "
            "expected the batch size that the learning rates are stated for. Set training.batch_reference."
        )
    ratio = (size / reference if size and reference else 1.0) * float(values["accumulation"])
    return {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[str(values["batch_scaling"])]
