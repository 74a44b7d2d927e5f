"""Work that one agent hands to another while it works: along the declared edges only, bounded in depth, answered by a fresh conversation."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unified_agents import prompts
from unified_agents.assignment import best_fit, mentioned, offers
from unified_agents.chat_models import clean_text
from unified_agents.errors import (
    BudgetExceededError,
    DelegationError,
    LimitExceededError,
    RunError,
    TaskTimeoutError,
    UnknownRecipientError,
    failure_text,
)
from unified_agents.events import WorkDelegated
from unified_agents.plan import Member
from unified_agents.spec import TaskSpec
from unified_agents.tools import TaskStopped, ToolRefused
from unified_agents.tools.teamwork import ASK, DELEGATE, SEND

if TYPE_CHECKING:
    from unified_agents.conversation import Conversation


class Teamwork:
    """What an agent may do with others in one conversation."""

    def __init__(self, conversation: Conversation) -> None:
        self._own = conversation
        self._brief, self._seam = conversation.brief, conversation.seam
        self._begun: Counter[str] = Counter()
        self.handed_to: set[str] = set()
        """The coworkers whose work has come back, and those for whom a fallback did it."""

    async def handle(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """What one of the teamwork tools was called for.

        Raises:
            ToolRefused: it may not be; the model is told why.
            TaskStopped: the task cannot go on.
        """
        given = {name: clean_text(value) if isinstance(value, str) else value for name, value in arguments.items()}
        return self._send(given) if tool == SEND else await self._delegate(tool, given)

    def _send(self, arguments: Mapping[str, Any]) -> str:
        sender, recipient = self._brief.member.name, arguments["recipient"]
        if recipient == sender:
            raise ToolRefused("a message to oneself reaches nobody")
        sent, limit = self._brief.post.count(), self._seam.limits.messages
        if sent > limit:
            raise TaskStopped(LimitExceededError(f"more than {limit} messages in a run (limits.messages)"))
        try:
            self._brief.post.send(self._brief.step.name, sender, recipient, arguments["content"], "direct", carried=True)
        except UnknownRecipientError as error:
            raise ToolRefused(str(error)) from error
        return "Sent."

    async def _delegate(self, tool: str, arguments: Mapping[str, Any]) -> str:
        asked = str(arguments["task" if tool == DELEGATE else "question"])
        coworker = self._coworker(asked, arguments)
        self._check_path(coworker)
        self._brief.post.send(
            self._brief.step.name,
            self._brief.member.name,
            coworker.name,
            _said(asked, arguments),
            "question" if tool == ASK else "delegation",
        )
        return await self._answer(tool, asked, arguments, coworker)

    def _coworker(self, asked: str, arguments: Mapping[str, Any]) -> Member:
        """The coworker that is named, else the one that fits best: what is wanted, or what the work itself mentions."""
        members = self._seam.plan.members
        allowed = [members[name].agent for name in self._brief.coworkers]
        named = arguments.get("coworker")
        if named is not None:
            return members[named]  # one of the tool's enum
        wanted = arguments.get("expertise") or mentioned(f"{asked} {arguments.get('context', '')}", allowed)
        fit = best_fit(wanted, allowed)
        if fit is None:
            raise ToolRefused(f"nobody fits: name a coworker, or expertise that one of them offers ({offers(allowed)})")
        return members[fit.name]

    def _check_path(self, coworker: Member) -> None:
        path, limit = (*self._brief.path, self._brief.member.name), self._seam.limits.delegation_depth
        if coworker.name in path:
            raise ToolRefused(
                f"{' → '.join([*path, coworker.name])} is a cycle: {coworker.name} waits for this very answer. Do it yourself"
            )
        if len(path) > limit:
            raise ToolRefused(f"work was handed on {limit} times already (limits.delegation_depth). Do it yourself")

    async def _answer(self, tool: str, asked: str, arguments: Mapping[str, Any], first: Member) -> str:
        """The answer of a coworker, or of its fallbacks, each told how the one before failed."""
        coworker = first
        failures: list[str] = []
        key = self._key(tool, arguments)
        while True:
            child = self._open(f"{key}.{coworker.name}", asked, arguments, coworker, failures)
            self._seam.emit(WorkDelegated(task=self._brief.step.name, agent=self._brief.member.name, coworker=coworker.name, tool=tool))
            await child.answer_alone()
            self._own.notes.extend(child.notes)
            if child.answer is not None:
                if tool == DELEGATE:
                    self.handed_to |= {first.name, coworker.name}
                self._brief.post.send(self._brief.step.name, coworker.name, self._brief.member.name, child.answer.text, "answer")
                return child.answer.text
            error = child.error
            failures.append(failure_text(coworker.name, error))
            following = self._following(coworker, error)
            if following is None:
                raise TaskStopped(_failed(failures, error))
            self._own.notes.append(f"{failures[-1]}; its fallback {following.name} answers")
            coworker = following

    def _following(self, coworker: Member, error: BaseException | None) -> Member | None:
        """The fallback of a coworker that failed, when there is one, and time and budget."""
        name = coworker.agent.fallback
        if (
            name is None
            or name in (*self._brief.path, self._brief.member.name)
            or isinstance(error, (TaskTimeoutError, BudgetExceededError))
        ):
            return None
        return None if self._seam.cancelled else self._seam.plan.members[name]

    def _open(self, key: str, asked: str, arguments: Mapping[str, Any], coworker: Member, failures: list[str]) -> Conversation:
        caller = self._brief.member.name
        task = TaskSpec(name=self._brief.step.name, description=asked)
        context = str(arguments.get("context") or "")
        earlier = [prompts.Earlier("", caller, context)] if context.strip() else []
        return self._own.opened(coworker, task, key, earlier, failures)

    def _key(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Where a delegated conversation belongs, told apart by what was asked and never by the order of starting."""
        digest = hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()[:8]
        name = f"{self._brief.key}/{self._own.turn}.{tool}.{digest}"
        self._begun[name] += 1
        return name if self._begun[name] == 1 else f"{name}.{self._begun[name]}"


def _failed(failures: list[str], error: BaseException | None) -> RunError:
    if isinstance(error, (TaskTimeoutError, BudgetExceededError)):
        return error
    failed = DelegationError("; ".join(failures))
    failed.__cause__ = error
    return failed


def _said(asked: str, arguments: Mapping[str, Any]) -> str:
    context = str(arguments.get("context") or "").strip()
    return f"{asked}\n\nContext: {context}" if context else asked
