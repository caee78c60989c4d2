"""The table of schedules: parameters, shapes, and one row for each kind. A new kind is written here.

``tuner.exports.schedule_code`` holds each kind's source for exported programs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from tuner.catalog.schedules.row import EDGE, Kind, Multipliers, Parameter, Values, half_wave
from tuner.core.values import table

# -- parameters; one name is one object, whichever kinds share it

_END = Parameter(
    "end_ratio", 0.0, 0.0, 1.0, "learning rate at the horizon (sgdr: at each cycle's end), relative to the peak"
)
_FINAL = Parameter("final_ratio", 0.01, 1e-6, 1.0, "learning rate at the horizon, relative to the peak; never 0")
_POWER = Parameter("power", 2.0, 0.1, 10.0, "exponent of the decay: 1 is linear, above 1 the rate falls early")
_DROPS = Parameter("drops", 2, 1, 4, "how often the rate drops", integer=True)
_GAMMA = Parameter("gamma", 0.1, 0.01, 0.9, "factor of each drop")
_FIRST = Parameter("first_drop", 0.5, 0.05, 0.95, "share of the part after the warm-up at which the first drop comes")
_SPACING = Parameter("drop_spacing", 0.5, 0.05, 0.95, "each next drop comes at this share of what then remains")
_CYCLES = Parameter("cycles", 3, 1, 10, "how many cycles there are; the last one ends at the horizon", integer=True)
_GROWTH = Parameter("cycle_growth", 2.0, 1.0, 3.0, "length of each cycle, relative to the one before it")
_RISE = Parameter("rise", 0.3, 0.01, 0.99, "share of the part after the warm-up in which the rate rises to its peak")
_START = Parameter("start_ratio", 0.04, 0.0, 1.0, "learning rate at the start, relative to the peak")
_BASE = Parameter("base_ratio", 0.1, 0.0, 1.0, "learning rate at the ends of a cycle, relative to the peak")
_PEAK = "momentum (beta1) at the peak of the rate, relative to the setting's own; 1 leaves it alone"
_MOMENTUM = Parameter("momentum_ratio", 0.85 / 0.95, 0.1, 1.0, _PEAK)
_DECAY = Parameter("decay_fraction", 0.2, 0.01, 1.0, "share of the part after the warm-up, at its end, that decays")
_TIMESCALE = Parameter("timescale", 0.05, 0.001, 10.0, "share of the part after the warm-up; 3 of them halve the rate")
_FACTOR = Parameter("factor", 0.1, 0.01, 0.95, "factor of each reduction")
_PATIENCE = Parameter("patience", 0.1, 0.0, 1.0, "share of the horizon without improvement that is waited")
_THRESHOLD = Parameter("threshold", 1e-4, 0.0, 0.5, "relative improvement on the best value that counts as one")
_MIN = Parameter("min_ratio", 0.0, 0.0, 1.0, "lowest learning rate, relative to the peak")

# -- shapes


def _constant(x: float, p: Values) -> Multipliers:  # noqa: ARG001
    return Multipliers(1.0)


def _linear(x: float, p: Values) -> Multipliers:
    return Multipliers(1.0 + (p["end_ratio"] - 1.0) * x)


def _cosine(x: float, p: Values) -> Multipliers:
    return Multipliers(half_wave(x, 1.0, p["end_ratio"]))


def _polynomial(x: float, p: Values) -> Multipliers:
    return Multipliers(p["end_ratio"] + (1.0 - p["end_ratio"]) * (1.0 - x) ** p["power"])


def _exponential(x: float, p: Values) -> Multipliers:
    return Multipliers(p["final_ratio"] ** x)


def _step(x: float, p: Values) -> Multipliers:
    return Multipliers(p["gamma"] ** math.floor(x * (p["drops"] + 1) + EDGE))


def _multistep(x: float, p: Values) -> Multipliers:
    rest = [(1.0 - p["first_drop"]) * (1.0 - p["drop_spacing"]) ** i for i in range(int(p["drops"]))]
    return Multipliers(p["gamma"] ** sum(1.0 - x <= r + EDGE for r in rest))


def _sgdr(x: float, p: Values) -> Multipliers:
    lengths = [p["cycle_growth"] ** i for i in range(int(p["cycles"]))]
    return Multipliers(half_wave(_into_cycle(x, lengths), 1.0, p["end_ratio"]))


def _onecycle(x: float, p: Values) -> Multipliers:
    low = p["momentum_ratio"]
    if x <= p["rise"]:
        u = x / p["rise"]
        return Multipliers(half_wave(u, p["start_ratio"], 1.0), half_wave(u, 1.0, low))
    u = (x - p["rise"]) / (1.0 - p["rise"])
    return Multipliers(half_wave(u, 1.0, p["end_ratio"]), half_wave(u, low, 1.0))


def _cyclical(x: float, p: Values) -> Multipliers:
    height = 1.0 - abs(2.0 * _into_cycle(x, [1.0] * int(p["cycles"])) - 1.0)
    return Multipliers(p["base_ratio"] + (1.0 - p["base_ratio"]) * height, 1.0 + (p["momentum_ratio"] - 1.0) * height)


def _wsd(x: float, p: Values) -> Multipliers:
    return Multipliers(1.0 + (p["end_ratio"] - 1.0) * _into_decay(x, p))


def _wsd_cosine(x: float, p: Values) -> Multipliers:
    return Multipliers(half_wave(_into_decay(x, p), 1.0, p["end_ratio"]))


def _wsd_sqrt(x: float, p: Values) -> Multipliers:
    into = _into_decay(x, p)
    # The root would blow a rounding error of 1e-16 at the first step of the decay up to 1e-8.
    return Multipliers(1.0 + (p["end_ratio"] - 1.0) * (math.sqrt(into) if into > EDGE else 0.0))


def _inverse_sqrt(x: float, p: Values) -> Multipliers:
    return Multipliers(math.sqrt(p["timescale"] / (p["timescale"] + x)))


def _into_cycle(x: float, lengths: list[float]) -> float:
    """How far into its cycle ``x`` is, in [0, 1); ``lengths`` are those of all cycles, in any unit."""
    left = x * sum(lengths)
    for length in lengths[:-1]:
        if left < length - EDGE:
            break
        left -= length
    else:
        length = lengths[-1]
    return max(0.0, left / length)


def _into_decay(x: float, p: Values) -> float:
    return max(0.0, (x - (1.0 - p["decay_fraction"])) / p["decay_fraction"])


# -- the table


SCHEDULES: Mapping[str, Kind] = table(
    Kind(
        "constant",
        _constant,
        (),
        "1",
        "torch ConstantLR(factor=1); transformers get_constant_schedule_with_warmup",
        "a baseline; optimizers that average their weights instead of decaying",
        (),
    ),
    Kind(
        "linear",
        _linear,
        (_END,),
        "1 + (end_ratio - 1) x",
        "Defazio et al. 2023, arXiv 2310.07831; torch LinearLR; transformers get_linear_schedule_with_warmup",
        "fine-tuning; as good as cosine, or better, in pre-training",
        ({"end_ratio": 0.1}, {"end_ratio": 0.4}),
    ),
    Kind(
        "cosine",
        _cosine,
        (_END,),
        "end_ratio + (1 - end_ratio) (1 + cos(pi x)) / 2",
        "Loshchilov & Hutter 2017, arXiv 1608.03983; torch CosineAnnealingLR; "
        "transformers get_cosine_schedule_with_warmup",
        "the usual choice in vision and in pre-training",
        ({"end_ratio": 0.1}, {"end_ratio": 0.4}),
    ),
    Kind(
        "polynomial",
        _polynomial,
        (_POWER, _END),
        "end_ratio + (1 - end_ratio) (1 - x) ** power",
        "Chen et al. 2018, arXiv 1606.00915; torch PolynomialLR; "
        "transformers get_polynomial_decay_schedule_with_warmup",
        "segmentation (power 0.9); a smooth family around linear",
        ({"power": 0.5}, {"power": 4}),
    ),
    Kind(
        "exponential",
        _exponential,
        (_FINAL,),
        "final_ratio ** x",
        "Tan & Le 2019, arXiv 1905.11946; torch ExponentialLR",
        "older convolutional networks; every stretch of training loses the same share",
        ({"final_ratio": 0.1}, {"final_ratio": 1e-4}),
    ),
    Kind(
        "step",
        _step,
        (_DROPS, _GAMMA),
        "gamma ** floor((drops + 1) x)",
        "He et al. 2016, arXiv 1512.03385; torch StepLR",
        "SGD with momentum on images: drops at equal distances",
        ({"gamma": 0.5}, {"drops": 4, "gamma": 0.7}),
    ),
    Kind(
        "multistep",
        _multistep,
        (_FIRST, _SPACING, _DROPS, _GAMMA),
        "gamma ** n, n: how many i < drops have 1 - x <= (1 - first_drop) (1 - drop_spacing) ** i",
        "He et al. 2016, section 4.2, arXiv 1512.03385 (drops at 1/2 and 3/4); torch MultiStepLR",
        "SGD with momentum on images and in detection: late drops, ever closer",
        ({"first_drop": 0.3}, {"drops": 4, "gamma": 0.6}, {"drop_spacing": 0.2}),
    ),
    Kind(
        "sgdr",
        _sgdr,
        (_CYCLES, _GROWTH, _END),
        "end_ratio + (1 - end_ratio) (1 + cos(pi u)) / 2, u: share of the cycle that has passed",
        "Loshchilov & Hutter 2017, arXiv 1608.03983; torch CosineAnnealingWarmRestarts; "
        "transformers get_cosine_with_hard_restarts_schedule_with_warmup",
        "good weights at the end of every cycle, for ensembles or to stop early",
        ({"cycle_growth": 1}, {"cycles": 2}, {"end_ratio": 0.3}),
    ),
    Kind(
        "onecycle",
        _onecycle,
        (_RISE, _START, _END, _MOMENTUM),
        "half cosines: start_ratio to 1 while x <= rise, then to end_ratio; momentum 1 to momentum_ratio and back",
        "Smith & Topin 2018, arXiv 1708.07120; Smith 2018, arXiv 1803.09820 (momentum); torch OneCycleLR",
        "short trainings with a high peak; the long rise is its own warm-up",
        ({"rise": 0.6}, {"start_ratio": 0.4}, {"momentum_ratio": 0.7}),
    ),
    Kind(
        "cyclical",
        _cyclical,
        (_CYCLES, _BASE, _MOMENTUM),
        "base_ratio + (1 - base_ratio) (1 - |2u - 1|), u: share of the cycle; momentum the other way",
        "Smith 2017, arXiv 1506.01186; Smith 2018, arXiv 1803.09820 (momentum); torch CyclicLR(mode='triangular')",
        "when no single rate is trusted: up and down between two",
        ({"cycles": 1}, {"base_ratio": 0.5}, {"momentum_ratio": 0.7}),
    ),
    Kind(
        "wsd",
        _wsd,
        (_DECAY, _END),
        "1, then linearly to end_ratio over the last decay_fraction",
        "Hägele et al. 2024, arXiv 2405.18392 (warm-up, stable, decay; also trapezoid); "
        "transformers get_wsd_schedule(decay_type='linear')",
        "pre-training whose length may still change: the stable part can be prolonged",
        ({"decay_fraction": 0.6}, {"end_ratio": 0.3}),
    ),
    Kind(
        "wsd-cosine",
        _wsd_cosine,
        (_DECAY, _END),
        "1, then along half a cosine to end_ratio over the last decay_fraction",
        "Hägele et al. 2024, arXiv 2405.18392; transformers get_wsd_schedule(decay_type='cosine')",
        "as wsd, with a decay that sets in and ends gently",
        ({"decay_fraction": 0.6}, {"end_ratio": 0.3}),
    ),
    Kind(
        "wsd-sqrt",
        _wsd_sqrt,
        (_DECAY, _END),
        "1, then end_ratio + (1 - end_ratio) (1 - sqrt(u)), u: share of the last decay_fraction",
        "Hägele et al. 2024, arXiv 2405.18392 (1-sqrt cooldown); transformers get_wsd_schedule(decay_type='1-sqrt')",
        "as wsd; in its paper a better cooldown than the linear one",
        ({"decay_fraction": 0.6}, {"end_ratio": 0.3}),
    ),
    Kind(
        "inverse-sqrt",
        _inverse_sqrt,
        (_TIMESCALE,),
        "sqrt(timescale / (timescale + x))",
        "Vaswani et al. 2017, arXiv 1706.03762; transformers get_inverse_sqrt_schedule",
        "Transformers of the first years, after a warm-up; does not reach 0",
        ({"timescale": 0.01}, {"timescale": 0.5}),
    ),
    Kind(
        "plateau",
        _constant,
        (_FACTOR, _PATIENCE, _THRESHOLD, _MIN),
        "max(factor ** n, min_ratio), n: how often nothing improved for longer than patience",
        "He et al. 2016, section 3.4, arXiv 1512.03385; torch ReduceLROnPlateau",
        "when nobody knows how long training should take",
        ({"factor": 0.5}, {"patience": 0.2}),
        follows_metric=True,
        note="A run's learning rate depends on what the run measured and at which steps, not on the step alone. "
        "With 'signal: validation' the validation split takes part in training, so the values of such runs are "
        "optimistic. The beginning of a run says nothing about a shorter one, and beginnings of two runs cannot be "
        "compared: it is for the full horizon only.",
    ),
)
