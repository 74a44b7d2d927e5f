"""Tools of other frameworks, taken as they are. They are known by what they offer, so that no framework is imported for it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from unified_agents.engine import in_thread
from unified_agents.tools import Run, Tool, ToolDefinitionError


def is_foreign(value: Any) -> bool:
    """Whether a value is a tool object of another framework."""
    return not inspect.isroutine(value) and isinstance(getattr(value, "name", None), str) and bool(_kind(value))


def foreign_tool(value: Any, name: str | None = None, description: str | None = None, **options: Any) -> Tool:
    """A tool that runs another framework's.

    Raises:
        ToolDefinitionError: it is of no kind that is known.
    """
    kind = _kind(value)
    if kind is None:
        raise ToolDefinitionError(f"{type(value).__name__} is neither a function nor a tool of CrewAI, AutoGen or LangChain")
    said = description or str(getattr(value, "description", "") or value.name)
    return Tool(name=name or value.name, description=said, parameters=_parameters(value, kind), run=_RUNS[kind](value), **options)


def _kind(value: Any) -> str | None:
    if hasattr(value, "run_json") and hasattr(value, "schema"):
        return "autogen"
    if hasattr(value, "ainvoke") and hasattr(value, "invoke") and hasattr(value, "description"):
        return "langchain"
    if hasattr(value, "_run") and hasattr(value, "run") and hasattr(value, "args_schema"):
        return "crewai"
    return None


def _parameters(value: Any, kind: str) -> dict[str, Any]:
    if kind == "autogen":
        return dict(value.schema.get("parameters") or {"type": "object", "properties": {}})
    schema = getattr(value, "tool_call_schema", None) if kind == "langchain" else value.args_schema
    schema = schema or value.args_schema
    made = schema.model_json_schema() if isinstance(schema, type) and issubclass(schema, BaseModel) else dict(schema)
    return {key: item for key, item in made.items() if key not in ("title", "description")}


def _autogen(tool: Any) -> Run:
    async def run(arguments: Mapping[str, Any]) -> Any:
        token = sys.modules["autogen_core"].CancellationToken()  # loaded, since the tool is an instance of it
        return tool.return_value_as_string(await tool.run_json(dict(arguments), token))

    return run


def _langchain(tool: Any) -> Run:
    async def run(arguments: Mapping[str, Any]) -> Any:
        return await tool.ainvoke(dict(arguments))

    return run


def _crewai(tool: Any) -> Run:
    async def run(arguments: Mapping[str, Any]) -> Any:
        result = await in_thread(lambda: tool.run(**arguments), f"unified-agents-tool-{tool.name}")
        return await result if inspect.isawaitable(result) else result

    return run


_RUNS = {"autogen": _autogen, "langchain": _langchain, "crewai": _crewai}
