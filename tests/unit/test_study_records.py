"""A study's records: views of trials and runs, and what the search has spent."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
from analysis.records import Book, make_spec, started

from tuner.core.records import Horizon, Outcome, Phase, RunRecord, RunRequest, State
from tuner.study_records import StudyRecords, ended, values_at

NINE = Horizon(9, "epochs")
BAD = (Outcome.DIVERGED, Outcome.FAILED, Outcome.LOST)


def confirmed() -> Book:
    """Two arms of four trials, and three fresh seeds for each finalist."""
    return started().confirm({"sgdm": [0.95, 0.96, 0.94], "adamw": [0.9, 0.91, 0.92]})


def searched(*values: float | Outcome, **changes: object) -> Book:
    """One arm with a run of the search for each value, over nine epochs, begun one second after the other."""
    spec = make_spec(("sgdm",), horizon={"epochs": 9}, budget={"trials_per_arm": 8}, **changes)
    book = Book(spec).search({"sgdm": values})
    book.runs = [replace(run, started_at=float(i + 1)) for i, run in enumerate(book.runs)]
    return book


def at(run: RunRecord, epochs: float) -> RunRecord:
    """The run over another horizon."""
    return replace(run, spec=replace(run.spec, horizon=Horizon(epochs, "epochs")))


def stopped(run: RunRecord, step: int) -> RunRecord:
    """The run, stopped by a pruner after this step."""
    assert run.result is not None
    return replace(run, result=replace(run.result, outcome=Outcome.PRUNED, value=None, step=step))


def like(run: RunRecord, other: RunRecord) -> RunRecord:
    """The run with the setting of another."""
    return replace(run, spec=replace(run.spec, setting=other.spec.setting))


class TestViews:
    def test_arms_stand_in_the_spaces_order(self) -> None:
        assert confirmed().records.arms == ("sgdm", "adamw")

    def test_trials_by_arm_and_index(self) -> None:
        records = confirmed().records
        assert list(records.by_key) == [(arm, i) for arm in ("sgdm", "adamw") for i in range(4)]
        assert all(records.by_key[trial.arm, trial.index] is trial for trial in records.trials)
        assert records.trials_of("adamw") == records.trials[4:]
        assert records.trials_of("lion") == ()

    def test_runs_of_an_arm_of_a_trial_and_of_a_phase(self) -> None:
        records = confirmed().records
        assert [run.spec.trial for run in records.runs_of("sgdm")] == [0, 1, 2, 3, 2, 2, 2]
        assert [run.value for run in records.runs_of("sgdm", 2)] == [0.95, 0.95, 0.96, 0.94]
        assert len(records.in_phase(Phase.EXPLORE)) == 8
        assert records.in_phase(Phase.EXPLORE, Phase.CONFIRM) == records.runs
        assert records.in_phase(Phase.TEST) == ()

    def test_runs_of_the_search_by_arm(self) -> None:
        book = confirmed()
        records = book.records
        assert records.search_runs == {arm: records.runs_of(arm)[:4] for arm in ("sgdm", "adamw")}
        assert StudyRecords.of(book.spec, (), ()).search_runs == {"sgdm": (), "adamw": ()}

    def test_an_arm_beside_the_space_has_a_view_of_its_own(self) -> None:
        book = confirmed()
        other = replace(book.runs[0], spec=replace(book.runs[0].spec, arm="current"))
        records = StudyRecords.of(book.spec, book.trials, [*book.runs, other])
        assert records.search_runs["current"] == (other,)
        assert list(records.spent) == ["sgdm", "adamw"]

    def test_ended_runs_in_the_order_given(self) -> None:
        book = started()
        book.runs[1] = RunRecord(book.runs[1].spec, State.RUNNING, 1)
        assert ended(reversed(book.runs)) == [run for run in reversed(book.runs) if run is not book.runs[1]]

    def test_nothing_can_be_changed(self) -> None:
        records = confirmed().records
        with pytest.raises(FrozenInstanceError):
            records.runs = ()  # type: ignore[misc]

    def test_views_are_made_once(self) -> None:
        records = confirmed().records
        for name in ("by_key", "search_runs", "search_values", "spent"):
            assert getattr(records, name) is getattr(records, name)


class TestValues:
    def test_only_completed_full_runs_of_the_search_count(self) -> None:
        book = searched(0.5, 0.6, 0.7, *BAD)
        book.runs[1] = at(book.runs[1], 3)
        book.end(RunRequest("sgdm", 0, Phase.CONFIRM, 77), 0.9)
        assert book.records.search_values == {("sgdm", 0): 0.5, ("sgdm", 2): 0.7}

    def test_several_seeds_of_a_trial_have_their_mean(self) -> None:
        book = searched(0.5)
        book.end(RunRequest("sgdm", 0, Phase.EXPLORE, book.spec.search_seed + 1), 0.75)
        assert book.records.search_values == {("sgdm", 0): 0.625}
        assert values_at(book.runs[::-1], NINE) == {("sgdm", 0): 0.625}

    def test_at_another_horizon(self) -> None:
        book = searched(0.5, 0.6)
        book.runs[1] = at(book.runs[1], 3)
        assert values_at(book.runs, Horizon(3, "epochs")) == {("sgdm", 1): 0.6}
        assert values_at(book.runs, Horizon(3, "steps")) == {}


class TestFullSteps:
    def test_the_longest_completed_run_of_any_phase(self) -> None:
        book = searched(0.5, 0.6)
        assert book.records.full_steps == 90
        book.runs = [stopped(run, 40) for run in book.runs]
        assert book.records.full_steps == 0, "a stopped run does not say how long a full one is"
        book.end(RunRequest("sgdm", 0, Phase.CONFIRM, 77), 0.9)
        assert book.records.full_steps == 90

    def test_none_before_any_run(self) -> None:
        assert StudyRecords.of(make_spec(), (), ()).full_steps == 0


class TestCost:
    @pytest.mark.parametrize(("epochs", "cost"), [(9, 1.0), (3, 1 / 3), (1, 1 / 9)])
    def test_the_share_of_the_full_horizon_however_it_ended(self, epochs: float, cost: float) -> None:
        book = searched(0.5, *BAD)
        assert [book.records.cost(at(run, epochs)) for run in book.runs] == [cost] * 4
        queued = RunRecord(at(book.runs[0], epochs).spec, State.QUEUED)
        assert book.records.cost(queued) == cost

    @pytest.mark.parametrize(("step", "cost"), [(30, 1 / 3), (90, 1.0), (180, 1.0)])
    def test_a_pruned_run_costs_the_steps_that_it_trained(self, step: int, cost: float) -> None:
        book = searched(0.5, 0.6, fidelity="prune")
        assert book.records.cost(stopped(book.runs[1], step)) == pytest.approx(cost)

    def test_a_pruned_run_costs_a_full_one_before_any_completed(self) -> None:
        book = searched(0.5, 0.6, fidelity="prune")
        book.runs = [stopped(run, step) for run, step in zip(book.runs, (20, 40), strict=True)]
        assert [book.records.cost(run) for run in book.runs] == [1.0, 1.0]
        assert book.records.spent == {"sgdm": 2.0}

    def test_a_recording_without_a_horizon_counts_runs(self) -> None:
        book = searched(0.5)
        spec = replace(book.spec, horizon=Horizon(0, "steps"))
        assert StudyRecords.of(spec, book.trials, book.runs).cost(book.runs[0]) == 1.0


class TestPaid:
    def test_the_same_training_once_with_the_cost_of_its_last_run(self) -> None:
        book = searched(0.5, 0.6, 0.7, fidelity="prune")
        book.runs[1] = like(stopped(book.runs[1], 30), book.runs[0])
        records = book.records
        assert list(records.paid(book.runs).values()) == pytest.approx([1 / 3, 1.0])
        assert list(records.paid([book.runs[1], book.runs[0]]).values()) == [1.0]

    def test_another_setting_horizon_or_seed_is_another_training(self) -> None:
        book = searched(0.5, 0.6)
        first = book.runs[0]
        seed = replace(first, spec=replace(first.spec, seed=first.spec.seed + 1))
        assert len(book.records.paid([first, book.runs[1], at(first, 3), seed])) == 4
        assert len(book.records.paid([first, replace(first, spec=replace(first.spec, trial=5, rung=1))])) == 1


class TestSpending:
    def test_what_was_handed_out_is_committed_and_what_has_ended_is_spent(self) -> None:
        book = searched(0.5, 0.6, 0.7, 0.8)
        book.runs[1] = RunRecord(at(book.runs[1], 3).spec, State.RUNNING, 1, started_at=2.0)
        book.runs[2] = RunRecord(book.runs[2].spec, State.QUEUED)
        book.end(RunRequest("sgdm", 0, Phase.CONFIRM, 77), 0.9)
        assert book.records.committed("sgdm") == pytest.approx(3 + 1 / 3)
        assert book.records.spent == {"sgdm": 2.0}

    def test_an_arm_without_runs_has_spent_nothing(self) -> None:
        records = StudyRecords.of(make_spec(), (), ())
        assert (records.spent, records.committed("adamw")) == ({"sgdm": 0.0, "adamw": 0.0}, 0.0)
        assert [type(cost) for cost in (*records.spent.values(), records.committed("adamw"))] == [float] * 3

    def test_runs_are_handed_out_in_the_order_in_which_they_began(self) -> None:
        book = searched(0.5, 0.6, 0.7, 0.8)
        times = (3.0, 2.0, 2.0, 0.0)
        book.runs = [replace(run, started_at=time) for run, time in zip(book.runs, times, strict=True)]
        assert [run.spec.trial for run in book.records.handed_out("sgdm")] == [3, 1, 2, 0]
        resumed = book.runs[0].result
        assert resumed is not None
        book.runs[0] = replace(book.runs[0], result=replace(resumed, started_at=1.0))
        assert [run.spec.trial for run in book.records.handed_out("sgdm")] == [3, 0, 1, 2], "the result knows better"
