"""Live progress: one line a task, in a terminal or under the cell of a notebook, in the same words.

A board shows lines; `RunProgress` puts the events of one run on it. In a notebook `run_team` and its like show progress by themselves, elsewhere when asked to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from unified_agents.events import Event, Listener, check_listener
from unified_agents.progress.wording import Line, Wording


class Board(AbstractContextManager["Board"], Protocol):
    """Where lines are shown, within its `with` block."""

    def show(self, line: Line) -> None:
        """Show a line: a task's own takes the place of the one before."""


class RunProgress:
    """Puts the events of one run on a board; `listen` is an `on_event`."""

    def __init__(self, board: Board) -> None:
        self._board, self._wording = board, Wording()

    def listen(self, event: Event) -> None:
        """Show one event."""
        if (line := self._wording.line(event)) is not None:
            self._board.show(line)


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook, which shows what is displayed."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


@contextmanager
def board_for(progress: bool | Board | None, *, timed: bool = True) -> Iterator[Board | None]:
    """The board of a run: in a notebook under the cell, else on stderr; None where nothing is shown. `progress` None: in a notebook only; or it is the board.

    `timed`: each line says how long it has been going on.
    """
    if not isinstance(progress, (bool, type(None))):
        with progress:
            yield progress
        return
    notebook = in_notebook()
    if not (notebook if progress is None else progress):
        yield None
        return
    if notebook:
        from unified_agents.progress.notebook import NotebookBoard as Shown
    else:
        from unified_agents.progress.terminal import TerminalBoard as Shown  # type: ignore[assignment]
    with Shown(timed=timed) as board:
        yield board


@contextmanager
def listening(on_event: Listener | None, progress: bool | None) -> Iterator[Listener | None]:
    """A listener that shows progress, where it is shown, and then calls `on_event`."""
    with board_for(progress) as board:
        yield on_event if board is None else _both(RunProgress(board).listen, on_event)


def _both(first: Listener, second: Listener | None) -> Callable[[Event], None]:
    if second is None:
        return first
    check_listener(second)

    def listen(event: Event) -> None:
        try:
            first(event)
        finally:
            second(event)

    return listen
