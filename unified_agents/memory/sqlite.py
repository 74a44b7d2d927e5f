"""The embedded store: one SQLite file, safe for many processes at once, ranked by words and, where asked for, by meaning.

Written in WAL mode: other processes' reads see what is committed and never wait for a write; writes wait for each other. A killed process loses nothing
that was committed. Files are readable by their owner alone.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from unified_agents.engine import in_thread
from unified_agents.errors import MemoryStoreError
from unified_agents.memory import Item, Kind
from unified_agents.memory.schema import BUSY_SECONDS, connect
from unified_agents.memory.vectors import Embedder, Meaning, fused
from unified_agents.memory.words import indexed, ranked, words
from unified_agents.sqlite import identity, reason

T = TypeVar("T")

_DEPTH = 50  # of each of the two rankings that become one
_EVERY = frozenset(("short_term", "long_term", "episode"))
_COLUMNS = "id, kind, text, created_at, key, agent, run, data, current"


class SQLiteStore:
    """A MemoryStore in a file, or in memory (`path` None). Its calls run on threads; one at a time per process.

    With an `embedder` items are ranked by words and by meaning; see `unified_agents.memory.vectors`.
    """

    def __init__(self, path: Path | None, embedder: Embedder | None = None) -> None:
        self._path = path
        self._meaning = None if embedder is None else Meaning(embedder)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._pid = os.getpid()

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
        said = [None if value is None else _clean(value) for value in (key, text, agent, run)]
        kept = _clean(json.dumps(dict(data), default=str, ensure_ascii=False))
        row = (namespace, kind, *said, created.isoformat(), kept)
        number = await self._write(lambda db: _insert(db, row, keep))
        return Item(number, kind, said[1] or "", created, said[0], said[2], said[3], json.loads(kept))

    async def recall(self, namespace: str, query: str, limit: int, kinds: tuple[Kind, ...], run: str | None = None) -> list[Item]:
        """See `MemoryStore`."""
        meaning, query = self._meaning, _clean(query)
        if meaning is not None and words(query):
            return await in_thread(lambda: self._by_both(meaning, namespace, query, limit, kinds, run), "unified-agents-memory")
        return await self._read(lambda db: _fetched(db, namespace, _by_words(db, namespace, query, limit, kinds, run)))

    async def items(self, namespace: str, kind: Kind, limit: int, run: str | None, key: str | None) -> list[Item]:
        """See `MemoryStore`."""
        wanted, values = "namespace = ? AND kind = ?", [namespace, kind]
        for column, value in (("run", run), ("key", key)):
            if value is not None:
                wanted, values = f"{wanted} AND {column} = ?", [*values, _clean(value)]
        if key is None:
            wanted += " AND current = 1"
        statement = f"SELECT {_COLUMNS} FROM items WHERE {wanted} ORDER BY id DESC LIMIT ?"  # noqa: S608  # our own words
        return await self._read(lambda db: [_item(row) for row in db.execute(statement, (*values, limit))])

    async def forget(self, namespace: str, key: str | None, item: int | None) -> int:
        """See `MemoryStore`."""
        wanted, values = "namespace = ?", [namespace]
        if key is not None:  # an episode's key is its task, which may be called like a fact
            wanted, values = f"{wanted} AND kind = 'long_term' AND key = ?", [*values, _clean(key)]
        if item is not None:  # as text, which SQLite compares as a number: one of any length, where a bound number has 64 bits
            wanted, values = f"{wanted} AND id = ?", [*values, str(item)]
        return await self._write(lambda db: _delete(db, wanted, values))

    async def close(self) -> None:
        """See `MemoryStore`."""

        def close() -> None:
            with self._own_lock():
                self._drop()

        await in_thread(close, "unified-agents-memory")

    def _by_both(self, meaning: Meaning, namespace: str, query: str, limit: int, kinds: Sequence[Kind], run: str | None) -> list[Item]:
        """The embedder is called without the lock: nobody waits for it but who recalls."""
        vector = meaning.of([query])[0]
        space = self._do(lambda db: _space(db, namespace))
        if space is None:
            return []
        held = self._do(lambda _: meaning.held(space, len(vector)))
        if lacking := self._do(lambda db: held.lacking(db, namespace)):
            made = meaning.of([text for _, text in lacking])
            if made.shape[1] != len(vector):
                raise MemoryStoreError(f"the embedder gave {len(vector)} dimensions, and then {made.shape[1]}")
            self._do(_transaction(lambda db: held.write(db, [number for number, _ in lacking], made)))
        depth = max(limit, _DEPTH)
        return self._do(
            lambda db: _fetched(
                db,
                namespace,
                fused(_by_words(db, namespace, query, depth, kinds, run), held.nearest(db, vector, depth, kinds, run))[:limit],
            )
        )

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await in_thread(lambda: self._do(work), "unified-agents-memory")

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await in_thread(lambda: self._do(_transaction(work)), "unified-agents-memory")

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._own_lock():
            try:
                return work(self._opened())
            except (sqlite3.Error, OSError) as error:
                if self._path is not None and "locked" not in str(error):
                    self._drop()  # the file may be another one, or well, by the next call
                raise MemoryStoreError(f"the memory store {self._path or ':memory:'} failed: {reason(error, BUSY_SECONDS)}") from error

    def _own_lock(self) -> threading.Lock:
        """The lock of this process: a forked child must use neither its parent's, which may be held for ever, nor its connection."""
        if self._pid != os.getpid():
            self._pid, self._lock, self._connection = os.getpid(), threading.Lock(), None
        return self._lock

    def _opened(self) -> sqlite3.Connection:
        if self._connection is not None and identity(self._path) != self._file:
            self._drop()  # it was deleted or replaced: what is written there now would be lost
        if self._connection is None:
            self._connection, self._file = connect(self._path), identity(self._path)
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        if self._meaning is not None:
            self._meaning.forget()


def _transaction(work: Callable[[sqlite3.Connection], T]) -> Callable[[sqlite3.Connection], T]:
    """`work` as one commit, or nothing of it."""

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

    return write


def _insert(db: sqlite3.Connection, row: tuple[Any, ...], keep: int | None) -> int:
    namespace, kind, key, text, _, run, _, _ = row
    if kind == "long_term":
        _supersede(db, namespace, key)
    number = db.execute(
        "INSERT INTO items (namespace, kind, key, text, agent, run, created_at, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row
    ).lastrowid
    assert number is not None
    db.execute("INSERT OR IGNORE INTO spaces (name) VALUES (?)", (namespace,))
    db.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (number, indexed(_space(db, namespace) or 0, key, text)))
    if keep is not None:
        same, values = (
            ("namespace = ? AND kind = ? AND run = ?", (namespace, kind, run))
            if kind == "short_term"
            else ("namespace = ? AND kind = ?", (namespace, kind))
        )
        older = f"{same} AND id <= (SELECT id FROM items WHERE {same} ORDER BY id DESC LIMIT 1 OFFSET ?)"  # noqa: S608  # our own words
        _delete(db, older, [*values, *values, keep])
    return number


def _supersede(db: sqlite3.Connection, namespace: str, key: str) -> None:
    """What was true of a fact until now becomes its history, which is kept and not searched."""
    was = "namespace = ? AND kind = 'long_term' AND key = ? AND current = 1"
    numbers = [row[0] for row in db.execute(f"SELECT id FROM items WHERE {was}", (namespace, key))]  # noqa: S608  # our own words
    for number in numbers:
        db.execute("UPDATE items SET current = 0 WHERE id = ?", (number,))
        _unsearch(db, number)


def _delete(db: sqlite3.Connection, wanted: str, values: list[Any]) -> int:
    numbers = [row[0] for row in db.execute(f"SELECT id FROM items WHERE {wanted}", values)]  # noqa: S608  # our own words
    for number in numbers:
        db.execute("DELETE FROM items WHERE id = ?", (number,))
        _unsearch(db, number)
    return len(numbers)


def _unsearch(db: sqlite3.Connection, number: int) -> None:
    db.execute("DELETE FROM words WHERE rowid = ?", (number,))
    db.execute("DELETE FROM vectors WHERE item = ?", (number,))


def _space(db: sqlite3.Connection, namespace: str) -> int | None:
    """A namespace's number, which stands before each of its words."""
    found = db.execute("SELECT id FROM spaces WHERE name = ?", (namespace,)).fetchone()
    return None if found is None else int(found[0])


def _by_words(db: sqlite3.Connection, namespace: str, query: str, limit: int, kinds: Sequence[Kind], run: str | None) -> list[int]:
    space = _space(db, namespace)
    return [] if space is None else ranked(db, space, query, limit, None if set(kinds) == _EVERY else kinds, run)


def _fetched(db: sqlite3.Connection, namespace: str, numbers: Sequence[int]) -> list[Item]:
    """The items of these ids, in this order. The `+` keeps SQLite from reading the whole namespace for them."""
    statement = f"SELECT {_COLUMNS} FROM items WHERE id IN (SELECT value FROM json_each(?)) AND +namespace = ?"  # noqa: S608  # our own words
    found = {row[0]: _item(row) for row in db.execute(statement, (json.dumps(numbers), namespace))}
    return [found[number] for number in numbers if number in found]


def _clean(text: str) -> str:
    """Without what UTF-8 and SQLite do not take."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def _item(row: tuple[Any, ...]) -> Item:
    number, kind, text, created, key, agent, run, data, current = row
    return Item(number, kind, text, datetime.fromisoformat(created), key, agent, run, json.loads(data), bool(current))
