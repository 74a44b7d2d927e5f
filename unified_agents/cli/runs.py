"""`unified-agents runs`: what was run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from unified_agents.cli.output import print_json, print_table
from unified_agents.cli.resume import RunId, Store
from unified_agents.cli.run import AsJson, HtmlFile, apart
from unified_agents.errors import Problem, SpecError
from unified_agents.events import BackendReplaced, Event, RunResumed, RunStarted, TaskCompleted, TaskFailed, TaskStarted
from unified_agents.terminal import clean

if TYPE_CHECKING:
    from unified_agents.journal import Journal, RunRecord

app = typer.Typer(help="What was run.")

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _journal(store: str) -> Journal:
    from unified_agents.journal import open_journal

    return open_journal(store)


@app.callback(invoke_without_command=True)
def _group(context: typer.Context, as_json: AsJson = False, journal: Store = "sqlite:///runs.db") -> None:
    """What was run; without a command: list. What is said before the command counts for it."""
    if context.invoked_subcommand is None:
        list_runs(as_json=as_json, journal=journal)
    else:
        context.default_map = {context.invoked_subcommand: {"as_json": as_json, "journal": journal}}


@app.command("list")
def list_runs(
    as_json: AsJson = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, newest first.")] = 50,
    journal: Store = "sqlite:///runs.db",
) -> None:
    """List the runs, newest first."""
    records = _journal(journal).runs(limit)
    if as_json:
        print_json({"runs": [record.to_dict() for record in records]})
    elif not records:
        typer.echo("Nothing was run yet.", err=True)
    else:
        print_table(_table(records), "run")


def _table(records: list[RunRecord]) -> Table:
    table = Table("run", "team", "backend", "status", "started (UTC)", "took", box=None, pad_edge=False, header_style="bold")
    for one in records:
        took = f"{one.duration_s:.1f} s" if one.duration_s is not None else ""
        table.add_row(
            *(escape(clean(text)) for text in (one.run_id, one.team, one.backend, one.status, f"{one.started_at:%Y-%m-%d %H:%M:%S}", took))
        )
    return table


@app.command("show")
def show(run_id: RunId, as_json: AsJson = False, html: HtmlFile = None, journal: Store = "sqlite:///runs.db") -> None:
    """Show one run: its result as far as it came, and with --json or --html everything that happened."""
    book = _journal(journal)
    record, events = book.run(run_id), book.events(run_id)
    if html is not None:
        from unified_agents.report import run_page, write_page

        apart("--html", html, [])
        write_page(run_page(record, events), html)
    if as_json:
        print_json({**record.to_dict(), "result": record.result, "events": [event.to_dict() for event in events]})
    else:
        _print(book, record, events)


def _print(book: Journal, record: RunRecord, events: Sequence[Event]) -> None:
    """One run as text."""
    console = Console(highlight=False)
    print_table(_table([record]), "run")
    for name, task in (_tasks(events) if record.result is None else record.result["tasks"]).items():
        console.print(
            f"\n[bold]{escape(clean(name))}[/] ({escape(clean(task['agent']))}): {task['status']} on {escape(clean(task['backend']))}"
        )
        if task["output"] is not None:
            console.print(escape(clean(task["output"])), soft_wrap=True)
        if task["error"] is not None:
            console.print(f"[red]{escape(clean(task['error']['type']))}[/]: {escape(clean(task['error']['message']))}", soft_wrap=True)
    if record.status in ("interrupted", "failed", "cancelled"):
        typer.echo(f"\n{len(events)} events. Finish it with: {book.command(f'resume {record.run_id}')}", err=True)
    elif record.status == "unrecorded":
        typer.echo(f"\n{len(events)} events. It went on after its journal had failed: it cannot be resumed.", err=True)


def _tasks(events: Sequence[Event]) -> dict[str, dict[str, Any]]:
    """The tasks of a run that has no result, as far as they came."""
    tasks: dict[str, dict[str, Any]] = {}
    backend = ""
    for event in events:
        if isinstance(event, (RunStarted, RunResumed)):
            backend = event.backend
        elif isinstance(event, BackendReplaced):
            backend = event.replacement
        elif isinstance(event, (TaskStarted, TaskCompleted, TaskFailed)):
            made: dict[str, Any] = {"agent": event.agent, "backend": backend, "status": "unfinished", "output": None, "error": None}
            if isinstance(event, TaskCompleted):
                made.update(status="completed", output=event.output)
            elif isinstance(event, TaskFailed):
                made.update(status="failed", error={"type": event.error, "message": event.message})
            tasks[event.task] = made
    return tasks


@app.command("delete")
def delete(run_id: RunId, as_json: AsJson = False, journal: Store = "sqlite:///runs.db") -> None:
    """Delete a run with all that was kept of it."""
    _journal(journal).delete(run_id)
    if as_json:
        print_json({"deleted": [run_id]})
    else:
        typer.echo(f"Deleted {run_id}.", err=True)


@app.command("prune")
def prune(
    older_than: Annotated[str, typer.Option("--older-than", metavar="AGE", help="Such as 30d, 12h, 2w.")],
    as_json: AsJson = False,
    journal: Store = "sqlite:///runs.db",
) -> None:
    """Delete the runs that began longer ago; none that is being worked on."""
    gone = _journal(journal).prune(age(older_than))
    if as_json:
        print_json({"deleted": gone})
    else:
        typer.echo(f"Deleted {len(gone)} run{'s' if len(gone) != 1 else ''}.", err=True)


def age(text: str) -> timedelta:
    """A time such as 30d.

    Raises:
        SpecError: it is none.
    """
    match = re.fullmatch(r"(\d{1,6})([smhdw])", text.strip())
    if match is None:
        raise SpecError([Problem("--older-than", f"found {text!r}, expected a number and a unit: 30d (s, m, h, d, w)")], "the arguments")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
