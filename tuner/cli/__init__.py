"""The command line: verbs that print and exit; no logic. Everything heavy is imported inside a verb."""

from tuner.cli import answers, machine, studies, tables
from tuner.cli.common import main

__all__ = ["answers", "machine", "main", "studies", "tables"]
