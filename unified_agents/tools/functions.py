"""A typed Python function as a tool: schema from its annotations, descriptions from its docstring."""

from __future__ import annotations

import functools
import inspect
import types
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Optional, get_type_hints

from docstring_parser import parse
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, PydanticJsonSchemaWarning

from unified_agents.engine import in_thread
from unified_agents.tools import Run, Tool, ToolDefinitionError

_GOOD_TYPES = "str, int, float, bool, list[…], dict[str, …], Literal, Enum, a dataclass or a pydantic model"


def function_tool(function: Callable[..., Any], name: str | None = None, description: str | None = None, **options: Any) -> Tool:
    """A tool that calls `function`, sync (on a thread of its own) or async. What a functools.partial binds is not offered.

    Raises:
        ToolDefinitionError: a parameter without annotation, of a kind that cannot be named, or of a type without a JSON Schema.
    """
    plain = _unwrapped(function)
    name = str(name or getattr(plain, "__name__", type(plain).__name__))
    said, described = _documented(plain)
    model = _arguments(function, name, described)
    return Tool(
        name=name, description=description or said or name, parameters=_schema(model), run=_caller(function, model, name), **options
    )


def _unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _documented(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """What a docstring says of the function and of its parameters; a text in no known style says it of the function."""
    routine = inspect.isroutine(function)
    text = inspect.getdoc(function) or ("" if routine else inspect.getdoc(type(function).__call__) or "")
    try:
        doc = parse(text)
    except Exception:  # noqa: BLE001  # the parser is strict about sections that only look like its own
        return text, {}
    said = "\n".join(part for part in (doc.short_description, doc.long_description) if part)
    return said, {param.arg_name: param.description for param in doc.params if param.description}


@dataclass(frozen=True)
class _Parameter:
    """A parameter as a field of the pydantic model. The field has a name of its own, so that any parameter name will do."""

    name: str
    hint: Any
    default: Any
    description: str | None

    @property
    def field(self) -> tuple[Any, Any]:
        if isinstance(self.default, FieldInfo):
            said = self.default.description or self.description
            return self.hint, FieldInfo.merge_field_infos(self.default, Field(alias=self.name, description=said))
        own = FieldInfo.from_annotation(self.hint).description
        hint = Optional[self.hint] if self.default is None else self.hint  # noqa: UP045  # `|` takes no forward reference
        required = self.default is inspect.Parameter.empty
        return hint, Field(... if required else self.default, alias=self.name, description=own or self.description)


def _arguments(function: Callable[..., Any], name: str, described: Mapping[str, str]) -> type[BaseModel]:
    """A pydantic model of the parameters, by alias."""
    found = _parameters(function, name)
    hints = _hints(_unwrapped(function), found, name)
    made = [_Parameter(p.name, hints[p.name], p.default, described.get(p.name)) for p in found]
    for parameter in made:
        _check_type(parameter, name)
    return _model(name, made)


def _parameters(function: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    bound: dict[str, Any] = {}
    inner = function
    while isinstance(inner, functools.partial):
        bound.update(inner.keywords)
        inner = inner.func
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError) as error:
        raise ToolDefinitionError(f"the parameters of {name} cannot be read ({error}): wrap it in a function with annotations") from None
    found = [parameter for parameter in signature.parameters.values() if parameter.name not in bound]
    for parameter in found:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ToolDefinitionError(
                f"parameter '{parameter}' of {name} stands for any number of arguments, and a model needs their names: write them one by one"
            )
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ToolDefinitionError(f"parameter {parameter.name!r} of {name} cannot be given by name: take the `/` out")
        if parameter.annotation is parameter.empty:
            raise ToolDefinitionError(
                f"parameter {parameter.name!r} of {name} has no annotation: write {parameter.name}: str (or its type)"
            )
    return found


def _hints(function: Callable[..., Any], parameters: list[inspect.Parameter], name: str) -> dict[str, Any]:
    """The types of the parameters alone: what a function returns may stay a name that only a type checker knows."""
    target: Any = function if inspect.isroutine(function) else type(function).__call__
    scope = getattr(inspect.unwrap(target), "__globals__", {})
    hints: dict[str, Any] = {}
    for parameter in parameters:
        holder = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
        try:
            hints.update(get_type_hints(holder, globalns=scope, include_extras=True))
        except Exception as error:  # noqa: BLE001  # evaluating annotations runs a user's code
            raise ToolDefinitionError(
                f"the annotation {parameter.annotation!r} of parameter {parameter.name!r} of {name} cannot be read ({error}): "
                "write a type that its module defines or imports, not only under TYPE_CHECKING"
            ) from None
    return hints


def _model(name: str, parameters: list[_Parameter]) -> type[BaseModel]:
    fields: dict[str, Any] = {f"p{index}": parameter.field for index, parameter in enumerate(parameters)}
    return create_model(f"{name}_arguments", __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=False), **fields)


def _check_type(parameter: _Parameter, name: str) -> None:
    """A type that no JSON can hold is known by pydantic when it builds the model, or only when it writes the schema."""
    try:
        _schema(_model(name, [parameter]))
    except (PydanticUserError, NameError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ToolDefinitionError(
            f"parameter {parameter.name!r} of {name} has a type that no JSON can hold ({reason}): write {_GOOD_TYPES}"
        ) from None


class _Untitled(GenerateJsonSchema):
    """Without the titles that pydantic makes of parameter names: they cost tokens and say nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  # pydantic's signature
        return False


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PydanticJsonSchemaWarning)  # a default that no JSON can hold is left out, which is right
        schema = model.model_json_schema(schema_generator=_Untitled)
    return {key: value for key, value in schema.items() if key != "title"}


def _caller(function: Callable[..., Any], model: type[BaseModel], name: str) -> Run:
    async def run(arguments: Mapping[str, Any]) -> Any:
        made = model.model_validate(dict(arguments))
        values = {
            str(field.alias): getattr(made, key)
            for key, field in type(made).model_fields.items()
            if key in made.model_fields_set or field.alias in forced
        }
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
            return await settled(function(**values))
        return await settled(await blocking(lambda: function(**values), name))

    forced = {key for key, parameter in inspect.signature(function).parameters.items() if isinstance(parameter.default, FieldInfo)}
    return run


async def blocking(call: Callable[[], Any], name: str) -> Any:
    """The result of a blocking call of a tool, from a thread of its own.

    Raises:
        RuntimeError: the tool raised something that would end the event loop, or that a future cannot hold: SystemExit, StopIteration.
    """

    def work() -> Any:
        try:
            return call()
        except (SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration) as error:
            raise _tamed(error) from error

    return await in_thread(work, f"unified-agents-tool-{name}")


async def settled(result: Any) -> Any:
    """A result, awaited when it is an awaitable.

    Raises:
        RuntimeError: as in `blocking`.
    """
    try:
        return await result if inspect.isawaitable(result) else result
    except (SystemExit, KeyboardInterrupt) as error:  # GeneratorExit is how a coroutine is closed
        raise _tamed(error) from error


def _tamed(error: BaseException) -> RuntimeError:
    return RuntimeError(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
