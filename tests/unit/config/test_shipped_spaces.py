"""The spaces that ship: what they hold, that they sample, what opens when, and that the documentation knows them."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.catalog.families import classical, family
from tuner.catalog.schedules import Schedule
from tuner.catalog.training_options import complete
from tuner.config.documents import Section, parse_yaml, read_yaml
from tuner.config.parts import read_training
from tuner.config.shipped import list_spaces
from tuner.config.space import EFFECTIVE, KIND, SCHEDULE, ArmSpace, Dimension
from tuner.config.space_files import read_space
from tuner.config.study_file import read_study
from tuner.core.records import Setting, Source
from tuner.core.values import Scalar
from tuner.search.proposals import sobol_point

NAMES = [
    "algoperf-nadamw",
    "finetune",
    "five-families",
    "gan",
    "modern",
    "quick",
    "seed-2021",
    "sgdm-vs-adam",
    "torch-all",
    "transformer",
    "tuning-playbook",
    "vision",
]
ARMS = {
    "algoperf-nadamw": ["nadamw", "adamw", "sgdm", "nag"],
    "finetune": ["adamw", "sgdm", "lion"],
    "five-families": ["sgdm", "nag", "adamw", "adam", "nadam"],
    "gan": ["adam", "adamw", "sgdm"],
    "modern": ["adamw", "muon", "soap", "lion", "schedule-free-adamw", "prodigy", "ademamix"],
    "quick": ["sgdm", "adamw", "nadam"],
    "seed-2021": [
        *("sgd", "sgdm", "nag", "adagrad", "rmsprop", "adadelta"),
        *("adam", "amsgrad", "adabound", "adamax", "nadam", "radam", "adamw"),
    ],
    "sgdm-vs-adam": ["sgdm", "adamw"],
    "torch-all": [row.name for row in classical.ROWS],
    "transformer": ["sgdm", "adam", "adamw", "nadam", "adafactor", "lion"],
    "tuning-playbook": ["nag", "adam", "nadam"],
    "vision": ["sgdm", "nag", "adamw", "rmsprop"],
}
BUDGETS = (5, 12, 30, 80)
EVERYTHING = 10**6
SPACES = {name: read_space(read_yaml(path)) for name, path in list_spaces().items()}
unit = st.floats(0.0, 1.0, exclude_max=True)


def arms_at(name: str, trials: int) -> list[ArmSpace]:
    return [replace(arm, trials=trials) for arm in SPACES[name]]


def close(one: Scalar, two: Scalar) -> bool:
    if isinstance(one, str) or isinstance(two, str):
        return one == two
    return math.isclose(one, two, rel_tol=1e-9, abs_tol=1e-15)


def same(one: Setting, two: Setting) -> bool:
    parts = ((one.hyperparameters, two.hyperparameters), (one.schedule, two.schedule), (one.training, two.training))
    return all(set(a) == set(b) and all(close(a[key], b[key]) for key in a) for a, b in parts)


class TestTheShippedSpaces:
    def test_are_these(self) -> None:
        assert list(list_spaces()) == NAMES
        assert {name: [arm.arm for arm in space] for name, space in SPACES.items()} == ARMS
        assert all(space.name == name and space.about for name, space in SPACES.items())
        assert len(ARMS["seed-2021"]) == 13

    @pytest.mark.parametrize("name", NAMES)
    def test_cite_their_sources(self, name: str) -> None:
        text = list_spaces()[name].read_text(encoding="utf-8")
        comments = " ".join(line for line in text.splitlines() if line.startswith("#"))
        assert re.search(r"arXiv \d{4}\.\d{5}|Sources as in sgdm-vs-adam", comments)
        assert "spaces.md" not in text
        assert max(map(len, text.splitlines())) <= 120

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("trials", [1, *BUDGETS, EVERYTHING])
    def test_sample(self, name: str, trials: int) -> None:
        for arm in arms_at(name, trials):
            arm.check_corners()
            for index in range(4):
                point = sobol_point(arm, 0, index)
                setting = arm.decode(point)
                assert family(setting.family).complete(setting.hyperparameters) == setting.hyperparameters
                assert Schedule.of(setting.schedule).setting == setting.schedule
                assert complete(setting.training) == setting.training
                again = arm.encode(setting)
                assert again is not None
                assert same(arm.decode(again), setting)

    @pytest.mark.parametrize("name", NAMES)
    @given(data=st.data())
    @settings(max_examples=40, deadline=None)
    def test_every_point_comes_back(self, name: str, data: st.DataObject) -> None:
        arm = data.draw(st.sampled_from(arms_at(name, data.draw(st.sampled_from([*BUDGETS, EVERYTHING])))))
        point = {d.name: d.at(data.draw(unit)) for d in arm.dimensions}
        setting = arm.decode(point)
        again = arm.encode(setting)
        assert again is not None
        assert same(arm.decode(again), setting)
        for d in arm.dimensions:
            if d.name.startswith(SCHEDULE) and d.name.removeprefix(SCHEDULE) not in setting.schedule:
                continue  # this kind has no such parameter, so the setting does not remember it
            if d.value(point[d.name]) == 0.0 and d.or_zero:
                assert d.value(again[d.name]) == 0.0
            else:
                assert close(again[d.name], point[d.name]), d.name

    @pytest.mark.parametrize("name", NAMES)
    def test_read_back_from_the_ledger(self, name: str) -> None:
        space = SPACES[name]
        again = read_space(Section(json.loads(json.dumps(space.document)), "the database"))
        assert again.arms == space.arms

    @pytest.mark.parametrize("name", NAMES)
    def test_open_few_settings_at_small_budgets(self, name: str) -> None:
        counts = [[len(arm.dimensions) for arm in arms_at(name, trials)] for trials in (1, 5, 12, 30, 80)]
        assert all(1 <= first <= 2 for first in counts[0] + counts[1])
        assert max(counts[2]) <= 5
        assert all(a <= b for one, two in pairwise(counts) for a, b in zip(one, two, strict=True))
        for arm in arms_at(name, 12):
            kinds = arm.dimension(KIND)
            assert kinds is None or len(kinds.choices) <= (3 if name == "gan" else 2)

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("trials", BUDGETS)
    def test_hold_each_familys_default(self, name: str, trials: int) -> None:
        for arm in arms_at(name, trials):
            # AlgoPerf's ranges exclude no decay and an L2 of 1e-4.
            outside = name == "algoperf-nadamw" and arm.arm != "adamw" and trials >= 10
            assert (arm.encode(arm.default) is None) == outside, arm.arm
            assert arm.initial_settings[0] == arm.default

    @pytest.mark.parametrize("name", NAMES)
    def test_hold_their_published_settings(self, name: str) -> None:
        for arm in arms_at(name, EVERYTHING):
            for setting in arm.published:
                assert arm.encode(setting) is not None, (arm.arm, setting)
                assert setting in arm.initial_settings
                assert arm.source_of(setting) is Source.PUBLISHED
                assert setting.family == arm.family.name

    def test_hold_recipes_where_some_are_published(self) -> None:
        counts = {name: sum(len(arm.published) for arm in space) for name, space in SPACES.items()}
        assert {name: count for name, count in counts.items() if count} == {
            "algoperf-nadamw": 7,
            "finetune": 4,
            "gan": 2,
            "modern": 10,
            "transformer": 5,
            "vision": 6,
        }

    @pytest.mark.parametrize("name", NAMES)
    def test_ask_for_nothing_that_a_workload_may_lack(self, name: str) -> None:
        own = {"batch_size", "batch_reference", "label_smoothing"}
        for arm in SPACES[name]:
            names = {d.name.removeprefix("training.") for d in arm.all_dimensions}
            names |= {key.removeprefix("training.") for key in arm.fixed}
            assert not {key for key in names if key in own or ":" in key}
            for setting in arm.published:
                assert all(setting.training[key] == complete({})[key] for key in own)


class TestSingleSpaces:
    def test_the_default_space_is_as_it_was(self) -> None:
        sgdm, adamw = SPACES["sgdm-vs-adam"].arms
        log = dict.fromkeys(("log",), True)
        schedule = [
            Dimension(KIND, choices={"cosine": 1, "wsd": 1, "linear": 25, "step": 25, "constant": 25}),
            Dimension("schedule.warmup", 0.005, 0.1, **log, or_zero=True, opens_at=25),
            Dimension("schedule.end_ratio", 0.001, 0.1, **log, or_zero=True, opens_at=60),
            Dimension("schedule.decay_fraction", 0.1, 0.5, opens_at=60),
            Dimension("schedule.drops", 1, 4, integer=True, opens_at=60),
            Dimension("schedule.gamma", 0.02, 0.5, **log, opens_at=60),
        ]
        first = [
            Dimension(EFFECTIVE, 0.01, 100, **log),
            Dimension("one_minus_momentum", 0.005, 0.5, **log, opens_at=10),
            Dimension("l2", 1e-7, 1e-2, **log, or_zero=True, opens_at=10),
        ]
        second = [
            Dimension("learning_rate", 1e-5, 3e-2, **log),
            Dimension("one_minus_beta1", 0.004, 0.5, **log, opens_at=10),
            Dimension("weight_decay", 1e-4, 1.0, **log, or_zero=True, opens_at=10),
            Dimension("eps", 1e-10, 1e-3, **log, opens_at=25),
            Dimension("one_minus_beta2", 1e-4, 0.4, **log, opens_at=60),
        ]
        for arm, own in ((sgdm, first), (adamw, second)):
            found = [replace(d, least=-math.inf, most=math.inf) for d in arm.all_dimensions]
            assert found == own + schedule
            assert not arm.published

    @pytest.mark.parametrize(
        ("trials", "adam", "nag"),
        [
            (9, [], []),
            (10, ["one_minus_beta1"], ["one_minus_momentum"]),
            (24, ["one_minus_beta1"], ["one_minus_momentum"]),
            (25, ["one_minus_beta1", "eps"], ["one_minus_momentum"]),
            (59, ["one_minus_beta1", "eps"], ["one_minus_momentum"]),
            (60, ["one_minus_beta1", "eps", "one_minus_beta2"], ["one_minus_momentum"]),
        ],
    )
    def test_the_playbooks_tiers(self, trials: int, adam: list[str], nag: list[str]) -> None:
        first, *others = arms_at("tuning-playbook", trials)
        assert [d.name for d in first.dimensions if "." not in d.name] == [EFFECTIVE, *nag]
        for arm in others:
            assert [d.name for d in arm.dimensions if "." not in d.name] == ["learning_rate", *adam]
        for arm in (first, *others):
            kinds = arm.dimension(KIND)
            assert (list(kinds.choices) if kinds else []) == (["linear", "cosine"] if trials >= 10 else [])
            assert (arm.dimension("schedule.warmup") is not None) == (trials >= 60)

    def test_algoperfs_five_settings(self) -> None:
        arm = SPACES["algoperf-nadamw"].arm("nadamw")
        assert arm.family.name == "nadam"
        assert [s.hyperparameters["learning_rate"] for s in arm.published] == pytest.approx(
            [0.001308, 0.0008445, 0.001308, 0.004958, 0.001749], rel=1e-3
        )
        assert [s.schedule["warmup"] for s in arm.published] == [0.1, 0.05, 0.1, 0.02, 0.02]
        assert len(arm.initial_settings) == 5, "two of the five differ in label smoothing only"
        for setting in (*arm.published, arm.decode(sobol_point(arm, 0, 0))):
            assert setting.hyperparameters["momentum_decay"] == 1.0
            assert setting.hyperparameters["l2"] == 0.0
        assert arm.decode(sobol_point(arm, 0, 0)).schedule == Schedule.of({"kind": "cosine", "warmup": 0.05}).setting

    def test_a_gans_beta1_goes_down_to_zero(self) -> None:
        for arm in arms_at("gan", 5):
            assert arm.family.momentum is not None
            highest = arm.decode({d.name: d.high for d in arm.dimensions})
            assert highest.hyperparameters[arm.family.momentum] == 0.0
            assert (highest.schedule["kind"], highest.training["average"]) == ("constant", "ema")

    def test_schedule_free_takes_a_warm_up_only(self) -> None:
        arm = SPACES["modern"].arm("schedule-free-adamw")
        names = {d.name for d in arm.all_dimensions if d.name.startswith(SCHEDULE)}
        assert names == {"schedule.warmup"}
        assert arm.fixed[KIND] == "constant"
        small = replace(arm, trials=5)
        assert (
            small.decode(sobol_point(small, 0, 0)).schedule == Schedule.of({"kind": "constant", "warmup": 0.05}).setting
        )

    def test_fine_tuning_searches_the_layer_wise_decay(self) -> None:
        for arm in arms_at("finetune", 12):
            found = arm.dimension("training.layer_decay")
            assert found is not None
            assert (found.low, found.high) == (0.5, 1.0)
            assert arm.default.training["layer_decay"] == 1.0
            assert arm.default.training["clip_norm"] == 1.0


class TestTheDocumentation:
    TEXT = (Path(__file__).parents[3] / "docs" / "study-file.md").read_text(encoding="utf-8")

    def test_lists_every_space(self) -> None:
        table = self.TEXT.split("## Spaces")[1].split("## Training options")[0]
        assert sorted(re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.M)) == NAMES

    def test_names_every_training_option(self) -> None:
        section = self.TEXT.split("## Training options")[1]
        assert all(f"`{name}`" in section for name in complete({}))

    def test_its_examples_can_be_read(self) -> None:
        space, start, training = re.findall(r"```yaml\n(.*?)```", self.TEXT, re.S)
        arm = read_space(parse_yaml(space, "study-file.md")).arm("adamw")
        assert arm.encode(arm.published[0]) is not None
        spec = read_study(parse_yaml(f"study: mine\nworkload: a.b:C\n{start}", "study-file.md"))
        assert (spec.known_recipes, spec.warm_start) == (("resnet-50", "convnext-t"), ("last-month",))
        searched = read_training(parse_yaml(training, "study-file.md").section("training")).part.dimensions
        assert [d.name for d in searched] == ["training.layer_decay", "training.multiplier:head.*"]
