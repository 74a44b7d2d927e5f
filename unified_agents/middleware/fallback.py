"""Fallback: the next model when one fails in a way that another may not."""

from __future__ import annotations

from dataclasses import dataclass, replace

from unified_agents.chat_models import ChatRequest, ChatResponse
from unified_agents.errors import ModelError
from unified_agents.middleware import CallNext


@dataclass(frozen=True)
class Fallback:
    """Asks the request's `fallbacks` in their order. Errors that another model would meet too (a wrong key, a bad request) are not passed on."""

    async def __call__(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        """The first answer there is.

        Raises:
            ModelError: of the last model that was asked.
        """
        models = [request.model, *request.fallbacks]
        for model in models[:-1]:
            try:
                return await call_next(replace(request, model=model, fallbacks=()))
            except ModelError as error:
                if not error.next_model:
                    raise
        return await call_next(replace(request, model=models[-1], fallbacks=()))
