"""TokenWindow: no request is larger than its model's window. Each message is counted once; the rest is arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from unified_agents.chat_models import ChatRequest, ChatResponse
from unified_agents.errors import ContextOverflowError, ModelError
from unified_agents.events import ContextTrimmed, Event, ignore
from unified_agents.middleware import CallNext
from unified_agents.prompts import fenced
from unified_agents.spec import TokenWindowSpec
from unified_agents.tokens import family, message_tokens, tools_tokens
from unified_agents.window import Fitted, Ledger, Message, shorten
from unified_agents.windows import known_window

SMALLEST_WINDOW = 4096
"""What every model takes: a request below it needs no look at the price list, which takes a quarter of a second to load."""

_SUMMARY_SHARE = 8  # a summary may take this part of the budget
_LEAST_SUMMARY, _SUMMARY_FRAME = 96, 32
_CUT_TO = 0.7  # of the room, when a summary is made: then the next ones fit for a while
_FEW, _FRAME, _LARGEST_FACTOR = 100, 16, 1.2


@dataclass(frozen=True)
class TokenWindow:
    """Keeps a request within min(the model's window, `settings.limit`) minus the answer's tokens.

    `drop_oldest` leaves the oldest messages out; `summarize` has the model sum them up, once, and extends that summary. A model of unknown window
    and no limit is asked as it is; when it says that the request is too large, the request is halved and sent once more.
    """

    settings: TokenWindowSpec = field(default_factory=TokenWindowSpec)
    emit: Callable[[Event], None] = ignore
    _memory: dict[str, _Conversation] = field(default_factory=dict, repr=False, compare=False)

    async def __call__(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        """The answer.

        Raises:
            ContextOverflowError: what may not be left out does not fit; with the numbers.
        """
        most = _at_most(request)
        budget, sent = self.budget(request, most), request
        if budget is not None and most > budget:
            sent = await self._fitted(request, budget, call_next)
        try:
            return await call_next(sent)
        except ContextOverflowError as error:
            smaller = await self._halved(request, sent, error, call_next)
        return await call_next(smaller)

    def budget(self, request: ChatRequest, most: float) -> int | None:
        """Tokens that messages and tools may take; None: no limit is known. `most`: what the request cannot exceed."""
        window = request.model.context_window
        if window is None and most > SMALLEST_WINDOW - request.model.answer_tokens:
            window = known_window(request.model.model)
        limit = min((size for size in (window, self.settings.limit) if size is not None), default=None)
        if limit is None:
            return None
        return limit - request.model.answer_tokens

    async def _halved(self, request: ChatRequest, sent: ChatRequest, error: ContextOverflowError, call_next: CallNext) -> ChatRequest:
        """Half of a request that its model found too large: one more attempt after the one that said so.

        Raises:
            ContextOverflowError: the model's own, when nothing can be left out.
        """
        counter = family(sent.model.model)
        tools = tools_tokens(sent.tools, counter)
        try:
            smaller = await self._fitted(
                request, sum(message_tokens(message, counter) for message in sent.messages) // 2 + tools, call_next
            )
        except ContextOverflowError:
            raise error from None
        return replace(smaller, attempt=error.attempt + 1)

    async def _fitted(self, request: ChatRequest, budget: int, call_next: CallNext) -> ChatRequest:
        conversation, tools = self._of(request), tools_tokens(request.tools, family(request.model.model))
        try:
            fitted = conversation.ledger.fit(request.messages, budget - tools)
        except ContextOverflowError as error:
            beside = f" beside {tools:,} of tools" if tools else ""
            raise ContextOverflowError(f"{request.model.model}: {error}{beside}", model=request.model.model) from None
        if fitted.dropped and self.settings.strategy == "summarize":
            fitted = await self._summarized(request, conversation, fitted, budget - tools, call_next)
        if fitted.dropped or fitted.shortened:
            self._say(request, fitted, tools, budget)
        return replace(request, messages=fitted.messages)

    async def _summarized(
        self, request: ChatRequest, conversation: _Conversation, dropped: Fitted, room: int, call_next: CallNext
    ) -> Fitted:
        """With a summary of what is left out, where there is room and the model gives one; else without it.

        What was summed up before is not summed up again: the next summary goes on from it.
        """
        if (kept := conversation.going_on(request.messages, room)) is not None:
            return kept
        share = max(room // _SUMMARY_SHARE, _LEAST_SUMMARY)
        try:
            fitted = conversation.ledger.fit(request.messages, int((room - share) * _CUT_TO))
            await self._sum_up(request, conversation, fitted.cut, share, room, call_next)
        except ModelError:
            return dropped
        return conversation.going_on(request.messages, room) or dropped

    async def _sum_up(
        self, request: ChatRequest, conversation: _Conversation, cut: tuple[int, int], share: int, room: int, call_next: CallNext
    ) -> None:
        """Bring the summary up to the end of the cut, in pieces that fit the window themselves."""
        counter, start = family(request.model.model), max(cut[0], conversation.upto)
        while start < cut[1]:
            end = start + 1
            while end < cut[1] and conversation.ledger.tokens(start, end + 1) < room // 2:
                end += 1
            said = shorten("\n\n".join(f"{m['role']}: {_text(m)}" for m in request.messages[start:end]), room // 2, counter)
            answer = await call_next(_summary_request(request, conversation.summary, said, share))
            if not answer.text:
                return  # the next call asks for it again
            conversation.summary, conversation.upto = shorten(answer.text, share - _SUMMARY_FRAME, counter), end
            start = end

    def _of(self, request: ChatRequest) -> _Conversation:
        """What is known of the request's conversation; nothing, when it is another one by the same name, or has none."""
        key = f"{request.conversation}\0{request.model.alias}"
        known = self._memory.get(key) if request.conversation else None
        if known is None or not known.ledger.take(request.messages):
            known = _Conversation(Ledger(family(request.model.model)))
            if request.conversation:
                self._memory[key] = known
        return known

    def _say(self, request: ChatRequest, fitted: Fitted, tools: int, budget: int) -> None:
        self.emit(
            ContextTrimmed(
                task=request.task, agent=request.agent, model=request.model.model, dropped=fitted.dropped, dropped_tokens=fitted.dropped_tokens,
                shortened=fitted.shortened, tokens=fitted.tokens + tools, budget=budget,
            )
        )  # fmt: skip


@dataclass
class _Conversation:
    """What is known of one conversation with one model."""

    ledger: Ledger
    summary: str = ""
    upto: int = 0  # the messages before this one are in the summary

    def going_on(self, messages: Sequence[Message], room: int) -> Fitted | None:
        """With the summary as it is, while what came after it fits: a new one is made only when that is no longer so."""
        head, count = self.ledger.head, len(messages)
        if not self.summary or self.upto <= head:
            return None
        tokens = self.ledger.total - self.ledger.tokens(head, self.upto) + sum(message_tokens(m, self.ledger.counter) for m in self.extra)
        if tokens > room:
            return None
        kept = [*messages[:head], *self.extra, *messages[self.upto : count]]
        return Fitted(kept, tokens, (head, self.upto), self.ledger.tokens(head, self.upto))

    @property
    def extra(self) -> list[Message]:
        """The summary as a message."""
        if not self.summary:
            return []
        return [{"role": "user", "content": f"A summary of the earlier conversation, which is left out:\n{fenced(self.summary)}"}]


def _summary_request(request: ChatRequest, summary: str, said: str, tokens: int) -> ChatRequest:
    before = f"The summary so far:\n{fenced(summary)}\n\n" if summary else ""
    asked = (
        f"{before}What was said after it:\n{fenced(said)}\n\n"
        f"Sum all of it up in at most {tokens // 2} words: facts, decisions, results of tools. Nothing else."
    )
    name = "max_completion_tokens" if "max_completion_tokens" in request.model.sampling else "max_tokens"
    model = replace(request.model, sampling={**request.model.sampling, name: tokens - _SUMMARY_FRAME})
    return replace(
        request, model=model, messages=[{"role": "user", "content": asked}], tools=(), response_format=None,
        conversation=f"{request.conversation}/summary", attempt=1, kinds={},
    )  # fmt: skip


def _text(message: Message) -> str:
    calls = [f"{call['function']['name']}({call['function']['arguments']})" for call in message.get("tool_calls") or ()]
    return " ".join(part for part in (str(message.get("content") or ""), *calls) if part)


def _at_most(request: ChatRequest) -> float:
    """Tokens that a request cannot exceed: no vocabulary splits bytes. A long conversation is not walked; its ledger knows better."""
    if len(request.messages) > _FEW:
        return float("inf")
    texts = [*(_text(message) for message in request.messages), *(str(tool) for tool in request.tools)]
    return sum(len(text.encode("utf-8", "replace")) + _FRAME for text in texts) * _LARGEST_FACTOR
