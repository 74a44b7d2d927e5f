"""Tools on classic AutoGen: native functions that only forward to the conversation, which checks, runs, bounds and records every call."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from unified_agents.adapter import Conversation, Tool
from unified_agents.engine import engine


def native_functions(tools: Sequence[Tool], conversation: Callable[[], Conversation | None]) -> dict[str, Callable[[str], str]]:
    """What a speaker executes, by names that AutoGen leaves as they are; each takes the id of the model's call."""

    def forward(call_id: str) -> str:
        current = conversation()
        assert current is not None
        return current.call_tool_blocking(call_id)

    return {native_name(index): forward for index in range(len(tools))}


def native_name(index: int) -> str:
    """The name of a native function; AutoGen cuts and rewrites others."""
    return f"tool_{index + 1}"


def native_calls(conversation: Conversation, calls: Sequence[Any]) -> dict[str, Any]:
    """The model's calls as a message of AutoGen. They are begun here, all at once: AutoGen waits for one after the other."""
    names = {tool.name: native_name(index) for index, tool in enumerate(conversation.tools)}
    for call in calls:
        engine().submit(conversation.call_tool(call.id))
    asked = [
        {"id": call.id, "type": "function", "function": {"name": names[call.name], "arguments": json.dumps({"call_id": call.id})}}
        for call in calls
    ]
    return {"role": "assistant", "content": "", "tool_calls": asked}
