"""What the commands print, and where: documents on stdout, everything said to a person on stderr."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from unified_agents.errors import RunError, UnifiedAgentsError

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def errors() -> Console:
    """The console on stderr."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2))


def print_output(text: str) -> None:
    """A run's output on stdout; on a terminal without control characters, which could rewrite what stands above."""
    typer.echo(clean(text) if sys.stdout is not None and sys.stdout.isatty() else text)


def clean(text: str) -> str:
    """`text` without control characters but for line ends and tabs."""
    return _CONTROL.sub("", text)


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
