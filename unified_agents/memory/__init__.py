"""What agents remember: short-term items of a run, long-term facts by key, and episodes. Works alone.

::

    memory = AgentMemory("sqlite:///memory.db", team="trends")       # or ":memory:"
    memory.add_to_short_term("The user prefers metric units", agent="writer")
    memory.add_to_long_term("low water", "6:12 and 18:40", agent="researcher")
    memory.store_episode("research", "Found three sources", agent="researcher")
    memory.recall("When is low water?", limit=3)                     # items, best first
    await memory.recall_async("When is low water?")                  # every method has its async twin

Every team has a namespace of its own, which no other team reads; `namespace(name)` says which. With `semantic=True` items are ranked by meaning too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from unified_agents.engine import engine
from unified_agents.errors import MemoryStoreError
from unified_agents.memory.vectors import Embedder, embedder_of
from unified_agents.state import in_state_place, is_run_id, state_folder, state_place

T = TypeVar("T")
Kind = Literal["short_term", "long_term", "episode"]

_FILE = "sqlite:///"
_LONGEST = 128
_NAMESPACE = re.compile(r"[A-Za-z0-9._ %-]{1,128}")


@dataclass(frozen=True)
class Item:
    """One thing remembered, and where it comes from. `key` names a long-term fact, or the task of an episode.

    `current`: whether it is true now; false in the history of a fact.
    """

    id: int
    kind: Kind
    text: str
    created_at: datetime
    key: str | None = None
    agent: str | None = None
    run: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    current: bool = True


class MemoryStore(Protocol):
    """Where items are kept. Everything is within one namespace; all methods may raise `MemoryStoreError`."""

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
        """Store an item; `keep`: how many of its kind (and run, for short-term ones) are kept, the newest."""
        ...

    async def recall(self, namespace: str, query: str, limit: int, kinds: tuple[Kind, ...], run: str | None = None) -> list[Item]:
        """The items that fit a query best, best first; short-term ones only of `run`, or of any. The query is text, whatever signs it holds."""
        ...

    async def items(self, namespace: str, kind: Kind, limit: int, run: str | None, key: str | None) -> list[Item]:
        """The newest items of a kind, newest first. Of facts what is true now, or with `key` the whole history of one."""
        ...

    async def forget(self, namespace: str, key: str | None, item: int | None) -> int:
        """Delete a fact with its history, one item of any kind, or (neither given) everything; how many items that were."""
        ...

    async def close(self) -> None:
        """Let go of what is held open."""
        ...


class AgentMemory:
    """The memory of one team, for plain code and async code alike.

    Args:
        store: `sqlite:///FILE` (a relative path lies in the state folder `.unified_agents`), `:memory:`, or a MemoryStore.
        short_term: items kept of a run.
        episodes: episodes kept of the team.
        team: the namespace, `[A-Za-z0-9._ %-]{1,128}`; `namespace(name)` makes one of any other name.
        run: the run that short-term items belong to, `[A-Za-z0-9._-]{1,128}`.
        semantic: true to rank by meaning too (needs the extra `semantic`), or an embedder of one's own: a callable from texts to vectors.

    Raises:
        ValueError: the namespace, the run or the store is not one, or `semantic` stands beside a MemoryStore, which ranks as it was made to.
        MemoryStoreError: from any method: the store failed, with what and where; here: what `semantic` needs is not installed.
    """

    def __init__(
        self,
        store: str | MemoryStore = "sqlite:///memory.db",
        short_term: int = 10,
        episodes: int = 100,
        *,
        team: str = "team",
        run: str = "run",
        semantic: bool | Embedder = False,
    ) -> None:
        if not _NAMESPACE.fullmatch(team):
            raise ValueError(
                f"found {team!r} as a namespace, allowed: 1 to 128 of A-Z a-z 0-9 . _ - % and space, as namespace(name) makes them"
            )
        if not is_run_id(run):
            raise ValueError(f"found {run!r} as a run, allowed: 1 to 128 of A-Z a-z 0-9 . _ -")
        if semantic is not False and not isinstance(store, str):
            raise ValueError("found semantic beside a store that is open already: say it where it is opened, open_store(url, semantic=…)")
        self.store = open_store(store, semantic=semantic) if isinstance(store, str) else store
        self.team, self.run = team, run
        self._short_term, self._episodes = short_term, episodes

    async def add_to_short_term_async(self, text: str, *, agent: str | None = None) -> Item:
        """Remember something for this run; only the newest `short_term` items are kept."""
        return await self._add("short_term", text, None, agent, {}, self._short_term)

    async def add_to_long_term_async(self, key: str, text: str, *, agent: str | None = None) -> Item:
        """Remember a fact; an older one of the same key becomes its history."""
        return await self._add("long_term", text, key, agent, {}, None)

    async def store_episode_async(self, task: str | None, outcome: str, *, agent: str | None = None, **data: Any) -> Item:
        """Remember what was done and what came of it; only the newest `episodes` are kept. `data` is kept as JSON."""
        return await self._add("episode", outcome, task, agent, data, self._episodes)

    async def recall_async(
        self, query: str, limit: int = 5, kinds: tuple[Kind, ...] = ("short_term", "long_term", "episode")
    ) -> list[Item]:
        """The items that fit a query best, best first; of a fact only what is true now, of short-term items only this run's."""
        return await self._on_engine(self.store.recall(self.team, query, limit, kinds, self.run))

    async def get_async(self, key: str) -> Item | None:
        """A fact by its key, as it is true now; None also when only its history is left."""
        found = await self._on_engine(self.store.items(self.team, "long_term", 1, None, key))
        return found[0] if found and found[0].current else None

    async def history_async(self, key: str) -> list[Item]:
        """Everything a fact ever was, newest first."""
        return await self._on_engine(self.store.items(self.team, "long_term", 1000, None, key))

    async def short_term_async(self) -> list[Item]:
        """This run's items, newest first."""
        return await self._on_engine(self.store.items(self.team, "short_term", self._short_term, self.run, None))

    async def episodes_async(self, limit: int = 10) -> list[Item]:
        """What was done, newest first."""
        return await self._on_engine(self.store.items(self.team, "episode", limit, None, None))

    async def forget_async(self, key: str | None = None, *, item: int | None = None) -> int:
        """Delete a fact with its history, one item, or everything of the team; how many items that were.

        Without the item that is true now a fact is unknown: what it was before does not become true again.
        """
        return await self._on_engine(self.store.forget(self.team, key, item))

    def add_to_short_term(self, text: str, *, agent: str | None = None) -> Item:
        """As `add_to_short_term_async`, from plain code."""
        return engine().run(self.add_to_short_term_async(text, agent=agent))

    def add_to_long_term(self, key: str, text: str, *, agent: str | None = None) -> Item:
        """As `add_to_long_term_async`, from plain code."""
        return engine().run(self.add_to_long_term_async(key, text, agent=agent))

    def store_episode(self, task: str | None, outcome: str, *, agent: str | None = None, **data: Any) -> Item:
        """As `store_episode_async`, from plain code."""
        return engine().run(self.store_episode_async(task, outcome, agent=agent, **data))

    def recall(self, query: str, limit: int = 5, kinds: tuple[Kind, ...] = ("short_term", "long_term", "episode")) -> list[Item]:
        """As `recall_async`, from plain code."""
        return engine().run(self.recall_async(query, limit, kinds))

    def get(self, key: str) -> Item | None:
        """As `get_async`, from plain code."""
        return engine().run(self.get_async(key))

    def history(self, key: str) -> list[Item]:
        """As `history_async`, from plain code."""
        return engine().run(self.history_async(key))

    def short_term(self) -> list[Item]:
        """As `short_term_async`, from plain code."""
        return engine().run(self.short_term_async())

    def episodes(self, limit: int = 10) -> list[Item]:
        """As `episodes_async`, from plain code."""
        return engine().run(self.episodes_async(limit))

    def forget(self, key: str | None = None, *, item: int | None = None) -> int:
        """As `forget_async`, from plain code."""
        return engine().run(self.forget_async(key, item=item))

    def close(self) -> None:
        """Let go of the store."""
        engine().run(self.store.close())

    async def _add(self, kind: Kind, text: str, key: str | None, agent: str | None, data: Mapping[str, Any], keep: int | None) -> Item:
        run = self.run
        return await self._on_engine(self.store.add(self.team, kind, text, key=key, agent=agent, run=run, data=data, keep=keep))

    @staticmethod
    async def _on_engine(work: Coroutine[Any, Any, T]) -> T:
        """A store lives on the engine's loop, whichever loop awaits it."""
        return await engine().call(work)


def namespace(team: str) -> str:
    """The namespace of a team, whatever its name: what a namespace may not hold is written as `%` and two digits for each byte of its UTF-8.

    No two names share one. What would be longer than 128 characters is cut, and ends in a hash of the name.

    Raises:
        ValueError: the name is empty.
    """
    if not team:
        raise ValueError("found an empty name, expected a team's")
    whole = re.sub(r"[^A-Za-z0-9._ -]", lambda sign: "".join(f"%{byte:02X}" for byte in sign[0].encode("utf-8", "surrogatepass")), team)
    if len(whole) <= _LONGEST:
        return whole
    ending = f"%-{hashlib.sha256(whole.encode()).hexdigest()[:32]}"  # no encoded name holds "%-"
    return whole[: _LONGEST - len(ending)] + ending


def open_store(url: str, *, semantic: bool | Embedder = False) -> MemoryStore:
    """The store that a text names; `semantic` as for AgentMemory.

    Raises:
        ValueError: it names none.
        MemoryStoreError: what `semantic` needs is not installed.
    """
    from unified_agents.memory.sqlite import SQLiteStore

    path = store_path(url)
    if path is not None and state_place() in path.parents:
        state_folder()  # made as it should be, private and unknown to git
    return SQLiteStore(path, embedder_of(semantic))


def store_path(url: str) -> Path | None:
    """The file that a store's text names, which need not be there; None for one in memory.

    Raises:
        ValueError: it names none.
    """
    if url == ":memory:":
        return None
    if not url.startswith(_FILE) or len(url) == len(_FILE):
        raise ValueError(f"found {url!r}, expected sqlite:///FILE or :memory:")
    return in_state_place(url.removeprefix(_FILE))


__all__ = ["AgentMemory", "Embedder", "Item", "Kind", "MemoryStore", "MemoryStoreError", "namespace", "open_store", "store_path"]
