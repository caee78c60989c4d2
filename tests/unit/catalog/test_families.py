from __future__ import annotations

import math
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from tuner.catalog.families import (
    CAMPS,
    FAMILIES,
    HORIZON,
    ONE_RATE,
    PARTNER,
    SWITCH,
    Family,
    Search,
    family,
    is_family,
    unknown,
)
from tuner.catalog.families.optimizer_class import (
    DECOUPLED,
    FOREACH,
    FUSED,
    L2,
    OnlyWith,
    OptimizerClass,
    Options,
    TimmOptimizer,
    TotalSteps,
    Whole,
    arguments,
)
from tuner.catalog.schedules import SCHEDULES, Schedule
from tuner.core.errors import InputError

WALK = (*FAMILIES, "lookahead-lion")
EFFECTIVE, ONE_MINUS = "effective_learning_rate", "one_minus_"


@pytest.mark.parametrize("name", WALK)
def test_every_row_is_whole(name: str) -> None:
    row = family(name)
    names = [h.name for h in row.hyperparameters]
    assert (row.name, row.camp in CAMPS, len(set(names))) == (name, True, len(names))
    assert names[0] == "learning_rate"
    assert all(h.low <= h.default <= h.high and h.meaning for h in row.hyperparameters)
    assert all(row.default.hyperparameters[h.name] == h.default for h in row.hyperparameters)
    assert row.source
    assert row.formula
    assert row.default_source
    assert row.momentum is None or row.momentum in names
    assert row.needs <= {SWITCH, ONE_RATE, HORIZON, PARTNER}
    kind = Schedule.of(row.default.schedule).kind.name
    assert kind == ("constant" if SWITCH in row.needs else "cosine")
    assert row.schedules is None or (set(row.schedules) <= set(SCHEDULES) and kind in row.schedules)
    assert (row.schedules is None) == (SWITCH not in row.needs)


def lacking(row: Family) -> list[str]:
    """What whoever adds a row still has to say in it, in words."""
    names, of = {h.name for h in row.hyperparameters}, row.optimizer
    tables: list[tuple[str, Options]] = [("optimizer.options", of.options), ("optimizer.decoupling", of.decoupling)]
    tables += [("timm.arguments", row.timm.arguments)] if row.timm else []
    tables += [("trainer.arguments", row.trainer.arguments)] if row.trainer and row.trainer.arguments else []
    said = [] if re.fullmatch(r"[a-z_.]+:[A-Za-z]+", of.path) else ["optimizer.path: expected 'module:Class'"]
    said += [] if of.weight_decay in (L2, DECOUPLED) else ["optimizer.weight_decay: expected L2 or DECOUPLED"]
    said += [] if of.step in (FUSED, FOREACH, "") else ["optimizer.step: expected FUSED, FOREACH or ''"]
    if of.weight_decay == DECOUPLED and DECOUPLED not in names:
        said.append("hyperparameters: weight_decay, since the class decays decoupled")
    for place, options in tables:
        read = {name for option in options.values() for name in read_by(option)}
        said += [f"{place}: the family has no hyperparameter {name!r}" for name in sorted(read - names)]
        said += [f"{place}: {name} belongs to the param groups" for name in ("lr", "weight_decay") if name in options]
    if TotalSteps() in of.options.values() and HORIZON not in row.needs:
        said.append("needs: HORIZON, since an argument takes the horizon")
    said += [] if row.formula and row.source and row.default_source else ["formula, source or default_source"]
    return said


def read_by(option: object) -> tuple[str, ...]:
    match option:
        case str():
            return (option,)
        case tuple():
            return option
        case Whole() | OnlyWith():
            return (option.name,)
    return ()


@pytest.mark.parametrize("name", WALK)
def test_a_row_lacks_nothing_that_its_builder_and_its_exports_read(name: str) -> None:
    assert lacking(family(name)) == []


def test_what_a_row_lacks_is_named() -> None:
    of = OptimizerClass("torch.optim.Adam", {"betas": ("beta1", "beta9"), "lr": 0.1, "t": TotalSteps()}, "decay", "f")
    timm = TimmOptimizer("adam", {"k": Whole("every")})
    assert lacking(replace(family("adam"), optimizer=of, timm=timm, formula="")) == [
        "optimizer.path: expected 'module:Class'",
        "optimizer.weight_decay: expected L2 or DECOUPLED",
        "optimizer.step: expected FUSED, FOREACH or ''",
        "optimizer.options: the family has no hyperparameter 'beta9'",
        "optimizer.options: lr belongs to the param groups",
        "timm.arguments: the family has no hyperparameter 'every'",
        "needs: HORIZON, since an argument takes the horizon",
        "formula, source or default_source",
    ]


def test_a_class_that_decays_decoupled_needs_the_hyperparameter() -> None:
    of = replace(family("adam").optimizer, weight_decay=DECOUPLED)
    assert lacking(replace(family("adam"), optimizer=of)) == [
        "hyperparameters: weight_decay, since the class decays decoupled"
    ]


def test_arguments_come_from_hyperparameters_constants_and_the_horizon() -> None:
    options: Options = {
        "betas": ("beta1", "beta2"),
        "eps": "eps",
        "k": Whole("every"),
        "nesterov": OnlyWith("momentum", True),
        "momentum": OnlyWith("momentum"),
        "total": TotalSteps(),
        "capturable": False,
        "bound": None,
    }
    values = {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "every": 3.0, "momentum": 0.0, "unused": 1.0}
    given = arguments(options, values, 77)
    assert given == {"betas": (0.9, 0.99), "eps": 1e-8, "k": 3, "total": 77, "capturable": False, "bound": None}
    assert list(given) == ["betas", "eps", "k", "total", "capturable", "bound"]
    assert type(given["k"]) is int
    assert arguments(options, {**values, "momentum": 0.5}, 77) == {**given, "nesterov": True, "momentum": 0.5}


def test_an_optimizer_that_only_recorded_runs_name_has_no_class() -> None:
    row = unknown("their-own")
    assert (row.optimizer.path, row.optimizer.module, row.timm, row.trainer) == ("", "", None, None)
    assert not row.has_momentum


def test_a_family_that_looks_ahead_has_the_class_of_its_base_and_no_name_in_trainer() -> None:
    row = family("lookahead-sgdm")
    assert row.looks_ahead
    assert (row.optimizer, row.timm, row.trainer) == (family("sgdm").optimizer, family("sgdm").timm, None)


@pytest.mark.parametrize("name", WALK)
def test_a_search_lies_inside_the_bounds_contains_the_default_and_opens_late_for_what_matters_less(name: str) -> None:
    row = family(name)
    searched = [h for h in row.hyperparameters if h.search]
    own = [h.search.opens_at for h in searched if h.search and h.name != "lookahead_alpha"]  # which stands behind
    assert own == sorted(own)
    assert {h.search.opens_at for h in searched if h.search} <= {1, 10, 25, 60}
    assert searched[0].search is not None
    assert searched[0].search.opens_at == 1
    for h in searched:
        assert h.search is not None
        low, high, default = h.search.low, h.search.high, h.default
        if h.search.coordinate == EFFECTIVE:
            assert (h.name, row.heavy_ball) == ("learning_rate", True)
            default = h.default / (1 - row.default.hyperparameters["momentum"])
        elif h.search.coordinate:
            assert h.search.coordinate == ONE_MINUS + h.name
            default, low, high = 1 - h.default, 1 - h.search.high, 1 - h.search.low
            assert h.low <= low < high <= h.high
            low, high = h.search.low, h.search.high
        else:
            assert h.low <= low < high <= h.high
        assert low * (1 - 1e-9) <= default <= high * (1 + 1e-9) or (default == 0 and h.search.or_zero)
        assert low > 0 or not h.search.log


def test_the_table() -> None:
    assert " ".join(FAMILIES) == (
        "sgd sgdm nag sgdw adagrad rmsprop adadelta adam amsgrad adamax nadam radam adamw adafactor muon "
        "adabound amsbound swats lookahead-sgdm lookahead-adamw lion lamb lars soap prodigy ademamix adabelief adan "
        "schedule-free-adamw schedule-free-sgd"
    )
    assert {row.camp for row in FAMILIES.values()} == set(CAMPS)
    assert [name for name, row in FAMILIES.items() if row.camp == "other"] == ["muon", "swats", "lion"]
    with pytest.raises(TypeError):
        FAMILIES["mine"] = FAMILIES["sgdm"]  # type: ignore[index]


def test_the_ranges_of_the_first_two_families_are_those_of_their_space() -> None:
    assert {h.name: h.search for h in family("sgdm").hyperparameters if h.search} == {
        "learning_rate": Search(0.01, 100, coordinate=EFFECTIVE),
        "momentum": Search(0.005, 0.5, opens_at=10, coordinate="one_minus_momentum"),
        "l2": Search(1e-7, 1e-2, or_zero=True, opens_at=10),
    }
    assert {h.name: h.search for h in family("adamw").hyperparameters if h.search} == {
        "learning_rate": Search(1e-5, 3e-2),
        "beta1": Search(0.004, 0.5, opens_at=10, coordinate="one_minus_beta1"),
        "weight_decay": Search(1e-4, 1.0, or_zero=True, opens_at=10),
        "eps": Search(1e-10, 1e-3, opens_at=25),
        "beta2": Search(1e-4, 0.4, opens_at=60, coordinate="one_minus_beta2"),
    }


def test_l2_and_decoupled_decay_are_two_settings_wherever_both_exist() -> None:
    names = {name: {h.name for h in row.hyperparameters} for name, row in FAMILIES.items()}
    single = {name for name, found in names.items() if len(found & {"l2", "weight_decay"}) == 1}
    assert all(found & {"l2", "weight_decay"} for found in names.values())
    # For SGD without momentum, and Schedule-Free SGD, the two are one; LARS divides by a norm that has L2 in it; the
    # others have a twin with the other one.
    assert single == {
        *("sgd", "schedule-free-sgd", "lars"),
        *("sgdm", "sgdw", "adam", "adamw", "lookahead-sgdm", "lookahead-adamw"),
    }


def test_the_cost_counts_state_and_what_wants_tuning() -> None:
    assert family("sgdm").cost == (1, 3)
    assert family("adamw").cost == (2, 5)
    assert family("lookahead-adamw").cost == (3, 6)


def test_what_is_given_wins_over_the_default() -> None:
    found = family("sgdm").complete({"momentum": 0, "learning_rate": 3})
    assert found == {"learning_rate": 3.0, "momentum": 0.0, "l2": 1e-4, "dampening": 0.0}
    assert all(isinstance(value, float) for value in found.values())


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("sgdm", {"lr": 0.1}, "no hyperparameter 'lr'; expected one of learning_rate, momentum, l2, dampening"),
        ("sgdm", {"momentum": 1.0}, "momentum of sgdm is 1; expected 0 to 0.99999"),
        ("sgdm", {"momentum": -0.1}, "momentum of sgdm is -0.1"),
        ("sgdm", {"momentum": True}, "momentum of sgdm is True; expected a number"),
        ("sgdm", {"momentum": "0.9"}, "momentum of sgdm is '0.9'; expected a number"),
        ("sgdm", {"momentum": math.nan}, "momentum of sgdm is nan; expected a number"),
        ("sgdm", {"learning_rate": math.inf}, "learning_rate of sgdm is inf; expected a number"),
        ("soap", {"precondition_frequency": 2.5}, "precondition_frequency of soap is 2.5; expected a whole number"),
    ],
)
def test_wrong_values(name: str, given: dict[str, float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        family(name).complete(given)


def test_a_family_that_looks_ahead_is_derived_from_any_base() -> None:
    row, base = family("lookahead-nadam"), family("nadam")
    assert row.hyperparameters[: len(base.hyperparameters)] == base.hyperparameters
    assert [h.name for h in row.hyperparameters[len(base.hyperparameters) :]] == ["lookahead_alpha", "lookahead_k"]
    assert (row.state_slots, row.camp, row.momentum, row.default_schedule) == (
        3,
        "adam",
        "beta1",
        base.default_schedule,
    )
    assert family("lookahead-sgdm") is FAMILIES["lookahead-sgdm"]
    assert HORIZON in family("lookahead-ademamix").needs


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lyon", "'lyon'; expected one of sgd, sgdm, nag, .*, or lookahead- before another"),
        ("lookahead-", "'lookahead-'; expected one of sgd"),
        ("lookahead-lookahead-sgdm", "expected one of sgd"),
        ("lookahead-schedule-free-adamw", "schedule-free-adamw averages its weights itself"),
    ],
)
def test_an_unknown_family(name: str, says: str) -> None:
    assert not is_family(name)
    with pytest.raises(InputError, match=says):
        family(name)


def test_what_is_a_family() -> None:
    assert all(map(is_family, WALK))


def test_the_table_knows_no_torch() -> None:
    code = "import sys, tuner.catalog.families; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"False"


def test_the_sources_name_a_paper_and_a_class() -> None:
    for row in FAMILIES.values():
        assert re.search(r"torch\.optim\.|pytorch_optimizer\.|schedulefree\.", row.source), row.name
        assert re.search(r"\b(19|20)\d\d\b", row.source), row.name
        assert "http" not in row.source + row.formula + row.default_source
