"""Timeout: one attempt as a whole, a body that drips slowly included."""

from __future__ import annotations

from dataclasses import dataclass

from unified_agents.chat_models import ChatRequest, ChatResponse
from unified_agents.engine import within
from unified_agents.errors import APITimeoutError
from unified_agents.middleware import CallNext


@dataclass(frozen=True)
class Timeout:
    """Ends an attempt after the model's `timeout` (seconds, from the first byte sent to the last byte received)."""

    async def __call__(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        """The answer, or an error when it takes too long.

        Raises:
            APITimeoutError: the attempt was cancelled.
        """
        seconds = request.model.timeout
        late = APITimeoutError(f"{request.model.model} gave no whole answer within {seconds:g} s", model=request.model.model)
        return await within(call_next(request), seconds, late)
