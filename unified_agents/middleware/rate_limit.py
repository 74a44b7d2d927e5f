"""RateLimit: requests and tokens a minute, calls at once, and the pauses that a provider asks for. One gate for each address, model and key."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from aiolimiter import AsyncLimiter

from unified_agents.chat_models import ChatRequest, ChatResponse, Usage
from unified_agents.chat_models.providers import ModelConfig
from unified_agents.clock import clock, sleep_unless
from unified_agents.engine import shared
from unified_agents.errors import CircuitOpenError, RateLimitError
from unified_agents.events import CallWaited, Event, ignore
from unified_agents.middleware import CallNext
from unified_agents.middleware.retry import LONGEST_PAUSE
from unified_agents.spec import RateLimitSpec

_WORTH_SAYING = 0.5  # seconds
_LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class RateLimit:
    """Holds a call back until its model's `rate_limit` and its provider allow it.

    `check` raises when the call would not be made anyway, its circuit being open: then it neither waits nor takes anything.
    """

    emit: Callable[[Event], None] = ignore
    check: Callable[[ModelConfig], None] = lambda _model: None

    async def __call__(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        """The answer.

        Raises:
            RateLimitError: the provider's pause is longer than the task's time.
        """
        gate = _gate(request.model)
        self.check(request.model)
        async with gate.slots:
            reserved = await gate.passed(request, self.emit, self.check)
            try:
                response = await call_next(request)
            except CircuitOpenError:
                gate.give_back(reserved)
                raise
            except RateLimitError as error:
                if error.retry_after is not None and error.retry_after <= LONGEST_PAUSE:
                    gate.pause(error.retry_after)
                raise
            gate.correct(reserved, response.usage)
            return response


async def rested(models: Iterable[ModelConfig]) -> None:
    """Wait until no earlier run has left these models with less than their whole rate limit; on the engine's loop."""
    for model in models:
        await _gate(model).rested()


def _gate(model: ModelConfig) -> Gate:
    key = ("gate", *model.identity, model.rate_limit)
    gates = shared()
    if key not in gates:
        gates[key] = Gate(model.rate_limit or RateLimitSpec())
    found: Gate = gates[key]
    return found


@dataclass
class Gate:
    """What one model lets through. Lives on the engine's loop."""

    limits: RateLimitSpec
    slots: asyncio.Semaphore | contextlib.nullcontext[None] = field(init=False)
    _paused_until: float = field(default=0.0, init=False)
    _requests: AsyncLimiter | None = field(init=False)
    _tokens: TokenBucket | None = field(init=False)

    def __post_init__(self) -> None:
        limits = self.limits
        self.slots = asyncio.Semaphore(limits.concurrency) if limits.concurrency else contextlib.nullcontext()
        self._requests = AsyncLimiter(limits.requests_per_minute, 60) if limits.requests_per_minute else None
        self._tokens = TokenBucket(limits.tokens_per_minute) if limits.tokens_per_minute else None

    def pause(self, seconds: float) -> None:
        """Let nobody through for some seconds: the provider said so."""
        self._paused_until = max(self._paused_until, clock().now() + seconds)

    async def passed(self, request: ChatRequest, emit: Callable[[Event], None], check: Callable[[ModelConfig], None]) -> float:
        """Wait until the call may be made, one of the `slots` in hand; the tokens that were reserved for it."""
        began = clock().now()
        reserved = await self._tokens.reserve(estimate(request)) if self._tokens else 0.0
        try:
            check(request.model)  # it may have opened while this call waited
            if self._requests is not None:
                await self._requests.acquire()
            waited = clock().now() - began
            if waited >= _WORTH_SAYING:
                emit(_waited(request, waited, "is at its rate_limit"))
            await self._resumed(request, emit)
        except BaseException:
            self.give_back(reserved)
            raise
        return reserved

    def give_back(self, reserved: float) -> None:
        """What was reserved for a call that was not made."""
        if self._tokens is not None:
            self._tokens.correct(reserved)

    async def _resumed(self, request: ChatRequest, emit: Callable[[Event], None]) -> None:
        while (seconds := self._paused_until - clock().now()) > 0:
            if request.left is not None and seconds >= request.left():
                raise RateLimitError(
                    f"{request.model.model} asked to wait {seconds:.0f} s, longer than the task has",
                    model=request.model.model,
                    retry_after=seconds,
                )
            emit(_waited(request, seconds, "is rate limited"))
            await clock().sleep(seconds)

    async def rested(self) -> None:
        """Wait until it is as if nothing had been asked for a while."""
        for limiter, all_of_it in ((self._requests, self.limits.requests_per_minute), (self._tokens, self.limits.tokens_per_minute)):
            while limiter is not None and not limiter.has_capacity(all_of_it or 0):  # it fills as time passes, which no event tells
                await clock().sleep(_LOOK_SECONDS)
        await clock().sleep(max(0.0, self._paused_until - clock().now()))

    def correct(self, reserved: float, usage: Usage) -> None:
        """Give back what was reserved and not used, or take what was used beyond it."""
        if self._tokens is not None and usage.input_tokens is not None and usage.output_tokens is not None:
            self._tokens.correct(reserved - usage.input_tokens - usage.output_tokens)


def _waited(request: ChatRequest, seconds: float, reason: str) -> CallWaited:
    return CallWaited(task=request.task, agent=request.agent, model=request.model.model, delay_s=seconds, reason=reason)


def estimate(request: ChatRequest) -> float:
    """Tokens that a call may take: a quarter of its characters, and the longest answer."""
    text = json.dumps([*request.messages, *request.tools], ensure_ascii=False, default=str)
    return len(text) / 4 + request.model.answer_tokens


class TokenBucket:
    """Tokens a minute: full at first, refilled evenly; callers are served in their order. A call larger than all of it takes all of it."""

    def __init__(self, per_minute: float) -> None:
        self._capacity = self._level = float(per_minute)
        self._filled = clock().now()
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()

    async def reserve(self, amount: float) -> float:
        """Wait until there are so many tokens, and take them; how many were taken."""
        amount = min(amount, self._capacity)
        async with self._turn:
            while (lacking := amount - self._fill()) > 1e-9:
                self._changed.clear()
                await sleep_unless(self._changed, lacking * 60 / self._capacity, clock())
            self._level -= amount
        return amount

    def correct(self, amount: float) -> None:
        """Give back tokens, or take more (negative); the level may fall below zero, and then the next ones wait longer."""
        self._level = min(self._capacity, self._fill() + amount)
        self._changed.set()  # whoever waits may wait less now

    def has_capacity(self, amount: float) -> bool:
        """Whether there are so many tokens now."""
        return self._fill() >= amount - 1e-9

    def _fill(self) -> float:
        now = clock().now()
        self._level = min(self._capacity, self._level + (now - self._filled) * self._capacity / 60)
        self._filled = now
        return self._level
