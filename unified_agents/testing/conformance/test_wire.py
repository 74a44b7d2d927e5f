"""What a team says is what reaches the model, the same on every backend."""

from __future__ import annotations

from typing import Any

import pytest

from unified_agents import AgentSpec, ModelSpec, RunResult, TaskSpec, TeamSpec, run_team
from unified_agents.testing import KEY, Reply, ScriptedServer

FULL = AgentSpec(
    name="researcher",
    role="S-ROLE",
    goal="S-GOAL",
    backstory="S-BACKSTORY",
    instructions="S-INSTRUCTIONS",
    expertise=["S-EXPERTISE"],
    responsibilities=["S-RESPONSIBILITY"],
    personality={"tone": "S-TONE"},
)


def two_tasks(model: ModelSpec, **team: Any) -> TeamSpec:
    """A task whose agent has every field, and one that sees its output."""
    return TeamSpec(
        name="two",
        models={"default": model},
        tasks=[
            TaskSpec(name="one", description="TASK-ONE", expected_output="S-EXPECTED", agent=FULL),
            TaskSpec(name="two", description="TASK-TWO", agent=AgentSpec(name="writer", role="Writer", goal="Write"), context=["one"]),
        ],
        **team,
    )


def run(server: ScriptedServer, backend: str, **team: Any) -> RunResult:
    """Run the two tasks on scripted answers."""
    server.reply("TASK-ONE", "ANSWER-ONE").reply("TASK-TWO", "ANSWER-TWO")
    return run_team(two_tasks(server.model(), **team), backend=backend)


@pytest.mark.parametrize("prompts", ["native", "neutral"])
def test_every_field_of_agent_and_task_is_in_its_request(server: ScriptedServer, backend: str, prompts: str) -> None:
    """Each field is found in the request of its task, once, and in no other task's."""
    run(server, backend, prompts=prompts)
    first, second = server.requests
    sentinels = ["S-ROLE", "S-GOAL", "S-BACKSTORY", "S-INSTRUCTIONS", "S-EXPERTISE", "S-RESPONSIBILITY", "S-TONE", "S-EXPECTED", "TASK-ONE"]
    assert {name: first.text.count(name) for name in sentinels} == dict.fromkeys(sentinels, 1)
    assert not [name for name in sentinels if name in second.text]


def test_a_field_that_is_not_given_is_not_sent(server: ScriptedServer, backend: str) -> None:
    """The negative control: without the fields the sentinels are nowhere, and no empty heading stands in for them."""
    server.reply("TASK", "ok")
    bare = TeamSpec(
        tasks=[TaskSpec(name="t", description="TASK", agent=AgentSpec(name="a", instructions="Only this."))],
        models={"default": server.model()},
    )
    run_team(bare, backend=backend)
    (request,) = server.requests
    assert request.messages[0] == {"role": "system", "content": "Only this."}
    for heading in ("goal", "expertise", "responsibilities", "personality", "Expected output", "expected criteria"):
        assert heading not in request.text


def test_two_tasks_are_two_requests(server: ScriptedServer, backend: str) -> None:
    """Nothing but the tasks asks the model, and the result says what each answered."""
    result = run(server, backend)
    assert len(server.requests) == 2
    assert result.status == "completed"
    assert result.output == str(result) == "ANSWER-TWO"
    assert {name: task.output for name, task in result.tasks.items()} == {"one": "ANSWER-ONE", "two": "ANSWER-TWO"}
    assert result.usage.model_calls == 2
    assert (result.usage.input_tokens, result.usage.output_tokens) == (14, 6)
    assert result.usage.by_agent["researcher"].model_calls == result.usage.by_model["openai/scripted"].model_calls - 1 == 1


def test_model_sampling_address_and_key_arrive_as_written(server: ScriptedServer, backend: str) -> None:
    """Model name (with its slashes), sampling, extra fields and headers, base_url and key are on the wire as written."""
    server.reply("TASK", "ok", forever=True)
    model = server.model(
        model="openrouter/vendor/name-1", temperature=0.25, top_p=0.5, seed=7, max_tokens=33, extra_body={"top_k": 3},
        extra_headers={"X-Team": "blue"}, api_version="2026-01-01",
    )  # fmt: skip
    run_team(two_tasks(model), backend=backend)
    for request in server.requests:
        wanted = {"model": "vendor/name-1", "temperature": 0.25, "top_p": 0.5, "seed": 7, "max_tokens": 33, "top_k": 3}
        assert {key: value for key, value in request.body.items() if key != "messages"} == wanted
        assert request.path == "/v1/chat/completions"
        assert request.headers["Authorization"] == f"Bearer {KEY}"
        assert request.headers["X-Team"] == "blue"


def test_what_is_not_written_is_not_sent(server: ScriptedServer, backend: str) -> None:
    """No backend adds sampling, tools, stop words or streaming of its own."""
    run(server, backend)
    assert [sorted(request.body) for request in server.requests] == [["messages", "model"]] * 2


def test_agents_use_their_own_models(server: ScriptedServer, backend: str) -> None:
    """A model named by an agent answers it, an inline one too; the others use `default`."""
    server.reply("TASK", "ok", forever=True)
    agents = [AgentSpec(name="a", role="A"), AgentSpec(name="b", role="B", model="other")]
    tasks = [TaskSpec(name=f"task{n}", description=f"TASK {n}", agent=agent, context=[]) for n, agent in enumerate(agents)]
    result = run_team(TeamSpec(tasks=tasks, models={"default": server.model(), "other": server.model(model="groq/two")}), backend=backend)
    assert {request.text[-1]: request.model for request in _by_task(server)} == {"0": "scripted", "1": "two"}
    assert [task.models for task in result.tasks.values()] == [["openai/scripted"], ["groq/two"]]


def _by_task(server: ScriptedServer) -> list[Any]:
    class Row:
        def __init__(self, text: str, model: str) -> None:
            self.text, self.model = text, model

    return [Row("TASK 0" if "TASK 0" in r.text else "TASK 1", r.model) for r in server.requests]


def test_messages_have_one_shape(server: ScriptedServer, backend: str) -> None:
    """A request is one system and one user message with role and content, nothing of the framework's own."""
    run(server, backend)
    for request in server.requests:
        assert [sorted(message) for message in request.messages] == [["content", "role"]] * 2
        assert [message["role"] for message in request.messages] == ["system", "user"]


def test_usage_that_is_not_reported_is_null(server: ScriptedServer, backend: str) -> None:
    """One answer without usage makes its task's and the run's tokens unknown; the other task keeps its own."""
    server.reply("TASK-ONE", Reply(text="A", usage=None)).reply("TASK-TWO", "B")
    result = run_team(two_tasks(server.model()), backend=backend)
    assert result.tasks["one"].usage.input_tokens is None
    assert result.tasks["two"].usage.input_tokens == 7
    assert result.usage.input_tokens is None
    assert result.usage.model_calls == 2


def test_a_truncated_answer_is_said(server: ScriptedServer, backend: str) -> None:
    """finish_reason=length is kept as the result, and flagged; the other answer is not."""
    server.reply("TASK-ONE", Reply(text="cut off he", finish_reason="length")).reply("TASK-TWO", "whole")
    result = run_team(two_tasks(server.model()), backend=backend)
    assert [task.truncated for task in result.tasks.values()] == [True, False]
