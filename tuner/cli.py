"""The command line: verbs that print and exit; no logic. Everything heavy is imported inside a verb."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuner.errors import InputError, TunerError
from tuner.settings import DEFAULT_STORAGE, Settings, hide_secrets

if TYPE_CHECKING:
    from rich.console import Console

    from tuner.spec import StudySpec

INTERRUPTED = 130


class _Group(click.Group):
    """Turns our errors into one message and an exit code; a traceback is for bugs of tuner only."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TunerError as error:
            click.echo(f"tuner: {hide_secrets(str(error))}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tuner", prog_name="tuner")
def main() -> None:
    """Which optimizer, which learning-rate schedule, at which settings, and how sure are we?

    Start with: tuner check STUDY.yaml, then tuner run STUDY.yaml.
    """
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))


def _without_password(_context: click.Context, option: click.Parameter, url: str | None) -> str | None:
    """Every user of the machine, and Ray's list of jobs, can read a command line."""
    if url and hide_secrets(url) != url:
        name = f"TUNER_{str(option.name).upper()}"
        raise InputError(
            f"--{option.name} is {hide_secrets(url)!r}, with a password; expected none on a command line, which "
            f"others can read. Put the URL into the environment variable {name}, or into the study file."
        )
    return url


def _places(command: Callable[..., Any]) -> Callable[..., Any]:
    tracking = click.option(
        "--tracking", metavar="URI", callback=_without_password, help="MLflow tracking URI, or 'none'."
    )
    storage = click.option("--storage", metavar="URL", callback=_without_password, help="SQLAlchemy URL of the ledger.")
    return storage(tracking(command))


def _driving(command: Callable[..., Any]) -> Callable[..., Any]:
    option = click.option("--ray-address", envvar="TUNER_RAY_ADDRESS", metavar="ADDR", help="An existing Ray cluster.")
    return _places(option(command))


# -- studies


@main.command()
@click.argument("study_file", type=click.Path(path_type=Path))
@click.option("--executor", type=click.Choice(["ray", "local"]), help="Instead of the study file's.")
@_driving
def run(
    study_file: Path, executor: str | None, storage: str | None, tracking: str | None, ray_address: str | None
) -> None:
    """Run a study file to its verdict (or go on with it)."""
    from tuner import bootstrap
    from tuner.spec import read_spec_file

    spec = read_spec_file(study_file)
    spec = bootstrap.resolved(replace(spec, executor=executor) if executor else spec)
    settings = bootstrap.settings_for(spec, storage, tracking)
    _drive(bootstrap.create(spec, settings), settings, ray_address)


@main.command()
@click.argument("name")
@_driving
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
@_driving
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

    console = _console()
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
        evidence = workflow.answer(session.ledger, spec.name)
        console.print(card.render(evidence) if console.is_terminal else card.text(evidence), highlight=False)
        files = f"{session.folder}/recommendation.md, .json, report.html, and the pictures"
        console.print(f"Files: {files}", highlight=False)
        if not shown:
            again = f"MLflow does not show everything yet; the ledger does. Catch up with: tuner mirror {spec.name}"
            console.print(again, highlight=False)


def _elsewhere(settings: Settings) -> str:
    """How to find the database again, where it is not the default one; its URL may hold a password."""
    known = (DEFAULT_STORAGE, os.environ.get("TUNER_STORAGE"))
    return "" if settings.storage in known else f" --storage {hide_secrets(settings.storage)}"


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
    from tuner.reporting import preview
    from tuner.spec import read_spec_file

    spec = bootstrap.resolved(read_spec_file(study_file))
    if spec.warm_start:
        spec = bootstrap.foreseen(spec, bootstrap.settings_for(spec, None, None))
    console = _console()
    for part in preview.pages(spec):
        console.print(part)
    for part in preview.groups(spec):
        console.print(part)
    if not no_timing:
        console.print(preview.cost(spec, preview.timed(spec)))


@main.command("list")
@_places
def list_(storage: str | None, tracking: str | None) -> None:
    """List the studies of the database."""
    from tuner import bootstrap
    from tuner.reporting import overview

    ledger = bootstrap.open_ledger(Settings.from_environment(storage, tracking))
    try:
        rows = ledger.studies() if ledger.ready() else []
        holders = {row.name: ledger.holder(row) for row in rows}
        counts = {row.name: len(ledger.runs(row, measured=False)) for row in rows}
        _console().print(overview.studies(rows, holders, counts))
    finally:
        ledger.close()


@main.command()
@click.argument("name")
@_places
def status(name: str, storage: str | None, tracking: str | None) -> None:
    """Show where a study stands."""
    from tuner import bootstrap
    from tuner.reporting import overview
    from tuner.spec import stored_spec

    ledger = bootstrap.open_ledger(Settings.from_environment(storage, tracking))
    try:
        row = ledger.study(name)
        spec = stored_spec(row.spec, name)
        view = overview.status(row, spec, ledger.trials(row), ledger.runs(row), ledger.holder(row))
        _console().print(view, highlight=False)
    finally:
        ledger.close()


@main.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with a schema_version.")
@_places
def recommend(name: str, as_json: bool, storage: str | None, tracking: str | None) -> None:
    """Print the recommendation as the ledger stands."""
    import json

    from tuner import bootstrap, workflow
    from tuner.reporting import card

    ledger = bootstrap.open_ledger(Settings.from_environment(storage, tracking))
    try:
        evidence = workflow.answer(ledger, name)
    finally:
        ledger.close()
    if as_json:
        click.echo(json.dumps(evidence.to_json(), indent=2, allow_nan=False))
        return
    console = _console()
    console.print(card.render(evidence) if console.is_terminal else card.text(evidence), highlight=False)


# -- recorded runs


@main.command()
@click.option("--runs", type=click.Path(path_type=Path), metavar="FILE", help="A row a run: CSV, or CSV by gzip.")
@click.option("--curves", type=click.Path(path_type=Path), metavar="FILE", help="A row a point of a run's curve.")
@click.option("--mlflow-experiment", metavar="NAME", help="Runs of an MLflow experiment instead.")
@click.option(
    "--tracking", metavar="URI", callback=_without_password, help="MLflow tracking URI of the experiment."
)
@click.option(
    "--mapping", type=click.Path(path_type=Path), metavar="FILE", help="Which param, tag, metric is what (YAML)."
)
@click.option("--min-effect", type=click.FloatRange(min=0), help="The smallest difference that matters in practice.")
@click.option("--alpha", type=click.FloatRange(0, 0.5, min_open=True), default=0.05, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="As JSON, with a schema_version.")
@click.option("--report", type=click.Path(path_type=Path), metavar="FOLDER", help="Write the report there, too.")
def analyze(
    runs: Path | None,
    curves: Path | None,
    mlflow_experiment: str | None,
    tracking: str | None,
    mapping: Path | None,
    min_effect: float | None,
    alpha: float,
    as_json: bool,
    report: Path | None,
) -> None:
    """Recommend from runs that anybody made: tables, or an MLflow experiment."""
    import json

    from tuner import answers, bootstrap
    from tuner.analysis.evidence import document
    from tuner.reporting import card

    studies = bootstrap.recorded_studies(runs, curves, mlflow_experiment, tracking, mapping, alpha, min_effect)
    given = answers.analyse(studies)
    pages = answers.report_recorded(studies, report) if report else []
    if as_json:
        click.echo(json.dumps(document(given), indent=2, allow_nan=False))
        return
    console = _console()
    for found in given:
        console.print(card.render(found) if console.is_terminal else card.text(found), highlight=False)
    for page in pages:
        console.print(f"Report: {page}", highlight=False)


@main.command()
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Where; else beside the study.")
@_places
def report(name: str, out: Path | None, storage: str | None, tracking: str | None) -> None:
    """Write the report of a study as the ledger stands: one HTML file, Markdown, JSON, pictures."""
    from tuner import answers, bootstrap
    from tuner.reporting.files import write_all

    settings = Settings.from_environment(storage, tracking)
    ledger = bootstrap.open_ledger(settings)
    try:
        found = answers.stored_dossier(ledger, name)
    finally:
        ledger.close()
    for path in write_all(found, out or settings.folder / name):
        click.echo(str(path))


@main.command("export-runs")
@click.argument("name")
@click.option("--runs", type=click.Path(path_type=Path), metavar="FILE", required=True, help="Where the runs go.")
@click.option("--curves", type=click.Path(path_type=Path), metavar="FILE", help="Where their curves go.")
@_places
def export_runs(name: str, runs: Path, curves: Path | None, storage: str | None, tracking: str | None) -> None:
    """Write the runs of a study as tables that 'tuner analyze' reads (.csv or .csv.gz)."""
    from tuner import answers, bootstrap

    ledger = bootstrap.open_ledger(Settings.from_environment(storage, tracking))
    try:
        count = answers.export_runs(ledger, name, runs, curves)
    finally:
        ledger.close()
    click.echo(f"Written: {count} runs of study {name} to {runs}" + (f", their curves to {curves}" if curves else ""))


@main.command()
@click.argument("name")
@click.option("--to", required=True, metavar="TARGET", help="torch, lightning, huggingface, timm or yaml.")
@click.option("--arm", metavar="ARM", help="That arm's finalist instead of what is recommended.")
@click.option("--steps", type=click.IntRange(min=1), help="Time it to so many optimizer steps.")
@click.option("--epochs", type=click.FloatRange(min=0, min_open=True), help="Time it to so many epochs.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write it there instead of here.")
@_places
def export(
    name: str,
    to: str,
    arm: str | None,
    steps: int | None,
    epochs: float | None,
    out: Path | None,
    storage: str | None,
    tracking: str | None,
) -> None:
    """Write the recommended setting as code, as a command line or as YAML."""
    from tuner import bootstrap, workflow
    from tuner.reporting.build import Recommendation

    ledger = bootstrap.open_ledger(Settings.from_environment(storage, tracking))
    try:
        recommendation = Recommendation(workflow.answer(ledger, name))
    finally:
        ledger.close()
    found = recommendation.export(to, arm=arm, total_steps=steps, epochs=epochs)
    if out is None:
        click.echo(found.text, nl=False)
        return
    try:
        out.write_text(found.text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--out is {str(out)!r}, which cannot be written: {error.strerror}. Take another.") from None
    click.echo(f"Written: {out}")


# -- tables


@main.command()
@click.argument("name", required=False)
@click.option("--no-measure", is_flag=True, help="Take the state from the table, and time nothing (instant).")
def optimizers(name: str | None, no_measure: bool) -> None:
    """Show the optimizer families, or one with its hyperparameters; state and step cost are measured here."""
    from tuner.families import FAMILIES, family
    from tuner.reporting import overview

    rows = [family(name)] if name else list(FAMILIES.values())
    measured = None if no_measure else _measured([row.name for row in rows])
    page = overview.family_page(rows[0], measured) if name else overview.families(measured)
    _console().print(page, highlight=False)


def _measured(names: list[str]) -> dict[str, tuple[float, float]]:
    from tuner.training.optimizers.measure import costs

    return costs(names)


@main.command()
@click.argument("name", required=False)
@click.option("--plot", is_flag=True, help="Draw it here (all of them without a NAME).")
@click.option("--plot-file", type=click.Path(path_type=Path), metavar="FILE", help="Draw it into a .png or .svg file.")
def schedules(name: str | None, plot: bool, plot_file: Path | None) -> None:
    """Show the learning-rate schedules, or one with its parameters."""
    from tuner.reporting import overview, schedule_plots
    from tuner.schedules import SCHEDULES, Schedule

    if name and name not in SCHEDULES:
        raise InputError(f"schedule is {name!r}; expected one of {', '.join(SCHEDULES)}.")
    if plot_file is not None and plot_file.suffix not in (".png", ".svg"):
        raise InputError(f"--plot-file is {str(plot_file)!r}; expected a name that ends in .png or .svg.")
    console = _console()
    console.print(overview.schedule_page(SCHEDULES[name]) if name else overview.schedules(), highlight=False)
    for kind in [name] if name else SCHEDULES:
        if plot:
            console.print(f"\n{kind}", highlight=False)
            console.print(schedule_plots.sketch(Schedule.of({"kind": kind, "warmup": 0.05}), 72, 8), highlight=False)
    if plot_file is not None:
        drawn = schedule_plots.plot(name, plot_file) if name else schedule_plots.plot_all(plot_file)
        console.print(f"Drawn: {drawn}", highlight=False)


@main.command()
@click.argument("name", required=False)
def spaces(name: str | None) -> None:
    """Show the search spaces, or one (a name or a YAML file) as a table."""
    from tuner.documents import read_yaml
    from tuner.reporting import overview, preview
    from tuner.space_files import find_space, list_spaces, read_space

    if name:
        path = find_space(name)
        _console().print(preview.space_table(read_space(read_yaml(path), near=path.parent)))
    else:
        found = [read_space(read_yaml(path)) for path in list_spaces().values()]
        _console().print(overview.spaces(found), highlight=False)


@main.command()
@click.argument("name", required=False)
@click.option("--for", "task", metavar="TASK", help="Only those for a task, such as image-classification.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def recipes(name: str | None, task: str | None, as_json: bool) -> None:
    """Show the recipe book: how well-known models were trained, or one recipe with YAML to paste."""
    import json

    from tuner import recipe_book
    from tuner.reporting import recipe_pages

    found = (recipe_book.find_recipe(name),) if name else recipe_book.all_recipes()
    found = recipe_book.for_task(found, task) if task else found
    if as_json:
        click.echo(json.dumps([recipe_pages.recipe_json(recipe) for recipe in found], indent=2))
    elif name:
        click.echo(recipe_pages.recipe_page(found[0]) if found else f"Recipe {name} is not for {task}.")
    else:
        _console().print(recipe_pages.recipes(found), highlight=False)


@main.command()
@click.argument("workload")
@click.option("--options", default="{}", metavar="JSON", help="Its keyword arguments, such as '{\"width\": 16}'.")
@click.option("--pretrained", is_flag=True, help="The model is trained already: take recipes for fine-tuning.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with a schema_version.")
def suggest(workload: str, options: str, pretrained: bool, as_json: bool) -> None:
    """Look at the model of WORKLOAD (module:attribute) and name the nearest recipes. Trains nothing."""
    import json

    from tuner import head_start
    from tuner.reporting import recipe_pages

    features, matches, document = head_start.suggested(workload, head_start.options_of(options), pretrained)
    if as_json:
        click.echo(json.dumps(recipe_pages.suggestion_json(features, matches, document), indent=2))
    else:
        click.echo(recipe_pages.suggestion(features, matches, document))


# -- MLflow and the machine


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535))
@_places
def ui(host: str, port: int, storage: str | None, tracking: str | None) -> None:
    """Open MLflow on the studies' data."""
    from tuner.tracking.ui import serve_ui

    sys.exit(serve_ui(Settings.from_environment(storage, tracking).tracking, host, port, click.echo))


@main.command()
@click.argument("name")
@click.option("--follow", is_flag=True, help="Go on until standard input is closed (used by the driver).")
@click.option("--rebuild", is_flag=True, help="Show everything again, from the ledger.")
@_places
def mirror(name: str, follow: bool, rebuild: bool, storage: str | None, tracking: str | None) -> None:
    """Bring MLflow up to date with the ledger."""
    from tuner import bootstrap
    from tuner.tracking.follow import alone, serve

    settings = bootstrap.settings_for(None, storage, tracking)
    if settings.tracking == "none":
        raise InputError("tracking is 'none'; expected an MLflow tracking URI. Give one with --tracking.")
    mirrored = bootstrap.make_mirror(name, settings)
    if follow:
        sys.exit(serve(mirrored, sys.stdin, settings.folder / name))
    with alone(settings.folder / name):
        changes = mirrored.rebuild() if rebuild else mirrored.catch_up()
    click.echo(f"MLflow shows study {name}: {changes} changes brought over.")


@main.command()
@_driving
def doctor(storage: str | None, tracking: str | None, ray_address: str | None) -> None:
    """Check the installation: versions, devices, database, MLflow, Ray."""
    from tuner import bootstrap
    from tuner.reporting import overview

    settings = Settings.from_environment(storage, tracking)
    table, healthy = overview.health(bootstrap.examine(settings, ray_address))
    _console().print(table, highlight=False)
    sys.exit(0 if healthy else 1)


def _console() -> Console:
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120
    return Console(width=width, soft_wrap=not sys.stdout.isatty())
