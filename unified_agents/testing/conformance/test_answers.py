"""What counts as an answer: schema, guardrail, a person's approval, file and time; the same on every backend."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from unified_agents import AgentSpec, RunError, SpecError, TaskSpec, TeamSpec, run_team
from unified_agents.review import Decision, Review
from unified_agents.testing import Reply, ScriptedServer

AGENT = AgentSpec(name="a", role="R", goal="G")
SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["title"],
    "additionalProperties": False,
}


class Article(BaseModel):
    """An article."""

    title: str
    words: int


def team(server: ScriptedServer, agent: AgentSpec = AGENT, model: dict[str, Any] | None = None, **task: Any) -> TeamSpec:
    """One task, MARK."""
    return TeamSpec(tasks=[TaskSpec(name="t", description="MARK", agent=agent, **task)], models={"default": server.model(**(model or {}))})


def failed(server: ScriptedServer, backend: str, **task: Any) -> RunError:
    """The error of a run that fails."""
    options = {key: task.pop(key) for key in ("reviewer",) if key in task}
    with pytest.raises(RunError) as caught:
        run_team(team(server, **task), backend=backend, **options)
    return caught.value


def test_a_schema_is_asked_for_and_checked(server: ScriptedServer, backend: str) -> None:
    """It is on the wire as response_format; the answer is the task's and the run's `structured`."""
    server.reply("MARK", '{"title": "Tides"}')
    result = run_team(team(server, output_schema=SCHEMA), backend=backend)
    assert server.requests[0].body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "t", "schema": SCHEMA, "strict": False},
    }
    assert result.structured == result.tasks["t"].structured == {"title": "Tides"}
    assert result.output == '{"title": "Tides"}'
    assert len(server.requests) == 1


def test_without_a_schema_nothing_is_asked_for(server: ScriptedServer, backend: str) -> None:
    """The negative control."""
    server.reply("MARK", '{"title": "Tides"}')
    result = run_team(team(server), backend=backend)
    assert "response_format" not in server.requests[0].body
    assert result.structured is None


def test_a_pydantic_class_gives_an_instance(server: ScriptedServer, backend: str) -> None:
    """In Python a class may stand for the schema; a code fence around the JSON is taken off."""
    server.reply("MARK", '```json\n{"title": "Tides", "words": 3}\n```')
    result = run_team(team(server, output_schema=Article), backend=backend)
    assert result.structured == Article(title="Tides", words=3)
    assert json.loads(result.model_dump_json())["structured"] == {"title": "Tides", "words": 3}


def test_a_closed_schema_is_sent_as_strict(server: ScriptedServer, backend: str) -> None:
    """Strict mode is asked for exactly where providers allow it: every object closed, every field required."""
    closed = {**SCHEMA, "required": ["title", "n"]}
    server.reply("MARK", '{"title": "T", "n": 1}')
    run_team(team(server, output_schema=closed), backend=backend)
    assert server.requests[0].body["response_format"]["json_schema"]["strict"] is True


def test_a_model_without_the_feature_is_told_in_words(server: ScriptedServer, backend: str) -> None:
    """Where the endpoint takes no schema it stands in the prompt, and the answer is checked all the same."""
    server.reply("MARK", '{"title": 3}', '{"title": "T"}')
    result = run_team(team(server, model={"model": "anthropic/x"}, output_schema=SCHEMA), backend=backend)
    assert "response_format" not in server.requests[0].body
    assert '"additionalProperties": false' in server.requests[0].text
    assert result.structured == {"title": "T"}


FAULTS = [
    ("no json", "no JSON"),
    ('{"titel": "x"}', "'title' is a required property"),
    ('{"title": 3}', "title: 3 is not of type 'string'"),
    ("[]", "is not of type 'object'"),
]


@pytest.mark.parametrize(("answer", "said"), FAULTS, ids=range(len(FAULTS)))
def test_a_wrong_answer_is_repaired_once(server: ScriptedServer, backend: str, answer: str, said: str) -> None:
    """The model sees its answer, the fault and the schema, in the same conversation, and gets one more try."""
    server.reply("MARK", answer, '{"title": "T"}')
    result = run_team(team(server, output_schema=SCHEMA), backend=backend)
    first, second = server.requests
    assert second.messages[:2] == first.messages
    assert second.messages[2] == {"role": "assistant", "content": answer}
    assert second.messages[3]["role"] == "user"
    assert said in second.messages[3]["content"]
    assert '"additionalProperties": false' in second.messages[3]["content"]
    assert result.structured == {"title": "T"}


def test_after_one_repair_the_task_fails(server: ScriptedServer, backend: str) -> None:
    """Two wrong answers are two requests and a failed task, with the fault."""
    server.reply("MARK", "wrong", "wrong again")
    error = failed(server, backend, output_schema=SCHEMA)
    assert type(error).__name__ == "InvalidAnswerError"
    assert "no JSON" in str(error)
    assert len(server.requests) == 2


def short(text: str) -> str | None:
    """A guardrail: at most five characters."""
    return None if len(text) <= 5 else "say it shorter"


async def upper(text: str) -> tuple[bool, str]:
    """A guardrail as CrewAI's: replaces the answer."""
    await asyncio.sleep(0)
    return True, text.upper()


def test_a_guardrails_fault_is_asked_to_be_mended(server: ScriptedServer, backend: str) -> None:
    """The fault goes to the agent in the same conversation; a good second answer is the output."""
    server.reply("MARK", "far too long", "short")
    result = run_team(team(server, guardrail=short), backend=backend)
    assert result.output == "short"
    assert "say it shorter" in server.requests[1].messages[-1]["content"]
    assert server.requests[1].messages[2]["content"] == "far too long"


def test_a_good_answer_passes_the_guardrail_at_once(server: ScriptedServer, backend: str) -> None:
    """The negative control: one request."""
    server.reply("MARK", "fine")
    assert run_team(team(server, guardrail=short), backend=backend).output == "fine"
    assert len(server.requests) == 1


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_guardrail_retries_are_counted(server: ScriptedServer, backend: str, retries: int) -> None:
    """N retries are N + 1 requests, then the task fails with the fault."""
    server.reply("MARK", "far too long", forever=True)
    error = failed(server, backend, guardrail=short, guardrail_retries=retries)
    assert type(error).__name__ == "GuardrailError"
    assert "say it shorter" in str(error)
    assert len(server.requests) == retries + 1


def test_a_guardrail_may_replace_the_answer(server: ScriptedServer, backend: str) -> None:
    """(True, text), as in CrewAI; async ones too."""
    server.reply("MARK", "loud")
    assert run_team(team(server, guardrail=upper), backend=backend).output == "LOUD"


@pytest.mark.parametrize("guardrail", [lambda _: 1 / 0, lambda _: 7], ids=["raises", "returns nonsense"])
def test_a_guardrail_that_fails_fails_the_task(server: ScriptedServer, backend: str, guardrail: Any) -> None:
    """Its error is the cause, and nothing is asked again."""
    server.reply("MARK", "text")
    error = failed(server, backend, guardrail=guardrail)
    assert "the guardrail failed: " in str(error)
    assert isinstance(error.__cause__, (ZeroDivisionError, TypeError))
    assert len(server.requests) == 1


def test_a_reviewer_approves(server: ScriptedServer, backend: str) -> None:
    """The reviewer sees task, agent and answer; approved, it is the output after one request."""
    seen: list[Review] = []
    server.reply("MARK", "draft")
    result = run_team(team(server, human_review=True), backend=backend, reviewer=lambda review: seen.append(review) or True)  # type: ignore[func-returns-value]
    assert seen == [Review("answer", "t", "a", "draft")]
    assert result.output == "draft"
    assert len(server.requests) == 1


def test_a_reviewers_comment_reaches_the_agent(server: ScriptedServer, backend: str) -> None:
    """Rejected with a comment, the agent answers again in the same conversation and is reviewed again."""
    said: Iterator[str | bool] = iter(["more about whales", True])
    server.reply("MARK", "draft", "with whales")
    result = run_team(team(server, human_review=True), backend=backend, reviewer=lambda _: next(said))
    assert result.output == "with whales"
    assert "more about whales" in server.requests[1].messages[-1]["content"]


def test_a_reviewer_edits(server: ScriptedServer, backend: str) -> None:
    """The edited text is the output, and what later tasks see; an edit must still match the schema."""
    server.reply("MARK", '{"title": "A"}')
    result = run_team(
        team(server, human_review=True, output_schema=SCHEMA),
        backend=backend,
        reviewer=lambda _: Decision(approved=True, content='{"title": "B"}'),
    )
    assert (result.output, result.structured) == ('{"title": "B"}', {"title": "B"})


def test_a_reviewer_that_never_approves_ends_at_max_iterations(server: ScriptedServer, backend: str) -> None:
    """Rejections are bounded; the task then fails with the comment."""
    server.reply("MARK", "draft", forever=True)
    error = failed(server, backend, agent=AgentSpec(name="a", role="R", max_iterations=2), human_review=True, reviewer=lambda _: "no")
    assert type(error).__name__ == "ReviewRejectedError"
    assert len(server.requests) == 3


def test_without_a_reviewer_a_review_is_an_error_before_the_first_call(server: ScriptedServer, backend: str) -> None:
    """Nobody to ask: refused, and nothing sent."""
    with pytest.raises(SpecError, match=r"tasks\.t\.human_review: needs a reviewer"):
        run_team(team(server, human_review=True), backend=backend)
    assert server.requests == []


def test_one_question_at_a_time(server: ScriptedServer, backend: str) -> None:
    """Two tasks that end together are reviewed one after the other, and the person's time is not the task's."""
    spans: list[tuple[float, float]] = []

    def reviewer(_: Review) -> bool:
        began = time.monotonic()
        time.sleep(2.1)
        spans.append((began, time.monotonic()))
        return True

    server.reply("MARK", "x", forever=True)
    tasks = [TaskSpec(name=name, description="MARK", agent=AGENT, context=[], human_review=True, timeout=2) for name in ("one", "two")]
    run_team(TeamSpec(tasks=tasks, models={"default": server.model()}), backend=backend, reviewer=reviewer)
    first, second = sorted(spans)
    assert second[0] >= first[1]


def test_an_output_goes_to_its_file(server: ScriptedServer, backend: str, tmp_path: Path) -> None:
    """The file holds the output, inputs filled into its name, folders made; nothing else is left behind."""
    server.reply("MARK", "content — ü")
    run_team(team(server, output_file="out/{name}.md"), {"name": "tides"}, backend=backend)
    assert (tmp_path / "out" / "tides.md").read_text(encoding="utf-8") == "content — ü"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tides.md"]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x"])
def test_an_output_file_never_lies_outside(server: ScriptedServer, backend: str, name: str) -> None:
    """Also when an input makes it so: an error before any request."""
    with pytest.raises(SpecError, match="inside the working folder"):
        run_team(team(server, output_file="{name}"), {"name": name}, backend=backend)
    assert server.requests == []


def test_an_output_file_through_a_link_fails_the_task(server: ScriptedServer, backend: str, tmp_path: Path) -> None:
    """A link out of the folder is not followed; the error says so."""
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    os.symlink(outside, tmp_path / "link")
    server.reply("MARK", "x")
    error = failed(server, backend, output_file="link/x.md")
    assert type(error).__name__ == "OutputFileError"
    assert list(outside.iterdir()) == []


def test_a_task_is_bounded_by_its_timeout(server: ScriptedServer, backend: str) -> None:
    """The whole task, over several calls; the attempt's own timeout is longer."""
    server.reply("MARK", Reply(text="far too long", delay=0.3), forever=True)
    error = failed(server, backend, guardrail=short, guardrail_retries=20, timeout=2)
    assert type(error).__name__ == "TaskTimeoutError"
    assert "longer than 2 s" in str(error)
    assert error.result is not None
    assert 2 <= (error.result.tasks["t"].duration_s or 0) < 4  # not the whole run's: the framework may have to be imported
    assert 2 <= len(server.requests) <= 7


def test_a_list_of_models_is_asked_in_order(server: ScriptedServer, backend: str) -> None:
    """The first, then its fallbacks; the result names the one that answered; every attempt is a request."""
    server.reply("MARK", Reply(status=404), Reply(status=404), "third")
    agent = AgentSpec(name="a", role="R", model=["one", "two"])
    models = {"one": server.model(fallbacks=["three"]), "two": server.model(model="groq/two"), "three": server.model(model="mistral/three")}
    result = run_team(TeamSpec(tasks=[TaskSpec(name="t", description="MARK", agent=agent)], models=models), backend=backend)
    assert [request.model for request in server.requests] == ["scripted", "two", "three"]
    assert result.tasks["t"].models == ["mistral/three"]
    assert result.usage.model_calls == 3


@pytest.mark.parametrize("status", [400, 401, 403])
def test_an_error_that_another_model_would_meet_too_is_final(server: ScriptedServer, backend: str, status: int) -> None:
    """A wrong key or request is not passed on."""
    server.reply("MARK", Reply(status=status))
    agent = AgentSpec(name="a", role="R", model=["one", "two"])
    models = {"one": server.model(), "two": server.model()}
    with pytest.raises(RunError) as caught:
        run_team(TeamSpec(tasks=[TaskSpec(name="t", description="MARK", agent=agent)], models=models), backend=backend)
    assert f"HTTP {status}" in str(caught.value)
    assert len(server.requests) == 1
