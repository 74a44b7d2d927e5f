"""What recalling costs: the best five of 100,000 items for a query of two to eight words, beside reading them all.

Words come as often as words do (Zipf), so most queries hold some that stand in thousands of items. All variants read the same file, in turns. The
vectors of the items are random, since their values cost nothing; a query is embedded by the encoder of the extra `semantic`.
"""

from __future__ import annotations

import gc
import itertools
import random
import re
import sqlite3
import statistics
import tempfile
import time
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import Lab, Result, Row, Settings, in_turns
from unified_agents.memory import AgentMemory, open_store, vectors
from unified_agents.memory.sqlite import SQLiteStore, _insert, _transaction
from unified_agents.memory.vectors import UniversalSentenceEncoder

TEAM, OTHERS = "team", ("other", "another", "third")
KINDS = ("long_term", "episode", "short_term")
COMMON = "the of to and a in is it for on was with as be by at from that this are or an has had not they we which one all there been if"
SYLLABLES = [consonant + vowel for consonant in "bdfghjklmnprstv" for vowel in "aeio"]
Recall = Callable[[str], Sequence[str]]
"""The texts that fit a query best, best first."""


class Writer:
    """Texts of 30,000 made-up words, the common ones English, the n-th of them 1 / (n + 2.7) times as frequent as the first."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  # no secret
        words = dict.fromkeys(COMMON.split())
        while len(words) < 30_000:
            words["".join(self._random.choices(SYLLABLES, k=self._random.randint(2, 4)))] = None
        self._words = list(words)
        self._weights = list(itertools.accumulate(1 / (n + 2.7) for n in range(len(words))))

    def text(self, shortest: int, longest: int) -> str:
        """Some words."""
        return " ".join(self._word() for _ in range(self._random.randint(shortest, longest)))

    def _word(self) -> str:
        return self._words[bisect(self._weights, self._random.random() * self._weights[-1])]


class RandomVectors:
    """Random vectors for stored items; real ones for queries, which come one at a time."""

    name = "benchmark"

    def __init__(self) -> None:
        import numpy as np

        self._encoder, self._random = UniversalSentenceEncoder(), np.random.default_rng(1)
        self._encoder(["warm"])

    def __call__(self, texts: Sequence[str], /) -> Any:
        """512 dimensions each."""
        return self._encoder(texts) if len(texts) == 1 else self._random.standard_normal((len(texts), 512), dtype="float32")


def fill(path: Path, items: int, writer: Writer) -> None:
    """`items` items in one namespace, and a fifth of that in others."""

    def insert(db: sqlite3.Connection) -> None:
        for number in range(items + items // 5):
            space = TEAM if number % 6 else OTHERS[number // 6 % len(OTHERS)]
            row = (
                space,
                KINDS[number % 3],
                f"key {number}",
                writer.text(8, 40),
                "ann",
                "run",
                "2026-01-02T03:04:05+00:00",
                "{}",
            )
            _insert(db, row, None)

    store = SQLiteStore(path)
    store._do(_transaction(insert))  # one commit: how long filling takes is not measured
    store._drop()


@contextmanager
def variants(path: Path, items: int) -> Iterator[dict[str, Recall]]:
    """Ours, and two ways to read everything."""
    by_words, by_both = (
        AgentMemory(open_store(f"sqlite:///{path}"), team=TEAM),
        AgentMemory(f"sqlite:///{path}", team=TEAM, semantic=RandomVectors()),
    )
    at_once, vectors.AT_ONCE = vectors.AT_ONCE, items * 2
    by_both.recall("warm")
    vectors.AT_ONCE = at_once
    with closing(sqlite3.connect(path)) as db:
        yield {
            "unified.words": lambda query: [item.text for item in by_words.recall(query)],
            "unified.words_and_meaning": lambda query: [item.text for item in by_both.recall(query)],
            "handwritten.sql_like": partial(_like, db),
            "handwritten.python_scan": partial(_scan, db),
        }
    by_words.close()
    by_both.close()


def _like(db: sqlite3.Connection, query: str) -> list[str]:
    words = query.split()
    score = " + ".join("(text LIKE ?)" for _ in words)
    statement = f"SELECT text, {score} AS score FROM items WHERE namespace = ? AND score > 0 ORDER BY score DESC, id DESC LIMIT 5"  # noqa: S608  # our own words
    return [row[0] for row in db.execute(statement, (*(f"%{word}%" for word in words), TEAM))]


def _scan(db: sqlite3.Connection, query: str) -> list[str]:
    words, found = set(query.split()), []
    for number, text in db.execute("SELECT id, text FROM items WHERE namespace = ?", (TEAM,)):
        score = len(words & set(text.split()))
        if score:
            found.append((score, number, text))
    return [text for _, _, text in sorted(found, reverse=True)[:5]]


def run(_lab: Lab, settings: Settings) -> Result:
    """The benchmark."""
    items, count = settings.size(100_000, 1000), settings.repeats(300)
    writer = Writer(1)
    result = Result("memory", f"Recalling five of {items:,} items", "p50, times ours by words", count)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "memory.db"
        fill(path, items, writer)
        queries = [writer.text(2, 8) for _ in range(max(count, 4))]
        with variants(path, items) as ways:
            ours = {name: way for name, way in ways.items() if name.startswith("unified")}
            times = {**_measured(ours, queries), **_measured(ways, queries[: max(4, len(queries) // 10)], only="handwritten")}
    base = statistics.median(times["unified.words"])
    for name, taken in times.items():
        middle, last = statistics.median(taken), sorted(taken)[int(len(taken) * 0.99)]
        met = ("met" if middle < 10 and last < 50 else "missed") if name == "unified.words" else ""
        cells = {"queries": str(len(taken)), "p50 ms": f"{middle:.1f}", "p99 ms": f"{last:.1f}", "p50 < 10 and p99 < 50": met}
        result.rows.append(Row(f"{items:,} items", name, None if name == "unified.words" else middle / base, cells))
    return result


def _measured(ways: dict[str, Recall], queries: Sequence[str], only: str = "") -> dict[str, list[float]]:
    """Milliseconds of each query by each way, in turns.

    Raises:
        AssertionError: a way did not find what it should have.
    """
    waiting = {name: iter(queries) for name in ways}

    def timed(name: str) -> float:
        query = next(waiting[name])
        began = time.perf_counter()
        found = ways[name](query)
        taken = (time.perf_counter() - began) * 1000
        assert len(found) == 5, f"{name} found {len(found)} for {query!r}"
        assert name.endswith("meaning") or all(re.search("|".join(query.split()), text) for text in found), f"{name}: no word of {query!r}"
        return taken

    chosen = {name: partial(timed, name) for name in ways if name.startswith(only)}
    gc.collect()
    return in_turns(chosen, len(queries))
