"""The spans of one run, made from its events."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import singledispatchmethod
from typing import Any

from opentelemetry import context, trace

from unified_agents import events
from unified_agents.events import Event
from unified_agents.tracing import names
from unified_agents.tracing.chat import CANCELLED, ChatSpans, Content, Instruments, finish

logger = logging.getLogger("unified_agents")

_PLACE = context.create_key("unified_agents.place")
_RUN = ""

TOLD: Mapping[type[Event], Sequence[str]] = {
    events.BackendReplaced: ("backend", "replacement", "tasks"),
    events.CallReplayed: ("kind", "key"),
    events.CallRetried: ("model", "attempt", "delay_s", "error"),
    events.CallWaited: ("model", "delay_s", "reason"),
    events.CircuitClosed: ("model", "state"),
    events.CircuitHalfOpened: ("model", "state"),
    events.CircuitOpened: ("model", "state", "seconds"),
    events.ContextTrimmed: ("model", "dropped", "dropped_tokens", "shortened", "tokens", "budget"),
    events.FieldsDropped: ("paths",),
    events.FieldsUnused: ("paths",),
    events.JournalUnavailable: (),
    events.MemoryRecalled: ("items", "tokens"),
    events.MemoryUnavailable: (),
    events.MessageSent: ("sender", "recipient", "message_type"),
    events.MessageUndelivered: ("sender", "recipient", "missed"),
    events.ModelReplaced: ("model", "replacement", "error"),
    events.ReplayDiverged: ("key", "reason"),
    events.ReviewDecided: ("kind", "approved"),
    events.TaskReassigned: ("task", "agent", "failed", "error"),
    events.TaskSkipped: ("task", "because_of"),
    events.UsageAssumed: ("model", "attempt", "input_tokens", "output_tokens"),
    events.WorkDelegated: ("coworker", "tool"),
}
"""What is said of events that begin and end nothing, as span events: names, numbers and kinds, no text that anybody wrote."""
_ATTRIBUTES = {
    "agent": names.AGENT, "attempt": names.ATTEMPT, "error": names.ERROR_TYPE, "state": names.BREAKER_STATE, "task": names.TASK,
}  # fmt: skip


class RunSpans:
    """Takes a run's events as they are emitted, and makes its spans of them. Lives on the engine's loop.

    Spans are found by the keys of the run's record, each of which begins with that of what it is part of: `task.attempt`, `…/agent`, `…:turn/tool.…`.
    """

    def __init__(self, instruments: Instruments, run_id: str, content: Content | None) -> None:
        self._instruments, self._content = instruments, content
        self._common = {names.CONVERSATION: run_id}
        self.layer = ChatSpans(instruments, content, self._common)
        """The layer that makes the spans of attempts."""
        self._open: dict[str, trace.Span] = {}
        self._tasks: dict[str, str] = {}
        self._handed_on: dict[str, str] = {}
        self._backend = ""
        self._context = context.get_current()

    def take(self, event: Event) -> None:
        """One event of the run; never raises."""
        try:
            self._take(event)
        except Exception:
            logger.exception("tracing failed on %s; the run goes on", event.type)

    @contextmanager
    def scope(self, key: str) -> Iterator[None]:
        """Within it the span of a task, conversation or tool call is the current one: what users' code and its libraries trace stands under it."""
        place = self._nearest(key)
        if place not in self._open:
            yield
            return
        token = context.attach(context.set_value(_PLACE, (self, place), trace.set_span_in_context(self._open[place], self._context)))
        try:
            yield
        finally:
            context.detach(token)

    def close(self) -> None:
        """End what a run that broke off left open."""
        self._end(_RUN, CANCELLED)

    @singledispatchmethod
    def _take(self, event: Event) -> None:
        """What begins and ends nothing is said on the span that it belongs to."""
        told = TOLD.get(type(event))
        span = self._open.get(self._place_of(event)) if told is not None else None
        if told is not None and span is not None:
            values = {name: value for name in told if (value := getattr(event, name)) is not None}
            span.add_event(
                span_event(type(event)), {_ATTRIBUTES.get(name, f"unified_agents.{name}"): value for name, value in values.items()}
            )
        if isinstance(event, events.BackendReplaced):
            self._leave_backend(event)
        elif isinstance(event, events.TaskReassigned):
            self._handed_on[event.task] = event.failed

    @_take.register
    def _(self, event: events.RunStarted) -> None:
        self._begin_run(event)

    @_take.register
    def _(self, event: events.RunResumed) -> None:
        self._begin_run(event)
        self._open[_RUN].set_attribute(names.RESUMED, value=True)

    @_take.register
    def _(self, event: events.TaskStarted) -> None:
        key = self._tasks[event.task] = f"{event.task}.{event.attempt}"
        said: dict[str, Any] = {names.BACKEND: self._backend, names.ATTEMPT: event.attempt}
        if event.task in self._handed_on:
            said[names.FALLBACK_FROM] = self._handed_on.pop(event.task)
        self._begin(key, f"task {event.task}", _RUN, {names.TASK: event.task, **said})

    @_take.register
    def _(self, event: events.AgentStarted) -> None:
        self._begin(
            event.key,
            f"invoke_agent {event.agent}",
            self._current() or self._nearest(event.key),
            {names.OPERATION: "invoke_agent", names.AGENT: event.agent, names.TASK: event.task},
        )

    @_take.register
    def _(self, event: events.ToolStarted) -> None:
        said = {names.OPERATION: "execute_tool", names.TOOL: event.tool, names.AGENT: event.agent, names.TASK: event.task}
        if event.call_id:
            said[names.TOOL_CALL_ID] = event.call_id
        if self._content is not None:
            said[names.TOOL_ARGUMENTS] = self._content.text(dict(event.arguments))
        self._begin(event.key, f"execute_tool {event.tool}", self._nearest(event.key), said)

    @_take.register
    def _(self, event: events.ToolCalled) -> None:
        if not event.key:
            self._say_wrong_call(event)
            return
        if self._content is not None and event.result is not None and event.key in self._open:
            self._open[event.key].set_attribute(names.TOOL_RESULT, self._content.text(event.result))
        self._end(event.key, event.error)

    @_take.register
    def _(self, event: events.AgentEnded) -> None:
        self._end(event.key, event.error)

    @_take.register
    def _(self, event: events.TaskCompleted) -> None:
        self._end(self._tasks.get(event.task, event.task))

    @_take.register
    def _(self, event: events.TaskFailed) -> None:
        self._end(self._tasks.get(event.task, event.task), event.error, event.message)

    @_take.register
    def _(self, _event: events.RunCompleted) -> None:
        self._end(_RUN)

    @_take.register
    def _(self, event: events.RunFailed) -> None:
        self._end(_RUN, event.error, event.message)

    def _begin_run(self, event: events.RunStarted | events.RunResumed) -> None:
        """Under the caller's own span: the engine's task has the context of whoever asked for the run."""
        self._backend, self._context = event.backend, context.get_current()
        said = {
            names.OPERATION: "invoke_agent", names.AGENT: event.team, names.BACKEND: event.backend,
            names.RUN_ID: self._common[names.CONVERSATION],
        }  # fmt: skip
        self._begin(_RUN, f"invoke_agent {event.team}", None, said)

    def _begin(self, key: str, name: str, parent: str | None, attributes: Mapping[str, Any]) -> None:
        self._close(key, CANCELLED)  # of the same name, by a backend that failed
        above = trace.set_span_in_context(self._open[parent], self._context) if parent in self._open else self._context
        self._open[key] = self._instruments.begin(name, context=above, attributes={**self._common, **attributes})

    def _end(self, key: str, error: str | None = None, said: str | None = None) -> None:
        """End a span, and before it whatever is open within it: it was given up."""
        for inner in [name for name in reversed(self._open) if key == _RUN or name.startswith((f"{key}/", f"{key}:"))]:
            if inner != key:
                self._close(inner, error or CANCELLED)
        self._close(key, error, said)

    def _close(self, key: str, error: str | None, said: str | None = None) -> None:
        span = self._open.pop(key, None)
        if span is not None:
            finish(span, error, self._content.text(said) if self._content and said else None)

    def _leave_backend(self, event: events.BackendReplaced) -> None:
        for key in self._tasks.values():
            self._end(key, "BackendError")
        self._backend = event.replacement

    def _say_wrong_call(self, event: events.ToolCalled) -> None:
        """A call that was never allowed to begin; its name is the model's words."""
        span = self._open.get(self._place_of(event))
        if span is not None:
            shown = {names.TOOL: self._content.text(event.tool)} if self._content else {}
            span.add_event("unified_agents.tool_refused", {names.ERROR_TYPE: event.error or "", **shown})

    def _place_of(self, event: Event) -> str:
        """Where an event belongs: by its key; else where the code runs that emits it; else to its task, or the run."""
        key = getattr(event, "key", "")
        return self._nearest(key) if key else self._current() or self._nearest(self._tasks.get(event.task or "", ""))

    def _current(self) -> str | None:
        """The key of this run's span within which the code runs that is running now."""
        place: Any = context.get_value(_PLACE)
        return str(place[1]) if place and place[0] is self and place[1] in self._open else None

    def _nearest(self, key: str) -> str:
        """The key itself, or the nearest of what it is part of, that has an open span; the run's where none has."""
        while key and key not in self._open:
            key = key[: max(key.rfind("/"), key.rfind(":"), 0)]
        return key


def span_event(kind: type[Event]) -> str:
    """What an event is called on a span."""
    return "unified_agents." + "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__).lstrip("_")
