"""Spans and metrics of a run: the same tree on every backend, nothing of its content unless it is asked for, and never a key."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from unified_agents import (
    AgentMemory,
    AgentSpec,
    ChatRequest,
    ChatResponse,
    RunError,
    RunResult,
    TaskSpec,
    TeamSpec,
    ToolCall,
    backends,
    resume_run,
    run_team,
    run_team_async,
    stream_team_sync,
)
from unified_agents.middleware import CallNext
from unified_agents.testing import Reply, ScriptedServer, call

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
CANARY = "sk-CANARY-8d1c"


@dataclass
class Traced:
    """What a process exports."""

    tracers: TracerProvider
    spans: InMemorySpanExporter
    meters: MeterProvider
    metrics: InMemoryMetricReader

    def named(self, *starts: str) -> list[ReadableSpan]:
        """The spans whose names begin so, as they began; all of them without an argument."""
        found = sorted(self.spans.get_finished_spans(), key=lambda span: span.start_time or 0)
        return [span for span in found if span.name.startswith(starts or "")]

    def tree(self) -> str:
        """The spans as a tree: name, `#attempt`, `<the model before`, `!error.type`, then events after a bar."""
        below: dict[int | None, list[ReadableSpan]] = {}
        for span in self.named():
            below.setdefault(span.parent.span_id if span.parent else None, []).append(span)

        def lines(parent: int | None, depth: int) -> Iterator[str]:
            for span in below.get(parent, []):
                yield "  " * depth + _line(span)
                yield from lines(span.context.span_id, depth + 1)

        return "\n".join(lines(None, 0))

    def points(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        """The metrics' data points by name: attributes and point."""
        data = self.metrics.get_metrics_data()
        found = [] if data is None else [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        return {metric.name: [(dict(point.attributes or ()), point) for point in metric.data.data_points] for metric in found}

    def everything(self) -> str:
        """All that leaves the process, as text."""
        return "\n".join([*(span.to_json() for span in self.named()), repr(self.points())])


def attributes(said: ReadableSpan | Event) -> dict[str, Any]:
    """Those of a span or of a span event."""
    return dict(said.attributes or ())


def _line(span: ReadableSpan) -> str:
    said = attributes(span)
    attempt = f" #{said['unified_agents.attempt']}" if span.name.startswith("chat") else ""
    before = f" <{said['unified_agents.fallback.from']}" if "unified_agents.fallback.from" in said else ""
    failed = f" !{said['error.type']}" if "error.type" in said else ""
    assert (span.status.status_code is trace.StatusCode.ERROR) == bool(failed)
    told = " ".join(event.name.removeprefix("unified_agents.") for event in span.events)
    return f"{span.name}{attempt}{before}{failed}{' | ' if told else ''}{told}"


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Traced:
    """A process that traces. A global provider could be set only once, so tracing is shown ours where it looks."""
    tracers, spans, metrics = TracerProvider(), InMemorySpanExporter(), InMemoryMetricReader()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    made = Traced(tracers, spans, MeterProvider([metrics]), metrics)
    monkeypatch.setattr("unified_agents.tracing.providers", lambda: (made.tracers, made.meters))
    monkeypatch.delenv(CAPTURE, raising=False)
    return made


def look(query: str) -> str:
    """Looks something up."""
    return f"SECRET-RESULT {query}"


def broken() -> str:
    """Fails."""
    raise ValueError("SECRET-FAULT")


def busy_team(server: ScriptedServer) -> TeamSpec:
    """A diamond: a retry, tools, a delegation, messages; a group chat beside a fallback model; a failure, and what hangs on it."""
    agents = [
        AgentSpec(name="boss", role="Boss", delegates_to=["ann"], tools=[look, broken], messaging=True),
        AgentSpec(name="ann", role="Worker"),
        AgentSpec(name="cat", role="Cat", model=["gone", "default"]),
    ]
    tasks = [
        TaskSpec(name="one", description="ONE SECRET-PROMPT", agent="boss"),
        TaskSpec(name="two", description="TWO", participants=["boss", "ann"], max_rounds=2, context=["one"]),
        TaskSpec(name="three", description="THREE", agent="cat", context=["one"]),
        TaskSpec(name="four", description="FOUR", agent="ann", context=["two", "three"]),
        TaskSpec(name="five", description="FIVE", agent="ann", after=["four"]),
    ]
    server.reply("HANDED", "SECRET-HELP").reply("TWO", "SECRET-TURN", forever=True)
    server.reply(
        "ONE SECRET-PROMPT",
        Reply(status=500),
        Reply(text="SECRET-THOUGHT", tool_calls=[call("look", {"query": "SECRET-QUERY"}, "c1"), call("SECRET-TOOL", {}, "c2")]),
        Reply(tool_calls=[call("delegate_work_to_coworker", {"task": "HANDED", "coworker": "ann"}, "c3")]),
        Reply(tool_calls=[call("send_message", {"recipient": "ann", "content": "SECRET-NOTE"}, "c4")]),
        Reply(tool_calls=[call("broken", {}, "c5")]),
        "SECRET-ANSWER",
    )
    server.reply("THREE", Reply(status=404), "SECRET-THREE").reply(
        "FOUR", Reply(status=400, body={"error": {"message": f"SECRET-ERROR {CANARY}"}})
    )
    models = {"default": server.model(api_key=CANARY), "gone": server.model(model="groq/gone", api_key=CANARY)}
    return TeamSpec(name="crew", agents=agents, tasks=tasks, models=models)


TREE = """\
invoke_agent crew !BadRequestError | task_skipped
  task one
    invoke_agent boss | call_retried tool_refused
      chat scripted #1 !InternalServerError
      chat scripted #2
      execute_tool look
      chat scripted #1
      execute_tool delegate_work_to_coworker | message_sent work_delegated message_sent
        invoke_agent ann
          chat scripted #1
      chat scripted #1
      execute_tool send_message | message_sent
      chat scripted #1
      execute_tool broken !ValueError
      chat scripted #1
  task two | message_sent message_sent message_sent message_sent
    invoke_agent boss
      chat scripted #1
    invoke_agent ann
      chat scripted #1
  task three | message_sent
    invoke_agent cat | model_replaced
      chat gone #1 !NotFoundError
      chat scripted #1 <groq/gone
  task four !BadRequestError | message_sent message_sent
    invoke_agent ann !BadRequestError
      chat scripted #1 !BadRequestError"""


def fail_busily(server: ScriptedServer, backend: str) -> RunResult:
    """Run the busy team."""
    with pytest.raises(RunError) as caught:
        run_team(busy_team(server), backend=backend)
    assert caught.value.result is not None
    return caught.value.result


def test_the_tree(server: ScriptedServer, backend: str, traced: Traced) -> None:
    """The same on every backend up to the order of parallel tasks: spans, parents, errors, events, in one trace, each within its parent's time."""
    fail_busily(server, backend)
    assert sorted(traced.tree().split("\n  task ")) == sorted(TREE.split("\n  task "))
    first, *_, last = [span.name for span in traced.named("task")]
    assert (first, last) == ("task one", "task four")
    spans = {span.context.span_id: span for span in traced.named()}
    assert len({span.context.trace_id for span in spans.values()}) == 1
    for span in spans.values():
        above = spans[span.parent.span_id] if span.parent else span
        assert (above.start_time or 0) <= (span.start_time or 0) <= (span.end_time or 0) <= (above.end_time or 0)
        assert not [event for event in span.events if event.name == "exception"]


def test_the_attributes(server: ScriptedServer, backend: str, traced: Traced) -> None:
    """Every attribute of a span of each kind, and no other; the run's id on all of them."""
    result = fail_busily(server, backend)
    run = {"gen_ai.conversation.id": result.run_id}
    assert all(attributes(span)["gen_ai.conversation.id"] == result.run_id for span in traced.named())
    found = {span.name: attributes(span) for span in reversed(traced.named())}
    invoked = {"gen_ai.operation.name": "invoke_agent", **run}
    assert found["invoke_agent crew"] == {
        **invoked, "gen_ai.agent.name": "crew", "unified_agents.backend": backend, "unified_agents.run.id": result.run_id,
        "error.type": "BadRequestError",
    }  # fmt: skip
    assert found["task one"] == {**run, "unified_agents.task.name": "one", "unified_agents.backend": backend, "unified_agents.attempt": 1}
    place = {**run, "unified_agents.task.name": "one", "gen_ai.agent.name": "boss"}
    assert found["invoke_agent boss"] == {**invoked, **place}
    assert found["execute_tool look"] == {
        **place, "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "look", "gen_ai.tool.call.id": "c1",
    }  # fmt: skip
    wire = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "scripted",
        "server.address": "127.0.0.1", "server.port": int(server.base_url.split(":")[-1].split("/")[0]),
    }  # fmt: skip
    first, second = traced.named("chat scripted")[:2]
    assert attributes(first) == {**place, **wire, "unified_agents.attempt": 1, "error.type": "InternalServerError"}
    assert attributes(second) == {
        **place, **wire, "unified_agents.attempt": 2, "gen_ai.response.model": "scripted", "gen_ai.response.finish_reasons": ("tool_calls",),
        "gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 3,
    }  # fmt: skip
    assert {span.kind for span in traced.named("chat")} == {trace.SpanKind.CLIENT}
    assert {span.kind for span in traced.named("invoke", "task", "execute")} == {trace.SpanKind.INTERNAL}


def test_what_span_events_say(server: ScriptedServer, backend: str, traced: Traced) -> None:
    """Numbers, names and kinds of what happened, on the span it belongs to."""
    fail_busily(server, backend)
    said = {event.name: attributes(event) for span in traced.named() for event in span.events}
    retried = said["unified_agents.call_retried"]
    assert 0 <= retried.pop("unified_agents.delay_s") <= 1
    assert retried == {"unified_agents.model": "openai/scripted", "unified_agents.attempt": 1, "error.type": "InternalServerError"}
    assert said["unified_agents.model_replaced"] == {
        "unified_agents.model": "groq/gone", "unified_agents.replacement": "openai/scripted", "error.type": "NotFoundError",
    }  # fmt: skip
    assert said["unified_agents.work_delegated"] == {"unified_agents.coworker": "ann", "unified_agents.tool": "delegate_work_to_coworker"}
    assert said["unified_agents.task_skipped"] == {"unified_agents.task.name": "five", "unified_agents.because_of": "four"}


def test_no_content_unless_it_is_asked_for(
    server: ScriptedServer, backend: str, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """No word of a prompt, answer, message, tool argument, tool result or error; with the variable all of them are there. A key never is."""
    fail_busily(server, backend)
    assert "SECRET" not in traced.everything()
    assert CANARY not in traced.everything()
    traced.spans.clear()
    for value in ("false", "1", "no"):
        monkeypatch.setenv(CAPTURE, value)
        fail_busily(server, backend)
        assert "SECRET" not in traced.everything()
    monkeypatch.setenv(CAPTURE, "true")
    fail_busily(server, backend)
    shown = traced.everything()
    for part in ("PROMPT", "THOUGHT", "QUERY", "TOOL", "RESULT", "HELP", "TURN", "NOTE", "FAULT", "ANSWER", "THREE", "ERROR"):
        assert f"SECRET-{part}" in shown
    assert CANARY not in shown


def test_captured_content_has_the_shape_of_the_conventions(
    server: ScriptedServer, backend: str, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Messages as JSON, in parts: text, tool calls, their responses. A key that stands in them is left out."""
    monkeypatch.setenv(CAPTURE, "True")
    server.reply("ECHO", Reply(tool_calls=[call("look", {"query": "q"}, "c1")]), f"it is {CANARY}")
    agent = AgentSpec(name="ann", role="Worker", tools=[look])
    task = TaskSpec(name="t", description=f"ECHO {CANARY}", agent=agent)
    result = run_team(TeamSpec(tasks=[task], models={"default": server.model(api_key=CANARY)}), backend=backend)
    assert result.output == f"it is {CANARY}"
    assert CANARY not in traced.everything()
    first, second = traced.named("chat")
    asked = {"type": "tool_call", "id": "c1", "name": "look", "arguments": '{"query": "q"}'}
    assert _json(first, "gen_ai.output.messages") == [{"role": "assistant", "parts": [asked], "finish_reason": "tool_calls"}]
    system, user, assistant, told = _json(second, "gen_ai.input.messages")
    assert (system["role"], user["role"], assistant["parts"]) == ("system", "user", [asked])
    assert "ECHO …" in user["parts"][0]["content"]
    assert told == {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "SECRET-RESULT q"}]}
    (tool,) = traced.named("execute_tool")
    assert _json(tool, "gen_ai.tool.call.arguments") == {"query": "q"}
    assert attributes(tool)["gen_ai.tool.call.result"] == "SECRET-RESULT q"


def _json(span: ReadableSpan, name: str) -> Any:
    return json.loads(str(attributes(span)[name]))


def test_the_metrics(server: ScriptedServer, backend: str, traced: Traced) -> None:
    """Every attempt in the duration, by error too; tokens of every answer. Units and attributes are those of the conventions."""
    fail_busily(server, backend)
    points = traced.points()
    assert set(points) == {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}
    place = {"gen_ai.operation.name": "chat", "server.address": "127.0.0.1", "server.port": int(server.base_url.split(":")[-1][:-3])}
    durations = {
        (said.pop("gen_ai.provider.name"), said.pop("gen_ai.request.model"), said.pop("gen_ai.response.model", ""), said.pop("error.type", "")): (
            point.count, said == place
        )
        for said, point in points["gen_ai.client.operation.duration"]
    }  # fmt: skip
    answers = len(traced.named("chat")) - 3
    assert durations == {
        ("openai", "scripted", "scripted", ""): (answers, True),
        ("openai", "scripted", "", "InternalServerError"): (1, True),
        ("openai", "scripted", "", "BadRequestError"): (1, True),
        ("groq", "gone", "", "NotFoundError"): (1, True),
    }
    tokens = {said["gen_ai.token.type"]: point.sum for said, point in points["gen_ai.client.token.usage"]}
    assert tokens == {"input": 7 * answers, "output": 3 * answers}
    assert points["gen_ai.client.token.usage"][0][1].explicit_bounds[:3] == (1, 4, 16)
    assert points["gen_ai.client.operation.duration"][0][1].explicit_bounds[0] == 0.01


def test_a_run_stands_under_its_callers_span(server: ScriptedServer, backend: str, traced: Traced) -> None:
    """Called, awaited or streamed; without a span of the caller's it is a trace of its own."""
    server.reply("MARK", "ok", forever=True)
    team = TeamSpec(tasks=[TaskSpec(name="t", description="MARK", agent=AgentSpec(name="a", role="A"))], models={"default": server.model()})
    ways: dict[str, Callable[[], Any]] = {
        "called": lambda: run_team(team, backend=backend),
        "awaited": lambda: asyncio.run(run_team_async(team, backend=backend)),
        "streamed": lambda: list(stream_team_sync(team, backend=backend)),
    }
    for name, way in ways.items():
        with traced.tracers.get_tracer("user").start_as_current_span(name):
            way()
    run_team(team, backend=backend)
    callers = {span.context.span_id: span.name for span in traced.named(*ways)}
    parents = [callers[span.parent.span_id] if span.parent else None for span in traced.named("invoke_agent team")]
    assert parents == [*ways, None]


def test_users_spans_stand_under_ours(server: ScriptedServer, backend: str, traced: Traced) -> None:
    """What a tool traces, sync or async, stands under its call; what a layer or a guardrail traces, under the agent; what a model's client does, under its attempt."""
    user = traced.tracers.get_tracer("user")

    def sync_tool() -> str:
        """Traces."""
        with user.start_as_current_span("in sync_tool"):
            return "ok"

    async def async_tool() -> str:
        """Traces."""
        await asyncio.sleep(0)
        with user.start_as_current_span("in async_tool"):
            return "ok"

    def guardrail(text: str) -> bool:
        with user.start_as_current_span("in guardrail"):
            return True

    async def model(request: ChatRequest) -> ChatResponse:
        with user.start_as_current_span("in model"):
            done = len(request.messages) > 2
        calls = () if done else tuple(_call(name) for name in ("sync_tool", "async_tool"))
        return ChatResponse("done" if done else "", "openai/x", calls)

    class Layer:
        async def __call__(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
            with user.start_as_current_span("in layer"):
                return await call_next(request)

    agent = AgentSpec(name="ann", role="A", tools=[sync_tool, async_tool])
    team = TeamSpec(name="crew", tasks=[TaskSpec(name="t", description="x", agent=agent, guardrail=guardrail)])
    run_team(team, backend=backend, models={"default": model}, middleware=[Layer()])
    spans = {span.context.span_id: span for span in traced.named()}
    above = {(span.name, spans[span.parent.span_id].name) for span in traced.named("in ") if span.parent}
    assert above == {
        ("in sync_tool", "execute_tool sync_tool"), ("in async_tool", "execute_tool async_tool"), ("in guardrail", "invoke_agent ann"),
        ("in layer", "invoke_agent ann"), ("in model", "chat default"),
    }  # fmt: skip
    assert {spans[span.parent.span_id].name for span in traced.named("chat") if span.parent} == {"in layer"}


def _call(name: str) -> Any:
    return ToolCall(f"c_{name}", name, "{}")


def test_the_callers_context_is_left_as_it_was(
    server: ScriptedServer, backend: str, traced: Traced, caplog: pytest.LogCaptureFixture
) -> None:
    """After a run, awaited on the caller's own loop too, no span of ours is current, and nothing failed to detach."""

    async def both() -> tuple[Any, Any]:
        before = trace.get_current_span()
        with pytest.raises(RunError):
            await run_team_async(busy_team(server), backend=backend)
        return before, trace.get_current_span()

    before, after = asyncio.run(both())
    assert before is after
    assert not [record for record in caplog.records if record.name.startswith(("opentelemetry", "unified_agents"))]


def one_task(server: ScriptedServer, **fields: Any) -> TeamSpec:
    """A task of an agent with a tool."""
    agent = AgentSpec(name="ann", role="Worker", tools=[look])
    return TeamSpec(
        **{"name": "crew", "tasks": [TaskSpec(name="t", description="MARK", agent=agent)], "models": {"default": server.model()}, **fields}
    )


def test_a_resumed_run_is_a_trace_of_its_own(server: ScriptedServer, backend: str, traced: Traced) -> None:
    """With the same conversation id; calls that are answered from the record are events, and no spans."""
    team = one_task(server, journal=True)
    server.reply("MARK", Reply(tool_calls=[call("look", {"query": "a"})]), Reply(status=401), "done")
    with pytest.raises(RunError):
        run_team(team, backend=backend, run_id="r1")
    assert resume_run("r1", team=team).output == "done"
    assert traced.tree().split("invoke_agent crew")[2].splitlines() == [
        "", "  task t", "    invoke_agent ann | call_replayed call_replayed", "      chat scripted #1",
    ]  # fmt: skip
    first, second = traced.named("invoke_agent crew")
    assert first.context.trace_id != second.context.trace_id
    ids = [attributes(span)["gen_ai.conversation.id"] for span in (first, second)]
    assert ids == ["r1", "r1"]
    assert [attributes(span).get("unified_agents.run.resumed") for span in (first, second)] == [None, True]
    (replayed,) = [span for span in traced.named("invoke_agent ann") if span.events]
    assert [attributes(event)["unified_agents.kind"] for event in replayed.events] == ["model", "tool"]


def test_memory_and_windows_are_told(server: ScriptedServer, backend: str, traced: Traced) -> None:
    """What was recalled, and what was left out of a request, stand on the agent, as numbers."""

    def read_all() -> str:
        """Reads a lot."""
        return "word " * 3000

    AgentMemory(team="crew").add_to_long_term("low water", "SECRET-FACT")
    server.reply("MARK", Reply(tool_calls=[call("read_all", {})]), "ok")
    task = TaskSpec(name="t", description="MARK low water", agent=AgentSpec(name="ann", role="A", tools=[read_all]))
    run_team(one_task(server, tasks=[task], memory={"tools": False}, token_window={"limit": 1800}), backend=backend)
    (agent,) = traced.named("invoke_agent ann")
    said = {event.name.removeprefix("unified_agents."): attributes(event) for event in agent.events}
    assert said["memory_recalled"]["unified_agents.items"] == 1
    assert said["context_trimmed"]["unified_agents.shortened"] == 1
    assert said["context_trimmed"]["unified_agents.model"] == "openai/scripted"
    assert "SECRET" not in traced.everything()


def test_an_open_circuit_is_told(server: ScriptedServer, backend: str, traced: Traced) -> None:
    """The change of the breaker and the wait for it stand on the agent whose call it was; the attempt that was not made has no span."""
    breaker = {"failure_threshold": 1, "failure_rate": 0.1, "recovery_time": 5}
    server.reply("MARK", Reply(status=500), "ok")
    run_team(one_task(server, resilience={"circuit_breaker": breaker}), backend=backend)
    (agent,) = traced.named("invoke_agent ann")
    told = [(event.name.removeprefix("unified_agents."), attributes(event).get("unified_agents.breaker.state")) for event in agent.events]
    assert ("circuit_opened", "open") in told
    assert ("circuit_closed", "closed") in told
    assert [name for name, _ in told if name == "call_waited"]
    assert len(traced.named("chat")) == len(server.requests) == 2


def test_a_timeout_says_so(server: ScriptedServer, backend: str, traced: Traced) -> None:
    """An attempt that took too long failed with the timeout's name; a task that did, with the task's, and everything under it has ended."""
    server.reply("MARK", Reply(text="late", delay=30), "ok")
    run_team(one_task(server, models={"default": server.model(timeout=1)}), backend=backend)
    assert [attributes(span).get("error.type") for span in traced.named("chat")] == ["APITimeoutError", None]
    traced.spans.clear()

    def slow() -> str:
        """Takes too long."""
        time.sleep(3.5)
        return "late"

    server.reply("SLOW", Reply(tool_calls=[call("slow", {})]))
    task = TaskSpec(name="t", description="SLOW", agent=AgentSpec(name="ann", role="A", tools=[slow]), timeout=3)
    with pytest.raises(RunError):
        run_team(one_task(server, tasks=[task]), backend=backend)
    late = "!TaskTimeoutError"
    assert traced.tree().splitlines() == [
        f"invoke_agent crew {late}", f"  task t {late}", f"    invoke_agent ann {late}", "      chat scripted #1", f"      execute_tool slow {late}",
    ]  # fmt: skip


def _until(happened: Callable[[], Any]) -> None:
    while not happened():
        time.sleep(0.01)


def test_a_cancelled_run_ends_its_spans(server: ScriptedServer, backend: str, traced: Traced) -> None:
    """All of them, as cancelled."""
    server.reply("MARK", Reply(text="late", delay=5))

    async def cancelled() -> None:
        running = asyncio.ensure_future(run_team_async(one_task(server), backend=backend))
        await asyncio.to_thread(_until, lambda: server.requests)
        running.cancel()
        await asyncio.to_thread(_until, lambda: traced.named("invoke_agent crew"))

    asyncio.run(cancelled())
    assert [span.name for span in traced.named()] == ["invoke_agent crew", "task t", "invoke_agent ann", "chat scripted"]
    assert {span.status.status_code for span in traced.named()} == {trace.StatusCode.ERROR}


def test_a_fallback_agent_and_a_fallback_backend(
    server: ScriptedServer, backend: str, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """The task is there again, with its attempt and whose it was, on the backend that it ran on."""
    other = next(name for name in sorted(backends()) if name != backend)
    adapter, built = type(backends()[backend].adapter), []
    build = adapter.build

    def broken_build(self: Any, plan: Any, seam: Any) -> Any:
        built.append(plan)
        if len(built) == 2:
            raise OSError("SECRET-BUILD")
        return build(self, plan, seam)

    monkeypatch.setattr(adapter, "build", broken_build)
    agents = [AgentSpec(name="ann", role="first", fallback="bob"), AgentSpec(name="bob", role="second")]
    server.reply("You are first", Reply(status=400)).reply("You are second", "done")
    team = one_task(server, agents=agents, tasks=[TaskSpec(name="t", description="x", agent="ann")], fallback_backend=other)
    assert run_team(team, backend=backend).output == "done"
    assert traced.tree().splitlines() == [
        "invoke_agent crew | task_reassigned backend_replaced",
        "  task t !BadRequestError",
        "    invoke_agent ann !BadRequestError",
        "      chat scripted #1 !BadRequestError",
        "  task t <ann",
        "    invoke_agent bob",
        "      chat scripted #1",
    ]
    tasks = [attributes(span) for span in traced.named("task")]
    assert [(task["unified_agents.attempt"], task["unified_agents.backend"]) for task in tasks] == [(1, backend), (2, other)]
    assert "SECRET" not in traced.everything()


def test_nothing_is_made_where_nothing_is_set_up(
    server: ScriptedServer, backend: str, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """The negative control: without a provider the same run makes no span and no metric."""
    monkeypatch.setattr("unified_agents.tracing.providers", lambda: None)
    fail_busily(server, backend)
    assert not traced.named()
    assert not traced.points()
