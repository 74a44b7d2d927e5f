"""The model seam of CrewAI: a `BaseLLM` that hands messages to a Conversation and takes its answer back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

# isort: off
import unified_agents_crewai.quiet  # noqa: F401  # before anything of the framework

# isort: on
from crewai import BaseLLM
from crewai.hooks.dispatch import HookAborted
from pydantic import BaseModel, PrivateAttr

from unified_agents.adapter import Conversation, ConversationStopped
from unified_agents_crewai.tools import native_calls

# CrewAI expands or deletes these words in braces wherever they stand, in other tasks' outputs too. A word joiner after the brace hides
# them from it; it is taken out again before the request leaves.
_WORDS = "tools|tool_names|input|role|goal|backstory"
_JOINER = "\u2060"


def guard(text: str) -> str:
    """`text` with CrewAI's own placeholders made unrecognisable to it."""
    return re.sub(rf"\{{(?=(?:{_WORDS})\}})", "{" + _JOINER, text)


def unguard(text: str) -> str:
    """`text` as it was before `guard`."""
    return re.sub(rf"\{{{_JOINER}(?=(?:{_WORDS})\}})", "{", text)


class Text(BaseModel):
    """An answer that CrewAI takes as finished: plain text would be parsed for "Final Answer:" and "Action:" and cut there."""

    text: str

    def model_dump_json(self, **_options: Any) -> str:
        """The text itself; CrewAI makes a task's raw output of this."""
        return self.text

    def __str__(self) -> str:
        return self.text


class Stopped(HookAborted):
    """What CrewAI meets in place of an error of ours: it neither retries nor rewords this one."""

    def __init__(self) -> None:
        super().__init__("stopped")


class ConversationLLM(BaseLLM):
    """The LLM of one task: every call goes to the conversation that was opened for it."""

    _conversation: Conversation | None = PrivateAttr(default=None)
    _waiting: Any = PrivateAttr(default=None)

    def bind(self, conversation: Conversation) -> None:
        """Answer from `conversation` from now on."""
        self._conversation = conversation

    def when_waiting(self, work: Callable[[], None]) -> None:
        """Do some work, which must return at once, whenever the model is about to be waited for."""
        self._waiting = work

    def call(self, messages: str | list[dict[str, Any]], *_args: Any, **_options: Any) -> Text | list[dict[str, Any]]:
        """The conversation's answer, or the tool calls that CrewAI should run; waits for it on CrewAI's thread."""
        answer = self._answer(messages)
        if answer is None:
            raise Stopped
        return answer

    def _answer(self, messages: str | list[dict[str, Any]]) -> Text | list[dict[str, Any]] | None:
        """None stands for a failure: CrewAI reads meaning into causes and contexts, so nothing may be raised inside an `except`."""
        if self._conversation is None:
            return None
        if self._waiting is not None:
            self._waiting()
        try:
            response = self._conversation.chat_blocking(worded(self._conversation, plain(messages)))
        except ConversationStopped:
            return None
        return native_calls(self._conversation, response.tool_calls) if response.tool_calls else Text(text=response.text)

    async def acall(self, messages: str | list[dict[str, Any]], *args: Any, **options: Any) -> Text | list[dict[str, Any]]:
        """As `call`, in a thread: CrewAI awaits this from loops that live for one call only."""
        return await asyncio.to_thread(self.call, messages, *args, **options)

    # Marks both as already wrapped: BaseLLM would put a retry with blocking sleeps around them. Private; a test pins the name.
    call._crewai_rate_limit_wrapped = True  # type: ignore[attr-defined]
    acall._crewai_rate_limit_wrapped = True  # type: ignore[attr-defined]

    def supports_function_calling(self) -> bool:
        """Tools are offered as schemas, never as text to be parsed."""
        return True

    def supports_stop_words(self) -> bool:
        """No stop words: they cut answers."""
        return False

    def get_context_window_size(self) -> int:
        """Out of reach: the token window is ours."""
        return 1 << 40

    def get_input_tokens_count(self, *_args: Any, **_options: Any) -> int:
        """Nothing: CrewAI's own compaction never begins."""
        return 0


def plain(messages: str | list[dict[str, Any]]) -> list[dict[str, str]]:
    """CrewAI's messages as they go on the wire: role and text, its cache marks and guards taken out."""
    if isinstance(messages, str):
        return [{"role": "user", "content": unguard(messages)}]
    return [{"role": message["role"], "content": unguard(message.get("content") or "").strip()} for message in messages]


def worded(conversation: Conversation, messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """CrewAI words an agent by its role and goal; where the spec lacks one of them, our words stand in for the whole system message."""
    agent = conversation.agent
    if (agent.role and agent.goal) or not messages or messages[0]["role"] != "system":
        return messages
    return [{"role": "system", "content": conversation.system_text}, *messages[1:]]
