"""Watching a run: the same events on every backend, text while models write it, and a consumer that never disturbs."""

from __future__ import annotations

import asyncio
import gc
import re
import threading
import time
import warnings
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from unified_agents import AgentSpec, RunError, SpecError, TaskSpec, TeamSpec, backends, resume_run, run_team, stream_team, stream_team_sync
from unified_agents.errors import APIConnectionError, APITimeoutError, BadResponseError
from unified_agents.events import (
    Dispatcher,
    Event,
    ModelCalled,
    RunCompleted,
    RunFailed,
    RunStarted,
    TaskCompleted,
    TaskStarted,
    TextStreamed,
    ToolCalled,
)
from unified_agents.journal import open_journal
from unified_agents.state import HOME_VARIABLE
from unified_agents.testing import Reply, ScriptedServer, call

TEXT = "Tide pools are small worlds"
TIME = r"\d{4}-\d\d-\d\dT[\d:.+]+"


def look(q: str) -> str:
    """Looks."""
    return f"FOUND {q}"


def team(server: ScriptedServer, stream: bool = True, **fields: Any) -> TeamSpec:
    """One task, MARK, of an agent with a tool."""
    agent = AgentSpec(name="ann", role="Worker", tools=[look])
    task = TaskSpec(name="t", description="MARK", agent=agent)
    return TeamSpec(**{"tasks": [task], "models": {"default": server.model()}, "stream": stream, **fields})


async def collected(stream: AsyncGenerator[Event, None]) -> list[Event]:
    """All events of a stream."""
    return [event async for event in stream]


def texts(events: list[Event]) -> dict[tuple[str, str, int], str]:
    """The streamed text of each attempt at each call."""
    found: dict[tuple[str, str, int], str] = {}
    for event in events:
        if isinstance(event, TextStreamed):
            place = (event.key, event.model, event.attempt)
            found[place] = found.get(place, "") + event.text
    return found


def shape(event: Event) -> tuple[Any, ...]:
    """What an event says, without what hangs on time and place, and the fingerprint of a prompt, which each framework words."""
    gone = ("seq", "time", "run_id", "duration_s", "backend", "delay_s", "fingerprint")
    return tuple((name, re.sub(TIME, "", str(value))) for name, value in event.to_dict().items() if name not in gone)


def busy_team(server: ScriptedServer) -> TeamSpec:
    """A diamond: tools, a retry, a delegation and a message; then a group chat beside a tool and a delegation; then a task that joins them."""
    agents = [
        AgentSpec(name="boss", role="Boss", delegates_to=["ann"], tools=[look], messaging=True),
        AgentSpec(name="ann", role="Worker"),
        AgentSpec(name="bob", role="Chief", delegates_to=["cyd"], tools=[look]),
        AgentSpec(name="cyd", role="Helper"),
    ]
    tasks = [
        TaskSpec(name="one", description="ONE", agent="boss"),
        TaskSpec(name="two", description="TWO", participants=["boss", "ann"], max_rounds=2, context=["one"]),
        TaskSpec(name="three", description="THREE", agent="bob", context=["one"]),
        TaskSpec(name="four", description="FOUR", agent="cyd", context=["two", "three"]),
    ]
    hand = "delegate_work_to_coworker"
    calls: list[str | Reply] = [
        Reply(status=500),
        Reply(tool_calls=[call("look", {"q": "a"}, "c1")]),
        Reply(tool_calls=[call(hand, {"task": "HANDED", "coworker": "ann"}, "c3")]),
        Reply(tool_calls=[call("send_message", {"recipient": "ann", "content": "hello"}, "c4")]),
        "first",
    ]
    both = [call("look", {"q": "b"}, "c5")], [call(hand, {"task": "PASSED", "coworker": "cyd"}, "c6")]
    server.reply("HANDED", "helped").reply("PASSED", "passed").reply("FOUR", "fourth").reply("TWO", "turn", forever=True)
    server.reply("THREE", *(Reply(tool_calls=one, delay=0.05) for one in both), "third").reply("ONE", *calls)
    return TeamSpec(tasks=tasks, agents=agents, models={"default": server.model()}, memory={"tools": False})


CALL = ["ModelCalled", "ModelAnswered"]
WORK = ["AgentStarted", *CALL, "AgentEnded"]
HAND = [*CALL, "ToolStarted", "MessageSent", "WorkDelegated", *WORK, "MessageSent", "ToolCalled"]
LOOK = [*CALL, "ToolStarted", "ToolCalled"]
EXPECTED = {
    "": ["RunStarted", "RunCompleted"],
    "one": [
        "TaskStarted", "AgentStarted", "ModelCalled", "CallRetried", *LOOK, *HAND, *CALL, "ToolStarted", "MessageSent", "ToolCalled", *CALL,
        "AgentEnded", "TaskCompleted",
    ],
    "two": [
        "TaskStarted", "MessageSent", "MessageSent", *WORK, "MessageSent", "AgentStarted", "MessagesRead", *CALL, "AgentEnded", "MessageSent",
        "TaskCompleted",
    ],
    "three": ["TaskStarted", "MessageSent", "AgentStarted", *LOOK, *HAND, *CALL, "AgentEnded", "TaskCompleted"],
    "four": ["TaskStarted", "MessageSent", "MessageSent", *WORK, "TaskCompleted"],
}  # fmt: skip


def by_task(events: list[Event]) -> dict[str, list[Event]]:
    """The events of each task, and the run's own under no name."""
    found: dict[str, list[Event]] = {}
    for event in events:
        found.setdefault(event.task or "", []).append(event)
    return found


def test_the_events_of_a_run(server: ScriptedServer, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same on every backend, field by field, in the same order within each task; each event with its number, its time and its run."""
    shapes, available = [], [name for name, found in backends().items() if found.available]
    for name in sorted(available, key=lambda name: name != backend)[:2]:
        monkeypatch.setenv(HOME_VARIABLE, f"state-{name}")
        events: list[Event] = []
        result = run_team(busy_team(server), backend=name, on_event=events.append)
        assert {task: [event.type for event in of] for task, of in by_task(events).items()} == EXPECTED
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert {event.run_id for event in events} == {result.run_id}
        times = [event.time for event in events]
        assert None not in times
        assert times == sorted(times)  # type: ignore[type-var]  # None is not among them
        starts, ends = ([event.task for event in events if isinstance(event, kind)] for kind in (TaskStarted, TaskCompleted))
        assert (starts[0], {*starts[1:3]}, ends[0], {*ends[1:3]}) == ("one", {"two", "three"}) * 2
        shapes.append({task: [shape(event) for event in of] for task, of in by_task(events).items()})
    assert shapes[0] == shapes[-1]


def test_text_comes_while_it_is_written(server: ScriptedServer, backend: str) -> None:
    """In pieces, before the call has ended, on the way to the same answer and usage; without `stream: true` there are none and nothing is streamed."""
    server.reply("MARK", Reply(text=TEXT, stall=1.5), TEXT)
    came: list[tuple[float, Event]] = []
    result = run_team(team(server), backend=backend, on_event=lambda event: came.append((time.monotonic(), event)))
    events = [event for _, event in came]
    assert list(texts(events).values()) == [TEXT]
    assert result.output == TEXT
    assert (result.usage.input_tokens, result.usage.output_tokens) == (7, 3)
    assert server.requests[0].body["stream"] is True
    first = next(at for at, event in came if isinstance(event, TextStreamed))
    ended = next(at for at, event in came if isinstance(event, ModelCalled))
    assert ended - first > 0.2
    quiet: list[Event] = []
    run_team(team(server, stream=False), backend=backend, on_event=quiet.append)
    assert not texts(quiet)
    assert "stream" not in server.requests[1].body


def test_tool_calls_are_put_together(server: ScriptedServer, backend: str) -> None:
    """Calls that come in pieces are the calls that were made: several, with text beside them."""
    calls = [call("look", {"q": "a" * 50}), call("look", {"q": "ü"})]
    server.reply("MARK", Reply(text="I look", tool_calls=calls), TEXT)
    events: list[Event] = []
    run_team(team(server), backend=backend, on_event=events.append)
    results = [message["content"] for message in server.requests[1].messages if message["role"] == "tool"]
    assert results == [f"FOUND {'a' * 50}", "FOUND ü"]
    assert list(texts(events).values()) == ["I look", TEXT]


def test_a_cut_stream_starts_again_and_doubles_nothing(server: ScriptedServer, backend: str) -> None:
    """Fault 30: what came before the cut belongs to the first attempt; the answer and the second attempt's text are whole."""
    server.reply("MARK", Reply(text=TEXT, cut=2), TEXT)
    events: list[Event] = []
    result = run_team(team(server), backend=backend, on_event=events.append)
    assert result.output == TEXT
    (_, first), (second_place, second) = texts(events).items()
    assert TEXT.startswith(first)
    assert first != TEXT
    assert (second, second_place[2]) == (TEXT, 2)
    assert [event.error for event in events if isinstance(event, ModelCalled)] == ["APIConnectionError", None]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(text=TEXT, cut=1), APIConnectionError),
        (Reply(text=TEXT, stall=2.0), APITimeoutError),
        (Reply(body=b"no stream at all"), BadResponseError),
        (Reply(body=b'data: {"error": {"message": "boom"}}\n\n'), BadResponseError),
    ],
    ids=["cut", "31-stalls", "nothing", "an error inside"],
)
def test_a_stream_that_fails(server: ScriptedServer, backend: str, reply: Reply, kind: type[RunError]) -> None:
    """Each way is its kind of error, tried as often as the kind allows, and no answer is made of what came."""
    server.reply("MARK", reply, forever=True)
    spec = team(
        server, models={"default": server.model(timeout=0.5 if kind is APITimeoutError else 10)}, resilience={"retry": {"max_attempts": 2}}
    )
    with pytest.raises(kind) as caught:
        run_team(spec, backend=backend)
    assert caught.value.result is not None
    assert caught.value.result.output is None
    assert len(server.requests) == 2


def test_stream_team(server: ScriptedServer, backend: str) -> None:
    """All events in order, the last with the result; the plain twin gives the same."""
    server.reply("MARK", Reply(tool_calls=[call("look", {"q": "x"}, "c")]), TEXT, Reply(tool_calls=[call("look", {"q": "x"}, "c")]), TEXT)
    events = asyncio.run(collected(stream_team(team(server), backend=backend)))
    plain = list(stream_team_sync(team(server), backend=backend))
    assert [shape(event) for event in _joined(events)] == [shape(event) for event in _joined(plain)]
    last = events[-1]
    assert isinstance(events[0], RunStarted)
    assert isinstance(last, RunCompleted)
    assert last.result is not None
    assert last.result.output == TEXT


def _joined(events: list[Event]) -> list[Event]:
    """How text was cut into pieces is left to chance."""
    return [event for event in events if not isinstance(event, TextStreamed)]


def test_a_stream_of_a_run_that_fails(server: ScriptedServer, backend: str) -> None:
    """RunFailed is its last event, then the error is raised; a team that is wrong raises at once."""
    server.reply("MARK", Reply(status=401))
    events: list[Event] = []

    async def watch() -> None:
        async for event in stream_team(team(server), backend=backend):
            events.append(event)  # what came before the error counts

    with pytest.raises(RunError):
        asyncio.run(watch())
    assert isinstance(events[-1], RunFailed)
    with pytest.raises(SpecError):
        list(stream_team_sync(team(server), {"no": "input"}, backend=backend))


def test_leaving_the_stream_cancels_the_run(server: ScriptedServer, backend: str) -> None:
    """The request under way is dropped, within a moment; the run can be resumed and asks once more."""
    server.reply("MARK", Reply(text=TEXT, delay=30), TEXT)

    async def leave() -> str:
        stream = stream_team(team(server), backend=backend)
        async for event in stream:
            if event.type == "TaskStarted":
                while not server.requests:  # noqa: ASYNC110  # the server is a thread
                    await asyncio.sleep(0.01)
                began = time.monotonic()
                await stream.aclose()
                assert time.monotonic() - began < 1.5
                return event.run_id
        raise AssertionError("no task began")

    run_id = asyncio.run(leave())
    result = resume_run(run_id, team=team(server))
    assert (result.output, len(server.requests)) == (TEXT, 2)
    server.reply("MARK", Reply(text=TEXT, delay=30))
    began = time.monotonic()
    for event in stream_team_sync(team(server, journal=False), backend=backend):
        assert isinstance(event, RunStarted)
        break
    assert time.monotonic() - began < 5


def test_leaving_it_at_any_moment_is_quiet(server: ScriptedServer, backend: str) -> None:
    """No work that was given up before it began warns that nobody awaited it."""
    server.reply("MARK", Reply(text=TEXT, delay=0.05), forever=True)
    gc.collect()  # nothing of earlier tests
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for turn in range(12):
            for event in stream_team_sync(team(server, journal=False), backend=backend):
                if event.type == ("TaskStarted", "AgentStarted", "RunStarted")[turn % 3]:
                    break
        gc.collect()
    assert not [str(one.message) for one in told if "never awaited" in str(one.message)]


def test_a_loop_that_is_closed_ends_the_run(server: ScriptedServer, backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody will take what comes: no traceback for each event, and no further request."""
    ann = AgentSpec(name="ann", role="Worker")
    tasks = [TaskSpec(name=f"t{n}", description=f"MARK {n}", agent=ann, after=[f"t{n - 1}"] if n else []) for n in range(4)]
    server.reply("MARK", Reply(text=TEXT, delay=0.3), forever=True)
    loop = asyncio.new_event_loop()
    stream = stream_team(team(server, tasks=tasks), backend=backend)

    async def begin() -> str:
        return (await anext(stream)).run_id

    run_id, book = loop.run_until_complete(begin()), open_journal("sqlite:///runs.db")
    until(lambda: bool(server.requests))
    loop.close()
    until(lambda: book.run(run_id).status != "running")
    assert book.run(run_id).status == "cancelled"
    assert len(server.requests) < 4
    assert not [record for record in caplog.records if record.exc_info]


def until(condition: Callable[[], bool]) -> None:
    """Wait until it is so, ten seconds at most."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_slow_consumer_does_not_slow_the_run(server: ScriptedServer, backend: str) -> None:
    """It gets every event, the text in fewer pieces; the run has long ended."""
    words = " ".join(["word"] * 200)
    server.reply("MARK", words, forever=True)

    async def slowly() -> tuple[list[Event], float]:
        events: list[Event] = []
        async for event in stream_team(team(server), backend=backend):
            events.append(event)
            await asyncio.sleep(0.03)
        end = events[-1]
        assert isinstance(end, RunCompleted)
        return events, end.duration_s

    events, took = asyncio.run(slowly())
    assert list(texts(events).values()) == [words]
    assert sum(isinstance(event, TextStreamed) for event in events) < 100
    assert took < len(events) * 0.03 + 3


def test_a_listener_that_fails_breaks_nothing(server: ScriptedServer, backend: str) -> None:
    """It is logged, and asked again for the next event."""
    server.reply("MARK", TEXT)
    seen: list[str] = []

    def broken(event: Event) -> None:
        seen.append(event.type)
        raise ValueError("broken")

    assert run_team(team(server), backend=backend, on_event=broken).output == TEXT
    assert seen[-1] == "RunCompleted"


def test_events_are_plain_data(server: ScriptedServer, backend: str) -> None:
    """`to_dict` starts with seq, time, run_id and type, and is JSON as it stands; tool results and arguments are in it."""
    server.reply("MARK", Reply(tool_calls=[call("look", {"q": "x"})]), TEXT)
    events: list[Event] = []
    run_team(team(server), backend=backend, on_event=events.append)
    for event in events:
        assert list(event.to_dict())[:4] == ["seq", "time", "run_id", "type"]
    (tool,) = [event for event in events if isinstance(event, ToolCalled)]
    assert tool.result == "FOUND x"


def test_a_slow_listener_gets_every_event(server: ScriptedServer, backend: str) -> None:
    """`run_team` returns when all were delivered; one that stands still for long is left, and that is said in the log."""
    server.reply("MARK", TEXT)
    heard: list[str] = []

    def slow(event: Event) -> None:
        time.sleep(0.2)
        heard.append(event.type)

    run_team(team(server, stream=False), backend=backend, on_event=slow)
    assert heard[-1] == "RunCompleted"


def test_a_listener_that_stands_still_is_left(caplog: pytest.LogCaptureFixture) -> None:
    """After its patience, with the number of events that were not delivered."""
    begun, stuck = threading.Event(), threading.Event()

    def listen(_event: Event) -> None:
        begun.set()
        stuck.wait()

    dispatcher = Dispatcher(listen)
    for _ in range(3):
        dispatcher.put(RunCompleted(duration_s=0.0))
    assert begun.wait(10)
    dispatcher.close(patience=0.1)
    assert "2 events were not delivered" in caplog.text
    stuck.set()


def test_an_async_listener_is_refused(server: ScriptedServer, backend: str) -> None:
    """Nobody would await it."""

    async def listen(event: Event) -> None:
        """Never awaited."""

    with pytest.raises(SpecError, match="async function"):
        run_team(team(server), backend=backend, on_event=listen)  # type: ignore[arg-type]  # the mistake that is meant
    assert not server.requests


def test_a_blocking_stream_inside_a_layer_is_refused(server: ScriptedServer, backend: str) -> None:
    """It would wait for itself: the error says what to write instead."""

    class Nested:
        async def __call__(self, request: Any, call_next: Any) -> Any:
            list(stream_team_sync(team(server), backend=backend))

    with pytest.raises(RunError, match=r"await stream_team\(…\) there"):
        run_team(team(server), backend=backend, middleware=[Nested()])
