"""Placeholders: `{topic}` in the texts of agents and tasks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from unified_agents.spec import AgentSpec, TaskSpec

_PLACEHOLDER = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|\{([A-Za-z_]\w*)\}", re.ASCII)
_AGENT_TEXTS = ("role", "goal", "backstory", "instructions", "expertise", "responsibilities", "personality")
_TASK_TEXTS = ("description", "expected_output", "expertise", "output_file")

Spec = TypeVar("Spec", AgentSpec, TaskSpec)


def placeholders(text: str) -> list[str]:
    """The names of the placeholders in `text`, `{{literal}}` ones left out."""
    return [match.group(2) for match in _PLACEHOLDER.finditer(text) if match.group(2)]


def fill(text: str, values: Mapping[str, str]) -> str:
    """`text` with its placeholders replaced in one pass: values are put in once and never scanned again."""
    return _PLACEHOLDER.sub(lambda match: "{" + match.group(1) + "}" if match.group(1) else values[match.group(2)], text)


def identifier(name: str) -> str:
    """A Python identifier that still reads like `name`, for frameworks that take no other names."""
    plain = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_")[:40]
    return plain if plain.isidentifier() else f"_{plain}"


def folded(text: str) -> str:
    """A text for comparing names and terms: without case, with one space where there are spaces, hyphens or underscores."""
    return re.sub(r"[-_\s]+", " ", text.casefold()).strip()


def as_text(value: Any) -> str:
    """How an input reads in a prompt: text as it is, data as JSON, anything else (a date, a number of numpy's) as Python writes it."""
    is_data = isinstance(value, (dict, list, tuple, bool, int, float)) or value is None
    text = json.dumps(value, ensure_ascii=False, default=str) if is_data else str(value)
    return text.encode("utf-8", "replace").decode("utf-8")  # without lone surrogates, which cannot be sent


def texts_of(spec: AgentSpec | TaskSpec) -> Iterator[tuple[str, str]]:
    """Where and what: every text of a spec that may hold placeholders."""
    for field in _AGENT_TEXTS if isinstance(spec, AgentSpec) else _TASK_TEXTS:
        value = getattr(spec, field)
        if isinstance(value, str):
            yield field, value
        elif isinstance(value, Mapping):
            yield from ((f"{field}.{key}", text) for key, text in value.items())
        else:
            yield from ((f"{field}[{index}]", text) for index, text in enumerate(value or ()))
    if isinstance(spec, TaskSpec) and spec.stop_when is not None:
        yield "stop_when.says", spec.stop_when.says


def filled(spec: Spec, values: Mapping[str, str]) -> Spec:
    """The spec with all of its texts filled in."""
    fields = _AGENT_TEXTS if isinstance(spec, AgentSpec) else _TASK_TEXTS
    changed: dict[str, Any] = {name: _map(getattr(spec, name), lambda text: fill(text, values)) for name in fields}
    if isinstance(spec, TaskSpec) and spec.stop_when is not None:
        changed["stop_when"] = spec.stop_when.model_copy(update={"says": fill(spec.stop_when.says, values)})
    return spec.model_copy(update=changed)


def _map(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: change(text) for key, text in value.items()}
    return tuple(change(text) for text in value) if value else value
