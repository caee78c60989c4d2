"""What all verbs share: the group, the options that say where things are, the console; no verb stands here."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuner.core.errors import InputError, TunerError
from tuner.core.settings import hide_secrets

if TYPE_CHECKING:
    from rich.console import Console


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


def without_password(_context: click.Context, option: click.Parameter, url: str | None) -> str | None:
    """Every user of the machine, and Ray's list of jobs, can read a command line."""
    if url and hide_secrets(url) != url:
        name = f"TUNER_{str(option.name).upper()}"
        raise InputError(
            f"--{option.name} is {hide_secrets(url)!r}, with a password; expected none on a command line, which "
            f"others can read. Put the URL into the environment variable {name}, or into the study file."
        )
    return url


def json_object(_context: click.Context, option: click.Parameter, text: str) -> dict[str, Any]:
    """Read an option that is a JSON object."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"--{option.name} is {text!r}, no JSON ({error}); expected an object: '{{\"width\": 16}}'."
        ) from None
    if not isinstance(values, dict):
        raise InputError(f"--{option.name} is {text!r}; expected a JSON object: '{{\"width\": 16}}'.")
    return values


def places(command: Callable[..., Any]) -> Callable[..., Any]:
    tracking = click.option(
        "--tracking", metavar="URI", callback=without_password, help="MLflow tracking URI, or 'none'."
    )
    storage = click.option("--storage", metavar="URL", callback=without_password, help="SQLAlchemy URL of the ledger.")
    return storage(tracking(command))


def driving(command: Callable[..., Any]) -> Callable[..., Any]:
    option = click.option("--ray-address", envvar="TUNER_RAY_ADDRESS", metavar="ADDR", help="An existing Ray cluster.")
    return places(option(command))


def make_console() -> Console:
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120
    return Console(width=width, soft_wrap=not sys.stdout.isatty())
