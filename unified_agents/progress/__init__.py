"""Live progress: one line a task, in a terminal or under the cell of a notebook, in the same words.

A board shows lines; `RunProgress` puts the events of one run on it. In a notebook `run_team` and its like show progress by themselves, elsewhere when asked to.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Protocol

from typing_extensions import Self

from unified_agents.errors import Problem, SpecError
from unified_agents.events import Event, Listener, check_listener
from unified_agents.progress.wording import Line, Wording

logger = logging.getLogger("unified_agents")


class Board(AbstractContextManager[Any], Protocol):
    """Where lines are shown, within its `with` block."""

    def show(self, line: Line) -> None:
        """Show a line: a task's own takes the place of the one before."""


class RunProgress:
    """Puts the events of one run on a board; `listen` is an `on_event`."""

    def __init__(self, board: Board | Shielded) -> None:
        self._board, self._wording = board, Wording()

    def listen(self, event: Event) -> None:
        """Show one event."""
        if (line := self._wording.line(event)) is not None:
            self._board.show(line)


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook, which shows what is displayed."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


class Shielded:
    """A board whose failures are logged once and break nothing: what is run is worth more than what is shown of it."""

    def __init__(self, board: Board) -> None:
        self._board: Board | None = board

    def __enter__(self) -> Self:
        self._try(lambda board: board.__enter__())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._try(lambda board: board.__exit__(kind, error, trace))

    def show(self, line: Line) -> None:
        """Show a line, if it can be shown."""
        self._try(lambda board: board.show(line))

    def _try(self, work: Callable[[Board], object]) -> None:
        if self._board is None:
            return
        try:
            work(self._board)
        except Exception:
            self._board = None
            logger.exception("progress cannot be shown any more; the run goes on")


@contextmanager
def board_for(progress: bool | Board | None, *, timed: bool = True) -> Iterator[Shielded | None]:
    """The board of a run: in a notebook under the cell, else on stderr; None where nothing is shown. `progress` None: in a notebook only; or it is the board.

    `timed`: each line says how long it has been going on.

    Raises:
        SpecError: `progress` is something else.
    """
    board = _chosen(progress, timed=timed)
    if board is None:
        yield None
        return
    with Shielded(board) as shown:
        yield shown


def _chosen(progress: bool | Board | None, *, timed: bool) -> Board | None:
    if not isinstance(progress, (bool, type(None))):
        if not hasattr(progress, "show"):
            raise SpecError([Problem("progress", f"found {progress!r}, expected True, False or None")], "the arguments")
        return progress
    notebook = in_notebook()
    if not (notebook if progress is None else progress):
        return None
    if notebook:
        from unified_agents.progress.notebook import NotebookBoard

        return NotebookBoard(timed=timed)
    from unified_agents.progress.terminal import TerminalBoard

    return TerminalBoard(timed=timed)


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
        first(event)
        second(event)

    return listen
