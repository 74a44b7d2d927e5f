"""Resuming: what earlier sessions of a run left, laid over its plan, so that only the remainder is run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from unified_agents import errors
from unified_agents.answers import structure
from unified_agents.errors import DelegationError, RunError, TaskError, ToolError, UnfinishedCallError, failure_text
from unified_agents.events import (
    BackendReplaced,
    Event,
    MessageUndelivered,
    ModelCalled,
    RunResumed,
    RunStarted,
    TaskCompleted,
    TaskFailed,
    TaskReassigned,
    TaskStarted,
    UsageAssumed,
)
from unified_agents.plan import Plan, Step
from unified_agents.pricing import PerMillion, Prices
from unified_agents.prompts import Earlier
from unified_agents.recorded import Recorded
from unified_agents.result import ResultBuilder
from unified_agents.spending import Spent
from unified_agents.walk import TaskOutcome

# A task that failed for one of these goes on where it was: it was not the conversation that was wrong.
_FROM_OUTSIDE = (
    errors.ModelError,
    errors.TaskError,
    errors.OutputFileError,
    errors.TaskTimeoutError,
    errors.BudgetExceededError,
    errors.RunCancelledError,
    errors.MemoryStoreError,
    errors.JournalError,
    errors.BackendError,
)


@dataclass(frozen=True)
class Before:
    """What the journal holds of a run that is resumed; empty for a run that begins."""

    events: Sequence[Event] = ()
    repeat_unfinished: bool = False
    finished: Mapping[str, str] = field(default_factory=dict)
    """Results of calls with side effects that nobody could know of, by their keys, as a person found them."""

    def __bool__(self) -> bool:
        return bool(self.events)

    @property
    def backend(self) -> str | None:
        """Where the run was when it stopped."""
        moved = [event for event in self.events if isinstance(event, (RunStarted, RunResumed, BackendReplaced))]
        last = moved[-1] if moved else None
        return last.replacement if isinstance(last, BackendReplaced) else last.backend if last else None

    @property
    def seconds(self) -> float:
        """How long the earlier sessions took, each from its start to its last event."""
        total, began, last = 0.0, None, None
        for event in self.events:
            if isinstance(event, (RunStarted, RunResumed)):
                total, began = total + _between(began, last), event.time
            last = event.time
        return total + _between(began, last)

    def spent(self, prices: Prices) -> Spent:
        """What the earlier sessions took of the budget; `prices` are for what had none then."""
        calls: list[ModelCalled | UsageAssumed] = []
        places: dict[tuple[str, str, int], int] = {}
        for event in self.events:
            if isinstance(event, ModelCalled):
                places[event.key, event.model, event.attempt] = len(calls)
                calls.append(event)
            elif isinstance(event, UsageAssumed) and (event.key, event.model, event.attempt) in places:
                calls[places[event.key, event.model, event.attempt]] = event
        tokens = sum((call.input_tokens or 0) + (call.output_tokens or 0) for call in calls)
        return Spent(len(calls), tokens, math.fsum(_cost(call, prices) for call in calls), self.seconds)


def _cost(call: ModelCalled | UsageAssumed, prices: Prices) -> float:
    own = prices.table.get(call.model)
    if call.cost_usd is not None or own is None:
        return call.cost_usd or 0.0
    return PerMillion(own.input_per_million, own.output_per_million).cost(call.input_tokens or 0, call.output_tokens or 0)


def _between(began: datetime | None, last: datetime | None) -> float:
    return (last - began).total_seconds() if began and last else 0.0


@dataclass
class _Restored:
    """The state of a run while its events are gone through."""

    plan: Plan
    builder: ResultBuilder
    steps: dict[str, Step] = field(default_factory=dict)
    attempts: Counter[str] = field(default_factory=Counter)
    started: dict[str, datetime | None] = field(default_factory=dict)
    afresh: set[str] = field(default_factory=set)


def restored(before: Before, plan: Plan, builder: ResultBuilder, recorded: Recorded) -> tuple[Plan, set[str]]:
    """The remainder of a plan, with everything that earlier sessions brought in the builder; and the tasks that begin afresh, unlike those that go on.

    Raises:
        UnfinishedCallError: a tool with side effects may or may not have done its work.
    """
    state = _Restored(plan, builder)
    for event in before.events:
        _take(state, event)
    for name, outcome in list(builder.outcomes.items()):
        if outcome.error is not None:
            builder.reassign(name)
            if not _from_outside(outcome.error):
                state.afresh.add(name)
                state.steps[name] = replace(plan.step(name), attempt=state.attempts[name] + 1)
    for key, result in before.finished.items():
        recorded.finish(key, result)
    if not before.repeat_unfinished:
        _check_unfinished(recorded, {step.name for step in plan.steps} - set(builder.outcomes))
    completed = {name: Earlier(name, one.speaker or one.agent, one.output) for name, one in builder.outcomes.items()}
    return plan.remainder(completed, state.steps), state.afresh


def _take(state: _Restored, event: Event) -> None:
    known = event.task in {step.name for step in state.plan.steps}
    if isinstance(event, (RunStarted, RunResumed)):
        state.builder.backend = event.backend
    elif isinstance(event, BackendReplaced):
        state.builder.backend = event.replacement
    elif isinstance(event, (TaskCompleted, TaskFailed)):
        if known:
            state.builder.end(_outcome(state, event))
    elif isinstance(event, TaskReassigned):
        if known:
            _hand_on(state, event)
    else:
        if isinstance(event, TaskStarted):
            state.attempts[event.task], state.started[event.task] = max(event.attempt, state.attempts[event.task]), event.time
            if known:
                _begin(state, event)
        if not isinstance(event, MessageUndelivered):  # it waits again
            state.builder.take(event)


def _begin(state: _Restored, event: TaskStarted) -> None:
    """A task that had failed was begun again, by a session that did not end it: where it went on, or afresh."""
    outcome = state.builder.outcomes.get(event.task)
    if outcome is not None and outcome.error is not None:
        state.builder.reassign(event.task)
    if event.attempt != state.steps.get(event.task, state.plan.step(event.task)).attempt:
        state.steps[event.task] = replace(state.plan.step(event.task), attempt=event.attempt)


def _outcome(state: _Restored, event: TaskCompleted | TaskFailed) -> TaskOutcome:
    began = state.started.get(event.task) or event.time
    assert began is not None
    common: dict[str, Any] = {"task": event.task, "agent": event.agent, "started_at": began, "duration_s": event.duration_s}
    if isinstance(event, TaskFailed):
        error = _error(event)
        status = "cancelled" if isinstance(error, errors.RunCancelledError) else "failed"
        return TaskOutcome(status=status, error=error, notes=event.notes, **common)
    task = state.plan.step(event.task).task
    made = structure(event.output, task.output_schema)[0] if task.output_schema is not None and not task.participants else None
    return TaskOutcome(
        status="completed", output=event.output, structured=made, truncated=event.truncated, notes=event.notes, speaker=event.speaker, **common
    )  # fmt: skip


def _error(event: TaskFailed) -> RunError:
    """The error that a task failed with, by its name and words."""
    made = _named_error(event.error)
    made.args, made.task = (event.message,), event.task
    made.__cause__ = _named_error(event.cause) if event.cause else None
    return made


def _named_error(name: str) -> RunError:
    kind = getattr(errors, name, TaskError)
    made: RunError = kind.__new__(kind) if isinstance(kind, type) and issubclass(kind, RunError) else TaskError.__new__(TaskError)
    return made


def _from_outside(error: BaseException) -> bool:
    """Whether a task failed for a reason outside of its conversation; a tool's or coworker's failure is judged by what lies behind it."""
    behind = error.__cause__ if isinstance(error, (DelegationError, ToolError)) else None
    return isinstance(behind or error, _FROM_OUTSIDE)


def _hand_on(state: _Restored, event: TaskReassigned) -> None:
    step = state.steps.get(event.task, state.plan.step(event.task))
    outcome = state.builder.outcomes.get(event.task)
    if outcome is None or event.agent not in state.plan.members:
        return
    state.builder.reassign(event.task)
    state.steps[event.task] = step.handed_on(state.plan.members[event.agent], failure_text(event.failed, outcome.error))


def _check_unfinished(recorded: Recorded, tasks: Collection[str]) -> None:
    calls = [call for call in recorded.unfinished if call.task in tasks]
    if calls:
        said = "\n".join(f"  {call.tool}({_shown(call.arguments)}) in task {call.task!r}, call {call.key}" for call in calls)
        raise UnfinishedCallError(
            f"when the run stopped, nobody could know whether this was done:\n{said}\nLook. If it was, say with which result: --finished "
            f"'{calls[0].key}=RESULT' (finished={{…}} in Python); if not: --repeat-unfinished (repeat_unfinished=True) does it again"
        )


def _shown(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())
