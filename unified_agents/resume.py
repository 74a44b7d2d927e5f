"""Resuming: what earlier sessions of a run left, laid over its plan, so that only the remainder is run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from unified_agents import errors
from unified_agents.answers import json_schema, structure
from unified_agents.errors import DelegationError, Problem, RunError, SpecError, TaskError, ToolError, UnfinishedCallError, failure_text
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
)
from unified_agents.journal import RunRecord
from unified_agents.plan import Plan, Step
from unified_agents.preparation import Options, Prepared
from unified_agents.prompts import Earlier
from unified_agents.recorded import Recorded, digest
from unified_agents.result import ResultBuilder
from unified_agents.spending import Spent
from unified_agents.texts import as_text
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

    @property
    def spent(self) -> Spent:
        """What the earlier sessions took of the budget."""
        calls = [event for event in self.events if isinstance(event, ModelCalled)]
        tokens = sum((call.input_tokens or 0) + (call.output_tokens or 0) for call in calls)
        return Spent(len(calls), tokens, sum(call.cost_usd or 0.0 for call in calls), self.seconds)


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
    if not before.repeat_unfinished:
        _check_unfinished(recorded, {step.name for step in plan.steps} - set(builder.outcomes))
    completed = {name: Earlier(name, one.speaker or one.agent, one.output) for name, one in builder.outcomes.items()}
    return plan.remainder(completed, state.steps), state.afresh


def _take(state: _Restored, event: Event) -> None:
    known = getattr(event, "task", None) in {step.name for step in state.plan.steps}
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
        said = "; ".join(
            f"{call.tool}({', '.join(f'{k}={v!r}' for k, v in call.arguments.items())}) in task {call.task!r}" for call in calls
        )
        raise UnfinishedCallError(
            f"when the run stopped, nobody could know whether this was done: {said}. Look, then resume with --repeat-unfinished to do it again"
        )


def definitions(plan: Plan) -> dict[str, str]:
    """A digest of each task as it would run: its own fields and those of whoever works on it."""
    return {step.name: digest([_plain(step.task), *(_plain(member.agent) for member in step.members)]) for step in plan.steps}


def _plain(spec: Any) -> dict[str, Any]:
    values = {name: getattr(spec, name) for name in type(spec).model_fields if name in spec.model_fields_set}
    return {name: _named(value) for name, value in values.items()}


def _named(value: Any) -> Any:
    """A value so that two sessions write it alike: code by its name."""
    if isinstance(value, (tuple, list)):
        return [_named(item) for item in value]
    if isinstance(value, type) and hasattr(value, "model_json_schema"):
        return json_schema(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if callable(value) or not isinstance(value, (str, int, float, bool, Mapping, type(None))):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', getattr(value, 'name', type(value).__name__))}"
    return value


_SECRET = re.compile(r"(?i)(^|[^a-z])(api_?key|keys?|tokens?|secrets?|passwords?|authorization|(extra_)?headers|env)([^a-z]|$)")
_NO_SECRET = re.compile(r"(?i)(max_tokens|tokens_per_minute|token_window|token_window\.\w+|budget\.tokens|recall\.tokens)$")


def _is_secret(path: str, value: str) -> bool:
    """Whether a setting may hold a secret: by its path, or by what its value names."""
    return bool(_SECRET.search(path) and not _NO_SECRET.search(path)) or ("{" in value and bool(_SECRET.search(value)))


def definition(prepared: Prepared) -> dict[str, Any]:
    """What a run is made of, as the journal keeps it to resume it: no secrets, which must be given again."""
    options, source = prepared.options, prepared.plan.team._source
    secret = [path for path, value in options.settings.items() if _is_secret(path, value)]
    return {
        "source": str(Path(source).absolute()) if source else None,
        "inputs": {name: as_text(value) for name, value in (options.inputs or {}).items() if value is not None},
        "settings": {path: value for path, value in options.settings.items() if path not in secret},
        "withheld": secret,
        "allow_imports": list(options.allow_imports),
        "tasks": definitions(prepared.plan),
    }


def recalled_options(options: Options, record: RunRecord) -> Options:
    """What was said when the run began, and what is said now.

    Raises:
        SpecError: a secret that was given then is not given now.
    """
    made = record.definition
    lacking = [path for path in made["withheld"] if path not in options.settings]
    if lacking:
        raise SpecError(
            [Problem(path, f"was given with --set when the run began and is not stored: give it again: --set {path}=…") for path in lacking]
        )
    return replace(
        options,
        inputs=made["inputs"],
        settings={**made["settings"], **options.settings},
        allow_imports=[*made["allow_imports"], *options.allow_imports],
    )


def source_of(record: RunRecord) -> str:
    """The file of a run's team.

    Raises:
        SpecError: there is none, or it is gone.
    """
    source = record.definition["source"]
    if source is None:
        raise SpecError([Problem("", f"the team of run {record.run_id!r} was built in Python: resume_run({record.run_id!r}, team=…)")])
    if not Path(source).is_file():
        raise SpecError(
            [Problem("", f"the team file of run {record.run_id!r} is not there any more: {source}; say where it is: --file FILE")]
        )
    return str(source)


def check_changes(before: Mapping[str, str], plan: Plan) -> None:
    """Compare the tasks of a run with those of a plan.

    Raises:
        SpecError: they are not the same.
    """
    now = definitions(plan)
    said = {
        **{name: "is not in the team any more" for name in before if name not in now},
        **{name: "was not in the team" for name in now if name not in before},
        **{name: "is not what it was" for name in now if name in before and now[name] != before[name]},
    }
    if said:
        hint = "when the run began: resume with --accept-changes to go on with the team as it is now; what was completed keeps its output"
        raise SpecError([Problem(f"tasks.{name}", f"{what} {hint}") for name, what in said.items()])
