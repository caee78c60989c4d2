"""The verbs around MLflow and this machine."""

from __future__ import annotations

import sys

import click

from tuner.cli.options import driving, main, make_console, places
from tuner.core.errors import InputError
from tuner.core.settings import Settings


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535))
@places
def ui(host: str, port: int, storage: str | None, tracking: str | None) -> None:
    """Open MLflow on the studies' data."""
    from tuner.tracking.ui import serve_ui

    sys.exit(serve_ui(Settings.from_environment(storage, tracking).tracking, host, port, click.echo))


@main.command()
@click.argument("name")
@click.option("--follow", is_flag=True, help="Go on until standard input is closed (used by the driver).")
@click.option("--rebuild", is_flag=True, help="Show everything again, from the ledger.")
@places
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
@driving
def doctor(storage: str | None, tracking: str | None, ray_address: str | None) -> None:
    """Check the installation: versions, devices, database, MLflow, Ray."""
    from tuner.doctor import examine
    from tuner.reporting import overview

    settings = Settings.from_environment(storage, tracking)
    table, healthy = overview.health(examine(settings, ray_address))
    make_console().print(table, highlight=False)
    sys.exit(0 if healthy else 1)
