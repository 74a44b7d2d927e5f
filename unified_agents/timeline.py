"""When things happened in a run, read from its events: tasks as bars, with their calls, retries and waits inside.

Seconds count from the run's beginning; the time between the sessions of a resumed run is left out.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from unified_agents.events import (
    CallRetried,
    CallWaited,
    Event,
    ModelAnswered,
    ModelCalled,
    RunResumed,
    RunStarted,
    TaskCompleted,
    TaskFailed,
    TaskReassigned,
    TaskSkipped,
    TaskStarted,
    ToolCalled,
    ToolStarted,
)

LEVELS = 6
"""Calls that go on at the same time are stacked, so many of them."""
_SAID_AFTERWARDS = "may take what is left of the budget"  # such a wait is told when it is over, all others when they begin


@dataclass(frozen=True)
class Bar:
    """One agent's work on a task. `status`: completed, failed, or unfinished when the record ends before it."""

    agent: str
    attempt: int
    start: float
    seconds: float
    status: str
    error: str | None = None


@dataclass(frozen=True)
class Call:
    """A request to a model, a call of a tool, or the time before the next one. `kind`: model, tool, retry or wait; `seconds` is the event's own number."""

    kind: str
    name: str
    agent: str
    start: float
    seconds: float
    error: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    attempt: int = 1
    asked: str | None = None
    answer: str | None = None
    level: int = 0


@dataclass(frozen=True)
class TaskLine:
    """All that happened in a task; no bars when it never began."""

    task: str
    bars: Sequence[Bar]
    calls: Sequence[Call]
    because_of: str | None = None

    @property
    def levels(self) -> int:
        """How many calls are stacked."""
        return 1 + max((call.level for call in self.calls), default=0)


@dataclass(frozen=True)
class Timeline:
    """A run in time. `resumed`: where later sessions begin."""

    lines: Sequence[TaskLine]
    seconds: float
    resumed: Sequence[float] = ()


def timeline(events: Iterable[Event]) -> Timeline:
    """The timeline of a run's events."""
    known = [event for event in events if event.time is not None and event.seq]
    clock = _Clock(known)
    lines = [_line(task, [event for event in known if event.task == task], clock) for task in _tasks(known)]
    return Timeline(lines, max((_end(line) for line in lines), default=0.0) or clock.end, clock.resumed)


def _end(line: TaskLine) -> float:
    """When the last work on a task ended; a pause may be planned for longer than the run lasts."""
    ends = [bar.start + bar.seconds for bar in line.bars]
    ends += [call.start + call.seconds for call in line.calls if call.kind in ("model", "tool")]
    return max(ends, default=0.0)


def _tasks(events: Sequence[Event]) -> list[str]:
    """In the order of the file, as the run's beginning tells it."""
    begun = [task for event in events if isinstance(event, RunStarted) for task in event.tasks]
    return list(dict.fromkeys([*begun, *(event.task for event in events if isinstance(event, (TaskStarted, TaskSkipped)))]))


class _Clock:
    """Seconds since a run began, without the time between its sessions."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._began: list[float] = []
        self._before: list[float] = []
        self.end = 0.0
        for event in events:
            if not self._began or isinstance(event, RunResumed):
                self._began.append(_stamp(event))
                self._before.append(self.end)
            self.end = max(self.end, self.at(event))

    @property
    def resumed(self) -> tuple[float, ...]:
        """Where later sessions begin."""
        return tuple(self._before[1:])

    def at(self, event: Event) -> float:
        """When an event was."""
        session = self._session(event)
        return self._before[session] + max(_stamp(event) - self._began[session], 0.0)

    def left(self, event: Event) -> float:
        """How long its session still went on."""
        return max([*self._before, self.end][self._session(event) + 1] - self.at(event), 0.0)

    def _session(self, event: Event) -> int:
        return max(bisect_right(self._began, _stamp(event)) - 1, 0)


def _stamp(event: Event) -> float:
    assert isinstance(event.time, datetime)
    return event.time.timestamp()


def _line(task: str, events: Sequence[Event], clock: _Clock) -> TaskLine:
    skipped = next((event.because_of for event in events if isinstance(event, TaskSkipped)), None)
    return TaskLine(task, _bars(events, clock), _stacked(_calls(events, clock)), skipped)


def _bars(events: Sequence[Event], clock: _Clock) -> list[Bar]:
    """A bar for each time that the task was given to an agent. What was under way when a session was cut off ends where the record does."""
    bars: list[Bar] = []
    begun: TaskStarted | None = None
    for event in events:
        if isinstance(event, TaskStarted):
            if begun is not None:
                bars.append(_open(begun, clock))
            begun = event
        elif isinstance(event, (TaskCompleted, TaskFailed)):
            failed = event.error if isinstance(event, TaskFailed) else None
            start = max(0.0, clock.at(event) - event.duration_s)
            attempt = begun.attempt if begun is not None else 1
            bars.append(Bar(event.agent, attempt, start, event.duration_s, "failed" if failed else "completed", failed))
            begun = None
        elif isinstance(event, TaskReassigned):
            begun = None
    return bars if begun is None else [*bars, _open(begun, clock)]


def _open(begun: TaskStarted, clock: _Clock) -> Bar:
    return Bar(begun.agent, begun.attempt, clock.at(begun), clock.left(begun), "unfinished")


def _calls(events: Sequence[Event], clock: _Clock) -> list[Call]:
    asked = {event.key: json.dumps(event.arguments, ensure_ascii=False) for event in events if isinstance(event, ToolStarted)}
    answers = {event.key: _answer(event) for event in events if isinstance(event, ModelAnswered)}
    made = [_call(event, clock.at(event), asked, answers) for event in events]
    return sorted((call for call in made if call is not None), key=lambda call: call.start)


def _call(event: Event, at: float, asked: dict[str, str], answers: dict[str, str]) -> Call | None:
    if isinstance(event, ModelCalled):
        answer = None if event.error else answers.get(event.key)
        return Call(
            "model", event.model, event.agent, max(0.0, at - event.duration_s), event.duration_s, event.error,
            event.input_tokens, event.output_tokens, event.cost_usd, event.attempt, answer=answer,
        )  # fmt: skip
    if isinstance(event, ToolCalled):
        start = max(0.0, at - event.duration_s)
        return Call("tool", event.tool, event.agent, start, event.duration_s, event.error, asked=asked.get(event.key), answer=event.result)
    if isinstance(event, CallRetried):
        return Call("retry", event.model, event.agent, at, event.delay_s, event.error, attempt=event.attempt)
    if isinstance(event, CallWaited):
        start = max(0.0, at - event.delay_s) if event.reason.startswith(_SAID_AFTERWARDS) else at
        return Call("wait", event.model, event.agent, start, event.delay_s, answer=event.reason)
    return None


def _answer(event: ModelAnswered) -> str:
    """What a model said: its text, and the tools that it wants to call."""
    wanted = [f"→ {call.get('name', '')}({call.get('arguments', '')})" for call in event.tool_calls]
    return "\n".join([*([event.text] if event.text else []), *wanted])


def _stacked(calls: Sequence[Call]) -> list[Call]:
    """Each call on the lowest level that is free when it begins."""
    ends: list[float] = []
    placed = []
    for call in calls:
        level = next((level for level, end in enumerate(ends) if end <= call.start + 1e-3), len(ends))
        level = min(level, LEVELS - 1)
        ends[level : level + 1] = [call.start + call.seconds]
        placed.append(replace(call, level=level))
    return placed
