"""YAML with places: every error can say where."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tuner.config.documents import MISSING, Section, parse_yaml, read_yaml
from tuner.core.errors import InputError, SpaceError

TEXT = """\
# a comment
study: toy

budget:
  trials_per_arm: 3   # so few
  hours: 1e-1
arms:
  - sgdm
  - adamw
space: {name: s, arms: {sgdm: {l2: {low: 1,
  high: 2}}}}
"""


def section(text: str = TEXT) -> Section:
    return parse_yaml(text, "s.yaml")


class TestPlaces:
    @pytest.mark.parametrize(
        ("path", "line"),
        [
            (["study"], 2),
            (["budget"], 4),
            (["budget", "trials_per_arm"], 5),
            (["budget", "hours"], 6),
            (["arms"], 7),
            (["space", "arms", "sgdm", "l2", "low"], 10),
            (["space", "arms", "sgdm", "l2", "high"], 11),
        ],
    )
    def test_lines(self, path: list[str], line: int) -> None:
        inner = section()
        for key in path[:-1]:
            inner = inner.section(key)
        assert str(inner.place(path[-1])) == f"s.yaml:{line}: {'.'.join(path)}"

    def test_an_absent_key_has_the_line_of_its_section(self) -> None:
        assert str(section().section("budget").place("gpu_hours")) == "s.yaml:4: budget.gpu_hours"

    def test_without_a_file_there_is_no_line(self) -> None:
        inner = Section({"budget": {"hours": "x"}}, "launch()").section("budget")
        with pytest.raises(InputError, match=r"^launch\(\): budget.hours is 'x'; expected a number\.$"):
            inner.number("hours")


class TestValues:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("1e-3", 1e-3),
            ("1E5", 1e5),
            ("-2.e+2", -200.0),
            (".5e1", 5.0),
            ("1.5", 1.5),
            ("12", 12),
            ("yes", True),
            ("null", None),
            ("'1e-3'", "1e-3"),
            ("1e-3x", "1e-3x"),
            ("2026-01-31", "2026-01-31"),
            ("2026-13-99", "2026-13-99"),
        ],
    )
    def test_scalars(self, text: str, value: object) -> None:
        assert section(f"a: {text}").data["a"] == value

    def test_anchors(self) -> None:
        data = section("a: &x {b: [1, 2]}\nc: *x").data
        assert data["a"] == data["c"] == {"b": [1, 2]}

    @pytest.mark.parametrize("found", [True, "1", [1], math.nan, math.inf, -math.inf, 10**400, {"a": 1}])
    def test_numbers_are_finite_and_no_booleans(self, found: object) -> None:
        with pytest.raises(InputError, match=r"a is .*; expected a number"):
            Section({"a": found}, "s").number("a")

    @pytest.mark.parametrize("found", [True, "1", 1.0, 2.5, math.nan])
    def test_whole_numbers(self, found: object) -> None:
        with pytest.raises(InputError, match="expected a whole number of at least 0"):
            Section({"a": found}, "s").integer("a", low=0)

    @pytest.mark.parametrize(
        ("bounds", "words"),
        [
            ({"low": 1, "high": 2}, "a number from 1 to 2"),
            ({"low": 5}, "a number of at least 5"),
            ({"low": 5, "above": True}, "a number above 5"),
            ({"low": 5, "high": 9, "above": True}, "a number above 5 and up to 9"),
            ({"high": -1}, "a number of at most -1"),
        ],
    )
    def test_bounds_in_words(self, bounds: dict[str, float], words: str) -> None:
        with pytest.raises(InputError, match=f"a is 0.5; expected {words}"):
            Section({"a": 0.5}, "s").number("a", **bounds)  # type: ignore[arg-type]

    def test_absent_is_none_is_the_default(self) -> None:
        s = Section({"a": None}, "s")
        assert "a" not in s
        assert (s.text("a", None), s.number("a", 3), s.integer("b", None), s.texts("a", None)) == (None, 3, None, None)
        assert (s.section("a", {}).data, s.flag("b", True), s.choice("b", ["x"], "x")) == ({}, True, "x")
        with pytest.raises(InputError, match=r"a is missing; expected a value\. Add the key 'a'"):
            s.take("a", MISSING)

    @pytest.mark.parametrize("found", ["sgdm", [], ["a", 1], {"a": 1}, 3])
    def test_lists_of_texts(self, found: object) -> None:
        with pytest.raises(InputError, match="a list of texts"):
            Section({"a": found}, "s").texts("a")


class TestRefusals:
    def test_unknown_keys(self) -> None:
        s = section("study: a\nbuget: 3\n")
        s.take("study")
        s.take("budget", None)
        with pytest.raises(InputError, match=r"^s.yaml:2: buget is not a key here; .* Did you mean 'budget'\?$"):
            s.finish()

    def test_nothing_is_a_key_where_nothing_is_known(self) -> None:
        with pytest.raises(InputError, match="expected no key here"):
            section("a: 1").finish()

    def test_a_guard_puts_the_place_in_front_and_keeps_the_class(self) -> None:
        def fail() -> None:
            raise SpaceError("no good.")

        with pytest.raises(SpaceError, match=r"^s.yaml:4: budget: no good\.$"):
            section().guard("budget", fail)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "s.yaml: is empty"),
            ("[1]", "s.yaml:1: expected a mapping"),
            ("a: 1\nb: 2\na: 3", "s.yaml:3: a stands here again; it was set in line 1"),
            ("a:\n  b: 1\n  b: 2", "s.yaml:3: b stands here again"),
            ("a: [1", "s.yaml:1: is not valid YAML"),
            ("a: 'x", "is not valid YAML"),
            ("a: \x07", "s.yaml: is not valid YAML: .*control characters|special characters"),
            ("a: *nosuch", "undefined alias"),
            ("a: &x {b: *x}", "s.yaml: is nested too deeply, or holds an alias"),
            ("a: " + "[" * 5000, "s.yaml: is nested too deeply"),
            ("a: " + "1" * 5000, "s.yaml:1: '1111.*cannot be read as a value"),
            ("a: !!int x", "s.yaml:1: 'x' cannot be read"),
            ("a: !!binary aGk=", "s.yaml:1: holds binary data"),
            ("a: !!python/name:os.system", "s.yaml:1: is not valid YAML"),
        ],
    )
    def test_documents(self, text: str, says: str) -> None:
        with pytest.raises(InputError, match=says):
            section(text)

    def test_files(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"a.yaml: there is no such file\. Check the path"):
            read_yaml(tmp_path / "a.yaml")
        with pytest.raises(InputError, match="cannot be read as text"):
            read_yaml(tmp_path)
        (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x81")
        with pytest.raises(InputError, match=r"b.yaml: cannot be read as text"):
            read_yaml(tmp_path / "b.yaml")
