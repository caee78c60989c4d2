"""Wrong study files, spaces, workloads and command lines: a message to act on, exit code 2, nothing written."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner

from tuner.cli import main

GOOD = {
    "study": "toy",
    "workload": "tuner.training.workloads.toy:ToyQuadratic",
    "horizon": "{steps: 4}",
    "space": "quick",
    "arms": "[sgdm, adamw]",
    "budget": "{trials_per_arm: 1}",
    "confirmation": "{max_runs: 0}",
    "executor": "local",
    "tracking": "none",
}
SPACE = {
    "name": "mine",
    "arms": "{sgdm: {effective_learning_rate: {low: 0.01, high: 10, scale: log}}}",
}
WORKLOADS = """
import tuner

def train(run): ...
def two(run, other): ...
number = 3

class Half(tuner.Workload):
    metric = "loss"
    direction = "minimize"

class Whole(Half):
    steps_per_epoch = 1
    def model(self, seed): ...
    def train_batches(self, epoch, seed): ...
    def evaluate(self, model, split): ...

class Silent(Whole):
    metric = ""
    def loss(self, model, batch): ...

class Sideways(Silent):
    metric = "loss"
    direction = "up"

class Choosy(Silent):
    metric = "loss"
    def __init__(self, width=1):
        if width > 2: raise ValueError("too wide")
"""


def yaml_of(keys: Mapping[str, str | None]) -> str:
    return "".join(f"{key}: {value}\n" for key, value in keys.items() if value is not None)


@dataclass(frozen=True)
class Case:
    """What is wrong, and the words that the message must hold."""

    name: str
    says: Sequence[str]
    study: str | None = None
    args: Sequence[str] = ("run", "study.yaml")
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    hides: str = "Traceback"


def study(name: str, says: Sequence[str], **changes: str | None) -> Case:
    """A study file with other keys; ``{}`` in the words is the line of the (first) changed key."""
    keys: dict[str, str | None] = {**GOOD, **changes}
    first = next(iter(changes))
    line = next((i for i, key in enumerate((k for k, v in keys.items() if v is not None), 1) if key == first), 0)
    return Case(name, [word.replace("{}", f"study.yaml:{line}") for word in says], yaml_of(keys))


def raw(name: str, text: str | bytes, *says: str) -> Case:
    return Case(name, says, files={"study.yaml": text})


def space(name: str, says: Sequence[str], **changes: str) -> Case:
    """A space of one's own with other keys; ``{}`` in the words is the line of the (first) changed key."""
    keys = {**SPACE, **changes}
    line = list(keys).index(next(iter(changes))) + 1
    words = [word.replace("{}", f"mine.yaml:{line}") for word in says]
    return Case(name, words, yaml_of({**GOOD, "space": "mine.yaml", "arms": None}), files={"mine.yaml": yaml_of(keys)})


def arm(name: str, sgdm: str, *says: str) -> Case:
    return space(name, ["{}: arms.sgdm", *says], arms=f"{{sgdm: {sgdm}}}")


def workload(name: str, path: str, *says: str, **changes: str) -> Case:
    case = study(name, [f"workload '{path}'", *says], workload=f"mywork:{path.partition(':')[2]}", **changes)
    return Case(name, case.says, (case.study or "").replace("mywork:", path.partition(":")[0] + ":"))


def command(name: str, args: str, *says: str, hides: str = "Traceback") -> Case:
    return Case(name, says, yaml_of(GOOD), args.split(), hides=hides)


def stored(name: str, url: str, *says: str) -> Case:
    return Case(name, says, yaml_of({**GOOD, "storage": f"'{url}'"}), hides="hunter2")


URL = "postgresql+psycopg://ann:hunter2@127.0.0.1:1/tuner"
SGD = "{effective_learning_rate: {low: 0.01, high: 10, scale: log}}"

CASES = [
    # the file
    command("missing file", "run nosuch.yaml", "nosuch.yaml", "no such file", "Check the path"),
    command("a folder", "run .", "cannot be read as text"),
    raw("empty file", "", "study.yaml", "is empty", "expected a mapping"),
    raw("only a comment", "# later\n", "study.yaml", "is empty"),
    raw("not YAML", "study: [a\nb: }", "study.yaml:2", "not valid YAML"),
    raw("a tab", "study: toy\nbudget:\n\thours: 1\n", "study.yaml:3", "not valid YAML"),
    raw("a control character", "study: a\x00b\n", "study.yaml", "not valid YAML"),
    raw("not text", b"\xff\xfe\x00\x80", "study.yaml", "cannot be read as text"),
    raw("two documents", "study: a\n---\nstudy: b\n", "study.yaml:2", "not valid YAML"),
    raw("duplicate key", "study: a\nseed: 1\nstudy: b\n", "study.yaml:3: study", "line 1", "Keep one"),
    raw("list at the top", "- study\n- workload\n", "study.yaml:1", "expected a mapping"),
    raw("text at the top", "study\n", "study.yaml:1", "expected a mapping"),
    raw("alias of itself", "study: &a [*a]\n", "study.yaml", "alias"),
    raw("unreadable value", "study: a\nseed: !!float abc\n", "study.yaml:2", "'abc'"),
    raw("an object", "study: !!python/object/apply:os.system [ls]\n", "study.yaml:1"),
    # the study's keys
    study("unknown key", ["{}: trails", "not a key here", "expected one of", "seed"], trails="3"),
    study("misspelt key", ["{}: buget", "Did you mean 'budget'?"], buget="{trials_per_arm: 3}"),
    study("missing study", ["study is missing", "Add the key 'study'"], study=None),
    study("missing workload", ["workload is missing", "Add the key 'workload'"], workload=None),
    study("bad name", ["{}: study", "'my study'", "letters, digits"], study="my study"),
    study("a path as name", ["{}: study", "'../toy'", "letters, digits"], study="../toy"),
    study("name with a newline", ["{}: study", "letters, digits"], study='"toy\\n"'),
    study("name is a number", ["{}: study is 12", "expected a text"], study="12"),
    study("horizon in both units", ["{}: horizon", "{steps: N} or {epochs: N}"], horizon="{steps: 5, epochs: 1}"),
    study("horizon zero", ["{}: horizon.steps is 0", "at least 1"], horizon="{steps: 0}"),
    study("horizon negative", ["{}: horizon.epochs is -2", "above 0"], horizon="{epochs: -2}"),
    study("horizon a text", ["{}: horizon.epochs is 'ten'", "expected a number"], horizon="{epochs: ten}"),
    study("horizon a number", ["{}: horizon is 100", "expected a mapping"], horizon="100"),
    study("horizon in hours", ["{}: horizon", "{steps: N} or {epochs: N}"], horizon="{hours: 1}"),
    study("horizon true", ["{}: horizon.steps is True", "a whole number"], horizon="{steps: true}"),
    study("horizon infinite", ["{}: horizon.epochs is inf", "expected a number"], horizon="{epochs: .inf}"),
    study("budget a number", ["{}: budget is 12", "expected a mapping"], budget="12"),
    study("trials 0", ["{}: budget.trials_per_arm is 0", "from 1"], budget="{trials_per_arm: 0}"),
    study("trials 2.5", ["{}: budget.trials_per_arm is 2.5", "whole number"], budget="{trials_per_arm: 2.5}"),
    study("hours a text", ["{}: budget.hours is '2h'", "a number above 0"], budget="{hours: 2h}"),
    study("hours NaN", ["{}: budget.hours is nan", "a number above 0"], budget="{hours: .nan}"),
    study("hours 0", ["{}: budget.gpu_hours is 0", "a number above 0"], budget="{gpu_hours: 0}"),
    study("hours beyond floats", ["{}: budget.hours", "a number above 0"], budget=f"{{hours: 1{'0' * 400}}}"),
    study("budget key", ["{}: budget.trials", "Did you mean 'trials_per_arm'?"], budget="{trials: 3}"),
    study("alpha 0", ["{}: confirmation.alpha is 0", "above 0"], confirmation="{alpha: 0}"),
    study("alpha 1", ["{}: confirmation.alpha is 1", "up to 0.5"], confirmation="{alpha: 1}"),
    study("one seed", ["{}: confirmation.seeds is 1", "from 2"], confirmation="{seeds: 1}"),
    study("flag as text", ["{}: confirmation.test is 'perhaps'", "true or false"], confirmation="{test: perhaps}"),
    study("extensions", ["{}: confirmation.extensions", "that grow"], confirmation="{extensions: [20, 5]}"),
    study("extensions, no seeds", ["{}: confirmation.extensions"], confirmation="{seeds: null, extensions: [5]}"),
    study("negative seed", ["{}: seed is -1", "a whole number"], seed="-1"),
    study("seed true", ["{}: seed is True", "a whole number"], seed="true"),
    study("metric a text", ["{}: metric is 'loss'", "expected a mapping"], metric="loss"),
    study("no direction", ["metric.direction is missing", "Add the key"], metric="{name: loss}"),
    study(
        "direction misspelt",
        ["{}: metric.direction is 'minimise'", "maximize, minimize", "Did you mean 'minimize'?"],
        metric="{name: loss, direction: minimise}",
    ),
    study("sampler misspelt", ["{}: sampler is 'tpes'", "Did you mean 'tpe'?"], sampler="tpes"),
    study("cmaes with kinds", ["{}: sampler is 'cmaes'", "one fixed kind", "kind: cosine"], sampler="cmaes"),
    study("executor", ["{}: executor is 'rai'", "ray, local", "Did you mean 'ray'?"], executor="rai"),
    study("gpus 1.5", ["{}: resources.gpus is 1.5", "a share below 1"], resources="{gpus: 1.5}"),
    study("cpus negative", ["{}: resources.cpus is -1", "above 0"], resources="{cpus: -1}"),
    study("threads 0", ["{}: resources.threads is 0", "at least 1"], resources="{threads: 0}"),
    study("gpu hours without GPUs", ["{}: budget.gpu_hours", "resources: {gpus"], budget="{gpu_hours: 2}"),
    study("GPUs on a CPU", ["{}: resources.gpus is 1 with device: cpu"], resources="{gpus: 1, device: cpu}"),
    study("float8", ["{}: resources.precision is 'float8'", "bfloat16"], resources="{precision: float8}"),
    study("training: precision", ["{}: training.precision is 'float8'", "bfloat16"], training="{precision: float8}"),
    study("training: unknown", ["{}: training.clip is not a training option", "clip_norm"], training="{clip: 1}"),
    study("recipe, its old name", ["{}: recipe.clip is not a training option", "clip_norm"], recipe="{clip: 1}"),
    study(
        "both names",
        ["{}: recipe stands beside", "training, its name now", "Keep one."],
        recipe="{clip_norm: 1}",
        training="{clip_norm: 1}",
    ),
    study("training: bounds", ["{}: training.ema_decay is 2", "from 0"], training="{ema_decay: 2}"),
    study(
        "training: a word", ["{}: training.average.choices names 'ewa'", "ema"], training="{average: {choices: [ewa]}}"
    ),
    study(
        "training: batch size",
        ["training.batch_size is set", "does not take it", "expected a workload with 'batch_size'"],
        training="{batch_size: 64}",
    ),
    study(
        "training: smoothing",
        ["training.label_smoothing is set", "does not take it"],
        training="{label_smoothing: {low: 0, high: 0.2}}",
    ),
    study("device", ["{}: resources.device is 'gpu'", "auto, cpu, cuda"], resources="{device: gpu}"),
    study("storage a number", ["{}: storage is 5", "expected a text"], storage="5"),
    study("arms empty", ["{}: arms is []", "a list of texts"], arms="[]"),
    study("arms a text", ["{}: arms is 'sgdm'", "a list of texts"], arms="sgdm"),
    study("unknown arm", ["{}: arms names 'lyon'", "sgdm, adamw, nadam"], arms="[sgdm, lyon]"),
    study("unknown space", ["{}: space", "'nosuch'", "sgdm-vs-adam", "YAML file"], space="nosuch"),
    study("space a list", ["{}: space", "expected one of"], space="[quick]"),
    study("current: no family", ["current.family is missing"], current="{learning_rate: 0.1}"),
    study(
        "current: unknown family", ["{}: current.family is 'sgdmm'", "Did you mean 'sgdm'?"], current="{family: sgdmm}"
    ),
    study(
        "current: out of bounds",
        ["{}: current.momentum", "is 2", "expected 0 to"],
        current="{family: sgdm, momentum: 2}",
    ),
    study("current: unknown value", ["{}: current.beta1", "learning_rate"], current="{family: sgdm, beta1: 0.9}"),
    study("current: a list", ["{}: current.momentum", "a number"], current="{family: sgdm, momentum: [0.9]}"),
    study(
        "current: schedule",
        ["{}: current.schedule", "'cosin'", "expected one of"],
        current="{family: sgdm, schedule: {kind: cosin}}",
    ),
    study(
        "current: far outside",
        ["{}: current", "learning_rate", "expected 0 to 10000"],
        current="{family: sgdm, learning_rate: 9000, momentum: 0.0}",
        space="sgdm-vs-adam",
        budget="{trials_per_arm: 12}",
    ),
    # the space
    arm("low above high", "{effective_learning_rate: {low: 3, high: 1}}", ".low is 3 but high is 1", "Swap them"),
    arm("low equals high", "{effective_learning_rate: {low: 1, high: 1}}", "low below high"),
    arm("log with 0", "{effective_learning_rate: {low: 0, high: 1, scale: log}}", ".low is 0 on a log", "or_zero"),
    arm("or_zero on linear", "{l2: {low: 0, high: 1, or_zero: true}}", ".or_zero", "scale: log", "low be 0"),
    arm("or_zero below floats", "{l2: {low: 1e-300, high: 1, scale: log, or_zero: true}}", "l2.low", "larger"),
    arm("opens_at 0", "{learning_rate: {low: 0.1, high: 1, opens_at: 0}}", "opens_at is 0", "at least 1"),
    arm("scale", "{learning_rate: {low: 0.1, high: 1, scale: ln}}", "scale is 'ln'", "linear, log"),
    arm("no high", "{learning_rate: {low: 0.1}}", "learning_rate.high is missing"),
    arm("infinite high", "{learning_rate: {low: 0.1, high: .inf}}", "high is inf", "from 0 to 10000"),
    arm("true as low", "{learning_rate: {low: true, high: 2}}", "low is True", "a number"),
    arm("beyond the bounds", "{one_minus_momentum: {low: 0.1, high: 2}}", "high is 2", "to 1"),
    arm("unknown hyperparameter", "{lr: {low: 0.1, high: 1}}", "lr is not a hyperparameter of sgdm", "learning_rate"),
    arm("two learning rates", f"{{learning_rate: 0.1, {SGD[1:-1]}}}", "stands beside", "Remove one"),
    arm(
        "nothing searched",
        "{learning_rate: 1, momentum: 0, l2: 0}",
        "searches nothing",
        "at least the learning rate",
    ),
    Case(
        "nothing opened",
        ["study.yaml:4: space", "opens no setting of arm 'sgdm' with 1 trials", "at least 9", "Raise trials_per_arm"],
        yaml_of({**GOOD, "space": "mine.yaml", "arms": None}),
        files={"mine.yaml": "name: m\narms: {sgdm: {learning_rate: {low: 0.1, high: 1, opens_at: 9}}}\n"},
    ),
    space("unknown family", ["{}: arms.lyon", "not an optimizer family", "Or add 'family"], arms=f"{{lyon: {SGD}}}"),
    space("family misspelt", ["arms.a.family is 'adamx'", "Did you mean"], arms="{a: {family: adamx}}"),
    space("an arm that is a path", ["{}: arms.../up", "cannot name an arm"], arms=f"{{../up: {SGD}}}"),
    space("an arm named current", ["{}: arms.current", "cannot name an arm"], arms=f"{{current: {SGD}}}"),
    space("no arms", ["{}: arms is empty", "at least one arm"], arms="{}"),
    space("arms a list", ["{}: arms", "expected a mapping"], arms="[sgdm]"),
    space("unknown key in a space", ["{}: shedule", "Did you mean 'schedule'?"], shedule="{kind: cosine}"),
    space("unknown schedule", ["{}: schedule.kind", "'triangle'", "cosine"], schedule="{kind: triangle}"),
    space(
        "unknown schedule in a choice",
        ["{}: schedule.kind.choices", "'cosin'", "cosine"],
        schedule="{kind: {choices: [wsd, cosin]}}",
    ),
    space("no choices", ["schedule.kind.choices is empty"], schedule="{kind: {choices: []}}"),
    space("choices a text", ["schedule.kind.choices", "a mapping"], schedule="{kind: {choices: cosine}}"),
    space("opened at 0", ["{}: schedule.kind.choices.wsd is 0"], schedule="{kind: {choices: {cosine: 1, wsd: 0}}}"),
    space("schedule parameter", ["{}: schedule.warm_up", "warmup"], schedule="{warm_up: 0.1}"),
    space("half a drop", ["schedule.drops.low is 1.5", "whole number"], schedule="{drops: {low: 1.5, high: 3}}"),
    # the workload
    study("no colon", ["{}: workload", "'mywork'", "'module:attribute'"], workload="mywork"),
    study("a file name", ["{}: workload", "'module:attribute'"], workload="my-work.py:Whole"),
    study("workload a list", ["{}: workload", "expected a mapping"], workload="[mywork]"),
    workload("no module", "nosuch:Whole", "has no module 'nosuch'", "Check the spelling"),
    workload("import error inside", "imports:Whole", "imports 'not_installed'", "Install 'not_installed'"),
    workload("bug at import", "broken:Whole", "raises ZeroDivisionError", "python -c 'import broken'"),
    workload("syntax error", "syntax:Whole", "raises SyntaxError", "expected a module that can be imported"),
    workload("no attribute", "mywork:Whle", "names 'Whle'", "Did you mean 'Whole'?"),
    workload("not a workload", "mywork:number", "of the type int", "expected a tuner.Workload"),
    workload("abstract", "mywork:Half", "does not override", "evaluate", "expected every abstract method"),
    workload("neither loss nor step", "mywork:Whole", "neither loss nor train_step"),
    workload("no metric", "mywork:Silent", "metric ''", "Set metric"),
    workload("direction of the class", "mywork:Sideways", "'up'", "'maximize' or 'minimize'"),
    workload("arity", "mywork:two", "(run, other)", "one argument, the run", "def train(run)"),
    study(
        "unknown option",
        ["'mywork:Choosy'", "does not take the options", "width"],
        workload="{path: 'mywork:Choosy', options: {depth: 3}}",
    ),
    study(
        "refused option",
        ["'mywork:Choosy'", "too wide"],
        workload="{path: 'mywork:Choosy', options: {width: 3}}",
    ),
    study("function without metric", ["metric is missing", "Add the key 'metric'"], workload="mywork:train"),
    study(
        "function without horizon",
        ["horizon is missing", "Add the key 'horizon'"],
        workload="mywork:train",
        horizon=None,
        metric="{name: loss, direction: minimize}",
    ),
    # storage
    command("storage nonsense", "run study.yaml --storage nonsense", "'nonsense'", "an SQLAlchemy URL", "sqlite:///"),
    stored("unknown database", "foo://a:hunter2@h/d", "foo", "SQLAlchemy"),
    stored("no driver", "oracle://a:hunter2@h/d", "driver is installed"),
    stored("port", "postgresql://a:hunter2@h:p/d", "port is not a", "%2F"),
    stored("no server", URL, "cannot be used", "and that it runs"),
    stored("password in the query", "postgresql+psycopg://127.0.0.1:1/a?password=hunter2", "***", "cannot be used"),
    command("password on the command line", f"status toy --storage {URL}", "***", "TUNER_STORAGE", hides="hunter2"),
    command("password for MLflow", "run study.yaml --tracking http://a:hunter2@h", "TUNER_TRACKING", hides="hunter2"),
    command("one database for both", "run study.yaml --tracking sqlite:///tuner.db", "expected two databases"),
    command("memory", "run study.yaml --storage sqlite://", "in memory", "sqlite:///tuner.db"),
    command("no folder", "run study.yaml --storage sqlite:///nosuch/a.db", "nosuch/a.db", "cannot be used"),
    command("no database", "run study.yaml --storage sqlite:///study.yaml", "file is not a database"),
    command("tracking into folders", "run study.yaml --tracking ./mlruns", "tracking is './mlruns'", "or none"),
    command("tracking nonsense", "run study.yaml --tracking foo://h", "tracking is 'foo://h'"),
    # command lines
    command("status, no database", "status toy", "sqlite:///tuner.db", "no tables of tuner", "--storage"),
    command("resume, no database", "resume toy", "no tables of tuner", "--storage"),
    command("recommend, no database", "recommend toy", "no tables of tuner", "--storage"),
    command("extend, no database", "extend toy --trials 3", "no tables of tuner", "--storage"),
    command("extend by 0", "extend toy --trials 0", "--trials", "x>=1"),
    command("optimizers", "optimizers nosuch", "'nosuch'", "sgd, sgdm, nag"),
    command("schedules", "schedules nosuch", "'nosuch'", "constant, linear, cosine"),
    command("spaces", "spaces nosuch", "'nosuch'", "quick", "YAML file"),
    command("unknown verb", "start study.yaml", "No such command 'start'"),
    command("unknown option", "run study.yaml --trails 3", "No such option", "--trails"),
    command("no argument", "run", "Missing argument"),
    command("executor", "run study.yaml --executor rai", "'ray', 'local'"),
    command("port of the page", "ui --port 99999", "--port", "65535"),
    command("mirror without MLflow", "mirror toy --tracking none", "tracking is 'none'", "--tracking"),
]


@pytest.fixture
def folder(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    modules = set(sys.modules)
    (working_folder / "mywork.py").write_text(WORKLOADS)
    (working_folder / "imports.py").write_text("import not_installed.deeply\n")
    (working_folder / "broken.py").write_text("1 / 0\n")
    (working_folder / "syntax.py").write_text("def (:\n")
    yield working_folder
    for name in {"mywork", "imports", "broken", "syntax"} & (set(sys.modules) - modules):
        del sys.modules[name]


def contents(folder: Path) -> dict[str, bytes]:
    skip = ("-wal", "-shm")
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(skip))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def prepare(case: Case, folder: Path) -> dict[str, bytes]:
    if case.study is not None:
        (folder / "study.yaml").write_text(case.study)
    for name, text in case.files.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return contents(folder)


def check(case: Case, code: int, output: str) -> None:
    missing = [word for word in case.says if word not in output]
    assert not missing, f"{missing} not in: {output}"
    assert code == 2, output
    assert "Traceback" not in output
    assert case.hides not in output


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_is_refused_with_a_message_and_nothing_written(case: Case, folder: Path) -> None:
    before = prepare(case, folder)
    result = CliRunner().invoke(main, list(case.args))
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    check(case, result.exit_code, result.output)
    assert contents(folder) == before
    assert not (folder / "studies").exists()


def test_names_are_told_apart() -> None:
    assert len({case.name + " ".join(case.args) for case in CASES}) == len(CASES) >= 35


PROCESSES = (
    "missing file",
    "not YAML",
    "misspelt key",
    "low above high",
    "no module",
    "no server",
    "status, no database",
)


@pytest.mark.parametrize("case", [case for case in CASES if case.name in PROCESSES], ids=lambda case: case.name)
def test_as_a_process(case: Case, folder: Path) -> None:
    before = prepare(case, folder)
    command = [sys.executable, "-m", "tuner", *case.args]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, env=environment)
    check(case, done.returncode, done.stderr)
    assert done.stdout == ""
    assert contents(folder) == before


class TestBesideAStudy:
    """Wrong command lines where a database with a study is."""

    @pytest.fixture(scope="class")
    def database(self, tmp_path_factory: pytest.TempPathFactory) -> bytes:
        from tuner.bootstrap import create, session
        from tuner.config.study_file import read_study_file
        from tuner.core.settings import Settings
        from tuner.resolve.asked import resolve

        place = tmp_path_factory.mktemp("beside")
        (place / "study.yaml").write_text(yaml_of(GOOD))
        spec = resolve(read_study_file(place / "study.yaml"))
        settings = Settings(f"sqlite:///{place}/tuner.db", "none", place / "studies")
        create(spec, settings)
        with session(spec, settings) as begun:
            begun.study.ask()
        with closing(sqlite3.connect(place / "tuner.db")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # all of it into the one file
        return (place / "tuner.db").read_bytes()

    @pytest.mark.parametrize(
        "case",
        [
            command("status", "status nosuch", "'nosuch'", "it holds: toy"),
            command("resume", "resume nosuch", "'nosuch'", "it holds: toy"),
            command("recommend", "recommend nosuch", "'nosuch'", "it holds: toy"),
            command("extend", "extend nosuch --trials 1", "'nosuch'", "it holds: toy"),
            command("recommend before a run", "recommend toy", "toy"),
            command("extend by nothing", "extend toy", "--trials N, --seeds N, --arm"),
            command("extend by a known arm", "extend toy --arm sgdm", "'sgdm' is in the study already"),
            command("extend by an unknown arm", "extend toy --arm lyon", "there is no arm 'lyon'", "nag"),
            command("extend by hours", "extend toy --hours 2", "--hours is for a study with a budget of hours"),
            study("another question", ["'toy'", "other settings", "tuner resume toy", "change 'study'"], seed="5"),
        ],
        ids=lambda case: case.name,
    )
    def test_is_refused(self, case: Case, folder: Path, database: bytes) -> None:
        (folder / "tuner.db").write_bytes(database)
        before = prepare(case, folder)
        result = CliRunner().invoke(main, list(case.args))
        assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
        check(case, result.exit_code, result.output)
        after = contents(folder)
        assert set(after) == set(before)
        assert all(after[name] == before[name] for name in after if name != "tuner.db")
