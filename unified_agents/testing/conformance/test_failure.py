"""A failing model: the original error once, one request where one was due, and everything that can still run runs."""

from __future__ import annotations

from typing import Any

import pytest

from unified_agents import (
    AgentSpec,
    BackendError,
    BackendUnavailableError,
    ModelSpec,
    RunError,
    RunResult,
    TaskSpec,
    TeamSpec,
    backends,
    run_team,
)  # fmt: skip
from unified_agents.events import BackendReplaced, Event
from unified_agents.testing import Reply, ScriptedServer

AGENT = AgentSpec(name="worker", role="Worker", goal="Work")


def team(model: ModelSpec) -> TeamSpec:
    """`bad` fails; `late` hangs on it; `other` and `more` do not."""
    tasks = {
        "first": {},
        "bad": {"context": ["first"]},
        "late": {"context": ["bad"]},
        "later": {"after": ["late"]},
        "other": {},
        "more": {"after": ["other"]},
    }
    return TeamSpec(
        models={"default": model},
        tasks=[TaskSpec(name=name, description=f"MARK-{name}.", agent=AGENT, **fields) for name, fields in tasks.items()],  # type: ignore[arg-type]
    )


def fails(server: ScriptedServer, backend: str, reply: Reply) -> tuple[RunError, RunResult]:
    """Run with `bad` answered by `reply`; the error and its result."""
    server.reply("MARK-bad.", reply, forever=True)
    server.reply("MARK-other.", Reply(text="OUT-other", delay=0.3))
    for name in ("first", "more"):
        server.reply(f"MARK-{name}.", f"OUT-{name}")
    with pytest.raises(RunError) as caught:
        run_team(team(server.model()), backend=backend)
    assert caught.value.result is not None
    return caught.value, caught.value.result


# What the provider sends, what the task fails with, and how many requests that takes of four attempts.
CASES = [
    (Reply(status=500), "InternalServerError", "HTTP 500", 4),
    (Reply(status=401), "AuthenticationError", "HTTP 401", 1),
    (Reply(status=403), "PermissionDeniedError", "HTTP 403", 1),
    (Reply(status=404), "NotFoundError", "HTTP 404", 1),
    (Reply(status=429), "RateLimitError", "HTTP 429", 4),
    (Reply(status=429, body={"error": {"message": "no", "code": "insufficient_quota"}}), "QuotaExceededError", "quota", 1),
    (Reply(status=400, body={"error": {"message": "bad field"}}), "BadRequestError", "bad field", 1),
    (Reply(status=400, body={"error": {"message": "x", "code": "context_length_exceeded"}}), "ContextOverflowError", "context window", 1),
    (Reply(status=302, headers={"Location": "http://127.0.0.1:9/"}), "BadRequestError", "redirect", 1),
    (Reply(drop=True), "APIConnectionError", "no connection", 4),
    (Reply(body=b"<html>hello</html>"), "BadResponseError", "no JSON", 3),
    (Reply(body={}), "BadResponseError", "no chat completion", 3),
    (Reply(body={"choices": []}), "BadResponseError", "no chat completion", 3),
    (Reply(text="   \n "), "EmptyAnswerError", "no text", 2),
    (Reply(text="", finish_reason="content_filter"), "ContentFilterError", "withheld", 1),
]


@pytest.mark.parametrize(("reply", "kind", "said", "requests"), CASES, ids=[f"{case[1]}-{n}" for n, case in enumerate(CASES)])
def test_a_failed_call_fails_its_task(server: ScriptedServer, backend: str, reply: Reply, kind: str, said: str, requests: int) -> None:
    """The kind and message of the original error are kept; it took exactly as many requests as its kind allows; the rest ran or was skipped."""
    error, result = fails(server, backend, reply)
    assert (type(error).__name__, error.task) == (kind, "bad")
    assert said in str(error)
    assert len(server.asked("MARK-bad.")) == requests
    assert {name: task.status for name, task in result.tasks.items()} == {
        "first": "completed", "bad": "failed", "late": "skipped", "later": "skipped", "other": "completed", "more": "completed",
    }  # fmt: skip
    assert result.status == "failed"
    assert result.output == "OUT-more"
    assert result.tasks["bad"].error is not None
    assert result.error is not None
    assert (result.tasks["bad"].error.type, result.error.task, result.error.message) == (kind, "bad", str(error))
    assert not server.asked("MARK-late.")


def test_without_a_failure_nothing_is_skipped(server: ScriptedServer, backend: str) -> None:
    """The negative control: the same team completes when `bad` is answered."""
    for name in ("first", "bad", "late", "later", "other", "more"):
        server.reply(f"MARK-{name}.", f"OUT-{name}")
    result = run_team(team(server.model()), backend=backend)
    assert {task.status for task in result.tasks.values()} == {"completed"}
    assert result.error is None


def test_a_refused_connection_is_said_with_its_address(backend: str) -> None:
    """No server: the error names where it called, after the four attempts of the retry layer."""
    model = ModelSpec(model="openai/x", base_url="http://127.0.0.1:9/v1")
    with pytest.raises(RunError, match=r"no connection to openai/x at http://127\.0\.0\.1:9/v1") as caught:
        run_team(TeamSpec(tasks=[TaskSpec(name="t", description="x", agent=AGENT)], models={"default": model}), backend=backend)
    assert type(caught.value).__name__ == "APIConnectionError"
    assert caught.value.result is not None
    assert caught.value.result.usage.model_calls == 4


def test_an_attempt_is_bounded_by_its_timeout(server: ScriptedServer, backend: str) -> None:
    """A model that does not answer fails its task after `timeout`."""
    server.reply("MARK-", Reply(text="late", delay=5), forever=True)
    task = TaskSpec(name="t", description="MARK-", agent=AGENT)
    with pytest.raises(RunError, match=r"no whole answer within 0\.3 s") as caught:
        run_team(TeamSpec(tasks=[task], models={"default": server.model(timeout=0.3)}), backend=backend)
    assert caught.value.result is not None
    assert caught.value.result.duration_s < 4
    assert caught.value.result.usage.model_calls == 3  # asked again twice


def test_an_error_of_a_users_layer_is_the_cause(server: ScriptedServer, backend: str) -> None:
    """A foreign exception surfaces as ours, once, with the original as its cause."""

    async def layer(request: Any, call_next: Any) -> Any:
        raise ZeroDivisionError("rate limit, maximum context length, too many tokens")  # words that frameworks act on

    task = TaskSpec(name="t", description="MARK-", agent=AGENT)
    with pytest.raises(RunError, match="ZeroDivisionError: rate limit") as caught:
        run_team(TeamSpec(tasks=[task], models={"default": server.model()}), backend=backend, middleware=[layer])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert server.requests == []


def test_the_key_is_not_in_errors(server: ScriptedServer, backend: str) -> None:
    """A provider that echoes the key does not get it into the message; the message names the variable."""
    server.reply("MARK-", Reply(status=401, body={"error": {"message": "Incorrect API key: sk-CANARY"}}))
    team = TeamSpec(tasks=[TaskSpec(name="t", description="MARK-", agent=AGENT)], models={"default": server.model(api_key="sk-CANARY")})
    with pytest.raises(RunError) as caught:
        run_team(team, backend=backend)
    assert server.requests[0].headers["Authorization"] == "Bearer sk-CANARY"
    assert "CANARY" not in f"{caught.value}{caught.value.result!r}{team!r}"
    assert "OPENAI_API_KEY" in str(caught.value)


def another(backend: str) -> str:
    """A backend that is not this one."""
    return next(name for name in sorted(backends()) if name != backend and backends()[name].available)


def breaks_after(first: str, monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    """Let the framework fail by itself once the task `first` has ended."""
    adapter = type(backends()[backend].adapter)
    build = adapter.build

    def broken(self: Any, plan: Any, seam: Any) -> Any:
        team = build(self, plan, seam)
        run = team.run

        async def run_and_break(report: Any) -> None:
            async def reported(outcome: Any) -> None:
                await report(outcome)
                if outcome.task == first:
                    raise OSError("the framework is broken")

            await run(reported)

        monkeypatch.setattr(team, "run", run_and_break)
        return team

    monkeypatch.setattr(adapter, "build", broken)


def test_the_fallback_backend_takes_what_is_left(server: ScriptedServer, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the framework itself fails, completed tasks are kept and the rest runs on the other one; the result says which ran where."""
    breaks_after("one", monkeypatch, backend)
    server.reply("MARK-two", "OUT-two").reply("MARK-one", "OUT-one")
    tasks = [
        TaskSpec(name="one", description="MARK-one", agent=AGENT),
        TaskSpec(name="two", description="MARK-two", agent=AGENT, context=["one"]),
    ]
    team = TeamSpec(tasks=tasks, models={"default": server.model()}, fallback_backend=another(backend))
    events: list[Event] = []
    result = run_team(team, backend=backend, on_event=events.append)
    assert (result.status, result.backend, result.output) == ("completed", backend, "OUT-two")
    assert {name: task.backend for name, task in result.tasks.items()} == {"one": backend, "two": another(backend)}
    assert [len(server.asked("MARK-one")), len(server.asked("MARK-two")), len(server.requests)] == [1, 1, 2]  # neither was asked twice
    assert "OUT-one" in server.asked("MARK-two")[0].text
    assert [event.tasks for event in events if isinstance(event, BackendReplaced)] == [("two",)]


def test_without_a_fallback_backend_the_run_fails(server: ScriptedServer, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: a BackendError, with everything completed in its result."""
    breaks_after("one", monkeypatch, backend)
    server.reply("MARK-one", "OUT-one")
    tasks = [
        TaskSpec(name="one", description="MARK-one", agent=AGENT),
        TaskSpec(name="two", description="MARK-two", agent=AGENT, context=["one"]),
    ]
    with pytest.raises(BackendError, match="the framework is broken") as caught:
        run_team(TeamSpec(tasks=tasks, models={"default": server.model()}), backend=backend)
    assert caught.value.result is not None
    assert {name: task.status for name, task in caught.value.result.tasks.items()} == {"one": "completed", "two": "pending"}


def test_a_fallback_backend_that_is_not_installed_is_told_before_the_run(server: ScriptedServer, backend: str) -> None:
    """It is no way out of a missing installation, and no surprise in the middle of a run."""
    team = TeamSpec(
        tasks=[TaskSpec(name="t", description="x", agent=AGENT)], models={"default": server.model()}, fallback_backend="nothing_like_it"
    )
    with pytest.raises(BackendUnavailableError, match="nothing_like_it"):
        run_team(team, backend=backend)
    assert server.requests == []
