"""The time that layers go by: one clock for a process, which tests replace so that minutes cost milliseconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar


class Clock:
    """Real time. All values are in seconds."""

    def now(self) -> float:
        """A clock that never goes back and that nobody sets."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since 1970, to read dates that a server sends; not used to measure."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    def sleep_blocking(self, seconds: float) -> None:
        """Wait, in a thread without a loop."""
        time.sleep(seconds)


async def sleep_unless(event: asyncio.Event, seconds: float, clock: Clock) -> None:
    """Wait for an event, so many seconds of a clock at most."""
    timer, waiter = asyncio.ensure_future(clock.sleep(seconds)), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({timer, waiter}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
        waiter.cancel()


class SkippingClock(Clock):
    """For tests: a wait takes no time and moves the clock on; `slept` holds every wait. For one waiter at a time."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._skipped = 0.0

    def now(self) -> float:
        """Real time and all that was skipped."""
        return super().now() + self._skipped

    def wall(self) -> float:
        """As `now`."""
        return super().wall() + self._skipped

    async def sleep(self, seconds: float) -> None:
        """Move on at once."""
        self.sleep_blocking(seconds)
        await asyncio.sleep(0)

    def sleep_blocking(self, seconds: float) -> None:
        """As `sleep`."""
        self.slept.append(seconds)
        self._skipped += seconds


C = TypeVar("C", bound=Clock)
_current = Clock()


def clock() -> Clock:
    """The clock in use."""
    return _current


@contextmanager
def use_clock(replacement: C) -> Iterator[C]:
    """Let everything in this process go by another clock for a while. For tests."""
    global _current
    before, _current = _current, replacement
    try:
        yield replacement
    finally:
        _current = before
