"""The verbs that make, drive and watch studies."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuner.cli.options import INTERRUPTED, driving, main, make_console, places
from tuner.core.ports import EXECUTORS
from tuner.core.settings import DEFAULT_STORAGE, Settings, hide_secrets

if TYPE_CHECKING:
    from tuner.config.spec import StudySpec


@main.command()
@click.argument("study_file", type=click.Path(path_type=Path))
@click.option("--executor", type=click.Choice(EXECUTORS), help="Instead of the study file's.")
@driving
def run(
    study_file: Path, executor: str | None, storage: str | None, tracking: str | None, ray_address: str | None
) -> None:
    """Run a study file to its verdict (or go on with it)."""
    from tuner import bootstrap
    from tuner.config.study_file import read_study_file
    from tuner.resolve.asked import resolve

    file = read_study_file(study_file)
    spec = resolve(replace(file, executor=executor) if executor else file)
    settings = bootstrap.settings_for(file, storage, tracking)
    _drive(bootstrap.create(spec, settings), settings, ray_address)


@main.command()
@click.argument("name")
@driving
def resume(name: str, storage: str | None, tracking: str | None, ray_address: str | None) -> None:
    """Go on with a study after a stop, a kill or a crash."""
    from tuner import bootstrap

    spec = bootstrap.stored(name, bootstrap.settings_for(None, storage, tracking))
    _drive(spec, bootstrap.settings_for(spec, storage, tracking), ray_address)


@main.command()
@click.argument("name")
@click.option("--trials", type=click.IntRange(min=1), help="So many more trials per arm.")
@click.option("--seeds", type=click.IntRange(min=1), help="So many seeds for each finalist, in all.")
@click.option("--arm", metavar="FAMILY", help="One more arm.")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), help="So many more hours of search.")
@driving
def extend(
    name: str,
    trials: int | None,
    seeds: int | None,
    arm: str | None,
    hours: float | None,
    storage: str | None,
    tracking: str | None,
    ray_address: str | None,
) -> None:
    """Extend a study and go on: more trials, more seeds, another arm, more hours."""
    from tuner import bootstrap, workflow

    before = bootstrap.stored(name, bootstrap.settings_for(None, storage, tracking))
    settings = bootstrap.settings_for(before, storage, tracking)
    spec = workflow.extend(before, trials=trials or 0, seeds=seeds or 0, arm=arm, hours=hours or 0.0)
    bootstrap.make_executor(spec, ray_address).close()  # refuses what cannot be gone on with, before anything changes
    bootstrap.update(spec, settings)
    _drive(spec, settings, ray_address)


def _drive(spec: StudySpec, settings: Settings, ray_address: str | None) -> None:
    from tuner import bootstrap, workflow
    from tuner.reporting import card, live, preview

    console = make_console()
    console.print(preview.confirmation(spec), highlight=False)
    with bootstrap.session(spec, settings, ray_address) as session:
        with _stopping(session.study.stop), live.watching(session.study.snapshot, console):
            shown = session.run()
        if not session.study.finished:
            why = session.study.snapshot().stopping
            console.print(
                f"Stopped ({why}); nothing is lost. Go on with: tuner resume {spec.name}{_elsewhere(settings)}",
                highlight=False,
            )
            sys.exit(INTERRUPTED)
        evidence = workflow.analysis_of(session.ledger, spec.name).evidence
        console.print(card.render(evidence) if console.is_terminal else card.text(evidence), highlight=False)
        files = f"{session.folder}/recommendation.md, .json, report.html, and the pictures"
        console.print(f"Files: {files}", highlight=False)
        if not shown:
            again = f"MLflow does not show everything yet; the ledger does. Catch up with: tuner mirror {spec.name}"
            console.print(again, highlight=False)


def _elsewhere(settings: Settings) -> str:
    """How to find the database again, where it is not the default one; its URL may hold a password."""
    found_anyway = (DEFAULT_STORAGE, os.environ.get("TUNER_STORAGE"))
    return "" if settings.storage in found_anyway else f" --storage {hide_secrets(settings.storage)}"


@contextmanager
def _stopping(stop: Callable[[str], None]) -> Iterator[None]:
    """Ctrl-C (and a polite kill) stops the study cleanly; a second one stops at once."""

    def on_signal(number: int, _frame: Any) -> None:
        if number in seen:
            raise KeyboardInterrupt
        seen.add(number)
        stop("interrupted")
        click.echo("Stopping after the next measurement of each run; once more stops at once.", err=True)

    seen: set[int] = set()
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@main.command()
@click.argument("study_file", type=click.Path(path_type=Path))
@click.option("--no-timing", is_flag=True, help="Do not train a step of each arm.")
def check(study_file: Path, no_timing: bool) -> None:
    """Dry run: what will be searched, confirmed and spent. Writes nothing."""
    from tuner import bootstrap
    from tuner.config.study_file import read_study_file
    from tuner.reporting import preview
    from tuner.resolve.asked import resolve

    file = read_study_file(study_file)
    spec = resolve(file)
    if spec.warm_start:
        spec = bootstrap.foreseen(spec, bootstrap.settings_for(file, None, None))
    console = make_console()
    for part in preview.pages(spec):
        console.print(part)
    for part in preview.groups(spec):
        console.print(part)
    if not no_timing:
        console.print(preview.cost(spec, preview.timed(spec)))


@main.command("list")
@places
def list_(storage: str | None, tracking: str | None) -> None:
    """List the studies of the database."""
    from tuner import bootstrap
    from tuner.reporting import overview

    with closing(bootstrap.open_ledger(Settings.from_environment(storage, tracking))) as ledger:
        rows = ledger.studies() if ledger.ready() else []
        holders = {row.name: ledger.holder(row) for row in rows}
        counts = {row.name: len(ledger.runs(row, measured=False)) for row in rows}
        make_console().print(overview.studies(rows, holders, counts))


@main.command()
@click.argument("name")
@places
def status(name: str, storage: str | None, tracking: str | None) -> None:
    """Show where a study stands."""
    from tuner import bootstrap
    from tuner.reporting import overview

    with closing(bootstrap.open_ledger(Settings.from_environment(storage, tracking))) as ledger:
        row = ledger.study(name)
        view = overview.status(row, ledger.records(name), ledger.holder(row))
        make_console().print(view, highlight=False)
