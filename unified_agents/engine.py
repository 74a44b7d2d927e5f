"""The one event loop of the process, in a daemon thread.

All HTTP clients and the state of all middleware live on it, so that threads and other loops share them without locks. After a fork
the child makes its own. Frameworks that call from elsewhere hop here.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import contextvars
import inspect
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from unified_agents.errors import TaskError

T = TypeVar("T")

_STOPPING_SECONDS = 0.5
"""So long a run that is stopped by Ctrl-C has to end in order: what does not end by then is left, and the process is gone within a second."""


class Engine:
    """An event loop in a daemon thread, and the ways onto it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.pid = os.getpid()
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self._thread = threading.Thread(target=self._run, name="unified-agents-engine", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    @property
    def alive(self) -> bool:
        """Whether this process made it and its thread runs."""
        return self.pid == os.getpid() and self._thread.is_alive()

    @property
    def inside(self) -> bool:
        """Whether the caller runs on the engine's own thread."""
        return threading.current_thread() is self._thread

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start a coroutine on the engine from any thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the engine and wait; an interrupt cancels it and waits up to a second for its clean-up.

        Raises:
            RuntimeError: when called on the engine's own thread, which would wait for itself.
        """
        if self.inside:
            coroutine.close()
            self.check_outside("run_team_async(…)", "run_team(…)")
        future = self.submit(coroutine)
        try:
            return future.result()
        except (KeyboardInterrupt, SystemExit):
            future.cancel()
            concurrent.futures.wait([future], timeout=_STOPPING_SECONDS)
            raise

    def check_outside(self, instead: str, called: str) -> None:
        """Refuse to block the engine's own thread.

        Raises:
            RuntimeError: the caller runs on it.
        """
        if self.inside:
            raise RuntimeError(
                f"a blocking call inside a layer, model or async tool would wait for itself: await {instead} there instead of {called}"
            )

    async def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await a coroutine on the engine from whichever loop is running; cancelling the caller cancels it."""
        if self.inside:
            return await coroutine
        return await asyncio.wrap_future(self.submit(coroutine))

    async def call_to_its_end(self, coroutine: Coroutine[Any, Any, T], seconds: float) -> T:
        """As `call`; when the caller is cancelled, it waits for what the coroutine still does, `seconds` at most."""
        ended = threading.Event()

        async def work() -> T:
            try:
                return await coroutine
            finally:
                ended.set()

        if self.inside:
            return await coroutine
        running = self.submit(work())
        try:
            return await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            await in_thread(lambda: ended.wait(seconds), "unified-agents-ending")
            raise

    def on_close(self, closer: Callable[[], Awaitable[None]]) -> None:
        """Run `closer` on the engine when the process ends."""
        self._closers.append(closer)

    def close(self, timeout: float = 0.5) -> None:
        """Close what lives on the loop and stop it; what takes longer than `timeout` seconds is left to the operating system."""
        if self.pid != os.getpid() or not self._thread.is_alive():
            return
        with contextlib.suppress(concurrent.futures.TimeoutError):
            self.submit(self._close()).result(timeout)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout)

    async def _close(self) -> None:
        await asyncio.gather(*(closer() for closer in self._closers), return_exceptions=True)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


_lock = threading.Lock()
_engine: Engine | None = None


def engine() -> Engine:
    """The process's engine, made at first use and anew after a fork."""
    global _engine
    current = _engine
    if current is not None and current.alive:
        return current
    with _lock:
        if _engine is None or not _engine.alive:
            _engine = Engine()
            atexit.register(_engine.close)
        return _engine


def shared() -> dict[Any, Any]:
    """State of the running loop: on the engine's, what all runs of this process share (breakers, limiters). Made anew after a fork, as the loop is."""
    return _shared.setdefault(asyncio.get_running_loop(), {})


def forget_shared() -> None:
    """Let the next run begin as in a new process: no breaker open, no limit used. For tests."""
    _shared.clear()


_shared: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Any, Any]] = weakref.WeakKeyDictionary()


def _forget_lock() -> None:
    """A fork may happen while another thread holds the lock; the child would wait for it forever."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_lock)


async def tamed(work: Awaitable[T]) -> T:
    """`work`, with what would end the engine's thread (asyncio lets it through every task) turned into an error."""
    try:
        return await work
    except (KeyboardInterrupt, SystemExit, GeneratorExit) as error:
        raise TaskError(f"{type(error).__name__} was raised by a model, layer, tool or check") from error


def begun(work: Awaitable[T]) -> asyncio.Task[T]:
    """`work`, tamed, as a task; what is cancelled before its first step is closed, which nobody would await any more."""
    task = asyncio.ensure_future(tamed(work))
    if asyncio.iscoroutine(work):
        task.add_done_callback(lambda _: work.close())
    return task


_SHORTEST_LOOK = 0.02  # seconds: a deadline that stands still is looked at again and again


async def within(awaitable: Awaitable[T], left: Callable[[], float] | float | None, late: Exception) -> T:
    """The result of `awaitable`; when no time is left it is cancelled and `late` is raised. A timeout of its own making stays its own.

    `left` is in seconds, or a function that says how many are left now; None is for ever.
    """
    if callable(left) and left() <= 0:
        if asyncio.iscoroutine(awaitable):
            awaitable.close()
        raise late
    task = begun(awaitable)
    try:
        while True:
            seconds = left() if callable(left) else left
            if seconds is not None and seconds <= 0:
                break
            done, _ = await asyncio.wait(
                {task}, timeout=max(seconds, _SHORTEST_LOOK) if callable(left) and seconds is not None else seconds
            )
            if done:
                return task.result()
            if not callable(left):
                break
    except asyncio.CancelledError:
        task.cancel()
        raise
    task.cancel()
    raise late


async def called(function: Callable[..., Any], *arguments: Any, thread: str) -> Any:
    """What a user's function returns: an async one is awaited here, a sync one runs on a thread of its own."""
    if inspect.iscoroutinefunction(function):
        return await function(*arguments)
    said = await in_thread(lambda: function(*arguments), thread)
    return await said if inspect.isawaitable(said) else said


async def in_thread(function: Callable[[], T], name: str) -> T:
    """Run blocking code on a daemon thread of its own, in the caller's context: no pool's size limits it, and it never holds the exit."""
    loop, done = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

    def settle(error: BaseException | None, value: T | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(value)

    def work() -> None:
        value: T | None = None
        error: BaseException | None = None
        try:
            value = function()
        except StopIteration as caught:  # no future takes it
            error = RuntimeError(f"StopIteration was raised on thread {name!r}")
            error.__cause__ = caught
        except Exception as caught:  # noqa: BLE001  # whatever it was, it belongs to the one who awaits
            error = caught
        except BaseException as caught:  # noqa: BLE001  # as itself it would end the thread of the one who awaits
            error = RuntimeError(f"{type(caught).__name__} was raised on thread {name!r}")
            error.__cause__ = caught
        with contextlib.suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(settle, error, value)

    threading.Thread(target=contextvars.copy_context().run, args=(work,), name=name, daemon=True).start()
    result: T = await done
    return result
