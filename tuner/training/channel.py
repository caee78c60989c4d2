"""How a training function's thread and the consumer of its measurements take turns; what is trained is in handle.py."""

from __future__ import annotations

from queue import SimpleQueue
from typing import TypeAlias, final

from tuner.core.records import Measurement

Message: TypeAlias = Measurement | BaseException | None
"""A measurement; or how the function ended: with an exception, or by returning (None)."""


class Stopped(BaseException):
    """Raised inside the user's function when its run is stopped; ``except Exception`` does not catch it."""


class Diverged(BaseException):
    """Raised inside the user's function when it reports a value that is not finite."""


@final
class Channel:
    """Passes control between the function's thread and the consumer, so that only one of them runs at a time."""

    def __init__(self) -> None:
        self._to_consumer: SimpleQueue[Message] = SimpleQueue()
        self._to_function: SimpleQueue[bool] = SimpleQueue()

    def hand_over(self, measurement: Measurement) -> None:
        """Give the consumer a measurement and wait until it asks for the next. For the function's thread.

        Raises:
            Stopped: the consumer stops the run.
        """
        self._to_consumer.put(measurement)
        if not self._to_function.get():
            raise Stopped

    def end(self, error: BaseException | None) -> None:
        """Tell the consumer that the function returned, or what it raised. For the function's thread."""
        self._to_consumer.put(error)

    def receive(self) -> Message:
        """Wait for the function's next measurement, or its end. For the consumer."""
        return self._to_consumer.get()

    def resume(self) -> None:
        """Let the function go on. For the consumer."""
        self._to_function.put(True)

    def stop(self) -> None:
        """Let ``hand_over`` raise in the function. For the consumer."""
        self._to_function.put(False)
