"""The embedded store: one SQLite file, safe for many processes at once, ranked by words (FTS5, bm25).

Written in WAL mode: readers see what is committed and never wait for writers; writers wait for each other. A killed process loses nothing that was
committed. Files are readable by their owner alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from unified_agents.engine import in_thread
from unified_agents.errors import MemoryStoreError
from unified_agents.memory import Item, Kind

T = TypeVar("T")

VERSION = 1
_BUSY_SECONDS = 30.0
_MOST_WORDS = 32
_COMMON = 0.2  # of all items: a word that stands in more of them ranks nothing and costs much
_COMMON_FROM = 1000  # items, below which every word counts

_SCHEMA = """
CREATE TABLE items (
  id INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, kind TEXT NOT NULL, key TEXT, text TEXT NOT NULL, agent TEXT, run TEXT,
  created_at TEXT NOT NULL, data TEXT NOT NULL, current INTEGER NOT NULL DEFAULT 1
);
CREATE INDEX by_kind ON items (namespace, kind, key, id);
CREATE VIRTUAL TABLE words USING fts5 (space, text, key, tokenize = 'unicode61 remove_diacritics 2');
CREATE VIRTUAL TABLE vocabulary USING fts5vocab (words, 'row');
PRAGMA user_version = 1;
"""
_COLUMNS = "id, kind, text, created_at, key, agent, run, data"


class SQLiteStore:
    """A MemoryStore in a file, or in memory (`path` None). Its calls run on threads; one at a time per process."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0

    async def add(
        self,
        namespace: str,
        kind: Kind,
        text: str,
        *,
        key: str | None,
        agent: str | None,
        run: str | None,
        data: Mapping[str, Any],
        keep: int | None,
    ) -> Item:
        """See `MemoryStore`."""
        created = datetime.now(timezone.utc)
        row = (namespace, kind, key, _clean(text), agent, run, created.isoformat(), json.dumps(dict(data), default=str))
        number = await self._write(lambda db: _insert(db, row, keep))
        return Item(number, kind, row[3], created, key, agent, run, data)

    async def recall(self, namespace: str, query: str, limit: int, kinds: tuple[Kind, ...]) -> list[Item]:
        """See `MemoryStore`."""
        return await self._read(lambda db: _recall(db, namespace, query, limit, kinds))

    async def items(self, namespace: str, kind: Kind, limit: int, run: str | None, key: str | None) -> list[Item]:
        """See `MemoryStore`."""
        wanted, values = "namespace = ? AND kind = ?", [namespace, kind]
        for column, value in (("run", run), ("key", key)):
            if value is not None:
                wanted, values = f"{wanted} AND {column} = ?", [*values, value]
        statement = f"SELECT {_COLUMNS} FROM items WHERE {wanted} ORDER BY id DESC LIMIT ?"  # noqa: S608  # our own words
        return await self._read(lambda db: [_item(row) for row in db.execute(statement, (*values, limit))])

    async def forget(self, namespace: str, key: str | None, item: int | None) -> int:
        """See `MemoryStore`."""
        wanted, values = "namespace = ?", [namespace]
        for column, value in (("key", key), ("id", item)):
            if value is not None:
                wanted, values = f"{wanted} AND {column} = ?", [*values, str(value)]
        return await self._write(lambda db: _delete(db, wanted, values))

    async def close(self) -> None:
        """See `MemoryStore`."""

        def close() -> None:
            with self._lock:
                if self._connection is not None and self._pid == os.getpid():
                    self._connection.close()
                self._connection = None

        await in_thread(close, "unified-agents-memory")

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await in_thread(lambda: self._do(work), "unified-agents-memory")

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def write(db: sqlite3.Connection) -> T:
            db.execute("BEGIN IMMEDIATE")  # waits for other writers here, not in the middle
            try:
                made = work(db)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            return made

        return await in_thread(lambda: self._do(write), "unified-agents-memory")

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            try:
                return work(self._opened())
            except (sqlite3.Error, OSError) as error:
                raise MemoryStoreError(f"the memory store {self._path or ':memory:'} failed: {error}") from error

    def _opened(self) -> sqlite3.Connection:
        """The connection of this process; a forked child must not use its parent's."""
        if self._connection is None or self._pid != os.getpid():
            self._connection, self._pid = _connect(self._path), os.getpid()
        return self._connection


def _connect(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    db = sqlite3.connect(path or ":memory:", timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    _migrate(db, path)
    return db


def _migrate(db: sqlite3.Connection, path: Path | None) -> None:
    db.execute("BEGIN IMMEDIATE")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        for statement in filter(str.strip, _SCHEMA.split(";")):
            db.execute(statement)
    db.execute("COMMIT")
    if version > VERSION:
        raise MemoryStoreError(f"{path} was written by a newer version of unified_agents (schema {version}, known here: {VERSION})")


def _insert(db: sqlite3.Connection, row: tuple[Any, ...], keep: int | None) -> int:
    namespace, kind, key, text, _, run, _, _ = row
    if kind == "long_term":
        db.execute("UPDATE items SET current = 0 WHERE namespace = ? AND kind = ? AND key = ?", (namespace, kind, key))
    number = db.execute(
        "INSERT INTO items (namespace, kind, key, text, agent, run, created_at, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row
    ).lastrowid
    assert number is not None
    db.execute("INSERT INTO words (rowid, space, text, key) VALUES (?, ?, ?, ?)", (number, _space(namespace), text, key or ""))
    if keep is not None:
        same, values = (
            ("namespace = ? AND kind = ? AND run = ?", (namespace, kind, run))
            if kind == "short_term"
            else ("namespace = ? AND kind = ?", (namespace, kind))
        )
        older = f"{same} AND id <= (SELECT id FROM items WHERE {same} ORDER BY id DESC LIMIT 1 OFFSET ?)"  # noqa: S608  # our own words
        _delete(db, older, [*values, *values, keep])
    return number


def _delete(db: sqlite3.Connection, wanted: str, values: list[Any]) -> int:
    numbers = [row[0] for row in db.execute(f"SELECT id FROM items WHERE {wanted}", values)]  # noqa: S608  # our own words
    for number in numbers:
        db.execute("DELETE FROM items WHERE id = ?", (number,))
        db.execute("DELETE FROM words WHERE rowid = ?", (number,))
    return len(numbers)


def _recall(db: sqlite3.Connection, namespace: str, query: str, limit: int, kinds: tuple[Kind, ...]) -> list[Item]:
    words = _telling(db, list(dict.fromkeys(re.findall(r"\w+", _clean(query).casefold())))[:_MOST_WORDS])
    if not words:
        return []
    match = f'space : "{_space(namespace)}" AND {{text key}} : ({" OR ".join(f"{_quoted(word)}" for word in words)})'
    marks = ", ".join("?" * len(kinds))
    columns = ", ".join(f"items.{name.strip()}" for name in _COLUMNS.split(","))
    statement = (
        f"SELECT {columns} FROM words JOIN items ON items.id = words.rowid "  # noqa: S608  # our own words; the query is bound
        f"WHERE words MATCH ? AND items.namespace = ? AND items.current = 1 AND items.kind IN ({marks}) ORDER BY bm25(words), items.id DESC LIMIT ?"
    )
    return [_item(row) for row in db.execute(statement, (match, namespace, *kinds, limit))]


def _telling(db: sqlite3.Connection, words: list[str]) -> list[str]:
    """The words that tell items apart: those that stand almost everywhere are left out, unless there are no others."""
    total = db.execute("SELECT COALESCE(MAX(id), 0) FROM items").fetchone()[0]
    if total < _COMMON_FROM:
        return words
    counts = {word: (db.execute("SELECT doc FROM vocabulary WHERE term = ?", (word,)).fetchone() or (0,))[0] for word in words}
    rare = [word for word in words if counts[word] <= _COMMON * total]
    return rare or sorted(words, key=lambda word: counts[word])[:1]


def _quoted(word: str) -> str:
    """A word that FTS5 takes as text, whatever it means in its query language."""
    return '"' + word.replace('"', '""') + '"'


def _space(namespace: str) -> str:
    """A namespace as one word of the index, so that its search never reads another's items."""
    return "n" + hashlib.sha256(namespace.encode()).hexdigest()[:24]


def _clean(text: str) -> str:
    """Without what UTF-8 and SQLite do not take."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def _item(row: tuple[Any, ...]) -> Item:
    number, kind, text, created, key, agent, run, data = row
    return Item(number, kind, text, datetime.fromisoformat(created), key, agent, run, json.loads(data))
