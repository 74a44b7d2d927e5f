"""A typed Python function as a tool: schema from its annotations, descriptions from its docstring."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from docstring_parser import parse
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema

from unified_agents.engine import in_thread
from unified_agents.tools import Run, Tool, ToolDefinitionError


def function_tool(function: Callable[..., Any], name: str | None = None, description: str | None = None, **options: Any) -> Tool:
    """A tool that calls `function`, sync (on a thread of its own) or async.

    Raises:
        ToolDefinitionError: a parameter without annotation, of a kind that cannot be named, or of a type without a JSON Schema.
    """
    name = str(name or getattr(function, "__name__", type(function).__name__))
    doc = parse(inspect.getdoc(function) or "")
    model = _arguments(function, name, {param.arg_name: param.description or "" for param in doc.params})
    said = description or "\n".join(part for part in (doc.short_description, doc.long_description) if part) or name
    return Tool(name=name, description=str(said), parameters=_schema(model, name), run=_caller(function, model, name), **options)


def _arguments(function: Callable[..., Any], name: str, described: Mapping[str, str]) -> type[BaseModel]:
    """A pydantic model of the parameters."""
    hints = _hints(function, name)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ToolDefinitionError(f"parameter {parameter.name!r} of {name} cannot be given by name: a tool takes named parameters only")
        if parameter.name not in hints:
            raise ToolDefinitionError(
                f"parameter {parameter.name!r} of {name} has no annotation: write {parameter.name}: str (or its type)"
            )
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], Field(default, description=described.get(parameter.name) or None))
    try:
        return create_model(f"{name}_arguments", __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=False), **fields)
    except (PydanticSchemaGenerationError, PydanticUserError, NameError) as error:
        raise ToolDefinitionError(f"a parameter of {name} has a type that no JSON can hold: {str(error).splitlines()[0]}") from None


def _hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    target = function if inspect.isroutine(function) else type(function).__call__
    try:
        return get_type_hints(target, include_extras=True)
    except Exception as error:  # noqa: BLE001  # evaluating annotations runs a user's code
        raise ToolDefinitionError(f"the annotations of {name} cannot be read: {error}") from None


class _Untitled(GenerateJsonSchema):
    """Without the titles that pydantic makes of parameter names: they cost tokens and say nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  # pydantic's signature
        return False


def _schema(model: type[BaseModel], name: str) -> dict[str, Any]:
    try:
        schema = model.model_json_schema(schema_generator=_Untitled)
    except PydanticUserError as error:
        raise ToolDefinitionError(f"a parameter of {name} has a type that no JSON can hold: {str(error).splitlines()[0]}") from None
    return {key: value for key, value in schema.items() if key != "title"}


def _caller(function: Callable[..., Any], model: type[BaseModel], name: str) -> Run:
    async def run(arguments: Mapping[str, Any]) -> Any:
        made = model.model_validate(dict(arguments))
        values = {key: getattr(made, key) for key in type(made).model_fields if key in arguments}
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
            return await function(**values)
        result = await in_thread(lambda: function(**values), f"unified-agents-tool-{name}")
        return await result if inspect.isawaitable(result) else result

    return run
