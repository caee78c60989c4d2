"""The entry reads back to the same setting, in any study."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.catalog import training_options
from tuner.catalog.families import FAMILIES, family
from tuner.catalog.schedules import SCHEDULES, Schedule
from tuner.config.documents import parse_yaml
from tuner.config.study_file import read_study
from tuner.core.records import Setting
from tuner.core.values import Scalar
from tuner.exports import export

STUDY = """\
study: x
workload: my_pkg:Model
workload_training: {batch_size: 32, clip_norm: 2.0, average: ema}
"""
PATTERNS: dict[str, Scalar] = {"multiplier:a.*": 0.1, "freeze:b: #*": "yes", "freeze:c.*": "no", "no_decay:'*": "yes"}


def read_back(setting: Setting) -> Setting | None:
    return read_study(parse_yaml(STUDY + export(setting, "yaml").text, "study.yaml")).current


def complete(setting: Setting) -> Setting:
    values = family(setting.family).complete(setting.hyperparameters)
    return Setting(
        setting.family, values, Schedule.of(setting.schedule).setting, training_options.complete(setting.training)
    )


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_and_schedule_reads_back(name: str, kind: str) -> None:
    setting = Setting(name, {"learning_rate": 3e-5}, {"kind": kind, "warmup": 0.05, "warmup_shape": "cosine"}, PATTERNS)
    if name == "prodigy":
        setting = Setting(name, {"learning_rate": 3e-5}, {"kind": kind}, {"freeze:b": "yes"})
    assert read_back(setting) == complete(setting)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(1e-12, 1e3),
    st.floats(0.0, 0.9999),
    st.floats(0.0, 0.5),
    st.floats(0.0, 1e6),
    st.sampled_from(["none", "linear", "sqrt"]),
)
def test_numbers_read_back_to_the_last_bit(rate: float, beta: float, warmup: float, clip: float, scaling: str) -> None:
    rest: dict[str, Scalar] = {"clip_norm": clip, "batch_scaling": scaling, "accumulation": 3, "batch_reference": 8}
    setting = Setting("adamw", {"learning_rate": rate, "beta1": beta}, {"kind": "wsd", "warmup": warmup}, rest)
    assert read_back(setting) == complete(setting)
