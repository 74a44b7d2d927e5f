"""Our layers in an AutoGen team that was written by hand: `AssistantAgent("a", model_client=ManagedChatCompletionClient("openai/gpt-4o-mini"))`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

# isort: off
import unified_agents_autogen.quiet  # noqa: F401  # before anything of the framework

# isort: on
from autogen_core import CancellationToken, FunctionCall
from autogen_core.models import (
    AssistantMessage,
    CreateResult,
    FunctionExecutionResultMessage,
    LLMMessage,
    RequestUsage,
    SystemMessage,
    UserMessage,
)
from autogen_core.tools import Tool, ToolSchema
from pydantic import BaseModel

from unified_agents.managed import ManagedModel, json_format
from unified_agents_autogen.model import CoreClient


class ManagedChatCompletionClient(CoreClient):
    """An AutoGen model client with our retries, circuit breaker, rate limit, timeout and fallback models; N attempts are N requests.

    `model` and the fields of a ModelSpec (`temperature`, `base_url`, `api_key`, …) say what is called; `fallbacks`, `resilience`,
    `token_window`, `budget`, `prices`, `middleware`, `on_event` and `timeout` are those of `unified_agents.managed.ManagedModel`.

    Raises:
        SpecError: the model is unknown, or its key is missing.
        ModelError: from a call, when it failed for good.
    """

    def __init__(self, model: str, **options: Any) -> None:
        self._managed = ManagedModel.of(model, options)
        self._used = RequestUsage(prompt_tokens=0, completion_tokens=0)

    async def create(
        self, messages: Sequence[LLMMessage], *, tools: Sequence[Tool | ToolSchema] = (), tool_choice: Any = "auto",
        json_output: bool | type[BaseModel] | None = None, extra_create_args: Mapping[str, Any] | None = None,
        cancellation_token: CancellationToken | None = None,
    ) -> CreateResult:  # fmt: skip
        """The model's answer.

        Raises:
            ValueError: `extra_create_args` were given; put such fields into `extra_body` at construction.
        """
        if extra_create_args:
            raise ValueError("extra_create_args are not carried: use extra_body={…} of ManagedChatCompletionClient")
        sent = [part for message in messages for part in _plain(message)]
        offered = [] if tool_choice == "none" else [_schema(tool) for tool in tools]
        call = asyncio.ensure_future(self._managed.ask(sent, offered, _format(json_output), _choice(tool_choice)))
        if cancellation_token is not None:
            cancellation_token.link_future(call)
        response = await call
        usage = RequestUsage(prompt_tokens=response.usage.input_tokens or 0, completion_tokens=response.usage.output_tokens or 0)
        self._used = RequestUsage(
            prompt_tokens=self._used.prompt_tokens + usage.prompt_tokens,
            completion_tokens=self._used.completion_tokens + usage.completion_tokens,
        )
        if response.tool_calls:
            calls = [FunctionCall(id=one.id, name=one.name, arguments=one.arguments) for one in response.tool_calls]
            return CreateResult(finish_reason="function_calls", content=calls, usage=usage, cached=False, thought=response.text or None)
        reason: Any = "length" if response.truncated else "stop"
        return CreateResult(finish_reason=reason, content=response.text, usage=usage, cached=False)

    def actual_usage(self) -> RequestUsage:
        """Tokens of all answers so far."""
        return self._used

    def count_tokens(self, messages: Sequence[LLMMessage], **_options: Any) -> int:
        """About a quarter of the characters."""
        return sum(len(json.dumps(sent, ensure_ascii=False)) for message in messages for sent in _plain(message)) // 4


def _plain(message: LLMMessage) -> list[dict[str, Any]]:
    """An AutoGen message as it goes on the wire; results of several tools are several messages.

    Raises:
        ValueError: it holds something else than text.
    """
    if isinstance(message, FunctionExecutionResultMessage):
        return [{"role": "tool", "tool_call_id": result.call_id, "content": result.content} for result in message.content]
    if isinstance(message, AssistantMessage) and not isinstance(message.content, str):
        calls = [
            {"id": one.id, "type": "function", "function": {"name": one.name, "arguments": one.arguments}} for one in message.content
        ]  # fmt: skip
        return [{"role": "assistant", "content": message.thought, "tool_calls": calls}]
    if not isinstance(message.content, str):
        raise ValueError("images are not carried: ManagedChatCompletionClient takes text")
    roles = {SystemMessage: "system", UserMessage: "user", AssistantMessage: "assistant"}
    return [{"role": roles[type(message)], "content": message.content}]


def _schema(tool: Tool | ToolSchema) -> dict[str, Any]:
    schema = tool.schema if isinstance(tool, Tool) else tool
    return {"type": "function", "function": {key: schema[key] for key in ("name", "description", "parameters") if key in schema}}  # type: ignore[literal-required]


def _choice(wanted: Any) -> Any:
    """On the wire; None leaves it to the model."""
    if isinstance(wanted, Tool):
        return {"type": "function", "function": {"name": wanted.name}}
    return None if wanted in ("auto", "none") else wanted


def _format(wanted: bool | type[BaseModel] | None) -> dict[str, Any] | None:
    if not wanted:
        return None
    if wanted is True:
        return {"type": "json_object"}
    return json_format(wanted)
