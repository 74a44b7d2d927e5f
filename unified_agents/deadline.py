"""When a task must have ended: one clock for all of its conversations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from unified_agents.clock import clock

TASK_TIMEOUT = 600.0


class Deadline:
    """A task's time, in seconds. What a person takes to answer does not count against it."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds or TASK_TIMEOUT
        self._end = clock().now() + self.seconds
        self._questions = 0

    def left(self) -> float:
        """Seconds until the end; a moment more as long as a person is being asked."""
        return 1.0 if self._questions else self._end - clock().now()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While a person is being asked."""
        began = clock().now()
        self._questions += 1
        try:
            yield
        finally:
            self._questions -= 1
            self._end += clock().now() - began
