"""The person who is asked: a callable that approves, rejects or edits; one question at a time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from unified_agents.engine import in_thread


@dataclass(frozen=True)
class Review:
    """A question to the reviewer: whether a tool may be called (`tool`), or whether an answer is good (`answer`)."""

    kind: Literal["tool", "answer"]
    task: str
    agent: str
    content: str
    tool: str | None = None
    arguments: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Decision:
    """The reviewer's answer: approved, or rejected with a comment that the agent sees; `content` replaces an approved answer."""

    approved: bool
    comment: str | None = None
    content: str | None = None


Reviewer = Callable[[Review], "Decision | bool | str | Awaitable[Decision | bool | str]"]
"""True approves, False rejects, a text rejects with this comment, a Decision says more. Sync ones run on a thread of their own."""


Ask = Callable[[Review], Awaitable[Decision]]


@dataclass
class ReviewDesk:
    """Asks a reviewer one question at a time. Used on the engine's loop."""

    reviewer: Reviewer
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def ask(self, review: Review) -> Decision:
        """The reviewer's decision.

        Raises:
            TypeError: the reviewer returned something else.
        """
        async with self._lock:
            if inspect.iscoroutinefunction(self.reviewer):
                said = await self.reviewer(review)
            else:
                said = await in_thread(lambda: self.reviewer(review), "unified-agents-reviewer")
                said = await said if inspect.isawaitable(said) else said
        return _decision(said)


def _decision(said: Any) -> Decision:
    if isinstance(said, Decision):
        return said
    if isinstance(said, bool):
        return Decision(said)
    if isinstance(said, str):
        return Decision(approved=False, comment=said)
    raise TypeError(f"the reviewer returned {type(said).__name__}, expected a Decision, True, False or a comment")
