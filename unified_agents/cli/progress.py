"""Live progress on stderr: one line a task. Nothing when stderr is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from typing_extensions import Self

from unified_agents.cli.output import clean, errors
from unified_agents.events import (
    BackendReplaced,
    CallRetried,
    CallWaited,
    CircuitChanged,
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


class RunProgress:
    """Shows events as they come; a context manager whose `listen` is an `on_event`."""

    def __init__(self, quiet: bool = False, console: Console | None = None) -> None:
        self._console = console or errors()
        self._shown = self._console.is_terminal and not quiet
        self._rows: dict[str, TaskID] = {}
        self._written: dict[str, tuple[tuple[str, str, int], int]] = {}
        columns = (SpinnerColumn(finished_text=" "), TextColumn("{task.description}"), TimeElapsedColumn())
        self._progress = Progress(*columns, console=self._console, disable=not self._shown, redirect_stdout=False, redirect_stderr=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    @contextmanager
    def paused(self) -> Iterator[Console]:
        """The console, with the live lines out of the way while a question is asked."""
        self._progress.stop()
        try:
            yield self._console
        finally:
            self._progress.start()

    def listen(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, TaskStarted):
            self._rows[event.task] = self._progress.add_task(self._words("", event.task, f"{event.agent} is working"), total=1)
        elif isinstance(event, TextStreamed):
            self._write(event)
        elif isinstance(event, TaskCompleted):
            cut = ", cut off at max_tokens" if event.truncated else ""
            self._end(event.task, self._words("[green]✓[/] ", event.task, f"{event.agent}{cut}"))
        elif isinstance(event, TaskFailed):
            self._end(event.task, self._words("[red]✗[/] ", event.task, event.error))
        elif (loss := _loss(event)) is not None:  # said even where progress is not shown
            self._console.print(f"[yellow]{escape(clean(loss))}[/]")
        elif self._shown and (line := self._line(event)) is not None:
            self._progress.print(line)

    def _line(self, event: Event) -> str | None:
        """What is said once of an event, beside the tasks' own lines."""
        if isinstance(event, RunResumed):
            done, all_tasks = len(event.completed), len(event.completed) + len(event.tasks)
            return escape(clean(f"{event.team} on {event.backend} (run {event.run_id}, resumed: {done} of {all_tasks} tasks are done)"))
        if isinstance(event, RunStarted):
            return escape(clean(f"{event.team} on {event.backend} (run {event.run_id})"))
        if isinstance(event, TaskReassigned):
            return self._words("[yellow]→[/] ", event.task, f"{event.failed} failed ({event.error}), {event.agent} takes it")
        if isinstance(event, TaskSkipped):
            return self._words("[yellow]–[/] ", event.task, f"skipped, {event.because_of} failed")
        if isinstance(event, ReplayDiverged):
            return self._words("  ", event.task, f"{event.agent} asks again: {event.reason}")
        if isinstance(event, WorkDelegated):
            return self._words("  ", event.task, f"{event.agent} asks {event.coworker}")
        if isinstance(event, MessageSent) and event.message_type == "turn":
            return self._words("  ", event.task, f"{event.sender} spoke")
        return self._about_model(event)

    def _about_model(self, event: Event) -> str | None:
        """What the layers around a model do."""
        if isinstance(event, CallRetried):
            return self._words("  ", event.task, f"{event.model} {_failed(event.error)}, waiting {_seconds(event.delay_s)}")
        if isinstance(event, CallWaited):
            return self._words("  ", event.task, f"{event.model} {event.reason}, waiting {_seconds(event.delay_s)}")
        if isinstance(event, ModelReplaced):
            return self._words("  ", event.task, f"{event.model} failed ({event.error}), {event.replacement} is asked")
        if isinstance(event, ContextTrimmed):
            return self._words(
                "  ", event.task, f"{event.dropped} old messages left out and {event.shortened} shortened for {event.model}'s window"
            )
        if isinstance(event, CircuitChanged):
            return escape(clean(f"  {event.model} {_circuit(event)}"))
        return None

    def _words(self, mark: str, task: str, said: str) -> str:
        return f"{mark}[bold]{escape(clean(task))}[/]: {escape(clean(said))}"

    def _write(self, event: TextStreamed) -> None:
        """How much of an answer there is; the same call from the beginning begins at nothing."""
        call = (event.key, event.model, event.attempt)
        known, length = self._written.get(event.task, (call, 0))
        length = (length if known == call else 0) + len(event.text)
        self._written[event.task] = (call, length)
        if event.task in self._rows:
            said = f"{event.agent} is writing, {length:,} characters"
            self._progress.update(self._rows[event.task], description=self._words("", event.task, said))

    def _end(self, task: str, text: str) -> None:
        if task in self._rows:
            self._progress.update(self._rows[task], description=text, completed=1)


def _failed(error: str) -> str:
    return "is rate limited" if error == "RateLimitError" else f"failed ({error})"


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 1 else f"{value:.1f} s"


def _circuit(event: CircuitChanged) -> str:
    if event.state == "open":
        return f"keeps failing and is left alone for {_seconds(event.seconds)}"
    return "answers again" if event.state == "closed" else "is tried again"


def _loss(event: Event) -> str | None:
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
