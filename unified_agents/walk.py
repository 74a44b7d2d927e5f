"""Where a framework meets the core: a Seam for each compiled team, and a Walk for each run over its plan."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, TypeVar

from unified_agents import prompts
from unified_agents.chat_models import ChatModel, ChatRequest, ChatResponse, answer, monotonic
from unified_agents.chat_models.providers import without_secrets
from unified_agents.conversation import Brief, Conversation
from unified_agents.deadline import Deadline
from unified_agents.engine import begun, engine
from unified_agents.errors import BackendError, BudgetExceededError, DelegationError, RunCancelledError, RunError, TaskError
from unified_agents.events import Event, TaskCompleted, TaskFailed, TaskStarted
from unified_agents.group_chat import GroupChat
from unified_agents.memory.team import TeamMemory
from unified_agents.middleware import CallNext, Middleware, chain
from unified_agents.plan import Member, Plan, Seat, Step
from unified_agents.post import Post
from unified_agents.recorded import Recorded
from unified_agents.review import ReviewDesk
from unified_agents.spec import LimitsSpec
from unified_agents.spending import Spending
from unified_agents.tools import Tool
from unified_agents.tools.memory import uses_memory_tools
from unified_agents.tools.teamwork import Handle, teamwork_tools

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
    speaker: str = ""
    """Whose words the output are; the agent, or in a group chat the last speaker."""


class _Single:
    """A task of one agent: one conversation. As `GroupChat`, for all that a walk asks of it."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self._given = False

    async def next(self) -> Conversation | None:
        """The conversation, once."""
        given, self._given = self._given, True
        return None if given else self.conversation

    @property
    def ended(self) -> bool:
        return self.conversation.ended

    @property
    def text(self) -> str | None:
        return self.conversation.answer.text if self.conversation.answer else None

    @property
    def error(self) -> BaseException | None:
        return self.conversation.error

    @property
    def truncated(self) -> bool:
        return bool(self.conversation.answer and self.conversation.answer.truncated)

    @property
    def structured(self) -> Any:
        return self.conversation.accepted.structured if self.conversation.accepted else None

    @property
    def notes(self) -> list[str]:
        return self.conversation.notes

    @property
    def speaker(self) -> str:
        return self.conversation.agent.name


@dataclass
class _Work:
    """A step under way."""

    job: _Single | GroupChat
    started_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    started: float = field(default_factory=monotonic)


class Walk:
    """One run over a plan: which steps may start, and what came of each. One owner, no locks."""

    def __init__(self, seam: Seam) -> None:
        self._seam = seam
        self._outputs = dict(seam.plan.given)
        self._post = seam.post or Post(seam.plan.team.agents, seam.emit)
        self._open: dict[str, _Work | None] = {}
        self.outcomes: list[TaskOutcome] = []

    def ready(self) -> list[Step]:
        """The steps that may start now and were not returned before; none once the run is cancelled, or a task failed for its budget."""
        if self._seam.cancelled or any(isinstance(outcome.error, BudgetExceededError) for outcome in self.outcomes):
            return []
        steps = [s for s in self._seam.plan.steps if s.name not in self._open and all(w in self._outputs for w in s.waits)]
        self._open.update(dict.fromkeys(step.name for step in steps))
        return steps

    async def next_turn(self, step: Step) -> Conversation | None:
        """The next conversation of a step: that of its agent; in a group chat each speaker's in turn. None: `finish` it. On any loop."""
        return await engine().call(self._next_turn(step))

    def next_turn_blocking(self, step: Step) -> Conversation | None:
        """As `next_turn`, from a thread without a loop."""
        return engine().run(self._next_turn(step))

    async def _next_turn(self, step: Step) -> Conversation | None:
        work = self._open[step.name]
        if work is None:
            work = self._open[step.name] = self._begin(step)
        return await work.job.next()

    def _begin(self, step: Step) -> _Work:
        earlier = tuple(self._outputs[name] for name in step.context)
        self._seam.emit(TaskStarted(task=step.name, agent=step.who, attempt=step.attempt))
        self._post.begin(step.name)
        for item in earlier:
            for name in step.task.participants or (step.agent.name,):
                self._post.send(step.name, item.agent, name, item.output, "handover")
        brief = Brief(
            step, step.members[0], step.task, f"{step.name}.{step.attempt}", Deadline(step.task.timeout, self._seam.spending), self._post, earlier=earlier,
            failures=step.failures,
        )  # fmt: skip
        if step.task.participants:
            return _Work(GroupChat(self._seam, brief, self._seam.selectors.get(step.name)))
        coworkers = step.coworkers(brief.member)
        brief = replace(brief, key=f"{brief.key}/{step.agent.name}", coworkers=coworkers, delegate=step.delegate)
        return _Work(_Single(Conversation(self._seam, brief)))

    def finish(self, step: Step, error: BaseException | None = None) -> TaskOutcome:
        """What came of a step whose framework part has ended; `error` is what the framework itself raised, if anything.

        The conversation is the judge: the framework's own result is not read, so an answer means the same on every backend.

        Raises:
            BackendError: the framework ended without an answer and without a failed call.
        """
        work = self._open[step.name]
        if work is None or not (work.job.ended or self._seam.cancelled):
            said = f": {type(error).__name__}: {error}" if error else " without an answer of the model"
            raise BackendError(f"the framework ended task {step.name!r}{said}") from error
        outcome = _outcome(step, work, self._seam.cancelled)
        if outcome.output is not None:
            self._outputs[step.name] = prompts.Earlier(step.name, work.job.speaker, outcome.output)
        self.outcomes.append(outcome)
        self._seam.emit(_event(outcome))
        return outcome

    @property
    def failure(self) -> RunError | None:
        """The first failed task's error."""
        return next((outcome.error for outcome in self.outcomes if outcome.error is not None), None)


def _outcome(step: Step, work: _Work, cancelled: bool) -> TaskOutcome:
    job = work.job
    error = None if job.text is not None else _run_error(step.name, job.error, cancelled)
    return TaskOutcome(
        task=step.name,
        agent=step.who,
        status="completed" if error is None else "cancelled" if isinstance(error, RunCancelledError) else "failed",
        started_at=work.started_at,
        duration_s=monotonic() - work.started,
        output=job.text,
        structured=job.structured,
        truncated=job.truncated,
        notes=tuple(job.notes),
        error=error,
        speaker=job.speaker,
    )


def _run_error(task: str, original: BaseException | None, cancelled: bool) -> RunError:
    """The original error as one of ours, with the task's name."""
    if isinstance(original, RunError):
        # One exception object may be raised by two tasks; each has its own name and result. Not by its class, whose __init__ may ask for anything.
        error = type(original).__new__(type(original))
        error.args = original.args
        error.__dict__.update(original.__dict__)
        error.__cause__, error.__traceback__ = original.__cause__, original.__traceback__
    elif cancelled or isinstance(original, asyncio.CancelledError):
        error = RunCancelledError("the run was cancelled")
    else:
        error = TaskError(f"{type(original).__name__}: {original}")
        error.__cause__ = original
    error.task = task
    return error


def _event(outcome: TaskOutcome) -> Event:
    if outcome.output is not None:
        return TaskCompleted(
            task=outcome.task, agent=outcome.agent, output=outcome.output, truncated=outcome.truncated, duration_s=outcome.duration_s,
            speaker=outcome.speaker, notes=outcome.notes,
        )  # fmt: skip
    error = outcome.error
    return TaskFailed(
        task=outcome.task, agent=outcome.agent, error=type(error).__name__, message=str(error), duration_s=outcome.duration_s,
        notes=outcome.notes, cause=_cause(error),
    )  # fmt: skip


def _cause(error: BaseException | None) -> str:
    """The kind of what lies behind an error; of a delegation that failed, of what the last coworker failed with."""
    cause = error.__cause__ if error is not None else None
    while isinstance(cause, DelegationError):
        cause = cause.__cause__
    return type(cause).__name__ if cause is not None else ""


async def at_once() -> None:
    """Where there is no journal."""


@dataclass
class Seam:
    """What a compiled team knows: its plan, what answers its model calls, its tools and checks. Every call of its walks passes here."""

    plan: Plan
    models: Mapping[str, ChatModel]
    layers: Sequence[Middleware] = ()
    emit: Callable[[Event], None] = lambda _event: None
    tools: Mapping[str, Sequence[Tool]] = field(default_factory=dict)  # by the agent's name
    guardrails: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)  # by the task's name
    selectors: Mapping[str, Callable[..., Any]] = field(default_factory=dict)  # by the group chat's name
    review: ReviewDesk | None = None
    post: Post | None = None  # of a run with several walks; else each walk has its own
    memory: TeamMemory | None = None
    recorded: Recorded = field(default_factory=Recorded)  # by earlier sessions of the run
    written: Callable[[], Awaitable[None]] = at_once  # returns when all that was emitted is in the journal
    scope: Callable[[str], AbstractContextManager[Any]] = nullcontext  # the work on a task, conversation or tool call, by its key
    limits: LimitsSpec = field(default_factory=LimitsSpec)
    spending: Spending = field(default_factory=Spending)  # of a run with several walks, and of all that runs of a compiled team cost
    cancelled: bool = False
    _work: set[asyncio.Future[Any]] = field(default_factory=set)

    def hide(self, text: str) -> str:
        """A tool's result without the keys of the plan's models."""
        return without_secrets(text, (model for member in self.plan.members.values() for model in member.models))

    def offered(self, member: Member, coworkers: Sequence[str], handle: Handle | None = None) -> tuple[Tool, ...]:
        """The tools of an agent: its own, then those to work with others (`handle` does what they are called for), then those of memory."""
        people = [self.plan.members[name].agent for name in coworkers]
        recipients = [name for name in self.plan.team.agents if name != member.name] if member.agent.messaging else []
        together = teamwork_tools(people, recipients, handle) if handle else teamwork_tools(people, recipients)
        noting = self.memory.tools(member.name) if self.memory and uses_memory_tools(self.plan.team, member.name) else ()
        return (*self.tools.get(member.name, ()), *together, *noting)

    def tools_of(self, seat: Seat) -> tuple[Tool, ...]:
        """The tools that a seat's agent will be offered, before its conversation begins: for a framework's native ones, which only forward."""
        return self.offered(seat.member, seat.step.coworkers(seat.member))

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
        task = begun(work)
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
        return await answer(self.models, request)

    def cancel(self) -> None:
        """End everything under way and let nothing begin. Called on the engine's loop."""
        self.cancelled = True
        for task in list(self._work):
            task.cancel()
