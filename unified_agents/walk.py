"""Where a framework meets the core: a Seam for each compiled team, and a Walk for each run over its plan."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from unified_agents import prompts
from unified_agents.chat_models import ChatModel, ChatRequest, ChatResponse
from unified_agents.conversation import Conversation
from unified_agents.engine import tamed
from unified_agents.errors import BackendError, RunCancelledError, RunError, TaskError
from unified_agents.events import Event, MessageSent, TaskCompleted, TaskFailed, TaskStarted
from unified_agents.middleware import CallNext, Middleware, chain
from unified_agents.plan import Plan, Step
from unified_agents.review import ReviewDesk
from unified_agents.spec import LimitsSpec
from unified_agents.tools import Tool

T = TypeVar("T")


@dataclass(frozen=True)
class TaskOutcome:
    """How a task ended: `status` is completed, failed or cancelled; `error` is the original error."""

    task: str
    agent: str
    status: str
    started_at: datetime
    duration_s: float
    output: str | None = None
    structured: Any = None
    truncated: bool = False
    notes: tuple[str, ...] = ()
    error: RunError | None = None


class Walk:
    """One run over a plan: which steps may start, and what came of each. One owner, no locks."""

    def __init__(self, seam: Seam) -> None:
        self._seam = seam
        self._outputs = {
            name: prompts.Earlier(name, seam.plan.team.tasks[name].agent or name, text) for name, text in seam.plan.given.items()
        }
        self._open: dict[str, Conversation | None] = {}
        self.outcomes: list[TaskOutcome] = []

    def ready(self) -> list[Step]:
        """The steps that may start now and were not returned before; none once the run is cancelled."""
        if self._seam.cancelled:
            return []
        steps = [s for s in self._seam.plan.steps if s.name not in self._open and all(w in self._outputs for w in s.waits)]
        self._open.update(dict.fromkeys(step.name for step in steps))
        return steps

    def open(self, step: Step) -> Conversation:
        """The conversation of a step that starts now."""
        earlier = [self._outputs[name] for name in step.context]
        conversation = Conversation(self._seam, step, step.agent, earlier)
        self._open[step.name] = conversation
        self._seam.emit(TaskStarted(task=step.name, agent=step.agent.name))
        for item in earlier:
            self._seam.emit(_handover(step, item, conversation.started_at))
        return conversation

    def finish(self, step: Step, error: BaseException | None = None) -> TaskOutcome:
        """What came of a step whose framework part has ended; `error` is what the framework itself raised, if anything.

        The conversation is the judge: the framework's own result is not read, so an answer means the same on every backend.

        Raises:
            BackendError: the framework ended without an answer and without a failed call.
        """
        conversation = self._open[step.name]
        if conversation is None or (conversation.answer is None and conversation.error is None and not self._seam.cancelled):
            said = f": {type(error).__name__}: {error}" if error else " without an answer of the model"
            raise BackendError(f"the framework ended task {step.name!r}{said}") from error
        outcome = _outcome(conversation, self._seam.cancelled)
        if outcome.output is not None:
            self._outputs[step.name] = prompts.Earlier(step.name, step.agent.name, outcome.output)
        self.outcomes.append(outcome)
        self._seam.emit(_event(outcome))
        return outcome

    @property
    def failure(self) -> RunError | None:
        """The first failed task's error."""
        return next((outcome.error for outcome in self.outcomes if outcome.error is not None), None)


def _handover(step: Step, item: prompts.Earlier, when: datetime) -> MessageSent:
    return MessageSent(
        task=step.name, sender=item.agent, recipient=step.agent.name, message_type="handover", content=item.output, timestamp=when
    )


def _outcome(conversation: Conversation, cancelled: bool) -> TaskOutcome:
    answer, accepted = conversation.answer, conversation.accepted
    error = None if answer else _run_error(conversation, cancelled)
    return TaskOutcome(
        task=conversation.step.name,
        agent=conversation.agent.name,
        status="completed" if answer is not None else "cancelled" if isinstance(error, RunCancelledError) else "failed",
        started_at=conversation.started_at,
        duration_s=conversation.duration_s,
        output=answer.text if answer else None,
        structured=accepted.structured if accepted else None,
        truncated=bool(answer and answer.truncated),
        notes=tuple(conversation.notes),
        error=error,
    )


def _run_error(conversation: Conversation, cancelled: bool) -> RunError:
    """The original error as one of ours, with the task's name."""
    original = conversation.error
    if isinstance(original, RunError):
        error = copy.copy(original)  # one exception object may be raised by two tasks; each has its own name and result
        error.__cause__, error.__traceback__ = original.__cause__, original.__traceback__
    elif cancelled or isinstance(original, asyncio.CancelledError):
        error = RunCancelledError("the run was cancelled")
    else:
        error = TaskError(f"{type(original).__name__}: {original}")
        error.__cause__ = original
    error.task = conversation.step.name
    return error


def _event(outcome: TaskOutcome) -> Event:
    if outcome.output is not None:
        return TaskCompleted(
            task=outcome.task, agent=outcome.agent, output=outcome.output, truncated=outcome.truncated, duration_s=outcome.duration_s
        )
    error = outcome.error
    return TaskFailed(task=outcome.task, agent=outcome.agent, error=type(error).__name__, message=str(error), duration_s=outcome.duration_s)


@dataclass
class Seam:
    """What a compiled team knows: its plan, what answers its model calls, its tools and checks. Every call of its walks passes here."""

    plan: Plan
    models: Mapping[str, ChatModel]
    layers: Sequence[Middleware] = ()
    emit: Callable[[Event], None] = lambda _event: None
    tools: Mapping[str, Sequence[Tool]] = field(default_factory=dict)  # by the agent's name
    guardrails: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)  # by the task's name
    review: ReviewDesk | None = None
    limits: LimitsSpec = field(default_factory=LimitsSpec)
    cancelled: bool = False
    _work: set[asyncio.Future[Any]] = field(default_factory=set)

    def start(self) -> Walk:
        """A new walk over the plan."""
        return Walk(self)

    async def guard(self, work: Awaitable[T]) -> T:
        """Do some work of a conversation, on the engine's loop, so that `cancel` ends it.

        Raises:
            RunCancelledError: the run was cancelled before.
        """
        if self.cancelled:
            if asyncio.iscoroutine(work):
                work.close()
            raise RunCancelledError("the run was cancelled")
        task = asyncio.ensure_future(tamed(work))
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        try:
            await asyncio.wait({task})  # not `await task`: a cancellation of ours and one that somebody's code raised must stay two things
        except asyncio.CancelledError:
            task.cancel()
            raise
        if task.cancelled():
            raise (
                RunCancelledError("the run was cancelled")
                if self.cancelled
                else TaskError("CancelledError was raised by a model, layer or check")
            )
        return task.result()

    async def call(self, request: ChatRequest) -> ChatResponse:
        """One model call through all layers.

        Raises:
            TypeError: a layer or model returned something else than a ChatResponse.
        """
        call: CallNext = chain(self.layers, self._answer)
        response = await call(request)
        if not isinstance(response, ChatResponse):
            raise TypeError(f"a layer or model returned {type(response).__name__}, expected a ChatResponse")
        return response

    async def _answer(self, request: ChatRequest) -> ChatResponse:
        return await self.models[request.model.alias](request)

    def cancel(self) -> None:
        """End everything under way and let nothing begin. Called on the engine's loop."""
        self.cancelled = True
        for task in list(self._work):
            task.cancel()
