"""The contract of a backend, from top to bottom.

An adapter is data plus one function. It is found through the entry-point group `unified_agents.adapters`; the entry names an `Adapter`
instance in a module that imports no framework. `build` imports the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from unified_agents.conversation import Conversation, ConversationStopped
from unified_agents.plan import Member, Plan, Seat, Step
from unified_agents.tools import Tool
from unified_agents.walk import Seam, TaskOutcome, Walk

Report = Callable[[TaskOutcome], Coroutine[Any, Any, None]]
Level = Literal["native", "emulated", "refused"]


class NativeTeam(ABC):
    """A framework's own object, built from a plan, and how to run it."""

    native: Any
    """The framework's object: a real `crewai.Crew`, a real AutoGen team, …"""

    @abstractmethod
    async def run(self, report: Report) -> None:
        """Run the plan once, on the engine's loop; await `report` with each task's outcome as it ends.

        A task's failure is an outcome, never an exception.

        Raises:
            BackendError: the framework itself failed.
        """

    @abstractmethod
    def cancel(self) -> None:
        """Make `run` return soon, with the tasks under way reported as cancelled. Called on the engine's loop."""


@dataclass(frozen=True)
class Adapter(ABC):
    """A backend: what it needs, what it can do, and how it builds a team.

    `requirements` maps a distribution to its tested versions (a PEP 440 specifier); the first is the framework itself.
    `rank`: its place when nobody named a backend, lowest first; None: it runs only when named.
    `fidelity` maps a field's path with `*` for names (`agents.*.role`) to its level and the reason; what is not listed is as the core says.
    """

    name: str
    requirements: Mapping[str, str]
    extra: str
    rank: int | None = None
    capabilities: Mapping[str, bool] = field(default_factory=dict)
    fidelity: Mapping[str, tuple[Level, str]] = field(default_factory=dict)

    @abstractmethod
    def build(self, plan: Plan, seam: Seam) -> NativeTeam:
        """The framework's objects for a plan; the only place that imports the framework."""


__all__ = [
    "Adapter",
    "Conversation",
    "ConversationStopped",
    "Level",
    "Member",
    "NativeTeam",
    "Plan",
    "Report",
    "Seam",
    "Seat",
    "Step",
    "TaskOutcome",
    "Tool",
    "Walk",
]
