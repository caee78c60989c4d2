"""The verbs that show what there is to choose from: optimizers, schedules, spaces, recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tuner.cli.options import json_object, main, make_console
from tuner.core.errors import InputError


@main.command()
@click.argument("name", required=False)
@click.option("--no-measure", is_flag=True, help="Take the state from the table, and time nothing (instant).")
def optimizers(name: str | None, no_measure: bool) -> None:
    """Show the optimizer families, or one with its hyperparameters; state and step cost are measured here."""
    from tuner.catalog.families import FAMILIES, family
    from tuner.reporting import overview

    rows = [family(name)] if name else list(FAMILIES.values())
    measured = None if no_measure else _measured([row.name for row in rows])
    page = overview.family_page(rows[0], measured) if name else overview.families(measured)
    make_console().print(page, highlight=False)


def _measured(names: list[str]) -> dict[str, tuple[float, float]]:
    from tuner.training.optimizers.measure import costs

    return costs(names)


@main.command()
@click.argument("name", required=False)
@click.option("--plot", is_flag=True, help="Draw it here (all of them without a NAME).")
@click.option("--plot-file", type=click.Path(path_type=Path), metavar="FILE", help="Draw it into a .png or .svg file.")
def schedules(name: str | None, plot: bool, plot_file: Path | None) -> None:
    """Show the learning-rate schedules, or one with its parameters."""
    from tuner.catalog.schedules import SCHEDULES, Schedule
    from tuner.reporting import overview, schedule_plots

    if name and name not in SCHEDULES:
        raise InputError(f"schedule is {name!r}; expected one of {', '.join(SCHEDULES)}.")
    if plot_file is not None and plot_file.suffix not in (".png", ".svg"):
        raise InputError(f"--plot-file is {str(plot_file)!r}; expected a name that ends in .png or .svg.")
    console = make_console()
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
    from tuner.config.documents import read_yaml
    from tuner.config.shipped import find_space, list_spaces
    from tuner.config.space_files import read_space
    from tuner.reporting import overview, preview

    if name:
        path = find_space(name)
        make_console().print(preview.space_table(read_space(read_yaml(path), near=path.parent)))
    else:
        shipped = [read_space(read_yaml(path)) for path in list_spaces().values()]
        make_console().print(overview.spaces(shipped), highlight=False)


@main.command()
@click.argument("name", required=False)
@click.option("--for", "task", metavar="TASK", help="Only those for a task, such as image-classification.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def recipes(name: str | None, task: str | None, as_json: bool) -> None:
    """Show the recipe book: how well-known models were trained, or one recipe with YAML to paste."""

    from tuner.recipes import book
    from tuner.reporting import recipe_pages

    chosen = (book.find_recipe(name),) if name else book.all_recipes()
    chosen = book.for_task(chosen, task) if task else chosen
    if as_json:
        click.echo(json.dumps([recipe_pages.recipe_json(recipe) for recipe in chosen], indent=2))
    elif name:
        click.echo(recipe_pages.recipe_page(chosen[0]) if chosen else f"Recipe {name} is not for {task}.")
    else:
        make_console().print(recipe_pages.recipes(chosen), highlight=False)


@main.command()
@click.argument("workload")
@click.option(
    "--options",
    default="{}",
    metavar="JSON",
    callback=json_object,
    help="Its keyword arguments, such as '{\"width\": 16}'.",
)
@click.option("--pretrained", is_flag=True, help="The model is trained already: take recipes for fine-tuning.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with a schema_version.")
def suggest(workload: str, options: dict[str, Any], pretrained: bool, as_json: bool) -> None:
    """Look at the model of WORKLOAD (module:attribute) and name the nearest recipes. Trains nothing."""

    from tuner.reporting import recipe_pages
    from tuner.resolve.nearest import suggested

    nearest = suggested(workload, options, pretrained)
    parts = nearest.features, nearest.matches, nearest.document
    if as_json:
        click.echo(json.dumps(recipe_pages.suggestion_json(*parts), indent=2))
    else:
        click.echo(recipe_pages.suggestion(*parts))
