"""What to do next: one step for each thing that is open, the most useful first, always with a way to read the JSON."""

from __future__ import annotations

from dataclasses import replace

import pytest
from analysis.records import started

from tuner.analysis.analysis import Analysis
from tuner.analysis.evidence import Caveat, CaveatCode, Evidence
from tuner.analysis.verdict.kinds import VerdictKind
from tuner.reporting.next_steps import next_steps


def evidence(
    *codes: CaveatCode, kind: VerdictKind = VerdictKind.WINNER, seeds: int | None = None, recording: str = ""
) -> Evidence:
    """The evidence of a study with these caveats and this verdict."""
    plain = Analysis(started().records).evidence
    verdict = replace(plain.verdict, kind=kind, seeds_needed=seeds)
    caveats = tuple(Caveat(code, "...") for code in codes)
    return replace(plain, verdict=verdict, caveats=caveats, recording=recording)


OPEN = VerdictKind.INCONCLUSIVE
JSON = "tuner recommend toy --json"


class TestOfAStudy:
    @pytest.mark.parametrize(
        ("codes", "kind", "seeds", "command"),
        [
            ((), VerdictKind.WINNER, None, None),
            ((), VerdictKind.TIE, None, None),
            ((CaveatCode.UNFINISHED,), OPEN, 24, "tuner resume toy"),
            ((CaveatCode.NOT_CONFIRMED,), OPEN, None, "tuner extend toy --seeds 10"),
            ((), OPEN, 24, "tuner extend toy --seeds 24"),
        ],
    )
    def test_the_command_that_settles_it_comes_first(
        self, codes: tuple[CaveatCode, ...], kind: VerdictKind, seeds: int | None, command: str | None
    ) -> None:
        steps = next_steps(evidence(*codes, kind=kind, seeds=seeds))
        assert [step.command for step in steps] == [JSON] if command is None else [command, JSON]
        assert all(step.why for step in steps)

    def test_where_seeds_alone_will_not_settle_it(self) -> None:
        first, last = next_steps(evidence(kind=OPEN))
        assert first.command == ""
        assert "confirmation.min_effect" in first.why
        assert last.command == JSON

    def test_edges_and_divergence_each_have_a_step(self) -> None:
        steps = next_steps(evidence(CaveatCode.EDGE_OF_RANGE, CaveatCode.MANY_DIVERGED))
        assert [step.command for step in steps] == ["", "", JSON]
        assert steps[0].why.startswith("Widen the range")
        assert steps[1].why.startswith("Lower the upper end")

    def test_other_caveats_have_none(self) -> None:
        rest = set(CaveatCode) - {
            CaveatCode.UNFINISHED,
            CaveatCode.NOT_CONFIRMED,
            CaveatCode.EDGE_OF_RANGE,
            CaveatCode.MANY_DIVERGED,
        }
        assert [step.command for step in next_steps(evidence(*rest))] == [JSON]


class TestOfARecording:
    @pytest.mark.parametrize(
        ("codes", "seeds", "words"),
        [
            ((CaveatCode.NOT_CONFIRMED,), None, ["ten fresh seeds"]),
            ((CaveatCode.ARM_NOT_CONFIRMED,), 24, ["the other arms", "24 "]),
            ((), 24, ["24 "]),
            ((), None, ["--min-effect"]),
            ((CaveatCode.EDGE_OF_RANGE, CaveatCode.MANY_DIVERGED), 24, ["24 ", "beyond the edge", "Lower"]),
        ],
    )
    def test_whoever_trains_gets_sentences(
        self, codes: tuple[CaveatCode, ...], seeds: int | None, words: list[str]
    ) -> None:
        *steps, last = next_steps(evidence(*codes, kind=OPEN, seeds=seeds, recording="runs.csv"))
        assert [step.command for step in steps] == [""] * len(words)
        assert all(word in step.why for word, step in zip(words, steps, strict=True))
        assert last.command == "tuner analyze ... --json"

    def test_a_settled_one_has_nothing_to_train(self) -> None:
        steps = next_steps(evidence(recording="runs.csv"))
        assert [step.command for step in steps] == ["tuner analyze ... --json"]
