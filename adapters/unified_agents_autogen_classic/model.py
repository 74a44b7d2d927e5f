"""The model seam of classic AutoGen: a `ModelClient` that hands messages to a Conversation and takes its answer back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

# isort: off
import unified_agents_autogen_classic.quiet  # noqa: F401  # before anything of the framework

# isort: on
from autogen import ModelClient

from unified_agents.adapter import Conversation, ConversationStopped
from unified_agents_autogen_classic.tools import native_calls

# In place of an error: an exception would end the whole chat. The manager reads the conversation, not this.
STOPPED = "The task failed."


class ConversationClient(ModelClient):
    """The model client of one speaker: every call goes to the conversation that is open for it.

    AutoGen makes it from this class, by its name in `llm_config`, so `conversation` is looked up at each call.
    """

    def __init__(self, _config: Mapping[str, Any], *, conversation: Callable[[], Conversation | None]) -> None:
        self._conversation = conversation

    def create(self, params: Mapping[str, Any]) -> Any:
        """The conversation's answer as a chat completion; never raises for a failed call."""
        conversation = self._conversation()
        assert conversation is not None
        try:
            response = conversation.chat_blocking(plain(params["messages"]))
            said = native_calls(conversation, response.tool_calls) if response.tool_calls else response.text
        except ConversationStopped:
            said = STOPPED
        return SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(content=said))], message_retrieval_function=None)

    def message_retrieval(self, response: Any) -> list[Any]:
        """The answers in a completion."""
        return [choice.message.content for choice in response.choices]

    def cost(self, response: Any) -> float:
        """Not counted here: usage is in the run's result."""
        return 0.0

    @staticmethod
    def get_usage(_response: Any) -> dict[str, Any]:
        """As `cost`."""
        return {}


def plain(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """AutoGen's messages as they go on the wire: role and text, without speakers' names and without an empty system message.

    Those of tools come after the opening, which is all that the conversation takes from here.
    """
    return [
        {"role": message["role"], "content": message["content"]}
        for message in messages
        if message["content"] or message["role"] != "system"
    ]
