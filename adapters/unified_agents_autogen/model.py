"""The model seam of AutoGen: a `ChatCompletionClient` that hands messages to a Conversation and takes its answer back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

# isort: off
import unified_agents_autogen.quiet  # noqa: F401  # before anything of the framework

# isort: on
from autogen_core import CancellationToken
from autogen_core.models import (
    ChatCompletionClient,
    CreateResult,
    LLMMessage,
    ModelFamily,
    ModelInfo,
    RequestUsage,
    SystemMessage,
    UserMessage,
)

from unified_agents.adapter import Conversation, ConversationStopped
from unified_agents_autogen.tools import native_calls

# In place of an error: AgentChat flattens exceptions to RuntimeError and poisons the team. The manager reads the conversation, not this.
STOPPED = "The task failed."


class CoreClient(ChatCompletionClient):
    """What is the same in all clients that ask the core: it counts, trims and streams, not AutoGen."""

    async def create_stream(self, messages: Sequence[LLMMessage], **options: Any) -> AsyncGenerator[str | CreateResult, None]:
        """As `create`, in one piece."""
        yield await self.create(messages, **options)

    async def close(self) -> None:
        """Nothing: HTTP clients are shared by the process."""

    def actual_usage(self) -> RequestUsage:
        """Not counted here: usage is in the run's result."""
        return RequestUsage(prompt_tokens=0, completion_tokens=0)

    def total_usage(self) -> RequestUsage:
        """As `actual_usage`."""
        return self.actual_usage()

    def count_tokens(self, messages: Sequence[LLMMessage], **_options: Any) -> int:
        """Nothing: the token window is ours."""
        return 0

    def remaining_tokens(self, messages: Sequence[LLMMessage], **_options: Any) -> int:
        """Out of reach, as `count_tokens`."""
        return 1 << 40

    @property
    def capabilities(self) -> Any:
        """AgentChat's older name for `model_info`."""
        return self.model_info

    @property
    def model_info(self) -> ModelInfo:
        """What AgentChat may use of a model: all that the core can do."""
        return ModelInfo(vision=False, function_calling=True, json_output=True, family=ModelFamily.UNKNOWN, structured_output=True)


class ConversationClient(CoreClient):
    """The model client of one task: every call goes to the conversation that was opened for it."""

    def __init__(self) -> None:
        self._conversation: Conversation | None = None

    def bind(self, conversation: Conversation) -> None:
        """Answer from `conversation` from now on."""
        self._conversation = conversation

    async def create(
        self, messages: Sequence[LLMMessage], *, cancellation_token: CancellationToken | None = None, **_options: Any
    ) -> CreateResult:
        """The conversation's answer; never raises for a failed call."""
        assert self._conversation is not None
        call = asyncio.ensure_future(self._conversation.chat([plain(message) for message in messages]))
        if cancellation_token is not None:
            cancellation_token.link_future(call)
        usage = RequestUsage(prompt_tokens=0, completion_tokens=0)
        try:
            response = await call
        except ConversationStopped:
            return CreateResult(finish_reason="stop", content=STOPPED, usage=usage, cached=False)
        if response.tool_calls:
            return CreateResult(finish_reason="function_calls", content=native_calls(response.tool_calls), usage=usage, cached=False)
        return CreateResult(finish_reason="stop", content=response.text, usage=usage, cached=False)


def plain(message: LLMMessage) -> Mapping[str, Any]:
    """An AutoGen message as it goes on the wire."""
    if isinstance(message, SystemMessage):
        return {"role": "system", "content": message.content}
    if isinstance(message, UserMessage) and isinstance(message.content, str):
        return {"role": "user", "content": message.content}
    return {"role": "assistant", "content": str(message.content)}  # of a later turn, which the conversation knows already
