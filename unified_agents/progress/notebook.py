"""Progress under the cell of a notebook: one display that is drawn anew as things happen, and kept with the notebook as it was in the end."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from html import escape
from types import TracebackType
from typing import Any

from typing_extensions import Self

from unified_agents.chat_models import monotonic
from unified_agents.progress.wording import Line
from unified_agents.terminal import clean

_DRAW_SECONDS = 0.25
_NOTES = 5
_HEADS = 20
_COLOURS = {"done": "#2e7d32", "failed": "#c62828", "skipped": "#b26a00", "moved": "#b26a00", "loss": "#b26a00"}


@dataclass
class _Row:
    """A task's line as it is now, and what happened beside it."""

    line: Line
    began: float = field(default_factory=monotonic)
    took: float | None = None
    notes: list[Line] = field(default_factory=list)


class NotebookBoard:
    """Lines under a cell: titles and losses above, each task with the last of its notes below it.

    What is shown is drawn a few times a second, and once more at the end, by a thread of its own: nobody who works waits for it.
    """

    def __init__(self, *, timed: bool = True) -> None:
        self._timed = timed
        self._rows: dict[str, _Row] = {}
        self._heads: list[Line] = []
        self._guard = threading.Lock()
        self._ended = threading.Event()
        self._changed = True
        self._context = contextvars.copy_context()  # of the cell: what is displayed belongs under it
        self._thread = threading.Thread(target=self._keep_drawing, name="unified-agents-progress", daemon=True)
        self._handle: Any = None

    def __enter__(self) -> Self:
        from IPython.display import display

        self._handle = display(self, display_id=True)  # type: ignore[no-untyped-call]  # IPython has none
        if self._handle is not None:  # else nobody shows what is displayed
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        if error is not None:
            self._stop()
        if self._handle is not None:
            self._thread.join()
            self._handle.update(self)

    def _stop(self) -> None:
        """Mark what is still under way: a line that is left must not look alive."""
        with self._guard:
            for row in (row for row in self._rows.values() if row.took is None):
                row.line, row.took = replace(row.line, kind="failed", said=f"{row.line.said}, stopped"), monotonic() - row.began

    def show(self, line: Line) -> None:
        """Show a line."""
        with self._guard:
            self._changed = True
            if line.kind == "started":
                known = self._rows.pop(line.about, None)
                self._rows[line.about] = _Row(line, notes=known.notes if known else [])
            elif line.is_own:
                self._replace(line)
            elif line.about in self._rows:
                self._rows[line.about].notes.append(line)
            elif line.about:  # it never began
                self._rows[line.about] = _Row(line, took=0.0)
            else:
                self._heads.append(line)

    def _replace(self, line: Line) -> None:
        if (row := self._rows.get(line.about)) is not None:
            row.line = line
            row.took = None if line.kind == "working" else monotonic() - row.began

    def _keep_drawing(self) -> None:
        while not self._ended.wait(_DRAW_SECONDS):
            with self._guard:
                changed, self._changed = self._changed or (self._timed and any(row.took is None for row in self._rows.values())), False
            if changed:
                with suppress(Exception):  # the last time, on the thread of the cell, it is told
                    self._context.copy().run(self._handle.update, self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """What the notebook shows, and what is left of it where only text is."""
        with self._guard:
            lines = list(self._lines())
        shown = "\n".join(f"{lead}{_html(line)}{escape(end)}" for lead, line, end in lines)
        text = "\n".join(f"{lead}{line.mark + ' ' if line.mark else ''}{_plain(line)}{end}" for lead, line, end in lines)
        if not lines:
            return {"text/html": "", "text/plain": ""}
        return {"text/html": f'<pre style="white-space: pre-wrap">{shown}</pre>', "text/plain": text}

    def _lines(self) -> Iterator[tuple[str, Line, str]]:
        """What stands before a line, the line, and what stands after it."""
        for line in self._heads[:_HEADS]:
            yield "", line, ""
        if len(self._heads) > _HEADS:
            yield "", Line("note", "", f"… {len(self._heads) - _HEADS} more"), ""
        for row in self._rows.values():
            took = monotonic() - row.began if row.took is None else row.took
            yield "" if row.line.mark else "… ", row.line, f"  {took:.1f} s" if self._timed and row.line.is_own else ""
            if len(row.notes) > _NOTES:
                yield "    ", Line("note", "", f"… {len(row.notes) - _NOTES} earlier"), ""
            for note in row.notes[-_NOTES:]:
                yield "    ", note, ""


def _plain(line: Line) -> str:
    return clean(f"{line.about}: {line.said}" if line.about else line.said)


def _html(line: Line) -> str:
    said, colour = escape(clean(line.said)), _COLOURS.get(line.kind)
    words = f"<b>{escape(clean(line.about))}</b>: {said}" if line.about else said
    if line.kind == "loss":
        return f'<span style="color: {colour}">{words}</span>'
    return f'<span style="color: {colour}">{line.mark}</span> {words}' if line.mark else words
