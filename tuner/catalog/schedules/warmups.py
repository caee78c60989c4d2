"""The warm-up that any schedule may begin with, and its shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from tuner.catalog.schedules.row import Parameter, half_wave

WARMUP_START = 0.01
"""Where a warm-up begins, as a share of the rate that it rises to."""

WARMUP = Parameter("warmup", 0.0, 0.0, 0.5, "share of the horizon in which the rate rises to where the schedule begins")

Rise: TypeAlias = Callable[[float, float], float]
"""From the share of the horizon that has passed and the warm-up's share, to the factor on the rate after it."""


def _rise_linear(x: float, warmup: float) -> float:
    return WARMUP_START + (1.0 - WARMUP_START) * x / warmup


def _rise_cosine(x: float, warmup: float) -> float:
    return half_wave(x / warmup, WARMUP_START, 1.0)


def _rise_exponential(x: float, warmup: float) -> float:
    return math.pow(WARMUP_START, 1.0 - x / warmup)


WARMUP_SHAPES: Mapping[str, Rise] = MappingProxyType(
    {"linear": _rise_linear, "cosine": _rise_cosine, "exponential": _rise_exponential}
)
