"""Tools on AutoGen: native ones that only forward to the conversation, which checks, runs, bounds and records every call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# isort: off
import unified_agents_autogen.quiet  # noqa: F401  # before anything of the framework

# isort: on
from autogen_core import CancellationToken, FunctionCall
from autogen_core.tools import BaseTool, ParametersSchema, ToolSchema
from pydantic import BaseModel

from unified_agents.adapter import Conversation, Tool
from unified_agents_autogen.quiet import untraced


class Arguments(BaseModel):
    """Stands for any arguments: the conversation keeps the model's own, by the id of the call."""


class ForwardTool(BaseTool[Arguments, str]):
    """A native tool of one task's agent, with the schema of the tool it stands for."""

    def __init__(self, tool: Tool) -> None:
        super().__init__(args_type=Arguments, return_type=str, name=tool.name, description=tool.description)
        self._tool = tool
        self._conversation: Conversation | None = None

    def bind(self, conversation: Conversation) -> None:
        """Forward to `conversation` from now on."""
        self._conversation = conversation

    @property
    def schema(self) -> ToolSchema:
        """What the model would be offered; on the wire it is the conversation's own."""
        parameters = self._tool.parameters
        shown = ParametersSchema(
            type="object", properties=dict(parameters.get("properties", {})), required=list(parameters.get("required", ()))
        )
        return ToolSchema(name=self._tool.name, description=self._tool.description, parameters=shown)

    async def run_json(self, args: Mapping[str, Any], cancellation_token: CancellationToken, call_id: str | None = None) -> str:
        """The result, as the conversation gives it; never raises, since an error here would hang the chat."""
        assert self._conversation is not None
        with untraced(ours=False):
            return await self._conversation.call_tool(call_id or "")

    async def run(self, args: Arguments, cancellation_token: CancellationToken) -> str:
        """Not called: `run_json` stands in its place."""
        raise NotImplementedError


def native_calls(calls: Sequence[Any]) -> list[FunctionCall]:
    """The model's calls as AutoGen takes them."""
    return [FunctionCall(id=call.id, name=call.name, arguments=call.arguments) for call in calls]
