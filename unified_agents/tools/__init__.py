"""Tools: what an agent may call, whatever it was made of.

`functions.py` makes one of a typed Python function, `foreign.py` takes those of CrewAI, AutoGen and LangChain as they are, `mcp.py` those of
an MCP server; `loading.py` finds the ones that a team names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from unified_agents.errors import RunError

Run = Callable[[Mapping[str, Any]], Awaitable[Any]]

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class ToolDefinitionError(Exception):
    """Something that was given as a tool is none; the message says why and what to write."""


class ToolUnavailableError(Exception):
    """A tool is gone for good (its server died): the task fails with this, instead of the model being told."""


class ToolRefused(Exception):  # noqa: N818  # an answer to the model, counted as its error
    """A call that may not be; the model is told why, in these words."""


class TaskStopped(Exception):  # noqa: N818  # carries the error, is none itself
    """A tool's way to say that the task cannot go on: it fails with `error`."""

    def __init__(self, error: RunError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class Tool:
    """One tool. `parameters` is the JSON Schema of its arguments, `run` takes them checked; `timeout` is in seconds.

    `recorded`: a resumed run takes the recorded result of a call. False for tools whose work is recorded itself, a coworker's calls.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    run: Run = field(repr=False)
    timeout: float | None = None
    requires_confirmation: bool = False
    side_effects: bool = False
    recorded: bool = True

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ToolDefinitionError(f"the name {self.name!r} is not one that models take: 1 to 64 of A-Z a-z 0-9 _ -")

    @property
    def schema(self) -> dict[str, Any]:
        """The tool as it is offered on the wire."""
        return {"type": "function", "function": {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}}


def as_text(value: Any) -> str:
    """A tool's result as the model reads it: text as it stands, everything else as JSON, what has no JSON as `str` shows it."""
    if isinstance(value, str):
        return str.__str__(value)  # an Enum of str shows its value
    if value is None:
        return "(no result)"
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "replace")
    try:
        if isinstance(value, BaseModel):
            return value.model_dump_json()
        plain = to_jsonable_python(value, bytes_mode="base64", fallback=str)
    except (ValueError, TypeError, RecursionError):  # a circle, a key of no JSON type
        return str(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
