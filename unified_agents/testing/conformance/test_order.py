"""When a task starts and what it sees."""

from __future__ import annotations

from typing import Any

import pytest

from unified_agents import AgentSpec, TaskSpec, TeamSpec, run_team
from unified_agents.testing import Reply, ScriptedServer

AGENT = AgentSpec(name="worker", role="Worker", goal="Work")


def team(server: ScriptedServer, tasks: dict[str, dict[str, Any]], **fields: Any) -> TeamSpec:
    """One agent with all tasks; a task's description is MARK-name."""
    specs = [TaskSpec(name=name, description=f"MARK-{name}.", agent=AGENT, **more) for name, more in tasks.items()]
    return TeamSpec(tasks=specs, models={"default": server.model()}, **fields)


def seen(server: ScriptedServer, name: str) -> set[str]:
    """Which outputs are in the request of a task."""
    (request,) = server.asked(f"MARK-{name}.")
    return {word for word in ("OUT-a", "OUT-b", "OUT-c") if word in request.text}


def answers(server: ScriptedServer, *names: str) -> None:
    """Answer MARK-x with OUT-x."""
    for name in names:
        server.reply(f"MARK-{name}.", f"OUT-{name}")


@pytest.mark.parametrize(
    ("process", "fields", "expected"),
    [
        ("graph", {"b": {}, "c": {"context": ["a"]}}, {"b": set(), "c": {"OUT-a"}}),
        ("graph", {"b": {"context": ["a"]}, "c": {"context": ["b"]}}, {"b": {"OUT-a"}, "c": {"OUT-b"}}),
        ("graph", {"b": {"after": ["a"]}, "c": {"context": ["a", "b"]}}, {"b": set(), "c": {"OUT-a", "OUT-b"}}),
        ("sequential", {"b": {}, "c": {}}, {"b": {"OUT-a"}, "c": {"OUT-a", "OUT-b"}}),
        ("sequential", {"b": {"context": []}, "c": {"context": ["a"]}}, {"b": set(), "c": {"OUT-a"}}),
        (None, {"b": {"context": ["a"]}, "c": {}}, {"b": {"OUT-a"}, "c": set()}),
    ],
)
def test_a_task_sees_exactly_its_context(
    server: ScriptedServer, backend: str, process: Any, fields: Any, expected: dict[str, set[str]]
) -> None:
    """`context` shows these outputs and no other; absent it shows none in a graph and all earlier ones in a sequence."""
    answers(server, "a", "b", "c")
    run_team(team(server, {"a": {}, **fields}, process=process), backend=backend)
    assert {name: seen(server, name) for name in expected} == expected


@pytest.mark.parametrize("process", ["graph", "sequential"])
def test_a_task_starts_after_what_it_waits_for(server: ScriptedServer, backend: str, process: Any) -> None:
    """`after` and the order of a sequence hold back a task until the answer before it is there."""
    server.reply("MARK-a.", Reply(text="OUT-a", delay=0.2)).reply("MARK-b.", "OUT-b")
    run_team(team(server, {"a": {}, "b": {"after": ["a"]} if process == "graph" else {}}, process=process), backend=backend)
    first, second = server.asked("MARK-a.")[0], server.asked("MARK-b.")[0]
    assert second.started >= first.ended


@pytest.mark.needs("parallel_tasks")
def test_independent_tasks_of_one_agent_run_at_the_same_time(server: ScriptedServer, backend: str) -> None:
    """In a graph eight tasks of one agent are all in flight together."""
    names = [f"t{n}" for n in range(8)]
    for name in names:
        server.reply(f"MARK-{name}.", Reply(text="x", delay=0.5))
    run_team(team(server, {name: {} for name in names}, process="graph"), backend=backend)
    assert len(server.requests) == 8
    assert max(request.started for request in server.requests) < min(request.ended for request in server.requests)


@pytest.mark.needs("parallel_tasks")
def test_an_uneven_graph_is_eager(server: ScriptedServer, backend: str) -> None:
    """t1 → t2, t3; t4 after both; t5 after t2: t5 is asked while t3 still runs, and t4 only after both."""
    server.reply("MARK-t3.", Reply(text="OUT", delay=1.0))
    for name in ("t1", "t2", "t4", "t5"):
        server.reply(f"MARK-{name}.", Reply(text="OUT", delay=0.1))
    graph = {"t1": {}, "t2": {"context": ["t1"]}, "t3": {"context": ["t1"]}, "t4": {"context": ["t2", "t3"]}, "t5": {"context": ["t2"]}}
    result = run_team(team(server, graph), backend=backend)
    times = {name: server.asked(f"MARK-{name}.")[0] for name in graph}
    assert times["t2"].ended <= times["t5"].started < times["t5"].ended < times["t3"].ended
    assert times["t4"].started >= times["t3"].ended
    assert list(result.tasks) == list(graph)


def test_the_output_is_the_last_task_nothing_depends_on(server: ScriptedServer, backend: str) -> None:
    """File order decides among the leaves, not who finishes last."""
    server.reply("MARK-a.", Reply(text="OUT-a", delay=0.3)).reply("MARK-b.", "OUT-b")
    assert run_team(team(server, {"a": {}, "b": {}}, process="graph"), backend=backend).output == "OUT-b"
