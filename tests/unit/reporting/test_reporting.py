from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from analysis.records import Book, make_spec, started

from tuner.analysis.analysis import Analysis
from tuner.analysis.evidence import Evidence
from tuner.analysis.verdict.kinds import Reference
from tuner.catalog.families import FAMILIES
from tuner.core.errors import InputError
from tuner.core.records import Measurement, Outcome, Setting
from tuner.recommendation import Recommendation, build
from tuner.reporting import card, files, markdown, pictures, words
from tuner.reporting.next_steps import next_steps

ARMS = ("sgdm", "adamw")
BAD = Outcome.DIVERGED


def confirmed(a: float, b: float, seeds: int = 10, scale: float = 0.004, seed: int = 0) -> Book:
    rng = np.random.default_rng(seed)
    rows = {arm: list(mean + scale * rng.normal(size=seeds)) for arm, mean in zip(ARMS, (a, b), strict=True)}
    return started().confirm(rows)


def evidence_of(book: Book) -> Evidence:
    return Analysis(book.records).evidence


BOOKS = {
    "winner": lambda: confirmed(0.95, 0.90),
    "tie": lambda: confirmed(0.95, 0.95, scale=0.0),
    "inconclusive": lambda: confirmed(0.952, 0.95, seed=2),
    "unfinished": lambda: confirmed(0.95, 0.90, seeds=3),
    "unconfirmed": lambda: started(confirmation={"max_runs": 0}),
    "single": lambda: started(("sgdm",)).confirm({"sgdm": [0.9, 0.91, 0.92]}),
    "diverged": lambda: started().confirm({"sgdm": [0.9] * 10, "adamw": [BAD] * 10}),
}


@pytest.mark.parametrize("name", list(BOOKS))
class TestEveryKindOfAnswer:
    def test_is_written_in_words(self, name: str) -> None:
        evidence = evidence_of(BOOKS[name]())
        for text in (markdown.markdown(evidence), markdown.note(evidence), card.text(evidence)):
            assert evidence.verdict.sentence in text
            assert not {"nan", "inf", "None"} & set(text.replace("(", " ").replace(")", " ").split())

    def test_is_drawn(self, name: str) -> None:
        from rich.console import Console

        out = io.StringIO()
        Console(file=out, width=80).print(card.render(evidence_of(BOOKS[name]())))
        assert card.headline(evidence_of(BOOKS[name]())) in out.getvalue()

    def test_is_written_to_files(self, name: str, tmp_path: Path) -> None:
        book = BOOKS[name]()
        paths = files.write_all(Analysis(book.records), tmp_path / "new")
        assert tuple(p.name for p in paths) == files.FILES
        assert sorted(p.name for p in (tmp_path / "new").iterdir()) == sorted(p.name for p in paths)
        assert json.loads(paths[1].read_text())["studies"][0]["study"] == "toy"
        assert all(p.read_bytes().startswith(b"\x89PNG") for p in paths[3:])


class TestWarmStart:
    def test_is_said_with_the_study_and_how_many_settings(self) -> None:
        evidence = replace(evidence_of(confirmed(0.95, 0.90)), started_from={"last-month": 2, "older": 1})
        text = "2 settings of study last-month, 1 setting of study older, tried first"
        assert f"Start     warm, from {text}" in card.text(evidence)
        assert f"warm start: {text}" in markdown.markdown(evidence)
        assert evidence.study_json()["started_from"] == {"last-month": 2, "older": 1}

    def test_is_not_said_where_there_was_none(self) -> None:
        assert "Start" not in card.text(evidence_of(confirmed(0.95, 0.90)))


class TestWords:
    def test_a_winning_default_is_said_plainly(self) -> None:
        book = started()
        book.follow(lambda request, index: (0.95 if request.trial == 0 else 0.90) + index / 10_000)
        text = words.gain(evidence_of(book), Reference.DEFAULT)
        assert "the reference is better; keep it" in text

    def test_the_default_itself(self) -> None:
        book = Book(make_spec()).search(dict.fromkeys(ARMS, (0.99, 0.9)))
        book.follow(lambda request, index: 0.9 + index / 10_000 + (0.05 if request.arm == "sgdm" else 0))
        assert (
            words.gain(evidence_of(book), Reference.DEFAULT) == "over the default of sgdm: none, it is the same setting"
        )

    def test_an_open_case_names_the_command(self) -> None:
        evidence = evidence_of(BOOKS["inconclusive"]())
        assert next_steps(evidence)[0].command == f"tuner extend toy --seeds {evidence.verdict.seeds_needed}"

    def test_unconfirmed_values_are_flagged(self) -> None:
        assert "expect less of a fresh one" in words.expected(evidence_of(BOOKS["unconfirmed"]()))


class TestPictures:
    def test_the_same_data_give_the_same_bytes(self, tmp_path: Path) -> None:
        book = BOOKS["winner"]()
        for ending in ("png", "svg"):
            for draw in (pictures.learning_curves, pictures.values_by_arm):
                one = draw(Analysis(book.records), tmp_path / f"one.{ending}").read_bytes()
                turned = replace(book.records, runs=book.records.runs[::-1])
                two = draw(Analysis(turned), tmp_path / f"two.{ending}").read_bytes()
                assert one == two

    def test_diverged_runs_and_wild_values_are_drawn(self, tmp_path: Path) -> None:
        book = Book(make_spec(("sgdm", "adamw", "nag")))
        book.search({"sgdm": (0.9, BAD, 0.91, 0.2), "adamw": (0.9, 0.9, 0.9, -1e9), "nag": (BAD,)})
        last = book.runs[0].result
        assert last is not None
        wild = (Measurement(5, {"val_accuracy": math.nan}), *last.measurements, Measurement(95, {"other": 1.0}))
        book.runs[0] = replace(book.runs[0], result=replace(last, measurements=wild))
        pictures.learning_curves(Analysis(book.records), tmp_path / "a.svg")
        text = pictures.values_by_arm(Analysis(book.records), tmp_path / "b.svg").read_text()
        assert "nan" not in text.split("<path")[1]

    def test_nothing_yet(self, tmp_path: Path) -> None:
        nothing = Analysis(Book(make_spec()).records)
        assert pictures.learning_curves(nothing, tmp_path / "a.png").stat().st_size > 0
        assert pictures.values_by_arm(nothing, tmp_path / "b.png").stat().st_size > 0


def test_a_failing_picture_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = BOOKS["winner"]()
    monkeypatch.setattr(pictures, "values_by_arm", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        files.write_all(Analysis(book.records), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "learning_curves.png",
        "recommendation.json",
        "recommendation.md",
        "report.html",
    ]


class TestBuild:
    def test_the_objects_to_train_with(self) -> None:
        import torch

        recommendation = Recommendation(evidence_of(BOOKS["winner"]()))
        model = torch.nn.Linear(3, 2)
        optimizer, schedule = recommendation.build(model, total_steps=4)
        rate = recommendation.setting.hyperparameters["learning_rate"]
        rates = []
        for _ in range(6):
            rates.append(optimizer.param_groups[0]["lr"] / rate)
            model(torch.ones(1, 3)).sum().backward()
            optimizer.step()
            schedule.step()
        half = (1 + math.cos(math.pi / 4)) / 2
        assert rates == pytest.approx([1.0, half, 0.5, 1 - half, 1 - half, 1 - half])
        assert isinstance(optimizer, torch.optim.SGD)

    def test_a_checkpoint_continues(self) -> None:
        import torch

        setting = Setting("adamw", {"learning_rate": 0.1}, {"kind": "linear", "warmup": 0.25})
        model = torch.nn.Linear(3, 2)
        (one, first), (two, second) = build(setting, model, 8), build(setting, model, 8)
        for _ in range(3):
            one.step()
            first.step()
        two.load_state_dict(one.state_dict())
        second.load_state_dict(first.state_dict())
        for optimizer, schedule in ((one, first), (two, second)):
            optimizer.step()
            schedule.step()
        assert one.param_groups[0]["lr"] == two.param_groups[0]["lr"] != 0.1

    def test_groups_and_the_batchs_scaling_are_in_the_optimizer(self) -> None:
        import torch

        training = {"multiplier:bias": 0.5, "batch_size": 64, "batch_reference": 32, "batch_scaling": "linear"}
        setting = Setting("sgdm", {"learning_rate": 0.1, "l2": 0.01}, {"kind": "constant"}, training)
        optimizer, _ = build(setting, torch.nn.Linear(3, 2), 8)
        assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.1]
        assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]

    @pytest.mark.parametrize("family", FAMILIES)
    def test_every_family_is_one_optimizer(self, family: str) -> None:
        import torch

        model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
        setting = FAMILIES[family].default
        optimizer, schedule = build(setting, model, 8)
        before = [p.detach().clone() for p in model.parameters()]
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.ones(3, 4)).square().sum().backward()
            optimizer.step()
            schedule.step()
        assert isinstance(optimizer, torch.optim.Optimizer)
        assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))

    def test_momentum_cycles_and_a_plateau_is_shown_what_was_measured(self) -> None:
        import torch

        cycled = Setting("sgdm", {}, {"kind": "onecycle", "rise": 0.5, "momentum_ratio": 0.5})
        optimizer, schedule = build(cycled, torch.nn.Linear(1, 1), 4)
        momenta = []
        for _ in range(4):
            momenta.append(optimizer.param_groups[0]["momentum"])
            optimizer.step()
            schedule.step()
        assert momenta[0] == pytest.approx(0.9)
        assert momenta[2] == pytest.approx(0.45)
        optimizer, schedule = build(
            Setting("sgdm", {}, {"kind": "plateau", "patience": 0.2}), torch.nn.Linear(1, 1), 10
        )
        for _ in range(6):
            optimizer.step()
            schedule.step()
            schedule.measured(1.0)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)

    @pytest.mark.parametrize("steps", [0, -1, 2.5, True, "ten"])
    def test_total_steps_must_be_a_number_of_steps(self, steps: object) -> None:
        import torch

        setting = Setting("sgdm", {"learning_rate": 0.1}, {"kind": "constant"})
        with pytest.raises(InputError, match="total_steps"):
            build(setting, torch.nn.Linear(1, 1), steps)  # type: ignore[arg-type]

    def test_the_public_face(self) -> None:
        recommendation = Recommendation(evidence_of(BOOKS["winner"]()))
        assert recommendation.verdict.kind == "winner"
        assert recommendation.sentence in recommendation.markdown()
        assert "learning_curves.png" not in recommendation.markdown()
        assert recommendation.to_json()["schema_version"] == 1
        assert "sgdm" in repr(recommendation)
