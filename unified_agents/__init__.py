"""Write a team of AI agents once, run it on CrewAI or on AutoGen.

::

    team.yaml ──load──▶ TeamSpec ──plan──▶ Plan ──Adapter.build──▶ native Crew / group chat ──run──▶ RunResult
                loader      spec            plan     adapters/*/team.py            runtime            result
                  └ SpecError                └ UnsupportedFeatureError     ▼
                                     adapters/*/model.py  hands over the framework's messages, nothing else
                                                                           ▼
                                                       conversation.py  what the wire carries is ours
                                                                           ▼
        Replay ─ Recall ─ your layers ─ Fallback ─ TokenWindow ─ Retry ─ Budget ─ RateLimit ─ CircuitBreaking ─ Timeout ─ Trace ─ chat_models/*
                                                                           ▼
                          events.py ──▶ stream, progress, tracing, result, comparison        journal.py (the same events, durable: resume)

Names are loaded when they are used, so that importing the package costs next to nothing and imports no framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from unified_agents._version import __version__

_HOMES = {
    "unified_agents.assignment": ("Assignment", "assign_tasks"),
    "unified_agents.chat_models": ("ChatModel", "ChatRequest", "ChatResponse", "ToolCall", "Usage"),
    "unified_agents.chat_models.scripted": ("ScriptedModel",),
    "unified_agents.circuit_breaker": ("CircuitBreaker",),
    "unified_agents.compare": ("compare_backends",),
    "unified_agents.comparison": ("Comparison",),
    "unified_agents.compiler": ("CompiledTeam", "compile_team"),
    "unified_agents.errors": (
        "BackendUnavailableError", "BackendError", "ModelError", "Problem", "RunError", "SpecError", "UnifiedAgentsError", "UnsupportedFeatureError",
    ),
    "unified_agents.loader": ("load_team",),
    "unified_agents.memory": ("AgentMemory",),
    "unified_agents.messages": ("Message", "MessageBus"),
    "unified_agents.middleware": ("Middleware", "default_middleware"),
    "unified_agents.middleware.retry": ("retry_with_backoff",),
    "unified_agents.registry": ("backends",),
    "unified_agents.result": ("RunResult", "TaskResult"),
    "unified_agents.review": ("Decision", "Review"),
    "unified_agents.runtime": ("resume_run", "resume_run_async", "run_team", "run_team_async"),
    "unified_agents.tokens": ("count_tokens",),
    "unified_agents.window": ("fit_messages",),
    "unified_agents.streams": ("stream_team", "stream_team_sync"),
    "unified_agents.spec": ("AgentSpec", "InputSpec", "ModelSpec", "TaskSpec", "TeamSpec", "ToolSpec"),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}

if TYPE_CHECKING:
    from unified_agents.assignment import Assignment, assign_tasks
    from unified_agents.chat_models import ChatModel, ChatRequest, ChatResponse, ToolCall, Usage
    from unified_agents.chat_models.scripted import ScriptedModel
    from unified_agents.circuit_breaker import CircuitBreaker
    from unified_agents.compare import compare_backends
    from unified_agents.comparison import Comparison
    from unified_agents.compiler import CompiledTeam, compile_team
    from unified_agents.errors import (
        BackendError,
        BackendUnavailableError,
        ModelError,
        Problem,
        RunError,
        SpecError,
        UnifiedAgentsError,
        UnsupportedFeatureError,
    )
    from unified_agents.loader import load_team
    from unified_agents.memory import AgentMemory
    from unified_agents.messages import Message, MessageBus
    from unified_agents.middleware import Middleware, default_middleware
    from unified_agents.middleware.retry import retry_with_backoff
    from unified_agents.registry import backends
    from unified_agents.result import RunResult, TaskResult
    from unified_agents.review import Decision, Review
    from unified_agents.runtime import resume_run, resume_run_async, run_team, run_team_async
    from unified_agents.spec import AgentSpec, InputSpec, ModelSpec, TaskSpec, TeamSpec, ToolSpec
    from unified_agents.streams import stream_team, stream_team_sync
    from unified_agents.tokens import count_tokens
    from unified_agents.window import fit_messages

__all__ = [
    "AgentMemory",
    "AgentSpec",
    "Assignment",
    "BackendError",
    "BackendUnavailableError",
    "ChatModel",
    "ChatRequest",
    "ChatResponse",
    "CircuitBreaker",
    "Comparison",
    "CompiledTeam",
    "Decision",
    "InputSpec",
    "Message",
    "MessageBus",
    "Middleware",
    "ModelError",
    "ModelSpec",
    "Problem",
    "Review",
    "RunError",
    "RunResult",
    "ScriptedModel",
    "SpecError",
    "TaskResult",
    "TaskSpec",
    "TeamSpec",
    "ToolCall",
    "ToolSpec",
    "UnifiedAgentsError",
    "UnsupportedFeatureError",
    "Usage",
    "__version__",
    "assign_tasks",
    "backends",
    "compare_backends",
    "compile_team",
    "count_tokens",
    "default_middleware",
    "fit_messages",
    "load_team",
    "resume_run",
    "resume_run_async",
    "retry_with_backoff",
    "run_team",
    "run_team_async",
    "stream_team",
    "stream_team_sync",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'unified_agents' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
