from __future__ import annotations

import math
from typing import Any

import pytest

from tuner.catalog.training_options import TRAINING_OPTIONS, changed, complete, learning_rate_factor, option, pattern_of
from tuner.core.errors import InputError
from tuner.core.values import Scalar


def test_every_row_is_whole() -> None:
    for name, row in TRAINING_OPTIONS.items():
        assert (row.name, bool(row.meaning), bool(row.source)) == (name, True, True)
        assert row.check(row.default) == row.default
        assert row.choices or row.low <= float(row.default) <= row.high


def test_the_defaults_change_nothing() -> None:
    assert complete({}) == {
        "clip_norm": 0.0,
        "clip_value": 0.0,
        "accumulation": 1,
        "batch_size": 0,
        "batch_reference": 0,
        "batch_scaling": "none",
        "average": "none",
        "ema_decay": 0.999,
        "swa_start": 0.75,
        "precision": "float32",
        "label_smoothing": 0.0,
        "no_decay": "bias+norm",
        "layer_decay": 1.0,
    }
    assert changed({}) == {}
    assert learning_rate_factor({}) == 1.0


def test_what_is_given_is_kept_in_its_kind() -> None:
    found = complete({"accumulation": 4.0, "clip_norm": 1, "multiplier:head.*": 10, "freeze:stem.*": "yes"})
    assert (found["accumulation"], type(found["accumulation"])) == (4, int)
    assert (found["clip_norm"], type(found["clip_norm"])) == (1.0, float)
    assert (found["multiplier:head.*"], found["freeze:stem.*"]) == (10.0, "yes")
    assert complete(found) == found


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"clip": 1}, "there is no training option 'clip'; expected one of clip_norm, .*, or a pattern"),
        ({"multiplier:": 1}, "there is no training option 'multiplier:'"),
        ({"clip_norm": -1}, "clip_norm is -1; expected 0 to 1e[+]06"),
        ({"clip_norm": math.nan}, "clip_norm is nan; expected a number"),
        ({"clip_norm": True}, "clip_norm is True; expected a number"),
        ({"clip_norm": "1"}, "clip_norm is '1'; expected a number"),
        ({"accumulation": 0}, "accumulation is 0; expected 1 to 4096"),
        ({"accumulation": 1.5}, "accumulation is 1.5; expected a whole number"),
        ({"ema_decay": 1.0}, "ema_decay is 1; expected 0 to 0.9999999"),
        ({"layer_decay": 1.1}, "layer_decay is 1.1; expected 0.01 to 1"),
        ({"precision": "fp8"}, "precision is 'fp8'; expected one of float32, bfloat16, float16"),
        ({"no_decay": "bias"}, "no_decay is 'bias'; expected one of nothing, bias[+]norm, bias[+]norm[+]embedding"),
        ({"multiplier:a.*": 0}, r"multiplier:a\.\* is 0; expected 1e-06 to 1e[+]06"),
        ({"freeze:a.*": True}, r"freeze:a\.\* is True; expected one of no, yes"),
    ],
)
def test_wrong_values(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        complete(given)


def test_a_pattern_is_a_prefix_and_a_glob() -> None:
    assert pattern_of("no_decay:*.scale") == ("no_decay:", "*.scale")
    assert pattern_of("multiplier:a:b") == ("multiplier:", "a:b")
    assert pattern_of("multiplier:") is None
    assert pattern_of("no_decay") is None, "the rule itself is a plain option"
    assert option("freeze:a").default == "no"
    assert option("multiplier:a").default == 1.0


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"ema_decay": 0.9}, {}),
        ({"average": "swa"}, {"average": "swa", "swa_start": 0.75}),
        ({"average": "swa", "ema_decay": 0.9}, {"average": "swa", "swa_start": 0.75}),
        (
            {"batch_size": 64, "batch_reference": 32, "batch_scaling": "sqrt"},
            {"batch_size": 64, "batch_reference": 32, "batch_scaling": "sqrt"},
        ),
        ({"freeze:a.*": "yes", "multiplier:b": 1.0}, {"freeze:a.*": "yes"}),
    ],
)
def test_what_differs_from_the_defaults(given: dict[str, Scalar], shown: dict[str, Scalar]) -> None:
    assert changed(given) == shown


@pytest.mark.parametrize(
    ("scaling", "size", "reference", "accumulation", "factor"),
    [
        ("none", 512, 32, 4, 1.0),
        ("linear", 512, 32, 1, 16.0),
        ("sqrt", 512, 32, 1, 4.0),
        ("linear", 16, 32, 1, 0.5),
        ("linear", 32, 32, 4, 4.0),
        ("sqrt", 0, 0, 4, 2.0),
    ],
)
def test_the_scaling_rule(scaling: str, size: int, reference: int, accumulation: int, factor: float) -> None:
    training = {
        "batch_scaling": scaling,
        "batch_size": size,
        "batch_reference": reference,
        "accumulation": accumulation,
    }
    assert learning_rate_factor(training) == factor


def test_scaling_from_an_unknown_batch_size_is_refused() -> None:
    with pytest.raises(InputError, match=r"batch_size 64, but batch_reference is not known.* Set training.batch_ref"):
        learning_rate_factor({"batch_scaling": "linear", "batch_size": 64})
