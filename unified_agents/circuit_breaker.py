"""A circuit breaker that counts within a time window, lets exactly so many probes through, and works from threads and loops alike.

::

    breaker = CircuitBreaker(failure_threshold=5, recovery_time=10)
    breaker.call(fetch, url)                  # or: await breaker.call_async(fetch, url)

closed: calls pass; it opens when, within `window` seconds, at least `failure_threshold` calls failed and they are at least `failure_rate` of the calls
that ended in it or are in flight. open: calls get `CircuitOpenError`. After the cool-down it is half-open: `probes` calls pass; one that succeeds closes
it, one that fails opens it again, for longer (1, 2, 4, 6 times `recovery_time`, then no longer). An answer to a call that began before the last
transition has no vote.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

from unified_agents.clock import Clock, sleep_unless
from unified_agents.clock import clock as current_clock
from unified_agents.errors import CircuitOpenError

logger = logging.getLogger("unified_agents")

T = TypeVar("T")
State = Literal["closed", "open", "half_open"]

_GROWTH = (1, 2, 4, 6)
_JITTER = 0.1


class Permit:
    """Leave to make one call; settled once: `succeed`, `fail`, or `give_back` for a call that says nothing of the model's health."""

    def __init__(self, breaker: CircuitBreaker, epoch: int) -> None:
        self._breaker, self._epoch, self._open = breaker, epoch, True

    def succeed(self) -> None:
        """The call was answered."""
        self._settle(vote=True)

    def fail(self, retry_after: float = 0.0, at_once: bool = False) -> None:
        """The call failed. `retry_after`: the least cool-down in seconds; `at_once`: open without counting."""
        self._settle(vote=False, retry_after=retry_after, at_once=at_once)

    def give_back(self) -> None:
        """The call was cancelled, or its outcome is no vote."""
        self._settle(vote=None)

    def _settle(self, vote: bool | None, retry_after: float = 0.0, at_once: bool = False) -> None:
        if self._open:
            self._open = False
            self._breaker._settled(self._epoch, vote, retry_after, at_once)


class CircuitBreaker:
    """One breaker: for one model at one address with one key, or for whatever else may fail. Safe to use from threads and loops together.

    `on_change(state, seconds)` is called at every transition, with the cool-down where it opens. Times are in seconds. Without a clock it goes by
    the process's.
    """

    def __init__(
        self, failure_threshold: int = 5, failure_rate: float = 0.5, window: float = 30.0, recovery_time: float = 10.0, *, probes: int = 1,
        clock: Clock | None = None, on_change: Callable[[State, float], Any] | None = None, name: str = "the call",
    ) -> None:  # fmt: skip
        self.name = name
        self.watchers: Counter[Callable[[str, State, float], Any]] = Counter()
        """Who else is told of transitions, with the breaker's name, and how often each asked to be."""
        self._on_change = on_change
        self._threshold, self._rate, self._window, self._recovery, self._probes = (
            failure_threshold,
            failure_rate,
            window,
            recovery_time,
            probes,
        )
        self._clock = clock
        self._lock = threading.RLock()
        self._state: State = "closed"
        self._ended: deque[tuple[float, bool]] = deque()
        self._failures = self._in_flight = self._epoch = self._opened = 0
        self._until = 0.0
        self._waiting: set[Callable[[], Any]] = set()

    @property
    def state(self) -> State:
        """closed, open or half_open, now."""
        with self._lock:
            self._look()
            return self._state

    @property
    def closed(self) -> bool:
        """Whether calls pass without a question; a cheap look, which time cannot make wrong."""
        return self._state == "closed"

    def check(self) -> None:
        """Whether a call would be let through now.

        Raises:
            CircuitOpenError: open, or half-open with all probes under way.
        """
        with self._lock:
            self._look()
            if self._state == "open" or (self._state == "half_open" and self._in_flight >= self._probes):
                raise self._refusal()

    def acquire(self) -> Permit:
        """Leave to make a call.

        Raises:
            CircuitOpenError: as `check`.
        """
        with self._lock:
            self.check()
            self._in_flight += 1
            return Permit(self, self._epoch)

    def call(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """What `function` returns. Every exception counts as a failure.

        Raises:
            CircuitOpenError: it was not called.
        """
        with self._settling():
            return function(*arguments, **options)

    async def call_async(self, function: Callable[..., Awaitable[T]], *arguments: Any, **options: Any) -> T:
        """As `call`; a cancelled call has no vote."""
        with self._settling():
            return await function(*arguments, **options)

    @contextmanager
    def _settling(self) -> Iterator[None]:
        """One call: an exception is a failure, a cancellation or an interrupt no vote."""
        permit = self.acquire()
        try:
            yield
        except Exception:
            permit.fail()
            raise
        except BaseException:
            permit.give_back()
            raise
        permit.succeed()

    async def changed(self, seconds: float) -> None:
        """Wait for the next transition or a free probe, `seconds` at most."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(done.set)

        with self._lock:
            self._waiting.add(wake)
        try:
            await sleep_unless(done, seconds, self._now_clock)
        finally:
            with self._lock:
                self._waiting.discard(wake)

    @property
    def _now_clock(self) -> Clock:
        return self._clock or current_clock()

    def _refusal(self) -> CircuitOpenError:
        left = max(0.0, self._until - self._now_clock.now()) if self._state == "open" else self._recovery
        said = f"it is tried again in {left:.0f} s" if self._state == "open" else "it is being tried again now"
        error = CircuitOpenError(f"{self.name} failed too often and is left alone; {said}", model=self.name, retry_after=left)
        error.changed, error.probing = self.changed, self._state == "half_open"
        return error

    def _look(self) -> None:
        """Let time do its part: an open circuit whose cool-down has passed is half-open."""
        if self._state == "open" and self._now_clock.now() >= self._until:
            self._go("half_open")

    def _settled(self, epoch: int, vote: bool | None, retry_after: float, at_once: bool) -> None:
        with self._lock:
            if epoch != self._epoch:
                return  # it began before the last transition
            self._in_flight -= 1
            if vote is None:
                self._wake()
            elif self._state == "half_open":
                self._close() if vote else self._open(retry_after)
            else:
                self._count(vote, retry_after, at_once)

    def _count(self, vote: bool, retry_after: float, at_once: bool) -> None:
        now = self._now_clock.now()
        self._ended.append((now, vote))
        self._failures += not vote
        while self._ended and self._ended[0][0] <= now - self._window:
            self._failures -= not self._ended.popleft()[1]
        enough = self._failures >= self._threshold and self._failures >= self._rate * (len(self._ended) + self._in_flight)
        if not vote and (at_once or enough):
            self._open(retry_after)

    def _open(self, at_least: float) -> None:
        grown = self._recovery * _GROWTH[min(self._opened, len(_GROWTH) - 1)]
        self._opened += 1
        cool_down = max(at_least, grown * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311  # spreads probes, hides nothing
        self._until = self._now_clock.now() + cool_down
        self._go("open", cool_down)

    def _close(self) -> None:
        self._opened = 0
        self._go("closed")

    def _go(self, state: State, seconds: float = 0.0) -> None:
        self._state = state
        self._epoch += 1
        self._in_flight = self._failures = 0
        self._ended.clear()
        self._wake()
        if self._on_change is not None:
            _tell(self._on_change, state, seconds)
        for watcher in list(self.watchers):
            _tell(watcher, self.name, state, seconds)

    def _wake(self) -> None:
        for wake in list(self._waiting):
            wake()


def _tell(listener: Callable[..., Any], *what: Any) -> None:
    """A listener that fails must not change what the breaker does."""
    try:
        listener(*what)
    except Exception:
        logger.exception("a listener of a circuit breaker failed")
