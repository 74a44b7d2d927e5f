"""The reviewer at the terminal: one question at a time, asked on stderr, answered on stdin."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.markup import escape

from unified_agents.progress.terminal import TerminalBoard
from unified_agents.review import Decision, Review, Reviewer
from unified_agents.terminal import clean

_QUESTIONS = {"tool": "Allow this call? [y]es, [n]o: ", "answer": "Accept this answer? [y]es, [n]o (asks again), [e]dit: "}


def terminal_reviewer(board: TerminalBoard) -> Reviewer | None:
    """A reviewer that asks on the terminal; None when stdin is none, so that a team that needs a person is refused before it starts."""
    if not sys.stdin.isatty():
        return None

    def ask(review: Review) -> Decision:
        with board.paused() as console:
            return _asked(review, console)

    return ask


def _asked(review: Review, console: Console) -> Decision:
    if review.kind == "turn":
        console.print(f"\n[bold]{escape(clean(f'You are {review.agent}, in task {review.task!r}'))}[/]\n{escape(clean(review.content))}")
        return Decision(True, content=_edited(console))
    what = f"{review.agent} wants to call {review.tool}" if review.kind == "tool" else f"{review.agent} answers task {review.task!r}"
    console.print(f"\n[bold]{escape(clean(what))}[/]\n{escape(clean(review.content))}")
    while True:
        said = _answer(console, _QUESTIONS[review.kind]).strip().lower()
        if said in ("y", "yes"):
            return Decision(True)
        if said in ("n", "no"):
            return Decision(False, comment=_answer(console, "Why (the agent sees it): ").strip() or None)
        if said in ("e", "edit") and review.kind == "answer":
            return Decision(True, content=_edited(console))


def _edited(console: Console) -> str:
    """The new text, up to a line that holds a dot alone."""
    console.print("Write the answer; a line with a single dot ends it.")
    lines: list[str] = []
    while (line := _answer(console)) != "." or not "".join(lines).strip():
        lines += [line] if line != "." else []
    return "\n".join(lines)


def _answer(console: Console, question: str = "") -> str:
    """One line from the terminal, read past `sys.stdin`: its lock, held by a thread that waits, would abort an interpreter that ends.

    Raises:
        EOFError: the terminal was closed.
    """
    console.print(escape(question), end="")
    data = b""
    while not data.endswith(b"\n"):
        read = os.read(sys.stdin.fileno(), 4096)
        if not read:
            raise EOFError("the terminal was closed")
        data += read
    return data.decode(errors="replace").rstrip("\r\n")
