"""The person who is asked: a callable that approves, rejects or edits; one question at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from unified_agents.engine import called


@dataclass(frozen=True)
class Review:
    """A question to the reviewer: whether a tool may be called (`tool`), whether an answer is good (`answer`), what a human agent says (`turn`)."""

    kind: Literal["tool", "answer", "turn"]
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
"""True approves, False rejects, a text rejects with this comment, a Decision says more; to a `turn` a text (or a Decision's `content`) is what
the human agent says. Sync ones run on a thread of their own."""


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
            said = await called(self.reviewer, review, thread="unified-agents-reviewer")
        return _said(said) if review.kind == "turn" else _decision(said)


def _said(said: Any) -> Decision:
    """A person's own words."""
    text = said.content if isinstance(said, Decision) else said
    if not isinstance(text, str):
        raise TypeError(f"the reviewer was asked what a human agent says and returned {said!r}, expected a text")
    return Decision(approved=True, content=text)


def _decision(said: Any) -> Decision:
    if isinstance(said, Decision):
        return said
    if isinstance(said, bool):
        return Decision(said)
    if isinstance(said, str):
        return Decision(approved=False, comment=said)
    raise TypeError(f"the reviewer returned {type(said).__name__}, expected a Decision, True, False or a comment")
