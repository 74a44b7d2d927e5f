"""Code of users and providers that misbehaves: the run ends with an error that says so, soon, on every backend."""

from __future__ import annotations

import asyncio
import json
import time
import traceback
from typing import Any

import pytest

from unified_agents import AgentSpec, ChatResponse, RunError, ScriptedModel, SpecError, TaskSpec, TeamSpec, run_team
from unified_agents.errors import Problem, TaskError
from unified_agents.events import Event
from unified_agents.journal import open_journal
from unified_agents.testing import Reply, ScriptedServer
from unified_agents.tools.loading import Toolbox

AGENT = AgentSpec(name="a", role="R", goal="G")


def team(*names: str, agent: AgentSpec = AGENT) -> TeamSpec:
    """Independent tasks."""
    return TeamSpec(
        tasks=[TaskSpec(name=name, description=f"MARK {name}", agent=agent, context=[]) for name in names or ("t",)],
        models={"default": "openai/x"},
    )


def failed(backend: str, model: Any, **options: Any) -> RunError:
    """The error of a run, which must come soon."""
    started = time.monotonic()
    with pytest.raises(RunError) as caught:
        run_team(team(), backend=backend, models={"default": model}, **options)
    assert time.monotonic() - started < 20
    return caught.value


@pytest.mark.parametrize("kind", [asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit, MemoryError, StopIteration])
def test_no_exception_of_a_model_hangs_or_kills_the_process(backend: str, kind: type[BaseException]) -> None:
    """Whatever a model raises fails its task by name; the next run works."""

    async def model(_: Any) -> ChatResponse:
        raise kind

    assert kind.__name__ in str(failed(backend, model)) or kind is StopIteration
    assert str(run_team(team(), backend=backend, models={"default": ScriptedModel(["fine"])})) == "fine"


def test_a_layer_that_returns_something_else_is_named(backend: str) -> None:
    """A layer that forgets to return the response is told so."""

    async def layer(request: Any, call: Any) -> Any:
        await call(request)

    error = failed(backend, ScriptedModel(["x"]), middleware=[layer])
    assert "a layer or model returned NoneType, expected a ChatResponse" in str(error)


@pytest.mark.parametrize("text", ["", "  ", "\n\t"])
def test_white_space_of_any_model_is_no_answer(backend: str, text: str) -> None:
    """Answers are cleaned where all of them pass, not where HTTP ends."""
    assert type(failed(backend, ScriptedModel(lambda _: ChatResponse(text=text, model="m")))).__name__ == "EmptyAnswerError"
    good = ScriptedModel(lambda _: ChatResponse(text="  x \ud800 ", model="m"))
    assert run_team(team(), backend=backend, models={"default": good}).output == "x ?"


GARBAGE = [
    {"choices": [{"message": {"content": "x", "tool_calls": 5}}]},
    {"choices": [{"message": {"content": None, "tool_calls": [{"function": "abc"}]}}]},
    {"choices": [{"message": "hello"}]},
    {"choices": [{}]},
    {"choices": "none"},
    [],
    "seen Bearer sk-CANARY",
    7,
    None,
]


@pytest.mark.parametrize("body", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_with_status_200_is_a_bad_response(server: ScriptedServer, backend: str, body: Any) -> None:
    """Counted as the request it was, told as what it is, without the key that it may echo."""
    server.reply("MARK", Reply(body=json.dumps(body).encode()), forever=True)
    error = failed(backend, server.model(api_key="sk-CANARY"))
    assert type(error).__name__ == "BadResponseError"
    assert error.result is not None
    assert error.result.usage.model_calls == 3  # asked again twice
    assert "CANARY" not in f"{error}{error.result.model_dump_json()}"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=401, body={"error": {"message": "bad sk-CANARY and X-CANARY"}}),
        Reply(status=500, body={"error": {"message": "sk-CANARY"}}),
        Reply(body=b"<html>sk-CANARY</html>"),
        Reply(body=b'"sk-CANARY"'),
    ],
    ids=["401", "500", "html", "text"],
)
def test_no_secret_is_in_a_traceback(server: ScriptedServer, backend: str, reply: Reply) -> None:
    """Also with the locals of all frames, as error trackers collect them."""
    server.reply("MARK", reply, forever=True)
    error = failed(backend, server.model(api_key="sk-CANARY", extra_headers={"X-Key": "X-CANARY"}))
    assert server.requests[0].headers["X-Key"] == "X-CANARY"
    server.requests.clear()
    told = "".join(traceback.TracebackException.from_exception(error, capture_locals=False).format())
    assert "CANARY" not in told
    cause = error.__cause__
    while cause is not None:
        frames = traceback.TracebackException.from_exception(cause, capture_locals=True)
        assert "CANARY" not in "".join(frames.format())
        cause = cause.__cause__ or cause.__context__


def test_one_exception_object_in_two_tasks_is_two_errors(backend: str) -> None:
    """Each task's error carries its own name."""
    shared = RunError("same")
    with pytest.raises(RunError) as caught:
        run_team(team("one", "two"), backend=backend, models={"default": ScriptedModel(lambda _: shared)})
    assert caught.value.result is not None
    assert {name: task.error.task for name, task in caught.value.result.tasks.items() if task.error} == {"one": "one", "two": "two"}
    assert shared.task is None


@pytest.mark.parametrize("name", ["x①", "١", "日本", "ª", "𝒳"])
def test_names_of_letters_that_are_no_identifiers(backend: str, name: str) -> None:
    """Letters and digits of all scripts are names, though not always identifiers."""
    agent = AgentSpec(name=name, role=name)
    result = run_team(team(name, agent=agent), backend=backend, models={"default": ScriptedModel(["ok"])})
    assert result.tasks[name].agent == name


def test_a_nested_blocking_run_says_what_to_write(backend: str) -> None:
    """`run_team` inside a layer would wait for itself; the message names `run_team_async`, which works there."""

    async def nested(request: Any, call_next: Any) -> Any:
        run_team(team(), backend=backend, models={"default": ScriptedModel(["inner"])})
        return await call_next(request)

    assert "run_team_async" in str(failed(backend, ScriptedModel(["x"]), middleware=[nested]))


@pytest.mark.parametrize("kind", [OSError, SpecError])
def test_whatever_ends_a_run_is_said_and_written_down(backend: str, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    """An error that nobody foresaw is one of ours, with the original as its cause: with an event, a result and its end in the journal."""

    async def opened(_: Toolbox) -> Any:
        raise OSError("no more files") if kind is OSError else SpecError([Problem("tools", "two of one name")])

    monkeypatch.setattr(Toolbox, "open", opened)
    events: list[Event] = []
    with pytest.raises((TaskError, SpecError)) as caught:
        run_team(team(), backend=backend, models={"default": ScriptedModel(["x"])}, run_id="r", on_event=events.append)
    error = caught.value
    assert isinstance(error, TaskError) == (kind is OSError)
    if isinstance(error, TaskError):
        assert str(error) == "the run failed: OSError: no more files"
        assert isinstance(error.__cause__, OSError)
        assert error.result is not None
        assert error.result.status == "failed"
    assert events[-1].type == "RunFailed"
    record = open_journal("sqlite:///runs.db").run("r")
    assert record.status == "failed"
    assert record.result is not None
    assert record.result["error"]["type"] == type(error).__name__
