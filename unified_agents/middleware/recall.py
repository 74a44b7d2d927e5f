"""Recall: what the team's memory knows about a task enters its prompt. One look-up a task, the same text in each of its requests."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from unified_agents.chat_models import ChatRequest, ChatResponse, Message
from unified_agents.events import Event, MemoryRecalled, ignore
from unified_agents.memory.team import TeamMemory
from unified_agents.middleware import CallNext


@dataclass(frozen=True)
class Recall:
    """Adds what is recalled for the request's task to its instruction, the first message that is not the system's.

    `queries` holds what to look for by the task's name; agents that are not among `agents` are left as they are. Outermost but for the journal's
    replay: what is recorded is the request without it, so that a resumed run finds its records although the memory has changed since.
    """

    memory: TeamMemory
    queries: Mapping[str, str]
    agents: Collection[str]
    emit: Callable[[Event], None] = ignore
    _shown: dict[str, tuple[Message, Message]] = field(default_factory=dict, repr=False, compare=False)

    async def __call__(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        """The answer.

        Raises:
            MemoryStoreError: the store failed, and memory is required.
        """
        if request.agent not in self.agents:
            return await call_next(request)
        recalled = await self.memory.recall(request.task, self.queries[request.task], request.model.model)
        place = next((index for index, message in enumerate(request.messages) if message["role"] != "system"), None)
        if not recalled.text or place is None:
            return await call_next(request)
        before, shown = self._shown.get(request.conversation, (None, {}))
        if request.messages[place] is not before:
            shown = {**request.messages[place], "content": f"{request.messages[place]['content']}\n\n{recalled.text}"}
            self._shown[request.conversation] = (request.messages[place], shown)
            self.emit(MemoryRecalled(task=request.task, agent=request.agent, items=recalled.items, tokens=recalled.tokens))
        messages = [*request.messages[:place], shown, *request.messages[place + 1 :]]
        return await call_next(replace(request, messages=messages))
