"""Write docs/claims.md: common claims about optimizers, each tested by a study.

    python benchmarks/claims.py FOLDER        (or: make claims)

A widely read survey of 2021 repeats the claims, and compares thirteen optimizers. Each claim has a study file in
benchmarks/claims/ (the last one examples/seed_2021.yaml). A study that is already finished in FOLDER is read, not run
again. The rule for each answer is fixed below, before any study runs.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner import bootstrap, workflow
from tuner.analysis.evidence import Evidence
from tuner.analysis.verdict.decision import Pair
from tuner.config.study_file import read_study_file
from tuner.core.errors import TunerError
from tuner.core.settings import Settings
from tuner.core.values import short
from tuner.reporting import markdown, words

HERE = Path(__file__).parent
CONFIRMED, NOT, OPEN = "confirmed", "not confirmed", "inconclusive"


@dataclass(frozen=True, slots=True)
class Answer:
    """``kind`` is one of the three; ``text`` says it with figures."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim as it is usually said, the study file that tests it, and the rule that gives the answer."""

    said: str
    file: str
    judge: Callable[[Evidence], Answer]


def better(ours: Sequence[str], theirs: Sequence[str]) -> Callable[[Evidence], Answer]:
    """Judge that the best of ``ours`` beats the best of ``theirs``: by the study's own test of that pair."""

    def judge(evidence: Evidence) -> Answer:
        a, b = best(evidence, ours), best(evidence, theirs)
        pair, gain = paired(evidence, a, b)
        figures = (
            f"{a} − {b} in {evidence.metric}: {short(gain[0])} ({words.interval(*gain[1:])}), "
            f"{words.p_value(pair.p)}, {pair.n_pairs} pairs of fresh seeds"
        )
        sign = 1 if evidence.direction == "maximize" else -1
        if pair.verdict in ("a", "b"):
            won = gain[0] * sign > 0
            return Answer(CONFIRMED if won else NOT, f"{a if won else b} is better. {figures}.")
        if pair.verdict == "tie":
            return Answer(NOT, f"No practical difference: within ±{short(evidence.min_effect)}. {figures}.")
        return Answer(OPEN, f"Neither a difference nor its absence could be shown. {figures}.")

    return judge


def small(evidence: Evidence) -> Answer:
    """Judge that tuned optimizers differ little: the best leads fewer than half of the others by more than noise."""
    noise = evidence.min_effect or 0.0
    sign = 1 if evidence.direction == "maximize" else -1
    ranked = sorted((row for row in evidence.arms if row.mean is not None), key=lambda row: -sign * (row.mean or 0.0))
    leads = {row.arm: sign * ((ranked[0].mean or 0.0) - (row.mean or 0.0)) for row in ranked[1:]}
    far = [arm for arm, lead in leads.items() if lead > noise]
    shown = [p for p in evidence.pairs if ranked[0].arm in (p.a, p.b) and p.p_holm <= evidence.alpha]
    text = (
        f"{ranked[0].arm} leads with {short(ranked[0].mean)}; the median of the other {len(leads)} trails by "
        f"{short(statistics.median(leads.values()))}, the last ({ranked[-1].arm}) by {short(max(leads.values()))}. One "
        f"standard deviation of seed noise is {short(noise)}: {len(far)} of {len(leads)} trail by more than that"
        f"{' (' + ', '.join(far) + ')' if far else ''}, and {len(shown)} of {len(leads)} differences to the leader are "
        f"significant after Holm's correction at {evidence.alpha:g}."
    )
    return Answer(CONFIRMED if len(far) < len(leads) / 2 else NOT, text)


CLAIMS = (
    Claim("On a CNN, SGDM with a schedule beats Adam.", "cnn_with_schedule", better(["sgdm"], ["adam"])),
    Claim("On a CNN without a schedule, Adam beats SGDM.", "cnn_without_schedule", better(["adam"], ["sgdm"])),
    Claim("On a Transformer, the Adam family beats SGDM.", "transformer", better(["adam", "adamw"], ["sgdm"])),
    Claim("Decoupled weight decay beats L2 in Adam (CNN).", "decay_cnn", better(["adamw"], ["adam"])),
    Claim("Decoupled weight decay beats L2 in Adam (MLP).", "decay_mlp", better(["adamw"], ["adam"])),
    Claim("Once each is tuned, optimizers differ little (thirteen on a CNN).", "seed_2021", small),
)

WHY_LIMITED = """\
The workloads are tiny: 600 images of 8 x 8 pixels, 256 patients, a Transformer of some 100,000 parameters on the
reference manual of Python; trainings last seconds. What large networks are known for is absent here: SGDM's late
catch-up over hundreds of epochs, heavy-tailed gradients of large vocabularies, generalisation gaps on large image sets,
instabilities of scale. So a *confirmed* here says that the effect is large enough to be seen at this scale, a *not
confirmed* that it is not there at this scale, not that it is false; and every answer is about the settings that one
search of this budget found, not about the families. An image set of 600 pictures on which most settings reach 97 %
leaves less room for any optimizer to show itself than CIFAR-100 does. Run the study files on your own workload: that is
what they are for."""


def best(evidence: Evidence, arms: Sequence[str]) -> str:
    """Return the arm with the best mean on fresh seeds among ``arms``."""
    sign = 1 if evidence.direction == "maximize" else -1
    rows = [row for row in evidence.arms if row.arm in arms and row.mean is not None]
    return max(rows, key=lambda row: (sign * (row.mean or 0.0), row.arm)).arm


def paired(evidence: Evidence, a: str, b: str) -> tuple[Pair, tuple[float | None, float | None, float | None]]:
    """Return the row of a pair, and the difference a - b with its 95 % interval, whichever arm the row names first."""
    row = next(pair for pair in evidence.pairs if {pair.a, pair.b} == {a, b})
    if row.a == a:
        return row, (row.difference, row.ci_low, row.ci_high)
    turned = [None if value is None else -value for value in (row.difference, row.ci_high, row.ci_low)]
    return row, (turned[0], turned[1], turned[2])


def study(name: str, folder: Path) -> tuple[Evidence, str, int, float]:
    """Run a study file unless it is finished; return its evidence, its command, its runs and the seconds they took."""
    path = next(p for p in (HERE / "claims" / f"{name}.yaml", HERE.parent / "examples" / f"{name}.yaml") if p.is_file())
    spec = read_study_file(path)
    settings = Settings(storage=f"sqlite:///{folder}/tuner.db", folder=folder / "studies")
    ledger = bootstrap.open_ledger(settings)
    try:
        if ledger.study(spec.name).state != "finished":
            raise LookupError
    except (TunerError, LookupError):
        command = [sys.executable, "-m", "tuner", "run", str(path), "--tracking", "none"]
        subprocess.run(command, cwd=folder, check=True)
    evidence = workflow.analysis_of(ledger, spec.name).evidence
    ended = [run.result for run in ledger.runs(ledger.study(spec.name), measured=False) if run.result]
    ledger.close()
    seconds = max(result.finished_at for result in ended) - min(result.started_at for result in ended)
    return evidence, f"tuner run {path.relative_to(HERE.parent)}", len(ended), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    versions = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("torch", "optuna", "pytorch_optimizer"))
    machine = f"{os.cpu_count()} cores ({platform.machine()}, no GPU), Python {platform.python_version()}, {versions}"
    rows, parts = [], []
    for number, claim in enumerate(CLAIMS, start=1):
        evidence, command, runs, seconds = study(claim.file, folder)
        answer = claim.judge(evidence)
        rows.append((str(number), claim.said, f"**{answer.kind}**"))
        winner = evidence.verdict.sentence
        parts.append(
            f"## {number}. {claim.said}\n\n**{answer.kind.capitalize()}.** {answer.text}\n\n"
            f"The study's own verdict: {winner}\n\n{markdown.leaderboard(evidence)}\n\n"
            f"`{command}`: {runs} runs in {seconds:.0f} s."
        )
    page = [
        "# Claims of 2021, put to the test",
        f"Written by `make claims` (`python benchmarks/claims.py FOLDER`) on {time.strftime('%Y-%m-%d')}: a shared\n"
        f"virtual machine with {machine}.\n"
        "The script fixed the rule for each answer before any study ran. Intervals are 95 % intervals of paired\n"
        "differences on fresh seeds; [verdict.md](verdict.md) explains the tests. The machine had other work to do,\n"
        "so the seconds say nothing about speed.",
        markdown.table(("", "what is said", "here"), rows),
        "## How far this goes",
        WHY_LIMITED,
        *parts,
    ]
    (HERE.parent / "docs" / "claims.md").write_text("\n\n".join(page) + "\n")


if __name__ == "__main__":
    main()
