"""A run as a stream of its events, for async and for plain code."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping, Sequence
from typing import Any

from unified_agents.engine import engine
from unified_agents.events import Event, Listener, Mailbox
from unified_agents.middleware import Middleware
from unified_agents.model_choice import Models
from unified_agents.preparation import Options, Team
from unified_agents.result import RunResult
from unified_agents.review import Reviewer
from unified_agents.runtime import start


async def stream_team(
    team: Team, inputs: Mapping[str, Any] | None = None, *, backend: str | None = None, models: Models | None = None,
    tools: Mapping[str, Any] | None = None, reviewer: Reviewer | None = None, middleware: Sequence[Middleware] = (),
    run_id: str | None = None, strict: bool = True, record: str | os.PathLike[str] | None = None, replay: str | os.PathLike[str] | None = None,
) -> AsyncGenerator[Event, None]:  # fmt: skip
    """Run a team and get its events as they happen; the last one is RunCompleted (its `result` is the RunResult) or RunFailed.

    With `stream: true` in the team, text comes in TextStreamed events while models write it. A consumer that is slow gets such text in larger pieces, and
    never slows the run. Leaving the loop (`aclose`) cancels the run; it can be resumed.

    Args: as for `run_team`.

    Raises:
        SpecError, BackendUnavailableError, UnsupportedFeatureError, RunError: as `run_team`, after the last event.
    """
    options = Options(backend, inputs, models or {}, tools or {}, reviewer, middleware, strict, record, replay)
    box, running = _begun(lambda listen: start(team, options, listen, run_id))
    try:
        while (event := await box.take_async()) is not None:
            yield event
        await asyncio.wrap_future(running)
    finally:
        running.cancel()
        await asyncio.get_running_loop().run_in_executor(None, _ended, running)


def stream_team_sync(
    team: Team, inputs: Mapping[str, Any] | None = None, *, backend: str | None = None, models: Models | None = None,
    tools: Mapping[str, Any] | None = None, reviewer: Reviewer | None = None, middleware: Sequence[Middleware] = (),
    run_id: str | None = None, strict: bool = True, record: str | os.PathLike[str] | None = None, replay: str | os.PathLike[str] | None = None,
) -> Generator[Event, None, None]:  # fmt: skip
    """As `stream_team`, in plain code."""
    engine().check_outside("stream_team(…)", "stream_team_sync(…)")
    options = Options(backend, inputs, models or {}, tools or {}, reviewer, middleware, strict, record, replay)
    box, running = _begun(lambda listen: start(team, options, listen, run_id))
    try:
        while (event := box.take()) is not None:
            yield event
        running.result()
    finally:
        running.cancel()
        _ended(running)


def _begun(work: Callable[[Listener], Coroutine[Any, Any, RunResult]]) -> tuple[Mailbox, concurrent.futures.Future[RunResult]]:
    box = Mailbox()

    async def run() -> RunResult:
        try:
            return await work(box.put)
        finally:
            box.end()

    running = engine().submit(run())
    box.on_abandoned = running.cancel
    return box, running


_CLOSING_SECONDS = 2.0


def _ended(running: concurrent.futures.Future[RunResult]) -> None:
    """Wait until a cancelled run has ended: what it says last is in its journal then."""
    concurrent.futures.wait([running], timeout=_CLOSING_SECONDS)
