"""Tools on CrewAI: native ones that only forward to the conversation, which checks, runs, bounds and records every call."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

# isort: off
import unified_agents_crewai.quiet  # noqa: F401  # before anything of the framework

# isort: on
from crewai.tools import BaseTool
from pydantic import BaseModel, PrivateAttr

from unified_agents.adapter import Conversation, Tool


class CallId(BaseModel):
    """What a native tool is called with: the id of the model's call, whose arguments the conversation keeps."""

    call_id: str


class ForwardTool(BaseTool):
    """A native tool of one task's agent."""

    args_schema: type[BaseModel] = CallId
    _conversation: Conversation | None = PrivateAttr(default=None)

    def bind(self, conversation: Conversation) -> None:
        """Forward to `conversation` from now on."""
        self._conversation = conversation

    def _run(self, call_id: str) -> str:
        assert self._conversation is not None
        return self._conversation.call_tool_blocking(call_id)


def native_tools(tools: Sequence[Tool]) -> list[ForwardTool]:
    """A native tool for each; CrewAI rewrites names, so they get ones that it leaves alone."""
    return [ForwardTool(name=native_name(index, tool.name), description=tool.description) for index, tool in enumerate(tools)]


def native_name(index: int, name: str) -> str:
    """A unique name of lower-case letters, digits and single underscores."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return f"{plain or 'tool'}_{index + 1}"


def native_calls(conversation: Conversation, calls: Sequence[Any]) -> list[dict[str, Any]]:
    """The model's calls as CrewAI takes them: the native tool's name, and the call's id as its argument."""
    names = {tool.name: native_name(index, tool.name) for index, tool in enumerate(conversation.tools)}
    return [
        {"id": call.id, "type": "function", "function": {"name": names[call.name], "arguments": CallId(call_id=call.id).model_dump_json()}}
        for call in calls
    ]
