"""The journal: every event of every run, durable, in one SQLite file (WAL) that many processes share.

Events are handed to a thread that writes them in order, several in one transaction when they come fast; a killed process loses nothing that was committed,
and what is in the file is always a beginning of what happened. JSON only; files for their owner alone. A run is locked while a process works on it; the
lock ends with the process. A run that went on after its journal failed is marked beside the file, since nothing can be told of it in the file.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import itertools
import json
import os
import queue
import shlex
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from unified_agents.errors import JournalError, Problem, RunBusyError, SpecError, UnknownRunError, UnrecordedRunError
from unified_agents.events import Event, event_of
from unified_agents.sqlite import identity, in_wal_mode, is_locked, is_no_right, keep_private, reason
from unified_agents.state import in_state_place, state_folder, state_place

VERSION = 1
DEFAULT = "sqlite:///runs.db"
_BUSY_SECONDS = 5.0
_LOOK_SECONDS = 0.1
"""Longer than another process holds a run's lock that only looks whether somebody works on it."""
_IDLE_SECONDS = 3.0
"""So long after its last run a writer lives on, for the next one."""
_GATHER_SECONDS = 0.02
"""So long an event waits for others: to wake a thread and to commit for each would cost more than all the rest."""
_SCHEMA = """
CREATE TABLE runs (
  run_id TEXT PRIMARY KEY, team TEXT NOT NULL, backend TEXT NOT NULL, status TEXT NOT NULL, started_at TEXT NOT NULL, ended_at TEXT, duration_s REAL,
  definition TEXT NOT NULL, result TEXT
);
CREATE TABLE events (
  run_id TEXT NOT NULL, seq INTEGER NOT NULL, type TEXT NOT NULL, data TEXT NOT NULL, PRIMARY KEY (run_id, seq)
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""
_BEGIN = "INSERT INTO runs (run_id, team, backend, status, started_at, definition) VALUES (?, ?, ?, 'running', ?, ?)"
_RESUME = "UPDATE runs SET status = 'running', team = ?, backend = ?, definition = ?, ended_at = NULL, duration_s = NULL, result = NULL WHERE run_id = ?"
_EVENT = "INSERT INTO events (run_id, seq, type, data) VALUES (?, ?, ?, ?)"
_FURTHER = ", (?, ?, ?, ?)"
_AT_ONCE = 50  # events in one statement
_END = "UPDATE runs SET status = ?, ended_at = ?, duration_s = ?, result = ? WHERE run_id = ?"
_COLUMNS = "run_id, team, backend, status, started_at, ended_at, duration_s, definition, result"


@dataclass(frozen=True)
class RunRecord:
    """One run as the journal knows it. `status`: completed, failed, cancelled, running, interrupted, or unrecorded.

    An interrupted run's process is gone; an unrecorded run went on after its journal had failed, and cannot be resumed.
    `definition` says what it was made of, so that it can be resumed; `result` is the RunResult's JSON of its last end.
    """

    run_id: str
    team: str
    backend: str
    status: str
    started_at: datetime
    ended_at: datetime | None
    duration_s: float | None
    definition: Mapping[str, Any] = field(repr=False)
    result: Mapping[str, Any] | None = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The run as it stands in `runs list --json`."""
        return {
            "run_id": self.run_id, "team": self.team, "backend": self.backend, "status": self.status,
            "started_at": self.started_at.isoformat(), "duration_s": self.duration_s,
        }  # fmt: skip


class Journal:
    """One journal file. `open_journal` gives the process's one; reading and deleting block and are for threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: Writer | None = None

    def command(self, words: str) -> str:
        """What to type to do something with this journal, such as `resume ID`."""
        place = state_place()
        if self.path == place / "runs.db":
            return f"unified-agents {words}"
        inside = place in self.path.parents
        return f"unified-agents {words} --journal {shlex.quote(f'sqlite:///{self.path.relative_to(place) if inside else self.path}')}"

    @contextmanager
    def locked(self, run_id: str) -> Iterator[None]:
        """Within it no other process works on the run.

        Raises:
            RunBusyError: another one does.
        """
        lock, end = self._lock(run_id), time.monotonic() + _LOOK_SECONDS
        while not self._taken(lock, run_id, end):
            time.sleep(_LOOK_SECONDS / 10)
        try:
            yield
        finally:
            lock.release()

    async def lock(self, run_id: str) -> Callable[[], None]:
        """As `locked`, for the engine's loop: what ends it.

        Raises:
            RunBusyError: another process works on the run.
        """
        lock, end = self._lock(run_id), time.monotonic() + _LOOK_SECONDS
        while not self._taken(lock, run_id, end):  # noqa: ASYNC110  # it is another process that lets go
            await asyncio.sleep(_LOOK_SECONDS / 10)
        return lock.release

    def _taken(self, lock: _Lock, run_id: str, end: float) -> bool:
        try:
            taken = lock.take()
        except OSError as error:
            raise JournalError(f"the journal {self.path} cannot lock run {run_id!r}: {_reason(error)}") from error
        if not taken and time.monotonic() > end:
            raise RunBusyError(f"run {run_id!r} is being worked on by another process; wait for it, or end it first")
        return taken

    def _lock(self, run_id: str) -> _Lock:
        folder = _run_folder(self.path, run_id)
        try:
            _make_folder(self.path.parent)
            for one in (folder.parent, folder):  # one by one: only the last of `parents=True` gets the mode
                one.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise JournalError(f"the journal's folder {folder} cannot be made: {_reason(error)}") from error
        return _Lock(folder / "lock")

    def writing(self) -> Writer:
        """The thread that writes, made at first use.

        Raises:
            JournalError: the file cannot be opened for writing.
        """
        with _guard:
            if self._writer is None or not self._writer.awake():
                self._writer = Writer(self.path)
            return self._writer

    def run(self, run_id: str) -> RunRecord:
        """One run.

        Raises:
            UnknownRunError: the journal has none by this name.
            JournalError: it cannot be read.
        """
        found = self._runs("WHERE run_id = ?", run_id)
        if not found:
            raise UnknownRunError(f"there is no run {run_id!r} in {self.path}; see: {self.command('runs list')}")
        return found[0]

    def recorded(self, run_id: str) -> RunRecord:
        """A run of which all is known, so that it may be resumed.

        Raises:
            UnknownRunError, JournalError: as `run`.
            UnrecordedRunError: it went on after its journal had failed.
        """
        record = self.run(run_id)
        if record.status == "unrecorded":
            raise UnrecordedRunError(
                f"run {run_id!r} went on after its journal had failed (journal.required: false), so nobody knows what it did last: it cannot be resumed"
                f"; what is known of it: {self.command(f'runs show {run_id}')}"
            )
        return record

    def mark_unrecorded(self, run_id: str) -> None:
        """Say of a run that it goes on without its journal."""
        _mark(_run_folder(self.path, run_id))

    def has(self, run_id: str) -> bool:
        """Whether there is a run by this name."""
        return bool(self._runs("WHERE run_id = ?", run_id))

    def runs(self, limit: int = -1) -> list[RunRecord]:
        """The runs, newest first.

        Raises:
            JournalError: the journal cannot be read.
        """
        return self._runs("ORDER BY started_at DESC, run_id DESC LIMIT ?", limit)

    def events(self, run_id: str) -> list[Event]:
        """A run's events, in order.

        Raises:
            JournalError: the journal cannot be read.
        """
        rows = self._read("SELECT data FROM events WHERE run_id = ? ORDER BY seq", run_id)
        return [event for (data,) in rows if (event := event_of(json.loads(data))) is not None]

    def delete(self, run_id: str) -> None:
        """Delete a run with all that was kept of it.

        Raises:
            UnknownRunError: the journal has none by this name.
            RunBusyError: a process works on it.
        """
        self.run(run_id)
        with self.locked(run_id), closing(_connect(self.path)) as db:
            try:
                db.execute("BEGIN IMMEDIATE")
                db.execute("DELETE FROM events WHERE run_id = ?", (run_id,))
                db.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))
                db.execute("COMMIT")
            except sqlite3.Error as error:
                raise _failure(self.path, error) from error
            shutil.rmtree(_run_folder(self.path, run_id), ignore_errors=True)  # with the lock: who waits for it looks again

    def prune(self, older_than: timedelta) -> list[str]:
        """Delete the runs that began longer ago, but none that a process works on; their names."""
        try:
            limit = datetime.now(timezone.utc) - older_than
        except OverflowError:  # before the year 1
            return []
        gone = [record.run_id for record in self.runs() if record.started_at < limit and record.status != "running"]
        for run_id in list(gone):
            try:
                self.delete(run_id)
            except (RunBusyError, UnknownRunError):  # resumed, or deleted, a moment ago
                gone.remove(run_id)
        return gone

    def _runs(self, rest: str, *values: Any) -> list[RunRecord]:
        return [self._record(row) for row in self._read(f"SELECT {_COLUMNS} FROM runs {rest}", *values)]  # noqa: S608  # our own words

    def _record(self, row: Sequence[Any]) -> RunRecord:
        folder = _run_folder(self.path, row[0])
        if row[3] == "running" and not _Lock(folder / "lock").is_held():  # again: it may have ended since
            row = next(iter(self._read(f"SELECT {_COLUMNS} FROM runs WHERE run_id = ?", row[0])), row)  # noqa: S608
            row = tuple("interrupted" if value == "running" and n == 3 else value for n, value in enumerate(row))
        run_id, team, backend, status, started, ended, duration, definition, result = row
        if os.path.exists(folder / _MARK):  # which raises nothing
            status = "unrecorded"
        return RunRecord(
            run_id, team, backend, status, datetime.fromisoformat(started), datetime.fromisoformat(ended) if ended else None, duration,
            json.loads(definition), json.loads(result) if result else None,
        )  # fmt: skip

    def _read(self, statement: str, *values: Any) -> list[Any]:
        """Rows, read without the right to write; none when there is no file, or nothing in it yet."""
        try:
            if identity(self.path) is None:
                return []
            with closing(_looking(self.path)) as db:
                return db.execute(statement, values).fetchall() if _looked_at(db, self.path) else []
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"the journal {self.path} failed: {reason(error, _BUSY_SECONDS)}") from error


class _Lock:
    """A file that one process holds; it is let go of with the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: int | None = None

    def take(self) -> bool:
        """Whether it is held from now on; False when another one holds it."""
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(file)
            if identity(self._path) == (found.st_dev, found.st_ino):  # else it was deleted meanwhile
                self._held, file = file, -1
        except BlockingIOError:
            pass
        finally:
            if file >= 0:
                os.close(file)
        return self._held is not None

    def release(self) -> None:
        """Let go of it."""
        if self._held is not None:
            os.close(self._held)
        self._held = None

    def is_held(self) -> bool:
        """Whether anybody holds it; needs no right to write, and makes nothing."""
        try:
            file = os.open(self._path, os.O_RDONLY)
        except OSError as error:
            return error.errno not in (errno.ENOENT, errno.ENOTDIR)
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(file)
        return False


_MARK = "unrecorded"


def _run_folder(path: Path, run_id: str) -> Path:
    """Where a run's lock is, and its mark when it went on without its journal."""
    return path.parent / ("runs" if path.name == "runs.db" else f"{path.name}.runs") / run_id


def _mark(folder: Path) -> None:
    """Another name for a file that is there, which a full disk still has room for."""
    with suppress(FileExistsError):
        try:
            os.link(folder / "lock", folder / _MARK)
        except FileExistsError:
            raise
        except OSError:
            with suppress(OSError):
                (folder / _MARK).touch(0o600)


Statement = tuple[str, Sequence[Any]]


class RunJournal:
    """The journal of one run under way. `put` returns at once; a failure shows in `failure`, and is told to `on_failure`, on the loop.

    A run that goes on after a failure, not being `required` to be written down, is marked before anything else is done.
    """

    def __init__(self, writer: Writer, run_id: str, on_failure: Callable[[JournalError], None], *, required: bool = True) -> None:
        self.failure: JournalError | None = None
        self._closed = False
        self._stopped = False  # on the writer's thread: nothing is written after a gap
        self._writer, self._run_id, self._tell, self._required = writer, run_id, on_failure, required
        self._loop = asyncio.get_running_loop()
        writer.hold()

    async def begin(self, team: str, backend: str, definition: Mapping[str, Any]) -> None:
        """Enter a new run.

        Raises:
            JournalError: it cannot be written.
        """
        (self._folder / _MARK).unlink(missing_ok=True)  # of one that never got into the file
        await self._now((_BEGIN, (self._run_id, team, backend, _now(), json.dumps(definition))))

    async def resume(self, team: str, backend: str, definition: Mapping[str, Any]) -> None:
        """Enter that a run goes on.

        Raises:
            JournalError: it cannot be written.
        """
        await self._now((_RESUME, (team, backend, json.dumps(definition), self._run_id)))

    def put(self, event: Event) -> None:
        """Append an event."""
        if self.failure is not None or self._closed:
            return
        try:
            self._put(self._row(event))
        except Exception as error:  # noqa: BLE001  # nested deeper than can be written, or what cannot be text
            self._put(broken=error)

    async def end(self, status: str, duration_s: float, result: str, last: Event | None = None) -> None:
        """Enter how the run ended, with its result as JSON and together with its last event, and wait for it.

        After a failure only how it ended is entered, if that can be done now.
        """
        rest, again = (_now(), duration_s, result, self._run_id), self.failure is not None
        if not again:
            self._put(*([self._row(last)] if last else []), (_END, (status, *rest)))
            await self.flush()
            await asyncio.sleep(0)  # a failure is told through the loop
        if self.failure is not None and (again or not self._required):
            self._writer.put(Entry([(_END, (status if self._required else "unrecorded", *rest))]))
            await self.flush()

    def close(self) -> None:
        """Take nothing more: the run has ended, and the next session numbers its events from here."""
        if not self._closed:
            self._closed = True
            self._writer.let_go()

    async def flush(self) -> None:
        """Wait until everything so far is committed, or the journal has failed."""
        done = asyncio.Event()
        self._writer.when_written(lambda: self._call(done.set))
        await done.wait()

    async def _now(self, statement: Statement) -> None:
        self._put(statement)
        await self.flush()
        await asyncio.sleep(0)  # a failure is told through the loop
        if self.failure is not None:
            raise self.failure

    def _row(self, event: Event) -> Statement:
        return _EVENT, (self._run_id, event.seq, event.type, event.to_json())

    @property
    def _folder(self) -> Path:
        return _run_folder(self._writer.path, self._run_id)

    def _put(self, *statements: Statement, broken: Exception | None = None) -> None:
        self._writer.put(Entry(statements, self._failed, lambda: not self._stopped, broken))

    def _failed(self, error: JournalError) -> None:
        """Called on the writer's thread, or where that has ended."""
        self._stopped = True
        if not self._required:
            _mark(self._folder)

        def tell() -> None:
            if self.failure is None:
                self.failure = error
                self._tell(error)

        self._call(tell)

    def _call(self, function: Callable[[], object]) -> None:
        """Call something on the loop, from the writer's thread."""
        with suppress(RuntimeError):  # it is closed: nobody waits any more
            self._loop.call_soon_threadsafe(function)


@dataclass(frozen=True)
class Entry:
    """What is written together, or not at all; `wanted` is asked when it is its turn, and `broken` says why it cannot be written."""

    statements: Sequence[Statement]
    failed: Callable[[JournalError], None] = lambda _error: None
    wanted: Callable[[], bool] = lambda: True
    broken: Exception | None = None

    def ready(self) -> Sequence[Statement]:
        """What is to be written now.

        Raises:
            Exception: it cannot be.
        """
        if not self.wanted():
            return []
        if self.broken is not None:
            raise self.broken
        return self.statements


class Writer:
    """The one thread of this process that writes to one journal file. It ends a while after the last run that holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._queue: queue.SimpleQueue[Entry | Callable[[], object]] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._guard = threading.Lock()
        self._held = 0
        self._ended = False
        self._db = _connect(path)
        self._file = identity(path)
        threading.Thread(target=self._run, name=f"unified-agents-journal {path}", daemon=True).start()

    def awake(self) -> bool:
        """Whether it writes to the file that is there now, and goes on for a while: somebody may have deleted the state folder."""
        return self._is_there() and self._added(lambda: None)

    def hold(self) -> None:
        """A run needs it."""
        with self._guard:
            self._held += 1

    def let_go(self) -> None:
        """A run does not need it any more."""
        with self._guard:
            self._held -= 1

    def put(self, entry: Entry) -> None:
        """Write something after everything that was put before."""
        if not self._added(entry):
            entry.failed(JournalError(f"the journal {self.path} was closed"))

    def when_written(self, tell: Callable[[], object]) -> None:
        """Call `tell` once everything that was put before is committed, or has failed: soon, and on the writer's thread."""
        if self._added(tell):
            self._hurry.set()
        else:
            tell()

    def _added(self, one: Entry | Callable[[], object]) -> bool:
        with self._guard:
            if not self._ended:
                self._queue.put(one)
            return not self._ended

    def _run(self) -> None:
        while not self._ended:
            try:
                batch = [self._queue.get(timeout=_IDLE_SECONDS)]
            except queue.Empty:
                self._end_if_idle()
                continue
            self._hurry.wait(_GATHER_SECONDS)
            self._hurry.clear()
            while not self._queue.empty():
                batch.append(self._queue.get())
            self._write([one for one in batch if isinstance(one, Entry)])
            for one in batch:
                if not isinstance(one, Entry):
                    one()
        self._db.close()

    def _end_if_idle(self) -> None:
        with self._guard:
            self._ended = self._held <= 0 and self._queue.empty()

    def _write(self, batch: Sequence[Entry]) -> None:
        """All of a batch together; when that fails, one by one, so that one run's trouble is not another's."""
        error = self._failure_of(batch) if batch else None
        if error is None:
            return
        left = list(batch)
        while left and not _is_everybodys(error):
            one = left.pop(0)
            again = self._failure_of([one]) if len(batch) > 1 else error
            if again is not None and _is_everybodys(again):
                left, error = [one, *left], again
            elif again is not None:
                one.failed(_failure(self.path, again))
        for one in left:  # nothing can be written now, and nobody is waited for again
            one.failed(_failure(self.path, error))

    def _failure_of(self, batch: Sequence[Entry]) -> Exception | None:
        """Why a batch could not be written, if it could not."""
        try:
            if not self._is_there():
                raise FileNotFoundError(errno.ENOENT, "it was deleted or replaced while it was written to")
            self._commit(list(_together(one for entry in batch for one in entry.ready())))
        except Exception as error:  # noqa: BLE001  # whatever it is, it must not end the thread that others wait for
            self._roll_back()
            return error
        return None

    def _commit(self, statements: Sequence[Statement]) -> None:
        """One statement is a transaction by itself. Each that is made lets the threads of the run go first: the fewer, the less that costs them."""
        if not statements:
            return
        if len(statements) == 1:
            self._db.execute(*statements[0])
            return
        self._db.execute("BEGIN IMMEDIATE")
        for statement, values in statements:
            self._db.execute(statement, values)
        self._db.execute("COMMIT")

    def _is_there(self) -> bool:
        try:
            return self._file == identity(self.path)
        except OSError:
            return False

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")


def _is_everybodys(error: Exception) -> bool:
    """Whether nothing else can be written either."""
    return is_locked(error) or isinstance(error, FileNotFoundError)


def _together(statements: Iterable[Statement]) -> Iterator[Statement]:
    """Events that follow one another as one statement."""
    for kind, some in itertools.groupby(statements, key=itemgetter(0)):
        rows = [values for _, values in some]
        size = _AT_ONCE if kind is _EVENT else 1
        for at in range(0, len(rows), size):
            part = rows[at : at + size]
            yield kind + _FURTHER * (len(part) - 1), list(itertools.chain.from_iterable(part))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()


def _failure(path: Path, error: Exception) -> JournalError:
    failed = JournalError(f"the journal {path} failed: {_reason(error)}")
    failed.__cause__ = error
    return failed


def _reason(error: Exception) -> str:
    """Why, and what can be done about it."""
    said = reason(error, _BUSY_SECONDS)
    if not is_no_right(error):
        return said
    return f"{said}; set UNIFIED_AGENTS_HOME to a folder that can be written, name another file in journal.store, or do without: journal: false"


def _connect(path: Path) -> sqlite3.Connection:
    """A connection that writes; the file and its tables are made if need be.

    Raises:
        JournalError: it cannot be opened or written, or holds something else.
    """
    try:
        _make_folder(path.parent)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    except (sqlite3.Error, OSError) as error:
        raise _failure(path, error) from error
    try:
        _looked_at(db, path)  # before anything is changed in what may be another program's file
        keep_private(path)
        in_wal_mode(db, _BUSY_SECONDS)
        db.execute("PRAGMA synchronous = FULL")  # else what is committed survives a kill of the process, but not the loss of power
        _migrate(db, path)
    except sqlite3.Error as error:
        db.close()
        raise _failure(path, error) from error
    except BaseException:
        db.close()
        raise
    return db


def _looking(path: Path) -> sqlite3.Connection:
    """A connection that only reads. Where nobody may write beside the file, and nobody does, it is read as it lies there."""
    if path.is_dir():  # SQLite would speak of the disk
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    name = f"file:{quote(str(path))}?mode=ro"
    db = sqlite3.connect(name, timeout=_BUSY_SECONDS, isolation_level=None, uri=True)
    try:
        db.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.Error as error:
        db.close()
        if not is_no_right(error) or Path(f"{path}-wal").exists():
            raise
        return sqlite3.connect(f"{name}&immutable=1", isolation_level=None, uri=True)
    return db


def _make_folder(folder: Path) -> None:
    place = state_place()
    if place == folder or place in folder.parents:
        state_folder()  # made as it should be, private and unknown to git
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _looked_at(db: sqlite3.Connection, path: Path) -> int:
    """The version of the tables, 0 when there are none yet.

    Raises:
        JournalError: they are newer, or no journal's.
    """
    # One statement sees one state of the file, while another process may be making the tables.
    rows = db.execute("SELECT user_version, name FROM pragma_user_version LEFT JOIN sqlite_master ON type = 'table'").fetchall()
    version: int = rows[0][0]
    tables = {name for _, name in rows if name is not None}
    if tables and not (version and {"runs", "events"} <= tables):
        what = "a memory store" if {"items", "words"} <= tables else "a database of something else"
        raise JournalError(f"{path} is {what}: no runs are written into it; name another file in journal.store")
    if version > VERSION:
        raise JournalError(f"{path} was written by a newer version of unified_agents (schema {version}, known here: {VERSION})")
    return version


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    if db.execute("PRAGMA user_version").fetchone()[0] == VERSION:
        return
    db.execute("BEGIN IMMEDIATE")  # what fails now is undone by closing
    if _looked_at(db, path) == 0:  # again: another process may have been first
        for statement in filter(str.strip, _SCHEMA.split(";")):
            db.execute(statement)
    db.execute("COMMIT")


_journals: dict[tuple[int, Path], Journal] = {}
_guard = threading.Lock()


def open_journal(store: str) -> Journal:
    """The process's journal of a store, `sqlite:///FILE`; a relative path lies in the state folder. Nothing is made before something is written.

    Raises:
        SpecError: the store is none of these.
    """
    if not store.startswith("sqlite:///") or store == "sqlite:///":
        raise SpecError([Problem("journal", f"found {store!r}, expected sqlite:///FILE")], "the arguments")
    path = in_state_place(store.removeprefix("sqlite:///"))
    with _guard:
        return _journals.setdefault((os.getpid(), path), Journal(path))
