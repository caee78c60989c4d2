"""Recorded runs as evidence: finalists, pairs of seeds, and what must not change an answer."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorded_tables import Rows, answer, answers, codes, confirmed, explored, row, studies

from tuner.analysis.analysis import Analysis
from tuner.analysis.evidence import Evidence, Nothing, document
from tuner.core.errors import InputError
from tuner.core.records import Source
from tuner.recorded.csv_reading import read_runs
from tuner.recorded.from_ledger import rows_of
from tuner.recorded.to_records import studies_of

CLEAR = {"a": [0.95, 0.96, 0.94, 0.95, 0.97, 0.96, 0.95, 0.96], "b": [0.90, 0.91, 0.88, 0.9, 0.91, 0.92, 0.9, 0.89]}
KEYS = {
    "": "study metric direction alpha min_effect verdict family_verdict recommended pairs arms caveats",
    "verdict": "kind arm camp seeds_needed",
    "family_verdict": "kind reason",
    "recommended": "arm camp params schedule why",
    "pairs": "a b difference ci_low ci_high p p_holm prob_a_better n_pairs verdict",
    "arms": "arm best_params schedule n_trials n_runs n_diverged mean ci_low ci_high state_bytes_per_param",
    "caveats": "code text",
}


class TestContract:
    @pytest.mark.parametrize(
        "rows", [confirmed(CLEAR), confirmed({"a": [0.9]}), explored({"a": ["", ""]}, outcome="lost")]
    )
    def test_every_key_is_there_and_every_number_is_finite(self, tmp_path: Path, rows: Rows) -> None:
        text = json.dumps(document(answers(tmp_path, rows)), allow_nan=False)
        parsed = json.loads(text)
        assert parsed["schema_version"] == 1
        (study,) = parsed["studies"]
        for part, keys in KEYS.items():
            where = study[part] if part else study
            for item in where if isinstance(where, list) else [where]:
                assert set(keys.split()) <= set(item), part
        assert study["verdict"]["kind"] in ("winner", "tie", "inconclusive")

    def test_studies_in_order_of_name(self, tmp_path: Path) -> None:
        rows = [{**r, "run_id": f"{s}{r['run_id']}", "study": s} for s in ("z", "m") for r in confirmed(CLEAR)]
        rows += explored({"a": ["nan", "nan"]}, study="barren", outcome="diverged")
        answered = answers(tmp_path, rows)
        assert [x.study for x in answered] == ["barren", "m", "z"]
        assert isinstance(answered[0], Nothing)
        assert "2 diverged" in answered[0].reason
        assert answered[0].arms[0].n_diverged == 2

    def test_families_that_are_known_and_that_are_not(self, tmp_path: Path) -> None:
        rows = confirmed({"adamw": CLEAR["a"], "mine": CLEAR["b"]}, schedule="their-own", **{"param.lr": 0.1})
        study = answer(tmp_path, rows).study_json()
        assert study["verdict"]["camp"] == "adam"
        assert study["recommended"]["schedule"] == {"kind": "their-own"}
        assert {arm["arm"]: (arm["camp"], arm["state_bytes_per_param"]) for arm in study["arms"]} == {
            "adamw": ("adam", 8.0),
            "mine": (None, None),
        }
        other = answer(tmp_path, confirmed({"adamw": CLEAR["b"], "mine": CLEAR["a"]})).study_json()
        assert (other["verdict"]["arm"], other["verdict"]["camp"], other["recommended"]["camp"]) == ("mine", None, None)

    def test_one_look_at_alpha(self, tmp_path: Path) -> None:
        evidence = answer(tmp_path, confirmed(CLEAR), alpha=0.1)
        assert [(look.seeds, look.level, look.interim) for look in evidence.looks] == [(8, 0.1, False)]

    def test_one_arm_is_inconclusive_to_programs(self, tmp_path: Path) -> None:
        verdict_json = answer(tmp_path, confirmed({"a": CLEAR["a"]})).study_json()["verdict"]
        assert (verdict_json["kind"], verdict_json["seeds_needed"]) == ("inconclusive", None)
        assert verdict_json["reason"]

    def test_a_tie_recommends(self, tmp_path: Path) -> None:
        near = [v + 0.0002 * (i % 2) - 0.00005 for i, v in enumerate(CLEAR["a"])]
        evidence = answer(tmp_path, confirmed({"sgdm": CLEAR["a"], "adamw": near}), min_effect=0.01)
        assert (evidence.verdict.kind, evidence.arm) == ("tie", "sgdm")
        unknown = answer(tmp_path, confirmed({"x": CLEAR["a"], "y": near}), min_effect=0.01)
        assert (unknown.verdict.kind, unknown.arm) == ("tie", "y")
        assert "cheapest" not in unknown.verdict.sentence


class TestPairs:
    def test_a_diverged_failed_or_pruned_run_loses_its_pair_a_lost_one_is_missing(self, tmp_path: Path) -> None:
        for outcome, pairs in (("diverged", 8), ("failed", 8), ("pruned", 8), ("lost", 7)):
            pair = answer(tmp_path, confirmed({**CLEAR, "a": [*CLEAR["a"][:7], outcome]})).pairs[0]
            assert (pair.n_pairs, pair.prob_a_better) == (pairs, 7 / pairs)

    def test_arms_with_other_seeds(self, tmp_path: Path) -> None:
        evidence = answer(tmp_path, confirmed({**CLEAR, "c": [None, None, *CLEAR["b"][2:]]}))
        assert {(p.a, p.b): p.n_pairs for p in evidence.pairs} == {("a", "b"): 8, ("a", "c"): 6, ("b", "c"): 6}
        assert evidence.verdict.arm == "a"
        assert "unshared_seeds" in codes(evidence)

    def test_no_seed_in_common(self, tmp_path: Path) -> None:
        evidence = answer(tmp_path, confirmed({"a": [0.9, 0.9, None, None], "b": [None, None, 0.1, 0.1]}))
        assert (evidence.verdict.kind, evidence.pairs[0].n_pairs, evidence.pairs[0].difference) == (
            "inconclusive",
            0,
            None,
        )
        assert {"few_seeds", "unshared_seeds"} <= codes(evidence)

    def test_everything_diverged_in_the_confirmation(self, tmp_path: Path) -> None:
        rows = explored({"a": [0.5], "b": [0.4]}) + confirmed(dict.fromkeys("ab", ["diverged"] * 8), **{"param.lr": 1})
        evidence = answer(tmp_path, rows)
        assert evidence.verdict.kind == "inconclusive"
        assert "diverged or failed" in evidence.verdict.reason
        assert (evidence.arm, evidence.why) == ("a", "it leads in the search")
        assert [arm.mean for arm in evidence.arms] == [None, None]

    def test_a_huge_value_leaves_plain_json(self, tmp_path: Path) -> None:
        evidence = answer(tmp_path, confirmed({**CLEAR, "b": [*CLEAR["b"][:7], 1e155]}))
        assert evidence.min_effect is not None
        assert evidence.min_effect < 1.0, "one run far out is not the noise between seeds"
        json.dumps(evidence.to_json(), allow_nan=False)

    @pytest.mark.parametrize("late", [True, False])
    def test_the_retry_of_a_lost_run_counts_wherever_it_stands(self, tmp_path: Path, late: bool) -> None:
        rows = explored({"a": [0.5], "b": [0.4]}) + confirmed(CLEAR, **{"param.lr": 1})
        lost = [{**r, "run_id": r["run_id"] + "-lost", "value": "", "outcome": "lost"} for r in rows[:5]]
        evidence = answer(tmp_path, lost + rows if late else rows + lost)
        plain = answer(tmp_path, rows)
        assert (evidence.verdict, evidence.pairs, evidence.expected) == (plain.verdict, plain.pairs, plain.expected)
        assert sum(arm.n_lost for arm in evidence.arms) == 5


class TestFinalists:
    def test_the_confirmed_setting_and_not_the_best_of_the_search(self, tmp_path: Path) -> None:
        rows = explored({"a": [0.99, 0.5], "b": [0.9, 0.4]}) + confirmed(CLEAR, **{"param.lr": 2})
        evidence = answer(tmp_path, rows)
        assert [arm.best.hyperparameters if arm.best else None for arm in evidence.arms] == [{"lr": 2}] * 2
        assert [arm.best_value for arm in evidence.arms] == [0.5, 0.4]

    def test_of_several_the_one_that_was_best_before(self, tmp_path: Path) -> None:
        other = [row(f"a-o{i}", "a", 100 + i, 0.99, **{"param.lr": 1}) for i in range(9)]
        rows = explored({"a": [0.5, 0.6], "b": [0.4, 0.3]}) + confirmed(CLEAR, **{"param.lr": 2}) + other
        evidence = answer(tmp_path, rows)
        assert evidence.setting.hyperparameters == {"lr": 2}
        assert "several_confirmed" in codes(evidence)

    def test_without_a_search_the_one_with_most_seeds(self, tmp_path: Path) -> None:
        other = [row(f"a-o{i}", "a", 100 + i, 0.99, **{"param.lr": 1}) for i in range(3)]
        evidence = answer(tmp_path, confirmed(CLEAR, **{"param.lr": 2}) + other)
        assert evidence.setting.hyperparameters == {"lr": 2}
        assert "search_not_recorded" in codes(evidence)

    def test_an_arm_that_was_not_confirmed_does_not_take_part(self, tmp_path: Path) -> None:
        evidence = answer(tmp_path, explored({"c": [0.999]}) + confirmed(CLEAR))
        assert evidence.verdict.arm == "a"
        (caveat,) = [c for c in evidence.caveats if c.code == "arm_not_confirmed"]
        assert "No run of c " in caveat.text
        assert [arm.arm for arm in evidence.arms] == ["a", "b", "c"]
        alone = answer(tmp_path, explored({"c": [0.999]}) + confirmed({"a": CLEAR["a"]}))
        assert (alone.arm, alone.why) == ("a", "the only arm that was confirmed")

    def test_nobody_was_confirmed(self, tmp_path: Path) -> None:
        evidence = answer(tmp_path, explored({"a": [0.7, 0.9], "b": [0.8]}))
        assert (evidence.verdict.kind, evidence.arm, evidence.expected.value) == ("inconclusive", "a", 0.9)
        assert {"not_confirmed", "unequal_trials"} <= codes(evidence)

    def test_short_and_pruned_runs_never_stand_for_an_arm(self, tmp_path: Path) -> None:
        rows = explored({"a": [0.5, 0.6]}, horizon=9)
        rows[1]["outcome"] = "pruned"
        rows += [{**r, "run_id": r["run_id"] + "s", "value": 0.9, "horizon": 3} for r in explored({"a": [1, 1, 1]})]
        evidence = answer(tmp_path, rows)
        assert evidence.expected.value == 0.5
        assert (evidence.arms[0].n_trials, evidence.arms[0].n_runs) == (3, 5)

    def test_seeds_of_a_setting_in_the_search_are_averaged(self, tmp_path: Path) -> None:
        more = [row("again", "a", 2, 0.5, "explore", **{"param.lr": 1})]
        evidence = answer(tmp_path, explored({"a": [0.9, 0.8]}) + more)
        assert evidence.setting.hyperparameters == {"lr": 2}

    def test_a_seed_that_the_search_used_is_not_fresh(self, tmp_path: Path) -> None:
        rows = confirmed(CLEAR, **{"param.lr": 1}) + explored({"a": [0.9], "b": [0.8]})
        assert "seeds_not_fresh" not in codes(answer(tmp_path, rows))
        rows[-1]["seed"] = rows[-2]["seed"] = 103
        assert "seeds_not_fresh" in codes(answer(tmp_path, rows))


class TestMinEffect:
    def test_from_replicates_of_the_search_else_from_the_comparison(self, tmp_path: Path) -> None:
        rows = confirmed(CLEAR, **{"param.lr": 1})
        assert answer(tmp_path, rows).min_effect == pytest.approx(0.0112, abs=1e-3)
        rows += [row(f"n{i}", "a", i, 0.9 + 0.1 * i, "explore", **{"param.lr": 1}) for i in (0, 1)]
        assert answer(tmp_path, rows).min_effect == pytest.approx(0.1 / math.sqrt(2))
        assert answer(tmp_path, rows, min_effect=0.3).min_effect == 0.3


class TestRecords:
    def test_how_trials_were_proposed(self, tmp_path: Path) -> None:
        for sampler, source in (
            ("", Source.RECORDED),
            ("random", Source.RANDOM),
            ("sobol", Source.SOBOL),
            ("tpe", Source.MODEL),
        ):
            (study,) = studies(tmp_path, explored({"a": [1, 2]}, sampler=sampler))
            assert {trial.source for trial in study.trials} == {source}

    def test_axes_of_what_was_tried(self, tmp_path: Path) -> None:
        drawn = [(0.001, 0.9, 0, 5, "x"), (0.1, 0.999, 1e-4, 5, "y"), (1.0, 0.99, 1.0, 5, "x")]
        names = ("lr", "beta", "decay", "same", "kind")
        rows = [
            row(f"r{i}", "a", 1, i, "explore", **{f"param.{n}": v for n, v in zip(names, cells, strict=True)})
            for i, cells in enumerate(drawn)
        ]
        (study,) = studies(tmp_path, rows)
        axes = {d.name: (d.log, d.or_zero) for d in study.spec.arms[0].dimensions}
        assert axes == {"one_minus_beta": (True, False), "decay": (True, True), "lr": (True, False)}
        assert all(d.contains(t.coordinates[d.name]) for t in study.trials for d in study.spec.arms[0].dimensions)


ARMS = [("sgdm", "adamw"), ("x", "y"), ("adamw", "mine")]
scores = st.lists(
    st.tuples(*[st.integers(-50, 50).map(lambda v: v / 8) | st.sampled_from(["diverged", "lost"])] * 2),
    min_size=1,
    max_size=9,
)
drawing = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def of(folder: Path, drawn: Any, arms: tuple[str, str]) -> tuple[Rows, Evidence | Nothing]:
    a, b = zip(*drawn, strict=True)
    rows = confirmed({arms[0]: a, arms[1]: b}, **{"param.lr": 1})
    rows += explored({arms[0]: [0.5, 0.1], arms[1]: [0.3, 0.2]})
    return rows, answers(folder, rows)[0]


def verdict(evidence: Evidence | Nothing) -> Any:
    assert isinstance(evidence, Evidence)
    return evidence.verdict


@drawing
@given(drawn=scores, arms=st.sampled_from(ARMS), alpha=st.sampled_from([0.05, 0.5]))
def test_one_seed_never_yields_a_winner(tmp_path: Path, drawn: Any, arms: tuple[str, str], alpha: float) -> None:
    rows, _ = of(tmp_path, drawn[:1], arms)
    assert verdict(answers(tmp_path, rows, alpha=alpha)[0]).kind != "winner"


@drawing
@given(drawn=scores, arms=st.sampled_from(ARMS))
def test_swapped_labels_swap_the_winner(tmp_path: Path, drawn: Any, arms: tuple[str, str]) -> None:
    rows, first = of(tmp_path, drawn, arms)
    swap = {arms[0]: arms[1], arms[1]: arms[0]}
    other = answers(tmp_path, [{**r, "arm": swap[r["arm"]]} for r in rows])[0]
    assert verdict(other).kind == verdict(first).kind
    assert verdict(other).arm == swap.get(verdict(first).arm)
    assert isinstance(first, Evidence)
    assert isinstance(other, Evidence)
    assert other.pairs[0].p == first.pairs[0].p
    if first.pairs[0].difference is not None:
        assert other.pairs[0].difference == pytest.approx(-first.pairs[0].difference)


@drawing
@given(drawn=scores, arms=st.sampled_from(ARMS))
def test_negated_values_and_direction_change_signs_only(tmp_path: Path, drawn: Any, arms: tuple[str, str]) -> None:
    rows, first = of(tmp_path, drawn, arms)
    turned = [{**r, "direction": "minimize", "value": -r["value"] if r["value"] != "" else ""} for r in rows]
    other = answers(tmp_path, turned)[0]
    assert isinstance(first, Evidence)
    assert isinstance(other, Evidence)
    assert (other.verdict.kind, other.verdict.arm, other.arm) == (first.verdict.kind, first.verdict.arm, first.arm)
    assert other.min_effect == first.min_effect
    for a, b in zip(first.pairs, other.pairs, strict=True):
        assert (a.p, a.p_holm, a.prob_a_better, a.n_pairs, a.verdict) == (
            b.p,
            b.p_holm,
            b.prob_a_better,
            b.n_pairs,
            b.verdict,
        )
        if a.difference is not None and b.difference is not None:
            assert a.difference == -b.difference


@drawing
@given(drawn=scores, arms=st.sampled_from(ARMS), data=st.data())
def test_the_order_of_rows_and_columns_changes_nothing(tmp_path: Path, drawn: Any, arms: Any, data: Any) -> None:
    rows, first = of(tmp_path, drawn, arms)
    shuffled = data.draw(st.permutations(rows))
    columns = data.draw(st.permutations(list(dict.fromkeys(itertools.chain(*rows)))))
    (study,) = studies(tmp_path, shuffled, columns=columns)
    assert document([Analysis(study).evidence]) == document([first])


@drawing
@given(drawn=scores, arms=st.sampled_from(ARMS), data=st.data(), renamed=st.booleans())
def test_a_run_given_twice_is_an_error(tmp_path: Path, drawn: Any, arms: Any, data: Any, renamed: bool) -> None:
    rows, _ = of(tmp_path, drawn, arms)
    again = data.draw(st.sampled_from(rows))
    renamed = renamed and again["outcome"] != "lost"
    with pytest.raises(InputError, match=r"run_id is|seed is"):
        studies(tmp_path, [*rows, {**again, "run_id": "other"} if renamed else again])


def test_the_recorded_tables_that_are_shipped() -> None:
    folder = Path(__file__).parents[3] / "benchmarks" / "recorded"
    runs = read_runs(folder / "deepobs-runs.csv.gz")
    evidence_of = {s.spec.name: Analysis(s).evidence for s in studies_of(runs)}
    assert {name: (e.verdict.kind, e.verdict.arm) for name, e in evidence_of.items()} == {
        "cifar10_3c3d": ("inconclusive", None),
        "fmnist_2c2d": ("tie", None),
        "quadratic_deep": ("winner", "sgdm"),
    }
    taskset = read_runs(folder / "taskset-runs.csv.gz")
    assert {run.study for run in taskset} == {"taskset_1", "taskset_4", "taskset_10"}
    assert len(taskset) == 3000


def test_what_is_exported_reads_back_as_the_same_settings(tmp_path: Path) -> None:
    (study,) = studies(
        tmp_path, explored({"adamw": [0.9, 0.8]}, horizon=10, schedule="cosine") + confirmed(CLEAR, horizon=10)
    )
    rows, _ = rows_of(study)
    (again,) = studies_of(rows, source="runs.csv")
    assert [t.setting for t in again.trials] == [t.setting for t in study.trials]
    assert Analysis(again).evidence.pairs == Analysis(study).evidence.pairs


def test_the_example_of_the_page(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "recorded.md").read_text()
    (tmp_path / "runs.csv").write_text(page.split("```csv\n")[1].split("```")[0])
    (study,) = studies_of(read_runs(tmp_path / "runs.csv"))
    evidence = Analysis(study).evidence
    assert (evidence.arm, evidence.verdict.kind, evidence.pairs[0].n_pairs) == ("adamw", "inconclusive", 1)
