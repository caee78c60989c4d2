"""The families that torch has: SGD with its momenta, the Adagrad and Adam families, Muon by another's hand.

Formulas: w weights, g gradient (with l2 w), lr learning rate under its schedule, t the step from 1; m and v averages
that start at 0, m^ and v^ with their bias corrected.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tuner.catalog.families.optimizer_class import (
    DECOUPLED,
    FUSED,
    HEAVY_BALL,
    MATRICES,
    MOMENTS,
    MOMENTUM_BUFFERS,
    OnlyWith,
    OptimizerClass,
    TimmOptimizer,
    TrainerOptimizer,
)
from tuner.catalog.families.ranges import (
    BETA2_AT,
    DAMPENING,
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
from tuner.catalog.families.row import PARTNER, Family, Hyperparameter, Search
from tuner.core.values import Scalar

COSINE: Mapping[str, Scalar] = MappingProxyType({"kind": "cosine", "warmup": 0.0, "end_ratio": 0.0})
TORCH = "torch 2.13 defaults, with the cosine schedule"

_SGD = (
    Family(
        name="sgd",
        camp="sgdm",
        hyperparameters=(learning_rate(0.1, 0.01, 100.0), l2(1e-4)),
        optimizer=OptimizerClass("torch.optim:SGD", step=FUSED, adapter=MOMENTUM_BUFFERS),
        timm=TimmOptimizer("momentum"),
        trainer=TrainerOptimizer("sgd"),
        state_slots=0,
        source="Robbins & Monro 1951; torch.optim.SGD",
        formula="w -= lr g",
        default_source="torchvision references/classification without the momentum; cosine for its steps",
        default_schedule=COSINE,
    ),
    Family(
        name="sgdm",
        camp="sgdm",
        hyperparameters=(*heavy_ball(), l2(1e-4), DAMPENING),
        optimizer=OptimizerClass("torch.optim:SGD", HEAVY_BALL, step=FUSED, adapter=MOMENTUM_BUFFERS),
        timm=TimmOptimizer("momentum", {"dampening": OnlyWith("dampening")}),
        trainer=TrainerOptimizer("sgd"),
        state_slots=1,
        source="Polyak 1964; torch.optim.SGD(momentum)",
        formula="m = momentum m + (1 - dampening) g, and m = g at first; w -= lr m",
        default_source="torchvision references/classification: 0.1, 0.9, weight decay 1e-4; cosine for its steps",
        default_schedule=COSINE,
        momentum="momentum",
        heavy_ball=True,
    ),
    Family(
        name="nag",
        camp="sgdm",
        hyperparameters=(*heavy_ball(), l2(1e-4), weight_decay(0.0, 1e-6, 0.1, BETA2_AT)),
        optimizer=OptimizerClass(
            "torch.optim:SGD",
            # Without momentum there is nothing to look ahead with, and torch refuses the flag.
            {"momentum": OnlyWith("momentum"), "nesterov": OnlyWith("momentum", True)},
            step=FUSED,
            adapter=MOMENTUM_BUFFERS,
        ),
        timm=TimmOptimizer("sgd", decoupled="sgdw", without_momentum="momentum"),
        trainer=TrainerOptimizer("sgd"),
        state_slots=1,
        source="Nesterov 1983, Sutskever et al. 2013; torch.optim.SGD(momentum, nesterov=True)",
        formula="m = momentum m + g, w -= lr (g + momentum m)",
        default_source="as sgdm",
        default_schedule=COSINE,
        momentum="momentum",
        heavy_ball=True,
    ),
    Family(
        name="sgdw",
        camp="sgdm",
        hyperparameters=(*heavy_ball(), weight_decay(1e-3, 1e-6, 0.1), DAMPENING),
        optimizer=OptimizerClass("torch.optim:SGD", HEAVY_BALL, step=FUSED, adapter=MOMENTUM_BUFFERS),
        timm=TimmOptimizer("sgdw", {"nesterov": False, "dampening": OnlyWith("dampening")}),
        state_slots=1,
        source="Loshchilov & Hutter 2019, arXiv 1711.05101; torch.optim.SGD after the decay",
        formula="w *= 1 - lr weight_decay, then as sgdm",
        default_source="as sgdm; its L2 of 1e-4 as the decay that shrinks weights as fast, 1e-4 / (1 - momentum)",
        default_schedule=COSINE,
        momentum="momentum",
        heavy_ball=True,
    ),
)

_ADAGRAD = (
    Family(
        name="adagrad",
        camp="adam",
        hyperparameters=(
            learning_rate(1e-2, 1e-4, 1.0),
            l2(),
            eps(1e-10),
            Hyperparameter(
                "initial_accumulator",
                0.0,
                0.0,
                100.0,
                "where the sum of squares starts",
                Search(1e-4, 1.0, or_zero=True, opens_at=BETA2_AT),
            ),
            LATE_DECAY,
            exposed("lr_decay", 0.0, 0.0, 1.0, "the rate is divided by 1 + lr_decay (t - 1): not timed to the horizon"),
        ),
        optimizer=OptimizerClass(
            "torch.optim:Adagrad",
            {
                "eps": "eps",
                "lr_decay": OnlyWith("lr_decay"),
                "initial_accumulator_value": OnlyWith("initial_accumulator"),
            },
            step=FUSED,
        ),
        timm=TimmOptimizer(
            "adagrad",
            {"lr_decay": "lr_decay", "initial_accumulator_value": "initial_accumulator"},
            l2_only=True,
        ),
        state_slots=1,
        source="Duchi, Hazan & Singer 2011; torch.optim.Adagrad",
        formula="v = initial_accumulator + sum of g^2, w -= lr g / (sqrt(v) + eps)",
        default_source=TORCH,
        default_schedule=COSINE,
    ),
    Family(
        name="rmsprop",
        camp="adam",
        hyperparameters=(
            learning_rate(1e-2),
            momentum(0.0, 0.05, 1.0),
            l2(),
            eps(1e-8, 1e-10, 0.1),
            decaying("alpha", 0.99, 1e-3, 0.3, BETA2_AT, "decay of the average of squared gradients"),
            LATE_DECAY,
            exposed("centered", 0, 0, 1, "1 divides by the root of the variance, not of the second moment", True),
        ),
        optimizer=OptimizerClass(
            "torch.optim:RMSprop",
            {
                "alpha": "alpha",
                "eps": "eps",
                "momentum": OnlyWith("momentum"),
                "centered": OnlyWith("centered", True),
            },
        ),
        timm=TimmOptimizer("rmsprop", {"alpha": "alpha", "centered": OnlyWith("centered", True)}, l2_only=True),
        trainer=TrainerOptimizer("rmsprop"),
        state_slots=1,
        source="Tieleman & Hinton 2012; centered: Graves 2013, arXiv 1308.0850; torch.optim.RMSprop",
        formula="v = alpha v + (1 - alpha) g^2, m = momentum m + g / (sqrt(v) + eps), w -= lr m "
        "(momentum and centered keep one more tensor each)",
        default_source=TORCH,
        default_schedule=COSINE,
        momentum="momentum",
        heavy_ball=True,
    ),
    Family(
        name="adadelta",
        camp="adam",
        hyperparameters=(
            learning_rate(1.0, 1e-2, 10.0),
            decaying("rho", 0.9, 1e-3, 0.3, MOMENTUM_AT, "decay of both averages of squares"),
            l2(),
            eps(1e-6, 1e-9, 1e-2, "added inside both roots"),
            LATE_DECAY,
        ),
        optimizer=OptimizerClass("torch.optim:Adadelta", {"rho": "rho", "eps": "eps"}),
        timm=TimmOptimizer("adadelta", {"rho": "rho"}, l2_only=True),
        state_slots=2,
        source="Zeiler 2012, arXiv 1212.5701; torch.optim.Adadelta",
        formula="v = rho v + (1 - rho) g^2, d = g sqrt(u + eps) / sqrt(v + eps), u = rho u + (1 - rho) d^2, w -= lr d",
        default_source=TORCH,
        default_schedule=COSINE,
    ),
)

_COUPLED = (beta1(), l2(), eps(), beta2())

_ADAM = (
    Family(
        name="adam",
        camp="adam",
        hyperparameters=(learning_rate(1e-3), *_COUPLED),
        optimizer=OptimizerClass("torch.optim:Adam", MOMENTS, step=FUSED),
        timm=TimmOptimizer("adam"),
        state_slots=2,
        source="Kingma & Ba 2015, arXiv 1412.6980; torch.optim.Adam (weight decay is L2 in the gradient)",
        formula="m, v: averages of g, g^2 with beta1, beta2; w -= lr m^ / (sqrt(v^) + eps)",
        default_source=TORCH,
        default_schedule=COSINE,
        momentum="beta1",
    ),
    Family(
        name="amsgrad",
        camp="adam",
        hyperparameters=(learning_rate(1e-3), *_COUPLED, LATE_DECAY),
        optimizer=OptimizerClass("torch.optim:Adam", {**MOMENTS, "amsgrad": True}, step=FUSED, decoupled_class="AdamW"),
        timm=TimmOptimizer("adam", {"amsgrad": True}, decoupled="adamw"),
        state_slots=3,
        source="Reddi, Kale & Kumar 2018, arXiv 1904.09237; torch.optim.Adam(amsgrad=True)",
        formula="as adam, with the largest v so far for v (its bias corrected by today's step)",
        default_source=TORCH,
        default_schedule=COSINE,
        momentum="beta1",
    ),
    Family(
        name="adamax",
        camp="adam",
        hyperparameters=(learning_rate(2e-3), *_COUPLED, LATE_DECAY),
        optimizer=OptimizerClass("torch.optim:Adamax", MOMENTS),
        timm=TimmOptimizer("adamax", l2_only=True),
        state_slots=2,
        source="Kingma & Ba 2015, arXiv 1412.6980, section 7.1; torch.optim.Adamax",
        formula="u = max(beta2 u, |g| + eps), w -= lr m^ / u",
        default_source=TORCH,
        default_schedule=COSINE,
        momentum="beta1",
    ),
    Family(
        name="nadam",
        camp="adam",
        hyperparameters=(
            learning_rate(2e-3),
            *_COUPLED,
            LATE_DECAY,
            exposed("momentum_decay", 4e-3, 0.0, 1.0, "decay of the momentum's own schedule"),
        ),
        optimizer=OptimizerClass(
            "torch.optim:NAdam",
            {**MOMENTS, "momentum_decay": "momentum_decay"},
            decoupling={"decoupled_weight_decay": True},
        ),
        timm=TimmOptimizer(
            "nadam",
            {"momentum_decay": "momentum_decay", "decoupled_weight_decay": OnlyWith("weight_decay", True)},
        ),
        state_slots=2,
        source="Dozat 2016; torch.optim.NAdam",
        formula="mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2), P_t = mu_1 ... mu_t; "
        "w -= lr (mu_(t+1) m / (1 - P_(t+1)) + (1 - mu_t) g / (1 - P_t)) / (sqrt(v^) + eps)",
        default_source=TORCH,
        default_schedule=COSINE,
        momentum="beta1",
    ),
    Family(
        name="radam",
        camp="adam",
        hyperparameters=(learning_rate(1e-3), *_COUPLED, LATE_DECAY),
        optimizer=OptimizerClass("torch.optim:RAdam", MOMENTS, decoupling={"decoupled_weight_decay": True}),
        timm=TimmOptimizer("radam", decoupled="radamw"),
        state_slots=2,
        source="Liu et al. 2020, arXiv 1908.03265; torch.optim.RAdam",
        formula="as adam, times a factor that rises to 1 as v gets reliable; w -= lr m^ in the first steps "
        "(5 at beta2 0.999)",
        default_source=TORCH,
        default_schedule=COSINE,
        momentum="beta1",
    ),
    Family(
        name="adamw",
        camp="adam",
        hyperparameters=(learning_rate(1e-3), beta1(), weight_decay(0.01), eps(), beta2()),
        optimizer=OptimizerClass("torch.optim:AdamW", MOMENTS, weight_decay=DECOUPLED, step=FUSED),
        timm=TimmOptimizer("adamw"),
        trainer=TrainerOptimizer("adamw_torch", {"adam_beta1": "beta1", "adam_beta2": "beta2", "adam_epsilon": "eps"}),
        state_slots=2,
        source="Loshchilov & Hutter 2019, arXiv 1711.05101; torch.optim.AdamW",
        formula="w *= 1 - lr weight_decay, then as adam",
        default_source=TORCH,
        default_schedule=COSINE,
        momentum="beta1",
    ),
    Family(
        name="adafactor",
        camp="adam",
        hyperparameters=(
            learning_rate(1e-2, 1e-4, 0.1),
            weight_decay(0.0, 1e-3),
            Hyperparameter(
                "beta2_decay",
                -0.8,
                -1.0,
                0.0,
                "beta2 is 1 - t^beta2_decay",
                Search(-0.95, -0.5, log=False, opens_at=BETA2_AT),
            ),
            exposed("eps1", 2**-23, 1e-30, 1.0, "floor of the second moment is its square"),
            exposed("eps2", 1e-3, 0.0, 1.0, "floor of the scale of a tensor's weights"),
            exposed("clip", 1.0, 1.0, 1e6, "bound on the root mean square of u"),
            PLAIN_L2,
        ),
        optimizer=OptimizerClass(
            "torch.optim:Adafactor",
            {"beta2_decay": "beta2_decay", "eps": ("eps1", "eps2"), "d": "clip"},
            weight_decay=DECOUPLED,
        ),
        state_slots=0.255,
        source="Shazeer & Stern 2018, arXiv 1804.04235; torch.optim.Adafactor",
        formula="u = g / sqrt(v), v kept as means over rows and over columns of the last two dimensions; "
        "w -= max(eps2, rms(w)) min(lr, 1 / sqrt(t)) u / max(1, rms(u) / clip), after w *= 1 - lr weight_decay",
        default_source=TORCH,
        default_schedule=COSINE,
        note="The rate is relative to the size of the weights. On a GPU each step waits once for each tensor.",
    ),
)

_MUON = (
    Family(
        name="muon",
        camp="other",
        hyperparameters=(
            learning_rate(1e-3, 1e-4, 3e-2),
            momentum(0.95, 0.01, 0.2),
            weight_decay(0.1),
            Hyperparameter(
                "adamw_ratio",
                1.0,
                1e-4,
                1e4,
                "learning rate of the AdamW part, relative to learning_rate",
                Search(0.1, 10.0, opens_at=EPS_AT),
            ),
            exposed("adamw_beta1", 0.9, 0.0, 0.99999, "beta1 of the AdamW part"),
            exposed("adamw_beta2", 0.95, 0.0, 0.9999999, "beta2 of the AdamW part"),
            exposed("adamw_eps", 1e-8, 1e-30, 1e10, "eps of the AdamW part"),
            PLAIN_L2,
        ),
        optimizer=OptimizerClass(
            "pytorch_optimizer:Muon",
            {"use_adjusted_lr": True, "weight_decouple": True},
            weight_decay=DECOUPLED,
            adapter=MATRICES,
        ),
        state_slots=1.02,
        source="Jordan et al. 2024; the scale: Liu et al. 2025, arXiv 2502.16982; pytorch_optimizer.Muon",
        formula="matrices and kernels: m = momentum m + (1 - momentum) g, w -= 0.2 sqrt(max(rows, columns)) lr O after "
        "w *= 1 - lr weight_decay, O: the orthogonal factor of (1 - momentum) g + momentum m by five Newton-Schulz "
        "steps; the rest: as adamw, at adamw_ratio lr",
        default_source="torch 2.13 defaults of torch.optim.Muon, with adamw_beta2 as pytorch_optimizer has it; cosine",
        default_schedule=COSINE,
        momentum="momentum",
        needs=frozenset({PARTNER}),
        note="AdamW trains embeddings, what has a single row or column, biases and norms, and the output's weight: "
        "that of a module called head, lm_head or classifier, else the last matrix of those with the highest rate. The "
        "five steps are in bfloat16, at which many CPUs are slow.",
    ),
)

ROWS = (*_SGD, *_ADAGRAD, *_ADAM, *_MUON)
