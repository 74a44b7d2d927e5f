"""Trace: says of each attempt that it was made and what came of it. Innermost, so what it counts is requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from unified_agents.chat_models import ChatRequest, ChatResponse, Usage, monotonic
from unified_agents.events import Event, ModelCalled
from unified_agents.middleware import CallNext


@dataclass(frozen=True)
class Trace:
    """Emits a ModelCalled event for every attempt, failed and cancelled ones too."""

    emit: Callable[[Event], None]

    async def __call__(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        """The answer, unchanged."""
        started = monotonic()
        try:
            response = await call_next(request)
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
                finish_reason=finish_reason,
                error=error,
            )
        )
