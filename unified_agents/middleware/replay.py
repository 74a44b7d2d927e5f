"""Replay: a call that an earlier session of the run recorded is answered from there; every other answer is recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from unified_agents.chat_models import ChatRequest, ChatResponse
from unified_agents.events import Event, ModelAnswered
from unified_agents.middleware import CallNext
from unified_agents.recorded import Recorded


@dataclass(frozen=True)
class Replay:
    """Outermost: a recorded call costs nothing, and what is recorded is what the conversation asked, before memory or any layer added to it."""

    recorded: Recorded
    emit: Callable[[Event], None]

    async def __call__(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        """The recorded answer, or a live one."""
        key, fingerprint, known = self.recorded.answer(request)
        if known is not None:
            return known
        response = await call_next(request)
        if isinstance(response, ChatResponse) and (
            response.text or response.tool_calls
        ):  # else the conversation fails, now and not each time
            self.emit(_event(request, key, fingerprint, response))
        return response


def _event(request: ChatRequest, key: str, fingerprint: str, response: ChatResponse) -> ModelAnswered:
    return ModelAnswered(
        task=request.task, agent=request.agent, key=key, fingerprint=fingerprint, model=response.model, text=response.text,
        tool_calls=tuple({"id": call.id, "name": call.name, "arguments": call.arguments} for call in response.tool_calls),
        finish_reason=response.finish_reason, input_tokens=response.usage.input_tokens, output_tokens=response.usage.output_tokens,
    )  # fmt: skip
