"""Tools and JSON answers for a model whose template knows neither: rewritten into one bounded JSON schema, and read back.

A grammar made of the schema holds the model to it. What is unbounded in a schema (strings, arrays, free objects, recursion) gets a bound
here, because a small model that may go on forever does, and JSON that is cut off is worth nothing. Pure functions, no model needed::

    wire = rewrite(messages, tools, response_format, max_tokens)
    ...  # send wire.messages, wire.response_format and wire.max_tokens
    answer = read_back(text, wire)      # answer.text, answer.tool_calls
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unified_agents.chat_models import Message, ToolCall

Schema = Mapping[str, Any]
ToolChoice = str | Mapping[str, Any]

PAIRS = "key_value_pairs"
"""Stands in for an object with free keys, whose number no grammar bounds; `read_back` makes the object of it."""

_DEFAULT_TOKENS = 800  # for an answer when the caller set no max_tokens
_HEAD_ROOM = 16  # tokens for white space before and after the JSON
_KEY = 30  # characters of a free key
_RECURSION = 3  # times a schema may stand inside itself
_MAX_NODES = 3000
_MAX_TEXT = 1500  # the runtime refuses grammars with more than 2,000 repetitions
_REPEATS = 30  # of what a pattern repeats without an end
_SCALARS = ("string", "number", "boolean", "null")
_FORMATS = frozenset({"date", "time", "date-time", "uuid"})  # what the runtime's grammar knows; others would be free text anyway


@dataclass(frozen=True)
class Limits:
    """What a string (characters) and an array (items) get where the schema says nothing or more."""

    text: int
    items: int


_LADDER = (Limits(600, 10), Limits(300, 8), Limits(150, 6), Limits(80, 4), Limits(40, 3), Limits(20, 2))


@dataclass(frozen=True)
class Rewritten:
    """What goes to the model instead of the caller's request. `with_tools`: the answer is a tool call or `{"answer": …}`."""

    messages: list[dict[str, Any]]
    response_format: dict[str, Any] | None = None
    max_tokens: int | None = None
    with_tools: bool = False
    answers_json: bool = False

    @property
    def structured(self) -> bool:
        """Whether the model's answer is JSON that `read_back` must look at."""
        return self.response_format is not None


@dataclass(frozen=True)
class Answer:
    """What the caller gets: text, or calls of the tools that were offered."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()


def rewrite(
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] = (),
    response_format: Mapping[str, Any] | None = None,
    max_tokens: int | None = None,
    tool_choice: ToolChoice = "auto",
) -> Rewritten:
    """The request in words and one JSON schema.

    Args:
        messages: as in OpenAI's chat format, with earlier tool calls and their results.
        tools: as in OpenAI's chat format.
        response_format: `text`, `json_object` or `json_schema`.
        max_tokens: what the answer should fit into. A schema that needs more to end gets more.
        tool_choice: `auto`, `none`, `required`, or `{"type": "function", "function": {"name": …}}`.

    Raises:
        ValueError: something the model cannot be given, said for the one who sent it.
    """
    chosen = _chosen(tools, tool_choice)
    answer = answer_schema(response_format)
    if not chosen and answer is None:
        return Rewritten(plain_messages(messages), max_tokens=max_tokens)
    may_answer = not chosen or tool_choice == "auto"
    schema, needed = _fitted(lambda limits: _whole(chosen, answer, may_answer, limits), max_tokens)
    words = _tool_words(chosen, answer, may_answer) if chosen else f"Reply with JSON only, in this form: {described(answer or {})}"
    return Rewritten(
        messages=_with_system(plain_messages(messages, with_tools=bool(chosen)), words),
        response_format={"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": True}},
        max_tokens=max(max_tokens or 0, needed), with_tools=bool(chosen), answers_json=answer is not None,
    )  # fmt: skip


def _chosen(tools: Sequence[Mapping[str, Any]], choice: ToolChoice) -> list[Mapping[str, Any]]:
    """The functions that may be called now."""
    if not isinstance(tools, Sequence) or isinstance(tools, str):
        raise ValueError("tools must be a list")
    functions = [_function(tool) for tool in tools]
    if choice == "none":
        return []
    if choice in ("auto", "required"):
        if choice == "required" and not functions:
            raise ValueError("tool_choice is 'required', but there are no tools")
        return functions
    function = choice.get("function") if isinstance(choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str):
        raise ValueError(f"tool_choice: found {choice!r}, expected auto, none, required or a function's name")
    named = [each for each in functions if each["name"] == name]
    if not named:
        raise ValueError(f"tool_choice names {name!r}; the tools are: {', '.join(each['name'] for each in functions) or 'none'}")
    return named


def _function(tool: Any) -> Mapping[str, Any]:
    function = tool.get("function") if isinstance(tool, Mapping) and tool.get("type") == "function" else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ValueError("each tool must be {type: function, function: {name, description, parameters}}")
    return function


def answer_schema(response_format: Mapping[str, Any] | None) -> Schema | None:
    """The schema that `response_format` asks for; None for text.

    Raises:
        ValueError: a format that does not exist.
    """
    kind = "text" if response_format is None else response_format.get("type") if isinstance(response_format, Mapping) else None
    if response_format is None or kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object", "minProperties": 1, "additionalProperties": {"anyOf": [*_scalars(), _texts()]}}
    body = response_format.get("json_schema") if kind == "json_schema" else None
    schema = body.get("schema") if isinstance(body, Mapping) else None
    if not isinstance(schema, Mapping):
        raise ValueError("response_format: expected {type: text}, {type: json_object} or {type: json_schema, json_schema: {name, schema}}")
    return schema


def _scalars() -> list[Schema]:
    return [{"type": kind} for kind in _SCALARS]


def _texts() -> Schema:
    return {"type": "array", "items": {"type": "string"}}


def _whole(functions: Sequence[Mapping[str, Any]], answer: Schema | None, may_answer: bool, limits: Limits) -> dict[str, Any]:
    """One schema for everything the model may say."""
    if not functions:
        return bounded(answer or {}, limits)
    branches = [_call_schema(function, limits) for function in functions]
    if may_answer:
        text: Schema = {"type": "string", "minLength": 1, "maxLength": min(_MAX_TEXT, 2 * limits.text)}
        branches.append(_closed({"answer": text if answer is None else bounded(answer, limits)}))
    return branches[0] if len(branches) == 1 else {"anyOf": branches}


def _call_schema(function: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    return _closed({"tool": {"const": function["name"]}, "arguments": bounded(_parameters(function), limits)})


def _parameters(function: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a function's arguments. One without parameters takes none: that is narrower than what an empty schema means."""
    parameters = function.get("parameters") or {}
    if not isinstance(parameters, Mapping):
        raise ValueError(f"tool {function['name']!r}: parameters must be a JSON schema")
    return {"type": "object", "properties": {}, **parameters}


def _closed(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": list(properties), "additionalProperties": False}


def _fitted(build: Callable[[Limits], dict[str, Any]], max_tokens: int | None) -> tuple[dict[str, Any], int]:
    """The widest schema that usually fits, and the tokens with which it always ends."""
    room = max_tokens or _DEFAULT_TOKENS
    schema: dict[str, Any] = {}
    for limits in _LADDER:
        schema = build(limits)
        if cost(schema, per_character=0.5) <= room:
            break
    return schema, math.ceil(cost(schema, per_character=1.0)) + _HEAD_ROOM


def cost(schema: Schema, per_character: float = 1.0) -> float:
    """Tokens of the longest text that a bounded schema allows, with white space as the model writes it."""
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return max(len(json.dumps(value, ensure_ascii=False)) for value in values)
    if "anyOf" in schema:
        return max(cost(branch, per_character) for branch in schema["anyOf"])
    if schema["type"] == "object":
        return 4 + sum(len(name) + 6 + cost(value, per_character) for name, value in schema["properties"].items())
    if schema["type"] == "array":
        items = schema.get("prefixItems") or [schema["items"]] * schema["maxItems"]
        return 4 + sum(3 + cost(item, per_character) for item in items)
    if schema["type"] == "string":
        return 4 + per_character * float(schema.get("maxLength", 100))
    return {"integer": 18, "number": 40}.get(schema["type"], 3)


# Bounding a schema


def bounded(schema: Schema, limits: Limits = _LADDER[0]) -> dict[str, Any]:
    """A schema whose every text has an end: what it allows, the given one allows too (free objects apart, see `PAIRS`).

    Local references are put in place, strings and arrays get a maximum, objects are closed to names that no property has.

    Raises:
        ValueError: no finite value fits, a reference leads nowhere, or the schema is too large.
    """
    try:
        found = _Bounder(schema, limits).value(schema, ())
    except (TypeError, AttributeError, KeyError, RecursionError) as error:  # its parts are not what JSON Schema says they are
        raise ValueError(f"not a JSON schema: {json.dumps(schema, default=str)[:200]}") from error
    if found is None:
        raise ValueError("no finite value fits the schema")
    return found


class _Bounder:
    """Walks one schema. None in place of a schema means that nothing finite fits, and whatever is optional is left out then."""

    def __init__(self, root: Schema, limits: Limits) -> None:
        self._root = root
        self._limits = limits
        self._nodes = 0

    def value(self, schema: Any, within: tuple[str, ...]) -> dict[str, Any] | None:
        """The bounded schema; `within` holds the references it stands inside of."""
        self._count()
        if schema is False:
            return None
        plain, within = self.flat({} if schema is True else schema, within)
        if plain is None:
            return None
        if "const" in plain:
            return {"const": plain["const"]}
        if "enum" in plain:
            return {"enum": list(plain["enum"])} if plain["enum"] else None
        return self._union(plain, within) or self._typed(plain, within)

    def _count(self) -> None:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise ValueError("the schema is too large for this model")

    def flat(self, schema: Any, within: tuple[str, ...]) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
        """`schema` with its references and `allOf` put in place; None when a reference stands too deep inside itself."""
        if not isinstance(schema, Mapping):
            raise ValueError(f"found {json.dumps(schema, default=str)[:80]} where a JSON schema is expected")
        if isinstance(schema.get("$ref"), str):
            ref = schema["$ref"]
            if within.count(ref) >= _RECURSION:
                return None, within
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            return self.flat(_merged(rest, self._target(ref)), (*within, ref))
        merged = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema.get("allOf", ()):
            flat, within = self.flat({} if part is True else part, within)
            if flat is None:
                return None, within
            merged = _merged(merged, flat)
        return merged, within

    def _target(self, ref: str) -> Schema:
        found: Any = self._root
        for name in ref.split("/")[1:]:
            key = name.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, Mapping) else None
        if not ref.startswith("#") or not isinstance(found, Mapping):
            raise ValueError(f"the schema's reference {ref!r} leads nowhere (only '#/…' within the schema is read)")
        return found

    def _union(self, schema: dict[str, Any], within: tuple[str, ...]) -> dict[str, Any] | None:
        """For `anyOf`, `oneOf` and a list of types; None for another schema, or when nothing fits."""
        for key in ("anyOf", "oneOf"):
            if key in schema:
                rest = {name: value for name, value in schema.items() if name != key}
                return self._any(((branch, rest) for branch in schema[key]), within)
        if isinstance(schema.get("type"), list):
            return self._any((({"type": kind}, schema) for kind in schema["type"]), within)
        return None

    def _any(self, branches: Iterable[tuple[Any, dict[str, Any]]], within: tuple[str, ...]) -> dict[str, Any] | None:
        found = []
        for branch, rest in branches:
            flat, inner = self.flat({} if branch is True else branch, within) if branch is not False else (None, within)
            whole = self.value(_merged(rest, flat), inner) if flat is not None else None
            found += [whole] if whole is not None else []
        return found[0] if len(found) == 1 else {"anyOf": found} if found else None

    def _typed(self, schema: dict[str, Any], within: tuple[str, ...]) -> dict[str, Any] | None:
        if {"anyOf", "oneOf"} & set(schema) or isinstance(schema.get("type"), list):
            return None  # a union of which no branch is left
        kind = schema.get("type") or _implied(schema)
        if kind == "object":
            return self._object(schema, within)
        if kind == "array":
            return self._array(schema, within)
        if kind == "string":
            return _string(schema, self._limits)
        if kind in ("integer", "number"):
            return _integer(schema) if kind == "integer" else _number(schema)
        if kind in ("boolean", "null"):
            return {"type": kind}
        if kind is not None:
            raise ValueError(f"the schema has the unknown type {kind!r}")
        return self._any((({"type": each}, {}) for each in _SCALARS), within)

    def _object(self, schema: dict[str, Any], within: tuple[str, ...]) -> dict[str, Any] | None:
        properties, extra = schema.get("properties", {}), schema.get("additionalProperties")
        required = [name for name in schema.get("required", ()) if isinstance(name, str)]
        names = {**properties, **{name: {} if extra is None else extra for name in required if name not in properties}}
        if not names:
            closed = extra is False or ("properties" in schema and extra is None)
            return {"const": {}} if closed else self._free(schema, within)
        inner = {name: self.value(each, within) for name, each in names.items()}
        if any(inner[name] is None for name in required):
            return None
        kept = {name: each for name, each in inner.items() if each is not None}
        return {**_closed(kept), "required": [name for name in kept if name in required]} if kept else {"const": {}}

    def _free(self, schema: dict[str, Any], within: tuple[str, ...]) -> dict[str, Any] | None:
        """An object with free keys as an array of pairs, which has an end."""
        extra, least = schema.get("additionalProperties", True), _whole_number(schema, "minProperties")
        value = self.value(extra, within)
        if value is None:
            return None if least else {"const": {}}
        names = {"maxLength": _KEY, **schema.get("propertyNames", {}), "type": "string"}
        key = self.value({"minLength": 1, **names}, within)
        items = _closed({"key": key, "value": value})
        most = max(least, min(self._limits.items, _whole_number(schema, "maxProperties", self._limits.items)))
        return _closed({PAIRS: {"type": "array", "items": items, "minItems": least, "maxItems": most}}) if most else {"const": {}}

    def _array(self, schema: dict[str, Any], within: tuple[str, ...]) -> dict[str, Any] | None:
        items = schema.get("prefixItems", schema.get("items", True))
        if isinstance(items, list):
            inner = [self.value(item, within) for item in items]
            return None if None in inner else {"type": "array", "prefixItems": inner} if inner else {"const": []}
        least, most = _whole_number(schema, "minItems"), _whole_number(schema, "maxItems", self._limits.items)
        if schema.get("uniqueItems") is True:
            most = min(most, 1)  # the model repeats itself, and no grammar forbids that
        most, item = max(least, min(most, self._limits.items)), self.value(items, within)
        if item is None or most == 0:
            return None if least else {"const": []}
        return {"type": "array", "items": item, "minItems": least, "maxItems": most}


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Both schemas at once, as far as a grammar can say it: properties and required names are joined, else the later one wins."""
    both = {**one, **other}
    if "properties" in one and "properties" in other:
        both["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        both["required"] = list(dict.fromkeys([*one["required"], *other["required"]]))
    return both


def _implied(schema: Schema) -> str | None:
    """The type that a schema without one means by its other words."""
    for kind, words in (
        ("object", {"properties", "required", "additionalProperties", "propertyNames"}),
        ("array", {"items", "prefixItems", "minItems", "maxItems"}),
        ("string", {"pattern", "minLength", "maxLength", "format"}),
        ("number", {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    ):
        if words & set(schema):
            return kind
    return None


def _whole_number(schema: Schema, key: str, default: int = 0) -> int:
    value = schema.get(key, default)
    return value if isinstance(value, int) and value >= 0 else default


def _string(schema: Schema, limits: Limits) -> dict[str, Any] | None:
    pattern = _pattern(schema["pattern"]) if isinstance(schema.get("pattern"), str) else None
    if pattern is not None:
        return {"type": "string", "pattern": pattern}
    if schema.get("format") in _FORMATS:
        return {"type": "string", "format": schema["format"]}
    least = _whole_number(schema, "minLength")
    most = _whole_number(schema, "maxLength", max(least, limits.text))
    return {"type": "string", "minLength": least, "maxLength": max(least, min(most, limits.text))} if least <= most else None


_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?:|\(\?.?|[*+]\??|\{(\d+),\}|.", re.DOTALL)
_CLASSES = {"d": "0-9", "w": "A-Za-z0-9_", "s": " "}


def _pattern(pattern: str) -> str | None:
    """`pattern` for the whole text, with an end to every repetition, in what the runtime's grammar reads; None when it cannot be."""
    body = pattern.removeprefix("^")
    body = body.removesuffix("$") if not body.endswith(r"\$") else body
    parts = [_pattern_part(match) for match in _TOKEN.finditer(body)]
    if any(part is None for part in parts):
        return None
    return f"^({''.join(part or '' for part in parts)})$"


def _pattern_part(match: re.Match[str]) -> str | None:
    token = match.group()
    if token in ("^", "$") or (token[:2] == "(?" and token[2:] != ":"):
        return None  # anchors inside and look-arounds
    if token.startswith("["):
        inner = re.sub(r"\\([dws])", lambda found: _CLASSES[found.group(1)], token)
        return None if re.search(r"\\[A-Zbpux0-9]", inner) else inner
    if token.startswith("\\"):
        known = _CLASSES.get(token[1])
        return f"[{known}]" if known else None if token[1].isalnum() else token
    if token[0] in "*+":
        return f"{{{0 if token[0] == '*' else 1},{_REPEATS}}}"
    return f"{{{match.group(1)},{max(int(match.group(1)), _REPEATS)}}}" if match.group(1) else token


def _bounds(schema: Schema) -> tuple[float | None, float | None, bool, bool]:
    """Least and greatest number, and whether each is itself excluded."""

    def edge(open_key: str, key: str) -> tuple[float | None, bool]:
        for name, is_open in ((open_key, True), (key, False)):
            value = schema.get(name)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return value, is_open
        return None, False

    (low, low_open), (high, high_open) = edge("exclusiveMinimum", "minimum"), edge("exclusiveMaximum", "maximum")
    return low, high, low_open, high_open


def _integer(schema: Schema) -> dict[str, Any] | None:
    low, high, low_open, high_open = _bounds(schema)
    found: dict[str, Any] = {"type": "integer"}
    if low is not None:
        found["minimum"] = math.floor(low) + 1 if low_open else math.ceil(low)
    if high is not None:
        found["maximum"] = math.ceil(high) - 1 if high_open else math.floor(high)
    return None if found.get("minimum", -math.inf) > found.get("maximum", math.inf) else found


def _number(schema: Schema) -> dict[str, Any] | None:
    """A number; one of a narrow range (a share, a mark) becomes a choice of decimals, as no grammar knows the bounds of a fraction."""
    low, high, low_open, high_open = _bounds(schema)
    if low is None or high is None or high - low > 10:
        return {"type": "number"}
    per_one = 100 if high - low <= 1 else 10
    steps = [step / per_one for step in range(math.ceil(low * per_one), math.floor(high * per_one) + 1)]
    inside = [value for value in (low, *steps, high) if low <= value <= high]
    values = [value for value in dict.fromkeys(inside) if not (low_open and value == low) and not (high_open and value == high)]
    return {"enum": values} if values else None


# Words for the model


def plain_messages(messages: Sequence[Message], *, with_tools: bool = False) -> list[dict[str, Any]]:
    """The messages with earlier tool calls and results as text, in the roles that the template knows.

    Raises:
        ValueError: a message holds something other than text, or has no known role.
    """
    called: dict[str, str] = {}
    found: list[dict[str, Any]] = []
    for message in messages:
        role, text = message.get("role"), _text(message.get("content"))
        calls = message.get("tool_calls") or []
        if role == "assistant" and calls:
            called.update({str(call.get("id")): _call_name(call) for call in calls})
            text = "\n".join(filter(None, [text, *(_call_text(call, with_tools) for call in calls)]))
        found.append(_plain(role, text, called.get(str(message.get("tool_call_id")), message.get("name") or "the tool")))
    return found


def _plain(role: Any, text: str, tool: str) -> dict[str, Any]:
    if role in ("tool", "function"):
        return {"role": "user", "content": f"Result of {tool}: {text}"}
    if role == "developer":
        return {"role": "system", "content": text}
    if role not in ("system", "user", "assistant"):
        raise ValueError(f"a message has the role {role!r}; allowed: system, developer, user, assistant, tool")
    return {"role": role, "content": text}


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    parts = content if isinstance(content, Sequence) else [content]
    for part in parts:
        if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            raise ValueError(f"this model reads text only; a message holds {kind!r}")
    return "\n".join(part["text"] for part in parts)


def _call_name(call: Mapping[str, Any]) -> str:
    return str((call.get("function") or {}).get("name") or "the tool")


def _call_text(call: Mapping[str, Any], with_tools: bool) -> str:
    """An earlier call: as the model would write it while it has tools, else in words that it does not take for an example."""
    arguments = str((call.get("function") or {}).get("arguments") or "{}")
    name = _call_name(call)
    return f'{{"tool": {json.dumps(name)}, "arguments": {arguments}}}' if with_tools else f"I ask {name} with {arguments}."


def _with_system(messages: list[dict[str, Any]], words: str) -> list[dict[str, Any]]:
    """The messages with `words` at the end of the first system message."""
    if messages and messages[0]["role"] == "system":
        text = f"{messages[0]['content']}\n\n{words}".strip()
        return [{"role": "system", "content": text}, *messages[1:]]
    return [{"role": "system", "content": words}, *messages]


def _tool_words(functions: Sequence[Mapping[str, Any]], answer: Schema | None, may_answer: bool) -> str:
    """What a call looks like stands there for each tool: of the wordings tried, the one with which the model errs least."""
    rows = [f"- {f['name']} {described(_parameters(f))}: {' '.join(str(f.get('description') or '').split())}" for f in functions]
    calls = [f'{{"tool": "{f["name"]}", "arguments": {described(_parameters(f), notes=False)}}}' for f in functions]
    form = "text" if answer is None else described(answer)
    last = f'. When you know the answer: {{"answer": {form}}}.' if may_answer else ""
    return "\n".join(["You can call these tools:", *rows, f"Reply with JSON only: {' or '.join(calls)}{last}"])


def described(schema: Schema, *, notes: bool = True) -> str:
    """A schema in as few words as a small model needs: `{"city": string, "days": integer}`; `notes` adds the descriptions."""
    return _Describer(schema, notes).words(schema, 0)


class _Describer:
    def __init__(self, root: Schema, notes: bool) -> None:
        self._bounder = _Bounder(root, _LADDER[0])
        self._notes = notes

    def words(self, schema: Any, depth: int) -> str:
        flat = self._bounder.flat(schema, ())[0] if isinstance(schema, Mapping) else None
        if flat is None or depth > _RECURSION:
            return "..."
        if "const" in flat or "enum" in flat:
            return " or ".join(json.dumps(value, ensure_ascii=False) for value in flat.get("enum", [flat.get("const")]))
        for key in ("anyOf", "oneOf"):
            if key in flat:
                return " or ".join(dict.fromkeys(self.words(branch, depth + 1) for branch in flat[key]))
        return self._typed(flat, depth)

    def _typed(self, schema: Schema, depth: int) -> str:
        kind = schema.get("type") or _implied(schema) or "value"
        if kind == "object" and (schema.get("properties") or depth == 0):
            rows = [f"{json.dumps(name)}: {self._property(each, depth)}" for name, each in schema.get("properties", {}).items()]
            return f"{{{', '.join(rows)}}}" if rows or "properties" in schema else f'{{"{PAIRS}": [{{"key": string, "value": value}}]}}'
        if kind == "array" and isinstance(schema.get("items"), Mapping):
            return f"[{self.words(schema['items'], depth + 1)}]"
        return " or ".join(kind) if isinstance(kind, list) else str(kind)

    def _property(self, schema: Any, depth: int) -> str:
        said = " ".join(str(schema.get("description") or "").split()) if self._notes and isinstance(schema, Mapping) else ""
        return self.words(schema, depth + 1) + (f" ({said})" if said else "")


# The way back


def read_back(text: str, wire: Rewritten) -> Answer:
    """The caller's answer out of the model's. A text that was cut off, and so is no JSON, is handed on as far as it goes."""
    if not wire.structured:
        return Answer(text)
    try:
        value = _restored(json.loads(text, parse_float=_finite))
    except (ValueError, RecursionError):
        return Answer(_cut_answer(text) if wire.with_tools and not wire.answers_json else text)
    if not wire.with_tools:
        return Answer(_dumped(value))
    if not isinstance(value, Mapping) or not {"tool", "answer"} & set(value):
        return Answer(text)
    if "tool" in value:
        return Answer("", (ToolCall(_call_id(wire), str(value["tool"]), _dumped(value.get("arguments", {}))),))
    return Answer(_dumped(value["answer"]) if wire.answers_json else str(value["answer"]).strip())


def _restored(value: Any) -> Any:
    """`value` with the objects that were written as pairs."""
    if isinstance(value, list):
        return [_restored(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {PAIRS} and isinstance(value[PAIRS], list):
        return {str(pair["key"]): _restored(pair["value"]) for pair in value[PAIRS]}
    return {key: _restored(item) for key, item in value.items()}


def _finite(text: str) -> float:
    """The number; JSON has no infinity, so what is too large becomes the largest there is."""
    value = float(text)
    return value if math.isfinite(value) else math.copysign(sys.float_info.max, value)


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode("utf-8")


def _call_id(wire: Rewritten) -> str:
    """Told by what was asked: the same request gives the same id, another turn of the conversation another one."""
    return f"call_{hashlib.sha256(json.dumps(wire.messages).encode()).hexdigest()[:16]}"


def _cut_answer(text: str) -> str:
    """What there is of `{"answer": "…` when the answer was cut off."""
    started = re.match(r'\s*\{\s*"answer"\s*:\s*"((?:[^"\\]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*)', text)
    return str(json.loads(f'"{started.group(1)}"', strict=False)).strip() if started else text
