"""Spaces as YAML: ``extends``, published ranges and settings, training options, and errors with their place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tuner.catalog.families import FAMILIES, family
from tuner.catalog.schedules import Schedule
from tuner.catalog.training_options import complete
from tuner.config.documents import Section, parse_yaml, read_yaml
from tuner.config.parts import Part, read_training
from tuner.config.shipped import find_space, list_spaces
from tuner.config.space import EFFECTIVE, KIND, ONE_MINUS, SCHEDULE, ArmSpace, Dimension, SearchSpace
from tuner.config.space_files import read_space, read_written
from tuner.config.spec import Metric, StudyFile
from tuner.config.stored import stored_spec
from tuner.config.study_file import completed, read_study, read_study_file
from tuner.config.written import published, with_current
from tuner.core.errors import InputError, SpaceError
from tuner.core.records import Horizon, Source
from tuner.core.values import Scalar

RATE = "{low: 1e-4, high: 1e-1, scale: log}"


def read(text: str, study: Part | None = None, workload: Mapping[str, Scalar] | None = None) -> SearchSpace:
    return read_written(parse_yaml(text, "s.yaml")).searched(None, study or Part(), workload or {})


def one_arm(lines: str, shared: str = "", **more: Any) -> ArmSpace:
    return read(f"name: s\n{shared}\narms:\n  adamw: {lines}\n", **more).arm("adamw")


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


BELOW = """\
name: below
about: the parent
schedule:
  kind: {choices: [cosine, wsd]}
  warmup: {low: 0.01, high: 0.1}
training:
  clip_norm: 1.0
  multipliers: {"head.*": 10}
arms:
  sgdm:
    effective_learning_rate: {low: 0.01, high: 100, scale: log}
    l2: {low: 1e-7, high: 1e-2, scale: log, or_zero: true}
    initial_settings: [{learning_rate: 0.1, source: a paper}]
  adamw:
"""


class TestExtends:
    def above(self, folder: Path, text: str) -> SearchSpace:
        write(folder, below=BELOW, above=text)
        return read_space(read_yaml(folder / "above.yaml"), near=folder)

    def test_sections_merge_and_dimensions_are_replaced_whole(self, tmp_path: Path) -> None:
        space = self.above(
            tmp_path,
            "name: above\nextends: below.yaml\n"
            "schedule: {warmup: {low: 0.2, high: 0.3, opens_at: 25}, end_ratio: 0.1}\n"
            "training: {clip_norm: {low: 0.1, high: 10, scale: log}, multipliers: {'stem.*': 0.1}}\n"
            "arms:\n  sgdm: {l2: {low: 1e-6, high: 1e-3}}\n  lion:\n",
        )
        assert (space.name, space.about) == ("above", "the parent")
        assert [arm.arm for arm in space] == ["sgdm", "adamw", "lion"]
        sgdm = space.arm("sgdm")
        found = {d.name: d for d in sgdm.all_dimensions}
        assert found["l2"] == Dimension("l2", 1e-6, 1e-3, least=0.0, most=10.0), "neither log nor or_zero is left"
        assert (found[EFFECTIVE].low, found[EFFECTIVE].high) == (0.01, 100)
        assert (found["schedule.warmup"].low, found["schedule.warmup"].opens_at) == (0.2, 25)
        assert list(found[KIND].choices) == ["cosine", "wsd"]
        assert found["training.clip_norm"].log
        fixed = {"schedule.end_ratio": 0.1, "training.multiplier:head.*": 10.0, "training.multiplier:stem.*": 0.1}
        assert sgdm.fixed == fixed
        assert len(sgdm.published) == 1

    def test_a_value_fixes_what_was_searched_and_the_other_way_round(self, tmp_path: Path) -> None:
        space = self.above(
            tmp_path,
            f"name: a\nextends: below.yaml\nschedule: {{kind: step}}\narms: {{adamw: {{learning_rate: {RATE}}}}}\n",
        )
        for arm in space:
            assert arm.dimension(KIND) is None
            assert arm.fixed[KIND] == "step"
        assert [d.name for d in space.arm("adamw").all_dimensions] == ["learning_rate", "schedule.warmup"]

    def test_lists_are_replaced(self, tmp_path: Path) -> None:
        space = self.above(tmp_path, "name: a\nextends: below.yaml\narms: {sgdm: {initial_settings: []}}\n")
        assert space.arm("sgdm").published == ()

    def test_chains_and_paths_from_the_files_own_folder(self, tmp_path: Path) -> None:
        (tmp_path / "deep").mkdir()
        write(tmp_path / "deep", below=BELOW, middle="name: m\nextends: below.yaml\ntraining: {clip_norm: 2.0}\n")
        write(tmp_path, above="name: a\nextends: deep/middle.yaml\nschedule: {kind: cosine}\n")
        write(tmp_path, study="study: s\nworkload: m:C\nspace: above.yaml\n")
        space = read_study_file(tmp_path / "study.yaml").space
        assert space.name == "a"
        assert space.arm("sgdm").fixed == {
            KIND: "cosine",
            "training.clip_norm": 2.0,
            "training.multiplier:head.*": 10.0,
        }

    def test_a_shipped_space_by_its_name_and_in_the_study_itself(self) -> None:
        data = {"name": "mine", "extends": "vision", "training": {"freeze": ["stem.*"]}}
        spec = read_study(Section({"study": "s", "workload": "m:C", "space": data, "arms": ["nag"]}, "study.yaml"))
        (arm,) = spec.arms
        assert arm.fixed["training.freeze:stem.*"] == "yes"
        assert [s.training["freeze:stem.*"] for s in arm.published] == ["yes"]

    def test_the_document_is_whole(self, tmp_path: Path) -> None:
        space = self.above(tmp_path, "name: a\nextends: below.yaml\narms: {lion: }\n")
        assert "extends" not in space.document
        (tmp_path / "below.yaml").unlink()
        assert read_space(Section(json.loads(json.dumps(space.document)), "the database")) == space

    @pytest.mark.parametrize("files", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "b"}])
    def test_circles_are_refused(self, tmp_path: Path, files: dict[str, str]) -> None:
        for name, parent in files.items():
            write(tmp_path, **{name: f"name: {name}\nextends: {parent}.yaml\narms: {{sgdm: }}\n"})
        write(tmp_path, study="study: s\nworkload: m:C\nspace: a.yaml\n")
        with pytest.raises(SpaceError, match=r"yaml:2: extends leads back to \w\.yaml; expected a space that does not"):
            read_study_file(tmp_path / "study.yaml")

    def test_a_coordinate_takes_the_place_of_another_of_the_same_thing(self, tmp_path: Path) -> None:
        space = self.above(tmp_path, "name: a\nextends: below.yaml\narms: {sgdm: {learning_rate: {low: 1, high: 2}}}\n")
        names = [d.name for d in space.arm("sgdm").all_dimensions]
        assert "learning_rate" in names
        assert "effective_learning_rate" not in names

    @pytest.mark.parametrize(
        ("above", "says"),
        [
            ("name: a\nextends: nowhere\n", r"above\.yaml:2: extends: space is 'nowhere'; expected one of algoperf-"),
            ("name: a\nextends: [below]\n", r"above\.yaml:2: extends is \['below'\]; expected a text"),
            (
                "name: a\nextends: below.yaml\narms:\n  lion:\n    rate: 1\n",
                r"above\.yaml:5: arms\.lion\.rate is not a hyp",
            ),
            (
                "name: a\nextends: below.yaml\ntraining:\n  clip_norm: {low: 3, high: 1}\n",
                r"above\.yaml:4: training\.clip_norm\.low is 3 but high is 1",
            ),
        ],
    )
    def test_errors_of_the_child_name_the_child(self, tmp_path: Path, above: str, says: str) -> None:
        with pytest.raises(SpaceError, match=says):
            self.above(tmp_path, above)

    def test_errors_of_the_parent_name_the_parent(self, tmp_path: Path) -> None:
        write(tmp_path, below=BELOW.replace("clip_norm: 1.0", "clip: 1.0"), above="name: a\nextends: below.yaml\n")
        with pytest.raises(
            SpaceError, match=r"below\.yaml:7: training\.clip is not a training option; expected one of"
        ):
            read_space(read_yaml(tmp_path / "above.yaml"), near=tmp_path)

    def test_the_parent_has_to_be_whole_itself(self, tmp_path: Path) -> None:
        write(tmp_path, below="name: b\narms: {}\n", above="name: a\nextends: below.yaml\narms: {sgdm: }\n")
        with pytest.raises(SpaceError, match=r"below\.yaml:2: arms is empty"):
            read_space(read_yaml(tmp_path / "above.yaml"), near=tmp_path)


class TestPublishedRanges:
    @pytest.mark.parametrize("name", FAMILIES)
    def test_an_arm_that_lists_nothing_searches_them(self, name: str) -> None:
        arm = read(f"name: s\narms:\n  {name}:\n").arm(name)
        assert arm.all_dimensions == published(family(name)).dimensions
        assert len(arm.all_dimensions) == sum(h.search is not None for h in family(name).hyperparameters)
        assert arm.encode(arm.default) is not None
        arm.check_corners()

    def test_in_the_coordinates_of_the_family(self) -> None:
        sgdm = published(family("sgdm")).dimensions
        assert [(d.name, d.low, d.high, d.opens_at) for d in sgdm] == [
            (EFFECTIVE, 0.01, 100.0, 1),
            ("one_minus_momentum", 0.005, 0.5, 10),
            ("l2", 1e-7, 1e-2, 10),
        ]
        assert sgdm[2].or_zero
        assert (sgdm[1].least, sgdm[1].most) == (pytest.approx(1e-5), 1.0), "what a wider range may reach"

    @pytest.mark.parametrize("fixed", ["beta1: 0.95", "one_minus_beta1: 0.05"])
    def test_what_is_fixed_is_left_out(self, fixed: str) -> None:
        arm = one_arm(f"{{{fixed}}}")
        assert [d.name for d in arm.all_dimensions] == ["learning_rate", "weight_decay", "eps", "one_minus_beta2"]
        point = {d.name: d.at(0.5) for d in arm.dimensions}
        assert arm.decode(point).hyperparameters["beta1"] == pytest.approx(0.95)

    def test_known_settings_alone_leave_them(self) -> None:
        arm = one_arm("{initial_settings: [{learning_rate: 1e-3, weight_decay: 0.1, source: x}]}")
        assert arm.all_dimensions == published(family("adamw")).dimensions

    def test_one_dimension_of_ones_own_replaces_all(self) -> None:
        assert [d.name for d in one_arm(f"{{learning_rate: {RATE}}}").all_dimensions] == ["learning_rate"]

    def test_whole_hyperparameters_are_searched_whole(self) -> None:
        arm = read(
            f"name: s\narms: {{lookahead-sgdm: {{learning_rate: {RATE}, lookahead_k: {{low: 2, high: 9}}}}}}"
        ).arms[0]
        k = arm.dimension("lookahead_k")
        assert k is not None
        assert k.integer
        assert arm.decode({"learning_rate": 0.1, "lookahead_k": 7}).hyperparameters["lookahead_k"] == 7.0

    def test_lookahead_over_what_no_row_has(self) -> None:
        arm = read("name: s\narms: {lookahead-lion: }").arms[0]
        assert arm.family.name == "lookahead-lion"
        assert arm.dimension("lookahead_alpha") is not None


class TestSchedules:
    def test_the_schedule_free_keep_their_warm_up(self) -> None:
        shared = "schedule: {kind: {choices: [cosine, wsd]}, warmup: {low: 0.1, high: 0.2}, warmup_shape: cosine}"
        arm = read(f"name: s\n{shared}\narms: {{schedule-free-sgd: , sgdm: }}").arms[0]
        assert [d.name for d in arm.all_dimensions if d.name.startswith(SCHEDULE)] == ["schedule.warmup"]
        assert arm.fixed == {KIND: "constant", "schedule.warmup_shape": "cosine"}

    def test_the_schedule_free_are_offered_no_other(self) -> None:
        with pytest.raises(SpaceError, match=r"s\.yaml:4: arms\.schedule-free-sgd offers the schedule 'cosine' to sch"):
            read("name: s\narms:\n  sgdm:\n  schedule-free-sgd:\n    schedule: {kind: {choices: [constant, cosine]}}\n")

    def test_words_may_be_searched(self) -> None:
        arm = one_arm(
            f"{{learning_rate: {RATE}}}", "schedule: {kind: plateau, warmup_shape: {choices: [linear, cosine]}}"
        )
        shapes = arm.dimension("schedule.warmup_shape")
        assert shapes is not None
        setting = arm.decode({"learning_rate": 0.01, "schedule.warmup_shape": "cosine"})
        assert (setting.schedule["warmup_shape"], setting.schedule["signal"]) == ("cosine", "train_loss")
        assert arm.encode(setting) == {"learning_rate": pytest.approx(0.01), "schedule.warmup_shape": "cosine"}

    def test_numbers_may_be_choices(self) -> None:
        arm = one_arm(f"{{learning_rate: {RATE}}}", "schedule: {kind: wsd, end_ratio: {choices: {0.001: 1, 0.01: 25}}}")
        found = arm.dimension("schedule.end_ratio")
        assert found is not None
        assert dict(found.choices) == {0.001: 1, 0.01: 25}
        small = replace(arm, trials=5)
        assert small.decode({"learning_rate": 0.01}).schedule["end_ratio"] == 0.001


def training_of(text: str) -> Part:
    return read_training(parse_yaml(text, "s.yaml")).part


class TestRecipes:
    def test_fixed(self) -> None:
        text = "clip_norm: 1\nbatch_size: 64\nprecision: bfloat16\nno_decay: bias+norm+embedding\nlayer_decay: 0.8"
        assert training_of(text).fixed == {
            "training.clip_norm": 1.0,
            "training.batch_size": 64,
            "training.precision": "bfloat16",
            "training.no_decay": "bias+norm+embedding",
            "training.layer_decay": 0.8,
        }

    def test_searched(self) -> None:
        part = training_of(
            "clip_norm: {low: 0.1, high: 10, scale: log, or_zero: true, opens_at: 25}\n"
            "accumulation: {low: 1, high: 8}\n"
            "one_minus_ema_decay: {low: 1e-4, high: 0.1, scale: log}\n"
            "batch_size: {choices: [32, 64]}\n"
            "layer_decay: {choices: {0.8: 1, 0.9: 25}, opens_at: 10}\n"
            "average: {choices: {none: 1, ema: 60}}\n"
        )
        assert part.dimensions == (
            Dimension("training.clip_norm", 0.1, 10, True, or_zero=True, opens_at=25, least=0.0, most=1e6),
            Dimension("training.accumulation", 1, 8, integer=True, least=1, most=4096),
            Dimension("training.one_minus_ema_decay", 1e-4, 0.1, True, least=1 - 0.9999999, most=1.0),
            Dimension("training.batch_size", choices={32: 1, 64: 1}),
            Dimension("training.layer_decay", choices={0.8: 1, 0.9: 25}, opens_at=10),
            Dimension("training.average", choices={"none": 1, "ema": 60}),
        )

    @pytest.mark.parametrize(
        ("text", "fixed"),
        [
            ('multipliers: {"backbone.*": 0.1}', {"training.multiplier:backbone.*": 0.1}),
            ('freeze: ["stem.*", "0.*"]', {"training.freeze:stem.*": "yes", "training.freeze:0.*": "yes"}),
            ('freeze: {"stem.*": yes}', {"training.freeze:stem.*": "yes"}),
            ('freeze: {"stem.*": "no"}', {"training.freeze:stem.*": "no"}),
            ('no_decay_patterns: ["*.scale"]', {"training.no_decay:*.scale": "yes"}),
        ],
    )
    def test_patterns_that_are_fixed(self, text: str, fixed: dict[str, Scalar]) -> None:
        assert training_of(text) == Part(fixed=fixed)

    @pytest.mark.parametrize(
        ("text", "dimension"),
        [
            (
                'multipliers: {"a.*": {low: 0.01, high: 1, scale: log}}',
                Dimension("training.multiplier:a.*", 0.01, 1, True, least=1e-6, most=1e6),
            ),
            (
                'multipliers: {"a.*": {choices: [0.1, 1]}}',
                Dimension("training.multiplier:a.*", choices={0.1: 1, 1.0: 1}),
            ),
            ('freeze: {"a.*": {choices: [no, yes]}}', Dimension("training.freeze:a.*", choices={"no": 1, "yes": 1})),
            (
                'freeze: {"a.*": {choices: {no: 1, yes: 25}}}',
                Dimension("training.freeze:a.*", choices={"no": 1, "yes": 25}),
            ),
        ],
    )
    def test_patterns_that_are_searched(self, text: str, dimension: Dimension) -> None:
        assert training_of(text) == Part((dimension,))

    def test_patterns_reach_the_setting(self) -> None:
        shared = (
            'training: {multipliers: {"a.*": {low: 0.01, high: 1, scale: log}}, freeze: {"b.*": {choices: [no, yes]}}}'
        )
        arm = one_arm(f"{{learning_rate: {RATE}}}", shared)
        point: dict[str, Scalar] = {
            "learning_rate": 0.01,
            "training.multiplier:a.*": 0.1,
            "training.freeze:b.*": "yes",
        }
        setting = arm.decode(point)
        assert setting.training == complete({"multiplier:a.*": 0.1, "freeze:b.*": "yes"})
        assert arm.encode(setting) == pytest.approx(point)

    def test_the_study_counts_most_then_the_arm_then_the_space_then_the_workload(self) -> None:
        order = ["clip_norm", "clip_value", "accumulation", "batch_size"]
        workload: dict[str, Scalar] = dict.fromkeys(order, 1)
        study = training_of("batch_size: 4")
        arm = one_arm(
            "{training: {accumulation: 3, batch_size: 3}}",
            "training: {clip_value: 2, accumulation: 2, batch_size: 2}",
            workload=workload,
            study=study,
        )
        assert [arm.default.training[key] for key in order] == [1.0, 2.0, 3, 4]

    @pytest.mark.parametrize("above", ["ema_decay: 0.9", "one_minus_ema_decay: {low: 0.01, high: 0.1}"])
    def test_another_way_to_say_the_same_item_replaces_it(self, above: str) -> None:
        shared = "training: {one_minus_ema_decay: {low: 1e-4, high: 0.1, scale: log}}"
        arm = one_arm(f"{{training: {{{above}}}}}", shared)
        named = [key for key in (*arm.fixed, *(d.name for d in arm.all_dimensions)) if "ema_decay" in key]
        assert len(named) == 1

    def test_of_the_study_file(self) -> None:
        spec = self.study(
            {"training": {"clip_norm": {"low": 0.1, "high": 1}, "average": "ema"}, "space": "transformer"}
        )
        for arm in spec.arms:
            assert arm.dimension("training.clip_norm") is not None, "searched, though the space fixes it"
            assert arm.fixed["training.average"] == "ema"

    def test_precision_may_still_stand_where_it_stood(self) -> None:
        old = self.study({"resources": {"precision": "bfloat16"}})
        new = self.study({"training": {"precision": "bfloat16"}})
        for spec in (old, new):
            assert {arm.default.training["precision"] for arm in spec.arms} == {"bfloat16"}
        again = stored_spec(completed(old, Metric("loss", "minimize"), Horizon(3, "epochs")).to_json(), "s")
        assert {arm.default.training["precision"] for arm in again.arms} == {"bfloat16"}
        with pytest.raises(InputError, match=r"training.precision stands in resources, too; expected one of the two"):
            self.study({"resources": {"precision": "bfloat16"}, "training": {"precision": "float32"}})

    def test_a_dimension_leaves_what_the_workload_takes_for_granted_where_it_is_closed(self) -> None:
        training = {"clip_norm": {"low": 0.5, "high": 5, "opens_at": 25}, "batch_size": {"choices": [16, 64, 128]}}
        own = {"clip_norm": 2.0, "batch_size": 64, "batch_reference": 64}
        for trials, searched in ((12, False), (30, True)):
            spec = self.study({"training": training, "workload_training": own, "budget": {"trials_per_arm": trials}})
            for arm in spec.arms:
                assert (arm.dimension("training.clip_norm") is not None) == searched
                assert arm.default.training["clip_norm"] == 2.0
                assert arm.default.training["batch_size"] == 64
                if not searched:
                    assert arm.decode({d.name: d.at(0.9) for d in arm.dimensions}).training["clip_norm"] == 2.0

    def test_the_studys_options_count_more_than_an_initial_settings(self) -> None:
        spec = self.study({"space": "modern", "training": {"clip_norm": 5.0}})
        assert {setting.training["clip_norm"] for arm in spec.arms for setting in arm.initial_settings} == {5.0}

    def test_families_that_average_by_themselves_are_offered_no_average(self) -> None:
        space = {"name": "s", "training": {"average": "ema"}, "arms": {"schedule-free-adamw": None, "adamw": None}}
        spec = self.study({"space": space, "training": {"average": {"choices": ["ema", "swa"]}}})
        free, adamw = spec.arms
        assert free.default.training["average"] == "none"
        assert free.dimension("training.average") is None
        assert adamw.dimension("training.average") is not None

    def test_one_rate_for_all_cannot_differ_by_layer(self) -> None:
        for training in ({"layer_decay": {"low": 0.5, "high": 1}}, {"multipliers": {"head.*": 2}}):
            with pytest.raises(InputError, match=r"arms.prodigy has training.* which finds one learning rate for all"):
                self.study({"space": {"name": "s", "arms": {"prodigy": None}}, "training": training})

    def test_whole_numbers_are_searched_on_a_log_axis(self) -> None:
        spec = self.study({"training": {"batch_size": {"low": 16, "high": 1024, "scale": "log"}}})
        size = spec.arms[0].dimension("training.batch_size")
        assert size is not None
        assert [size.at(u) for u in (0.0, 0.5, 1 - 1e-12)] == [16, 128, 1024]
        with pytest.raises(InputError, match=r"or_zero is true for whole numbers"):
            self.study({"training": {"batch_size": {"low": 16, "high": 64, "scale": "log", "or_zero": True}}})

    def study(self, more: dict[str, Any]) -> StudyFile:
        return read_study(Section({"study": "s", "workload": "m:C", **more}, "study.yaml"))


class TestInitialSettings:
    def test_are_whole(self) -> None:
        shared = "schedule: {kind: {choices: [linear, cosine]}}\ntraining: {clip_norm: 1.0, average: ema}"
        entry = "{learning_rate: 1e-3, schedule: {kind: linear}, training: {clip_norm: 0.5}, source: a paper}"
        lines = f"{{initial_settings: [{entry}]}}"
        arm = one_arm(lines, shared)
        (setting,) = arm.published
        assert setting.hyperparameters == family("adamw").complete({"learning_rate": 1e-3})
        assert setting.schedule == Schedule.of({"kind": "linear"}).setting
        assert setting.training == complete({"clip_norm": 0.5, "average": "ema"})
        assert arm.initial_settings == (arm.default, setting)
        assert [arm.source_of(one) for one in arm.initial_settings] == [Source.DEFAULT, Source.PUBLISHED]

    def test_follow_the_options_that_the_study_searches(self) -> None:
        lines = "{initial_settings: [{learning_rate: 1e-3, weight_decay: 0.1, source: a paper}]}"
        arm = one_arm(lines, study=training_of("batch_size: {choices: [32, 64]}"))
        (setting,) = arm.published
        assert setting.training["batch_size"] == 64
        assert arm.encode(setting) is not None

    def test_twins_and_the_default_are_tried_once(self) -> None:
        arm = one_arm(
            "{initial_settings: [{source: a}, {weight_decay: 0.1, source: b}, {weight_decay: 0.1, source: c}]}"
        )
        assert len(arm.published) == 3
        assert len(arm.initial_settings) == 2

    def test_come_after_the_users_own(self) -> None:
        space = read("name: s\narms: {adamw: {initial_settings: [{weight_decay: 0.1, source: a}]}, sgdm: }")
        mine = replace(space.arm("adamw").default, hyperparameters=family("adamw").complete({"weight_decay": 0.5}))
        arm = with_current(space, mine).arm("adamw")
        assert [arm.source_of(one) for one in arm.initial_settings] == [
            Source.DEFAULT,
            Source.CURRENT,
            Source.PUBLISHED,
        ]
        assert with_current(space, mine).arm("sgdm") == space.arm("sgdm")

    def test_outside_of_what_the_budget_opens_are_left_out(self) -> None:
        shared = "schedule: {kind: {choices: {cosine: 1, wsd: 1, step: 25}}}"
        arm = one_arm("{initial_settings: [{schedule: {kind: step}, source: a}]}", shared)
        assert replace(arm, trials=24).encode(arm.published[0]) is None
        assert replace(arm, trials=25).encode(arm.published[0]) is not None


ARM = "name: s\narms:\n  sgdm:\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("arms: {sgdm: }", r"s\.yaml:1: name is missing"),
        ("name: s\nschedules: {}\narms: {sgdm: }", r"s\.yaml:2: schedules is not a key here.*Did you mean 'schedule'"),
        (
            "name: s\narms: {sgmd: }",
            r"s\.yaml:2: arms\.sgmd is not an optimizer family; expected one of sgd, .*lookahead-",
        ),
        ("name: s\narms: {current: }", r"s\.yaml:2: arms\.current cannot name an arm"),
        (ARM + "    family: sgm", r"s\.yaml:4: arms\.sgdm\.family is 'sgm'; expected one of sgd"),
        (
            "name: s\narms: {lookahead-schedule-free-sgd: }",
            r"arms\.lookahead-schedule-free-sgd is not an optimizer fam",
        ),
        (ARM + "    rate: 1", r"s\.yaml:4: arms\.sgdm\.rate is not a hyperparameter of sgdm; .*one_minus_momentum"),
        (
            ARM + "    learning_rate: 2e4",
            r"s\.yaml:4: arms\.sgdm\.learning_rate is 20000\.0; expected a number from 0 to",
        ),
        (ARM + "    l2: {low: 1, high: 0}", r"s\.yaml:4: arms\.sgdm\.l2\.low is 1 but high is 0"),
        (ARM + "    l2: {low: 0, high: 1, scale: log}", r"arms\.sgdm\.l2\.low is 0 on a log scale"),
        (ARM + "    l2: {low: 0, high: 1, or_zero: true}", r"arms\.sgdm\.l2\.or_zero is true on a linear scale"),
        (ARM + "    l2: {low: 0, high: 1, step: 2}", r"arms\.sgdm\.l2\.step is not a key here"),
        (ARM + "    l2: {choices: [1, a]}", r"arms\.sgdm\.l2\.choices names 'a'; expected numbers from 0 to 10"),
        (ARM + "    l2: {choices: [11]}", r"arms\.sgdm\.l2\.choices names '11'; expected numbers from 0 to 10"),
        (ARM + "    l2: {choices: {0: 0}}", r"arms\.sgdm\.l2\.choices\.0 is 0; expected a whole number of at least 1"),
        (
            ARM + "    dampening: 0\n    learning_rate: 0.1\n    momentum: 0.9\n    l2: 0",
            r"arms\.sgdm searches nothing",
        ),
        (
            ARM + "    schedule: {kind: cos}",
            r"s\.yaml:4: arms\.sgdm\.schedule\.kind is 'cos'; expected one of constant",
        ),
        (
            ARM + "    schedule: {kind: {choices: [cosine, cos]}}",
            r"schedule\.kind\.choices names 'cos'; expected schedules",
        ),
        (ARM + "    schedule: {kind: {choices: []}}", r"schedule\.kind\.choices is empty; expected some of constant"),
        (ARM + "    schedule: {endratio: 0}", r"arms\.sgdm\.schedule\.endratio is not a parameter of a schedule"),
        (
            ARM + "    schedule: {warmup: 0.9}",
            r"arms\.sgdm\.schedule\.warmup is 0\.9; expected a number from 0 to 0\.5",
        ),
        (
            ARM + "    schedule: {warmup_shape: sine}",
            r"schedule\.warmup_shape is 'sine'; expected one of linear, cosine",
        ),
        (
            ARM + "    training: {clip: 1}",
            r"s\.yaml:4: arms\.sgdm\.training\.clip is not a training option.*multipliers",
        ),
        (ARM + "    training: {accumulation: 1.5}", r"training\.accumulation is 1\.5; expected a whole number"),
        (
            ARM + "    training: {precision: half}",
            r"training\.precision is 'half'; expected one of float32, bfloat16, float16",
        ),
        (
            ARM + "    training: {average: {choices: [none, mean]}}",
            r"training\.average\.choices names 'mean'; expected words",
        ),
        (ARM + "    training: {freeze: 'stem.*'}", r"training\.freeze is 'stem\.\*'; expected a mapping"),
        (
            ARM + "    training: {freeze: {'stem.*': maybe}}",
            r"training\.freeze\.stem\.\* is 'maybe'; expected yes or no",
        ),
        (
            ARM + "    training: {multipliers: ['stem.*']}",
            r"training\.multipliers is \['stem\.\*'\]; expected a mapping",
        ),
        (
            ARM + "    training: {multipliers: {'stem.*': 0}}",
            r"training\.multipliers\.stem\.\* is 0; expected a number from",
        ),
        (
            ARM + "    initial_settings: {source: a}",
            r"s\.yaml:4: arms\.sgdm\.initial_settings is .*; expected a list of settings",
        ),
        (ARM + "    initial_settings: [{l2: 1}]", r"s\.yaml:4: arms\.sgdm\.initial_settings\.0\.source is missing"),
        (
            ARM + "    initial_settings:\n      - {source: a}\n      - {lr: 1, source: a}",
            r"s\.yaml:6: arms\.sgdm\.initial_settings\.1\.lr: optimizer",
        ),
        (
            ARM + "    initial_settings: [{momentum: 1, source: a}]",
            r"initial_settings\.0\.momentum: momentum of sgdm is 1; expected 0 to 0\.99999",
        ),
        (
            ARM + "    initial_settings: [{source: a, schedule: {kind: cosine, power: 2}}]",
            r"initial_settings\.0\.schedule: schedule 'cosine' has no",
        ),
        (
            ARM + "    initial_settings: [{source: a, training: {clip_norm: -1}}]",
            r"initial_settings\.0\.training\.clip_norm is -1; expected a number",
        ),
        (ARM + "    initial_settings: [{source: a, family: adam}]", r"initial_settings\.0\.family is not a key here"),
        ("name: s\narms: {muon: {effective_learning_rate: {low: 1, high: 2}}}", r"is not a hyperparameter of muon"),
        (
            "name: s\narms: {adafactor: {one_minus_beta2_decay: {low: 1, high: 2}}}",
            r"is not a hyperparameter of adafactor",
        ),
        ("name: s\narms: {lookahead-sgdm: {lookahead_k: 2.5}}", r"lookahead_k is 2\.5; expected a whole number"),
    ],
)
def test_wrong_spaces(text: str, says: str) -> None:
    with pytest.raises(SpaceError, match=says):
        read(text)


@pytest.mark.parametrize(
    ("training", "says"),
    [
        ({"clip": 1}, r"study\.yaml: training\.clip is not a training option"),
        ({"clip_norm": {"low": 2, "high": 1}}, r"study\.yaml: training\.clip_norm\.low is 2 but high is 1"),
    ],
)
def test_wrong_training_options_of_a_study(training: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_study(Section({"study": "s", "workload": "m:C", "training": training}, "study.yaml"))


def test_finding() -> None:
    assert find_space("vision") == list_spaces()["vision"]
    with pytest.raises(
        InputError, match=r"space is 'visoin'; expected one of algoperf-nadamw, .*, or the path of a YAML"
    ):
        find_space("visoin")


def test_one_minus_is_a_decay_rates_axis() -> None:
    arm = one_arm(f"{{learning_rate: {RATE}, {ONE_MINUS}beta2: {{low: 1e-4, high: 0.4, scale: log}}}}")
    assert arm.decode({"learning_rate": 0.01, "one_minus_beta2": 0.05}).hyperparameters["beta2"] == 0.95
