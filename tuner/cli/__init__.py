"""The command line: verbs that print and exit; no logic. Everything heavy is imported inside a verb."""

from tuner.cli import answers, lists, machine, studies
from tuner.cli.options import main

__all__ = ["answers", "lists", "machine", "main", "studies"]
