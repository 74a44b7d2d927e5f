"""The tables of a SQLite memory store, how older files are brought to them, and how a file is opened."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from unified_agents.errors import MemoryStoreError
from unified_agents.memory.words import indexed
from unified_agents.sqlite import in_wal_mode, keep_private

VERSION = 2
BUSY_SECONDS = 30.0
"""How long a write waits for those of other processes."""

_ITEMS = """
CREATE TABLE items (
  id INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, kind TEXT NOT NULL, key TEXT, text TEXT NOT NULL, agent TEXT, run TEXT,
  created_at TEXT NOT NULL, data TEXT NOT NULL, current INTEGER NOT NULL DEFAULT 1
);
"""
# What version 2 has beside the items. `words` and `vectors` hold only what is current: a fact's history is not searched.
_SECOND = """
CREATE INDEX by_age ON items (namespace, kind);
CREATE INDEX by_key ON items (namespace, kind, key);
CREATE INDEX by_run ON items (namespace, kind, run);
CREATE TABLE spaces (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE VIRTUAL TABLE words USING fts5 (text, tokenize = "unicode61 remove_diacritics 0 categories 'L* N* M* Co'");
CREATE TABLE vectors (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, item INTEGER NOT NULL, space INTEGER NOT NULL, embedder TEXT NOT NULL, vector BLOB NOT NULL,
  UNIQUE (item, embedder)
);
CREATE INDEX by_embedder ON vectors (space, embedder);
PRAGMA user_version = 2;
"""
_FROM_FIRST = "DROP TABLE vocabulary; DROP TABLE words; DROP INDEX by_kind"


def connect(path: Path | None) -> sqlite3.Connection:
    """A connection to a file that has the tables, in WAL mode and readable by its owner alone; made if need be. None: in memory.

    Raises:
        MemoryStoreError: the file holds something else, or was written by a newer version.
        sqlite3.Error, OSError: it cannot be opened.
    """
    if path is not None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    db = sqlite3.connect(path or ":memory:", timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        version = _looked_at(db, path)  # before anything is changed in what may be another program's file
        if path is not None:
            keep_private(path)
        in_wal_mode(db, BUSY_SECONDS)
        db.execute("PRAGMA synchronous = NORMAL")
        if version < VERSION:
            _migrate(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _looked_at(db: sqlite3.Connection, path: Path | None) -> int:
    """The version of the tables, 0 when there are none yet.

    Raises:
        MemoryStoreError: they are newer, or no memory store's.
    """
    # One statement sees one state of the file, while another process may be making the tables.
    rows = db.execute("SELECT user_version, name FROM pragma_user_version LEFT JOIN sqlite_master ON type = 'table'").fetchall()
    version: int = rows[0][0]
    tables = {name for _, name in rows if name is not None}
    if version > VERSION:
        raise MemoryStoreError(f"{path} was written by a newer version of unified_agents (schema {version}, known here: {VERSION})")
    if not ({"items", "words"} <= tables if version else not tables):
        raise MemoryStoreError(f"{path} is a database of something else: no memory is kept in it")
    return version


def _migrate(db: sqlite3.Connection, path: Path | None) -> None:
    """All or nothing; another process may have done it while this one waited."""
    db.execute("BEGIN IMMEDIATE")
    try:
        version = _looked_at(db, path)
        if version < VERSION:
            _run(db, _ITEMS + _SECOND if version == 0 else f"{_FROM_FIRST};{_SECOND}")
            _index(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _run(db: sqlite3.Connection, script: str) -> None:
    for statement in filter(str.strip, script.split(";")):
        db.execute(statement)


def _index(db: sqlite3.Connection) -> None:
    """Take what there is into the tables of version 2."""
    db.execute("INSERT INTO spaces (name) SELECT DISTINCT namespace FROM items")
    rows = db.execute("SELECT items.id, spaces.id, key, text FROM items JOIN spaces ON name = namespace WHERE current = 1")
    for number, space, key, text in rows.fetchall():
        db.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (number, indexed(space, key, text)))
