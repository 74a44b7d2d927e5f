"""A plan as a real AgentChat group chat whose manager starts each task as soon as what it waits for has completed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

# isort: off
import unified_agents_autogen.quiet  # noqa: F401  # before anything of the framework

# isort: on
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import TaskResult
from autogen_agentchat.messages import BaseAgentEvent, BaseChatMessage, StopMessage, TextMessage
from autogen_agentchat.teams import BaseGroupChat
from autogen_agentchat.teams._group_chat._base_group_chat_manager import BaseGroupChatManager
from autogen_agentchat.teams._group_chat._chat_agent_container import ChatAgentContainer
from autogen_agentchat.teams._group_chat._events import (
    GroupChatAgentResponse,
    GroupChatRequestPublish,
    GroupChatStart,
    GroupChatTeamResponse,
    SerializableException,
)
from autogen_core import CancellationToken, DefaultTopicId, MessageContext, event
from pydantic import BaseModel

from unified_agents.adapter import NativeTeam, Plan, Report, Seam, Step, TaskOutcome, Walk
from unified_agents.errors import BackendError
from unified_agents.prompts import system_text
from unified_agents.spec import AgentSpec
from unified_agents.texts import identifier
from unified_agents_autogen.model import ConversationClient
from unified_agents_autogen.quiet import untraced
from unified_agents_autogen.tools import ForwardTool

# The modules with an underscore above are AgentChat's only way to a group chat of one's own; they are frozen since 0.7.5, and a test pins them.


class AutoGenTeam(NativeTeam):
    """The group chat and how the runtime runs it."""

    native: PlanGroupChat

    def __init__(self, plan: Plan, seam: Seam) -> None:
        with untraced():
            self.native = PlanGroupChat(plan, seam)

    async def run(self, report: Report) -> None:
        """Run the chat on the engine's own loop."""
        self.native.watch(report)
        with untraced():
            await self.native.run()

    def cancel(self) -> None:
        """Nothing to do: the seam ends the model calls that the participants wait for, and each then ends its turn."""


class PlanGroupChat(BaseGroupChat):
    """A group chat with one participant a task, so that several tasks of one agent can run at once."""

    component_provider_override = "unified_agents_autogen.team.PlanGroupChat"

    def __init__(self, plan: Plan, seam: Seam) -> None:
        self._seam = seam
        self._seats = {seat.name: seat for seat in plan.seats}
        self._names = {(seat.step.name, seat.member.name): seat.name for seat in plan.seats}
        self._clients = {name: ConversationClient() for name in self._seats}
        self._tools = {name: [ForwardTool(tool) for tool in seam.tools_of(seat)] for name, seat in self._seats.items()}
        self._agents = {name: self._participant(name, seat.member.agent) for name, seat in self._seats.items()}
        self._report: Report | None = None
        self._walk: Walk | None = None
        self._broken: BackendError | None = None
        super().__init__(
            name=identifier(plan.team.name), description=f"The tasks of {plan.team.name}", group_chat_manager_name="PlanManager",
            group_chat_manager_class=PlanManager, participants=list(self._agents.values()),
        )  # fmt: skip

    def _participant(self, name: str, agent: AgentSpec) -> AssistantAgent:
        # Always a system message of our own: AgentChat's default one asks for TERMINATE.
        text = system_text(agent)
        return AssistantAgent(
            name,
            model_client=self._clients[name],
            description=agent.role or agent.name,
            system_message=text or None,
            tools=list(self._tools[name]),
            max_tool_iterations=1_000_000,  # out of reach: the limit is the conversation's
        )

    def watch(self, report: Report) -> None:
        """Report outcomes to `report`; a task's failure is an outcome then, and no longer raised."""
        self._report = report

    async def run_stream(
        self, *, task: str | BaseChatMessage | Sequence[BaseChatMessage] | None = None, cancellation_token: CancellationToken | None = None,
        output_task_messages: bool = True,
    ) -> AsyncGenerator[BaseAgentEvent | BaseChatMessage | TaskResult, None]:  # fmt: skip
        """Run the plan and stream the participants' messages.

        Raises:
            ValueError: `task` was given; the tasks are the plan's.
            RunError: the original error of the first task that failed, unless outcomes are reported.
        """
        if task is not None:
            raise ValueError("a compiled team runs the tasks it was compiled from: call run() without task")
        if self._walk is not None:  # its participants remember, and its queues belong to the loop of the first run
            raise RuntimeError("a compiled AutoGen team runs once: call compile_team(…) for each run")
        self._walk = self._seam.start()
        last: TaskResult | None = None
        try:
            async for message in super().run_stream(cancellation_token=cancellation_token, output_task_messages=output_task_messages):
                if isinstance(message, TaskResult):
                    last = message
                else:
                    yield message
        except RuntimeError:
            if self._broken is not None:  # AgentChat makes a RuntimeError of everything, with a traceback for a message
                raise self._broken from None
            raise
        if self._report is None and self._walk.failure is not None:
            raise self._walk.failure
        if last is not None:
            yield last

    def _create_group_chat_manager_factory(self, **options: Any) -> Callable[[], PlanManager]:  # type: ignore[override]  # named as there
        return lambda: PlanManager(chat=self, **options)

    def _create_participant_factory(
        self, parent_topic_type: str, output_topic_type: str, agent: Any, message_factory: Any
    ) -> Callable[[], Any]:
        """With the manager's topic as parent an answer goes to the manager alone: each task sees exactly what the plan gives it."""
        return lambda: ChatAgentContainer(self._group_chat_manager_topic_type, output_topic_type, agent, message_factory)

    def ready(self) -> list[Step]:
        """The steps that may start now."""
        assert self._walk is not None
        return self._walk.ready()

    def step(self, name: str) -> Step:
        """The step of a task."""
        return self._seam.plan.step(name)

    def step_of(self, participant: str) -> Step:
        """The step that a participant works on."""
        return self._seats[participant].step

    @property
    def manager_topic(self) -> str:
        """Where the manager hears."""
        return str(self._group_chat_manager_topic_type)

    async def next_turn(self, step: Step) -> tuple[str, str] | None:
        """The participant that speaks next in a step, with what it is told; None when the step has ended."""
        assert self._walk is not None
        conversation = await self._walk.next_turn(step)
        if conversation is None:
            return None
        name = self._names[step.name, conversation.agent.name]
        await self._agents[name].on_reset(
            CancellationToken()
        )  # of a group chat it may hold an earlier turn, which the conversation words anew
        self._clients[name].bind(conversation)
        for tool in self._tools[name]:
            tool.bind(conversation)
        return name, conversation.task_text

    async def end(self, step: Step) -> TaskOutcome:
        """What came of a step that has ended."""
        assert self._walk is not None
        try:
            outcome = self._walk.finish(step)
        except BackendError as error:
            self._broken = error
            raise
        if self._report is not None:
            await self._report(outcome)
        return outcome


class TakeTurn(BaseModel):
    """What the manager tells itself: let the next one speak in this step."""

    step: str


class PlanManager(BaseGroupChatManager):
    """Walks the plan: several speakers at once, and the next ones as soon as one has answered."""

    def __init__(self, chat: PlanGroupChat, **options: Any) -> None:
        super().__init__(**options)
        self._chat = chat
        self._open = 0  # steps under way

    async def _transition_to_next_speakers(self, cancellation_token: CancellationToken) -> None:
        for step in self._chat.ready():
            self._open += 1
            await self._go_on(step, cancellation_token)
        if not self._open:
            await self._signal_termination(StopMessage(content="The plan is done.", source=self._name))

    async def _go_on(self, step: Step, cancellation_token: CancellationToken) -> None:
        """By a message of its own: answers are taken one at a time, but who speaks next may take a model's time, and the others go on meanwhile."""
        topic = DefaultTopicId(type=self._chat.manager_topic, source=self.id.key)
        # Through the runtime, without a sender: nobody gets messages of its own.
        await self.runtime.publish_message(TakeTurn(step=step.name), topic, cancellation_token=cancellation_token)

    @event
    async def handle_turn(self, message: TakeTurn, ctx: MessageContext) -> None:
        """Let the next one speak in a step, or end it and start what waited for it."""
        try:
            step = self._chat.step(message.step)
            speaking = await self._chat.next_turn(step)
            if speaking is not None:
                await self._let_speak(*speaking, ctx.cancellation_token)
                return
            await self._chat.end(step)
            self._open -= 1
            await self._transition_to_next_speakers(ctx.cancellation_token)
        except Exception as error:
            await self._signal_termination_with_error(SerializableException.from_exception(error))
            raise

    async def _let_speak(self, name: str, told: str, cancellation_token: CancellationToken) -> None:
        topic = DefaultTopicId(type=self._participant_name_to_topic_type[name])
        self._active_speakers.append(name)
        # A container takes its messages in order: the task first, then the request to answer it.
        for message in (GroupChatStart(messages=[TextMessage(content=told, source="user")]), GroupChatRequestPublish()):
            await self.publish_message(message, topic, cancellation_token=cancellation_token)

    @event
    async def handle_agent_response(self, message: GroupChatAgentResponse | GroupChatTeamResponse, ctx: MessageContext) -> None:
        """Take one participant's answer and go on with its step, or with what waited for it."""
        try:
            if isinstance(message, GroupChatAgentResponse):
                await self.update_message_thread([message.response.chat_message])
            self._active_speakers.remove(message.name)
            await self._go_on(self._chat.step_of(message.name), ctx.cancellation_token)
        except Exception as error:
            await self._signal_termination_with_error(SerializableException.from_exception(error))
            raise

    async def validate_group_state(self, messages: list[BaseChatMessage] | None) -> None:
        """The plan was checked before."""

    async def select_speaker(self, thread: Sequence[BaseAgentEvent | BaseChatMessage]) -> list[str] | str:
        """Not asked: the plan decides in `_transition_to_next_speakers`."""
        return []

    async def reset(self) -> None:
        """Forget a run, also one that ended in the middle."""
        self._current_turn = 0
        self._message_thread.clear()
        self._active_speakers.clear()
        self._open = 0

    async def save_state(self) -> Mapping[str, Any]:
        """The messages so far."""
        return {"message_thread": [message.dump() for message in self._message_thread]}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        """As `save_state` gave it."""
        self._message_thread = [self._message_factory.create(message) for message in state["message_thread"]]
