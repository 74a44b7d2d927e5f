"""Tracing: a run as OpenTelemetry spans and metrics, the same tree on every backend.

::

    invoke_agent <team>                    the run
      task <name>
        invoke_agent <agent>               one conversation; in a group chat one turn
          chat <model>                     one attempt, which is one request
          execute_tool <tool>
            invoke_agent <coworker>        under the delegation tool that asked for it

Spans are made by whoever runs the process: a provider that is set, by code or by `opentelemetry-instrument`, is the switch. While none is, nothing here imports
OpenTelemetry. docs/tracing.md has the attributes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unified_agents.chat_models import ChatRequest, ChatResponse
    from unified_agents.chat_models.providers import ModelConfig
    from unified_agents.middleware import CallNext
    from unified_agents.tracing.run import RunSpans


def providers() -> tuple[Any, Any] | None:
    """The process's tracer provider and meter provider, each None when it is not set; None when neither is.

    Only a process that has imported OpenTelemetry can have set one, so nothing is imported to find out.
    """
    found = (_provider("opentelemetry.trace", "get_tracer_provider"), _provider("opentelemetry.metrics", "get_meter_provider"))
    return None if found == (None, None) else found


def _provider(module: str, getter: str) -> Any:
    get = getattr(sys.modules.get(module), getter, None)
    provider = get() if get is not None else None
    return None if type(provider).__module__.startswith(module) else provider  # the API's own stand-ins: proxy and no-op


def run_spans(run_id: str, models: Iterable[ModelConfig]) -> RunSpans | None:
    """What makes the spans of one run; None when the process traces nothing. Its `models` have the secrets that no span may hold."""
    found = providers()
    if found is None:
        return None
    from unified_agents.tracing.chat import Content, instruments
    from unified_agents.tracing.run import RunSpans

    return RunSpans(instruments(*found), run_id, Content.of(models))


@dataclass(frozen=True)
class CallSpans:
    """The layer that makes the spans of calls outside of any run, under the caller's own span. It looks at each call whether the process is traced."""

    models: tuple[ModelConfig, ...]

    async def __call__(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        """The answer, unchanged."""
        found = providers()
        if found is None:
            return await call_next(request)
        from unified_agents.tracing.chat import ChatSpans, Content, instruments

        return await ChatSpans(instruments(*found), Content.of(self.models))(request, call_next)
