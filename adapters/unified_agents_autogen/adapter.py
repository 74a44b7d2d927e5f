"""The AutoGen backend (AgentChat, from `pyautogen`) as data; imports no framework."""

from __future__ import annotations

from dataclasses import dataclass

from unified_agents.adapter import Adapter, NativeTeam, Plan, Seam


@dataclass(frozen=True)
class AutoGenAdapter(Adapter):
    """Builds a real AgentChat `BaseGroupChat` team."""

    def build(self, plan: Plan, seam: Seam) -> NativeTeam:
        """A group chat whose manager gives each task to its speaker as soon as what it waits for has completed."""
        from unified_agents_autogen.team import AutoGenTeam

        return AutoGenTeam(plan, seam)


ADAPTER = AutoGenAdapter(
    name="autogen",
    requirements={"autogen-agentchat": ">=0.7.5,<0.8", "autogen-core": ">=0.7.5,<0.8"},
    extra="unified-agents[autogen]",
    rank=2,
    capabilities={"parallel_tasks": True, "native_prompts": False},
    fidelity={
        "tasks.*.agent": ("native", "a participant of the group chat"),
        "tasks.*.participants": ("native", "participants of the group chat that speak in turn"),
    },
)
