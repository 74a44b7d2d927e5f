"""What a run returns, built from its events."""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime, timezone
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from unified_agents.errors import BudgetExceededError, RunError, SpecError, failure_text
from unified_agents.events import Event, MessageSent, MessageUndelivered, ModelCalled, TaskStarted
from unified_agents.plan import Plan
from unified_agents.registry import Backend


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)


class UsageResult(_Result):
    """Requests, tokens and USD. None: not reported by the provider, or the price not known, for at least one answer."""

    model_calls: int = 0
    input_tokens: int | None = 0
    output_tokens: int | None = 0
    cost_usd: float | None = 0.0


class RunUsage(UsageResult):
    """The run's usage, and the same by agent and by model."""

    by_agent: dict[str, UsageResult] = Field(default_factory=dict)
    by_model: dict[str, UsageResult] = Field(default_factory=dict)


class ErrorResult(_Result):
    """Why a run or task failed: the error's name and what it says."""

    type: str
    message: str
    problems: list[Any] = Field(default_factory=list)
    task: str | None = None


class MessageResult(_Result):
    """One exchange between agents. `undelivered`: the readers of a direct message who never asked their model after it was sent."""

    sender: str
    recipient: str
    message_type: str
    content: str
    timestamp: datetime
    undelivered: list[str] = Field(default_factory=list)


class TaskResult(_Result):
    """How one task ended. `status`: completed, failed, cancelled, skipped (something before it failed) or pending (the run stopped)."""

    status: str
    agent: str
    backend: str
    models: list[str] = Field(default_factory=list)
    output: str | None = None
    structured: Any = None
    truncated: bool = False
    attempts: int = 0
    notes: list[str] = Field(default_factory=list)
    started_at: datetime | None = None
    duration_s: float | None = None
    usage: UsageResult = UsageResult()
    error: ErrorResult | None = None


class RunResult(_Result):
    """The outcome of a run; `str(result)` is its output."""

    run_id: str
    team: str
    backend: str
    framework_version: str | None
    status: str
    output: str | None
    structured: Any = None
    tasks: dict[str, TaskResult]
    messages: list[MessageResult] = Field(default_factory=list)
    usage: RunUsage
    duration_s: float
    resumed_from: str | None = None
    error: ErrorResult | None = None

    def __str__(self) -> str:
        return self.output or ""


def error_result(error: RunError | SpecError) -> ErrorResult:
    """A run's error as data."""
    return ErrorResult(**error.to_dict())


def usage_of(calls: list[ModelCalled]) -> UsageResult:
    """The sum of some calls: every attempt is a request; tokens and costs count where an answer came, and are None when one of those has none."""
    costs = _of_answers(calls, "cost_usd")
    return UsageResult(
        model_calls=len(calls),
        input_tokens=_sum(_of_answers(calls, "input_tokens")),
        output_tokens=_sum(_of_answers(calls, "output_tokens")),
        cost_usd=None if costs is None else math.fsum(costs),
    )


def _sum(counts: list[int] | None) -> int | None:
    return None if counts is None else sum(counts)


def _of_answers(calls: list[ModelCalled], kind: str) -> list[Any] | None:
    """A number of each answer; None when one is missing, or no call was answered."""
    numbers = [getattr(call, kind) for call in calls if call.error is None]
    return None if None in numbers or (calls and not numbers) else numbers


class ResultBuilder:
    """Gathers a run's events and outcomes, and makes the result of them."""

    def __init__(self, plan: Plan, backend: Backend, run_id: str) -> None:
        self._plan, self._first, self._run_id = plan, backend, run_id
        self.backend = backend.name
        """Where tasks run now."""
        self.resumed = False
        self._ran_on: dict[str, str] = {}
        self._calls: list[ModelCalled] = []
        self._messages: list[MessageSent] = []
        self._missed: dict[tuple[str, str, datetime], tuple[str, ...]] = {}
        self._attempts: Counter[str] = Counter()
        self._failures: dict[str, list[str]] = {}
        self.outcomes: dict[str, Any] = {}

    def end(self, outcome: Any) -> None:
        """Note how an agent fared with a task."""
        self.outcomes[outcome.task] = outcome
        self._ran_on[outcome.task] = self.backend

    def reassign(self, task: str) -> None:
        """A failed task goes to another agent: what came of it so far is a note."""
        before = self.outcomes.pop(task)
        self._failures.setdefault(task, []).extend([*before.notes, failure_text(before.agent, before.error)])

    def take(self, event: Event) -> None:
        """Note an event."""
        if isinstance(event, ModelCalled):
            self._calls.append(event)
        elif isinstance(event, TaskStarted):
            self._attempts[event.task] += 1
        elif isinstance(event, MessageSent):
            self._messages.append(event)
        elif isinstance(event, MessageUndelivered):
            self._missed[event.sender, event.recipient, event.timestamp] = event.missed

    def build(self, status: str, duration_s: float, error: RunError | SpecError | None) -> RunResult:
        """The result as things stand."""
        skipped = self.skipped
        tasks = {name: self._task(name, skipped) for name in self._plan.team.tasks}
        return RunResult(
            run_id=self._run_id, team=self._plan.team.name, backend=self._first.name, framework_version=self._first.framework_version, status=status,
            output=tasks[self._plan.final].output, structured=tasks[self._plan.final].structured, tasks=tasks,
            messages=[self._message(m) for m in self._messages],
            usage=self._usage(), duration_s=duration_s, resumed_from=self._run_id if self.resumed else None,
            error=error_result(error) if error else None,
        )  # fmt: skip

    @property
    def skipped(self) -> dict[str, str]:
        """Tasks that were not run because one before them failed, each with that one. What the budget did not cover is pending instead."""
        failed = [name for name, one in self.outcomes.items() if one.error is not None and not isinstance(one.error, BudgetExceededError)]
        return self._plan.downstream(failed)

    def _message(self, sent: MessageSent) -> MessageResult:
        missed = self._missed.get((sent.sender, sent.recipient, sent.timestamp), ())
        return MessageResult(**_fields(sent), undelivered=list(missed))

    def _usage(self) -> RunUsage:
        by_agent = {name: usage_of([c for c in self._calls if c.agent == name]) for name in dict.fromkeys(c.agent for c in self._calls)}
        by_model = {name: usage_of([c for c in self._calls if c.model == name]) for name in dict.fromkeys(c.model for c in self._calls)}
        return RunUsage(**usage_of(self._calls).model_dump(), by_agent=by_agent, by_model=by_model)

    def _task(self, name: str, downstream: dict[str, str]) -> TaskResult:
        agent = self._plan.step(name).who
        outcome = self.outcomes.get(name)
        if outcome is None:
            status = "skipped" if name in downstream else "pending"
            notes = [f"task {downstream[name]!r} failed"] if name in downstream else []
            return TaskResult(
                status=status, agent=agent, backend=self.backend, attempts=self._attempts[name], notes=[*self._failures.get(name, ()), *notes]
            )  # fmt: skip
        calls = [call for call in self._calls if call.task == name]
        cut = ["the answer was cut off at max_tokens"] if outcome.truncated else []
        return TaskResult(
            status=outcome.status,
            agent=outcome.agent,
            backend=self._ran_on[name],
            models=list(dict.fromkeys(call.model for call in calls if call.error is None)),
            output=outcome.output,
            structured=outcome.structured,
            truncated=outcome.truncated,
            attempts=self._attempts[name],
            started_at=outcome.started_at.astimezone(timezone.utc),
            duration_s=outcome.duration_s,
            usage=usage_of(calls),
            error=error_result(outcome.error) if outcome.error else None,
            notes=[*self._failures.get(name, ()), *outcome.notes, *cut],
        )


def _fields(message: MessageSent) -> dict[str, Any]:
    return {name: getattr(message, name) for name in ("sender", "recipient", "message_type", "content", "timestamp")}
