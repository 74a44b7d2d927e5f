"""Fitting a conversation into a number of tokens: the oldest goes first, and only where nothing is torn apart.

The system message and the task's instruction stay, the last message stays, a tool call and its results stay or go together, order is kept. What is too
large by itself is shortened in its middle, with a mark.

Each message is counted once, when it is first seen; a prefix sum finds the cut, so a call costs its new messages and what it keeps, not the
length of the conversation.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unified_agents.errors import ContextOverflowError
from unified_agents.tokens import PER_REPLY, Family, family, message_tokens

Message = Mapping[str, Any]

LEAST = 24
"""Tokens that a shortened text keeps at least; with less, nothing of use is left."""


@dataclass(frozen=True)
class Fitted:
    """What is sent, and what is not: the `dropped` messages stood from `cut[0]` to `cut[1]`; `shortened` counts messages with a mark."""

    messages: list[Message]
    tokens: int
    cut: tuple[int, int] = (0, 0)
    dropped_tokens: int = 0
    shortened: int = 0

    @property
    def dropped(self) -> int:
        """How many messages were left out."""
        return self.cut[1] - self.cut[0]


def fit_messages(messages: Sequence[Message], max_tokens: int, model: str = "openai/gpt-4o") -> list[Message]:
    """Messages that take at most `max_tokens`, the beginning of the answer included.

    Raises:
        ContextOverflowError: what may not go does not fit.
    """
    return Ledger(family(model)).fit(messages, max_tokens).messages


class Ledger:
    """The counts of one growing conversation."""

    def __init__(self, counter: Family) -> None:
        self.counter = counter
        self._first: Message | None = None
        self._last: Message | None = None
        self._sums = [0]  # of the tokens before each message
        self._safe: list[int] = []  # where a cut tears nothing apart: messages that are no tool's results
        self._head = 0
        self._in_head = True

    def take(self, messages: Sequence[Message]) -> bool:
        """Count what is new; whether the list goes on where the last one ended. Messages are told apart as objects; another list is counted anew."""
        known = len(self._sums) - 1
        goes_on = known <= len(messages) and (known == 0 or (messages[0] is self._first and messages[known - 1] is self._last))
        if not goes_on:
            self.__init__(self.counter)  # type: ignore[misc]  # a ledger of its own
            known = 0
        for index in range(known, len(messages)):
            self._add(index, messages[index])
        if messages:
            self._first, self._last = messages[0], messages[-1]
        return goes_on

    def _add(self, index: int, message: Message) -> None:
        role = message.get("role")
        if role != "tool":
            self._safe.append(index)
        if self._in_head and (role == "system" or (role == "user" and self._head == index)):
            self._head = index + 1
        self._in_head = self._in_head and role == "system"
        self._sums.append(self._sums[-1] + message_tokens(message, self.counter))

    @property
    def head(self) -> int:
        """How many messages at the beginning stay: system messages and the task's instruction."""
        return self._head

    @property
    def total(self) -> int:
        """Tokens of all of it, the beginning of the answer included."""
        return self._sums[-1] + PER_REPLY

    def tokens(self, start: int, end: int) -> int:
        """Tokens of the messages from `start` to `end`."""
        return self._sums[end] - self._sums[start]

    def fit(self, messages: Sequence[Message], budget: int, extra: Sequence[Message] = ()) -> Fitted:
        """The messages within `budget` tokens; `extra` ones (a summary) follow the head when something is dropped.

        Raises:
            ContextOverflowError: what may not go does not fit.
        """
        self.take(messages)
        if self.total <= budget:
            return Fitted(list(messages), self.total)
        head, count = min(self._head, len(messages)), len(messages)
        room = budget - PER_REPLY - self._sums[head] - sum(message_tokens(message, self.counter) for message in extra)
        last = self._safe[-1] if self._safe and self._safe[-1] >= head else head
        start = max(bisect_left(self._sums, self._sums[count] - room), head)
        safe = bisect_left(self._safe, start)
        cut = self._safe[safe] if safe < len(self._safe) else count
        if cut <= last and room > 0:
            kept = [*messages[:head], *extra, *messages[cut:]]
            return Fitted(kept, budget - room + self.tokens(cut, count), (head, cut), self.tokens(head, cut))
        return self._shortened(messages, head, max(last, head), budget, extra)

    def _shortened(self, messages: Sequence[Message], head: int, last: int, budget: int, extra: Sequence[Message]) -> Fitted:
        """Head and last unit alone, the longest of their texts cut in the middle until all fits."""
        kept = [*messages[:head], *extra, *messages[last:]]
        sizes = [message_tokens(message, self.counter) for message in kept]
        texts = [self.counter.count(m["content"]) if isinstance(m.get("content"), str) else 0 for m in kept]
        over = sum(sizes) + PER_REPLY - budget
        targets = _lowered(texts, over)
        if targets is None:
            least = sum(sizes) + PER_REPLY - sum(max(0, text - LEAST) for text in texts)
            raise ContextOverflowError(
                f"the request needs {sum(sizes) + PER_REPLY:,} tokens and has {budget:,}: system message, instruction and last message cannot be "
                f"shortened below {least:,}"
            )
        made = [
            m if target >= text else {**m, "content": shorten(m["content"], target, self.counter)}
            for m, text, target in zip(kept, texts, targets, strict=True)
        ]
        tokens = PER_REPLY + sum(message_tokens(message, self.counter) for message in made)
        shortened = sum(target < text for text, target in zip(texts, targets, strict=True))
        return Fitted(made, tokens, (head, last), self.tokens(head, last), shortened)


def _lowered(texts: Sequence[int], over: int) -> list[int] | None:
    """The texts' sizes with the largest lowered to one level so that `over` tokens are saved; None when that is not enough."""
    if sum(max(0, text - LEAST) for text in texts) < over:
        return None
    low, high = LEAST, max(texts, default=0)
    while low < high:  # the highest level that saves enough
        level = (low + high + 1) // 2
        if sum(max(0, text - level) for text in texts) >= over:
            low = level
        else:
            high = level - 1
    return [min(text, low) for text in texts]


def shorten(text: str, tokens: int, counter: Family) -> str:
    """A text of at most so many tokens: its beginning and its end, with a mark between that says how much is missing."""
    total = counter.count(text)
    if total <= tokens:
        return text
    mark = f"\n[… about {total - tokens:,} tokens left out …]\n"
    low, high = 0, len(text)
    while low < high:
        size = (low + high + 1) // 2
        if counter.count(_ends(text, size, mark)) <= tokens:
            low = size
        else:
            high = size - 1
    return _ends(text, low, mark)


def _ends(text: str, size: int, mark: str) -> str:
    return text[: size - size // 2] + mark + (text[len(text) - size // 2 :] if size // 2 else "")
