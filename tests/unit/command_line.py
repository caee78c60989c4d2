"""The command line in this process, and a study that trains in milliseconds."""

from __future__ import annotations

from click.testing import CliRunner, Result

from tuner.cli import main

STUDY = """\
study: toy
workload: tuner.training.workloads.toy:ToyQuadratic
horizon: {steps: 4}
space: quick
arms: [sgdm, adamw]
budget: {trials_per_arm: 2}
confirmation: {seeds: 2}
executor: local
"""


def tuner(*command: str, code: int = 0) -> Result:
    """Run a command, given in one text or several, that ends with an exit code."""
    result = CliRunner().invoke(main, [word for part in command for word in part.split()])
    assert result.exit_code == code, (result.output, result.exception)
    return result
