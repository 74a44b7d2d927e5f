"""`unified-agents resume`: finishes a run that was interrupted or failed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unified_agents.cli.run import AllowImport, AsJson, Backend, EventsFile, EventsTo, Quiet, Settings, Shown, pairs, run_shown

if TYPE_CHECKING:
    from unified_agents.journal import RunRecord
    from unified_agents.result import RunResult

RunId = Annotated[str, typer.Argument(metavar="RUN_ID", help="The run; see: unified-agents runs list.")]
Store = Annotated[str, typer.Option("--journal", metavar="URL", help="Where runs are recorded.")]


def resume(
    run_id: RunId,
    backend: Backend = None,
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE", help="The team file, where it was moved.")] = None,
    settings: Settings = None,
    allow_import: AllowImport = None,
    accept_changes: Annotated[
        bool,
        typer.Option("--accept-changes", help="Go on although tasks are not what they were, or what was given in Python is not given."),
    ] = False,
    repeat_unfinished: Annotated[
        bool, typer.Option("--repeat-unfinished", help="Call tools with side effects again although they may have done their work.")
    ] = False,
    finished: Annotated[
        list[str] | None, typer.Option("--finished", metavar="CALL=RESULT", help="Such a call did its work, with this result.")
    ] = None,
    as_json: AsJson = False,
    events: EventsFile = None,
    strict: Annotated[
        bool | None,
        typer.Option("--strict/--no-strict", help="Refuse what the backend cannot do, or run without it; absent: as the run began."),
    ] = None,
    quiet: Quiet = False,
    journal: Store = "sqlite:///runs.db",
) -> None:
    """Finish a run that was interrupted or failed, on the same or another backend; completed tasks are not run again."""
    from unified_agents.journal import open_journal
    from unified_agents.preparation import Options
    from unified_agents.runtime import Resuming
    from unified_agents.runtime import resume as resumed

    options = Options(backend=backend, settings=pairs(settings or (), "--set"), allow_imports=allow_import or ())
    how = Resuming(file, journal, accept_changes, repeat_unfinished, pairs(finished or (), "--finished"), strict)

    async def started(shown: Shown) -> RunResult:
        shown.journal = journal
        result = await resumed(run_id, how, shown.reviewing(options), shown.listen, shown.cancelled.append)
        if not shown.began and not quiet:
            typer.echo(f"Run {run_id} was completed before: this is its stored result, and nothing was run.", err=True)
        return result

    own = [file, *_files_of(open_journal(journal).run(run_id))] if events is not None else []
    events_to = EventsTo(events, other_than=own, add=True)  # those of the earlier sessions stay
    run_shown(started, as_json=as_json, quiet=quiet, events=events_to)


def _files_of(record: RunRecord) -> list[Path]:
    """The files that a run reads or writes itself, as far as they are known."""
    names = (record.definition.get(kind) for kind in ("source", "record", "replay"))
    return [Path(name) for name in names if name]
