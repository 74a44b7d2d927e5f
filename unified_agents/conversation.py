"""What the wire carries: one Conversation per task attempt and agent, and the Walk over a plan that opens them.

A framework hands over its messages and takes back an answer; everything between is decided here, once for all backends. No original
error crosses a framework: it is kept on the conversation, the framework meets a blank `ConversationStopped`, the runtime raises the original.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

from unified_agents import prompts
from unified_agents.chat_models import ChatModel, ChatRequest, ChatResponse, Message, monotonic
from unified_agents.engine import engine
from unified_agents.errors import BackendError, EmptyAnswerError, RunCancelledError, RunError, TaskError
from unified_agents.events import Event, MessageSent, TaskCompleted, TaskFailed, TaskStarted
from unified_agents.middleware import CallNext, Middleware, chain
from unified_agents.plan import Plan, Step
from unified_agents.spec import AgentSpec


class ConversationStopped(Exception):  # noqa: N818  # it is no error of its own: it stands in for one
    """What a framework meets in place of the original error. Blank on purpose: frameworks read meaning into messages and causes."""

    def __init__(self) -> None:
        super().__init__("stopped")


@dataclass(frozen=True)
class TaskOutcome:
    """How a task ended: `status` is completed, failed or cancelled; `error` is the original error."""

    task: str
    agent: str
    status: str
    started_at: datetime
    duration_s: float
    output: str | None = None
    truncated: bool = False
    error: RunError | None = None


class Conversation:
    """One agent at work on one task: what the model is shown, and what counts as its answer."""

    def __init__(self, seam: Seam, step: Step, agent: AgentSpec, earlier: Sequence[prompts.Earlier]) -> None:
        self.step = step
        self.agent = agent
        self.key = f"{step.name}.1/{agent.name}"
        self.answer: ChatResponse | None = None
        self.error: BaseException | None = None
        self.started_at = datetime.now(timezone.utc)
        self._started = monotonic()
        self._seam = seam
        self._earlier = tuple(earlier)
        self._turn = 0

    @property
    def system_text(self) -> str:
        """The agent in our words, for frameworks that have none of their own."""
        return prompts.system_text(self.agent)

    @property
    def task_text(self) -> str:
        """The task in our words, with exactly the outputs that it may see."""
        return prompts.task_text(self.step.task, self._earlier)

    @property
    def context_text(self) -> str:
        """The outputs alone, for frameworks that word the task themselves."""
        return prompts.context_text(self._earlier)

    @property
    def duration_s(self) -> float:
        """Seconds since the task was given to the agent."""
        return monotonic() - self._started

    async def chat(self, messages: Sequence[Message]) -> ChatResponse:
        """The model's answer to the framework's messages. May be awaited on any loop.

        Raises:
            ConversationStopped: the call failed, or the run was cancelled; the original error is in `error`.
        """
        return await engine().call(self._chat(messages))

    def chat_blocking(self, messages: Sequence[Message]) -> ChatResponse:
        """As `chat`, from a thread without a loop."""
        return engine().run(self._chat(messages))

    async def _chat(self, messages: Sequence[Message]) -> ChatResponse:
        if self.answer is not None:
            return self.answer  # a framework that asks again after the answer gets it again, without a request
        response = await self._ask(self._opening(messages)) if self.error is None else None
        if response is None:
            raise ConversationStopped  # outside of any `except`: nothing may hang on it as a cause or context
        self.answer = response
        return response

    def _opening(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The framework's own messages, or ours where the team asks for neutral prompts."""
        if self._seam.plan.team.prompts == "native":
            return messages
        system = [{"role": "system", "content": self.system_text}] if self.system_text else []
        return [*system, {"role": "user", "content": self.task_text}]

    async def _ask(self, messages: Sequence[Message]) -> ChatResponse | None:
        """The answer, or None when it failed and `error` is set."""
        self._turn += 1
        request = ChatRequest(
            model=self.step.model, messages=messages, task=self.step.name, agent=self.agent.name, conversation=self.key, turn=self._turn
        )
        try:
            response = await self._seam.call(request)
            if not response.text:
                raise EmptyAnswerError(f"{response.model} answered with no text", model=response.model)
        except asyncio.CancelledError as error:
            self.error = error
            if not self._seam.cancelled:
                raise
            return None
        except Exception as error:  # noqa: BLE001  # whatever a layer or model raises belongs to this task
            self.error = error
            return None
        return response


class Walk:
    """One run over a plan: which steps may start, and what came of each. One owner, no locks."""

    def __init__(self, seam: Seam) -> None:
        self._seam = seam
        self._outputs: dict[str, prompts.Earlier] = {
            name: prompts.Earlier(name, _agent_of(seam.plan, name), text) for name, text in seam.plan.given.items()
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
            said = f": {type(error).__name__}: {error}" if error else " without asking the model"
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
    )  # fmt: skip


def _agent_of(plan: Plan, task: str) -> str:
    return plan.team.tasks[task].agent or task


def _outcome(conversation: Conversation, cancelled: bool) -> TaskOutcome:
    step, answer = conversation.step, conversation.answer
    status = "completed" if answer is not None else "cancelled" if cancelled else "failed"
    return TaskOutcome(
        task=step.name, agent=conversation.agent.name, status=status, started_at=conversation.started_at, duration_s=conversation.duration_s,
        output=answer.text if answer else None, truncated=bool(answer and answer.truncated), error=None if answer else _run_error(conversation, cancelled),
    )  # fmt: skip


def _run_error(conversation: Conversation, cancelled: bool) -> RunError:
    """The original error as one of ours, with the task's name."""
    original = conversation.error
    if isinstance(original, RunError):
        error = original
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
    """Where a framework meets the core: it starts walks, and every model call of theirs passes here."""

    plan: Plan
    models: Mapping[str, ChatModel]
    layers: Sequence[Middleware] = ()
    emit: Callable[[Event], None] = lambda _event: None
    cancelled: bool = False
    _calls: set[asyncio.Task[ChatResponse]] = field(default_factory=set)

    def start(self) -> Walk:
        """A new walk over the plan."""
        return Walk(self)

    async def call(self, request: ChatRequest) -> ChatResponse:
        """One model call through all layers, on the engine's loop.

        Raises:
            RunCancelledError: the run was cancelled before.
        """
        if self.cancelled:
            raise RunCancelledError("the run was cancelled")
        task = asyncio.ensure_future(self._chain(request))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return await task

    async def _chain(self, request: ChatRequest) -> ChatResponse:
        call: CallNext = chain(self.layers, self._answer)
        return await call(request)

    async def _answer(self, request: ChatRequest) -> ChatResponse:
        return await self.models[request.model.alias](request)

    def cancel(self) -> None:
        """End every model call under way and let none begin. Called on the engine's loop."""
        self.cancelled = True
        for task in list(self._calls):
            task.cancel()
