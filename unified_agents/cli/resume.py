"""`unified-agents resume`: finishes a run that was interrupted or failed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unified_agents.cli.run import AllowImport, AsJson, Backend, EventsFile, EventsTo, Quiet, Settings, Shown, Strict, pairs, run_shown

if TYPE_CHECKING:
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
        bool, typer.Option("--accept-changes", help="Go on although tasks are not what they were when the run began.")
    ] = False,
    repeat_unfinished: Annotated[
        bool, typer.Option("--repeat-unfinished", help="Call tools with side effects again although they may have done their work.")
    ] = False,
    finished: Annotated[
        list[str] | None, typer.Option("--finished", metavar="CALL=RESULT", help="Such a call did its work, with this result.")
    ] = None,
    as_json: AsJson = False,
    events: EventsFile = None,
    strict: Strict = True,
    quiet: Quiet = False,
    journal: Store = "sqlite:///runs.db",
) -> None:
    """Finish a run that was interrupted or failed, on the same or another backend; completed tasks are not run again."""
    from unified_agents.preparation import Options
    from unified_agents.runtime import Resuming
    from unified_agents.runtime import resume as resumed

    options = Options(backend=backend, strict=strict, settings=pairs(settings or (), "--set"), allow_imports=allow_import or ())

    how = Resuming(file, journal, accept_changes, repeat_unfinished, pairs(finished or (), "--finished"))

    async def started(shown: Shown) -> RunResult:
        shown.journal = journal
        return await resumed(run_id, how, shown.reviewing(options), shown.listen, shown.cancelled.append)

    events_to = EventsTo(events, other_than=[file or Path("team.yaml")], add=True)  # those of the earlier sessions stay
    run_shown(started, as_json=as_json, quiet=quiet, events=events_to)
