"""The fault matrix: what a model and its network may do to a call, and what comes of it, the same on every backend and by both entry points.

The numbers are those of the design's list of faults. Not here: 30 and 31 are about streaming, which does not exist yet; 32 and 33, about tools,
are in the conformance suite (`test_tools.py`), but for the arguments of ten megabytes at the end; 36 to 38, 44 and 45 need virtual time and are
in the files beside this one; 39 to 43 are about the journal, which does not exist yet.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import pytest

from tests.faults.server import (
    Behaviour,
    FaultServer,
    Wire,
    bad_chunk,
    cut_short,
    drip,
    failing,
    good,
    hang,
    hang_in_body,
    late,
    refusing,
    reply,
    reset,
    reset_in_body,
    single_bytes,
    slow_close,
)
from unified_agents import AgentSpec, ModelSpec, RunError, RunResult, TaskSpec, TeamSpec, errors, run_team, run_team_async
from unified_agents.clock import Clock, use_clock
from unified_agents.engine import engine
from unified_agents.events import Event
from unified_agents.registry import names
from unified_agents.testing import call, completion

BACKENDS = pytest.mark.parametrize("backend", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in names()])
ENTRIES = pytest.mark.parametrize("entry", ["run_team", "run_team_async"])

Waits = tuple[tuple[float, float], ...]
"""The least and the most of each wait, in seconds."""

BACKOFF: Waits = ((0, 1), (0, 2), (0, 4), (0, 8), (0, 16))


@dataclass(frozen=True)
class Row:
    """One fault: what the server plays, how the team is set, and what must come of it.

    `asked` are the requests that the first server sees. Without an `error` the answer is `text`. `waits` None: not looked at.
    `second` is played by another server, whose model is the first one's fallback; `second_asked` are its requests. `attempts_last` bounds every
    attempt's seconds.
    """

    id: str
    plays: tuple[Behaviour, ...]
    asked: int
    text: str = "fine"
    error: type[RunError] | None = None
    said: str = ""
    status: int | None = None
    waits: Waits | None = None
    forever: bool = False
    second: tuple[Behaviour, ...] = ()
    second_asked: int = 0
    model: Mapping[str, Any] = field(default_factory=dict)
    team: Mapping[str, Any] = field(default_factory=dict)
    task: Mapping[str, Any] = field(default_factory=dict)
    truncated: bool = False
    tokens: tuple[int | None, int | None] = (7, 3)
    attempts_last: tuple[float, float] | None = None
    seconds: float = 8.0


def again(id_: str, *plays: Behaviour, **expected: Any) -> Row:
    """A fault that passes: the next request is answered, after one wait."""
    return Row(id_, (*plays, good()), **{"asked": len(plays) + 1, "waits": BACKOFF[: len(plays)], **expected})


def lasting(id_: str, play: Behaviour, asked: int, error: type[RunError], said: str = "", **expected: Any) -> Row:
    """A fault that does not pass."""
    return Row(
        id_, (play,), asked, error=error, said=said, forever=True, **{"waits": BACKOFF[: asked - 1], "tokens": (None, None), **expected}
    )


def replaced(id_: str, play: Behaviour, asked: int, **expected: Any) -> Row:
    """A fault that does not pass, and another model that answers."""
    return Row(id_, (play,), asked, forever=True, second=(good("second"),), second_asked=1, **{"waits": BACKOFF[: asked - 1], **expected})


def attempts(most: int) -> dict[str, Any]:
    """A team that asks a model so often."""
    return {"resilience": {"retry": {"max_attempts": most}}}


def dated(seconds: float) -> Behaviour:
    """A 429 with the date at which to come back."""

    def play(wire: Wire) -> None:
        failing(429, headers={"Retry-After": formatdate(time.time() + seconds, usegmt=True)})(wire)

    return play


def slow_down(**headers: str) -> Behaviour:
    """A 429 with headers, `_` for `-`."""
    return failing(429, headers={name.replace("_", "-"): value for name, value in headers.items()})


def text_body(status: int, body: str) -> Behaviour:
    """A page of HTML."""
    return reply(body, status, kind="text/html; charset=utf-8")


HTML = "<!doctype html><html><body>Sign in to the hotel's network</body></html>"
FILTERED = reply(completion("half of an ans", "content_filter"))
REFUSED = reply(
    {
        **completion(None),
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": None, "refusal": "No."}}],
    }
)
BIG = "0123456789" * 500_000
QUOTA = failing(429, "insufficient_quota", "You exceeded your current quota")
NO_TOKENS = (None, None)

ROWS = [
    Row("1-none", (good(),), 1, waits=()),
    again("2-500-once", failing(500)),
    *(again(f"3-{status}-once", failing(status)) for status in (408, 502, 503, 504, 529)),
    again("3-one-after-another", failing(502), failing(503), failing(529)),
    again("3-503-says-when", failing(503, headers={"Retry-After": "2"}), waits=((2, 2.2),)),
    again("3-an-html-page-with-502", text_body(502, HTML)),
    *(
        lasting(f"4-500-always-{most}", failing(500), most, errors.InternalServerError, "HTTP 500", status=500, team=attempts(most))
        for most in (1, 4)
    ),
    # The fifth failure opens the circuit: the call waits until the model may be tried again, and makes its sixth attempt then.
    lasting("4-500-always-6", failing(500), 6, errors.InternalServerError, "HTTP 500", status=500, team=attempts(6), waits=None),
    Row("4-the-last-status-is-kept", tuple(failing(status) for status in (500, 502, 503, 504)), 4, error=errors.InternalServerError, status=504),
    replaced("5-500-always-and-a-fallback", failing(500), 4),
    again("6-429-retry-after", slow_down(Retry_After="1"), waits=((1, 1.1),)),
    again("6-429-twice", slow_down(Retry_After="1"), slow_down(Retry_After="3"), waits=((1, 1.1), (3, 3.3))),
    again("7-milliseconds", slow_down(retry_after_ms="1500"), waits=((1.5, 1.65),)),
    again("7-milliseconds-win", slow_down(retry_after_ms="1500", Retry_After="60"), waits=((1.5, 1.65),)),
    again("7-garbage-milliseconds-and-good-seconds", slow_down(retry_after_ms="soon", Retry_After="60"), waits=((60, 66),)),
    again("7-fraction", slow_down(Retry_After="0.5"), waits=((0.5, 0.55),)),
    again("7-date", dated(30), waits=((28, 33),)),
    again("7-date-that-has-passed", dated(-30), waits=((0, 0),)),
    again("7-negative-and-garbage", *(slow_down(Retry_After=value) for value in ("-5", "soon", "Mon, 99 Xxx 2026 00:00:00 GMT"))),
    again("7-no-number", *(slow_down(Retry_After=value) for value in ("nan", "inf", ""))),
    lasting("8-an-hour", slow_down(Retry_After="3600"), 1, errors.RateLimitError, "HTTP 429", status=429),
    lasting("8-longer-than-the-task-has", slow_down(Retry_After="100"), 1, errors.RateLimitError, task={"timeout": 50.0}),
    lasting("8-the-second-time-longer-than-the-task-has", slow_down(Retry_After="100"), 2, errors.RateLimitError, task={"timeout": 150.0}, waits=((100, 110),)),
    again("8-shorter-than-the-task-has", slow_down(Retry_After="100"), waits=((100, 110),)),
    replaced("8-an-hour-and-a-fallback", slow_down(Retry_After="3600"), 1),
    *(lasting(f"9-429-always-{most}", failing(429), most, errors.RateLimitError, status=429, team=attempts(most)) for most in (1, 4, 6)),
    lasting("10-quota", QUOTA, 1, errors.QuotaExceededError, "quota", status=429),
    lasting("10-402", failing(402), 1, errors.QuotaExceededError, "credit", status=402),
    replaced("10-quota-and-a-fallback", QUOTA, 1),
    lasting("11-401", failing(401), 1, errors.AuthenticationError, "HTTP 401", status=401),
    lasting("11-401-and-a-fallback", failing(401), 1, errors.AuthenticationError, second=(good("second"),)),
    lasting("11-403", failing(403), 1, errors.PermissionDeniedError, "HTTP 403", status=403, second=(good("second"),)),
    lasting("12-404", failing(404), 1, errors.NotFoundError, "HTTP 404", status=404),
    replaced("12-404-and-a-fallback", failing(404), 1),
    *(lasting(f"13-{status}", failing(status), 1, errors.BadRequestError, status=status, second=(good("second"),)) for status in (400, 405, 413, 422)),
    # The request is one message, of which nothing can be left out, so it is not sent again. How longer ones shrink is the token window's matter.
    lasting("14-context-overflow", failing(400, "context_length_exceeded"), 1, errors.ContextOverflowError, "context window", status=400),
    lasting("15-filter-of-the-answer", FILTERED, 1, errors.ContentFilterError, "withheld", second=(good("second"),)),
    lasting("15-filter-of-the-request", failing(400, "content_filter"), 1, errors.ContentFilterError, "content filter"),
    lasting("15-refusal", REFUSED, 1, errors.ContentFilterError, "No."),
    again("17-reset-before-headers", reset()),
    again("17-reset-twice", reset(), reset()),
    lasting("17-reset-always", reset(), 4, errors.APIConnectionError, "no connection"),
    again("18-reset-in-mid-body", reset_in_body()),
    again("18-cut-short", cut_short()),
    lasting("18-reset-in-mid-body-always", reset_in_body(), 4, errors.APIConnectionError, "no connection"),
    again("19-bad-chunk", bad_chunk()),
    lasting("19-bad-chunk-always", bad_chunk(), 4, errors.APIConnectionError, "no connection"),
    lasting("20-hang", hang(), 3, errors.APITimeoutError, "no whole answer within 1.5 s", model={"timeout": 1.5}),
    again("20-hang-once", hang(), model={"timeout": 1.5}),
    replaced("20-hang-and-a-fallback", hang(), 1, model={"timeout": 1.5}, team=attempts(1)),
    lasting("21-drip", drip(), 3, errors.APITimeoutError, "no whole answer within 1.5 s", model={"timeout": 1.5}),
    lasting("21-hang-in-the-body", hang_in_body(), 1, errors.APITimeoutError, "no whole answer", model={"timeout": 1.5}, team=attempts(1)),
    Row("22-slow-but-in-time", (late(seconds=0.2),), 1, waits=(), model={"timeout": 5.0}, attempts_last=(0.2, 3.0)),
    Row("22-a-drip-in-time", (drip("fine", every=0.0002),), 1, waits=(), model={"timeout": 8.0}),
    Row("23-single-bytes", (single_bytes("fïne 日本 🙂"),), 1, text="fïne 日本 🙂", waits=()),
    Row("24-slow-close", (slow_close(),), 1, waits=(), seconds=4.0),
    again("25-malformed-json", reply('{"choices": [')),
    lasting("25-malformed-json-always", reply('{"choices": ['), 3, errors.BadResponseError, "no JSON"),
    lasting("25-bytes-that-are-no-text", reply(b'{"choices": [{"message": {"content": "\xff\xfe"}}]}'), 3, errors.BadResponseError),
    again("26-html", text_body(200, HTML)),
    lasting("26-html-always", text_body(200, HTML), 3, errors.BadResponseError, "no chat completion"),
    lasting("26-html-that-says-it-is-json", reply(HTML), 3, errors.BadResponseError, "no JSON"),
    replaced("26-html-and-a-fallback", text_body(200, HTML), 3),
    lasting("27-empty-object", reply({}), 3, errors.BadResponseError, "no chat completion"),
    lasting("27-no-choices", reply({"choices": []}), 3, errors.BadResponseError, "no chat completion"),
    lasting("27-no-body-at-all", reply(b""), 3, errors.BadResponseError),
    again("27-error-with-200", reply({"error": {"message": "overloaded", "code": 500}})),
    lasting("28-empty-content", good(""), 2, errors.EmptyAnswerError, "no text"),
    lasting("28-null-content", good(None), 2, errors.EmptyAnswerError, "no text"),
    again("28-empty-once", good("")),
    replaced("28-empty-and-a-fallback", good(""), 2),
    Row("29-cut-at-max-tokens", (good("half an ans", "length"),), 1, text="half an ans", truncated=True, waits=()),
    lasting("29-nothing-before-max-tokens", good("", "length"), 2, errors.EmptyAnswerError, "before max_tokens"),
    Row("34-no-usage", (good(usage=None),), 1, tokens=NO_TOKENS, waits=()),
    Row("34-negative-usage", (good(usage={"prompt_tokens": -7, "completion_tokens": -1, "total_tokens": -8}),), 1, tokens=NO_TOKENS, waits=()),
    Row("34-half-a-usage", (good(usage={"prompt_tokens": 7}),), 1, tokens=(7, None), waits=()),
    Row("34-usage-of-texts", (good(usage={"prompt_tokens": "7", "completion_tokens": 3.5}),), 1, tokens=NO_TOKENS, waits=()),
    Row("34-usage-that-is-a-list", (good(usage=[7, 3]),), 1, tokens=NO_TOKENS, waits=()),
    Row("35-lone-surrogate", (good("a \ud800 b"),), 1, text="a ? b", waits=()),
    Row("35-nul", (good("a \x00 b"),), 1, text="a \x00 b", waits=()),
    Row("35-five-megabytes", (good(BIG),), 1, text=BIG, waits=(), team={"limits": {"output_bytes": 6_000_000}}),
    Row("35-more-than-is-allowed", (good(BIG),), 1, error=errors.LimitExceededError, said="limits.output_bytes", waits=()),
]  # fmt: skip


def team(row: Row, model: ModelSpec, second: ModelSpec | None = None) -> TeamSpec:
    """One agent with one task, and the second model for when the first fails."""
    models = {"default": model if second is None else model.model_copy(update={"fallbacks": ("second",)})}
    if second is not None:
        models["second"] = second
    task = TaskSpec(name="t", description="Answer.", agent=AgentSpec(name="worker", role="Worker"), **row.task)
    return TeamSpec(tasks=[task], models=models, **row.team)


def outcome(spec: TeamSpec, backend: str, entry: str) -> tuple[RunResult, RunError | None, list[Event]]:
    """A run's result, its error if it failed, and its events."""
    events: list[Event] = []
    try:
        if entry == "run_team":
            return run_team(spec, backend=backend, on_event=events.append), None, events
        return asyncio.run(run_team_async(spec, backend=backend, on_event=events.append)), None, events
    except RunError as error:
        failed = error
    assert failed.result is not None
    return failed.result, failed, events


@pytest.fixture
def servers() -> Iterator[ExitStack]:
    """Closes servers, and lets them complain about requests that nobody expected."""
    with ExitStack() as stack:
        yield stack


@BACKENDS
@ENTRIES
@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
def test_a_fault(row: Row, backend: str, entry: str, servers: ExitStack, waits: list[float]) -> None:
    """Outcome, number of requests, waits, the model that answered, tokens and flags are those of the row."""
    first = servers.enter_context(FaultServer(*row.plays, forever=row.forever))
    other = servers.enter_context(FaultServer(*row.second)) if row.second else None
    spec = team(row, first.model(**row.model), other.model(model="openai/second") if other else None)
    result, error, events = outcome(spec, backend, entry)
    assert (len(first.requests), len(other.requests) if other else 0) == (row.asked, row.second_asked), error
    _check_waits(row, waits)
    _check_events(row, events)
    if row.error is not None:
        _check_failure(row, error, result)
    else:
        assert error is None
        _check_answer(row, result)
    assert result.usage.model_calls == row.asked + row.second_asked
    assert first.key not in f"{error}{result!r}{events}"


def _check_answer(row: Row, result: RunResult) -> None:
    task = result.tasks["t"]
    assert task.output == ("second" if row.second_asked else row.text)
    assert task.models == ["openai/second" if row.second_asked else "openai/scripted"]
    assert (task.truncated, bool(task.notes)) == (row.truncated, row.truncated)
    assert (task.usage.input_tokens, task.usage.output_tokens) == row.tokens


def _check_failure(row: Row, error: RunError | None, result: RunResult) -> None:
    assert type(error) is row.error
    assert row.said in str(error)
    assert row.status is None or getattr(error, "status", None) == row.status
    assert (result.status, result.output, result.tasks["t"].models) == (
        "failed",
        None,
        [] if row.error is not errors.LimitExceededError else ["openai/scripted"],
    )
    assert error is not None
    assert error.task == "t"


def _check_waits(row: Row, waits: list[float]) -> None:
    if row.waits is not None:
        assert len(waits) == len(row.waits), waits
        assert all(least <= waited <= most for waited, (least, most) in zip(waits, row.waits, strict=True)), waits


def _check_events(row: Row, events: list[Any]) -> None:
    """Every request is an event, and none took longer than it may."""
    calls = [event for event in events if event.type == "ModelCalled"]
    assert len(calls) == row.asked + row.second_asked
    assert all(call.duration_s < row.seconds for call in calls)
    if row.attempts_last is not None:
        least, most = row.attempts_last
        assert all(least <= call.duration_s <= most for call in calls)
    replaced = [(event.model, event.replacement) for event in events if event.type == "ModelReplaced"]
    assert replaced == ([("openai/scripted", "openai/second")] if row.second_asked else [])


@BACKENDS
@ENTRIES
def test_16_a_refused_connection(backend: str, entry: str) -> None:
    """Four attempts, and an error that names the address; nothing answers, so only the events count."""
    row = Row("16", (), 4)
    with refusing() as url:
        result, error, events = outcome(team(row, ModelSpec(model="openai/scripted", base_url=url)), backend, entry)
    assert type(error) is errors.APIConnectionError
    assert f"no connection to openai/scripted at {url}" in str(error)
    assert result.usage.model_calls == 4
    assert [event.error for event in events if event.type == "ModelCalled"] == ["APIConnectionError"] * 4  # type: ignore[attr-defined]


@BACKENDS
@ENTRIES
def test_16_a_refused_connection_and_a_fallback(backend: str, entry: str) -> None:
    """The negative control: with another model the task completes, and the result names it."""
    with refusing() as url, FaultServer(good("second")) as other:
        spec = team(Row("16", (), 4), ModelSpec(model="openai/scripted", base_url=url), other.model(model="openai/second"))
        result, error, _ = outcome(spec, backend, entry)
    assert (error, result.output, result.tasks["t"].models) == (None, "second", ["openai/second"])
    assert (result.usage.model_calls, len(other.requests)) == (5, 1)


@BACKENDS
def test_4_the_circuit_opens_in_the_middle_of_a_call(backend: str, waits: list[float]) -> None:
    """Six attempts at a dead model: the fifth failure opens the circuit, the sixth is the probe, which fails too. With four it stays closed."""
    for most, changes in ((6, ["open", "half_open", "open"]), (4, [])):
        with FaultServer(failing(500), forever=True) as server:
            _, error, events = outcome(team(Row("4", (), most, team=attempts(most)), server.model()), backend, "run_team")
        assert type(error) is errors.InternalServerError
        assert [event.state for event in events if event.type.startswith("Circuit")] == changes  # type: ignore[attr-defined]
        assert len(server.requests) == most
        assert sum(waits) >= (9 if changes else 0)
        waits.clear()


@BACKENDS
def test_a_lasting_fault_is_asked_as_often_whatever_the_breaker_does(backend: str) -> None:
    """A circuit that opens between two attempts does not make a bounded number of attempts (three after bad responses) larger."""
    asked = []
    for threshold in (50, 1):
        settings = {"resilience": {"retry": {"max_attempts": 9}, "circuit_breaker": {"failure_threshold": threshold}}}
        with FaultServer(reply({}), forever=True) as server:
            _, error, _ = outcome(team(Row("27", (), 3, team=settings), server.model()), backend, "run_team")
        assert type(error) is errors.BadResponseError
        asked.append(len(server.requests))
    assert asked == [3, 3]


def running() -> set[asyncio.Task[Any]]:
    """What runs on the engine, but for the question itself."""

    async def tasks() -> set[asyncio.Task[Any]]:
        return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}

    return engine().run(tasks())


def leftover(before: set[asyncio.Task[Any]]) -> list[str]:
    """What still runs on the engine a moment after a run, and did not before it."""
    for _ in range(50):
        if not (found := running() - before):
            break
        time.sleep(0.02)
    return [repr(task) for task in found]


@BACKENDS
@ENTRIES
def test_20_an_attempt_ends_at_its_timeout(backend: str, entry: str) -> None:
    """Within a tenth of it."""
    lasted = []
    for _ in range(3):  # the best of three: the machine may be busy
        with FaultServer(hang(), forever=True) as server:
            spec = team(Row("20", (), 1, team=attempts(1)), server.model(timeout=1.0))
            _, error, events = outcome(spec, backend, entry)
        assert type(error) is errors.APITimeoutError
        lasted += [event.duration_s for event in events if event.type == "ModelCalled"]  # type: ignore[attr-defined]
        if lasted[-1] <= 1.1:
            break
    assert 0.9 <= min(lasted) <= 1.1


@BACKENDS
def test_20_a_timeout_leaves_nothing_behind(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """After attempts that timed out no task of theirs runs on, and asyncio has no complaint about an error that nobody looked at."""
    gc.collect()  # nothing of earlier tests
    caplog.clear()
    before = running()
    with FaultServer(hang(), hang_in_body(), good()) as server:
        result, error, _ = outcome(team(Row("20", (), 3), server.model(timeout=1.5)), backend, "run_team")
    assert (error, result.output) == (None, "fine")
    assert leftover(before) == []
    gc.collect()
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []


@BACKENDS
@pytest.mark.parametrize("moment", ["attempt", "wait"])
def test_38_a_cancelled_run_ends_at_once(backend: str, moment: str) -> None:
    """Cancelled during an attempt, or during the wait after a 429: it ends within a tenth of a second, and nothing of it runs on."""
    play = hang() if moment == "attempt" else failing(429, headers={"Retry-After": "60"})

    async def cancelled() -> float:
        run = asyncio.create_task(run_team_async(team(Row("38", (), 1), server.model()), backend=backend))
        while not server.requests:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        began = time.monotonic()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        return time.monotonic() - began

    taken = []
    with use_clock(Clock()):
        for _ in range(5):  # the best of some: the machine may be busy
            before = running()
            with FaultServer(play, forever=True) as server:
                taken.append(asyncio.run(cancelled()))
                assert leftover(before) == []
            assert len(server.requests) == 1
            if taken[-1] < 0.1:
                break
    assert min(taken) < 0.1


@BACKENDS
def test_32_arguments_of_ten_megabytes(backend: str) -> None:
    """Broken and large: the tool is not called, and the model is told so in few words."""
    called: list[str] = []

    def note(text: str) -> str:
        """Keep a note."""
        called.append(text)
        return "kept"

    wanted = reply(completion(None, tool_calls=[call("note", "x" * 10_000_000, "c1")]))
    agent = AgentSpec(name="worker", role="Worker", tools=[note])
    with FaultServer(wanted, good()) as server:
        spec = TeamSpec(tasks=[TaskSpec(name="t", description="Answer.", agent=agent)], models={"default": server.model()})
        result, error, _ = outcome(spec, backend, "run_team")
    assert (error, result.output, called) == (None, "fine", [])
    told = [message for message in server.requests[1]["messages"] if message["role"] == "tool"]
    assert [message["content"][:6] for message in told] == ["Error:"]
    assert len(told[0]["content"]) < 2_000
