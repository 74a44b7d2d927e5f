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
from unified_agents.events import Event, FieldsDropped, RunStarted, TaskCompleted, TaskFailed, TaskSkipped, TaskStarted


class RunProgress:
    """Shows events as they come; a context manager whose `listen` is an `on_event`."""

    def __init__(self, quiet: bool = False, console: Console | None = None) -> None:
        self._console = console or errors()
        self._shown = self._console.is_terminal and not quiet
        self._rows: dict[str, TaskID] = {}
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
        if isinstance(event, RunStarted) and self._shown:
            self._progress.print(escape(f"{event.team} on {event.backend} (run {event.run_id})"))
        elif isinstance(event, FieldsDropped):  # a loss is said even where progress is not shown
            self._console.print(f"[yellow]Without {escape(', '.join(event.paths))}: {event.backend} refuses them (--no-strict).[/]")
        elif isinstance(event, TaskStarted):
            self._rows[event.task] = self._progress.add_task(self._words("", event.task, f"{event.agent} is working"), total=1)
        elif isinstance(event, TaskCompleted):
            cut = ", cut off at max_tokens" if event.truncated else ""
            self._end(event.task, self._words("[green]✓[/] ", event.task, f"{event.agent}{cut}"))
        elif isinstance(event, TaskFailed):
            self._end(event.task, self._words("[red]✗[/] ", event.task, event.error))
        elif isinstance(event, TaskSkipped) and self._shown:
            self._progress.print(self._words("[yellow]–[/] ", event.task, f"skipped, {event.because_of} failed"))

    def _words(self, mark: str, task: str, said: str) -> str:
        return f"{mark}[bold]{escape(clean(task))}[/]: {escape(clean(said))}"

    def _end(self, task: str, text: str) -> None:
        if task in self._rows:
            self._progress.update(self._rows[task], description=text, completed=1)
