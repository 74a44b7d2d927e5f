"""The classic AutoGen backend (`import autogen`) as data; imports no framework."""

from __future__ import annotations

from dataclasses import dataclass

from unified_agents.adapter import Adapter, NativeTeam, Plan, Seam


@dataclass(frozen=True)
class AutoGenClassicAdapter(Adapter):
    """Builds a real `autogen.GroupChatManager` with its `GroupChat`."""

    def build(self, plan: Plan, seam: Seam) -> NativeTeam:
        """A group chat whose next speaker is always one whose task may start."""
        from unified_agents_autogen_classic.team import ClassicTeam

        return ClassicTeam(plan, seam)


_ONE_BY_ONE = "the group chat has one speaker at a time: independent tasks run one after the other"

ADAPTER = AutoGenClassicAdapter(
    name="autogen_classic",
    requirements={"autogen": ">=0.14.1,<0.15"},
    extra="unified-agents[autogen-classic]",
    rank=3,
    capabilities={"parallel_tasks": False, "native_prompts": False},
    fidelity={
        "process": ("emulated", _ONE_BY_ONE),
        "tasks.*.agent": ("native", "a ConversableAgent of the group chat"),
        "tasks.*.context": ("emulated", _ONE_BY_ONE),
        "tasks.*.after": ("emulated", _ONE_BY_ONE),
        "tasks.*.participants": ("native", "agents of the GroupChat that speak in turn"),
    },
)
