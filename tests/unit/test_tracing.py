"""Tracing where no backend matters: when it is switched on, what it costs when it is not, and that it never fails a run."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from unified_agents import ScriptedModel, TeamSpec, events, run_team, tracing
from unified_agents.engine import engine, in_thread
from unified_agents.managed import ManagedModel
from unified_agents.registry import names
from unified_agents.testing import Reply, ScriptedServer
from unified_agents.tracing.run import TOLD

TEAM: dict[str, Any] = {"tasks": {"t": {"description": "MARK", "agent": "a"}}, "agents": {"a": {"role": "A"}}}


@pytest.fixture(autouse=True)
def _no_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", raising=False)


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """The spans of a process that traces spans alone."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "providers", lambda: (provider, None))
    return exporter


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Those of a span."""
    return dict(span.attributes or {})


def team() -> TeamSpec:
    """One task."""
    return TeamSpec.model_validate(TEAM)


def run(**options: Any) -> str:
    """Run it on scripted answers."""
    return str(run_team(team(), models={"default": ScriptedModel({"t": "ok"})}, **options))


def test_a_provider_of_the_apis_own_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy and a no-op provider are no provider; one of an SDK is, spans' and metrics' each for itself."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    assert tracing.providers() is None
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", trace.NoOpTracerProvider())
    assert tracing.providers() is None
    real = TracerProvider()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", real)
    assert tracing.providers() == (real, None)
    meters = MeterProvider()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: meters)
    assert tracing.providers() == (None, meters)


def test_metrics_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that only measures makes no spans."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader])
    monkeypatch.setattr(tracing, "providers", lambda: (None, meters))
    assert run() == "ok"
    data = reader.get_metrics_data()
    assert data is not None
    found = [metric.name for resource in data.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics]
    assert found == ["gen_ai.client.operation.duration"]


def test_nothing_is_imported_where_nothing_is_set_up() -> None:
    """Neither the package nor a run imports OpenTelemetry on a backend that does not itself; with a provider a run does use it."""
    code = """
import sys, unified_agents
from unified_agents import AgentSpec, ScriptedModel, TaskSpec, TeamSpec, run_team
from unified_agents.managed import ManagedModel
team = TeamSpec(tasks=[TaskSpec(name="t", description="x", agent=AgentSpec(name="a", role="A"))])
run_team(team, backend="autogen_classic", models={"default": ScriptedModel({"t": "ok"})})
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=Path.cwd())


GLOBAL = """
import json, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
from unified_agents import AgentSpec, ScriptedModel, TaskSpec, TeamSpec, run_team
team = TeamSpec(name="crew", tasks=[TaskSpec(name="t", description="x", agent=AgentSpec(name="a", role="A"))])
run_team(team, backend=sys.argv[1], models={"default": ScriptedModel({"t": "ok"})})
assert trace.get_tracer_provider() is provider
print(json.dumps([[span.name, span.instrumentation_scope.name] for span in exporter.get_finished_spans()]))
"""


@pytest.mark.parametrize("backend", names())
def test_with_a_provider_of_the_process_all_spans_are_ours(backend: str) -> None:
    """Frameworks have tracing of their own, and telemetry that would set a provider: of a run there are our spans alone, in the provider that was set."""
    done = subprocess.run([sys.executable, "-c", GLOBAL, backend], check=True, timeout=120, capture_output=True, text=True, cwd=Path.cwd())
    spans = ["chat default", "invoke_agent a", "task t", "invoke_agent crew"]
    assert json.loads(done.stdout.splitlines()[-1]) == [[name, "unified_agents"] for name in spans]


def test_autogens_own_agents_keep_their_spans() -> None:
    """The negative control: a chat of AutoGen's that is run by hand is traced by AutoGen."""
    code = GLOBAL.split("from unified_agents")[0] + (
        "import asyncio, unified_agents_autogen.quiet\n"
        "from autogen_agentchat.agents import AssistantAgent\n"
        "from autogen_ext.models.replay import ReplayChatCompletionClient\n"
        "asyncio.run(AssistantAgent('x', ReplayChatCompletionClient(['ok'])).run(task='y'))\n"
        "print(json.dumps([span.name for span in exporter.get_finished_spans()]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True, cwd=Path.cwd())
    assert json.loads(done.stdout.splitlines()[-1]) == ["create_agent x", "invoke_agent x"]


class Failing(SpanProcessor):
    """A processor of a user's that fails."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Fails."""
        raise ValueError("on_start")

    def on_end(self, span: ReadableSpan) -> None:
        """Fails."""
        raise ValueError("on_end")


def test_a_failing_processor_fails_no_run(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The run goes on, and the log says what failed."""
    provider = TracerProvider()
    provider.add_span_processor(Failing())
    monkeypatch.setattr(tracing, "providers", lambda: (provider, None))
    assert run() == "ok"
    assert "a span processor failed on invoke_agent team; the run goes on" in caplog.text


def test_a_fault_of_ours_fails_no_run(
    monkeypatch: pytest.MonkeyPatch, exported: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor does one in the making of spans."""
    monkeypatch.setattr("unified_agents.tracing.run.RunSpans._begin", lambda *_: 1 / 0)
    assert run() == "ok"
    assert "tracing failed on RunStarted; the run goes on" in caplog.text


def test_every_event_is_a_span_or_told_or_left_out_on_purpose() -> None:
    """A new kind of event fails here until somebody has decided what tracing does with it."""
    spans = {"RunStarted", "RunResumed", "RunCompleted", "RunFailed", "TaskStarted", "TaskCompleted", "TaskFailed"}
    spans |= {"AgentStarted", "AgentEnded", "ToolStarted", "ToolCalled"}
    left_out = {"ModelCalled", "ModelAnswered", "TextStreamed"}  # a chat span says the same
    left_out |= {"MessagesRead"}  # the message that was sent is told
    told = {kind.__name__ for kind in TOLD}
    assert {kind.__name__ for kind in events.Event.__subclasses__() if kind.__module__ == events.__name__} == spans | told | left_out
    for kind, fields in TOLD.items():
        assert set(fields) <= set(kind.__dataclass_fields__)
        assert not {"content", "comment", "message", "messages", "arguments", "output", "text", "result"} & set(fields)


def test_a_managed_model_is_traced_under_its_callers_span(exported: InMemorySpanExporter, server: ScriptedServer) -> None:
    """Each attempt of a model in hand-written code, with no attribute of a run."""
    server.reply("MARK", Reply(status=500), "ok")
    model = ManagedModel({"model": "openai/scripted", "base_url": server.base_url, "api_key": "k"})
    provider, _ = tracing.providers() or (None, None)
    assert provider is not None
    with provider.get_tracer("user").start_as_current_span("caller"):
        model.ask_blocking([{"role": "user", "content": "MARK"}])
    first, second, caller = exported.get_finished_spans()
    assert [span.parent.span_id for span in (first, second) if span.parent] == [caller.context.span_id] * 2
    assert attributes(first)["error.type"] == "InternalServerError"
    assert not [name for name in attributes(second) if name.startswith(("gen_ai.agent", "gen_ai.conversation", "unified_agents.task"))]


def test_a_thread_has_its_callers_context() -> None:
    """What is current where blocking code is handed to a thread is current there; what it sets, it sets for itself."""
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="unset")

    async def caller() -> tuple[str, str]:
        variable.set("caller's")

        def work() -> str:
            seen = variable.get()
            variable.set("thread's")
            return seen

        return await in_thread(work, "t"), variable.get()

    assert engine().run(caller()) == ("caller's", "caller's")


def test_two_runs_at_once_do_not_mix(exported: InMemorySpanExporter) -> None:
    """Each span's conversation is that of its parent."""

    async def both() -> None:
        await asyncio.gather(*(asyncio.to_thread(run, run_id=name) for name in ("r1", "r2")))

    asyncio.run(both())
    spans = {span.context.span_id: span for span in exported.get_finished_spans()}
    assert len(spans) == 8
    for span in spans.values():
        above = spans[span.parent.span_id] if span.parent else span
        assert attributes(span)["gen_ai.conversation.id"] == attributes(above)["gen_ai.conversation.id"]
