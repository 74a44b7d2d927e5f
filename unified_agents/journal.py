"""The journal: every event of every run, durable, in one SQLite file (WAL) that many processes share.

Events are handed to a thread that writes them in order, several in one transaction when they come fast; a killed process loses nothing that was committed,
and what is in the file is always a beginning of what happened. JSON only; files for their owner alone. A run is locked while a process works on it; the
lock ends with the process.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from unified_agents.engine import in_thread
from unified_agents.errors import JournalError, Problem, RunBusyError, SpecError, UnknownRunError
from unified_agents.events import Event, event_of
from unified_agents.state import state_folder

VERSION = 1
_BUSY_SECONDS = 5.0
_LOOK_SECONDS = 0.1
"""Longer than another process holds a run's lock that only looks whether somebody works on it."""
_GATHER_SECONDS = (
    0.005  # an event waits so long for others: to wake a thread and to commit for each would cost more than the rest of the journal
)
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
_RESUME = "UPDATE runs SET status = 'running', backend = ?, definition = ?, ended_at = NULL, result = NULL WHERE run_id = ?"
_EVENT = "INSERT INTO events (run_id, seq, type, data) VALUES (?, ?, ?, ?)"
_END = "UPDATE runs SET status = ?, ended_at = ?, duration_s = ?, result = ? WHERE run_id = ?"
_COLUMNS = "run_id, team, backend, status, started_at, ended_at, duration_s, definition, result"


@dataclass(frozen=True)
class RunRecord:
    """One run as the journal knows it. `status`: completed, failed, cancelled, running, or interrupted (its process is gone).

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

    @contextmanager
    def locked(self, run_id: str) -> Iterator[None]:
        """Within it no other process works on the run.

        Raises:
            RunBusyError: another one does.
        """
        lock = self._lock(run_id)
        try:
            lock.acquire(timeout=_LOOK_SECONDS, poll_interval=_LOOK_SECONDS / 10)
        except Timeout:
            raise RunBusyError(f"run {run_id!r} is being worked on by another process; wait for it, or end it first") from None
        except OSError as error:
            raise JournalError(f"the journal {self.path} cannot lock run {run_id!r}: {error.strerror or error}") from error
        try:
            yield
        finally:
            lock.release()

    def _lock(self, run_id: str) -> FileLock:
        folder = self.path.parent / "runs" / run_id
        try:
            for one in (self.path.parent, folder.parent, folder):  # one by one: only the last of `parents=True` gets the mode
                one.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise JournalError(f"the journal's folder {folder} cannot be made: {error.strerror or error}") from error
        return FileLock(folder / "lock", mode=0o600, is_singleton=False, thread_local=False)

    def _is_locked(self, run_id: str) -> bool:
        if not (self.path.parent / "runs" / run_id).is_dir():
            return False
        lock = self._lock(run_id)
        try:
            lock.acquire(blocking=False)
        except (Timeout, OSError):
            return True
        lock.release()
        return False

    def writing(self) -> Writer:
        """The thread that writes, made at first use.

        Raises:
            JournalError: the file cannot be opened for writing.
        """
        with _guard:
            if self._writer is None or not self._writer.writes_to(self.path):
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
            raise UnknownRunError(f"there is no run {run_id!r} in {self.path}; see: unified-agents runs list")
        return found[0]

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
        with self.locked(run_id), _connected(self.path) as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("DELETE FROM events WHERE run_id = ?", (run_id,))
            db.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))
            db.execute("COMMIT")
        shutil.rmtree(self.path.parent / "runs" / run_id, ignore_errors=True)

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
        if row[3] == "running" and not self._is_locked(row[0]):  # again: it may have ended since
            row = next(iter(self._read(f"SELECT {_COLUMNS} FROM runs WHERE run_id = ?", row[0])), row)  # noqa: S608
            row = tuple("interrupted" if value == "running" and n == 3 else value for n, value in enumerate(row))
        run_id, team, backend, status, started, ended, duration, definition, result = row
        return RunRecord(
            run_id, team, backend, status, datetime.fromisoformat(started), datetime.fromisoformat(ended) if ended else None, duration,
            json.loads(definition), json.loads(result) if result else None,
        )  # fmt: skip

    def _read(self, statement: str, *values: Any) -> list[Any]:
        if not self.path.exists():
            return []
        with _connected(self.path) as db:
            return db.execute(statement, values).fetchall()


class RunJournal:
    """The journal of one run under way. `put` returns at once; a failure shows in `failure`, and is told to `on_failure`, on the loop."""

    def __init__(self, writer: Writer, run_id: str, on_failure: Callable[[JournalError], None]) -> None:
        self.failure: JournalError | None = None
        self._closed = False
        self._stopped = False  # on the writer's thread: nothing is written after a gap
        self._writer, self._run_id, self._tell = writer, run_id, on_failure
        self._loop = asyncio.get_running_loop()

    async def begin(self, team: str, backend: str, definition: Mapping[str, Any]) -> None:
        """Enter a new run.

        Raises:
            JournalError: it cannot be written.
        """
        values = (self._run_id, team, backend, _now(), json.dumps(definition))
        await self._now(_BEGIN, values)

    async def resume(self, backend: str, definition: Mapping[str, Any]) -> None:
        """Enter that a run goes on.

        Raises:
            JournalError: it cannot be written.
        """
        await self._now(_RESUME, (backend, json.dumps(definition), self._run_id))

    def put(self, event: Event) -> None:
        """Append an event."""
        if self.failure is None and not self._closed:
            data = event.to_dict()
            self._put(_EVENT, lambda: (self._run_id, event.seq, data["type"], json.dumps(data, default=str)))

    def end(self, status: str, duration_s: float, result: str) -> None:
        """Enter how the run ended, with its result as JSON."""
        if self.failure is None:
            values = (status, _now(), duration_s, result, self._run_id)
            self._put(_END, lambda: values)

    def close(self) -> None:
        """Take nothing more: the run has ended, and the next session numbers its events from here."""
        self._closed = True

    async def flush(self) -> None:
        """Wait until everything so far is committed, or the journal has failed."""
        await in_thread(self._writer.flush, "unified-agents-journal-flush")

    async def _now(self, statement: str, values: Sequence[Any]) -> None:
        self._put(statement, lambda: values)
        await self.flush()
        await asyncio.sleep(0)  # a failure is told through the loop
        if self.failure is not None:
            raise self.failure

    def _put(self, statement: str, values: Callable[[], Sequence[Any]]) -> None:
        self._writer.put(statement, lambda: None if self._stopped else values(), self._failed)

    def _failed(self, error: JournalError) -> None:
        """Called on the writer's thread."""
        self._stopped = True

        def tell() -> None:
            if self.failure is None:
                self.failure = error
                self._tell(error)

        self._loop.call_soon_threadsafe(tell)


Values = Callable[[], Sequence[Any] | None]
"""What a statement writes; None when there is nothing to write any more."""
Failed = Callable[[JournalError], None]


class Writer:
    """The one thread of this process that writes to one journal file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: queue.SimpleQueue[tuple[str, Values, Failed] | threading.Event] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._db = _connect(path)
        self._file = _identity(path)
        threading.Thread(target=self._run, name="unified-agents-journal", daemon=True).start()

    def writes_to(self, path: Path) -> bool:
        """Whether the file that was opened is still there: somebody may have deleted the state folder."""
        return self._file == _identity(path)

    def put(self, statement: str, values: Values, failed: Failed) -> None:
        """Write something after everything that was put before."""
        self._queue.put((statement, values, failed))

    def flush(self) -> None:
        """Wait until everything that was put before is committed, or has failed."""
        done = threading.Event()
        self._queue.put(done)
        self._hurry.set()
        done.wait()

    def _run(self) -> None:
        while True:
            batch = [self._queue.get()]
            self._hurry.wait(_GATHER_SECONDS)
            self._hurry.clear()
            while not self._queue.empty():
                batch.append(self._queue.get())
            self._write([one for one in batch if isinstance(one, tuple)])
            for one in batch:
                if isinstance(one, threading.Event):
                    one.set()

    def _write(self, batch: Sequence[tuple[str, Values, Failed]]) -> None:
        """All of a batch in one transaction; when that fails, one by one, so that one run's trouble is not another's."""
        if not batch:
            return
        begun = False
        try:
            self._db.execute("BEGIN IMMEDIATE")
            begun = True
            for statement, values, _ in batch:
                if (made := values()) is not None:
                    self._db.execute(statement, made)
            self._db.execute("COMMIT")
        except Exception as error:  # noqa: BLE001  # whatever it is, it must not end the thread that others wait for
            self._roll_back()
            if begun and len(batch) > 1:
                for one in batch:
                    self._write([one])
            else:
                for _, _, failed in batch:
                    failed(_failure(self._path, error))

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()


def _failure(path: Path, error: Exception) -> JournalError:
    failed = JournalError(f"the journal {path} failed: {error}")
    failed.__cause__ = error
    return failed


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection for one look.

    Raises:
        JournalError: it cannot be opened, read or written.
    """
    db = _connect(path)
    try:
        yield db
    except sqlite3.Error as error:
        raise _failure(path, error) from error
    finally:
        db.close()


def _connect(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        _migrate(db, path)
    except (sqlite3.Error, OSError) as error:
        raise _failure(path, error) from error
    return db


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    if db.execute("PRAGMA user_version").fetchone()[0] == VERSION:
        return
    db.execute("BEGIN IMMEDIATE")
    version = db.execute("PRAGMA user_version").fetchone()[0]  # again: another process may have been first
    if version == 0:
        for statement in filter(str.strip, _SCHEMA.split(";")):
            db.execute(statement)
    db.execute("COMMIT")
    if version > VERSION:
        raise JournalError(f"{path} was written by a newer version of unified_agents (schema {version}, known here: {VERSION})")


_journals: dict[tuple[int, Path], Journal] = {}
_guard = threading.Lock()


def open_journal(store: str) -> Journal:
    """The process's journal of a store, `sqlite:///FILE`; a relative path lies in the state folder.

    Raises:
        SpecError: the store is none of these.
    """
    if not store.startswith("sqlite:///") or store == "sqlite:///":
        raise SpecError([Problem("journal.store", f"found {store!r}, expected sqlite:///FILE")])
    path = Path(store.removeprefix("sqlite:///"))
    path = path if path.is_absolute() else state_folder() / path
    with _guard:
        return _journals.setdefault((os.getpid(), path), Journal(path))
