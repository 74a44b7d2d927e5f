"""Tools of other frameworks, taken as they are. They are known by what they offer, so that no framework is imported for it."""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from unified_agents.tools import Run, Tool, ToolDefinitionError
from unified_agents.tools.functions import blocking, settled


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
    parameters, run = _parameters(value, kind), _RUNS[kind](value)
    return Tool(name=name or wire_name(value.name), description=said, parameters=parameters, run=run, **options)


def wire_name(name: str) -> str:
    """A name that models take, of one that is meant for people ("Read a website's content") or has dots."""
    if re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
        return name
    return re.sub(r"[^a-zA-Z0-9]+", "_", name).strip("_").lower()[:64].rstrip("_") or "tool"


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
    if kind == "langchain" and value.args_schema is None:  # its single-input Tool: the schema it would give is that of its run method
        return {"type": "object", "properties": dict(value.args), "required": list(value.args)}
    schema = getattr(value, "tool_call_schema", None) if kind == "langchain" else None
    schema = schema or value.args_schema
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        made = schema.model_json_schema()
    elif isinstance(schema, Mapping):
        made = dict(schema)
    elif callable(old := getattr(schema, "schema", None)):
        made = old()  # a model of pydantic 1
    else:
        raise ToolDefinitionError(f"the arguments of {value.name!r} have no JSON Schema: its args_schema is {schema!r}")
    return {key: item for key, item in made.items() if key not in ("title", "description")}


def _autogen(tool: Any) -> Run:
    async def run(arguments: Mapping[str, Any]) -> Any:
        token = sys.modules["autogen_core"].CancellationToken()  # loaded, since the tool is an instance of it
        try:
            return tool.return_value_as_string(await settled(tool.run_json(dict(arguments), token)))
        except asyncio.CancelledError:
            token.cancel()
            raise

    return run


def _langchain(tool: Any) -> Run:
    async def run(arguments: Mapping[str, Any]) -> Any:
        return await settled(tool.ainvoke(dict(arguments)))

    return run


def _crewai(tool: Any) -> Run:
    shown = getattr(tool, "format_output_for_agent", None)

    async def run(arguments: Mapping[str, Any]) -> Any:
        result = await settled(await blocking(lambda: tool.run(**arguments), tool.name))
        if hasattr(result, "as_agent_message"):  # CrewAI's ToolFailure: what a tool returns in place of an error
            raise RuntimeError(result.as_agent_message())
        return shown(result) if shown is not None and getattr(tool, "result_schema", None) is not None else result

    return run


_RUNS = {"autogen": _autogen, "langchain": _langchain, "crewai": _crewai}
