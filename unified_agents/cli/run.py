"""`unified-agents run`: runs a team file."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from typing_extensions import Self

from unified_agents.cli.output import print_json, print_output
from unified_agents.cli.reviewer import terminal_reviewer
from unified_agents.engine import engine, in_thread
from unified_agents.errors import Problem, RunError, SpecError
from unified_agents.events import Event, JournalUnavailable, RunResumed, RunStarted
from unified_agents.progress import RunProgress, Shielded
from unified_agents.progress.terminal import TerminalBoard

if TYPE_CHECKING:
    from unified_agents.preparation import Options
    from unified_agents.result import RunResult

File = Annotated[Path, typer.Argument(help="The team file, YAML or JSON.")]
Backend = Annotated[str | None, typer.Option("--backend", "-b", help="The backend to run on; see: unified-agents backends.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Replace a part of the file, such as models.default.temperature=0.5."),
]


AllowImport = Annotated[
    list[str] | None, typer.Option("--allow-import", metavar="PKG", help="A package that references in the file may name.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
EventsFile = Annotated[Path | None, typer.Option("--events", metavar="FILE", help="Write every event as a line of JSON; - is stderr.")]
HtmlFile = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page to look at: one HTML file.")]
Strict = Annotated[
    bool, typer.Option("--strict/--no-strict", help="Refuse a team that uses what the backend cannot do, or run without it.")
]
_STOPPED = {"error": {"type": "RunCancelledError", "message": "interrupted before the run began", "problems": []}}
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]


def run(
    file: File = Path("team.yaml"),
    backend: Backend = None,
    inputs: Annotated[list[str] | None, typer.Option("--input", "-i", metavar="KEY=VALUE", help="An input of the team.")] = None,
    inputs_file: Annotated[Path | None, typer.Option("--inputs", metavar="FILE", help="Inputs from a YAML or JSON file; -i wins.")] = None,
    settings: Settings = None,
    allow_import: AllowImport = None,
    as_json: AsJson = False,
    events: EventsFile = None,
    record: Annotated[Path | None, typer.Option("--record", metavar="FILE", help="Add the models' answers to a file.")] = None,
    replay: Annotated[Path | None, typer.Option("--replay", metavar="FILE", help="Answer from such a file instead of the models.")] = None,
    run_id: Annotated[str | None, typer.Option("--run-id", help="A name for this run.")] = None,
    strict: Strict = True,
    quiet: Quiet = False,
) -> None:
    """Run a team; its output goes to stdout."""
    from unified_agents.preparation import Options, prepare
    from unified_agents.runtime import execute

    given = {**inputs_of(inputs_file), **pairs(inputs or (), "-i")}
    options = Options(
        backend=backend,
        inputs=given,
        strict=strict,
        record=record,
        replay=replay,
        settings=pairs(settings or (), "--set"),
        allow_imports=allow_import or (),
    )

    async def started(shown: Shown) -> RunResult:
        prepared = await in_thread(lambda: prepare(file, shown.reviewing(options)), "unified-agents-prepare")
        if prepared.plan.team.journal is not None:
            shown.journal = prepared.plan.team.journal.store
        return await execute(prepared, shown.listen, run_id, shown.cancelled.append)

    run_shown(started, as_json=as_json, quiet=quiet, events=EventsTo(events, other_than=[file, inputs_file, record, replay]))


class Shown:
    """What a run of the command line shows while it goes, and what it keeps for its end."""

    def __init__(self, board: TerminalBoard, events: EventsTo) -> None:
        self.board, self.live, self._events = board, Shielded(board), events
        self._progress = RunProgress(self.live)
        self.journal = "sqlite:///runs.db"
        self.cancelled: list[RunResult] = []
        self.resumable: str | None = None
        self.began = False

    def reviewing(self, options: Options) -> Options:
        """The options with the person at the terminal as reviewer."""
        return replace(options, reviewer=terminal_reviewer(self.board))

    def listen(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, (RunStarted, RunResumed)):
            self.began, self.resumable = True, event.run_id if event.resumable else None
        elif isinstance(event, JournalUnavailable):
            self.resumable = None
        self._events.write(event)
        self._progress.listen(event)


def apart(option: str, path: Path, others: Iterable[Path | None]) -> None:
    """See that what is written does not go over what the run reads or writes itself, nor over a journal or memory.

    Raises:
        SpecError: it would.
        OSError: a file cannot be looked at.
    """
    for one in others:
        if one is not None and (one.resolve() == path.resolve() or (one.exists() and path.exists() and one.samefile(path))):
            raise SpecError([Problem(option, f"{path} is a file of the run itself: name another one")], "the arguments")
    if path.is_file() and _begins_with(path, b"SQLite format 3\0"):
        raise SpecError([Problem(option, f"{path} is a database, such as a journal: name another file")], "the arguments")


def _begins_with(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(mark)) == mark


class EventsTo:
    """A file that events go to, one a line; none when there is no path. When it cannot be written any more, that is said once and the run goes on."""

    def __init__(self, path: Path | None, *, other_than: Sequence[Path | None], add: bool = False) -> None:
        self._path, self._other_than, self._add = path, other_than, add
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        """Open it.

        Raises:
            SpecError: it cannot be written, or is one that the run reads or writes itself.
        """
        path = self._path
        if path is None or str(path) == "-":
            self._file = sys.stderr if path is not None else None
            return self
        try:
            apart("--events", path, self._other_than)
            self._file = path.open("a" if self._add else "w", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise SpecError([Problem("--events", f"{path} cannot be written: {error.strerror or error}")], "the arguments") from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def write(self, event: Event) -> None:
        """Add an event."""
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(event.to_dict(), ensure_ascii=False, default=str) + "\n")
            self._file.flush()
        except OSError as error:
            self._close()
            with contextlib.suppress(OSError):
                typer.echo(f"Events are not written any more: {self._path}: {error.strerror or error}. The run goes on.", err=True)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None and file is not sys.stderr:
            with contextlib.suppress(OSError):  # what is left cannot be written either
                file.close()


def run_shown(work: Callable[[Shown], Coroutine[Any, Any, RunResult]], *, as_json: bool, quiet: bool, events: EventsTo) -> None:
    """Run something with progress on stderr, events into a file and the result on stdout."""
    with events:
        shown = Shown(TerminalBoard(quiet=quiet), events)
        try:
            with shown.live:
                result = engine().run(work(shown))
        except KeyboardInterrupt:
            if as_json:
                print_json(shown.cancelled[0].model_dump(mode="json") if shown.cancelled else _STOPPED)
            if (said := _how_to_resume(shown)) is not None:
                typer.echo(said, err=True)
            raise
        except RunError as error:
            error.advice = _how_to_resume(shown) if error.result is not None else None
            raise
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        print_output(str(result))


def _how_to_resume(shown: Shown) -> str | None:
    if shown.resumable is None:
        return None
    from unified_agents.journal import open_journal

    return f"Resume it with: {open_journal(shown.journal).command(f'resume {shown.resumable}')}"


def pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """`KEY=VALUE` texts as a mapping.

    Raises:
        SpecError: one holds no `=`.
    """
    wrong = [Problem("", f"{option} {text}: expected KEY=VALUE") for text in texts if "=" not in text or text.startswith("=")]
    if wrong:
        raise SpecError(wrong, "the arguments")
    return {key: value for key, _, value in (text.partition("=") for text in texts)}


def inputs_of(path: Path | None) -> dict[str, Any]:
    """The inputs in a YAML or JSON file; none without one.

    Raises:
        SpecError: it cannot be read, or holds no mapping.
    """
    if path is None:
        return {}
    from unified_agents.reading import ReadError, read_text

    try:
        data, _ = read_text(path.read_text(encoding="utf-8"), is_json=path.suffix == ".json")
    except ReadError as error:
        raise SpecError(error.problems, str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError([Problem("", f"cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}")], str(path)) from None
    if not isinstance(data, dict):
        raise SpecError([Problem("", "expected inputs as key: value")], str(path))
    return data
