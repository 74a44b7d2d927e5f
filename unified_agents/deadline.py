"""When a task must have ended: one clock for all of its conversations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from unified_agents.clock import clock
from unified_agents.engine import within
from unified_agents.errors import TaskTimeoutError
from unified_agents.spending import Spending

T = TypeVar("T")

TASK_TIMEOUT = 600.0


class Deadline:
    """A task's time, in seconds. It stands still while a person is being asked; the run's (`budget.seconds`) does not."""

    def __init__(self, seconds: float | None, spending: Spending | None = None) -> None:
        self.seconds = seconds or TASK_TIMEOUT
        self._spending = spending or Spending()
        self._end = clock().now() + self.seconds
        self._questions = 0
        self._since = 0.0

    def left(self) -> float:
        """Seconds until the end."""
        return self._end - (self._since if self._questions else clock().now())

    async def bound(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`, unless the time is up before.

        Raises:
            TaskTimeoutError: it is.
            BudgetExceededError: the run's is.
        """
        late = TaskTimeoutError(f"the task took longer than {self.seconds:g} s")

        async def bound() -> T:
            return await within(work(), self.left, late)

        return await self._spending.in_time(bound())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While a person is being asked; several questions at once count once."""
        if not self._questions:
            self._since = clock().now()
        self._questions += 1
        try:
            yield
        finally:
            self._questions -= 1
            if not self._questions:
                self._end += clock().now() - self._since
