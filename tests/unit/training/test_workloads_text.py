from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tuner.core.errors import WorkloadError
from tuner.core.records import Outcome, Phase, WorkloadRef
from tuner.training.run import train
from tuner.training.workloads.load import describe, load
from tuner.training.workloads.text import CLASSES, SHINGLE, WORDS, ManualPassages, divided, passages

from .helpers import BUILT_IN, assign, numbers, trained

TEXT = BUILT_IN + "text:ManualPassages"


@pytest.fixture(scope="module")
def workload() -> ManualPassages:
    made = ManualPassages(width=16)
    made.place(torch.device("cpu"), {})
    return made


def given(model: str, **more: Any) -> dict[str, Any]:
    options = {"model": model, "width": 16}
    return {"options": options, "metric": "accuracy", "family": "adamw", "phase": Phase.TEST, **more}


def test_it_says_what_a_study_needs() -> None:
    told = describe(load(WorkloadRef(TEXT)))
    assert (told.metric, told.direction, told.has_test) == ("accuracy", "maximize", True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "rnn"}, "model is 'rnn'; expected bag or encoder"),
        ({"width": 30}, "expected a multiple of heads = 4"),
    ],
)
def test_options_are_checked(options: dict[str, Any], words: str) -> None:
    with pytest.raises(WorkloadError, match=words):
        load(WorkloadRef(TEXT, "", options))


def test_no_two_passages_share_eight_words_in_a_row() -> None:
    seen: set[tuple[str, ...]] = set()
    for mine in passages():
        for passage in mine:
            assert len(passage) == WORDS
            shingles = {passage[at : at + SHINGLE] for at in range(WORDS - SHINGLE + 1)}
            assert not seen & shingles
            seen |= shingles


def test_the_splits_are_fixed_balanced_and_disjoint() -> None:
    splits = divided(passages())
    assert {split: len(pairs) for split, pairs in splits.items()} == {"train": 560, "validation": 280, "test": 280}
    for pairs in splits.values():
        kinds = [kind for _, kind in pairs]
        assert len({kinds.count(kind) for kind in range(len(CLASSES))}) == 1
    everything = [passage for pairs in splits.values() for passage, _ in pairs]
    assert len(set(everything)) == len(everything)
    torch.manual_seed(7)
    assert divided(passages()) == splits


def test_words_that_training_has_not_seen_twice_are_unknown(workload: ManualPassages) -> None:
    train_codes, codes = workload.data["train"][0], workload.data["validation"][0]
    assert int(train_codes.flatten().bincount().min()) >= 2
    assert int(codes.max()) < workload.vocabulary == int(train_codes.max()) + 1
    assert 0.05 < float((codes == 0).double().mean()) < 0.2


def test_another_manual_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from pydoc_data.topics import topics

    monkeypatch.setitem(topics, "compound", "if while for " * 100)
    with pytest.raises(WorkloadError, match=r"the manual of Python 3\.\d+ has 1 passage on compound statements"):
        divided(passages())
    monkeypatch.delitem(topics, "compound")
    with pytest.raises(WorkloadError, match="has no topic 'compound'"):
        passages()


def test_the_loss_that_is_evaluated_has_no_label_smoothing(workload: ManualPassages) -> None:
    model = workload.model(0).eval()
    with torch.no_grad():
        plain = workload.evaluate(model, "validation")
        workload.place(torch.device("cpu"), {"label_smoothing": 0.2})
        assert workload.evaluate(model, "validation") == plain
        assert float(workload.loss(model, workload.data["validation"])) != plain["loss"]
    workload.place(torch.device("cpu"), {})


@pytest.mark.parametrize("model", ["bag", "encoder"])
def test_it_trains_and_repeats_bit_for_bit(model: str) -> None:
    results = [
        trained(assign(TEXT, steps=102, **given(model, hyperparameters={"learning_rate": 1e-2}))) for _ in range(2)
    ]
    assert results[0].outcome is Outcome.COMPLETED, results[0].traceback
    assert numbers(results[0]) == numbers(results[1])
    assert results[0].tests["accuracy"] > 0.5
    assert results[0].measurements[-1].values["train_loss"] < results[0].measurements[0].values["train_loss"]


@pytest.mark.parametrize("model", ["bag", "encoder"])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(model: str, tmp_path: Path) -> None:
    run = given(model, steps=12, training={"batch_size": 80, "label_smoothing": 0.1})
    whole = trained(assign(TEXT, **run))
    generator = train(assign(TEXT, checkpoints=str(tmp_path), **run))
    at = next(generator).step
    generator.close()
    result = trained(assign(TEXT, checkpoints=str(tmp_path), attempt=2, **run))
    assert result.resumed_at == at == 7  # an epoch of 560 passages
    assert numbers(result) == numbers(whole)
