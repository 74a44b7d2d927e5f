"""Progress on stderr. Where that is no terminal, only what a user wrote or an agent sent without effect is said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from typing_extensions import Self

from unified_agents.progress.wording import Line
from unified_agents.terminal import clean, errors

_COLOURS = {"done": "green", "failed": "red", "skipped": "yellow", "moved": "yellow"}


class TerminalBoard:
    """Lines on a terminal: those of tasks are live, all others stand above them."""

    def __init__(self, quiet: bool = False, console: Console | None = None, *, timed: bool = True) -> None:
        self._console = console or errors()
        self._shown = self._console.is_terminal and not quiet
        self._rows: dict[str, TaskID] = {}
        columns = (SpinnerColumn(finished_text=" "), TextColumn("{task.description}"), *((TimeElapsedColumn(),) if timed else ()))
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

    def show(self, line: Line) -> None:
        """Show a line."""
        if line.kind == "loss":  # said even where progress is not shown
            self._console.print(f"[yellow]{escape(clean(line.said))}[/]")
        elif line.kind == "started":
            self._rows[line.about] = self._progress.add_task(_marked_up(line), total=1)
        elif not line.is_own:
            if self._shown:
                self._progress.print(_marked_up(line))
        elif line.about in self._rows:
            self._progress.update(self._rows[line.about], description=_marked_up(line), completed=0 if line.kind == "working" else 1)


def _marked_up(line: Line) -> str:
    colour, about = _COLOURS.get(line.kind), f"[bold]{escape(clean(line.about))}[/]: " if line.about else ""
    mark = f"[{colour}]{line.mark}[/] " if colour else "  " if line.kind == "note" else ""
    return f"{mark}{about}{escape(clean(line.said))}"
