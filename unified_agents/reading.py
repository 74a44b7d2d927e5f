"""YAML and JSON text to plain data with line numbers, safely.

Built on PyYAML's event stream, so that depth, aliases and duplicate keys are refused while reading, before anything is built.
Scalars follow YAML 1.2's core schema (`NO` and `2026-01-01` are text); tags and aliases are refused; at most 1 MB and 50 levels.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from unified_agents.errors import Problem

MAX_BYTES = 1_000_000
MAX_DEPTH = 50
_MAX_DIGITS = 4000  # longer ones are refused by Python, and are no numbers that anybody means

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {"": None, "~": None}
for _names, _value in ((("null", "Null", "NULL"), None), (("true", "True", "TRUE"), True), (("false", "False", "FALSE"), False)):
    _WORDS.update(dict.fromkeys(_names, _value))


class ReadError(Exception):
    """The text is no YAML or JSON that we read; `problems` say why."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(p.message for p in problems))
        self.problems = problems


@dataclass
class Marks:
    """Line numbers shaped like the data: `line` of this node, `children` by key or index."""

    line: int
    children: dict[Any, Marks] = field(default_factory=dict)


def read_text(text: str, *, is_json: bool = False) -> tuple[Any, Marks]:
    """The data of one YAML or JSON document, and the line of each of its parts.

    Raises:
        ReadError: not YAML or JSON, too large, too deep, an alias, a tag, a duplicate key, or more than one document.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise ReadError(Problem("", f"the file is larger than {MAX_BYTES:,} bytes"))
    text = text.removeprefix("\ufeff")
    if is_json:
        _check_json(text)
        return _Builder().build_json(text)
    try:
        return _Builder().build(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        raise ReadError(Problem("", f"not valid YAML: {error.problem}{_brace_hint(text, line)}", line)) from None
    except yaml.YAMLError as error:
        raise ReadError(Problem("", f"not valid YAML: {' '.join(str(error).split())}")) from None


def _brace_hint(text: str, line: int | None) -> str:
    """The commonest slip in a team file: `{goal: About {topic}}`, braces within braces without quotes."""
    rows = text.splitlines()
    row = rows[line - 1] if line and line <= len(rows) else ""
    return '; inside {…} a text that holds braces needs quotes: {goal: "About {topic}"}' if row.count("{") > 1 else ""


def plain_scalar(text: str) -> Any:
    """What an unquoted YAML 1.2 scalar means: null, a boolean, a number or text."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text) and len(text) <= _MAX_DIGITS:
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def _check_json(text: str) -> None:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise ReadError(Problem("", f"not valid JSON: {error.msg}", error.lineno)) from None
    except ValueError:
        raise ReadError(Problem("", "a number has more digits than can be read")) from None
    except RecursionError:
        raise ReadError(Problem("", f"nested deeper than {MAX_DEPTH} levels")) from None


@dataclass
class _Open:
    """A mapping or sequence that is still being filled."""

    value: dict[Any, Any] | list[Any]
    marks: Marks
    key: Any = None
    has_key: bool = False


class _Builder:
    def __init__(self) -> None:
        self.stack: list[_Open] = []
        self.problems: list[Problem] = []
        self.result: tuple[Any, Marks] | None = None

    def build(self, text: str) -> tuple[Any, Marks]:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        documents = 0
        for event in yaml.parse(text, Loader=loader):
            documents += isinstance(event, yaml.DocumentStartEvent)
            if documents > 1:
                raise ReadError(Problem("", "more than one YAML document in one file", _line(event)))
            self._take(event)
        if self.problems:
            raise ReadError(*self.problems)
        return self.result or (None, Marks(1))

    def build_json(self, text: str) -> tuple[Any, Marks]:
        """The same from text that is known to be JSON; YAML's reader refuses some of it (surrogate pairs, long keys)."""
        line, end = 1, 0
        for token in _JSON_TOKEN.finditer(text):
            line += text.count("\n", end, token.start())
            end = token.start()
            if token.group() in "{[":
                self._open({} if token.group() == "{" else [], line)
            elif token.group() in "}]":
                done = self.stack.pop()
                self._put(done.value, done.marks)
            elif token.group() not in ":,":
                value = json.loads(token.group())
                self._put(_whole(value) if isinstance(value, str) else value, Marks(line))
        if self.problems:
            raise ReadError(*self.problems)
        return self.result or (None, Marks(1))

    def _take(self, event: yaml.Event) -> None:
        line = _line(event)
        if isinstance(event, yaml.AliasEvent):
            raise ReadError(Problem("", f"aliases (*{event.anchor}) are not read: write the value out", line))
        tag = getattr(event, "tag", None)
        if tag:
            raise ReadError(Problem("", f"tags ({tag}) are not read", line))
        if isinstance(event, yaml.ScalarEvent):
            self._put(event.value if self._expects_key() else _scalar(event), Marks(line))
        elif isinstance(event, yaml.CollectionStartEvent):
            self._open({} if isinstance(event, yaml.MappingStartEvent) else [], line)
        elif isinstance(event, yaml.CollectionEndEvent):
            done = self.stack.pop()
            self._put(done.value, done.marks)

    def _open(self, value: dict[Any, Any] | list[Any], line: int) -> None:
        if len(self.stack) >= MAX_DEPTH:
            raise ReadError(Problem("", f"nested deeper than {MAX_DEPTH} levels", line))
        self.stack.append(_Open(value, Marks(line)))

    def _expects_key(self) -> bool:
        return bool(self.stack) and isinstance(self.stack[-1].value, dict) and not self.stack[-1].has_key

    def _put(self, value: Any, marks: Marks) -> None:
        if not self.stack:
            self.result = (value, marks)
            return
        top = self.stack[-1]
        if isinstance(top.value, list):
            top.marks.children[len(top.value)] = marks
            top.value.append(value)
        elif not top.has_key:
            top.key, top.has_key = self._key(value, marks, top.value), True
            top.marks.children[top.key] = marks
        else:
            top.value[top.key] = value
            marks.line = top.marks.children[top.key].line  # an entry stands where its key stands
            top.marks.children[top.key] = marks
            top.has_key = False

    def _key(self, value: Any, marks: Marks, owner: dict[Any, Any]) -> str:
        if isinstance(value, (dict, list)):
            raise ReadError(Problem("", "a key must be text", marks.line))
        if value in owner:
            self.problems.append(Problem("", f"the key {value!r} stands twice", marks.line))
        return str(value)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _scalar(event: yaml.ScalarEvent) -> Any:
    if not event.style:  # plain: None from PyYAML's own parser, empty from libyaml's
        return plain_scalar(event.value)
    return _whole(event.value)


def _whole(text: str) -> str:
    """`text` with surrogate pairs joined, and lone surrogates, which cannot be sent, replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
