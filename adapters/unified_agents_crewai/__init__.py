"""unified_agents on CrewAI. `ManagedLLM` brings our layers into code that was written by hand for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unified_agents_crewai.managed import ManagedLLM

__all__ = ["ManagedLLM"]


def __getattr__(name: str) -> Any:
    """Imported late: the backend's data must not cost the framework's import."""
    if name != "ManagedLLM":
        raise AttributeError(f"module 'unified_agents_crewai' has no attribute {name!r}")
    from unified_agents_crewai.managed import ManagedLLM

    return ManagedLLM
