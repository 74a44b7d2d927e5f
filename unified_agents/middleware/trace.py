"""Trace: says of each attempt that it was made and what came of it. Innermost, so what it counts is requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from unified_agents.chat_models import ChatRequest, ChatResponse, Usage, monotonic
from unified_agents.events import Event, ModelCalled, TextStreamed
from unified_agents.middleware import CallNext
from unified_agents.pricing import Prices
from unified_agents.recorded import call_key


@dataclass(frozen=True)
class Trace:
    """Emits a ModelCalled event for every attempt, failed and cancelled ones too. A price is looked up once, while the model answers.

    `stream`: text is emitted while the model writes it; that of a model which does not stream, in one piece.
    """

    emit: Callable[[Event], None]
    prices: Prices = field(default_factory=Prices)
    stream: bool = False

    async def __call__(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        """The answer, unchanged."""
        started, looked_up = monotonic(), self.prices.look_up(request.model)
        pieces = _Pieces(request, self.emit) if self.stream else None
        try:
            response = await call_next(replace(request, on_text=pieces.take) if pieces else request)
            if pieces:
                pieces.end(response)
            if looked_up is not None:
                await looked_up
        except BaseException as error:
            self._emit(request, started, error="Cancelled" if isinstance(error, asyncio.CancelledError) else type(error).__name__)
            raise
        self._emit(request, started, usage=response.usage, finish_reason=response.finish_reason)
        return response

    def _emit(
        self, request: ChatRequest, started: float, usage: Usage | None = None, finish_reason: str | None = None, error: str | None = None
    ) -> None:
        self.emit(
            ModelCalled(
                task=request.task,
                agent=request.agent,
                model=request.model.model,
                turn=request.turn,
                attempt=request.attempt,
                duration_s=monotonic() - started,
                input_tokens=usage.input_tokens if usage else None,
                output_tokens=usage.output_tokens if usage else None,
                cost_usd=self.prices.cost(request.model, usage) if usage else None,
                finish_reason=finish_reason,
                error=error,
                key=call_key(request),
            )
        )


class _Pieces:
    """The text of one attempt, piece by piece."""

    def __init__(self, request: ChatRequest, emit: Callable[[Event], None]) -> None:
        self._request, self._emit, self._any = request, emit, False

    def take(self, text: str) -> None:
        request, self._any = self._request, True
        self._emit(
            TextStreamed(
                task=request.task, agent=request.agent, key=call_key(request), model=request.model.model, attempt=request.attempt, text=text
            )
        )  # fmt: skip

    def end(self, response: ChatResponse) -> None:
        if not self._any and response.text:
            self.take(response.text)
