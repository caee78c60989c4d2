"""The worker on Ray: a process that trains one run after the other; which runs is decided in the driver."""

from __future__ import annotations

import json
import pickle
import time
import traceback
from collections.abc import Generator
from typing import Any

from ray import tune

from tuner.core.records import Assignment, Measurement, Outcome, RunResult

SLICE_SECONDS = 0.5
"""How long a worker trains before it reports; one report may carry many measurements."""

IDLE_SECONDS = 0.05
"""How often a worker without a run reports, so that it can be given one."""


class TunerWorker(tune.Trainable):
    """A Tune trainable that is reused from run to run, so that torch, the workload and its data load once."""

    def setup(self, config: dict[str, Any], workload: bytes | None = None) -> None:
        """Begin the first run. ``workload`` is a pickled one that replaces what the runs name."""
        self._workload = pickle.loads(workload) if workload else None
        self._training: Generator[Measurement, None, RunResult] | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the run of a config, or idle if its assignment is empty; True says that the process can be reused."""
        from tuner.training.run import train

        self.cleanup()
        assignment = new_config["assignment"]
        if assignment:
            self._training = train(Assignment.from_json(json.loads(assignment)), self._workload)
        return True

    def step(self) -> dict[str, Any]:
        """Train for ``SLICE_SECONDS``; return the new measurements, or the result at the run's end."""
        if self._training is None:
            time.sleep(IDLE_SECONDS)
            return {"step": 0}
        measured: list[Measurement] = []
        until = time.monotonic() + SLICE_SECONDS
        try:
            while time.monotonic() < until:
                measured.append(next(self._training))
        except StopIteration as end:
            return self._ended(end.value)
        except Exception as error:  # errors of the user's code are outcomes, so this one is a bug of ours
            reason = f"{type(error).__name__}: {error}"
            trace = traceback.format_exc()
            return self._ended(RunResult(Outcome.FAILED, reason=reason, traceback=trace, finished_at=time.time()))
        return {"step": 1, "measurements": json.dumps([measurement.to_row() for measurement in measured])}

    def _ended(self, result: RunResult) -> dict[str, Any]:
        self._training = None
        return {"step": 1, "done": True, "result": json.dumps(result.to_json())}

    def cleanup(self) -> None:
        if self._training is not None:
            self._training.close()
            self._training = None
