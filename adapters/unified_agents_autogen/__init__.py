"""unified_agents on AutoGen (AgentChat). `ManagedChatCompletionClient` brings our layers into code that was written by hand for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unified_agents_autogen.managed import ManagedChatCompletionClient

__all__ = ["ManagedChatCompletionClient"]


def __getattr__(name: str) -> Any:
    """Imported late: the backend's data must not cost the framework's import."""
    if name != "ManagedChatCompletionClient":
        raise AttributeError(f"module 'unified_agents_autogen' has no attribute {name!r}")
    from unified_agents_autogen.managed import ManagedChatCompletionClient

    return ManagedChatCompletionClient
