"""Imports AutoGen without what it does on the side. Import this before anything of `autogen_core` or `autogen_agentchat`."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

# The runtime's own spans carry whole messages and cost 0.3 ms a turn; read when a runtime is made.
os.environ.setdefault("AUTOGEN_DISABLE_RUNTIME_TRACING", "true")

# They log whole messages at INFO, and on failure to stderr; errors are kept and raised by the core.
for _name in ("autogen_core", "autogen_core.events", "autogen_agentchat", "autogen_agentchat.events"):
    logging.getLogger(_name).addHandler(logging.NullHandler())
    logging.getLogger(_name).propagate = False

from autogen_core._telemetry import _genai  # noqa: E402  # after the above
from opentelemetry import trace  # noqa: E402

_ours: ContextVar[bool] = ContextVar("unified_agents_autogen_untraced", default=False)


class _Tracers:
    """In place of `opentelemetry.trace` where AgentChat makes the spans of its agents: within `untraced` they record nothing."""

    def get_tracer(self, *arguments: Any, **options: Any) -> trace.Tracer:
        """The tracer, or one that records nothing."""
        return trace.NoOpTracer() if _ours.get() else trace.get_tracer(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(trace, name)


_genai.trace = _Tracers()


@contextlib.contextmanager
def untraced(*, ours: bool = True) -> Iterator[None]:
    """Leave out AgentChat's own spans: a run has ours, the same on every backend. Chats that are run by hand keep theirs; so do agents of a user's tool."""
    token = _ours.set(ours)
    try:
        yield
    finally:
        _ours.reset(token)
