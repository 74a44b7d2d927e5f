"""The tools by which agents use the team's memory. The same on every backend."""

from __future__ import annotations

from unified_agents.spec import TeamSpec
from unified_agents.tools import Run, Tool

_LONGEST_TEXT, _LONGEST_KEY = 4000, 200  # characters: what recall can still show
_SAYS_SOMETHING = r"\S"

REMEMBER, RECALL = MEMORY_TOOLS = ("remember", "recall")


def uses_memory_tools(team: TeamSpec, agent: str) -> bool:
    """Whether an agent is offered them."""
    return team.memory is not None and team.memory.tools and team.agents[agent].memory


def memory_tools(remember: Run, recall: Run) -> tuple[Tool, ...]:
    """The two tools; what they do is given, since it needs a run."""
    note = {
        "text": {
            "type": "string",
            "minLength": 1,
            "maxLength": _LONGEST_TEXT,
            "pattern": _SAYS_SOMETHING,
            "description": "What to remember, so that it can be understood from this text alone",
        },
        "key": {
            "type": "string",
            "minLength": 1,
            "maxLength": _LONGEST_KEY,
            "pattern": _SAYS_SOMETHING,
            "description": "A short name, for a fact that later runs should know too; left out, it is kept for this run alone. "
            "The same name again replaces the fact",
        },
    }
    query = {"query": {"type": "string", "minLength": 1, "description": "What you want to know, in words that stand in it"}}
    return (
        Tool(REMEMBER, "Remember something for the whole team.", _object(note, "text"), remember),
        Tool(RECALL, "Look up what the team remembers: facts, notes of this run, what earlier runs did.", _object(query, "query"), recall),
    )


def _object(properties: dict[str, dict[str, object]], *required: str) -> dict[str, object]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
