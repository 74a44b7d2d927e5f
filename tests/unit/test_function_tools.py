"""Typed Python functions as tools: what of them reaches the wire, how they are called, and what is refused with which words."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import functools
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import pytest
from pydantic import BaseModel, Field

from unified_agents.engine import engine
from unified_agents.tools import Tool, ToolDefinitionError, as_text
from unified_agents.tools.desk import schema_fault
from unified_agents.tools.functions import function_tool

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]


def run(tool: Tool, **arguments: Any) -> Any:
    """The tool's result, on the engine as in a run; the arguments pass the schema, as the desk sees to."""
    assert schema_fault(arguments, tool.parameters) is None
    return engine().run(_bounded(tool, arguments))


async def _bounded(tool: Tool, arguments: dict[str, Any]) -> Any:
    return await asyncio.wait_for(_awaited(tool.run(arguments)), 10)


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work


def properties(tool: Tool) -> dict[str, Any]:
    """The properties of the arguments."""
    found: dict[str, Any] = tool.parameters["properties"]
    return found


def refusal(function: Callable[..., Any], **options: Any) -> str:
    """Why a function is no tool."""
    with pytest.raises(ToolDefinitionError) as caught:
        function_tool(function, **options)
    return str(caught.value)


class Colour(enum.Enum):
    """A colour."""

    RED = "red"
    BLUE = "blue"


class Place(BaseModel):
    """A place."""

    city: str
    zip: int = Field(description="Post code")


class Route(BaseModel):
    """A route of places."""

    stops: list[Place]
    colour: Colour = Colour.RED


@dataclasses.dataclass
class Point:
    """A point."""

    x: int
    y: int = 0


def add(a: int, b: int = 2) -> int:
    """Add two numbers.

    Args:
        a: The first.
        b: The second.
    """
    return a + b


async def add_later(a: int, b: int = 2) -> int:
    """Add two numbers."""
    await asyncio.sleep(0)
    return a + b


@pytest.mark.parametrize("function", [add, add_later])
def test_a_function_sync_or_async(function: Callable[..., Any]) -> None:
    """Name, first words and types of the function; defaults stay the function's when an argument is left out."""
    tool = function_tool(function)
    assert (tool.name, tool.description) == (function.__name__, "Add two numbers.")
    assert {key: value for key, value in tool.parameters.items() if key != "properties"} == {
        "type": "object", "required": ["a"], "additionalProperties": False,
    }  # fmt: skip
    assert [properties(tool)[name]["type"] for name in ("a", "b")] == ["integer", "integer"]
    assert properties(tool)["b"]["default"] == 2
    assert (run(tool, a=1), run(tool, a=1, b=5)) == (3, 6)


class Notes:
    """A shelf of notes."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes

    def find(self, q: str) -> list[str]:
        """Find notes."""
        return [note for note in self.notes if q in note]

    async def count(self) -> int:
        """Count the notes."""
        return len(self.notes)

    @classmethod
    def kind(cls, upper: bool = False) -> str:
        """What kind."""
        return cls.__name__.upper() if upper else cls.__name__

    @staticmethod
    def double(n: int) -> int:
        """Twice."""
        return 2 * n

    def __call__(self, n: int) -> str:
        """Read one note."""
        return self.notes[n]


class Silent:  # noqa: D101  # the point of it
    async def __call__(self, n: int) -> int:
        """Count down."""
        return n - 1


def test_methods_and_callable_objects() -> None:
    """Bound methods, class and static methods work without self; an object is called as its class, with either's docstring."""
    shelf = Notes(["tide table", "to do"])
    assert run(function_tool(shelf.find), q="tide") == ["tide table"]
    assert list(properties(function_tool(shelf.find))) == ["q"]
    assert run(function_tool(shelf.count)) == 2
    assert run(function_tool(Notes.kind), upper=True) == "NOTES"
    assert run(function_tool(Notes.double), n=4) == 8
    tool = function_tool(shelf)
    assert (tool.name, tool.description, run(tool, n=1)) == ("Notes", "A shelf of notes.", "to do")
    tool = function_tool(Silent())
    assert (tool.name, tool.description, run(tool, n=1)) == ("Silent", "Count down.", 0)


@pytest.mark.parametrize("function", [add, add_later])
def test_a_partial_offers_only_what_is_not_bound(function: Callable[..., Any]) -> None:
    """Name and docstring are the function's; bound values, positional or named, neither reach the wire nor can be changed from there."""
    named = function_tool(functools.partial(function, b=40))
    assert (named.name, named.description) == (function.__name__, "Add two numbers.")
    assert (list(properties(named)), run(named, a=2)) == (["a"], 42)
    assert "40" not in str(named.schema)
    assert schema_fault({"a": 2, "b": 3}, named.parameters)
    positional = function_tool(functools.partial(functools.partial(function, 1), b=4))
    assert (properties(positional), run(positional)) == ({}, 5)


def test_a_bound_parameter_needs_no_annotation() -> None:
    """A client bound by partial is not the model's business, whatever its type."""

    def ask(client, q: str) -> str:  # type: ignore[no-untyped-def]
        return f"{client}{q}"

    assert run(function_tool(functools.partial(ask, object)), q="!").endswith("!")
    assert run(function_tool(functools.partial(ask, client="c")), q="!") == "c!"
    assert "'client' of ask has no annotation: write client: str" in refusal(ask)


def test_a_decorated_function_is_the_one_inside() -> None:
    """functools.wraps keeps the signature; a lru_cache is called like the function."""

    @functools.wraps(add)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return -add(*args, **kwargs)

    assert list(properties(function_tool(wrapped))) == ["a", "b"]
    assert run(function_tool(wrapped), a=1) == -3
    assert run(function_tool(functools.lru_cache(add)), a=1) == 3


TYPES: list[tuple[Any, dict[str, Any], Any, Any]] = [
    (str, {"type": "string"}, "x", "x"),
    (bool, {"type": "boolean"}, True, True),
    (float, {"type": "number"}, 1, 1.0),
    (int, {"type": "integer"}, 3.0, 3),
    (Any, {}, [1, "a"], [1, "a"]),
    (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}, None, None),  # noqa: UP045  # the older way to write it
    (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}, "a", "a"),
    (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}, "b", "b"),
    (list[int], {"type": "array", "items": {"type": "integer"}}, [1], [1]),
    (list, {"type": "array", "items": {}}, [1, "a"], [1, "a"]),
    (set[str], {"type": "array", "items": {"type": "string"}, "uniqueItems": True}, ["a"], {"a"}),
    (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}, {"a": 1}, {"a": 1}),
    (dict, {"type": "object", "additionalProperties": True}, {"a": [1]}, {"a": [1]}),
    (date, {"type": "string", "format": "date"}, "2026-01-02", date(2026, 1, 2)),
    (Path, {"type": "string", "format": "path"}, "a/b", Path("a/b")),
    (Annotated[int, Field(ge=1, description="At least 1")], {"type": "integer", "minimum": 1, "description": "At least 1"}, 1, 1),
]


@pytest.mark.parametrize(("kind", "schema", "given", "arrives"), TYPES, ids=[str(row[0]) for row in TYPES])
def test_a_type_on_the_wire_and_in_the_function(kind: Any, schema: dict[str, Any], given: Any, arrives: Any) -> None:
    """Each type has the JSON Schema one would write, without titles, and its values arrive as instances of it."""

    def echo(value):  # type: ignore[no-untyped-def]
        return [value]

    echo.__annotations__["value"] = kind
    tool = function_tool(echo)
    assert properties(tool)["value"] == schema
    assert run(tool, value=given) == [arrives]
    assert type(run(tool, value=given)[0]) is type(arrives)


def draw(route: Route, at: Point, colours: list[Colour], extra: dict[str, Place] | None = None) -> Any:
    """Draw a route."""
    return route, at, colours, extra


def test_models_dataclasses_and_enums_arrive_as_instances() -> None:
    """Nested pydantic models, dataclasses and enums are offered with their definitions and given as what they are."""
    tool = function_tool(draw)
    assert set(tool.parameters["$defs"]) == {"Route", "Place", "Point", "Colour"}
    assert tool.parameters["$defs"]["Place"]["properties"]["zip"] == {"type": "integer", "description": "Post code"}
    assert tool.parameters["$defs"]["Colour"]["enum"] == ["red", "blue"]
    oslo = {"city": "Oslo", "zip": 150}
    route, at, colours, extra = run(tool, route={"stops": [oslo]}, at={"x": 1}, colours=["blue"], extra={"a": oslo})
    assert route == Route(stops=[Place(city="Oslo", zip=150)])
    assert (at, colours, extra) == (Point(1, 0), [Colour.BLUE], {"a": Place(city="Oslo", zip=150)})


def test_a_wrong_value_deep_inside_is_told_with_its_place() -> None:
    """What the schema cannot say, pydantic says: with the parameter's own name."""

    def when(value: datetime) -> str:
        return str(value)

    with pytest.raises(ValueError, match="value\n"):
        run(function_tool(when), value="not a time")


def test_an_optional_by_default_none_takes_null() -> None:
    """`q: str = None` is optional, as every reader takes it and older Pythons did; a model that says null is right."""

    def find(q: str = None, n: int | None = None) -> tuple[Any, Any]:  # type: ignore[assignment]  # noqa: RUF013  # the point of it
        return q, n

    tool = function_tool(find)
    assert run(tool, q=None, n=None) == (None, None)
    assert run(tool, q="x") == ("x", None)
    assert "required" not in tool.parameters


def test_defaults_that_no_json_holds_are_left_out_and_stay_the_functions() -> None:
    """A sentinel or mutable default is not sent, warns of nothing, and is the very object when the argument is left out."""
    missing, shared = object(), list[int]()

    def take(a: str = missing, b: list[int] = shared) -> bool:  # type: ignore[assignment]
        return a is missing and b is shared

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tool = function_tool(take)
    assert "default" not in properties(tool)["a"]
    assert run(tool) is True


def test_a_pydantic_field_as_a_default() -> None:
    """`n: int = Field(3, …)` describes the parameter as elsewhere, and the function gets the number, never the Field."""

    def find(q: str = Field(description="What"), n: int = Field(3, ge=1, description="How many")) -> tuple[str, int]:
        """Find.

        Args:
            q: Not this text.
            n: Nor this.
        """
        return q, n

    tool = function_tool(find)
    assert properties(tool)["n"] == {"type": "integer", "default": 3, "minimum": 1, "description": "How many"}
    assert tool.parameters["required"] == ["q"]
    assert run(tool, q="x") == ("x", 3)
    assert schema_fault({"q": "x", "n": 0}, tool.parameters)


NAMES = ["_private", "json", "schema", "copy", "model_config", "model_fields", "self_", "class_", "ctx"]


@pytest.mark.parametrize("name", NAMES)
def test_any_parameter_name_will_do(name: str) -> None:
    """Names that pydantic keeps for itself are a function's right; nothing is injected into a `ctx`."""
    scope: dict[str, Any] = {}
    exec(f"def f({name}: int) -> int: return {name}", scope)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tool = function_tool(scope["f"])
    assert list(properties(tool)) == [name]
    assert run(tool, **{name: 7}) == 7


GOOGLE = """Search the notes.

    Looks at titles first.

    Args:
        q (str): What to look for,
            over two lines.
        n: How many.

    Returns:
        The notes.
    """
NUMPY = """Search the notes.

    Looks at titles first.

    Parameters
    ----------
    q : str
        What to look for,
        over two lines.
    n : int, optional
        How many.

    Returns
    -------
    list
        The notes.
    """
REST = """Search the notes.

    Looks at titles first.

    :param q: What to look for,
        over two lines.
    :param n: How many.
    :returns: The notes.
    """


@pytest.mark.parametrize("text", [GOOGLE, NUMPY, REST], ids=["google", "numpy", "rest"])
def test_docstrings_of_all_styles(text: str) -> None:
    """The text before the sections describes the tool, the sections its parameters; what it returns is not said."""

    def search(q: str, n: int = 3) -> list[str]:
        return [q] * n

    search.__doc__ = text
    tool = function_tool(search)
    assert tool.description == "Search the notes.\nLooks at titles first."
    assert properties(tool)["q"]["description"].split() == ["What", "to", "look", "for,", "over", "two", "lines."]
    assert properties(tool)["n"]["description"] == "How many."


def test_no_docstring_and_descriptions_from_elsewhere() -> None:
    """Without a docstring the name describes the tool and no parameter is described; Annotated wins over the docstring."""

    def bare(q: str) -> str:
        return q

    assert function_tool(bare).description == "bare"
    assert "description" not in properties(function_tool(bare))["q"]
    assert function_tool(bare, "other", "Said").schema["function"]["name"] == "other"
    assert function_tool(bare, "other", "Said").description == "Said"

    def both(q: Annotated[str, Field(description="Own")]) -> str:
        """Both.

        Args:
            q: Docstring's.
        """
        return q

    assert properties(function_tool(both))["q"]["description"] == "Own"


@pytest.mark.parametrize("text", [":param: x", ":raises a b c d: e", "Args:\n", "{}", "Parameters\n---\n\n::"])
def test_a_docstring_that_only_looks_like_a_style_is_no_fault(text: str) -> None:
    """The parser's complaints never keep a function from being a tool."""

    def odd(q: str) -> str:
        return q

    odd.__doc__ = text
    assert run(function_tool(odd), q="x") == "x"


def test_what_a_function_returns_need_not_be_known_while_running() -> None:
    """A return annotation under TYPE_CHECKING is none of a tool's business; a parameter's is, and is named."""

    def fine(q: str) -> Unknown:
        return q

    def wrong(q: str, other: Unknown) -> str:
        return q

    assert run(function_tool(fine), q="x") == "x"
    said = refusal(wrong)
    for words in ("'Unknown'", "'other'", "wrong", "TYPE_CHECKING"):
        assert words in said
    assert "'q'" not in said


class Opaque:
    """A class that pydantic knows nothing of."""


def no_annotation(q, n: int = 1) -> str:  # type: ignore[no-untyped-def]
    """One without annotation."""
    return str(q)


def many(*args: str) -> str:
    """Any number."""
    return str(args)


def named(**kwargs: str) -> str:
    """Any number by name."""
    return str(kwargs)


def positional(q: str, /, n: int = 1) -> str:
    """One that has no name."""
    return q


def opaque(q: str, thing: Opaque) -> str:
    """A strange class."""
    return q


def callback(q: str, then: Callable[[str], str]) -> str:
    """A function."""
    return then(q)


def iterated(q: str, deep: dict[str, list[Opaque]]) -> str:
    """A strange class deep inside."""
    return q


REFUSED = [
    (no_annotation, ["'q'", "no_annotation", "has no annotation: write q: str"]),
    (many, ["*args", "of many", "write them one by one"]),
    (named, ["**kwargs", "of named", "write them one by one"]),
    (positional, ["'q'", "of positional", "take the `/` out"]),
    (opaque, ["'thing'", "of opaque", "no JSON can hold", "Opaque", "write str, int"]),
    (callback, ["'then'", "of callback", "no JSON can hold", "write str, int"]),
    (iterated, ["'deep'", "of iterated", "no JSON can hold", "write str, int"]),
    (lambda: None, ["'<lambda>'", "A-Z a-z 0-9 _ -"]),
    (dict.update, ["update"]),
]


@pytest.mark.parametrize(("function", "said"), REFUSED, ids=[said[0] for _, said in REFUSED])
def test_what_cannot_be_a_tool_is_told(function: Callable[..., Any], said: list[str]) -> None:
    """Function, parameter and what to write are in the message, and no other parameter is blamed."""
    message = refusal(function)
    for words in said:
        assert words in message
    assert "\n" not in message
    assert "'n'" not in message


def test_a_lambda_with_a_name_is_a_tool() -> None:
    """The negative control: only its name was wrong."""
    assert run(function_tool(lambda: 3, "three")) == 3


def test_a_returned_awaitable_is_awaited() -> None:
    """A plain function that gives a coroutine or a future back is as good as an async one."""

    def coroutine(n: int) -> Awaitable[int]:
        return add_later(n)

    assert run(function_tool(coroutine), n=1) == 3
    assert run(function_tool(functools.partial(add_later, b=1)), a=1) == 2


@pytest.mark.parametrize("kind", [StopIteration, SystemExit, KeyboardInterrupt, ValueError, StopAsyncIteration])
@pytest.mark.parametrize("later", [False, True])
def test_whatever_a_tool_raises_is_an_error_and_the_engine_lives(kind: type[BaseException], later: bool) -> None:
    """An exception that asyncio cannot carry, or that would end its loop, is an ordinary error by its name."""

    def now() -> str:
        raise kind("why")

    async def soon() -> str:
        raise kind("why")

    tool = function_tool(soon if later else now)
    with pytest.raises(Exception, match="why" if kind is ValueError else f"{kind.__name__}|coroutine raised|why") as caught:
        run(tool)
    assert not isinstance(caught.value, TimeoutError)
    assert run(function_tool(add), a=1) == 3


def test_a_blocking_function_does_not_hold_the_engine() -> None:
    """Two calls of a sync function overlap, on threads of their own."""
    together = threading.Barrier(2)

    def meet(n: int) -> int:
        together.wait(5)
        return n

    tool = function_tool(meet)

    async def both() -> list[Any]:
        return list(await asyncio.gather(tool.run({"n": 1}), tool.run({"n": 2})))

    assert engine().run(both()) == [1, 2]


class Shade(str, enum.Enum):
    """A text that is an enum."""

    DARK = "dark"


class Number(enum.Enum):
    """A number that is an enum."""

    ONE = 1


def numbers() -> Iterator[int]:
    """Yields."""
    yield from (1, 2)


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)

RESULTS: list[tuple[Any, str]] = [
    ("text \u00e9", "text \u00e9"),
    ("", ""),
    (None, "(no result)"),
    (0, "0"),
    (True, "true"),
    (1.5, "1.5"),
    ([1, "\u00e9"], '[1, "\u00e9"]'),
    ((1, 2), "[1, 2]"),
    ({"a": None}, '{"a": null}'),
    ({1: "a"}, '{"1": "a"}'),
    ({"x"}, '["x"]'),
    (Place(city="Oslo", zip=1), '{"city":"Oslo","zip":1}'),
    ([Place(city="Oslo", zip=1)], '[{"city": "Oslo", "zip": 1}]'),
    (Point(1), '{"x": 1, "y": 0}'),
    (date(2026, 1, 2), "2026-01-02"),
    ({"at": datetime(2026, 1, 2)}, '{"at": "2026-01-02T00:00:00"}'),
    (Path("a/b"), "a/b"),
    (Shade.DARK, "dark"),
    (Number.ONE, "1"),
    ([Colour.RED], '["red"]'),
    (b"abc\xff", "abc\ufffd"),
    ([b"\xff"], '["_w=="]'),
    (ValueError("odd"), "odd"),
    (numbers(), "[1, 2]"),
    (CIRCLE, "[[...]]"),
    ({"n": float("nan")}, '{"n": NaN}'),
]


@pytest.mark.parametrize(("value", "text"), RESULTS, ids=[repr(text) for _, text in RESULTS])
def test_a_result_as_text(value: Any, text: str) -> None:
    """Text as it stands, all else as JSON that means the same, and never an error."""
    assert as_text(value) == text
    assert type(as_text(value)) is str


def test_a_result_without_json_is_what_str_shows() -> None:
    """An object of the user's own says what its `str` says."""

    class Own:
        def __str__(self) -> str:
            return "my own"

    assert as_text(Own()) == "my own"
    assert as_text([Own()]) == '["my own"]'
    assert "3" in as_text({(1, 2): 3})


SCHEMAS: dict[str, dict[str, Any]] = {
    "a remote reference": {"type": "object", "properties": {"q": {"$ref": "http://127.0.0.1:9/schema.json"}}},
    "a reference to nothing": {"type": "object", "properties": {"q": {"$ref": "#/$defs/Nope"}}},
    "a foreign pattern": {"type": "object", "properties": {"q": {"type": "string", "pattern": "\\p{L}+"}}},
    "an unknown type": {"type": "object", "properties": {"q": {"type": "text"}}},
}


@pytest.mark.parametrize("case", SCHEMAS)
def test_a_schema_that_cannot_be_applied(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's schema may be broken: nothing is fetched for it, nothing is raised; the tool's own check is then the only one."""
    monkeypatch.setattr("urllib.request.urlopen", lambda *_: pytest.fail("the network was asked"))
    assert schema_fault({"q": "x"}, SCHEMAS[case], strict=False) is None
    assert "cannot be applied" in (schema_fault({"q": "x"}, SCHEMAS[case]) or "")


def test_a_schema_of_another_draft_is_read_as_that() -> None:
    """`$schema` says what `items` means: draft 7's list of items is checked one by one."""
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "array", "items": [{"type": "integer"}, {"type": "string"}]}
    assert schema_fault([1, "a"], schema) is None
    assert schema_fault([1, 2], schema) == "[1]: 2 is not of type 'string'"
