"""The families that torch lacks: from ``pytorch_optimizer`` and ``schedulefree``; formulas as in ``classical``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from tuner.catalog.families.classical import COSINE
from tuner.catalog.families.optimizer_class import (
    DECOUPLED,
    FINAL_RATE,
    HEAVY_BALL,
    MOMENTS,
    SGD_PHASE,
    OptimizerClass,
    TimmOptimizer,
    TotalSteps,
    Whole,
)
from tuner.catalog.families.ranges import (
    BETA2_AT,
    EPS_AT,
    LATE_DECAY,
    MOMENTUM_AT,
    PLAIN_L2,
    beta1,
    beta2,
    decaying,
    eps,
    exposed,
    heavy_ball,
    l2,
    learning_rate,
    momentum,
    weight_decay,
)
from tuner.catalog.families.row import HORIZON, LOOKAHEAD, ONE_RATE, SWITCH, Family, Hyperparameter, Search
from tuner.core.values import Scalar

WARMED: Mapping[str, Scalar] = MappingProxyType({"kind": "constant", "warmup": 0.05})
LIBRARY = "pytorch_optimizer 4.1 defaults, with the cosine schedule"


def _bounded(name: str, ams: Mapping[str, bool], slots: int, source: str, formula: str) -> Family:
    final = "learning rate of the SGD that both bounds close in on"
    speed = "how fast they close: 1 / gamma steps"
    return Family(
        name=name,
        camp="adam",
        hyperparameters=(
            learning_rate(1e-3, 1e-4, 1.0),
            Hyperparameter("final_lr", 0.1, 0.0, 1e4, final, Search(1e-3, 0.5, opens_at=MOMENTUM_AT)),
            beta1(),
            l2(),
            Hyperparameter("gamma", 1e-3, 1e-8, 1.0, speed, Search(1e-4, 0.1, opens_at=EPS_AT)),
            eps(),
            beta2(),
            LATE_DECAY,
        ),
        optimizer=OptimizerClass(
            "pytorch_optimizer:AdaBound",
            {**MOMENTS, "gamma": "gamma", "weight_decouple": False, **ams},
            adapter=FINAL_RATE,
        ),
        state_slots=slots,
        source=source,
        formula=formula,
        default_source=LIBRARY,
        default_schedule=COSINE,
        momentum="beta1",
    )


def lookahead(base: Family) -> Family:
    """Return the row of the family that looks ahead over ``base``: its hyperparameters and two more."""
    reach = Search(0.2, 0.8, log=False, opens_at=EPS_AT)
    alpha = Hyperparameter("lookahead_alpha", 0.5, 0.0, 0.999, "how far slow weights go to the fast ones", reach)
    every = exposed("lookahead_k", 5, 1, 10_000, "steps of the base between two of the slow weights", integer=True)
    return replace(
        base,
        name=LOOKAHEAD + base.name,
        hyperparameters=(*base.hyperparameters, alpha, every),
        trainer=None,
        state_slots=base.state_slots + 1,
        source=f"Zhang et al. 2019, arXiv 1907.08610; pytorch_optimizer.Lookahead over {base.name}",
        formula=f"after each lookahead_k steps of {base.name}: slow += lookahead_alpha (w - slow), w = slow",
        default_source=f"pytorch_optimizer 4.1: k 5, alpha 0.5; the rest as {base.name}",
    )


_BOUNDED = (
    _bounded(
        "adabound",
        {},
        2,
        "Luo et al. 2019, arXiv 1902.09843; pytorch_optimizer.AdaBound",
        "w -= m clip(lr sqrt(1 - beta2^t) / (1 - beta1^t) / (sqrt(v) + eps), low, high); low, high: "
        "final_lr (1 - 1 / (gamma t + 1)), final_lr (1 + 1 / (gamma t)), both times the schedule's factor",
    ),
    _bounded(
        "amsbound",
        {"ams_bound": True},
        3,
        "Luo et al. 2019, arXiv 1902.09843; pytorch_optimizer.AdaBound(ams_bound=True)",
        "as adabound, with the largest v so far for v",
    ),
    Family(
        name="swats",
        camp="other",
        hyperparameters=(
            learning_rate(1e-3),
            beta1(),
            l2(),
            eps(1e-6, meaning="added to the root of v; also the relative tolerance at which it switches"),
            beta2(),
            LATE_DECAY,
        ),
        optimizer=OptimizerClass("pytorch_optimizer:SWATS", MOMENTS, adapter=SGD_PHASE),
        state_slots=3,
        source="Keskar & Socher 2017, arXiv 1712.07628; pytorch_optimizer.SWATS",
        formula="as adam, until for one tensor of a param group r = |p|^2 / -(p g), p its step, equals its own average "
        "(beta2) within eps; from then the group is SGD: m = beta1 m + g, w -= r (1 - beta1) m, under the schedule",
        default_source=LIBRARY,
        default_schedule=COSINE,
        momentum="beta1",
        note="Each param group (weights that decay, and the rest) switches by itself, and at the default eps seldom: "
        "none did in 460 steps of a small network on digits. Until then it is Adam. Decoupled decay keeps to Adam's "
        "rate. On a GPU each step waits once for each group.",
    ),
)

_SIGN_AND_TRUST = (
    Family(
        name="lion",
        camp="other",
        hyperparameters=(
            learning_rate(1e-4, 1e-6, 3e-3),
            beta1(0.9, 0.01, 0.5),
            weight_decay(0.1, 1e-3, 10.0),
            decaying("beta2", 0.99, 3e-3, 0.1, BETA2_AT, "decay of the average of gradients that is kept"),
            PLAIN_L2,
        ),
        optimizer=OptimizerClass(
            "pytorch_optimizer:Lion",
            {"betas": ("beta1", "beta2"), "weight_decouple": True},
            weight_decay=DECOUPLED,
        ),
        timm=TimmOptimizer("lion"),
        state_slots=1,
        source="Chen et al. 2023, arXiv 2302.06675; pytorch_optimizer.Lion",
        formula="w *= 1 - lr weight_decay, w -= lr sign(beta1 m + (1 - beta1) g), m = beta2 m + (1 - beta2) g",
        default_source="pytorch_optimizer 4.1 defaults; weight decay ten times adamw's at a tenth of its rate; cosine",
        default_schedule=COSINE,
        momentum="beta1",
    ),
    Family(
        name="lamb",
        camp="adam",
        hyperparameters=(
            learning_rate(1e-3, 1e-4, 1e-2),
            beta1(0.9, 0.05, 0.3),
            weight_decay(0.01, 1e-3, how="weight decay inside the update, before its trust ratio"),
            eps(1e-6),
            beta2(),
            PLAIN_L2,
        ),
        optimizer=OptimizerClass(
            "pytorch_optimizer:Lamb",
            # weight_decouple=False is the paper's decay, inside the update. adam_debias=True leaves out a division of
            # the learning rate by 1 - beta1^t, which would make the first step ten times too long: the norms cancel
            # scales already.
            {**MOMENTS, "weight_decouple": False, "adam_debias": True},
            weight_decay=DECOUPLED,
        ),
        timm=TimmOptimizer(
            "lamb",
            {"bias_correction": False, "max_grad_norm": None, "always_adapt": True},
            note="timm does not bound a tensor's norm by 10, as the paper and the study's class do.",
        ),
        state_slots=2,
        source="You et al. 2020, arXiv 1904.00962; pytorch_optimizer.Lamb, without bias correction",
        formula="u = m / (sqrt(v) + eps) + weight_decay w, w -= lr u min(|w|, 10) / |u| for each tensor",
        default_source="pytorch_optimizer 4.1 defaults, weight decay 0.01 as in the paper's BERT; cosine",
        default_schedule=COSINE,
        momentum="beta1",
        note="The library's bias correction is left out: it makes the first step 1 / (1 - beta1) times as long.",
    ),
    Family(
        name="lars",
        camp="sgdm",
        hyperparameters=(
            *heavy_ball(),
            replace(l2(1e-4), meaning="L2 penalty, added to the gradient and to the norm that it is divided by"),
            exposed("trust", 1e-2, 1e-9, 1e3, "step of a tensor relative to its norm, at learning rate 1"),
            exposed("dampening", 0.0, 0.0, 0.99999, "share of a gradient that does not enter the momentum"),
        ),
        optimizer=OptimizerClass("pytorch_optimizer:LARS", {**HEAVY_BALL, "trust_coefficient": "trust"}),
        state_slots=1,
        source="You, Gitman & Ginsburg 2017, arXiv 1708.03888; pytorch_optimizer.LARS",
        formula="m = momentum m + (1 - dampening) g trust |w| / (|g| + l2 |w|), w -= lr m for each tensor; one of a "
        "single dimension takes g as it is and no l2",
        default_source="rate and l2 as sgdm, for what it does not scale; trust so that the rest moves as at the "
        "paper's 1e-3 with a rate of 1; cosine",
        default_schedule=COSINE,
        momentum="momentum",
        heavy_ball=True,
    ),
)

_BEYOND_ADAM = (
    Family(
        name="soap",
        camp="adam",
        hyperparameters=(
            learning_rate(3e-3, 1e-4, 3e-2),
            beta1(0.95, 0.01, 0.3),
            weight_decay(0.01),
            eps(),
            beta2(0.95, 5e-3, 0.2),
            exposed("precondition_frequency", 10, 1, 10_000, "steps between two updates of the basis", integer=True),
            PLAIN_L2,
        ),
        optimizer=OptimizerClass(
            "pytorch_optimizer:SOAP",
            {**MOMENTS, "precondition_frequency": Whole("precondition_frequency")},
            weight_decay=DECOUPLED,
            step="",
        ),
        state_slots=4.86,
        source="Vyas et al. 2024, arXiv 2409.11321; pytorch_optimizer.SOAP",
        formula="as adam in the eigenbasis of the averages (beta2) of g g' and g' g, one for each dimension of a "
        "tensor; then w *= 1 - lr weight_decay",
        default_source=LIBRARY,
        default_schedule=COSINE,
        momentum="beta1",
        note="The first step only looks, and moves nothing. State and time grow with the square and the cube of a "
        "dimension; those above 10,000 are left as they are.",
    ),
    Family(
        name="prodigy",
        camp="adam",
        hyperparameters=(
            exposed("learning_rate", 1.0, 0.0, 1e4, "factor on the rate that it finds; 1 is meant to stay"),
            Hyperparameter("d_coef", 1.0, 1e-3, 1e3, "factor on its estimate of the distance", Search(0.1, 10.0)),
            beta1(),
            weight_decay(0.0, 1e-3, 0.1, how="decoupled weight decay, multiplied by d and the learning rate"),
            beta2(),
            exposed("d0", 1e-6, 1e-12, 1.0, "first estimate of the distance"),
            exposed("eps", 1e-8, 1e-30, 1e10, "added to the root of the second moment, times d"),
            PLAIN_L2,
        ),
        optimizer=OptimizerClass(
            "pytorch_optimizer:Prodigy",
            {**MOMENTS, "d0": "d0", "d_coef": "d_coef", "safeguard_warmup": True},
            weight_decay=DECOUPLED,
        ),
        state_slots=4,
        source="Mishchenko & Defazio 2023, arXiv 2306.06101; pytorch_optimizer.Prodigy(safeguard_warmup=True)",
        formula="as adam without bias correction, at the rate lr d, d: the largest lower bound so far on the distance "
        "from the first weights to the solution",
        default_source="pytorch_optimizer 4.1 defaults; cosine and the safeguard, since schedules warm up: its authors",
        default_schedule=COSINE,
        momentum="beta1",
        needs=frozenset({ONE_RATE}),
        note="It finds one rate for all parameters: multipliers and layer-wise decay are refused. On a GPU "
        "each step waits once.",
    ),
    Family(
        name="ademamix",
        camp="adam",
        hyperparameters=(
            learning_rate(1e-3),
            beta1(least=1e-6),
            weight_decay(0.01),
            eps(),
            Hyperparameter("alpha", 5.0, 0.0, 1e3, "weight of the slow average", Search(1.0, 10.0, opens_at=EPS_AT)),
            decaying("beta3", 0.9999, 1e-4, 1e-2, EPS_AT, "decay of the slow average", least=1e-6),
            beta2(),
            PLAIN_L2,
        ),
        optimizer=OptimizerClass(
            "pytorch_optimizer:AdEMAMix",
            {
                "betas": ("beta1", "beta2", "beta3"),
                "alpha": "alpha",
                "eps": "eps",
                "t_alpha_beta3": TotalSteps(),
                "weight_decouple": True,
            },
            weight_decay=DECOUPLED,
        ),
        state_slots=3,
        source="Pagliardini, Ablin & Grangier 2024, arXiv 2409.03137; pytorch_optimizer.AdEMAMix",
        formula="as adamw, with m^ + alpha s for m^, s: the average of g with beta3; alpha rises from 0 and beta3 from "
        "beta1 over the whole horizon",
        default_source="pytorch_optimizer 4.1 defaults, weight decay as adamw; cosine; both warm-ups over the horizon",
        default_schedule=COSINE,
        momentum="beta1",
        needs=frozenset({HORIZON}),
    ),
    Family(
        name="adabelief",
        camp="adam",
        hyperparameters=(
            learning_rate(1e-3),
            beta1(),
            weight_decay(0.01),
            eps(1e-16, 1e-16, 1e-6, "added to the variance at each step, and to its root"),
            beta2(),
            PLAIN_L2,
        ),
        optimizer=OptimizerClass(
            "pytorch_optimizer:AdaBelief", {**MOMENTS, "weight_decouple": True}, weight_decay=DECOUPLED
        ),
        timm=TimmOptimizer("adabelief"),
        state_slots=2,
        source="Zhuang et al. 2020, arXiv 2010.07468; pytorch_optimizer.AdaBelief",
        formula="as adamw, with v the average of (g - m)^2, to which eps is added at each step",
        default_source="pytorch_optimizer 4.1 defaults, weight decay as adamw; cosine",
        default_schedule=COSINE,
        momentum="beta1",
    ),
    Family(
        name="adan",
        camp="adam",
        hyperparameters=(
            learning_rate(1e-3),
            beta1(0.98, 4e-3, 0.3),
            weight_decay(0.02, how="weight decay that is proximal: divides by 1 + lr weight_decay after the update"),
            eps(),
            decaying("beta2", 0.92, 0.01, 0.4, BETA2_AT, "decay of the average d of differences of gradients"),
            decaying("beta3", 0.99, 1e-3, 0.1, BETA2_AT, "decay of the average of squares"),
            PLAIN_L2,
        ),
        optimizer=OptimizerClass(
            "pytorch_optimizer:Adan",
            # weight_decouple=False is the paper's proximal decay.
            {"betas": ("beta1", "beta2", "beta3"), "eps": "eps", "weight_decouple": False},
            weight_decay=DECOUPLED,
        ),
        timm=TimmOptimizer("adan"),
        state_slots=4,
        source="Xie et al. 2022, arXiv 2208.06677; pytorch_optimizer.Adan",
        formula="m, d, v: averages of g, g - g' (the last one) and (g + beta2 (g - g'))^2; "
        "w -= lr (m^ + beta2 d^) / (sqrt(v^) + eps), w /= 1 + lr weight_decay",
        default_source="pytorch_optimizer 4.1 defaults, weight decay 0.02 as in the paper's vision recipes; cosine",
        default_schedule=COSINE,
        momentum="beta1",
    ),
)

_SWITCHED = (
    "Other weights are evaluated than trained: the loop switches, and takes BatchNorm's statistics anew for them. A "
    "warm-up is the only schedule that is offered."
)

_SCHEDULE_FREE = (
    Family(
        name="schedule-free-adamw",
        camp="adam",
        hyperparameters=(
            learning_rate(2.5e-3, 1e-4, 5e-2),
            beta1(0.9, 0.02, 0.2, least=0.1),
            weight_decay(0.0, 1e-4, 1.0, how="decoupled weight decay, at the weights that are trained"),
            eps(),
            beta2(),
            PLAIN_L2,
        ),
        optimizer=OptimizerClass("schedulefree:AdamWScheduleFree", MOMENTS, weight_decay=DECOUPLED),
        state_slots=2,
        source="Defazio et al. 2024, arXiv 2405.15682; schedulefree.AdamWScheduleFree",
        formula="z -= lr (g / (sqrt(v^) + eps) + weight_decay y), x += c (z - x), c: lr^2 over the sum of all lr^2; "
        "trained: y = (1 - beta1) z + beta1 x, evaluated: x",
        default_source="schedulefree 1.4 defaults; 5 % warm-up as its authors advise",
        default_schedule=WARMED,
        needs=frozenset({SWITCH}),
        schedules=("constant",),
        note=_SWITCHED,
    ),
    Family(
        name="schedule-free-sgd",
        camp="sgdm",
        hyperparameters=(
            learning_rate(1.0, 0.1, 100.0),
            replace(
                momentum(0.9, 0.02, 0.2),
                low=0.1,
                meaning="share of the average in the weights that are trained",
            ),
            l2(0.0),
        ),
        optimizer=OptimizerClass("schedulefree:SGDScheduleFree", {"momentum": "momentum"}),
        state_slots=1,
        source="Defazio et al. 2024, arXiv 2405.15682; schedulefree.SGDScheduleFree",
        formula="z -= lr g, x += c (z - x), c: lr^2 over the sum of all lr^2; trained: y = (1 - momentum) z + "
        "momentum x, evaluated: x",
        default_source="schedulefree 1.4 defaults; 5 % warm-up as its authors advise",
        default_schedule=WARMED,
        needs=frozenset({SWITCH}),
        schedules=("constant",),
        note=_SWITCHED,
    ),
)

BOUNDED, REST = _BOUNDED, (*_SIGN_AND_TRUST, *_BEYOND_ADAM, *_SCHEDULE_FREE)
