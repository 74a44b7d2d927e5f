"""What the wire carries: one Conversation per task attempt and agent.

A framework hands over its opening messages and takes back answers; everything between is decided here, once for all backends: the messages
of every further request, the tools offered, which calls of the model are good, what counts as an answer, and when to ask again. No original
error crosses a framework: it is kept here, the framework meets a blank `ConversationStopped`, the runtime raises the original.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified_agents import prompts
from unified_agents.answers import Accepted, AnswerDesk, Fault, response_format, schema_text, write_output
from unified_agents.chat_models import ChatRequest, ChatResponse, Message, clean_text, monotonic
from unified_agents.deadline import Deadline
from unified_agents.delegation import Teamwork
from unified_agents.engine import engine, in_thread
from unified_agents.errors import (
    BudgetExceededError,
    DelegationError,
    EmptyAnswerError,
    LimitExceededError,
    RunCancelledError,
    TaskError,
    TaskTimeoutError,
)
from unified_agents.events import AgentEnded, AgentStarted, ReviewDecided
from unified_agents.plan import Member, Step
from unified_agents.post import Post
from unified_agents.recorded import review_key
from unified_agents.review import Decision, Review
from unified_agents.spec import AgentSpec, TaskSpec
from unified_agents.tools import Tool
from unified_agents.tools.desk import Record, Tally, ToolDesk
from unified_agents.tools.teamwork import DELEGATE

if TYPE_CHECKING:
    from unified_agents.walk import Seam

MAX_ITERATIONS = 25
_LAST_CALL = "No tool calls are left. Give your final answer now."


class ConversationStopped(Exception):  # noqa: N818  # it is no error of its own: it stands in for one
    """What a framework meets in place of the original error. Blank on purpose: frameworks read meaning into messages and causes."""

    def __init__(self) -> None:
        super().__init__("stopped")


@dataclass(frozen=True)
class Brief:
    """What one conversation is about: who works on what, within which step, and what it shares with the step's other conversations.

    `task` is the step's own, or what a caller delegated or a group chat asks of a speaker. `path` are the agents that handed it on, the task's own
    first. `history` follows the opening messages. `delegate` must be asked before an answer counts.
    """

    step: Step
    member: Member
    task: TaskSpec
    key: str
    deadline: Deadline
    post: Post
    tally: Tally = field(default_factory=Tally)
    earlier: tuple[prompts.Earlier, ...] = ()
    failures: tuple[str, ...] = ()
    history: tuple[Message, ...] = ()
    path: tuple[str, ...] = ()
    coworkers: tuple[str, ...] = ()
    delegate: str | None = None
    checked: bool = True  # whether the step's guardrail looks at the answer


class Conversation:
    """One agent at work on one task: what the model is shown, what it may call, and what counts as its answer."""

    def __init__(self, seam: Seam, brief: Brief) -> None:
        self.seam, self.brief = seam, brief
        self.answer: ChatResponse | None = None
        self.accepted: Accepted | None = None
        self.error: BaseException | None = None
        self.turn = 0
        """Calls so far."""
        self._started: float | None = None
        self._ended_said = False
        self._transcript: list[Message] = []
        self._awaiting = False
        self._reminded = False
        self._teamwork = Teamwork(self)
        step, agent = brief.step, brief.member.agent
        tools = seam.offered(brief.member, brief.coworkers, self._teamwork.handle)
        self._desk = ToolDesk(
            tools,
            seam.limits,
            brief.tally,
            self._ask_reviewer,
            seam.emit,
            step.name,
            agent.name,
            brief.key,
            Record(seam.recorded.tool, seam.written, seam.scope, seam.hide),
        )
        guardrail = seam.guardrails.get(step.name) if brief.checked else None
        self._answers = AnswerDesk(brief.task, agent.name, self._ask_reviewer, guardrail)

    @property
    def step(self) -> Step:
        """The step it belongs to."""
        return self.brief.step

    @property
    def agent(self) -> AgentSpec:
        """Who works."""
        return self.brief.member.agent

    @property
    def tools(self) -> tuple[Tool, ...]:
        """What the agent may call; a framework's own tools only forward to `call_tool`."""
        return tuple(self._desk.tools.values())

    @property
    def system_text(self) -> str:
        """The agent in our words, for frameworks that have none of their own."""
        return prompts.system_text(self.agent)

    @property
    def task_text(self) -> str:
        """The task in our words, with exactly the outputs that it may see."""
        return prompts.task_text(self.brief.task, self.brief.earlier, self.brief.failures)

    @property
    def context_text(self) -> str:
        """The outputs alone, for frameworks that word the task themselves."""
        return prompts.context_text(self.brief.earlier, self.brief.failures)

    @property
    def ended(self) -> bool:
        """Whether there is an answer, or a failure."""
        return self.answer is not None or self.error is not None

    @property
    def notes(self) -> list[str]:
        """What the result should say of this conversation beside its answer."""
        return self._desk.notes

    async def answer_alone(self) -> None:
        """Ask until there is an answer or a failure: for a conversation that no framework drives. Awaited on the engine's loop."""
        while not self.ended:
            try:
                await self._chat(())
            except ConversationStopped:
                return

    def opened(
        self, member: Member, task: TaskSpec, key: str, earlier: Sequence[prompts.Earlier], failures: Sequence[str] = ()
    ) -> Conversation:
        """A fresh conversation of a coworker, within this one's task."""
        path = (*self.brief.path, self.brief.member.name)
        brief = replace(
            self.brief, member=member, task=task, key=key, earlier=tuple(earlier), failures=tuple(failures), history=(), path=path,
            coworkers=member.coworkers, delegate=None, checked=False,
        )  # fmt: skip
        return Conversation(self.seam, brief)

    async def chat(self, messages: Sequence[Message]) -> ChatResponse:
        """The model's next answer: tool calls for the framework to run, or the final text. May be awaited on any loop.

        `messages` are the framework's; those of the first call open the conversation, later ones are known here already.

        Raises:
            ConversationStopped: a call failed, a limit was reached or the run was cancelled; the original error is in `error`.
        """
        return await engine().call(self._chat(messages))

    def chat_blocking(self, messages: Sequence[Message]) -> ChatResponse:
        """As `chat`, from a thread without a loop."""
        return engine().run(self._chat(messages))

    async def call_tool(self, call_id: str) -> str:
        """The result of a tool call that `chat` returned, as text; never raises. May be awaited on any loop."""
        return await engine().call(self._call_tool(call_id))

    def call_tool_blocking(self, call_id: str) -> str:
        """As `call_tool`, from a thread without a loop."""
        return engine().run(self._call_tool(call_id))

    async def _chat(self, messages: Sequence[Message]) -> ChatResponse:
        if self.answer is not None:
            return self.answer  # a framework that asks again after the answer gets it again, without a request
        response = await self._try(messages) if self.error is None else None
        if response is None:
            raise ConversationStopped  # outside of any `except`: nothing may hang on it as a cause or context
        return response

    async def _try(self, messages: Sequence[Message]) -> ChatResponse | None:
        """The next answer, or None when the conversation failed and `error` is set."""
        self._say_started()
        try:
            with self.seam.scope(self.brief.key):
                response = await self.seam.guard(self.brief.deadline.bound(lambda: self._next(messages)))
        except asyncio.CancelledError as error:
            self._fail(error)
            raise
        except Exception as error:  # noqa: BLE001  # whatever a layer, model, tool or check raises belongs to this task
            self._fail(error)
            return None
        if self.answer is not None:
            self._say_ended()
        return response

    def _fail(self, error: BaseException) -> None:
        self.error = self.error or error
        self._desk.cancel()
        self._say_ended()

    def _say_started(self) -> None:
        if self._started is None:
            self._started = monotonic()
            self.seam.emit(AgentStarted(task=self.step.name, agent=self.agent.name, key=self.brief.key))

    def _say_ended(self) -> None:
        """Once, although a framework may go on asking, and tools that were given up may go on failing."""
        if self._ended_said or self._started is None:
            return
        self._ended_said, error = True, self.error
        kind = "Cancelled" if isinstance(error, asyncio.CancelledError) else type(error).__name__ if error is not None else None
        took = monotonic() - self._started
        self.seam.emit(AgentEnded(task=self.step.name, agent=self.agent.name, key=self.brief.key, duration_s=took, error=kind))

    async def _ask_reviewer(self, review: Review, key: str = "") -> Decision:
        """The reviewer's decision, asked for once in all sessions of the run; a person's time does not count against the task's."""
        assert self.seam.review is not None
        key = key or review_key(self.brief.key, self.turn, review)
        if (known := self.seam.recorded.decision(key, review)) is not None:
            return known
        with self.brief.deadline.paused():
            said = await self.seam.review.ask(review)
        self.seam.emit(
            ReviewDecided(
                task=review.task, agent=review.agent, kind=review.kind, key=key, approved=said.approved, comment=said.comment, content=said.content
            )
        )  # fmt: skip
        return said

    async def _call_tool(self, call_id: str) -> str:
        """Bounded by the task's deadline, which the next `chat` then reports."""
        try:
            return await self.seam.guard(self.brief.deadline.bound(lambda: self._desk.run(call_id)))
        except (TaskTimeoutError, BudgetExceededError, TaskError) as error:  # TaskError: another one who waited for the call gave it up
            self._fail(error)
        except RunCancelledError:
            self._desk.cancel()
        except asyncio.CancelledError:
            if not self.seam.cancelled:
                raise
            self._desk.cancel()
        return "The task was stopped."

    async def _next(self, messages: Sequence[Message]) -> ChatResponse:
        """Ask until there is something for the framework to do: good tool calls to run, or an answer that passed all checks."""
        if not self._transcript:
            self._transcript = list(self._opening(messages))
        while True:
            if self._awaiting:
                self._transcript += await self._desk.results()
                self._awaiting = False
            response = await self._ask()
            if response.tool_calls and self._takes_calls(response):
                calls = self._take(response)
                if calls:
                    return replace(response, tool_calls=tuple(calls))
            elif await self._finished(response):
                assert self.answer is not None
                return self.answer

    def _takes_calls(self, response: ChatResponse) -> bool:
        """Whether the calls count: tools were offered, or the answer is nothing but calls and may be given again."""
        return self._offering(self.turn) or (not response.text and self.turn <= self._max_iterations)

    def _take(self, response: ChatResponse) -> list[Any]:
        calls = self._desk.accept(response.tool_calls, self.turn)
        self._transcript.append({"role": "assistant", "content": response.text or None, "tool_calls": self._desk.calls})
        self._awaiting = True
        return calls

    async def _finished(self, response: ChatResponse) -> bool:
        """Whether the answer passed; else its fault is in the transcript, and the model is asked again.

        Raises:
            RunError: the fault's, when it may not be asked for again.
        """
        self._check_size(response)
        looked = self._not_handed_over() or await self._answers.look(response.text)
        if isinstance(looked, Fault):
            if not looked.again or self.turn > self._max_iterations:
                raise looked.error
            self._transcript.append({"role": "assistant", "content": response.text})
            self._transcript.append(
                {
                    "role": "user",
                    "content": f"Your answer is not accepted: {looked.said}\n\nGive the whole answer again, without the fault.",
                }
            )
            return False
        if self.brief.task.output_file is not None:
            path = self.brief.task.output_file
            await in_thread(lambda: write_output(path, looked.text, Path.cwd()), "unified-agents-output")
        self.accepted, self.answer = looked, replace(response, text=looked.text, tool_calls=())
        return True

    def _not_handed_over(self) -> Fault | None:
        """The fault of an answer that was given without the coworker whom the task names; asked for again once."""
        name = self.brief.delegate
        if name is None or name in self._teamwork.handed_to:
            return None
        again, self._reminded = not self._reminded, True
        said = f"the task names {name}: hand it over with {DELEGATE}, then answer"
        return Fault(said, DelegationError(f"{self.agent.name} answered without handing the task to {name}, whom it names"), again)

    def _check_size(self, response: ChatResponse) -> None:
        if not response.text:
            raise EmptyAnswerError(f"{response.model} answered with no text", model=response.model)
        size, limit = len(response.text.encode("utf-8", "replace")), self.seam.limits.output_bytes
        if size > limit:
            raise LimitExceededError(f"the answer has {size:,} bytes, limits.output_bytes is {limit:,}")

    @property
    def _max_iterations(self) -> int:
        return self.agent.max_iterations or MAX_ITERATIONS

    def _offering(self, turn: int) -> bool:
        """Whether tools are offered in this call: not after `max_iterations` calls, when the last one asks for the answer."""
        return bool(self._desk.tools) and turn <= self._max_iterations

    def _opening(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The framework's own messages, or ours where the team asks for neutral prompts."""
        if self.seam.plan.team.prompts == "native" and messages:
            opening = list(messages)
        else:
            system = [{"role": "system", "content": self.system_text}] if self.system_text else []
            opening = [*system, {"role": "user", "content": self.task_text}]
        schema = self.brief.task.output_schema
        if schema is not None and not self._json_schema:
            told = f"{opening[-1]['content']}\n\nAnswer with JSON alone, matching this JSON Schema: {schema_text(schema)}"
            opening[-1] = {**opening[-1], "content": told}
        return [*opening, *self.brief.history]

    @property
    def _json_schema(self) -> bool:
        """Whether the model takes a JSON Schema on the wire."""
        return bool(self.brief.member.models) and self.brief.member.models[0].json_schema

    async def _ask(self) -> ChatResponse:
        self.turn += 1
        if self.turn > self._max_iterations + 1:
            raise LimitExceededError(f"no answer within {self._max_iterations} model calls and a last one without tools (max_iterations)")
        mail = self.brief.post.receive(self.agent.name, self.step.name, f"{self.brief.key}:{self.turn}")
        if mail:
            self._transcript.append({"role": "user", "content": prompts.mail_text(mail)})
        try:
            response = await (self._ask_person() if self.agent.human else self.seam.call(self._request()))
        except BaseException:
            self.brief.post.give_back(self.agent.name, self.step.name, mail)
            raise
        return replace(response, text=clean_text(response.text or ""))

    def _request(self) -> ChatRequest:
        messages, (first, *fallbacks) = list(self._transcript), self.brief.member.models
        offering = self._offering(self.turn)
        if self._desk.tools and not offering:
            messages.append({"role": "user", "content": _LAST_CALL})
        return ChatRequest(
            model=first,
            fallbacks=tuple(fallbacks),
            messages=messages,
            tools=[tool.schema for tool in self.tools] if offering else (),
            response_format=response_format(self.brief.task) if self._json_schema else None,
            task=self.step.name,
            agent=self.agent.name,
            conversation=self.brief.key,
            turn=self.turn,
            left=self.brief.deadline.left,
        )

    async def _ask_person(self) -> ChatResponse:
        """What a human agent says to what a model would have been shown."""
        shown = "\n\n".join(str(message["content"]) for message in self._transcript if message["role"] != "system" and message["content"])
        try:
            decision = await self._ask_reviewer(Review("turn", self.step.name, self.agent.name, shown))
        except Exception as error:
            raise TaskError(f"the reviewer failed: {type(error).__name__}: {error}") from error
        return ChatResponse(text=decision.content or "", model=self.agent.name)
