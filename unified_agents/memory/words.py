"""Ranking by words: what a word is, and which items hold the telling ones of a query (FTS5, bm25).

Every word is indexed with the number of its namespace before it (`3xharbour`). So a search never reads another namespace's items, and how rare a
word is in one's own namespace is known exactly.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import accumulate

MOST_WORDS = 32
"""Words of a query that count, the first ones."""
MOST_ITEMS = 4000
"""Items that one query ranks: bm25 costs about a microsecond for each, however few of them are wanted."""

_PLAIN = re.compile(r"[a-z0-9]+")


def words(text: str) -> list[str]:
    """The words of a text in order, in lower case and without accents. Everything that is neither letter, digit nor mark stands between words."""
    folded = text.casefold()
    if folded.isascii():
        return _PLAIN.findall(folded)
    apart = (c for c in unicodedata.normalize("NFKD", folded) if not "\u0300" <= c <= "\u036f")
    return "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in apart).split()


def indexed(space: int, key: str | None, text: str) -> str:
    """What the index is given of an item."""
    return " ".join(f"{space}x{word}" for word in words(f"{key or ''} {text}"))


def ranked(db: sqlite3.Connection, space: int, query: str, limit: int, kinds: Sequence[str] | None, run: str | None) -> list[int]:
    """The ids of the items that fit a query best, best first, newer ones first among equals.

    `kinds` None: of any kind; `run` None: short-term items of any run.
    """
    terms = list(dict.fromkeys(f'"{space}x{word}"' for word in words(query)))[:MOST_WORDS]
    found: dict[int, None] = {}
    for group, since in _groups(db, terms):
        found.update(dict.fromkeys(_holding(db, group, since, limit, kinds, run)))
        if len(found) >= limit:
            break
    return list(found)[:limit]


def _holding(
    db: sqlite3.Connection, terms: Sequence[str], since: int, limit: int, kinds: Sequence[str] | None, run: str | None
) -> list[int]:
    only, values = "", list[str]()
    if kinds is not None:
        only, values = f" AND items.kind IN ({', '.join('?' * len(kinds))})", list(kinds)
    if run is not None:
        only, values = f"{only} AND (items.kind != 'short_term' OR items.run = ?)", [*values, run]
    join = " JOIN items ON items.id = words.rowid" if only else ""
    statement = (
        f"SELECT words.rowid FROM words{join} WHERE words MATCH ? AND words.rowid > ?{only} "  # noqa: S608  # our own words; the query is bound
        "ORDER BY bm25(words), words.rowid DESC LIMIT ?"
    )
    return [row[0] for row in db.execute(statement, (" OR ".join(terms), since, *values, limit))]


def _groups(db: sqlite3.Connection, terms: Sequence[str]) -> Iterator[tuple[list[str], int]]:
    """What to look for in turn, until enough is found: words, and the id above which items count.

    First the rarest words, as many as together stand in no more than MOST_ITEMS items; then one word after the other, each in the newest items that
    hold it. Few queries get to a second one: a common word says little.
    """
    counted = "SELECT COUNT(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)"
    counts = {term: db.execute(counted, (term, MOST_ITEMS + 1)).fetchone()[0] for term in terms}
    held = sorted((term for term in terms if counts[term]), key=lambda term: counts[term])
    telling = [term for term, total in zip(held, accumulate(counts[term] for term in held), strict=True) if total <= MOST_ITEMS]
    if telling:
        yield telling, 0
    newest = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid DESC LIMIT 1 OFFSET ?"
    for term in held[len(telling) :]:
        last = db.execute(newest, (term, MOST_ITEMS)).fetchone()
        yield [term], last[0] if last else 0
