"""The tool calls of one conversation: checked before they reach the tool, bounded, and answered in the order they were asked."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import jsonschema
import referencing.jsonschema

from unified_agents.chat_models import Message, ToolCall, monotonic
from unified_agents.engine import begun, within
from unified_agents.errors import LimitExceededError, RunError, ToolError
from unified_agents.events import Event, ToolCalled, ToolStarted
from unified_agents.recorded import confirmation_key, tool_keys
from unified_agents.review import Decision, Review
from unified_agents.spec import LimitsSpec
from unified_agents.tools import TaskStopped, Tool, ToolRefused, ToolUnavailableError, as_text

IDENTICAL_CALLS = 4
STOPPED = "The task was stopped."


@dataclass
class _Call:
    """One call of the model, and what it was answered."""

    call: ToolCall
    arguments: Mapping[str, Any]
    tool: Tool | None
    result: str | None = None
    running: asyncio.Future[str] | None = None
    key: str = ""


@dataclass
class Tally:
    """What is counted over all conversations of a task: those of its agent, of coworkers, of a group chat's participants."""

    tool_calls: int = 0


AskAbout = Callable[[Review, str], Awaitable[Decision]]
"""Asks the reviewer; the text is the question's name in the run's record."""


async def _at_once() -> None:
    """Where nothing is written down."""


@dataclass(frozen=True)
class Record:
    """What a desk asks of its run: a call's known result, to wait until what was said is written down, what a tool runs within, and its result without keys."""

    known: Callable[[str, str, str], ToolCalled | None] = lambda _task, _agent, _key: None
    written: Callable[[], Awaitable[None]] = _at_once
    scope: Callable[[str], AbstractContextManager[Any]] = nullcontext
    hide: Callable[[str], str] = str


class ToolDesk:
    """Takes a model's tool calls, runs them when the framework asks for them, and keeps the limits."""

    def __init__(
        self, tools: Sequence[Tool], limits: LimitsSpec, tally: Tally, ask: AskAbout | None, emit: Callable[[Event], None], task: str, agent: str,
        key: str = "", record: Record | None = None,
    ) -> None:  # fmt: skip
        self.tools = {tool.name: tool for tool in tools}
        self.notes: list[str] = []
        self.failure: RunError | None = None
        self._limits, self._tally, self._reviewer, self._emit, self._task, self._agent = limits, tally, ask, emit, task, agent
        self._key, self._record = key, record or Record()
        self._calls: dict[str, _Call] = {}
        self._errors = self._ids = 0
        self._seen: Counter[tuple[str, str, str]] = Counter()

    def accept(self, calls: Sequence[ToolCall], turn: int = 0) -> list[ToolCall]:
        """Take the calls of one turn's answer, wrong ones answered with their fault; those that a framework should run, with ids of their own."""
        self._calls = {}
        for call in calls:
            self._ids += 1
            unique = call.id if call.id and call.id not in self._calls else f"call_{self._ids}"
            taken = self._checked(replace(call, id=unique))
            self._calls[unique] = taken
        for taken, key in zip(
            self._calls.values(), tool_keys(self._key, turn, ((c.call.name, c.arguments) for c in self._calls.values())), strict=True
        ):
            taken.key = key
        return [call.call for call in self._calls.values() if call.result is None]

    def _checked(self, call: ToolCall) -> _Call:
        tool = self.tools.get(call.name)
        if tool is None:
            return self._wrong(call, f"there is no tool {call.name!r}; your tools: {', '.join(self.tools) or 'none'}")
        try:
            arguments = json.loads(call.arguments or "{}")
        except (ValueError, RecursionError) as error:
            return self._wrong(call, f"the arguments of {call.name} are no JSON: {error}")
        if not isinstance(arguments, dict):
            return self._wrong(call, f"the arguments of {call.name} must be a JSON object, found {type(arguments).__name__}")
        fault = schema_fault(arguments, tool.parameters, strict=False)  # where it cannot be applied, the tool itself looks at its arguments
        return self._wrong(call, f"the arguments of {call.name} are wrong: {fault}") if fault else _Call(call, arguments, tool)

    def _wrong(self, call: ToolCall, fault: str) -> _Call:
        self._emit(ToolCalled(task=self._task, agent=self._agent, tool=call.name, duration_s=0.0, error="WrongToolCall"))
        return _Call(call, {}, None, result=self._error(fault))

    def _error(self, fault: str) -> str:
        self._errors += 1
        if self._errors > self._limits.tool_errors:
            self._stop(ToolError(f"{self._errors} tool errors, limits.tool_errors is {self._limits.tool_errors}; the last: {fault[:500]}"))
        return f"Error: {fault}"

    def _stop(self, error: RunError) -> None:
        self.failure = self.failure or error

    async def run(self, call_id: str) -> str:
        """The result of a call, run once however often it is asked for; never raises. Awaited on the engine's loop."""
        taken = self._calls.get(call_id)
        if taken is None or self.failure is not None:
            return STOPPED
        if taken.result is None:
            if taken.running is None:
                taken.running = begun(self._run(taken))
            taken.result = await asyncio.shield(taken.running)
        return taken.result

    def cancel(self) -> None:
        """End the calls under way: the conversation is over. A sync tool's thread is left to itself."""
        for taken in self._calls.values():
            if taken.running is not None:
                taken.running.cancel()

    async def results(self) -> list[Message]:
        """The answers to all calls of the last accept, in its order; calls that the framework left out are run now.

        Raises:
            RunError: a limit was reached.
        """
        await asyncio.gather(*(self.run(call_id) for call_id in self._calls))
        if self.failure is not None:
            raise self.failure
        return [{"role": "tool", "tool_call_id": call_id, "content": call.result} for call_id, call in self._calls.items()]

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The calls of the last accept as they stand in an assistant message."""
        return [
            {"id": call_id, "type": "function", "function": {"name": taken.call.name, "arguments": taken.call.arguments}}
            for call_id, taken in self._calls.items()
        ]

    async def _run(self, taken: _Call) -> str:
        assert taken.tool is not None
        self._tally.tool_calls += 1
        if self._tally.tool_calls > self._limits.tool_calls:
            self._stop(LimitExceededError(f"more than {self._limits.tool_calls} tool calls in one task (limits.tool_calls)"))
            return STOPPED
        known = self._record.known(self._task, self._agent, taken.key) if taken.tool.recorded else None
        if known is not None:
            return self._again(taken, known)
        if taken.tool.requires_confirmation and (refusal := await self._refused(taken)):
            return refusal
        if not await self._begin(taken.tool, taken):
            return STOPPED
        started = monotonic()
        with self._record.scope(taken.key):
            result, kind = await self._result(taken.tool, taken.arguments)
        self._emit(
            ToolCalled(
                task=self._task, agent=self._agent, tool=taken.tool.name, duration_s=monotonic() - started, error=kind, key=taken.key,
                result=None if result is STOPPED else result,
            )
        )  # fmt: skip
        self._count(taken, result)
        return result

    async def _begin(self, tool: Tool, taken: _Call) -> bool:
        """Say that a call begins; one with side effects waits until that is written down. Whether it may."""
        self._emit(
            ToolStarted(
                task=self._task, agent=self._agent, tool=tool.name, key=taken.key, arguments=taken.arguments, side_effects=tool.side_effects,
                call_id=taken.call.id,
            )
        )  # fmt: skip
        if tool.side_effects:
            try:
                await self._record.written()
            except RunError as error:
                self._stop(error)
                return False
        return True

    def _again(self, taken: _Call, known: ToolCalled) -> str:
        """A recorded result, counted as it was when it was new."""
        assert known.result is not None
        if known.error is not None:
            self._error(known.result.removeprefix("Error: "))
        self._count(taken, known.result)
        return known.result

    async def _refused(self, taken: _Call) -> str | None:
        """Why the reviewer lets the call not happen, None when it may."""
        assert self._reviewer is not None
        review = Review("tool", self._task, self._agent, taken.call.arguments, tool=taken.call.name, arguments=taken.arguments)
        try:
            decision = await self._reviewer(review, confirmation_key(taken.key))
        except Exception as error:  # noqa: BLE001  # a reviewer that fails has not agreed
            self._stop(_caused(ToolError(f"the reviewer failed: {type(error).__name__}: {error}"), error))
            return STOPPED
        if decision.approved:
            return None
        return f"The reviewer refused this call{f': {decision.comment}' if decision.comment else '.'}"

    async def _result(self, tool: Tool, arguments: Mapping[str, Any]) -> tuple[str, str | None]:
        """The tool's result as text, and the kind of its error."""
        late = TimeoutError(f"{tool.name} did not return within {tool.timeout:g} s" if tool.timeout else "")
        try:
            return self._cut(self._record.hide(as_text(await within(tool.run(arguments), tool.timeout, late)))), None
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) is not None and getattr(task, "cancelling", lambda: 0)():
                raise
            return self._error(f"{tool.name} failed: {type(error).__name__}"), "CancelledError"
        except ToolRefused as error:
            return self._error(str(error)), "WrongToolCall"
        except TaskStopped as error:
            self._stop(error.error)
            return STOPPED, type(error.error).__name__
        except ToolUnavailableError as error:
            self._stop(_caused(ToolError(str(error)), error))
            return STOPPED, "ToolUnavailable"
        except Exception as error:  # noqa: BLE001  # whatever a tool raises is told to the model
            if error is late:
                self.notes.append(f"tool {tool.name!r} did not return within {tool.timeout:g} s and was abandoned")
                return self._error(str(error)), "Timeout"
            return self._error(self._cut(self._record.hide(f"{tool.name} failed: {type(error).__name__}: {error}"))), type(error).__name__

    def _cut(self, text: str) -> str:
        """At most `limits.output_bytes` of a result: its beginning and end, with a mark between."""
        data, limit = text.encode("utf-8", "replace"), self._limits.output_bytes
        if len(data) <= limit:
            return data.decode()
        head, tail = data[: limit // 2], data[len(data) - limit // 2 :]
        return f"{head.decode('utf-8', 'ignore')}\n[… {len(data) - limit:,} bytes left out …]\n{tail.decode('utf-8', 'ignore')}"

    def _count(self, taken: _Call, result: str) -> None:
        """The same call with the same result, again and again, leads nowhere."""
        key = (taken.call.name, json.dumps(taken.arguments, sort_keys=True), result)
        self._seen[key] += 1
        if self._seen[key] >= IDENTICAL_CALLS:
            self._stop(ToolError(f"{taken.call.name} was called {IDENTICAL_CALLS} times with the same arguments and the same result"))


def _caused(error: RunError, cause: BaseException) -> RunError:
    error.__cause__ = cause
    return error


_NOTHING_FETCHED = referencing.jsonschema.EMPTY_REGISTRY  # else a `$ref` to a URL would be read from the network


def schema_fault(value: Any, schema: Mapping[str, Any], strict: bool = True) -> str | None:
    """Where and how `value` breaks a JSON Schema, None when it does not; one that cannot be applied breaks everything, or nothing."""
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        error = jsonschema.exceptions.best_match(kind(schema, registry=_NOTHING_FETCHED).iter_errors(value))
    except Exception as broken:  # noqa: BLE001  # a schema of somebody else's: a reference that leads nowhere, a pattern of another language
        return f"their JSON Schema cannot be applied: {type(broken).__name__}: {str(broken)[:300]}" if strict else None
    if error is None:
        return None
    where = error.json_path.removeprefix("$").removeprefix(".")
    return f"{where}: {error.message[:500]}" if where else error.message[:500]
