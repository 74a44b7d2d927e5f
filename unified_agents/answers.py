"""What counts as an answer: a JSON Schema or pydantic class, a guardrail, a person's approval, and the file it goes to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from unified_agents.engine import called
from unified_agents.errors import GuardrailError, InvalidAnswerError, OutputFileError, ReviewRejectedError, RunError, TaskError
from unified_agents.files import write_whole
from unified_agents.review import Ask, Review
from unified_agents.spec import TaskSpec
from unified_agents.tools.desk import schema_fault

SCHEMA_REPAIRS = 1
_FENCE = re.compile(r"\s*```[a-zA-Z]*\n(.*?)\n?```\s*", re.DOTALL)


@dataclass(frozen=True)
class Accepted:
    """An answer that passed: its text (edited or replaced, perhaps) and what it holds as structure."""

    text: str
    structured: Any = None


@dataclass(frozen=True)
class Fault:
    """Why an answer is asked for again; `error` is what the task fails with when that is no longer allowed."""

    said: str
    error: RunError
    again: bool


class AnswerDesk:
    """Looks at the answers of one conversation, and counts how often each check may ask again."""

    def __init__(self, task: TaskSpec, agent: str, ask: Ask | None, guardrail: Callable[[str], Any] | None) -> None:
        self._task, self._agent, self._reviewer, self._guardrail = task, agent, ask, guardrail
        self._repairs = SCHEMA_REPAIRS
        self._guard_retries = 1 if task.guardrail_retries is None else task.guardrail_retries

    async def look(self, text: str) -> Accepted | Fault:
        """The answer as accepted, or its first fault: schema, then guardrail, then the reviewer.

        Raises:
            TaskError: the guardrail or the reviewer itself failed.
        """
        looked = self._structure(text)
        if isinstance(looked, Accepted) and self._guardrail is not None:
            looked = await self._guarded(looked, self._guardrail)
        if isinstance(looked, Accepted) and self._task.human_review:
            looked = await self._reviewed(looked)
        return looked

    def _structure(self, text: str) -> Accepted | Fault:
        if self._task.output_schema is None:
            return Accepted(text)
        structured, fault = structure(text, self._task.output_schema)
        if fault is None:
            return Accepted(text, structured)
        self._repairs -= 1
        said = f"it does not match the JSON Schema: {fault}\nThe schema: {schema_text(self._task.output_schema)}"
        return Fault(said, InvalidAnswerError(f"the answer does not match output_schema: {fault}"), again=self._repairs >= 0)

    async def _guarded(self, answer: Accepted, guardrail: Callable[[str], Any]) -> Accepted | Fault:
        try:
            said = await called(guardrail, answer.text, thread="unified-agents-guardrail")
            fault, replaced = _verdict(said)
        except Exception as error:
            raise TaskError(f"the guardrail failed: {type(error).__name__}: {error}") from error
        if fault is None:
            return answer if replaced is None else self._structure(replaced)
        self._guard_retries -= 1
        return Fault(fault, GuardrailError(f"the guardrail rejects the answer: {fault}"), again=self._guard_retries >= 0)

    async def _reviewed(self, answer: Accepted) -> Accepted | Fault:
        assert self._reviewer is not None
        try:
            decision = await self._reviewer(Review("answer", self._task.name, self._agent, answer.text))
        except Exception as error:
            raise TaskError(f"the reviewer failed: {type(error).__name__}: {error}") from error
        if not decision.approved:
            comment = decision.comment or "no reason was given"
            return Fault(
                f"the reviewer rejects it: {comment}", ReviewRejectedError(f"the reviewer rejected the answer: {comment}"), again=True
            )
        return answer if decision.content is None else self._structure(decision.content.strip())


def _verdict(said: Any) -> tuple[str | None, str | None]:
    """A guardrail's fault and its replacement text: None or True is fine, a text is the fault, (bool, value) as in CrewAI."""
    if said is None or said is True:
        return None, None
    if isinstance(said, str):
        return said, None
    if isinstance(said, tuple) and len(said) == 2 and isinstance(said[0], bool):
        fine, value = said
        return (None, value if isinstance(value, str) else None) if fine else (str(value), None)
    raise TypeError(f"a guardrail returns None, True, the fault as text, or (bool, value); this one returned {said!r}")


def structure(text: str, schema: Any) -> tuple[Any, str | None]:
    """What a JSON text holds (an instance when `schema` is a pydantic class), and where it breaks the schema. A code fence is taken off."""
    match = _FENCE.fullmatch(text)
    try:
        value = json.loads(match.group(1) if match else text)
    except (ValueError, RecursionError) as error:
        return None, f"it is no JSON: {error}"
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return _instance(value, schema)
    return value, schema_fault(value, schema)


def _instance(value: Any, schema: type[BaseModel]) -> tuple[Any, str | None]:
    try:
        return schema.model_validate_json(json.dumps(value)), None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return None, f"{where}: {first['msg']}" if where else first["msg"]


def json_schema(schema: Any) -> Mapping[str, Any]:
    """A task's output_schema as JSON Schema."""
    made: Mapping[str, Any] = schema.model_json_schema() if isinstance(schema, type) and issubclass(schema, BaseModel) else schema
    return made


def schema_text(schema: Any) -> str:
    """The schema as a prompt shows it."""
    return json.dumps(json_schema(schema), ensure_ascii=False, sort_keys=True)


def response_format(task: TaskSpec) -> dict[str, Any] | None:
    """What asks the model for the task's schema on the wire."""
    if task.output_schema is None:
        return None
    schema = json_schema(task.output_schema)
    name = re.sub(r"[^a-zA-Z0-9_-]+", "_", task.name)[:64] or "answer"
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": _is_closed(schema)}}


def _is_closed(schema: Any) -> bool:
    """Whether every object in it is closed and requires all its fields, as providers' strict mode demands."""
    if isinstance(schema, list):
        return all(_is_closed(item) for item in schema)
    if not isinstance(schema, Mapping):
        return True
    fields = schema.get("properties")
    is_object = schema.get("type") == "object" or fields is not None
    if is_object and (schema.get("additionalProperties") is not False or set(schema.get("required", ())) != set(fields or ())):
        return False
    return all(_is_closed(value) for value in schema.values())


def write_output(path: str, text: str, folder: Path) -> None:
    """Write a task's output, whole or not at all, inside `folder`.

    Raises:
        OutputFileError: outside it (through a link), or it cannot be written.
    """
    target = folder / path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink() or not target.parent.resolve().is_relative_to(folder.resolve()):
            raise OutputFileError(f"output_file {path!r} leads outside the working folder, through a link")
        write_whole(target, text)
        target.chmod(0o644)
    except OSError as error:
        raise OutputFileError(f"output_file {path!r} cannot be written: {error.strerror or error}") from error
