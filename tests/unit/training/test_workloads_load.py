from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tuner.core.errors import WorkloadError
from tuner.core.records import WorkloadRef
from tuner.training.workloads import Workload
from tuner.training.workloads.load import Description, describe, load
from tuner.training.workloads.toy import ToyQuadratic

from .helpers import BUILT_IN, TOY

Write = Callable[..., WorkloadRef]

WORKLOAD = """
    from tuner.training.workloads.toy import ToyQuadratic
    class Mine(ToyQuadratic):
        name = 'a'
    class Picky(ToyQuadratic):
        def __init__(self, width):
            if width < 1:
                raise ValueError("width must be positive")
            super().__init__()
    def train(run):
        pass
    def two(run, more):
        pass
    instance = Mine()
    number = 3
"""


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    path, modules = list(sys.path), set(sys.modules)

    def _write(text: str, path: str, folder: str = "", **options: Any) -> WorkloadRef:
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        (place / "my_job.py").write_text(textwrap.dedent(text))
        return WorkloadRef(path, str(place), options)

    yield _write
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("my_"):
            del sys.modules[name]


def test_a_class_is_made_once_with_its_options() -> None:
    ref = WorkloadRef(TOY, "", {"sleep": 0.25})
    first = load(ref)
    assert isinstance(first, ToyQuadratic)
    assert first.sleep == 0.25
    assert load(WorkloadRef(TOY, "", {"sleep": 0.25})) is first
    assert load(WorkloadRef(TOY)) is not first


def test_functions_and_instances_load(write: Write) -> None:
    text = WORKLOAD
    assert isinstance(load(write(text, "my_job:instance")), Workload)
    function = load(write(text, "my_job:train"))
    assert callable(function)
    assert describe(function) == Description(None, None, None)


def test_a_workload_is_described() -> None:
    assert describe(load(WorkloadRef(TOY))) == Description("loss", "minimize", True, takes=frozenset())
    digits = describe(load(WorkloadRef(BUILT_IN + "digits:DigitsCNN")))
    assert digits.takes == {"batch_size", "label_smoothing"}
    own = {"batch_size": 32, "batch_reference": 32, "label_smoothing": 0.0}
    assert digits.training == own
    used = load(WorkloadRef(BUILT_IN + "digits:DigitsCNN"))
    assert isinstance(used, Workload)
    used.place(torch.device("cpu"), {"batch_size": 128, "label_smoothing": 0.2})
    assert describe(used).training == own, "what the last run had is not the workload's own"
    assert describe(load(WorkloadRef(BUILT_IN + "chars:CharTransformer"))).training["clip_norm"] == 1.0


def test_the_same_name_in_another_folder_is_another_module(write: Write) -> None:
    first = load(write(WORKLOAD, "my_job:Mine", "one"))
    second = load(write(WORKLOAD.replace("'a'", "'b'"), "my_job:Mine", "two"))
    assert (getattr(first, "name", ""), getattr(second, "name", "")) == ("a", "b")


def test_a_class_of_the_running_script_is_renewed_when_it_is_defined_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "Mine", type("Mine", (ToyQuadratic,), {}), raising=False)
    first = load(WorkloadRef("__main__:Mine"))
    assert load(WorkloadRef("__main__:Mine")) is first
    monkeypatch.setattr(main, "Mine", type("Mine", (ToyQuadratic,), {}))
    assert load(WorkloadRef("__main__:Mine")) is not first


ABSTRACT = """
    from tuner.training.workloads import Workload
    class Half(Workload):
        metric, direction = "loss", "minimize"
        def model(self, seed): ...
    class Whole(Workload):
        metric, direction = "loss", "minimize"
        steps_per_epoch = 1
        def model(self, seed): ...
        def train_batches(self, epoch, seed): ...
        def evaluate(self, model, split): ...
    class Lossy(Whole):
        def loss(self, model, batch): ...
    class NoMetric(Lossy):
        metric = ""
    class Sideways(Lossy):
        direction = "max"
"""


@pytest.mark.parametrize(
    ("text", "path", "options", "words"),
    [
        ("", "my_job", {}, "names no module and attribute; expected module:attribute"),
        ("", "my_job:", {}, "names no module and attribute"),
        ("", "my_jop:Mine", {}, "has no module 'my_jop' in"),
        ("", "my_job.deeper:Mine", {}, "has no module 'my_job.deeper'"),
        ("import my_missing_library", "my_job:Mine", {}, "imports 'my_missing_library', which is not installed"),
        ("1 / 0", "my_job:Mine", {}, "raises ZeroDivisionError when it is imported: division by zero"),
        ("def broken(:", "my_job:Mine", {}, "raises SyntaxError when it is imported"),
        (WORKLOAD, "my_job:Mina", {}, "names 'Mina', which my_job does not have.*Did you mean 'Mine'"),
        (WORKLOAD, "my_job:number", {}, "is of the type int; expected a tuner.Workload class or a function"),
        ("class A: pass", "my_job:A", {}, "is the class my_job.A; expected"),
        (WORKLOAD, "my_job:two", {}, r"takes \(run, more\); expected one argument"),
        (WORKLOAD, "my_job:Mine", {"depth": 3}, "does not take the options {'depth': 3}.*options among: diverge_above"),
        (WORKLOAD, "my_job:Picky", {"width": 0}, "refuses its options {'width': 0}: ValueError: width must be"),
        (ABSTRACT, "my_job:Half", {}, "does not override evaluate, steps_per_epoch, train_batches"),
        (ABSTRACT, "my_job:Whole", {}, "overrides neither loss nor train_step"),
        (ABSTRACT, "my_job:NoMetric", {}, "has the metric ''; expected a name"),
        (ABSTRACT, "my_job:Sideways", {}, "has the direction 'max'; expected 'maximize' or 'minimize'"),
        ("", "__main__:NotHere", {}, "names 'NotHere' of a notebook or script"),
    ],
)
def test_what_is_wrong_is_said(write: Write, text: str, path: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(WorkloadError, match=words):
        load(write(text, path, **options))


def test_the_cause_is_kept(write: Write) -> None:
    with pytest.raises(WorkloadError) as raised:
        load(write("import my_missing_library", "my_job:Mine"))
    assert isinstance(raised.value.__cause__, ModuleNotFoundError)


def test_all_built_in_workloads_load() -> None:
    paths = ("digits:DigitsCNN", "tabular:TabularMLP", "chars:CharTransformer", "toy:ToyQuadratic")
    for path in (*paths, "cifar:CifarResNet", "unet:DigitsUNet", "gan:DigitsGAN", "text:ManualPassages"):
        assert describe(load(WorkloadRef(BUILT_IN + path))).has_test


def test_a_constructor_can_refuse_an_option() -> None:
    with pytest.raises(WorkloadError, match="expected a multiple of heads"):
        load(WorkloadRef(BUILT_IN + "chars:CharTransformer", "", {"width": 65}))
