"""A group chat as a task: who speaks next, what everyone sees, and when it ends. The turns themselves are conversations that a framework drives."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified_agents import prompts
from unified_agents.answers import write_output
from unified_agents.chat_models import ChatRequest
from unified_agents.conversation import Brief, Conversation
from unified_agents.engine import called, in_thread
from unified_agents.errors import BudgetExceededError, TaskError, TaskTimeoutError, did_you_mean, failure_text
from unified_agents.messages import BROADCAST, Message
from unified_agents.plan import Member
from unified_agents.spec import TaskSpec
from unified_agents.texts import folded

if TYPE_CHECKING:
    from unified_agents.walk import Seam

MAX_ROUNDS = 10
SELECTION = "speaker selection"
"""Under this name the calls that choose a speaker stand in usage and events."""

Selector = Callable[..., Any]
"""`(messages) -> name`, or `(messages, participants) -> name`; None ends the chat. `messages` are the turns so far; sync or async."""


class GroupChat:
    """One group chat under way. `next` gives the next turn's conversation; at the end `text` is its result, or `error` says why there is none."""

    def __init__(self, seam: Seam, brief: Brief, selector: Selector | None = None) -> None:
        self.turns: list[Message] = []
        self.notes: list[str] = []
        self.error: BaseException | None = None
        self.truncated = False
        self.structured = None
        self.ended = False
        self._seam, self._brief, self._selector = seam, brief, selector
        self._task = brief.step.task
        self._open: Conversation | None = None
        self._place = ""  # the participant whose turn it is, also when its fallback speaks
        self._failures: list[str] = []

    @property
    def text(self) -> str | None:
        """The result: the last turn, or the transcript."""
        if not self.ended or self.error is not None or not self.turns:
            return None
        return prompts.transcript_text(self.turns) if self._task.result == "transcript" else self.turns[-1].content

    @property
    def speaker(self) -> str:
        """Who spoke last."""
        return self.turns[-1].sender if self.turns else self._brief.step.who

    async def next(self) -> Conversation | None:
        """The conversation of the next turn; None when the chat has ended. Awaited on the engine's loop; never raises."""
        if self.ended or (self._open is not None and not self._open.ended):
            return None  # over, or the framework gave a turn up: the walk tells them apart by `ended`
        try:
            with self._seam.scope(self._brief.key):
                self._open = await self._seam.guard(self._brief.deadline.bound(self._next))
        except Exception as error:  # noqa: BLE001  # of a selection call, a selector or a file: it belongs to this task
            self._open, self.error = None, error
        self.ended = self._open is None
        return self._open

    async def _next(self) -> Conversation | None:
        if self._open is not None and self._open.answer is None:
            return self._instead(self._open)
        if self._open is not None:
            self._take(self._open)
        if len(self.turns) >= (self._task.max_rounds or MAX_ROUNDS) or self._said_stop():
            await self._finished()
            return None
        speaker = await self._select()
        if speaker is None:
            await self._finished()
            return None
        self._place, self._failures = speaker, []
        return self._speaking(self._brief.step.member(speaker))

    async def _finished(self) -> None:
        if not self.turns:
            raise TaskError("the group chat ended before anyone spoke")
        path = self._task.output_file
        if path is not None:
            said = prompts.transcript_text(self.turns) if self._task.result == "transcript" else self.turns[-1].content
            await in_thread(lambda: write_output(path, said, Path.cwd()), "unified-agents-output")

    def _take(self, spoken: Conversation) -> None:
        """Put a finished turn on record."""
        assert spoken.answer is not None
        self.truncated = spoken.answer.truncated
        self.notes += spoken.notes
        turn = Message(spoken.agent.name, BROADCAST, spoken.answer.text, "turn")
        self.turns.append(turn)
        self._brief.post.send(self._brief.step.name, turn.sender, BROADCAST, turn.content, "turn")

    def _instead(self, failed: Conversation) -> Conversation:
        """The turn of a participant that failed, given to its fallback.

        Raises:
            Exception: the participant's error, when there is none.
        """
        self.notes += failed.notes
        assert failed.error is not None
        fallback = failed.agent.fallback
        if fallback is None or self._seam.cancelled or isinstance(failed.error, (TaskTimeoutError, BudgetExceededError)):
            raise failed.error
        self._failures.append(failure_text(failed.agent.name, failed.error))
        self.notes.append(f"{self._failures[-1]}; its fallback {fallback} speaks")
        return self._speaking(self._brief.step.member(fallback))

    def _said_stop(self) -> bool:
        stop = self._task.stop_when
        if stop is None or not self.turns:
            return False
        return stop.says in self.turns[-1].content and stop.by in (None, self._place, self.turns[-1].sender)

    def _speaking(self, member: Member) -> Conversation:
        others = [name for name in self._task.participants if name not in (member.name, self._place)]
        number = len(self.turns) + 1
        brief = replace(
            self._brief, member=member, task=_turn_task(self._task), key=f"{self._brief.key}/{number}.{member.name}",
            history=tuple(prompts.turn_messages(self.turns, member.name, others)), failures=tuple(self._failures), coworkers=member.coworkers,
            checked=False,
        )  # fmt: skip
        return Conversation(self._seam, brief)

    async def _select(self) -> str | None:
        """The name of the next speaker; None ends the chat."""
        how = self._task.speaker_selection or "round_robin"
        if self._selector is not None:
            return await self._by_function(self._selector)
        return await self._by_model() if how == "model" else self._in_turn()

    def _in_turn(self) -> str:
        """The participant after the last one, in the order of the file."""
        names = self._task.participants
        return names[(names.index(self._place) + 1) % len(names)] if self._place else names[0]

    async def _by_function(self, selector: Selector) -> str | None:
        names = self._task.participants
        arguments = (tuple(self.turns), names) if _takes_two(selector) else (tuple(self.turns),)
        try:
            said = await called(selector, *arguments, thread="unified-agents-selection")
        except Exception as error:
            raise TaskError(f"speaker_selection failed: {type(error).__name__}: {error}") from error
        if said is not None and said not in names:
            raise TaskError(
                f"speaker_selection returned {said!r}{did_you_mean(str(said), names)}; allowed: {', '.join(names)}, or None to end"
            )
        return None if said is None else str(said)

    async def _by_model(self) -> str:
        """Ask a model for a name, once more when it gives none, then take the next in order."""
        names = self._task.participants
        agents = [self._brief.step.member(name).agent for name in names]
        messages: list[Any] = prompts.selection_messages(self._task, agents, self.turns)
        for attempt in (1, 2):
            answer = await self._seam.call(self._selection_request(messages, 2 * len(self.turns) + attempt))
            chosen = named(answer.text or "", names)
            if chosen is not None:
                return chosen
            messages = [
                *messages,
                {"role": "assistant", "content": answer.text or ""},
                {"role": "user", "content": f"That names none of them. Answer with exactly one of: {', '.join(names)}"},
            ]
        self.notes.append(f"round {len(self.turns) + 1}: the model named no speaker, so the next in order spoke")
        return self._in_turn()

    def _selection_request(self, messages: Sequence[Any], turn: int) -> ChatRequest:
        members = [self._brief.step.member(name) for name in self._task.participants]
        first, *fallbacks = next(member.models for member in members if member.models)  # that of the first who is no person
        return ChatRequest(
            model=first, fallbacks=tuple(fallbacks), messages=messages, task=self._brief.step.name, agent=SELECTION,
            conversation=f"{self._brief.key}/{SELECTION}", turn=turn,
            left=self._brief.deadline.left,
        )  # fmt: skip


def named(text: str, names: Sequence[str]) -> str | None:
    """The one name that a text gives: alone, or as the only one mentioned. A name inside a longer one is not mentioned by it."""
    left, found = folded(text), []
    bare = left.strip("\"'`*.: ")
    exact = [name for name in names if folded(name) == bare]
    for name in sorted(names, key=len, reverse=True):
        left, times = re.subn(rf"(?<!\w){re.escape(folded(name))}(?!\w)", "\0", left)
        found += [name] if times else []
    found = exact or found
    return found[0] if len(found) == 1 else None


def _turn_task(task: TaskSpec) -> TaskSpec:
    """The task as one speaker gets it: what ends or keeps the chat's result is the chat's business."""
    return task.model_copy(update={"output_file": None})


def _takes_two(selector: Selector) -> bool:
    try:
        parameters = list(inspect.signature(selector).parameters.values())
    except (TypeError, ValueError):
        return True
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    second = positional[1] if len(positional) > 1 else None
    wanted = second is not None and (second.default is second.empty or second.name == "participants")
    return wanted or any(p.kind is p.VAR_POSITIONAL for p in parameters)
