"""What a well-formed team may still have wrong: each fault is found at its place, and its lawful neighbour is not."""

from __future__ import annotations

from typing import Any

import pytest

from unified_agents.checks import agents_in_use, check_team, find_cycles, models_in_use, waits_for
from unified_agents.errors import Problem
from unified_agents.spec import TeamSpec

AGENTS: dict[str, Any] = {name: {"role": f"The {name}"} for name in ("one", "two", "three")}


def team(**fields: Any) -> TeamSpec:
    """A team of three agents and one task, unless `fields` say otherwise."""
    return TeamSpec(**{"agents": AGENTS, "tasks": {"t": {"description": "D", "agent": "one"}}, **fields})


def tasks(process: str | None = "graph", **fields: dict[str, Any]) -> TeamSpec:
    """A team with these tasks, all of them by `one` unless they say who."""
    made = {
        name: {"description": f"Do {name}", **({} if "participants" in rest else {"agent": "one"}), **rest} for name, rest in fields.items()
    }
    return team(tasks=made, process=process)


def agents(**fields: dict[str, Any]) -> TeamSpec:
    """A team whose agents have these fields too."""
    return team(agents={name: {**AGENTS[name], **fields.get(name, {})} for name in AGENTS})


def paths_of(found: TeamSpec) -> list[str]:
    """Where the team is wrong."""
    return sorted(problem.path for problem in check_team(found))


def only(found: TeamSpec) -> Problem:
    """The one problem of the team."""
    problems = check_team(found)
    assert len(problems) == 1, problems
    return problems[0]


TOOL = {"tools": {"search": {"python": "my_tools:search"}}}
CHAT = {"participants": ["one", "two"]}


@pytest.mark.parametrize(
    "found",
    [
        team(),
        tasks(a={}, b={"context": ["a"]}, c={"context": ["a"], "after": ["b"]}),
        tasks("sequential", a={}, b={}, c={"context": ["a"]}),
        agents(
            one={"fallback": "two", "reports_to": "three", "delegates_to": ["two", "three"]},
            two={"fallback": "three", "reports_to": "three"},
        ),
        agents(one={"delegates_to": ["two"]}, two={"delegates_to": ["one"]}),
        agents(one={"delegates_to": "all"}),
        agents(one={"model": "openai/gpt-4o"}, two={"model": ["openai/a", "groq/b"]}),
        team(
            models={"default": {"model": "openai/a", "fallbacks": ["small"]}, "small": "local/b"}, resilience={"fallback_models": ["small"]}
        ),
        team(models={"small": "local/b"}, agents={"one": {"role": "R", "model": "small"}}),
        tasks(
            t={
                **CHAT,
                "speaker_selection": "my_tools:next_speaker",
                "max_rounds": 6,
                "stop_when": {"says": "DONE", "by": "two"},
                "result": "transcript",
            }
        ),
        tasks(t={**CHAT, "speaker_selection": "model", "stop_when": {"says": "DONE"}}),
        tasks(
            t={
                "guardrail": "my_tools:check",
                "guardrail_retries": 2,
                "output_file": "out/article.json",
                "output_schema": {"type": "object"},
            }
        ),
        team(agents={"one": {"instructions": "Help."}}),
        team(agents={"one": {"role": "R", "tools": ["search"]}}, **TOOL),
        team(
            tools={
                "a": {"mcp": {"command": "npx", "args": ["x"]}},
                "b": {"mcp": {"url": "http://host"}},
                "c": {"python": "my_tools:C", "with": {"n": 1}},
            }
        ),
        team(tasks={"t": {"description": "D"}}, delegation={"strategy": "round_robin", "agents": ["one", "two"]}),
        team(tasks={"t": {"description": "D", "expertise": ["x"]}}, delegation={"strategy": "by_expertise", "manager": "two"}),
        team(tasks={"t": {"description": "D"}}, delegation={"strategy": "hierarchical", "manager": "three"}),
        team(memory={"store": "sqlite:///x.db"}, journal=True, middleware=["my_tools:Layer"]),
        team(inputs={"topic": "AI"}, tasks={"t": {"description": "On {topic}, not {{other}}", "agent": "one"}}),
    ],
)
def test_what_is_right_passes(found: TeamSpec) -> None:
    """Nothing of what the documentation shows is reported."""
    assert check_team(found) == []


@pytest.mark.parametrize(
    ("found", "path", "words"),
    [
        (team(tasks={}), "tasks", ["task"]),
        (tasks(t={"agent": "onne"}), "tasks.t.agent", ["onne", "did you mean 'one'", "two"]),
        (tasks(t={"agent": "nobody"}), "tasks.t.agent", ["nobody", "one, "]),
        (tasks(a={}, b={"context": ["a", "aa"]}), "tasks.b.context[1]", ["aa", "did you mean 'a'"]),
        (tasks(a={}, b={"after": ["x"]}), "tasks.b.after[0]", ["'x'", "a"]),
        (tasks(a={}, b={"context": ["b"]}), "tasks.b.context[0]", ["itself"]),
        (tasks(a={}, b={"after": ["a", "b"]}), "tasks.b.after[1]", ["itself"]),
        (tasks(t={"description": " \n"}), "tasks.t.description", ["empty"]),
        (team(tasks={"t": {"description": "D"}}), "tasks.t", ["agent"]),
        (tasks(t={**CHAT, "agent": "one"}), "tasks.t.participants", ["agent"]),
        (tasks(t={"participants": ["one", "tow"]}), "tasks.t.participants[1]", ["did you mean 'two'"]),
        (tasks(t={"max_rounds": 3}), "tasks.t.max_rounds", ["participants"]),
        (tasks(t={"result": "last"}), "tasks.t.result", ["participants"]),
        (tasks(t={**CHAT, "stop_when": {"says": "X", "by": "three"}}), "tasks.t.stop_when.by", ["three", "one"]),
        (tasks(t={**CHAT, "speaker_selection": "random"}), "tasks.t.speaker_selection", ["random", "round_robin", "model"]),
        (tasks(t={"guardrail": "check"}), "tasks.t.guardrail", ["check", "MODULE:NAME"]),
        (tasks(t={"guardrail": "a.b.c:d.e"}), "tasks.t.guardrail", ["MODULE:NAME"]),
        (tasks(t={"guardrail_retries": 1}), "tasks.t.guardrail_retries", ["guardrail"]),
        (tasks(t={"output_schema": "Article"}), "tasks.t.output_schema", ["Article", "JSON Schema"]),
        (tasks(t={"output_file": "/etc/passwd"}), "tasks.t.output_file", ["/etc/passwd", "inside"]),
        (tasks(t={"output_file": "a/../../b"}), "tasks.t.output_file", ["inside"]),
        (tasks(t={"output_file": "C:\\x"}), "tasks.t.output_file", ["inside"]),
        (tasks(t={"output_file": "..\\x"}), "tasks.t.output_file", ["inside"]),
        (agents(one={"fallback": "tow"}), "agents.one.fallback", ["did you mean 'two'"]),
        (agents(one={"fallback": "one"}), "agents.one.fallback", ["itself"]),
        (agents(one={"reports_to": "boss"}), "agents.one.reports_to", ["boss", "two"]),
        (agents(one={"reports_to": "one"}), "agents.one.reports_to", ["itself"]),
        (agents(one={"delegates_to": ["two", "thre"]}), "agents.one.delegates_to[1]", ["did you mean 'three'"]),
        (agents(one={"delegates_to": ["one"]}), "agents.one.delegates_to[0]", ["itself"]),
        (team(agents={"one": {"goal": "G"}}), "agents.one", ["role or instructions"]),
        (team(agents={"one": {"role": " ", "instructions": ""}}), "agents.one", ["role or instructions"]),
        (team(agents={"one": {"role": "R", "tools": ["serch"]}}, **TOOL), "agents.one.tools[0]", ["did you mean 'search'"]),
        (team(agents={"one": {"role": "R", "tools": [5]}}), "agents.one.tools[0]", ["5"]),
        (agents(one={"model": "smal"}), "agents.one.model", ["smal", "PROVIDER/NAME"]),
        (agents(one={"model": "opnai/x"}), "agents.one.model", ["did you mean 'openai'"]),
        (agents(one={"model": ["openai/x", "smal"]}), "agents.one.model[1]", ["smal"]),
        (team(models={"default": "gpt-4o"}), "models.default.model", ["gpt-4o", "PROVIDER/NAME"]),
        (team(models={"default": {"model": "openai/x", "base_url": "host/v1"}}), "models.default.base_url", ["http"]),
        (team(models={"default": {"model": "openai/x", "base_url": "http://169.254.169.254"}}), "models.default.base_url", ["link-local"]),
        (
            team(models={"default": {"model": "openai/x", "fallbacks": ["smal"]}, "small": "local/y"}),
            "models.default.fallbacks[0]",
            ["did you mean 'small'"],
        ),
        (team(models={"default": {"model": "openai/x", "fallbacks": ["default"]}}), "models.default.fallbacks[0]", ["itself"]),
        (
            team(models={"default": "openai/x"}, resilience={"fallback_models": ["small"]}),
            "resilience.fallback_models[0]",
            ["small", "default"],
        ),
        (team(models={"small": "local/x"}), "models", ["default", "one"]),
        (team(tools={"x": {"description": "D"}}), "tools.x", ["python", "mcp"]),
        (team(tools={"x": {"python": "m:f", "mcp": {"url": "http://h"}}}), "tools.x", ["exactly one"]),
        (team(tools={"x": {"python": "m.f"}}), "tools.x.python", ["m.f", "MODULE:NAME"]),
        (team(tools={"x": {"mcp": {"command": "c", "url": "http://h"}}}), "tools.x.mcp", ["command", "url"]),
        (team(tools={"x": {"mcp": {"url": "http://h"}, "with": {"n": 1}}}), "tools.x.with", ["python"]),
        (team(middleware=["m:Layer", "Layer"]), "middleware[1]", ["Layer", "MODULE:NAME"]),
        (team(delegation={"agents": ["one", "for"]}), "delegation.agents[1]", ["for"]),
        (team(delegation={"strategy": "hierarchical"}), "delegation.manager", ["manager"]),
        (team(delegation={"strategy": "hierarchical", "manager": "tree"}), "delegation.manager", ["did you mean 'three'"]),
        (team(memory={"store": "memory.db"}), "memory.store", ["memory.db", "sqlite:///"]),
        (team(journal={"store": "redis://x"}), "journal.store", ["redis://x", "sqlite:///"]),
        (
            team(inputs={"topic": "AI"}, tasks={"t": {"description": "On {topc}", "agent": "one"}}),
            "tasks.t.description",
            ["topc", "did you mean 'topic'", "{{topc}}"],
        ),
        (team(inputs={}, agents={"one": {"role": "R", "expertise": ["a", "{x}"]}}), "agents.one.expertise[1]", ["{x}"]),
        (team(inputs={}, agents={"one": {"role": "R", "personality": {"tone": "{x}"}}}), "agents.one.personality.tone", ["{x}"]),
        (team(inputs={"2nd": "x"}), "inputs.2nd", ["letters"]),
    ],
)
def test_what_is_wrong_is_found_at_its_place(found: TeamSpec, path: str, words: list[str]) -> None:
    """A fault is reported once, under the path a user would look at, with what is allowed instead."""
    problem = only(found)
    assert problem.path == path
    assert [word for word in words if word not in problem.message] == []


@pytest.mark.parametrize(
    ("found", "cycle"),
    [
        (tasks(a={"context": ["b"]}, b={"context": ["a"]}), ["a", "b"]),
        (tasks(a={"after": ["b"]}, b={"after": ["a"]}), ["a", "b"]),
        (tasks(a={"after": ["c"]}, b={"context": ["a"]}, c={"after": ["b"]}, d={"context": ["a"]}), ["a", "b", "c"]),
        (agents(one={"reports_to": "two"}, two={"reports_to": "one"}), ["one", "two"]),
        (agents(one={"reports_to": "two"}, two={"reports_to": "three"}, three={"reports_to": "one"}), ["one", "two", "three"]),
        (agents(one={"fallback": "two"}, two={"fallback": "one"}), ["one", "two"]),
    ],
)
def test_a_cycle_is_one_problem_that_names_its_members(found: TeamSpec, cycle: list[str]) -> None:
    """Tasks and agents that wait for each other are reported once, with all names of the ring."""
    problem = only(found)
    assert problem.path.split(".")[1] in cycle
    assert "cycle" in problem.message
    assert all(name in problem.message for name in cycle)


def test_two_cycles_are_two_problems() -> None:
    """One ring does not hide another."""
    assert len(check_team(tasks(a={"after": ["b"]}, b={"after": ["a"]}, c={"after": ["d"]}, d={"after": ["c"]}))) == 2


@pytest.mark.parametrize(
    ("edges", "count"),
    [
        ({"a": ["b"], "b": ["c"], "c": []}, 0),
        ({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}, 0),
        ({"a": ["b"], "b": ["a"], "c": ["a"]}, 1),
        ({"a": ["b", "c"], "b": ["a"], "c": ["a"]}, 1),
        ({str(i): [str((i + 1) % 5000)] for i in range(5000)}, 1),
        ({str(i): [str(i + 1)] for i in range(5000)} | {"5000": []}, 0),
    ],
)
def test_cycles_of_any_length_are_found(edges: dict[str, list[str]], count: int) -> None:
    """A diamond is no cycle, a long chain no recursion error, and a ring is found."""
    found = find_cycles(edges)
    assert bool(found) == bool(count)
    for cycle in found:
        assert all(after in edges[name] for name, after in zip(cycle, [*cycle[1:], cycle[0]], strict=True))


@pytest.mark.parametrize(
    ("found", "fine"),
    [
        (tasks(None, a={}, b={}), False),
        (tasks(None, a={}, b={}, c={}), False),
        (tasks(None, a={}), True),
        (tasks(None, a={}, b={"context": ["a"]}), True),
        (tasks(None, a={}, b={"after": ["a"]}), True),
        (tasks(None, a={"context": []}, b={}), True),
        (tasks(None, a={"after": []}, b={}), True),
        (tasks("graph", a={}, b={}), True),
        (tasks("sequential", a={}, b={}), True),
    ],
)
def test_the_order_of_several_tasks_must_be_said(found: TeamSpec, fine: bool) -> None:
    """Two tasks with neither process, context nor after are an error that shows both choices."""
    if fine:
        assert check_team(found) == []
    else:
        problem = only(found)
        assert problem.path == "process"
        assert "process: sequential" in problem.message
        assert "process: graph" in problem.message


def test_a_sequential_task_names_only_earlier_ones() -> None:
    """A later task in `context` can never have run: the error says so; in a graph the same file is fine."""
    problem = only(tasks("sequential", a={"context": ["b"]}, b={}))
    assert problem.path == "tasks.a.context[0]"
    assert "earlier" in problem.message
    assert check_team(tasks("graph", a={"context": ["b"]}, b={})) == []


def test_all_faults_are_found_at_once() -> None:
    """One fault does not hide the next, in any section."""
    found = TeamSpec.model_validate(
        {
            "agents": {"one": {"role": "R {x}", "fallback": "two", "tools": ["t"]}},
            "tasks": {
                "a": {"description": "D", "agent": "oen", "context": ["b", "c"]},
                "b": {"description": " ", "context": ["a"]},
            },
            "inputs": {},
            "models": {"default": "x"},
            "journal": {"store": "x"},
        }
    )
    assert paths_of(found) == [
        "agents.one.fallback", "agents.one.role", "agents.one.tools[0]", "journal.store", "models.default.model",
        "tasks.a.agent", "tasks.a.context[0]", "tasks.a.context[1]", "tasks.b", "tasks.b.description",
    ]  # fmt: skip


def test_inputs_of_a_python_team_are_inferred() -> None:
    """Built in Python without `inputs`, any placeholder is an input; with `inputs`, it must be declared."""
    text = {"t": {"description": "On {topic}", "agent": "one"}}
    assert check_team(team(tasks=text)) == []
    assert paths_of(team(tasks=text, inputs={})) == ["tasks.t.description"]


def test_a_human_needs_no_role() -> None:
    """A human agent speaks through the reviewer, not through a prompt."""
    assert (
        check_team(team(agents={"one": {"role": "R"}, "editor": {"human": True}}, tasks=tasks(t={"participants": ["one", "editor"]}).tasks))
        == []
    )


def test_what_tasks_wait_for() -> None:
    """A sequential task waits for the one before it; in a graph only what is named counts, each once."""
    assert waits_for(tasks("sequential", a={}, b={}, c={"context": ["a"]})) == {"a": [], "b": ["a"], "c": ["b", "a"]}
    assert waits_for(tasks("graph", a={}, b={}, c={"context": ["a"], "after": ["b", "a"]})) == {"a": [], "b": [], "c": ["a", "b"]}


@pytest.mark.parametrize(
    ("found", "used"),
    [
        (team(), ["one"]),
        (tasks(t=CHAT), ["one", "two"]),
        (agents(one={"fallback": "two"}, two={"fallback": "three"}), ["one", "two", "three"]),
        (agents(one={"delegates_to": ["three"]}), ["one", "three"]),
        (agents(one={"delegates_to": "all"}), ["one", "two", "three"]),
        (agents(two={"fallback": "three"}), ["one"]),
        (team(tasks={"t": {"description": "D"}}, delegation={"strategy": "round_robin"}), ["one"]),
        (
            team(tasks={"t": {"description": "D"}, "u": {"description": "D", "after": ["t"]}}, delegation={"strategy": "round_robin"}),
            ["one", "two"],
        ),
        (team(tasks={"t": {"description": "D"}}, delegation={"strategy": "round_robin", "agents": ["two"]}), ["two"]),
        (
            team(tasks={"t": {"description": "D"}}, delegation={"strategy": "hierarchical", "agents": ["two"], "manager": "three"}),
            ["two", "three"],
        ),
    ],
)
def test_agents_in_use(found: TeamSpec, used: list[str]) -> None:
    """In use is who does a task, or may be asked by one who does."""
    assert agents_in_use(found) == used


@pytest.mark.parametrize(
    ("fields", "used"),
    [
        ({}, {"default"}),
        ({"agents": {"one": {"role": "R", "model": "small"}}}, {"small"}),
        ({"agents": {"one": {"role": "R", "model": ["small", "big"]}}}, {"small", "big"}),
        (
            {"models": {"default": {"model": "openai/x", "fallbacks": ["small"]}, "small": "local/y", "big": "openai/z"}},
            {"default", "small"},
        ),
        ({"resilience": {"fallback_models": ["big"]}}, {"default", "big"}),
        ({"agents": {"one": {"role": "R", "model": "small"}, "two": {"role": "S", "model": "big"}}}, {"small"}),
        (
            {
                "agents": {"one": {"role": "R", "model": "small"}, "ed": {"human": True}},
                "tasks": {"t": {"description": "D", "participants": ["one", "ed"]}},
            },
            {"small"},
        ),
    ],
)
def test_models_in_use(fields: dict[str, Any], used: set[str]) -> None:
    """In use is what an agent in use may call, and what that falls back to; a human calls none."""
    models = {"default": "openai/x", "small": "local/y", "big": "openai/z"}
    found = team(**{"models": models, **fields})
    assert models_in_use(found) & set(models) == used
