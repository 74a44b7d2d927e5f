"""Budget: no call begins that the run's budget may not cover. What a call may take at most is reserved before it, and corrected after it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from unified_agents.chat_models import ChatRequest, ChatResponse, Usage
from unified_agents.clock import clock
from unified_agents.engine import in_thread
from unified_agents.errors import CircuitOpenError
from unified_agents.events import CallWaited, Event, UsageAssumed, ignore
from unified_agents.middleware import CallNext
from unified_agents.recorded import call_key
from unified_agents.spending import Spending, Spent
from unified_agents.tokens import PER_MESSAGE, PER_REPLY, Family, family, message_tokens, tools_tokens

_ROUGHLY = 16  # while so many calls of its size have room, a request is not counted: its bytes are a bound, four times too large
_FRAME, _LARGEST_FACTOR = 16, 1.2
_WORTH_SAYING = 0.5  # seconds

_loaded: set[str] = set()


@dataclass(frozen=True)
class Budget:
    """Checks each attempt against the run's `spending`, which all of its calls share."""

    spending: Spending
    emit: Callable[[Event], None] = ignore

    async def __call__(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        """The answer.

        Raises:
            BudgetExceededError: the call does not fit; it was not made.
        """
        need = await self._at_most(request)
        await self._reserve(need, request)
        used = Spent(model_calls=1)  # of an attempt that failed: tokens are known of answers alone
        try:
            response = await call_next(request)
            used = await self._used(request, response)
        except CircuitOpenError:
            used = Spent()  # it was not made
            raise
        finally:
            self.spending.settle(need, used)
        return response

    async def _at_most(self, request: ChatRequest) -> Spent:
        """What a call may take: its request and the longest answer. Counted only where it matters."""
        limits, answer = self.spending.limits, request.model.answer_tokens
        if limits.tokens is None and limits.usd is None:
            return Spent(model_calls=1)
        rough = self.spending.of(request.model, largest_size(request), answer)
        if self.spending.has_room(Spent(1, rough.tokens * _ROUGHLY, rough.usd * _ROUGHLY)):
            return rough
        return self.spending.of(request.model, await request_tokens(request), answer)

    async def _reserve(self, need: Spent, request: ChatRequest) -> None:
        began = clock().now()
        await self.spending.reserve(need, request.model.model)
        waited = clock().now() - began
        if waited >= _WORTH_SAYING:
            reason = "may take what is left of the budget beside the calls under way"
            self.emit(CallWaited(task=request.task, agent=request.agent, model=request.model.model, delay_s=waited, reason=reason))

    async def _used(self, request: ChatRequest, response: ChatResponse) -> Spent:
        """What a call took; what its provider does not report counts as what it may have been, and is said, so that a resumed run knows."""
        limits, (taken, given) = self.spending.limits, (response.usage.input_tokens, response.usage.output_tokens)
        if limits.tokens is None and limits.usd is None:
            return Spent(model_calls=1)
        if taken is not None and given is not None:
            return self.spending.of(request.model, taken, given)
        taken = await request_tokens(request) if taken is None else taken
        given = request.model.answer_tokens if given is None else given
        cost = self.spending.prices.cost(request.model, Usage(taken, given))
        self.emit(
            UsageAssumed(
                task=request.task, agent=request.agent, key=call_key(request), model=request.model.model, attempt=request.attempt,
                input_tokens=taken, output_tokens=given, cost_usd=cost,
            )
        )  # fmt: skip
        return self.spending.of(request.model, taken, given)


def largest_size(request: ChatRequest) -> int:
    """Tokens that a request cannot exceed: no vocabulary splits bytes."""
    text = json.dumps([*request.messages, *request.tools, request.response_format], ensure_ascii=False, default=str)
    return int((len(text.encode("utf-8", "replace")) + _FRAME * (len(request.messages) + 1)) * _LARGEST_FACTOR)


async def request_tokens(request: ChatRequest) -> int:
    """Tokens of a whole request: exact for OpenAI's messages, an upper bound for their tools; others ±15%."""
    counter = family(request.model.model)
    if counter.vocabulary not in _loaded:  # up to a second, which the engine's loop does not have
        await in_thread(lambda: counter.count("x"), "unified-agents-tokens")
        _loaded.add(counter.vocabulary)
    messages = sum(message_tokens(message, counter) for message in request.messages)
    return PER_REPLY + messages + tools_tokens(request.tools, counter) + _format_tokens(request, counter)


def _format_tokens(request: ChatRequest, counter: Family) -> int:
    if request.response_format is None:
        return 0
    return PER_MESSAGE + counter.count(json.dumps(request.response_format, ensure_ascii=False))
