"""What happens in a run, as frozen facts in the past tense, and how they reach a listener.

Everything that is shown of a run (progress, results) is read from these.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from unified_agents.errors import Problem, SpecError

if TYPE_CHECKING:
    from unified_agents.result import RunResult

logger = logging.getLogger("unified_agents")


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that happened. The run sets `seq`, which counts its events from 1 (through all resumes), `time` (UTC) and `run_id`.

    `task` and `agent` are None where it is of none.
    """

    seq: int = 0
    time: datetime | None = None
    run_id: str = ""
    task: str | None = None
    agent: str | None = None

    @property
    def type(self) -> str:
        """The event's name, such as `TaskCompleted`."""
        return type(self).__name__

    def to_dict(self) -> dict[str, Any]:
        """The event as plain JSON data."""
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in self._record().items()}

    def to_json(self) -> str:
        """The same as JSON text."""
        return _as_json(self.to_dict())

    def _record(self) -> dict[str, Any]:
        head = {"seq": self.seq, "time": self.time, "run_id": self.run_id, "type": self.type}
        return {**head, **self.__dict__}


_as_json = json.JSONEncoder(default=str).encode


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """A run began on a backend; `resumable`: it is written down, so that it can be resumed."""

    team: str
    backend: str
    tasks: tuple[str, ...]
    resumable: bool = False


@dataclass(frozen=True, kw_only=True)
class RunResumed(Event):
    """A run that had stopped goes on: `completed` tasks keep their outputs, `tasks` are left."""

    team: str
    backend: str
    completed: tuple[str, ...]
    tasks: tuple[str, ...]
    resumable: bool = False


@dataclass(frozen=True, kw_only=True)
class TaskStarted(Event):
    """A task was given to an agent; `attempt` counts the agents it was given to."""

    task: str
    agent: str
    attempt: int = 1


@dataclass(frozen=True, kw_only=True)
class AgentStarted(Event):
    """An agent began to work: on its task, on what a coworker handed it, or for a turn of a group chat. `key` names the conversation, and begins its calls'."""

    task: str
    agent: str
    key: str


@dataclass(frozen=True, kw_only=True)
class AgentEnded(Event):
    """A conversation has its answer; or `error` is the kind of what it failed with."""

    task: str
    agent: str
    key: str
    duration_s: float
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModelAnswered(Event):
    """A call has the answer that its conversation goes on with, whatever it took. `key` names the call, `fingerprint` what was asked."""

    task: str
    agent: str
    key: str
    fingerprint: str
    model: str
    text: str
    tool_calls: tuple[Mapping[str, str], ...] = ()
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class CallReplayed(Event):
    """A call of a resumed run was answered from its record, and not made again. `kind`: model, tool or review."""

    task: str
    agent: str
    kind: str
    key: str


@dataclass(frozen=True, kw_only=True)
class ReplayDiverged(Event):
    """A resumed conversation asks something else than it did: from here on it is live."""

    task: str
    agent: str
    key: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ReviewDecided(Event):
    """A person decided. `kind`: tool, answer or turn; `content` is what replaces an answer, or what a human agent said."""

    task: str
    agent: str
    kind: str
    key: str
    approved: bool
    comment: str | None = None
    content: str | None = None


@dataclass(frozen=True, kw_only=True)
class JournalUnavailable(Event):
    """The journal failed, and the run goes on without it, as `journal.required: false` allows: it cannot be resumed."""

    error: str


@dataclass(frozen=True, kw_only=True)
class ModelCalled(Event):
    """One attempt at a model ended; `error` is its kind when it failed. Tokens are None where the provider reported none, the cost where no price is known."""

    task: str
    agent: str
    model: str
    turn: int
    duration_s: float
    attempt: int = 1
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    finish_reason: str | None = None
    error: str | None = None
    key: str = ""


@dataclass(frozen=True, kw_only=True)
class UsageAssumed(Event):
    """A provider did not report all that an attempt took: in the place of what its ModelCalled says, the budget counts the most that it may have been."""

    task: str
    agent: str
    key: str
    model: str
    attempt: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None = None


@dataclass(frozen=True, kw_only=True)
class TextStreamed(Event):
    """Text of an answer while its model writes it. A new `attempt` or `model` of the same call `key` voids what came before. Not in the record: `seq` is 0."""

    task: str
    agent: str
    key: str
    model: str
    attempt: int
    text: str


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
class MemoryRecalled(Event):
    """What the team's memory knows about a task entered an agent's prompt: so many items, in so many tokens."""

    task: str
    agent: str
    items: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class MemoryUnavailable(Event):
    """The memory's store failed, and the run goes on without it, as `memory.required: false` allows."""

    error: str


@dataclass(frozen=True, kw_only=True)
class CircuitOpened(Event):
    """A model keeps failing and is left alone for `seconds`."""

    model: str
    seconds: float
    state: str = "open"


@dataclass(frozen=True, kw_only=True)
class CircuitHalfOpened(Event):
    """A model that was left alone is tried again, by one call."""

    model: str
    state: str = "half_open"


@dataclass(frozen=True, kw_only=True)
class CircuitClosed(Event):
    """A model that was left alone answers again."""

    model: str
    state: str = "closed"


@dataclass(frozen=True, kw_only=True)
class ToolStarted(Event):
    """A tool call begins. `key` names it, `call_id` is what the model calls it; `side_effects` as the tool declares."""

    task: str
    agent: str
    tool: str
    key: str
    arguments: Mapping[str, Any]
    side_effects: bool = False
    call_id: str = ""


@dataclass(frozen=True, kw_only=True)
class ToolCalled(Event):
    """A tool call ended; `error` is its kind when it failed or was never allowed to begin (then without a key); `result` is what the model reads."""

    task: str
    agent: str
    tool: str
    duration_s: float
    error: str | None = None
    key: str = ""
    result: str | None = None


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
class MessagesRead(Event):
    """Direct messages entered the request `key` of their reader: each with sender and time."""

    task: str
    agent: str
    key: str
    messages: tuple[Mapping[str, str], ...]


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
    speaker: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TaskFailed(Event):
    """A task failed for good; `error` is the kind, `message` speaks to the person who must act, `cause` is the kind of what lies behind it."""

    task: str
    agent: str
    error: str
    message: str
    duration_s: float
    notes: tuple[str, ...] = ()
    cause: str = ""


@dataclass(frozen=True, kw_only=True)
class TaskSkipped(Event):
    """A task was not run because one that it waits for failed."""

    task: str
    because_of: str


@dataclass(frozen=True, kw_only=True)
class RunCompleted(Event):
    """Every task has its output."""

    duration_s: float
    result: RunResult | None = field(default=None, repr=False, compare=False)
    """Of the run that has just ended; not part of the record."""

    def _record(self) -> dict[str, Any]:
        return {name: value for name, value in super()._record().items() if name != "result"}


@dataclass(frozen=True, kw_only=True)
class RunFailed(Event):
    """A run ended without all of its outputs; `status` is failed or cancelled."""

    status: str
    error: str
    message: str
    duration_s: float


def stamped(event: Event, seq: int, run_id: str) -> Event:
    """The event as a run's record has it. A copy by its fields: `replace` would take ten times as long, for each event."""
    made: Event = object.__new__(type(event))
    made.__dict__.update(event.__dict__, seq=seq, time=datetime.now(timezone.utc), run_id=run_id)
    return made


def merged(first: TextStreamed, second: TextStreamed) -> TextStreamed | None:
    """Two pieces of one answer as one; None when they are of two."""
    same = (first.run_id, first.key, first.model, first.attempt) == (second.run_id, second.key, second.model, second.attempt)
    return replace(first, text=first.text + second.text) if same else None


def event_of(data: Mapping[str, Any]) -> Event | None:
    """An event from `to_dict`'s data, as JSON gave it back; None for a type that this version does not know. Unknown fields are left out."""
    kind = _kinds().get(str(data.get("type")))
    if kind is None:
        return None
    known = {field.name: str(field.type) for field in fields(kind)}
    return kind(**{name: _restored(value, known[name]) for name, value in data.items() if name in known})


def _restored(value: Any, kind: str) -> Any:
    if value is not None and kind.startswith("datetime"):
        return datetime.fromisoformat(value)
    return tuple(value) if isinstance(value, list) and kind.startswith("tuple") else value


def _kinds() -> dict[str, type[Event]]:
    return {kind.__name__: kind for kind in Event.__subclasses__()}


Listener = Callable[[Event], None]


def check_listener(listener: Listener | None) -> None:
    """See that events can be told to it.

    Raises:
        SpecError: it is no function that can be called with an Event.
    """
    if listener is not None and not callable(listener):
        raise SpecError([Problem("on_event", f"found {type(listener).__name__}, expected a function that takes an Event")], "the arguments")
    if inspect.iscoroutinefunction(listener):
        raise SpecError(
            [Problem("on_event", "found an async function, which nobody would await: take a plain one, or `async for` over stream_team")]
        )


def ignore(_event: Event) -> None:
    """Where nobody listens."""


class Mailbox:
    """Events between the thread that has them and the one that wants them. When they are not taken fast enough, text deltas of a call are merged."""

    def __init__(self) -> None:
        self._waiting: deque[Event] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._wake: Callable[[], None] = lambda: None
        self.on_abandoned: Callable[[], object] = lambda: None
        """Is called once, when the loop that took the events is closed."""

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, event: Event) -> None:
        """Leave an event; never waits."""
        with self._changed:
            last = self._waiting[-1] if self._waiting else None
            if isinstance(last, TextStreamed) and isinstance(event, TextStreamed) and (both := merged(last, event)) is not None:
                self._waiting[-1] = both
            else:
                self._waiting.append(event)
            self._changed.notify()
        self._wake()

    def end(self) -> None:
        """Nothing more will come."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._wake()

    def take(self) -> Event | None:
        """The next event, waiting for it; None when there are no more. For plain code."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended)
            return self._waiting.popleft() if self._waiting else None

    async def take_async(self) -> Event | None:
        """As `take`, without holding up the loop."""
        loop, came = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(came.set)
            except RuntimeError:  # it is closed: nobody will ever take what comes
                self._wake = lambda: None
                self.on_abandoned()

        self._wake = wake
        while True:
            with self._changed:
                if self._waiting or self._ended:
                    return self._waiting.popleft() if self._waiting else None
                came.clear()
            await came.wait()


class Dispatcher:
    """Hands events to a listener on a thread of its own: a slow or failing listener never slows or breaks the run."""

    def __init__(self, listener: Listener | None) -> None:
        self._listener = listener
        self._box = Mailbox()
        self._delivered = 0
        self._thread: threading.Thread | None = None
        if listener is not None:
            self._thread = threading.Thread(target=self._deliver, name="unified-agents-events", daemon=True)
            self._thread.start()

    def put(self, event: Event) -> None:
        """Queue an event; returns at once."""
        if self._thread is not None:
            self._box.put(event)

    def close(self, patience: float = 5.0) -> None:
        """Wait until what was queued has been delivered, as long as one event takes no longer than `patience` seconds; what is left is said in the log."""
        if self._thread is None:
            return
        self._box.end()
        while self._thread.is_alive():
            before = self._delivered
            self._thread.join(patience)
            if self._thread.is_alive() and self._delivered == before:
                logger.warning(
                    "the on_event listener takes longer than %g s for one event: %d events were not delivered", patience, len(self._box)
                )
                return

    def _deliver(self) -> None:
        assert self._listener is not None
        while (event := self._box.take()) is not None:
            try:
                self._listener(event)
            except Exception:
                logger.exception("the on_event listener failed on %s; the run goes on", event.type)
            self._delivered += 1


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


_PAGE = """\
# Events

Made by `make docs` from `unified_agents/events.py`. How they reach you: [runs.md](runs.md). Each has `seq`, `time` (UTC), `run_id`,
`type`, `task` and `agent` (None where it is of none) beside what stands here.

| type | says | fields |
|---|---|---|
"""


def page() -> str:
    """docs/events.md: every type of event."""
    rows = [f"| `{name}` | {' '.join((kind.__doc__ or '').split())} | {', '.join(_own(kind))} |" for name, kind in _kinds().items()]
    return _PAGE + "\n".join(rows) + "\n"


def _own(kind: type[Event]) -> list[str]:
    shown = [one.name for one in fields(kind) if (kind, one.name) != (RunCompleted, "result")]
    return [name for name in shown if name in kind.__annotations__]


if __name__ == "__main__":
    from unified_agents import events

    print(events.page(), end="")  # noqa: T201  # `make docs` takes it
