from __future__ import annotations

from pathlib import Path

import pytest
from analysis.records import make_spec

from tuner import workflow
from tuner.config.spec import StudySpec
from tuner.config.stored import stored_spec
from tuner.core.errors import InputError, NoEvidence, StudyNotFound
from tuner.storage.ledger import Ledger


class TestExtend:
    def test_more_trials(self) -> None:
        spec = make_spec()
        more = workflow.extend(spec, trials=3)
        assert (more.budget.trials_per_arm, more.opened_for) == (7, spec.opened_for)
        assert more.space == spec.space

    def test_more_seeds(self) -> None:
        more = workflow.extend(workflow.extend(make_spec(), seeds=15), seeds=20)
        assert (more.confirmation.extensions, more.confirmation.total) == ((15, 20), 20)
        capped = workflow.extend(make_spec(confirmation={"max_runs": 8}), seeds=15)
        assert capped.confirmation.seeds_for(2) == 15

    def test_another_arm_of_the_spaces_own(self) -> None:
        more = workflow.extend(make_spec(), arm="nag")
        assert [a.arm for a in more.arms] == ["sgdm", "adamw", "nag"]
        assert [a.dimensions for a in more.arms][:2] == [a.dimensions for a in make_spec().arms]

    def test_another_arm_of_a_shipped_space(self) -> None:
        more = workflow.extend(make_spec(("sgdm",), space="quick"), arm="nag")
        assert [a.arm for a in more.arms] == ["sgdm", "nag"]

    def test_everything_at_once_reads_back(self) -> None:
        more = workflow.extend(make_spec(), trials=2, seeds=12, arm="nag")
        assert stored_spec(more.to_json(), "toy") == more
        assert (more.budget.trials_per_arm, more.confirmation.total, len(more.arms)) == (6, 12, 3)

    @pytest.mark.parametrize(
        ("asked", "says"),
        [
            ({}, "nothing to extend by; expected --trials N, --seeds N, --arm FAMILY or --hours H"),
            ({"seeds": 10}, "--seeds is 10; expected more than 10"),
            ({"hours": 2.0}, "--hours is for a study with a budget of hours"),
            ({"arm": "sgdm"}, "arm 'sgdm' is in the study already.*it has sgdm, adamw"),
            ({"arm": "lyon"}, "there is no arm 'lyon'; expected one of adabelief, .*, or lookahead-FAMILY"),
        ],
    )
    def test_wrong_ones(self, asked: dict[str, int], says: str) -> None:
        with pytest.raises(InputError, match=says):
            workflow.extend(make_spec(), **asked)  # type: ignore[arg-type]

    def test_hours(self) -> None:
        spec: StudySpec = make_spec(budget={"hours": 1})
        assert workflow.extend(spec, hours=0.5).budget.hours == 1.5
        with pytest.raises(InputError, match="limited to 1 hours, which may be used up; expected --hours H"):
            workflow.extend(spec, arm="nag")
        with pytest.raises(InputError, match="limited by hours, not by trials"):
            workflow.extend(spec, trials=3, hours=1.0)


def test_without_evidence_there_is_nothing_to_say(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/a.db")
    ledger.migrate()
    spec = make_spec()
    ledger.create("toy", spec.to_json())
    assert workflow.conclude(ledger.records("toy"), tmp_path / "out") is None
    assert not (tmp_path / "out").exists()
    with pytest.raises(NoEvidence):
        _ = workflow.analysis_of(ledger, "toy").evidence
    with pytest.raises(StudyNotFound):
        workflow.analysis_of(ledger, "other")
    ledger.close()
