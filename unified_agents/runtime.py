"""Running a team, and resuming a run: what a caller says, the journal and its lock, and the run itself (`running.py`)."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unified_agents.definition import check_changes, recalled_options, source_of, stored_result
from unified_agents.engine import engine, in_thread
from unified_agents.errors import BackendError, JournalError, Problem, SpecError
from unified_agents.events import Dispatcher, Listener, check_listener
from unified_agents.journal import Journal, Writer, open_journal
from unified_agents.middleware import Middleware
from unified_agents.model_choice import Models
from unified_agents.preparation import Options, Prepared, Team, prepare
from unified_agents.progress import listening
from unified_agents.result import RunResult
from unified_agents.resume import Before
from unified_agents.review import Reviewer
from unified_agents.running import Run
from unified_agents.spec import JournalSpec
from unified_agents.state import is_run_id, new_run_id

_ENDING_SECONDS = 2.0


def run_team(
    team: Team, inputs: Mapping[str, Any] | None = None, *, backend: str | None = None, models: Models | None = None,
    tools: Mapping[str, Any] | None = None, reviewer: Reviewer | None = None, middleware: Sequence[Middleware] = (), on_event: Listener | None = None,
    run_id: str | None = None, strict: bool = True, record: str | os.PathLike[str] | None = None, replay: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> RunResult:  # fmt: skip
    """Run a team and wait for its result; works inside a running event loop too (a notebook).

    Args:
        team: a TeamSpec, or the path of a team file.
        inputs: values for the team's inputs.
        backend: the backend's name; absent: UNIFIED_AGENTS_BACKEND, the team's own, or the first that is installed.
        models: replaces models by name: PROVIDER/NAME, a ModelSpec, its fields, or a ChatModel.
        tools: tools by name, for agents that name them: functions, or tools of CrewAI, AutoGen or LangChain.
        reviewer: is asked for `human_review` and `requires_confirmation`: a callable from Review to Decision, True, False or a comment.
        middleware: extra layers around each model call, outermost first.
        on_event: called with each Event, in order, on a thread of its own.
        run_id: `[A-Za-z0-9._-]{1,128}`; absent: made up.
        strict: False runs without fields that the backend refuses, where that is allowed.
        record: a file that the models' answers are added to.
        replay: a file of recorded answers, which answer instead of the models: no key, no network; a call without a record is an error.
        progress: True shows a live line for each task, in a notebook under the cell, else on stderr; absent: in a notebook only.

    Raises:
        SpecError: the team or its inputs are wrong; nothing was called.
        BackendUnavailableError: unknown or not installed.
        UnsupportedFeatureError: the backend refuses a field that the team uses.
        RunError: the run failed; `error.result` is the RunResult.
    """
    options = Options(backend, inputs, models or {}, tools or {}, reviewer, middleware, strict, record, replay)
    with listening(on_event, progress) as listener:
        return engine().run(start(team, options, listener, run_id))


async def run_team_async(
    team: Team, inputs: Mapping[str, Any] | None = None, *, backend: str | None = None, models: Models | None = None,
    tools: Mapping[str, Any] | None = None, reviewer: Reviewer | None = None, middleware: Sequence[Middleware] = (), on_event: Listener | None = None,
    run_id: str | None = None, strict: bool = True, record: str | os.PathLike[str] | None = None, replay: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> RunResult:  # fmt: skip
    """As `run_team`, awaited; cancelling it cancels the run."""
    options = Options(backend, inputs, models or {}, tools or {}, reviewer, middleware, strict, record, replay)
    with listening(on_event, progress) as listener:
        return await engine().call_to_its_end(start(team, options, listener, run_id), _ENDING_SECONDS)


async def start(team: Team, options: Options, on_event: Listener | None, run_id: str | None) -> RunResult:
    """As `run_team`, on the engine's loop."""
    prepared = await in_thread(lambda: prepare(team, options), "unified-agents-prepare")  # reading and importing block
    return await execute(prepared, on_event, run_id)


def resume_run(
    run_id: str, *, team: Team | None = None, backend: str | None = None, models: Models | None = None, tools: Mapping[str, Any] | None = None,
    reviewer: Reviewer | None = None, middleware: Sequence[Middleware] = (), on_event: Listener | None = None, strict: bool | None = None,
    journal: str = JournalSpec().store, accept_changes: bool = False, repeat_unfinished: bool = False,
    finished: Mapping[str, str] | None = None, progress: bool | None = None,
) -> RunResult:  # fmt: skip
    """Finish a run that was interrupted or failed, on the same or another backend; what was completed is not run again.

    Args:
        run_id: the run. A completed one is not run: its result is returned as it was stored.
        team: the team, needed when it was built in Python; one that was read from a file is read from it again.
        backend: absent: where the run was.
        models: as for `run_team`; what was given there in Python must be given again.
        tools: likewise.
        reviewer: likewise.
        middleware: likewise.
        on_event: likewise.
        strict: as for `run_team`; absent: as when the run began.
        journal: where the run is recorded.
        accept_changes: go on although tasks are not what they were when the run began, or models, tools and middleware that were given then are not given.
        repeat_unfinished: call tools with side effects again, although they may have done their work before the run stopped.
        finished: results of such calls that did do their work, by the keys that UnfinishedCallError names.
        progress: as for `run_team`.

    Raises:
        UnknownRunError: there is no such run.
        RunBusyError: another process works on it.
        SpecError: the team is wrong, or not what it was.
        UnfinishedCallError: a tool with side effects may have done its work.
        JournalError, BackendUnavailableError, UnsupportedFeatureError, RunError: as for `run_team`.
    """
    options = Options(backend, None, models or {}, tools or {}, reviewer, middleware)
    how = Resuming(team, journal, accept_changes, repeat_unfinished, finished or {}, strict)
    with listening(on_event, progress) as listener:
        return engine().run(resume(run_id, how, options, listener))


async def resume_run_async(
    run_id: str, *, team: Team | None = None, backend: str | None = None, models: Models | None = None, tools: Mapping[str, Any] | None = None,
    reviewer: Reviewer | None = None, middleware: Sequence[Middleware] = (), on_event: Listener | None = None, strict: bool | None = None,
    journal: str = JournalSpec().store, accept_changes: bool = False, repeat_unfinished: bool = False,
    finished: Mapping[str, str] | None = None, progress: bool | None = None,
) -> RunResult:  # fmt: skip
    """As `resume_run`, awaited; cancelling it cancels the run."""
    options = Options(backend, None, models or {}, tools or {}, reviewer, middleware)
    how = Resuming(team, journal, accept_changes, repeat_unfinished, finished or {}, strict)
    with listening(on_event, progress) as listener:
        return await engine().call_to_its_end(resume(run_id, how, options, listener), _ENDING_SECONDS)


@dataclass(frozen=True)
class Resuming:
    """How a run is to be resumed; see `resume_run`."""

    team: Team | None = None
    journal: str = JournalSpec().store
    accept_changes: bool = False
    repeat_unfinished: bool = False
    finished: Mapping[str, str] = field(default_factory=dict)
    strict: bool | None = None


async def resume(
    run_id: str, how: Resuming, options: Options, on_event: Listener | None, on_cancelled: Callable[[RunResult], None] = lambda _: None
) -> RunResult:
    """As `resume_run`, on the engine's loop."""
    journal = open_journal(how.journal)
    await in_thread(lambda: journal.recorded(run_id), "unified-agents-journal")  # no lock is made for a run that does not exist
    with contextlib.ExitStack() as held:
        held.callback(await journal.lock(run_id))
        record = await in_thread(lambda: journal.recorded(run_id), "unified-agents-journal")
        if record.status == "completed" and record.result is not None:
            return stored_result(record, how.team)
        before = Before(await in_thread(lambda: journal.events(run_id), "unified-agents-journal"), how.repeat_unfinished, how.finished)
        given = replace(
            recalled_options(options, record, accept_changes=how.accept_changes, strict=how.strict),
            backend=options.backend or before.backend or record.backend,
        )
        prepared = await in_thread(lambda: prepare(how.team or source_of(record), given), "unified-agents-prepare")
        if not how.accept_changes:
            check_changes(record.definition["tasks"], prepared.plan)
        return await execute(prepared, on_event, run_id, on_cancelled, before, journal)


async def execute(
    prepared: Prepared,
    on_event: Listener | None = None,
    run_id: str | None = None,
    on_cancelled: Callable[[RunResult], None] = lambda _: None,
    before: Before | None = None,
    journal: Journal | None = None,
) -> RunResult:
    """Run a prepared team once, on the engine's loop; errors as `run_team`.

    `on_cancelled` gets the result of a run that was cancelled; `before` and `journal` are of a run that is resumed, which is locked already.
    """
    check_listener(on_event)
    if run_id is not None and not is_run_id(run_id):
        raise SpecError([Problem("run_id", f"found {run_id!r}, allowed: 1 to 128 of A-Z a-z 0-9 . _ -")], "the arguments")
    name, dispatcher = run_id or new_run_id(), Dispatcher(on_event)
    try:
        with contextlib.ExitStack() as held:
            book = await _journal(prepared.plan.team.journal, name, held, journal, named=run_id is not None)
            run = Run(prepared, name, dispatcher, before, book)
            if run.journal is not None:
                held.callback(run.journal.close)  # a tool that was left to itself may end after the run
            try:
                return await run.go()
            except asyncio.CancelledError:
                if run.cancelled is not None:
                    on_cancelled(run.cancelled)
                raise
            finally:
                if run.spans is not None:
                    run.spans.close()
    finally:
        await in_thread(dispatcher.close, "unified-agents-close")
        if prepared.recording is not None:
            await in_thread(prepared.recording.save, "unified-agents-record")


async def _journal(
    spec: JournalSpec | None, run_id: str, held: contextlib.ExitStack, journal: Journal | None, *, named: bool
) -> Writer | JournalError | None:
    """What writes a run's journal, the run being locked; the error, where the run may go on without; None where none is wanted.

    `named`: the caller chose the run's id, so there may be such a run already.

    Raises:
        JournalError: it cannot be opened, and is required.
        SpecError: there is a run by this name.
    """
    if journal is None and spec is None:
        return None
    try:
        book = journal or open_journal(spec.store if spec else "")
        if journal is None:
            held.callback(await book.lock(run_id))
        if journal is None and named and await in_thread(lambda: book.has(run_id), "unified-agents-journal"):
            taken = f"there is a run {run_id!r} already: resume it ({book.command(f'resume {run_id}')}), or take another name"
            raise SpecError([Problem("run_id", taken)], "the arguments")
        return await in_thread(book.writing, "unified-agents-journal")
    except (JournalError, BackendError) as error:
        if spec is None or spec.required:
            raise
        if journal is not None:
            journal.mark_unrecorded(run_id)
        return error if isinstance(error, JournalError) else JournalError(str(error))
