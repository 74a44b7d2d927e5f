"""What is said of a run while it goes on: one line a task, and what happens beside them. A terminal and a notebook say the same words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unified_agents.events import (
    BackendReplaced,
    CallRetried,
    CallWaited,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    ContextTrimmed,
    Event,
    FieldsDropped,
    FieldsUnused,
    JournalUnavailable,
    MemoryUnavailable,
    MessageSent,
    MessageUndelivered,
    ModelReplaced,
    ReplayDiverged,
    RunResumed,
    RunStarted,
    TaskCompleted,
    TaskFailed,
    TaskReassigned,
    TaskSkipped,
    TaskStarted,
    TextStreamed,
    WorkDelegated,
)  # fmt: skip

Kind = Literal["started", "working", "done", "failed", "skipped", "moved", "title", "note", "loss"]
_OWN = ("started", "working", "done", "failed")
_MARKS = {"done": "✓", "failed": "✗", "skipped": "–", "moved": "→"}


@dataclass(frozen=True)
class Line:
    """Something to say; `about` names the task, and is empty where it is about none.

    `started` begins a task's own line, which `working`, `done` and `failed` replace. A `title` and the rest stand beside these; a `loss` is said even where progress
    is not shown.
    """

    kind: Kind
    about: str
    said: str

    @property
    def is_own(self) -> bool:
        """Whether it is its task's own line, and does not stand beside it."""
        return self.kind in _OWN

    @property
    def mark(self) -> str:
        """What stands before it."""
        return _MARKS.get(self.kind, "")


class Wording:
    """Puts the events of one run into words."""

    def __init__(self) -> None:
        self._written: dict[str, tuple[tuple[str, str, int], int]] = {}

    def line(self, event: Event) -> Line | None:
        """What is said of an event; None for most."""
        if isinstance(event, TaskStarted):
            return Line("started", event.task, f"{event.agent} is working")
        if isinstance(event, TextStreamed):
            return Line("working", event.task, f"{event.agent} is writing, {self._length(event):,} characters")
        if isinstance(event, TaskCompleted):
            return Line("done", event.task, f"{event.agent}{', cut off at max_tokens' if event.truncated else ''}")
        if isinstance(event, TaskFailed):
            return Line("failed", event.task, event.error)
        if (said := _lost(event)) is not None:
            return Line("loss", "", said)
        return _of_run(event) or _of_task(event) or _of_model(event)

    def _length(self, event: TextStreamed) -> int:
        """How much of an answer there is; the same call from the beginning begins at nothing."""
        call = (event.key, event.model, event.attempt)
        known, length = self._written.get(event.task, (call, 0))
        length = (length if known == call else 0) + len(event.text)
        self._written[event.task] = (call, length)
        return length


def _of_run(event: Event) -> Line | None:
    if isinstance(event, RunResumed):
        done, all_tasks = len(event.completed), len(event.completed) + len(event.tasks)
        return Line("title", "", f"{event.team} on {event.backend} (run {event.run_id}, resumed: {done} of {all_tasks} tasks are done)")
    if isinstance(event, RunStarted):
        return Line("title", "", f"{event.team} on {event.backend} (run {event.run_id})")
    return None


def _of_task(event: Event) -> Line | None:
    if isinstance(event, TaskReassigned):
        return Line("moved", event.task, f"{event.failed} failed ({event.error}), {event.agent} takes it")
    if isinstance(event, TaskSkipped):
        return Line("skipped", event.task, f"skipped, {event.because_of} failed")
    if isinstance(event, ReplayDiverged):
        return Line("note", event.task, f"{event.agent} asks again: {event.reason}")
    if isinstance(event, WorkDelegated):
        return Line("note", event.task, f"{event.agent} asks {event.coworker}")
    if isinstance(event, MessageSent) and event.message_type == "turn":
        return Line("note", event.task, f"{event.sender} spoke")
    return None


def _of_model(event: Event) -> Line | None:
    """What the layers around a model do."""
    if isinstance(event, CallRetried):
        return Line("note", event.task, f"{event.model} {_failed(event.error)}, waiting {seconds(event.delay_s)}")
    if isinstance(event, CallWaited):
        return Line("note", event.task, f"{event.model} {event.reason}, waiting {seconds(event.delay_s)}")
    if isinstance(event, ModelReplaced):
        return Line("note", event.task, f"{event.model} failed ({event.error}), {event.replacement} is asked")
    if isinstance(event, ContextTrimmed):
        return Line("note", event.task, f"{event.dropped} old messages left out and {event.shortened} shortened for {event.model}'s window")
    if isinstance(event, CircuitOpened):
        return Line("note", "", f"{event.model} keeps failing and is left alone for {seconds(event.seconds)}")
    if isinstance(event, (CircuitHalfOpened, CircuitClosed)):
        return Line("note", "", f"{event.model} {'answers' if isinstance(event, CircuitClosed) else 'is tried'} again")
    return None


def _failed(error: str) -> str:
    return "is rate limited" if error == "RateLimitError" else f"failed ({error})"


def seconds(value: float) -> str:
    """A duration, as short as it can be read."""
    return f"{value:.0f} s" if value >= 1 else f"{value:.1f} s"


def _lost(event: Event) -> str | None:
    """What a user wrote or an agent sent that has no effect."""
    if isinstance(event, FieldsDropped):
        return f"Without {', '.join(event.paths)}: {event.backend} refuses them (--no-strict)."
    if isinstance(event, BackendReplaced):
        return f"{event.backend} failed ({event.error}); {event.replacement} goes on with {', '.join(event.tasks)}."
    if isinstance(event, FieldsUnused):
        return f"Nothing reads {', '.join(event.paths)} in this team; see unified-agents check."
    if isinstance(event, MemoryUnavailable):
        return f"Without memory, as memory.required: false allows: {event.error}"
    if isinstance(event, JournalUnavailable):
        return f"This run is not written down and cannot be resumed, as journal.required: false allows: {event.error}"
    if isinstance(event, MessageUndelivered):
        return f"A message of {event.sender} was never read by {', '.join(event.missed)}."
    return None
