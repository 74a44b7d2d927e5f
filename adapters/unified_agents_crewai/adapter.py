"""The CrewAI backend as data; imports no framework."""

from __future__ import annotations

from dataclasses import dataclass

from unified_agents.adapter import Adapter, NativeTeam, Plan, Seam


@dataclass(frozen=True)
class CrewAIAdapter(Adapter):
    """Builds a real `crewai.Crew`."""

    def build(self, plan: Plan, seam: Seam) -> NativeTeam:
        """A crew whose tasks start as soon as what they wait for has completed."""
        from unified_agents_crewai.team import CrewTeam

        return CrewTeam(plan, seam)


ADAPTER = CrewAIAdapter(
    name="crewai",
    requirements={"crewai": ">=1.15.30,<1.16"},
    extra="unified-agents[crewai]",
    rank=1,
    capabilities={"parallel_tasks": True, "native_prompts": True},
    fidelity={
        "agents.*.role": ("native", "Agent.role"),
        "agents.*.goal": ("native", "Agent.goal"),
        "agents.*.backstory": ("native", "Agent.backstory"),
        "tasks.*.name": ("native", "Task.name"),
        "tasks.*.description": ("native", "Task.description"),
        "tasks.*.expected_output": ("native", "Task.expected_output"),
        "tasks.*.agent": ("native", "Task.agent"),
        "tasks.*.context": ("native", "Task.context"),
        "tasks.*.participants": ("emulated", "a Task a turn, each by the speaker's own Agent"),
    },
)
