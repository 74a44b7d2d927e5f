"""The memory of one run of a team: what is recalled for its tasks, what its agents note, and the episodes it leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from unified_agents import prompts
from unified_agents.engine import in_thread, tamed
from unified_agents.errors import MemoryStoreError
from unified_agents.events import Event, MemoryUnavailable, ignore
from unified_agents.memory import AgentMemory, Item, namespace
from unified_agents.spec import MemorySpec, TeamSpec
from unified_agents.tokens import Family, family
from unified_agents.tools import TaskStopped, Tool
from unified_agents.tools.memory import memory_tools
from unified_agents.window import shorten

T = TypeVar("T")

_LEAST = 32
"""Tokens of an item that are worth showing when there is no room for all of it."""

_SEAMS = 4
"""Tokens by which a text may count more inside another one than alone."""

_EPISODE_CHARACTERS = 4000
"""What an episode keeps of an output: its beginning and its end."""


@dataclass(frozen=True)
class Recalled:
    """What is put into a task's prompt: `text` is empty when nothing fits."""

    text: str = ""
    items: int = 0
    tokens: int = 0


@dataclass
class TeamMemory:
    """One run's view of its team's memory, on the engine's loop. A store that fails ends the run, or only the memory where `required` is false.

    It is not asked again once it has failed: one that is locked lets each call wait.
    """

    spec: MemorySpec
    store: AgentMemory
    tasks: int
    """How many episodes of its own a run may have, which it does not recall."""
    emit: Callable[[Event], None] = ignore
    failure: MemoryStoreError | None = None
    """What the store failed with first."""
    _recalled: dict[str, Recalled] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    def of(cls, team: TeamSpec, run_id: str, emit: Callable[[Event], None] = ignore) -> TeamMemory | None:
        """The memory that a team asks for; None when it asks for none."""
        spec = team.memory
        if spec is None:
            return None
        store = AgentMemory(spec.store, spec.short_term, spec.episodes, team=namespace(team.name), run=run_id, semantic=spec.semantic)
        return cls(spec, store, len(team.tasks), emit)

    async def open(self) -> None:
        """Look whether the store can be read and written, before anything is asked.

        Raises:
            MemoryStoreError: it cannot, and memory is required.
        """
        await self._kept(self.store.short_term_async(), None)

    async def recall(self, task: str, query: str, model: str) -> Recalled:
        """What fits a task, looked up once for all of its conversations.

        Raises:
            MemoryStoreError: the store failed, and memory is required.
        """
        async with self._turn:
            if task not in self._recalled:
                items = await self._items(query)
                self._recalled[task] = await in_thread(
                    lambda: _within(items, self.spec.recall.tokens, family(model)), "unified-agents-recall"
                )
            return self._recalled[task]

    async def _items(self, query: str) -> list[Item]:
        """The best items, without what this very run's tasks brought: `context` alone says who sees that."""
        wanted, own = self.spec.recall.items, self.store.run

        async def found() -> list[Item]:
            items = await self.store.recall_async(query, wanted + self.tasks)
            return [item for item in items if not (item.kind == "episode" and item.run == own)][:wanted]

        return await self._kept(found(), [])

    def tools(self, agent: str) -> tuple[Tool, ...]:
        """The tools by which an agent notes and looks up."""

        async def remember(arguments: Mapping[str, Any]) -> str:
            return await self._answered(self._note(agent, arguments))

        async def recall(arguments: Mapping[str, Any]) -> str:
            return await self._answered(self._found(str(arguments["query"])))

        return memory_tools(remember, recall)

    async def _note(self, agent: str, arguments: Mapping[str, Any]) -> str:
        key, text = arguments.get("key"), str(arguments["text"])
        if key:
            await self.store.add_to_long_term_async(str(key), text, agent=agent)
        else:
            await self.store.add_to_short_term_async(text, agent=agent)
        return "Remembered."

    async def _found(self, query: str) -> str:
        items = await self.store.recall_async(query, self.spec.recall.items)
        return prompts.memory_text(items) if items else "Nothing that fits is remembered."

    async def _answered(self, work: Awaitable[str]) -> str:
        """A tool's result; a store that fails ends the task where memory is required."""
        try:
            return await self._kept(work, "Memory is not available in this run.")
        except MemoryStoreError as error:
            raise TaskStopped(error) from error

    async def task_ended(self, task: str, description: str, agent: str, status: str, outcome: str) -> None:
        """Store a task's episode.

        Raises:
            MemoryStoreError: the store failed, and memory is required.
        """
        text = _ends(outcome)
        await self._kept(self.store.store_episode_async(task, text, agent=agent, status=status, description=_ends(description)), None)

    async def run_ended(self, status: str, tasks: Sequence[str], duration_s: float) -> None:
        """Store the run's summary: what was done by whom, without the outputs, which are episodes themselves.

        Raises:
            MemoryStoreError: as `task_ended`.
        """
        text = f"Run {self.store.run} {status}: {'; '.join(tasks)}"
        await self._kept(self.store.store_episode_async(None, text, status=status, duration_s=round(duration_s, 3)), None)

    async def close(self) -> None:
        """Let go of the store, unless it is the user's own; what was stored is kept already."""
        if isinstance(self.spec.store, str):
            with contextlib.suppress(Exception):
                await self.store.store.close()

    async def _kept(self, work: Awaitable[T], otherwise: T) -> T:
        """The result of some work on the store, or `otherwise` when the store failed and the run may go on without."""
        if self.failure is not None:
            if asyncio.iscoroutine(work):
                work.close()
            return self._without(otherwise)
        try:
            return await tamed(work)
        except Exception as error:  # noqa: BLE001  # a store of the user's own may raise anything
            self._failed(error)
        return self._without(otherwise)

    def _failed(self, error: Exception) -> None:
        if self.failure is not None:
            return
        if isinstance(error, MemoryStoreError):
            self.failure = error
        else:
            said = f"the memory store {type(self.store.store).__name__} failed: {type(error).__name__}: {error}"
            self.failure = MemoryStoreError(said)
            self.failure.__cause__ = error
        if not self.spec.required:
            self.emit(MemoryUnavailable(error=str(self.failure)))

    def _without(self, otherwise: T) -> T:
        assert self.failure is not None
        if self.spec.required:
            raise MemoryStoreError(str(self.failure)) from self.failure.__cause__
        return otherwise


def _within(items: Sequence[Item], tokens: int, counter: Family) -> Recalled:
    """The items that fit into some tokens, best first; one that does not fit whole is shortened, or left out where too little of it would be left."""
    kept: list[Item] = []
    for item in items:
        used = counter.count(prompts.memory_text([*kept, item]))
        room = tokens - used + counter.count(item.text) - _SEAMS
        if used > tokens and room >= _LEAST:
            item = replace(item, text=shorten(item.text, room, counter))
        if counter.count(prompts.memory_text([*kept, item])) <= tokens:
            kept.append(item)
    text = prompts.memory_text(kept)
    return Recalled(text, len(kept), counter.count(text) if text else 0)


def _ends(text: str) -> str:
    if len(text) <= _EPISODE_CHARACTERS:
        return text
    half = _EPISODE_CHARACTERS // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out …]\n{text[-half:]}"
