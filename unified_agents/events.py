"""What happens in a run, as frozen facts in the past tense, and how they reach a listener.

Everything that is shown of a run (progress, results) is read from these.
"""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

logger = logging.getLogger("unified_agents")


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that happened."""

    @property
    def type(self) -> str:
        """The event's name, such as `TaskCompleted`."""
        return type(self).__name__

    def to_dict(self) -> dict[str, Any]:
        """The event as plain JSON data."""
        fields = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in dataclasses.asdict(self).items()}
        return {"type": self.type, **fields}


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """A run began on a backend."""

    run_id: str
    team: str
    backend: str
    tasks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TaskStarted(Event):
    """A task was given to an agent."""

    task: str
    agent: str


@dataclass(frozen=True, kw_only=True)
class ModelCalled(Event):
    """One attempt at a model ended; `error` is its kind when it failed. Tokens are None where the provider reported none."""

    task: str
    agent: str
    model: str
    turn: int
    duration_s: float
    attempt: int = 1
    input_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class CallRetried(Event):
    """An attempt failed and the next one follows after `delay_s`; `attempt` is the number of the one that failed."""

    task: str
    agent: str
    model: str
    attempt: int
    delay_s: float
    error: str


@dataclass(frozen=True, kw_only=True)
class CallWaited(Event):
    """A call waits before it is made: for a rate limit, a pause that the provider asked for, or a circuit that is open."""

    task: str
    agent: str
    model: str
    delay_s: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class ModelReplaced(Event):
    """A model failed for good in one call, and the next one is asked."""

    task: str
    agent: str
    model: str
    replacement: str
    error: str


@dataclass(frozen=True, kw_only=True)
class ContextTrimmed(Event):
    """A request was larger than its window: messages were dropped (or summed up) and shortened until it took `tokens` of `budget`."""

    task: str
    agent: str
    model: str
    dropped: int
    dropped_tokens: int
    shortened: int
    tokens: int
    budget: int


@dataclass(frozen=True, kw_only=True)
class CircuitChanged(Event):
    """A model's circuit breaker changed: `state` is open (for `seconds`), half_open or closed."""

    model: str
    state: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ToolCalled(Event):
    """A tool call ended; `error` is its kind when it failed or was never allowed to begin."""

    task: str
    agent: str
    tool: str
    duration_s: float
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class MessageSent(Event):
    """Something went from one agent to another; `task` is the recipient's."""

    task: str
    sender: str
    recipient: str
    message_type: str
    content: str
    timestamp: datetime


@dataclass(frozen=True, kw_only=True)
class MessageUndelivered(Event):
    """A direct message that these agents never saw: they did not ask their model again after it was sent."""

    sender: str
    recipient: str
    content: str
    timestamp: datetime
    missed: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class WorkDelegated(Event):
    """An agent handed work or a question to a coworker."""

    task: str
    agent: str
    coworker: str
    tool: str


@dataclass(frozen=True, kw_only=True)
class TaskReassigned(Event):
    """A task whose agent failed for good goes to that agent's fallback."""

    task: str
    agent: str
    failed: str
    error: str


@dataclass(frozen=True, kw_only=True)
class BackendReplaced(Event):
    """A framework failed, and what is left of the run goes on on another."""

    backend: str
    replacement: str
    error: str
    tasks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FieldsUnused(Event):
    """Fields that are set and that nothing reads in this team, such as `reports_to` without a hierarchy."""

    paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FieldsDropped(Event):
    """The run goes on without these fields, as `strict=False` allows."""

    backend: str
    paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TaskCompleted(Event):
    """A task has its output."""

    task: str
    agent: str
    output: str
    truncated: bool
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class TaskFailed(Event):
    """A task failed for good; `error` is the kind, `message` speaks to the person who must act."""

    task: str
    agent: str
    error: str
    message: str
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class TaskSkipped(Event):
    """A task was not run because one that it waits for failed."""

    task: str
    because_of: str


@dataclass(frozen=True, kw_only=True)
class RunCompleted(Event):
    """Every task has its output."""

    run_id: str
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class RunFailed(Event):
    """A run ended without all of its outputs; `status` is failed or cancelled."""

    run_id: str
    status: str
    error: str
    message: str
    duration_s: float


Listener = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Where nobody listens."""


class Dispatcher:
    """Hands events to a listener on a thread of its own: a slow or failing listener never slows or breaks the run."""

    def __init__(self, listener: Listener | None) -> None:
        self._listener = listener
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if listener is not None:
            self._thread = threading.Thread(target=self._deliver, name="unified-agents-events", daemon=True)
            self._thread.start()

    def put(self, event: Event) -> None:
        """Queue an event; returns at once."""
        if self._thread is not None:
            self._queue.put(event)

    def close(self, timeout: float = 1.0) -> None:
        """Wait until what was queued has been delivered, `timeout` seconds at most."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout)

    def _deliver(self) -> None:
        assert self._listener is not None
        while (event := self._queue.get()) is not None:
            try:
                self._listener(event)
            except Exception:
                logger.exception("the on_event listener failed on %s; the run goes on", event.type)


def shielded(listener: Listener | None) -> Listener:
    """A listener whose failure is logged and breaks nothing."""
    if listener is None:
        return ignore

    def listen(event: Event) -> None:
        try:
            listener(event)
        except Exception:
            logger.exception("the on_event listener failed on %s; the call goes on", event.type)

    return listen
