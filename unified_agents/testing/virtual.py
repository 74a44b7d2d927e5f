"""Virtual time: an event loop in which waiting takes none, for simulations of minutes and hours.

::

    async def outage(): ...                        # asyncio.sleep, timeouts, the layers' waits: all in virtual seconds
    run_virtual(outage())
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from unified_agents.clock import Clock, use_clock

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    """Does not wait: when nothing is ready it moves the loop's time on to the next timer."""

    moved = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready: list[Any] = super().select(0)
        if not ready and timeout:
            self.moved += timeout
        elif not ready and timeout is None:
            return super().select(0.001)  # only another thread can go on from here
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still while code runs, and jumps from timer to timer."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds."""
        return self._jumping.moved


class LoopClock(Clock):
    """The clock of a loop: virtual time for the layers."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        """The loop's time."""
        return self._loop.time()

    def wall(self) -> float:
        """As `now`."""
        return self._loop.time()


def run_virtual(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a virtual loop of its own, with the layers going by its time."""
    loop = VirtualLoop()
    try:
        with use_clock(LoopClock(loop)):
            return loop.run_until_complete(work)
    finally:
        loop.close()
