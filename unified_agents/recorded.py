"""What earlier sessions of a run recorded, by the keys of its calls: a resumed conversation is answered from here as far as it goes the same way.

Keys are names, never positions across tasks: `task.attempt/agent(/turn.tool.coworker)*:turn` for a model call; for a tool call its turn, tool, canonical
arguments and occurrence; for a review its turn, kind and content.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from unified_agents.chat_models import ChatRequest, ChatResponse, Message, ToolCall, Usage
from unified_agents.errors import Problem, SpecError
from unified_agents.events import (
    CallReplayed,
    Event,
    MessagesRead,
    ModelAnswered,
    ReplayDiverged,
    ReviewDecided,
    ToolCalled,
    ToolStarted,
    ignore,
)
from unified_agents.review import Decision, Review


class Recorded:
    """The records of one run; empty for one that begins. Used on the engine's loop."""

    def __init__(self, events: Iterable[Event] = (), emit: Callable[[Event], None] = ignore) -> None:
        self._emit = emit
        self._answers: dict[str, ModelAnswered] = {}
        self._tools: dict[str, ToolCalled] = {}
        self._begun: dict[str, ToolStarted] = {}
        self._reviews: dict[str, ReviewDecided] = {}
        self._mail: dict[str, MessagesRead] = {}
        self._live: set[str] = set()
        self.found: list[ToolCalled] = []
        """Results that a person gave, for the journal of this session."""
        self.on_unread: Callable[[MessagesRead], None] = lambda _: None
        """Is told of messages that a conversation had read which now goes another way, before it comes to where it read them."""
        self._prints: dict[str, _Print] = {}
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        """Later records of a key replace earlier ones: those were of a conversation that went another way."""
        if isinstance(event, ModelAnswered):
            self._forget_after(event.key)
            self._answers[event.key] = event
        elif isinstance(event, ToolStarted):
            self._begun[event.key] = event
            self._tools.pop(event.key, None)
        elif isinstance(event, ToolCalled) and event.key and event.result is not None:
            self._tools[event.key] = event
        elif isinstance(event, ReviewDecided):
            self._reviews[event.key] = event
        elif isinstance(event, MessagesRead):
            self._mail[event.key] = event

    def _forget_after(self, key: str) -> None:
        """A conversation that has a new answer goes another way from there: what followed the old one is no record any more."""
        conversation, _, turn = key.rpartition(":")
        following = int(turn) + 1
        while self._answers.pop(f"{conversation}:{following}", None) is not None:
            following += 1

    def answer(self, request: ChatRequest) -> tuple[str, str, ChatResponse | None]:
        """A call's key and fingerprint, and its recorded answer when it has one and asks the same."""
        key, fingerprint = call_key(request), self._fingerprint(request)
        known = self._answers.get(key) if request.conversation not in self._live else None
        if known is None:
            return key, fingerprint, None
        if known.fingerprint != fingerprint:
            self._live.add(request.conversation)
            asked = [model.model for model in (request.model, *request.fallbacks)]
            reason = "it asks something else than before" if known.model in asked else f"{known.model} was asked before"
            self._emit(ReplayDiverged(task=request.task, agent=request.agent, key=key, reason=reason))
            self._unread(request)
            return key, fingerprint, None
        self._emit(CallReplayed(task=request.task, agent=request.agent, kind="model", key=key))
        return key, fingerprint, _response(known)

    def _unread(self, request: ChatRequest) -> None:
        for key in list(self._mail):
            conversation, _, turn = key.rpartition(":")
            if conversation == request.conversation and int(turn) > request.turn and self._answered(key):
                self.on_unread(self._mail.pop(key))

    def _fingerprint(self, request: ChatRequest) -> str:
        known = self._prints.setdefault(request.conversation, _Print())
        return known.of(request)

    def tool(self, task: str, agent: str, key: str) -> ToolCalled | None:
        """The recorded result of a tool call; else that of the same call of an earlier attempt, or in a conversation that went live of another turn."""
        known = self._tools.get(key) or next((one for name, one in self._tools.items() if self._stands_for(name, key)), None)
        if known is not None:
            self._tools.pop(known.key, None)  # one record answers one call
            self._emit(CallReplayed(task=task, agent=agent, kind="tool", key=key))
        return known

    def finish(self, key: str, result: str) -> None:
        """Record the result of a call that began, as a person found it.

        Raises:
            SpecError: no such call is unfinished.
        """
        begun = {call.key: call for call in self.unfinished}
        if key not in begun:
            known = ", ".join(begun) or "none"
            raise SpecError(
                [Problem("--finished", f"found {key!r}; unfinished calls of tools with side effects: {known}")], "the arguments"
            )
        call = begun[key]
        made = ToolCalled(task=call.task, agent=call.agent, tool=call.tool, duration_s=0.0, key=key, result=result)
        self._tools[key] = made
        self.found.append(made)

    def _stands_for(self, recorded: str, key: str) -> bool:
        place = key.rpartition(":")[0]
        return _same_call(recorded) == _same_call(key) and (place in self._live or recorded.rpartition(":")[0] != place)

    def decision(self, key: str, review: Review) -> Decision | None:
        """A person's recorded decision."""
        known = self._reviews.get(key)
        if known is None:
            return None
        self._emit(CallReplayed(task=review.task, agent=review.agent, kind="review", key=key))
        return Decision(known.approved, known.comment, known.content)

    def mail(self, key: str) -> MessagesRead | None:
        """The messages that entered a call which has its answer."""
        return self._mail.get(key) if self._answered(key) else None

    def answers(self, key: str) -> bool:
        """Whether a call will be answered from its record, as far as its key says."""
        return self._answered(key) and key.rpartition(":")[0] not in self._live

    def _answered(self, key: str) -> bool:
        return key in self._answers or any(name.startswith(f"{key}/turn.") for name in self._reviews)

    @property
    def read(self) -> list[MessagesRead]:
        """All messages that reached a model, by reader."""
        return [event for key, event in self._mail.items() if self._answered(key)]

    @property
    def unfinished(self) -> list[ToolStarted]:
        """Calls of tools with side effects that began and have no result: nobody knows whether they happened."""
        return [event for key, event in self._begun.items() if event.side_effects and key not in self._tools]


class _Print:
    """The fingerprint of a growing conversation: each message enters it once."""

    def __init__(self) -> None:
        self._hash, self._count = hashlib.sha256(), 0
        self._last: Message | None = None

    def of(self, request: ChatRequest) -> str:
        messages = request.messages
        if self._count > len(messages) or (self._count and messages[self._count - 1] is not self._last):
            self._hash, self._count = hashlib.sha256(), 0
        for message in messages[self._count :]:
            self._hash.update(canonical(message))
        self._count, self._last = len(messages), messages[-1] if messages else None
        made = self._hash.copy()
        made.update(canonical([request.model.model, list(request.tools), request.tool_choice, request.response_format]))
        return made.hexdigest()[:32]


_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=str, separators=(",", ":")).encode


def canonical(value: Any) -> bytes:
    """A value as bytes that do not depend on the order of its keys."""
    return _canonical(value).encode("utf-8", "replace")


def digest(value: Any) -> str:
    """A short name for a value."""
    return hashlib.sha256(canonical(value)).hexdigest()[:12]


def call_key(request: ChatRequest) -> str:
    """The name of a model call."""
    return f"{request.conversation}:{request.turn}"


def tool_keys(conversation: str, turn: int, calls: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """The names of the tool calls of one turn: tool, arguments, and which of several equal ones."""
    seen: Counter[str] = Counter()
    keys = []
    for tool, arguments in calls:
        name = f"{conversation}:{turn}/{tool}.{digest(arguments)}"
        seen[name] += 1
        keys.append(name if seen[name] == 1 else f"{name}.{seen[name]}")
    return keys


def _same_call(key: str) -> str:
    """A tool call's name without its attempt and its turn: who called what with which arguments."""
    conversation, _, call = key.rpartition(":")
    return f"{re.sub(r'[.][0-9]+/', '/', conversation, count=1)}:{call.partition('/')[2]}"


def confirmation_key(tool_key: str) -> str:
    """The name of the question whether a tool call may happen: each of several equal ones has its own."""
    turn, _, call = tool_key.rpartition("/")
    return f"{turn}/tool.{call}"


def review_key(conversation: str, turn: int, review: Review) -> str:
    """The name of a question to the reviewer about what was said."""
    return f"{conversation}:{turn}/{review.kind}.{digest(review.content)}"


def _response(known: ModelAnswered) -> ChatResponse:
    calls = tuple(ToolCall(call["id"], call["name"], call["arguments"]) for call in known.tool_calls)
    return ChatResponse(known.text, known.model, calls, known.finish_reason, Usage(known.input_tokens, known.output_tokens))
