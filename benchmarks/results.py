"""Update docs/results.md: run the three examples to their verdicts, then the three speed benchmarks.

    python benchmarks/results.py FOLDER [--no-speed]

Studies that are already finished in FOLDER are read, not run again. So is the earlier output of a benchmark
(FOLDER/overhead.txt, side_by_side.txt, training_loop.txt). Sections of other scripts (calibration, rungs, replays) stay
unchanged.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from tuner import bootstrap, workflow
from tuner.core.errors import TunerError
from tuner.core.settings import Settings
from tuner.reporting import card, markdown

ROOT = Path(__file__).parent.parent
EXAMPLES = ("digits", "tabular", "chars_transformer")


def study(example: str, folder: Path) -> str:
    """Run one example unless it is finished; return its section: card, table of arms, number of runs and seconds."""
    name = example.replace("_", "-")
    settings = Settings(storage=f"sqlite:///{folder}/tuner.db", folder=folder / "studies")
    ledger = bootstrap.open_ledger(settings)
    try:
        if ledger.study(name).state != "finished":
            raise LookupError
    except (TunerError, LookupError):
        command = [sys.executable, "-m", "tuner", "run", str(ROOT / "examples" / f"{example}.yaml")]
        subprocess.run(command, cwd=folder, check=True)
    row = ledger.study(name)
    evidence = workflow.analysis_of(ledger, name).evidence
    ended = [run.result for run in ledger.runs(row, measured=False) if run.result]
    seconds = max(result.finished_at for result in ended) - min(result.started_at for result in ended)
    ledger.close()
    return (
        f"## `tuner run examples/{example}.yaml`\n\n```text\n{card.text(evidence).rstrip()}\n```\n\n"
        f"{markdown.leaderboard(evidence)}\n\n{len(ended)} runs in {seconds:.0f} s, from the start of the first to "
        "the end of the last.\n"
    )


def speed(script: str, folder: Path) -> str:
    """Run one benchmark unless FOLDER has its output; return the output as a section."""
    said = (folder / script).with_suffix(".txt")
    if not said.is_file():
        with said.open("w") as file:
            subprocess.run([sys.executable, str(ROOT / "benchmarks" / script)], stdout=file, check=True)
    lines = [line for line in said.read_text().splitlines() if not line.startswith("[")]
    text = "\n".join(line.split(", in /")[0] for line in lines)
    return f"## `python benchmarks/{script}`\n\n```text\n{text}\n```\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--no-speed", action="store_true")
    given = parser.parse_args()
    folder = given.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    versions = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("torch", "optuna", "ray", "mlflow"))
    machine = f"{os.cpu_count()} cores ({platform.machine()}, no GPU), Python {platform.python_version()}, {versions}"
    target = ROOT / "docs" / "results.md"
    sections = read_sections(target.read_text()) if target.is_file() else {}
    sections[""] = (
        "# Results\n\n"
        f"The examples ran by `python benchmarks/results.py FOLDER` on {time.strftime('%Y-%m-%d')}: a shared virtual\n"
        f"machine with {machine}.\n"
        "Seconds on a shared machine vary; read the ratios. The workloads are tiny: they show that the product works,\n"
        "not which optimizer is better on yours.\n"
    )
    written = [study(example, folder) for example in EXAMPLES]
    if not given.no_speed:
        written += [speed(name, folder) for name in ("overhead.py", "side_by_side.py", "training_loop.py")]
    for text in written:
        sections[text.partition("\n")[0]] = text
    target.write_text("\n".join(text.strip("\n") + "\n" for text in sections.values()))


def read_sections(text: str) -> dict[str, str]:
    """Split a page at its second-level headings; the part before the first one has the empty heading."""
    sections: dict[str, str] = {"": ""}
    heading = ""
    for line in text.splitlines():
        if line.startswith("## "):
            heading = line
            sections[heading] = ""
        sections[heading] += line + "\n"
    return sections


if __name__ == "__main__":
    main()
