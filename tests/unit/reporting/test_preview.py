"""What ``tuner check`` shows."""

from __future__ import annotations

import io

import pytest
from analysis.records import make_spec

from tuner.config.spec import StudySpec
from tuner.core.errors import WorkloadError
from tuner.core.values import counted
from tuner.reporting import preview

TOY = "tuner.training.workloads.toy:ToyQuadratic"


def text_of(*parts: object, width: int = 160) -> str:
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, width=width)
    for part in parts:
        console.print(part)
    return out.getvalue()


def toy(**changes: object) -> StudySpec:
    workload = {"path": TOY, "options": changes.pop("options", {})}
    metric = {"name": "loss", "direction": "minimize"}
    return make_spec(**{"workload": workload, "metric": metric, "space": "sgdm-vs-adam", **changes})


@pytest.mark.parametrize("trials", [1, 5, 12, 30, 100])
@pytest.mark.parametrize("space", ["quick", "sgdm-vs-adam", "five-families"])
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_pages_for_every_space(space: str, trials: int, sampler: str) -> None:
    arms = ["sgdm", "nag", "adamw", "adam", "nadam"] if space == "five-families" else ["sgdm", "adamw"]
    spec = make_spec(space=space, arms=arms, budget={"trials_per_arm": trials}, sampler=sampler, fidelity="full")
    text = text_of(*preview.pages(spec))
    assert (
        f"Study toy: maximize val_accuracy of my.work:Load, 3 epochs a run, {counted(trials, 'trial')} per arm" in text
    )
    for arm in spec.arms:
        assert arm.arm in text
        assert all(d.name in text for d in arm.all_dimensions)
    assert ("fixed:" in text) == any(arm.closed for arm in spec.arms)


def test_what_a_closed_dimension_is_fixed_at() -> None:
    spec = make_spec(space="sgdm-vs-adam", budget={"trials_per_arm": 5})
    rows = {
        line.split("│")[2].strip(): line
        for line in text_of(preview.space_table(spec.space)).splitlines()
        if "│" in line
    }
    assert "fixed: 0.1" in rows["one_minus_momentum"]
    assert "fixed: 0.0001" in rows["l2"]
    assert "10 trials" in rows["l2"]
    assert "fixed: 1e-08" in rows["eps"]
    assert "cosine | wsd" in rows["schedule.kind"]
    assert "searched" in rows["learning_rate"]


def test_proposals_divide() -> None:
    text = text_of(preview.plan_table(make_spec(budget={"trials_per_arm": 12})))
    assert [cell.strip() for cell in text.splitlines()[4].split("│")[1:-1]] == ["sgdm", "1", "4", "7", "1"]
    assert "all others" in text_of(preview.plan_table(make_spec(budget={"hours": 1})))
    mine = make_spec(current={"family": "sgdm"}, budget={"trials_per_arm": 12})
    assert "2" in text_of(preview.plan_table(mine)).splitlines()[4]


class TestHowTheSearchTrains:
    def text(self, **changes: object) -> str:
        return text_of(
            *preview.pages(make_spec(**{"horizon": {"epochs": 18}, "budget": {"trials_per_arm": 12}, **changes}))
        )

    def test_a_ladder_shows_its_rungs(self) -> None:
        text = self.text()
        assert "Search (fidelity: ladder): each arm may spend 12 full runs" in text
        rows = [
            [cell.strip() for cell in line.split("│")[1:-1]]
            for line in text.splitlines()
            if "epochs " in line and "│" in line
        ]
        assert [row[:3] for row in rows] == [
            ["0", "2 epochs", "0.111"],
            ["1", "6 epochs", "0.333"],
            ["2", "18 epochs", "1"],
        ]
        assert "new settings: about sgdm 8, adamw 16 to begin with" in text
        assert "the most promising settings: at least about sgdm 5, adamw 5" in text
        assert "Budget (allocation: compare): the same for every arm" in text
        assert "sampler surrogate" in text

    def test_a_short_horizon_has_no_room_for_one(self) -> None:
        said = "a horizon of 1 epoch leaves no room for a shorter rung (at least 1 epoch)"
        assert said in self.text(horizon={"epochs": 1})

    def test_other_fidelities(self) -> None:
        assert "Search (fidelity: full): every run trains over the full horizon" in self.text(fidelity="full")
        assert "the asha pruner stops those that fall behind" in self.text(fidelity={"kind": "prune", "pruner": "asha"})

    def test_a_budget_that_moves(self) -> None:
        text = self.text(allocation="optimise")
        assert "every arm gets 6 full runs, and the rest of 24 goes to the arms with the best prospects" in text
        assert "To judge families" not in text
        assert "allocation" not in self.text(arms=["sgdm"], allocation="optimise")


def test_that_ranges_may_be_widened() -> None:
    text = " ".join(text_of(*preview.pages(toy(widen=True, budget={"trials_per_arm": 12}))).split())
    assert "the search goes on: at most 2 times, each with 3 more full runs for every arm." in text
    assert "widened" not in text_of(*preview.pages(toy()))


def test_the_confirmation_in_words() -> None:
    text = preview.confirmation(make_spec())
    assert "The finalist of each arm, its best setting, trains on 10 fresh seeds" in text
    assert "(20 runs)" in text
    assert "20 of the default and of your settings on the same seeds" in preview.confirmation(
        make_spec(current={"family": "sgdm"})
    )
    assert "Confirmation: none" in preview.confirmation(make_spec(confirmation={"max_runs": 0}))
    assert "no arm can be called better" in preview.confirmation(make_spec(confirmation={"seeds": 3}))
    assert "8 to measure the noise between seeds" in preview.confirmation(make_spec(confirmation={"noise_seeds": 4}))


def test_what_the_seeds_can_see_in_words() -> None:
    text = preview.confirmation(make_spec(fidelity="full"))
    assert (
        "With 10 seeds only large differences can be found: one side winning on about 91 % of seeds (found in 80 %"
        in text
    )
    assert "To find one side winning on 75 % of seeds as reliably, set confirmation.seeds: 43" in text
    assert "that verdict is unlikely with 10 seeds" in text
    assert "takes 4 independent trials per arm (Sobol or random), and sgdm has 1, adamw has 1" in text
    assert "that verdict is out of reach with 6 seeds" in preview.confirmation(make_spec(confirmation={"seeds": 6}))
    chosen = preview.confirmation(make_spec(horizon={"epochs": 9}, fidelity="ladder"))
    assert "with fidelity: ladder early results decide which trials reach the full horizon" in chosen
    plan = {"confirmation": {"seeds": 60}, "budget": {"trials_per_arm": 9}}
    many = preview.confirmation(make_spec(sampler="random", fidelity="full", **plan))
    assert "With 60 seeds also smaller differences can be found" in many
    assert "takes" not in many
    assert "independent" not in many
    assert "no practical difference" not in preview.confirmation(make_spec(("sgdm",)))


def test_the_param_groups_of_each_arm() -> None:
    text = text_of(*preview.groups(toy(training={"multipliers": {"linear.bias": 0.5}})))
    assert "Param groups of sgdm" in text
    assert "Param groups of adamw" in text
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    assert rows[0] == ["-", "0.1", "0.0001", "1", "8", "linear.weight"]
    assert rows[1] == ["-", "0.05", "none", "1", "1", "linear.bias"]
    assert rows[2] == ["-", "0.001", "0.01", "1", "8", "linear.weight"]
    frozen = text_of(*preview.groups(toy(training={"freeze": ["linear.bias"]})))
    assert "frozen" in frozen
    with pytest.raises(WorkloadError, match=r"training 'freeze:backbone.\*' matches no parameter"):
        list(preview.groups(toy(training={"freeze": ["backbone.*"]})))


def test_a_timed_step_of_each_arm() -> None:
    spec = toy(horizon={"steps": 8})
    seconds = preview.timed(spec)
    assert list(seconds) == ["sgdm", "adamw"]
    assert all(step > 0 and evaluation >= 0 for step, evaluation in seconds.values())
    text = text_of(preview.cost(spec, {"sgdm": (0.001, 0.5), "adamw": (0.002, 0.5)}))
    assert "1.00 ms" in text
    assert "0.51 s" in text
    assert "of training in total" in text


def test_a_workload_that_fails_is_said_with_its_traceback() -> None:
    with pytest.raises(WorkloadError, match="sgdm's default failed: RuntimeError: the toy fails at update 2"):
        preview.timed(toy(options={"fail_at": 2}))
