"""The verbs that answer: recommendations of studies and of recorded runs, reports, exports."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import click

from tuner.cli.options import main, make_console, places, without_password
from tuner.core.errors import InputError
from tuner.core.settings import Settings


@main.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with a schema_version.")
@places
def recommend(name: str, as_json: bool, storage: str | None, tracking: str | None) -> None:
    """Print the recommendation as the ledger stands."""

    from tuner import bootstrap, workflow
    from tuner.reporting import card

    with closing(bootstrap.open_ledger(Settings.from_environment(storage, tracking))) as ledger:
        evidence = workflow.analysis_of(ledger, name).evidence
    if as_json:
        click.echo(json.dumps(evidence.to_json(), indent=2, allow_nan=False))
        return
    console = make_console()
    console.print(card.render(evidence) if console.is_terminal else card.text(evidence), highlight=False)


@main.command()
@click.option("--runs", type=click.Path(path_type=Path), metavar="FILE", help="A row a run: CSV, or CSV by gzip.")
@click.option("--curves", type=click.Path(path_type=Path), metavar="FILE", help="A row a point of a run's curve.")
@click.option("--mlflow-experiment", metavar="NAME", help="Runs of an MLflow experiment instead.")
@click.option("--tracking", metavar="URI", callback=without_password, help="MLflow tracking URI of the experiment.")
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

    from tuner import bootstrap
    from tuner.analysis.analysis import Analysis
    from tuner.analysis.evidence import document
    from tuner.reporting import card
    from tuner.reporting.files import write_each

    studies = bootstrap.recorded_studies(runs, curves, mlflow_experiment, tracking, mapping, alpha, min_effect)
    analyses = [Analysis(records) for records in studies]
    answers = [analysis.answer for analysis in analyses]
    pages = write_each(analyses, report) if report else []
    if as_json:
        click.echo(json.dumps(document(answers), indent=2, allow_nan=False))
        return
    console = make_console()
    for answer in answers:
        console.print(card.render(answer) if console.is_terminal else card.text(answer), highlight=False)
    for page in pages:
        console.print(f"Report: {page}", highlight=False)


@main.command()
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Where; else beside the study.")
@places
def report(name: str, out: Path | None, storage: str | None, tracking: str | None) -> None:
    """Write the report of a study as the ledger stands: one HTML file, Markdown, JSON, pictures."""
    from tuner import bootstrap, workflow
    from tuner.reporting.files import write_all

    settings = Settings.from_environment(storage, tracking)
    with closing(bootstrap.open_ledger(settings)) as ledger:
        analysis = workflow.analysis_of(ledger, name)
    for path in write_all(analysis, out or settings.folder / name):
        click.echo(str(path))


@main.command("export-runs")
@click.argument("name")
@click.option("--runs", type=click.Path(path_type=Path), metavar="FILE", required=True, help="Where the runs go.")
@click.option("--curves", type=click.Path(path_type=Path), metavar="FILE", help="Where their curves go.")
@places
def export_runs(name: str, runs: Path, curves: Path | None, storage: str | None, tracking: str | None) -> None:
    """Write the runs of a study as tables that 'tuner analyze' reads (.csv or .csv.gz)."""
    from tuner import bootstrap, workflow

    with closing(bootstrap.open_ledger(Settings.from_environment(storage, tracking))) as ledger:
        count = workflow.export_runs(ledger, name, runs, curves)
    click.echo(f"Written: {count} runs of study {name} to {runs}" + (f", their curves to {curves}" if curves else ""))


@main.command()
@click.argument("name")
@click.option("--to", required=True, metavar="TARGET", help="torch, lightning, huggingface, timm or yaml.")
@click.option("--arm", metavar="ARM", help="That arm's finalist instead of what is recommended.")
@click.option("--steps", type=click.IntRange(min=1), help="Time it to so many optimizer steps.")
@click.option("--epochs", type=click.FloatRange(min=0, min_open=True), help="Time it to so many epochs.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write it there instead of here.")
@places
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
    from tuner.recommendation import Recommendation

    with closing(bootstrap.open_ledger(Settings.from_environment(storage, tracking))) as ledger:
        recommendation = Recommendation.of(workflow.analysis_of(ledger, name))
    exported = recommendation.export(to, arm=arm, total_steps=steps, epochs=epochs)
    if out is None:
        click.echo(exported.text, nl=False)
        return
    try:
        out.write_text(exported.text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--out is {str(out)!r}, which cannot be written: {error.strerror}. Take another.") from None
    click.echo(f"Written: {out}")
