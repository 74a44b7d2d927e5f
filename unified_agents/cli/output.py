"""What the commands print, and where: documents on stdout, everything said to a person on stderr."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from unified_agents.errors import RunError, UnifiedAgentsError
from unified_agents.terminal import clean, errors

_OTHERS = 60  # room for the other columns
_PIPE = 1_000_000


def document() -> Console:
    """The console on stdout; nothing is cut or wrapped where that is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPE
    return console


def print_table(table: Table, unbroken: str) -> None:
    """A table on stdout. The cells of one column are never cut or wrapped, and nothing is where stdout is no terminal."""
    console = Console(highlight=False)
    column = next(column for column in table.columns if column.header == unbroken)
    column.no_wrap, column.overflow = True, "ignore"
    longest = max((cell_len(str(cell)) for cell in column.cells), default=0)
    for other in table.columns:
        other.overflow = other.overflow if other is column else "fold"
    column.min_width = longest
    console.width = max(console.width, longest + _OTHERS) if console.is_terminal else _PIPE
    console.print(table)


def print_json(document: Any) -> None:
    """One JSON document on stdout; what cannot be written there is escaped."""
    text = json.dumps(document, ensure_ascii=False, indent=2)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(document, indent=2)
    typer.echo(text)


def print_output(text: str) -> None:
    """A run's output on stdout; on a terminal without control characters, which could rewrite what stands above."""
    typer.echo(clean(text) if sys.stdout is not None and sys.stdout.isatty() else text)


def print_error(error: UnifiedAgentsError) -> None:
    """An error for the person at the keyboard: what failed, why, and what became of the rest."""
    console = errors()
    if not isinstance(error, RunError):
        console.print(f"[bold red]Error:[/] {escape(clean(str(error)))}")
        return
    where = f"task {error.task!r} failed: " if error.task else ""
    console.print(f"[bold red]Error:[/] {escape(clean(f'{where}{type(error).__name__}: {error}'))}")
    if error.result is not None:
        by_status: dict[str, list[str]] = {}
        for name, task in error.result.tasks.items():
            by_status.setdefault(task.status, []).append(name)
        console.print(escape("; ".join(f"{status}: {', '.join(names)}" for status, names in by_status.items())))
    if error.advice is not None:
        console.print(escape(error.advice))
