"""Our layers in a crew that was written by hand: `Agent(llm=ManagedLLM("openai/gpt-4o-mini"))`."""

from __future__ import annotations

import asyncio
from typing import Any

# isort: off
import unified_agents_crewai.quiet  # noqa: F401  # before anything of the framework

# isort: on
from crewai import BaseLLM
from crewai.hooks.dispatch import HookAborted
from pydantic import BaseModel, PrivateAttr

from unified_agents.chat_models import ChatResponse
from unified_agents.errors import ContextOverflowError, ModelError
from unified_agents.managed import ManagedModel, json_format

_KEPT = ("role", "content", "tool_calls", "tool_call_id", "name")  # CrewAI adds marks of its own to messages


class ManagedCallError(HookAborted):
    """A call failed for good; CrewAI neither asks again nor rewords it. The ModelError is in `error`."""

    def __init__(self, error: ModelError) -> None:
        # CrewAI acts on a provider's words about length, whoever says them, and asks for summaries; they are in `error`.
        said = "the request does not fit the model" if isinstance(error, ContextOverflowError) else str(error)
        super().__init__(f"{type(error).__name__}: {said}")
        self.error = error


class ManagedLLM(BaseLLM):
    """A CrewAI LLM with our retries, circuit breaker, rate limit, timeout and fallback models; N attempts are N requests.

    `model` and the fields of a ModelSpec (`temperature`, `base_url`, `api_key`, …) say what is called; `fallbacks`, `resilience`,
    `token_window`, `budget`, `prices`, `middleware`, `on_event` and `timeout` are those of `unified_agents.managed.ManagedModel`.

    Raises:
        SpecError: the model is unknown, or its key is missing.
        ManagedCallError: from a call, when it failed for good.
    """

    _managed: ManagedModel = PrivateAttr()

    def __init__(self, model: str, **options: Any) -> None:
        managed = ManagedModel.of(model, options)
        super().__init__(model=managed.name)
        self._managed = managed

    def call(
        self, messages: str | list[dict[str, Any]], tools: list[dict[str, Any]] | None = None, callbacks: Any = None,
        available_functions: dict[str, Any] | None = None, from_task: Any = None, from_agent: Any = None, response_model: type[BaseModel] | None = None,
    ) -> Any:  # fmt: skip
        """The model's answer as CrewAI takes it: a text, tool calls, or an instance of `response_model`."""
        try:
            response = self._managed.ask_blocking(_plain(messages), tools or (), json_format(response_model) if response_model else None)
        except ModelError as error:
            failure = ManagedCallError(error)
        else:
            return self._said(response, available_functions, response_model)
        raise failure  # outside of the `except`: CrewAI reads meaning into causes

    async def acall(self, messages: str | list[dict[str, Any]], *args: Any, **options: Any) -> Any:
        """As `call`, in a thread: CrewAI awaits this from loops that live for one call only."""
        return await asyncio.to_thread(self.call, messages, *args, **options)

    # Marks both as already wrapped: BaseLLM would put a retry with blocking sleeps around them. Private; a test pins the name.
    call._crewai_rate_limit_wrapped = True  # type: ignore[attr-defined]
    acall._crewai_rate_limit_wrapped = True  # type: ignore[attr-defined]

    def _said(self, response: ChatResponse, functions: dict[str, Any] | None, response_model: type[BaseModel] | None) -> Any:
        usage = response.usage
        counts = {"prompt_tokens": usage.input_tokens or 0, "completion_tokens": usage.output_tokens or 0}
        self._track_token_usage_internal({**counts, "total_tokens": sum(counts.values())})
        if response.tool_calls:
            return [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in response.tool_calls
            ]
        return self._validate_structured_output(response.text, response_model) if response_model else self._apply_stop_words(response.text)

    def supports_function_calling(self) -> bool:
        """Tools are offered as schemas."""
        return True

    def supports_stop_words(self) -> bool:
        """Not on the wire; CrewAI's own are cut here."""
        return False

    def get_context_window_size(self) -> int:
        """Out of reach: with CrewAI's default of 4096 it would ask the model to summarise."""
        return 1 << 40


def _plain(messages: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    return [{key: message[key] for key in _KEPT if message.get(key) is not None} for message in messages]
