"""The tools by which agents work together: handing work to a coworker, asking one, and writing to anybody. The same on every backend."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from unified_agents.messages import BROADCAST
from unified_agents.spec import AgentSpec
from unified_agents.tools import Tool

DELEGATE, ASK, SEND = "delegate_work_to_coworker", "ask_question_to_coworker", "send_message"

Handle = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
"""Does what one of these tools was called for: its name and arguments to its result."""


async def _unbound(_name: str, _arguments: Mapping[str, Any]) -> Any:
    raise NotImplementedError("a native tool forwards to its conversation")


def teamwork_tools(coworkers: Sequence[AgentSpec], recipients: Sequence[str], handle: Handle = _unbound) -> tuple[Tool, ...]:
    """The tools of an agent that may delegate to `coworkers` and write to `recipients`; none for nobody."""
    made: list[Tool] = []
    if coworkers:
        people = "; ".join(_introduced(agent) for agent in coworkers)
        hand_over = f"Hand a piece of work to a coworker and get the result. Coworkers: {people}"
        made.append(
            _tool(DELEGATE, hand_over, "task", "The work, described so that it can be done from this text alone", coworkers, handle)
        )
        ask = f"Ask a coworker a question and get the answer. Coworkers: {people}"
        made.append(_tool(ASK, ask, "question", "The question, so that it can be answered from this text alone", coworkers, handle))
    if recipients:
        names = [*recipients, BROADCAST]
        properties = {
            "recipient": {"type": "string", "description": f"Who reads it: {', '.join(recipients)}; or {BROADCAST} for all", "enum": names},
            "content": {"type": "string", "minLength": 1, "description": "The message"},
        }
        about = "Send a message to another agent of the team. It is read when that agent works next; there is no answer here."
        made.append(Tool(SEND, about, _object(properties, ["recipient", "content"]), partial(handle, SEND), recorded=False))
    return tuple(made)


def _introduced(agent: AgentSpec) -> str:
    offers = f" (expertise: {', '.join(agent.expertise)})" if agent.expertise else ""
    return f"{agent.name}, {agent.role}{offers}" if agent.role else f"{agent.name}{offers}"


def _tool(name: str, about: str, what: str, described: str, coworkers: Sequence[AgentSpec], handle: Handle) -> Tool:
    """`coworker` may be left out where somebody offers expertise: then the best fit is chosen."""
    properties: dict[str, Any] = {
        what: {"type": "string", "minLength": 1, "description": described},
        "context": {"type": "string", "description": "Everything the coworker needs to know"},
        "coworker": {"type": "string", "description": "Who", "enum": [agent.name for agent in coworkers]},
    }
    required = [what]
    if any(agent.expertise for agent in coworkers):
        wanted = "Instead of coworker: the expertise that is needed; the coworker that fits best is chosen"
        properties["expertise"] = {"type": "array", "items": {"type": "string"}, "description": wanted}
    else:
        required.append("coworker")
    return Tool(name, about, _object(properties, required), partial(handle, name), recorded=False)


def _object(properties: Mapping[str, Any], required: Sequence[str]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": list(required), "additionalProperties": False}
