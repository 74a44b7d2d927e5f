"""Fault tolerance and teamwork together: what a user meets when several things go wrong at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from unified_agents import AgentSpec, ModelError, RunError, TaskSpec, TeamSpec, backends, run_team
from unified_agents.chat_models import ChatRequest, ChatResponse
from unified_agents.testing import Reply, ScriptedServer, call

OVERFLOW = Reply(status=400, body={"error": {"message": "x", "code": "context_length_exceeded"}})


def another(backend: str) -> str:
    """A backend that is not this one."""
    return next(name for name in sorted(backends()) if name != backend and backends()[name].available)


def broken_on(turn: int, monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    """Let the framework itself fail when its team is built for the `turn`th time."""
    adapter = type(backends()[backend].adapter)
    build, built = adapter.build, []

    def broken(self: Any, plan: Any, seam: Any) -> Any:
        built.append(plan)
        if len(built) == turn:
            raise OSError("the framework is broken")
        return build(self, plan, seam)

    monkeypatch.setattr(adapter, "build", broken)


def test_a_fallback_agent_is_asked_when_the_framework_fails_next(
    server: ScriptedServer, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """The first agent fails for good, then the framework fails before the second one is asked: the other framework asks it."""
    broken_on(2, monkeypatch, backend)
    server.reply("You are first", Reply(status=400)).reply("You are second", "DONE")
    agents = [AgentSpec(name="a", role="first", goal="g", fallback="b"), AgentSpec(name="b", role="second", goal="g")]
    team = TeamSpec(
        agents=agents,
        tasks=[TaskSpec(name="t", description="x", agent="a")],
        models={"default": server.model()},
        fallback_backend=another(backend),
    )
    task = run_team(team, backend=backend).tasks["t"]
    assert (task.status, task.agent, task.backend, task.output, task.attempts) == ("completed", "b", another(backend), "DONE", 2)
    assert [note for note in task.notes if note.startswith("a failed: BadRequestError")]


def sending(recipient: str, text: str) -> Reply:
    """A model that writes to another agent."""
    return Reply(tool_calls=[call("send_message", {"recipient": recipient, "content": text})])


def test_a_repeated_task_hears_and_says_everything_once(server: ScriptedServer, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that the framework broke off is run again elsewhere: it reads its message again, and what it sent is not sent twice."""
    adapter = type(backends()[backend].adapter)
    build = adapter.build

    def broken(self: Any, plan: Any, seam: Any) -> Any:
        team = build(self, plan, seam)
        run = team.run

        async def run_and_break(report: Any) -> None:
            async def reported(outcome: Any) -> None:
                if outcome.task == "two":
                    raise OSError("the framework is broken")
                await report(outcome)

            await run(reported)

        monkeypatch.setattr(team, "run", run_and_break)
        return team

    monkeypatch.setattr(adapter, "build", broken)
    server.reply("You are ann", sending("bob", "THE-PASSWORD"), "one")
    server.reply("You are bob", sending("cid", "HI-CID"), "two", sending("cid", "HI-CID"), "two")
    server.reply("You are cid", "three")
    agents = [AgentSpec(name=name, role=name, goal="g", messaging=True) for name in ("ann", "bob", "cid")]
    tasks = [
        TaskSpec(name=name, description="x", agent=agent, context=[]) for name, agent in (("one", "ann"), ("two", "bob"), ("three", "cid"))
    ]
    team = TeamSpec(process="sequential", agents=agents, tasks=tasks, models={"default": server.model()}, fallback_backend=another(backend))
    result = run_team(team, backend=backend)
    assert result.tasks["two"].backend == another(backend)
    assert [text.count("THE-PASSWORD") for text in (request.text for request in server.asked("You are bob"))] == [1, 1, 1, 1]
    assert server.asked("You are cid")[0].text.count("HI-CID") == 1
    assert [message.content for message in result.messages if message.message_type == "direct"] == ["THE-PASSWORD", "HI-CID"]
    assert all(message.undelivered == [] for message in result.messages)


def test_a_tasks_timeout_ends_an_async_tool(server: ScriptedServer, backend: str) -> None:
    """A tool that is still awaited when the time is up is cancelled, so nothing of it happens afterwards."""
    seen: list[str] = []

    async def slow() -> str:
        """Sleeps."""
        seen.append("begun")
        await asyncio.sleep(3.5)
        seen.append("finished")
        return "late"

    server.reply("MARK", Reply(tool_calls=[call("slow")]), "never")
    agent = AgentSpec(name="a", role="r", tools=[slow])
    team = TeamSpec(tasks=[TaskSpec(name="t", description="MARK", agent=agent, timeout=2.5)], models={"default": server.model()})
    with pytest.raises(RunError, match=r"longer than 2\.5 s"):
        run_team(team, backend=backend)
    time.sleep(1.6)
    assert seen == ["begun"]


def test_an_error_class_of_a_users_own_keeps_its_words(backend: str) -> None:
    """Whatever its `__init__` asks for, the original error comes out, with the task's name."""

    class OwnError(ModelError):
        def __init__(self, code: int, text: str) -> None:
            super().__init__(f"{code}: {text}")
            self.code = code

    async def model(_request: ChatRequest) -> ChatResponse:
        raise OwnError(7, "no luck")

    team = TeamSpec(tasks=[TaskSpec(name="t", description="x", agent=AgentSpec(name="a", role="r"))])
    with pytest.raises(OwnError, match="7: no luck") as caught:
        run_team(team, backend=backend, models={"default": model})
    assert (caught.value.task, caught.value.code) == ("t", 7)


def test_models_of_a_callers_own_have_a_health_each(backend: str, waits: list[float]) -> None:
    """One object that keeps failing opens no circuit for another one that stands in the same place."""

    async def dead(request: ChatRequest) -> ChatResponse:
        from unified_agents.errors import InternalServerError

        raise InternalServerError("down", model=request.model.model)

    async def fine(request: ChatRequest) -> ChatResponse:
        return ChatResponse("fine", request.model.model)

    team = TeamSpec(
        tasks=[TaskSpec(name="t", description="x", agent=AgentSpec(name="a", role="r"))],
        resilience={"retry": {"max_attempts": 2}, "circuit_breaker": {"failure_threshold": 2}},
    )
    with pytest.raises(RunError):
        run_team(team, backend=backend, models={"default": dead})
    waits.clear()
    assert run_team(team, backend=backend, models={"default": fine}).output == "fine"
    assert waits == []


def lookup(q: str) -> str:
    """Looks up."""
    return f"FOUND {q} " + "word " * 150


def long_conversation(rounds: int) -> list[Reply]:
    """A model that calls a tool in each of its first answers."""
    return [Reply(tool_calls=[call("lookup", {"q": str(number)})]) for number in range(rounds)]


def overflowing(server: ScriptedServer, backend: str, replies: Sequence[str | Reply], **fields: Any) -> Any:
    """Run a conversation with a tool against these replies."""
    server.reply("MARK", *replies)
    agent = AgentSpec(name="a", role="r", tools=[lookup], model=fields.pop("model", None))
    models = {"default": server.model(**fields.pop("of_model", {})), **fields.pop("models", {})}
    return run_team(TeamSpec(tasks=[TaskSpec(name="t", description="MARK", agent=agent)], models=models, **fields), backend=backend)


def test_a_trimmed_request_that_is_still_too_large_is_halved(server: ScriptedServer, backend: str) -> None:
    """Counts may be wrong, so a model's own word counts also where a window is known: one more request, with less."""
    result = overflowing(server, backend, [*long_conversation(8), OVERFLOW, "done"], of_model={"context_window": 2600})
    assert result.output == "done"
    assert len(server.requests) == 10
    assert len(server.requests[9].text) < len(server.requests[8].text) * 0.75


def test_an_overflow_adds_one_attempt_and_no_more(server: ScriptedServer, backend: str) -> None:
    """Three failures, an overflow, and then failures: four attempts and the one with less."""
    bad = Reply(status=500)
    with pytest.raises(RunError, match="HTTP 500"):
        overflowing(server, backend, [*long_conversation(6), bad, bad, bad, OVERFLOW, bad, bad, bad, bad])
    assert len(server.requests) == 6 + 4 + 1


def test_another_model_is_asked_when_a_request_is_too_large(server: ScriptedServer, backend: str) -> None:
    """It may have a larger window."""
    other = {"other": server.model(model="openai/large")}
    result = overflowing(server, backend, [*long_conversation(4), OVERFLOW, OVERFLOW, "done"], model=["default", "other"], models=other)
    assert (result.output, result.tasks["t"].models[-1]) == ("done", "openai/large")


def test_a_summary_that_fails_costs_no_task(server: ScriptedServer, backend: str) -> None:
    """Then the oldest messages are left out without one."""
    server.reply("Sum all of it up", Reply(status=400), forever=True)
    window = {"limit": 2600, "strategy": "summarize"}
    assert overflowing(server, backend, [*long_conversation(8), "done"], token_window=window).output == "done"
    assert server.asked("Sum all of it up")
