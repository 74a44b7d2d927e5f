"""Names and texts that frameworks stumble over: the same whole result on every backend."""

from __future__ import annotations

import json
from typing import Any

import pytest

from unified_agents import AgentSpec, RunError, TaskSpec, TeamSpec, run_team
from unified_agents.testing import ScriptedServer

AGENT = AgentSpec(name="worker", role="Worker", goal="Work")

ANSWERS = [
    "I think so. Final Answer: 42",
    "Action:\nAction Input: {}",
    "Thought: hm\nAction: search\nAction Input: {\"q\": 1}\nObservation: none",
    "All done. TERMINATE",
    "TERMINATE",
    '{"a": {"b": [1, 2, {"c": null}]}}',
    "{tools} {tool_names} {input} {role} {goal} {backstory} {topic} {{x}} {}",
    "exit",
    "```python\nprint('not run')\n```",
    "```` four ticks ```",
    "Delegate work to coworker: {}",
    "naïve — 日本語 🙂 \u2060 end",
    "<output>\n</output>",
    "x" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("answer", ANSWERS, ids=range(len(ANSWERS)))
def test_an_answer_is_taken_and_handed_on_whole(server: ScriptedServer, backend: str, answer: str) -> None:
    """One request a task; the answer is the task's output to the letter, and the next task sees all of it."""
    server.reply("MARK-ONE", answer).reply("MARK-TWO", "ok")
    tasks = [
        TaskSpec(name="one", description="MARK-ONE", agent=AGENT),
        TaskSpec(name="two", description="MARK-TWO", agent=AGENT, context=["one"]),
    ]
    result = run_team(TeamSpec(tasks=tasks, models={"default": server.model()}), backend=backend)
    assert result.tasks["one"].output == answer
    assert result.output == "ok"
    assert answer in server.asked("MARK-TWO")[0].messages[1]["content"]
    assert len(server.requests) == 2


def test_answers_lose_outer_white_space(server: ScriptedServer, backend: str) -> None:
    """White space around an answer is no part of it; inside it stays."""
    server.reply("MARK", "\n  a\n\n  b \n")
    result = run_team(
        TeamSpec(tasks=[TaskSpec(name="t", description="MARK", agent=AGENT)], models={"default": server.model()}), backend=backend
    )
    assert result.output == "a\n\n  b"


NAMES = ["with spaces", "ünï-cødé 日本", "n" * 80, "1st", "a.b[c]", "class", "x/y:z", "'quoted'", "{braces}", "TERMINATE"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_will_do(server: ScriptedServer, backend: str, name: str) -> None:
    """Agents, tasks and teams keep their names in the result, whatever a framework allows."""
    server.reply("MARK-ONE", "one").reply("MARK-TWO", "two")
    agent = AgentSpec(name=name, role=name.replace("{", "{{").replace("}", "}}"), goal="Work")
    tasks = [
        TaskSpec(name=name, description="MARK-ONE", agent=agent),
        TaskSpec(name="two", description="MARK-TWO", agent=agent, context=[name]),
    ]
    result = run_team(TeamSpec(name=name, tasks=tasks, models={"default": server.model()}), backend=backend)
    assert result.team == name
    assert (result.tasks[name].agent, result.tasks[name].output, result.output) == (name, "one", "two")
    assert [(message.sender, message.recipient, message.content) for message in result.messages] == [(name, name, "one")]


def test_two_agents_may_have_one_role(server: ScriptedServer, backend: str) -> None:
    """Each task is done by its own agent, although the roles are the same."""
    server.reply("GOAL-A", "from a").reply("GOAL-B", "from b")
    agents = [AgentSpec(name="a", role="Twin", goal="GOAL-A"), AgentSpec(name="b", role="Twin", goal="GOAL-B")]
    tasks = [TaskSpec(name=f"t{agent.name}", description="same", agent=agent, context=[]) for agent in agents]
    result = run_team(TeamSpec(tasks=tasks, models={"default": server.model()}), backend=backend)
    assert {name: task.output for name, task in result.tasks.items()} == {"ta": "from a", "tb": "from b"}


def test_two_tasks_may_have_one_text(server: ScriptedServer, backend: str) -> None:
    """Two tasks of equal text and agent are two tasks."""
    server.reply("same text", "first", "second")
    tasks = [TaskSpec(name=name, description="same text", agent=AGENT) for name in ("one", "two")]
    result = run_team(TeamSpec(tasks=tasks, process="sequential", models={"default": server.model()}), backend=backend)
    assert [task.output for task in result.tasks.values()] == ["first", "second"]


TEXTS: list[tuple[str, str]] = [
    ("{{tools}} {{input}} {{role}}", "{tools} {input} {role}"),
    ('{"json": [1, {"a": 2}]}', '{"json": [1, {"a": 2}]}'),
    ("{} { } {1} {a b}", "{} { } {1} {a b}"),
    ("{topic}", "{{x}} {tools} {topic}"),
    ("50% %s %(x)s $HOME", "50% %s %(x)s $HOME"),
    ("{{ .System }} {{{topic}}}", "{{ .System }} {{topic}}"),
]


@pytest.mark.parametrize(("written", "sent"), TEXTS)
def test_braces_and_json_in_texts_arrive_as_meant(server: ScriptedServer, backend: str, written: str, sent: str) -> None:
    """`{name}` is an input, `{{name}}` is literal, all else is text; a value is put in once and never scanned again."""
    server.reply("MARK", "ok")
    agent = AgentSpec(name="a", role=f"R {written}", goal=f"G {written}", backstory=f"B {written}")
    task = TaskSpec(name="t", description=f"MARK {written} .", expected_output=f"E {written} .", agent=agent)
    inputs: dict[str, Any] = {"topic": "{{x}} {tools} {topic}"} if "{topic}" in written.replace("{{topic}}", "") else {}
    run_team(TeamSpec(tasks=[task], models={"default": server.model()}), inputs, backend=backend)
    for place in (f"R {sent}", f"G {sent}", f"B {sent}", f"MARK {sent} .", f"E {sent} ."):
        assert place in server.requests[0].text


@pytest.mark.parametrize("text", ["", "   ", "\n\n"])
def test_an_empty_answer_is_a_failure(server: ScriptedServer, backend: str, text: str) -> None:
    """Nothing is no answer: the task fails when the one that was asked for again is empty too."""
    server.reply("MARK", text, forever=True)
    with pytest.raises(RunError) as caught:
        run_team(TeamSpec(tasks=[TaskSpec(name="t", description="MARK", agent=AGENT)], models={"default": server.model()}), backend=backend)
    assert type(caught.value).__name__ == "EmptyAnswerError"
    assert len(server.requests) == 2


def test_a_result_is_json(server: ScriptedServer, backend: str) -> None:
    """A result is plain JSON, whatever the model wrote, lone surrogates and NUL included."""
    server.reply("MARK", "a \ud800 \x00 b")
    result = run_team(
        TeamSpec(tasks=[TaskSpec(name="t", description="MARK", agent=AGENT)], models={"default": server.model()}), backend=backend
    )
    assert json.loads(result.model_dump_json())["output"] == result.output
    result.model_dump_json().encode()
