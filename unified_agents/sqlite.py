"""What the two SQLite stores, the journal and memory, share: why a file failed, in words, and which file it is."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

# What SQLite or the system says, and what it means to the one who reads it.
_REASONS = {
    "database is locked": "another process has been writing to it for longer than {busy:.0f} s",
    "file is not a database": "it is not a database: name another file, or move this one away",
    "malformed": "it is damaged: move it away, or put a copy in its place",
    "disk is full": "there is no room left; what was being written is not kept, everything before it is",
    "No space left": "there is no room left; what was being written is not kept, everything before it is",
    "readonly": "it cannot be written",
    "unable to open": "it cannot be opened",
    "File exists": "what should be its folder is a file",
    "Not a directory": "what should be its folder is a file",
}
_NO_RIGHT = ("readonly", "Permission denied", "Read-only file system", "unable to open")


def reason(error: Exception, busy: float) -> str:
    """Why a file failed, for a person; `busy`: how many seconds were waited for other processes."""
    said = _said(error)
    return next((meant.format(busy=busy) for sign, meant in _REASONS.items() if sign in said), said)


def is_no_right(error: Exception) -> bool:
    """Whether it is for lack of the right to write, or looks like it."""
    return any(sign in _said(error) for sign in _NO_RIGHT)


def is_locked(error: Exception) -> bool:
    """Whether others were waited for, in vain."""
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def keep_private(path: Path) -> None:
    """Take a store that is there already away from everybody but its owner, with what SQLite has put beside it; a file of somebody else stays as it is."""
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        with contextlib.suppress(OSError):
            mode = name.stat().st_mode & 0o777
            if mode & 0o077:
                name.chmod(mode & 0o700)


def identity(path: Path | None) -> tuple[int, int] | None:
    """Which file it is that a path leads to now."""
    try:
        found = None if path is None else path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return None if found is None else (found.st_dev, found.st_ino)


def in_wal_mode(db: sqlite3.Connection, busy: float) -> None:
    """SQLite does not wait for others while it changes the mode, which two processes may do to a new file at once."""
    end = time.monotonic() + busy
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not is_locked(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)
