"""Tools and JSON answers for a model that knows neither: the rewriting, without a model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from unified_agents.chat_models.rewriting import PAIRS, Limits, Rewritten, bounded, cost, described, plain_messages, read_back, rewrite

USER = [{"role": "user", "content": "Weather in Oslo?"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def tool(name: str, parameters: Any = None) -> dict[str, Any]:
    """A tool in OpenAI's format."""
    return {"type": "function", "function": {"name": name, "description": f"Does {name}", "parameters": parameters or CITY}}


def as_json(schema: Any) -> dict[str, Any]:
    """A response_format for a schema."""
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}


def sent(wire: Rewritten) -> dict[str, Any]:
    """The schema that goes to the model."""
    assert wire.response_format is not None
    schema: dict[str, Any] = wire.response_format["json_schema"]["schema"]
    return schema


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema inside a schema."""
    if isinstance(schema, dict):
        yield schema
        for each in schema.values():
            yield from parts(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from parts(each)


def assert_bounded(schema: dict[str, Any]) -> None:
    """Every string, array and object in it has an end."""
    jsonschema.Draft202012Validator.check_schema(schema)
    for part in parts(schema):
        assert "$ref" not in part
        if part.get("type") == "string":
            assert {"maxLength", "pattern", "format"} & set(part)
        if part.get("type") == "array":
            assert "maxItems" in part or "prefixItems" in part
        if part.get("type") == "object":
            assert part["additionalProperties"] is False
            assert part["properties"]


# Tools


def test_tools_become_one_choice_of_calls_and_an_answer() -> None:
    """auto: a branch for each tool and one for the answer; the tools are told in the system message."""
    wire = rewrite(USER, [tool("weather"), tool("clock", {"type": "object", "properties": {}})])
    names = [branch["properties"].get("tool", {}).get("const") for branch in sent(wire)["anyOf"]]
    assert names == ["weather", "clock", None]
    assert sent(wire)["anyOf"][1]["properties"]["arguments"] == {"const": {}}
    assert sent(wire)["anyOf"][2]["required"] == ["answer"]
    assert wire.messages[0]["role"] == "system"
    assert "Does weather" in wire.messages[0]["content"]
    assert wire.messages[1:] == USER


def test_required_leaves_no_way_to_answer() -> None:
    """Every branch is a call."""
    wire = rewrite(USER, [tool("a"), tool("b")], tool_choice="required")
    assert [branch["properties"]["tool"]["const"] for branch in sent(wire)["anyOf"]] == ["a", "b"]
    assert '"answer"' not in wire.messages[0]["content"]


def test_a_named_tool_is_the_only_one() -> None:
    """No choice is left, and the others are not told."""
    wire = rewrite(USER, [tool("a"), tool("b")], tool_choice={"type": "function", "function": {"name": "b"}})
    assert sent(wire)["properties"]["tool"] == {"const": "b"}
    assert "Does a" not in wire.messages[0]["content"]


def test_none_is_as_if_there_were_no_tools() -> None:
    """The messages alone, and no schema."""
    assert rewrite(USER, [tool("a")], tool_choice="none") == Rewritten(USER)


@pytest.mark.parametrize(
    ("tools", "choice", "said"),
    [
        ([], "required", "there are no tools"),
        ([tool("a")], "always", "expected auto, none, required"),
        ([tool("a")], {"type": "function", "function": {"name": "z"}}, "names 'z'; the tools are: a"),
        (5, "auto", "must be a list"),
        ([{"type": "web_search"}], "auto", "type: function"),
        ([tool("a", {"type": "object", "properties": {"x": {"$ref": "#/$defs/no"}}})], "auto", "leads nowhere"),
    ],
)
def test_what_cannot_be_is_told(tools: Any, choice: Any, said: str) -> None:
    """A ValueError for the one who sent it."""
    with pytest.raises(ValueError, match=said):
        rewrite(USER, tools, tool_choice=choice)


def test_a_call_is_read_back() -> None:
    """OpenAI's shape: an id, the name, the arguments as JSON text."""
    wire = rewrite(USER, [tool("weather")])
    answer = read_back('{"tool": "weather",\n "arguments": {"city": "Ålesund"}}', wire)
    (call,) = answer.tool_calls
    assert (answer.text, call.name, call.arguments) == ("", "weather", '{"city": "Ålesund"}')
    later = rewrite([*USER, {"role": "assistant", "content": "x"}], [tool("weather")])
    again = read_back('{"tool": "weather", "arguments": {}}', later).tool_calls[0]
    assert call.id.startswith("call_")
    assert again.id != call.id
    assert read_back('{"tool": "weather", "arguments": {}}', wire).tool_calls[0].id == call.id


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('{"answer": " It is cold. "}', "It is cold."),
        ('{"answer": "It is co', "It is co"),
        ('{\n "answer": "a \\"b\\" \\', 'a "b"'),
        ('{"tool": "wea', '{"tool": "wea'),
        ("no JSON", "no JSON"),
        ("[1]", "[1]"),
    ],
)
def test_an_answer_is_read_back(text: str, read: str) -> None:
    """Also one that was cut off, as far as it goes."""
    answer = read_back(text, rewrite(USER, [tool("weather")]))
    assert (answer.text, answer.tool_calls) == (read, ())


def test_tools_and_json_together() -> None:
    """The answer branch carries the schema, and its value comes back as JSON text."""
    wire = rewrite(USER, [tool("weather")], as_json({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}))
    assert sent(wire)["anyOf"][1]["properties"]["answer"]["properties"] == {"n": {"type": "integer"}}
    assert read_back('{"answer": {"n": 3}}', wire).text == '{"n": 3}'
    assert read_back('{"tool": "weather", "arguments": {"city": "x"}}', wire).tool_calls


def test_earlier_calls_and_results_become_text() -> None:
    """In roles that the template knows, naming the tool; content in parts is joined."""
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    messages: list[dict[str, Any]] = [
        {"role": "developer", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "Weather"}, {"type": "text", "text": "in Oslo?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "-3 degrees"},
    ]
    plain = plain_messages(messages, with_tools=True)
    assert [message["role"] for message in plain] == ["system", "user", "assistant", "user"]
    assert plain[1]["content"] == "Weather\nin Oslo?"
    assert json.loads(plain[2]["content"]) == {"tool": "weather", "arguments": {"city": "Oslo"}}
    assert plain[3]["content"] == "Result of weather: -3 degrees"
    assert all(set(message) == {"role", "content"} for message in plain)
    assert "{" not in plain_messages(messages)[2]["content"].replace('{"city": "Oslo"}', "")


@pytest.mark.parametrize(
    "message", [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, {"role": "robot", "content": "x"}, {"content": "x"}]
)
def test_what_is_no_text_is_refused(message: Any) -> None:
    """Not dropped in silence."""
    with pytest.raises(ValueError, match=r"reads text only|the role"):
        plain_messages([message])


def test_the_words_go_into_the_system_message_there_is() -> None:
    """One system message, the caller's words first; the caller's list is not changed."""
    messages = [{"role": "system", "content": "Be kind."}, *USER]
    wire = rewrite(messages, [tool("weather")])
    assert [message["role"] for message in wire.messages] == ["system", "user"]
    assert wire.messages[0]["content"].startswith("Be kind.\n\n")
    assert messages[0]["content"] == "Be kind."


# JSON


SCHEMAS: list[Any] = [
    {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {"type": "string"}}},
        "required": ["a", "b"],
    },
    {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": {"b": {"$ref": "#/$defs/B"}}}, "B": {"type": "string"}}},
    {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
    {"type": ["array", "null"], "items": {"type": "number"}},
    {"type": "object"},
    {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1},
    {"type": "object", "properties": {"a": True, "b": {}}, "required": ["a", "c"]},
    {
        "allOf": [
            {"properties": {"a": {"type": "string"}}, "required": ["a"]},
            {"properties": {"b": {"type": "integer"}}, "required": ["b"]},
        ]
    },
    {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]},
    {"type": "object", "properties": {"when": {"type": "string", "format": "date"}, "code": {"type": "string", "pattern": "^\\d+[a-z]*$"}}},
    {},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: json.dumps(schema)[:50])
def test_every_schema_gets_an_end(schema: Any) -> None:
    """Nothing unbounded is left, whatever the schema, and its cost is known."""
    found = bounded(schema)
    assert_bounded(found)
    assert 0 < cost(found) < 20_000


def test_bounds_are_put_in_and_only_narrowed() -> None:
    """Absent ones are added, wider ones cut, narrower ones and minima kept."""
    limits = Limits(text=50, items=4)
    assert bounded({"type": "string"}, limits) == {"type": "string", "minLength": 0, "maxLength": 50}
    assert bounded({"type": "string", "maxLength": 9000}, limits)["maxLength"] == 50
    assert bounded({"type": "string", "maxLength": 7}, limits)["maxLength"] == 7
    assert bounded({"type": "string", "minLength": 80}, limits)["maxLength"] == 80
    assert bounded({"type": "array", "items": {"type": "null"}, "minItems": 6}, limits)["maxItems"] == 6
    assert bounded({"type": "array", "items": {"type": "null"}, "uniqueItems": True}, limits)["maxItems"] == 1


def test_a_schema_inside_itself_ends() -> None:
    """A tree: its optional children are left out where it gets too deep."""
    node: dict[str, Any] = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "children": {"type": "array"}},
        "required": ["name"],
    }
    node["properties"]["children"]["items"] = {"$ref": "#/$defs/Node"}
    found = bounded({"$ref": "#/$defs/Node", "$defs": {"Node": node}})
    assert_bounded(found)
    assert json.dumps(found).count('"name"') == 6  # three levels, each a property and required


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (
            {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "required": ["a"]}}},
            "no finite",
        ),
        ({"$ref": "#"}, "no finite"),
        ({"$ref": "https://example.org/schema.json"}, "leads nowhere"),
        ({"type": "nonsense"}, "unknown type 'nonsense'"),
        ({"type": "object", "properties": {"a": 5}}, "found 5"),
        ({"type": "object", "properties": 5}, "not a JSON schema"),
        ({"type": "array", "items": "string"}, 'found "string"'),
        (False, "no finite"),
        ({"enum": []}, "no finite"),
    ],
)
def test_what_has_no_end_is_told(schema: Any, said: str) -> None:
    """Rather than sent to a model that would never end."""
    with pytest.raises(ValueError, match=said):
        bounded(schema)


def test_a_schema_that_explodes_is_refused() -> None:
    """References that double at each level do not eat the machine."""
    defs: dict[str, Any] = {f"L{n}": {"type": "array", "prefixItems": [{"$ref": f"#/$defs/L{n + 1}"}] * 2} for n in range(30)}
    defs["L30"] = {"type": "null"}
    with pytest.raises(ValueError, match="too large"):
        bounded({"$ref": "#/$defs/L0", "$defs": defs})


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("^[a-z]+$", "^([a-z]{1,30})$"),
        ("a|b", "^(a|b)$"),
        (r"^\d{2,}-\w*$", "^([0-9]{2,30}-[A-Za-z0-9_]{0,30})$"),
        (r"[\d.]+", "^([0-9.]{1,30})$"),
        (r"\.x?", r"^(\.x?)$"),
        (r"(?=a)b", None),
        (r"\bword\b", None),
    ],
)
def test_a_pattern_gets_an_end(pattern: str, found: str | None) -> None:
    """Anchored, with bounded repetitions, in what the runtime reads; others leave a bounded string."""
    schema = bounded({"type": "string", "pattern": pattern})
    assert schema.get("pattern") == found
    assert found or schema["maxLength"]


def test_numbers() -> None:
    """Integers keep their bounds, fractions of a narrow range become a choice, others are free."""
    assert bounded({"type": "integer", "minimum": 0.5, "exclusiveMaximum": 10}) == {"type": "integer", "minimum": 1, "maximum": 9}
    share = bounded({"type": "number", "minimum": 0, "maximum": 1})["enum"]
    assert (len(share), share[0], share[-1]) == (101, 0, 1)
    assert 0 not in bounded({"type": "number", "exclusiveMinimum": 0, "maximum": 1})["enum"]
    assert bounded({"type": "number", "minimum": 0}) == {"type": "number"}


def test_free_objects_travel_as_pairs() -> None:
    """An object with free keys has no end in a grammar; pairs have, and the caller gets the object."""
    wire = rewrite(USER, response_format={"type": "json_object"})
    assert sent(wire)["properties"][PAIRS]["minItems"] == 1
    assert read_back(json.dumps({PAIRS: [{"key": "a", "value": 1}, {"key": "b", "value": ["x"]}]}), wire).text == '{"a": 1, "b": ["x"]}'


def test_the_schema_fits_into_max_tokens_and_gets_head_room() -> None:
    """Small answers get short strings; a schema that needs more than max_tokens to end gets more."""
    schema = {"type": "object", "properties": {"title": {"type": "string"}, "body": {"type": "string"}}}
    small, wide = (rewrite(USER, response_format=as_json(schema), max_tokens=most) for most in (100, 2000))
    lengths = [sent(wire)["properties"]["body"]["maxLength"] for wire in (small, wide)]
    assert lengths[0] < lengths[1]
    assert small.max_tokens is not None
    assert cost(sent(small)) <= small.max_tokens
    assert (wide.max_tokens or 0) >= 2000


def test_text_formats_are_no_json() -> None:
    """`text` and nothing are the same; a format that does not exist is told."""
    assert rewrite(USER, response_format={"type": "text"}, max_tokens=9) == Rewritten(USER, max_tokens=9)
    with pytest.raises(ValueError, match="json_schema"):
        rewrite(USER, response_format={"type": "xml"})
    with pytest.raises(ValueError, match="json_schema"):
        rewrite(USER, response_format={"type": "json_schema", "json_schema": {"name": "x"}})


def test_json_is_read_back_clean() -> None:
    """No infinity, no lone surrogates, no white space between; a text that was cut off stays as it is."""
    wire = rewrite(USER, response_format=as_json({"type": "object"}))
    assert json.loads(read_back('{"a": 1e999}', wire).text)["a"] == pytest.approx(1.797e308, rel=0.01)
    assert read_back('{\n"a":   "\\ud800"}', wire).text == '{"a": "?"}'
    assert read_back('{"a": "x', wire).text == '{"a": "x'


def test_a_schema_in_words() -> None:
    """What a small model is told about a schema."""
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "A town"},
            "days": {"type": "array", "items": {"$ref": "#/$defs/D"}},
            "unit": {"enum": ["C", "F"]},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "$defs": {"D": {"type": "integer"}},
    }
    assert described(schema) == '{"city": string (A town), "days": [integer], "unit": "C" or "F", "note": string or null}'
