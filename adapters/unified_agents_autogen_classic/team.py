"""A plan as a real classic group chat: the manager lets one speaker after the other do its task."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

# isort: off
from unified_agents_autogen_classic import quiet  # before anything of the framework

# isort: on
from autogen import ConversableAgent, GroupChat, GroupChatManager

from unified_agents.adapter import Conversation, NativeTeam, Plan, Report, Seam, Seat, Step, TaskOutcome, Tool, Walk
from unified_agents.engine import engine, in_thread
from unified_agents.prompts import system_text
from unified_agents_autogen_classic.model import ConversationClient
from unified_agents_autogen_classic.tools import native_functions

Done = Callable[[TaskOutcome], None]


class ClassicTeam(NativeTeam):
    """The group chat's manager, who starts it, and how the runtime runs it."""

    native: PlanManager
    initiator: Initiator
    """Starts the chat: `initiator.initiate_chat(native)`."""

    def __init__(self, plan: Plan, seam: Seam) -> None:
        self.native = PlanManager(plan, seam)
        self.initiator = self.native.initiator

    async def run(self, report: Report) -> None:
        """Chat on a thread of its own: a classic chat blocks."""
        self.native.watch(lambda outcome: engine().run(report(outcome)))
        await in_thread(lambda: self.initiator.initiate_chat(self.native), "unified-agents-chat")

    def cancel(self) -> None:
        """Nothing to do: the seam ends the model call that the chat's thread waits for, and no further task starts."""


def _never(_message: Mapping[str, Any]) -> bool:
    return False


# The plan alone ends a chat: no word in an answer, no count of replies, no one at a terminal; and no code of a model is run.
_SETTINGS: Mapping[str, Any] = {
    "human_input_mode": "NEVER",
    "code_execution_config": False,
    "is_termination_msg": _never,
    "max_consecutive_auto_reply": sys.maxsize,
}


class Initiator(ConversableAgent):
    """Who starts the chat; what it says is no task's business."""

    def __init__(self) -> None:
        # An empty auto reply would start the chat again for each of its `max_turns`.
        super().__init__("initiator", llm_config=False, silent=True, default_auto_reply=None, **_SETTINGS)

    def generate_init_message(self, message: Any = None, **options: Any) -> Any:
        """The first message; without one of the caller's AutoGen would ask for it on the terminal."""
        return super().generate_init_message("Begin." if message is None else message, **options)

    async def a_generate_init_message(self, message: Any = None, **options: Any) -> Any:
        """As `generate_init_message`."""
        return await super().a_generate_init_message("Begin." if message is None else message, **options)


class Speaker(ConversableAgent):
    """An agent in one task; its model client answers from the conversation that is open."""

    def __init__(self, seat: Seat, tools: Sequence[Tool]) -> None:
        self.step, agent = seat.step, seat.member.agent
        self.conversation: Conversation | None = None
        model = {"model": seat.member.model_name, "model_client_cls": ConversationClient.__name__}
        super().__init__(
            seat.name, system_message=system_text(agent), description=agent.role or agent.name,
            llm_config={"config_list": [model], "cache_seed": None}, **_SETTINGS,
        )  # fmt: skip
        self.register_model_client(ConversationClient, conversation=lambda: self.conversation)
        self.register_function(native_functions(tools, lambda: self.conversation), silent_override=True)

    @property
    def ended(self) -> bool:
        """Whether its task has an answer or has failed."""
        return self.conversation is None or self.conversation.ended


class PlanManager(GroupChatManager):
    """Walks a plan each time a chat is started with it, whatever the first message says: the tasks are the plan's."""

    def __init__(self, plan: Plan, seam: Seam) -> None:
        self._seam, self._final = seam, plan.final
        self._speakers = {(seat.step.name, seat.member.name): Speaker(seat, seam.tools_of(seat)) for seat in plan.seats}
        self._done: Done | None = None
        self.initiator = Initiator()
        agents = [self.initiator, *self._speakers.values()]
        chat = GroupChat(
            agents, messages=[], max_round=sys.maxsize, speaker_selection_method=self._next_speaker, speaker_transitions_type="allowed",
            allowed_or_disallowed_speaker_transitions=_ring(agents),
        )  # fmt: skip
        super().__init__(chat, silent=True, llm_config=False, **_SETTINGS)

    def watch(self, done: Done) -> None:
        """Report outcomes to `done`; a task's failure is an outcome then, and no longer raised."""
        self._done = done

    def generate_reply(self, *args: Any, **options: Any) -> Any:
        """Run the chat that a first message starts.

        Raises:
            RunError: the original error of the first task that failed, unless outcomes are reported.
        """
        with self._walking():
            return super().generate_reply(*args, **options)

    async def a_generate_reply(self, *args: Any, **options: Any) -> Any:
        """As `generate_reply`, for `a_initiate_chat`."""
        with self._walking():
            return await super().a_generate_reply(*args, **options)

    @contextlib.contextmanager
    def _walking(self) -> Iterator[None]:
        self._walk: Walk = self._seam.start()
        self._waiting: list[Step] = []
        self._speaking: Speaker | None = None
        with quiet.silent():
            yield
        if self._done is None and self._walk.failure is not None:
            raise self._walk.failure

    def _next_speaker(self, _last: Any, _chat: GroupChat) -> Speaker | None:
        """The chat's `speaker_selection_method`: None ends it."""
        if self._speaking is not None and not self._speaking.ended and not self._seam.cancelled:
            return self._speaking  # it asked for tools, or has just run them
        step = self._speaking.step if self._speaking is not None else self._next_step()
        self._speaking = None
        while step is not None and self._speaking is None:
            self._speaking = self._turn(step)
            step = self._next_step() if self._speaking is None else None
        return self._speaking

    def _next_step(self) -> Step | None:
        self._waiting += self._walk.ready()
        if not self._waiting or self._seam.cancelled:
            return None
        # In file order, but the output of the team last: it is what a chat's summary is made of.
        step = min(self._waiting, key=lambda step: step.name == self._final)
        self._waiting.remove(step)
        return step

    def _turn(self, step: Step) -> Speaker | None:
        """Who speaks next in a step, with its task put before it and nothing else, also when the user keeps the history of an earlier chat."""
        conversation = self._walk.next_turn_blocking(step)
        if conversation is None:
            outcome = self._walk.finish(step)
            if self._done is not None:
                self._done(outcome)
            return None
        speaker = self._speakers[step.name, conversation.agent.name]
        speaker.conversation = conversation
        speaker.clear_history(self)
        speaker.update_system_message(conversation.system_text)
        super().send(conversation.task_text, speaker, request_reply=False, silent=True)
        return speaker

    def send(self, message: Any, recipient: Any, *args: Any, **options: Any) -> None:
        """Keep answers from the other speakers, to which the chat would pass them on: each task sees exactly what the plan gives it."""
        if not isinstance(recipient, Speaker):
            super().send(message, recipient, *args, **options)

    async def a_send(self, message: Any, recipient: Any, *args: Any, **options: Any) -> None:
        """As `send`."""
        if not isinstance(recipient, Speaker):
            await super().a_send(message, recipient, *args, **options)


def _ring(agents: list[ConversableAgent]) -> dict[ConversableAgent, list[ConversableAgent]]:
    """Transitions that nobody reads, since our selection decides: the default, all to all, takes cubic time to check."""
    return {agent: [agents[(index + 1) % len(agents)]] for index, agent in enumerate(agents)}
