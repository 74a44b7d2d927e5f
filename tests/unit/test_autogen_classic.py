"""What a user of classic AutoGen meets when running the group chat by hand."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from unified_agents import AgentSpec, ScriptedModel, TaskSpec, TeamSpec, compile_team, run_team_async

pytestmark = pytest.mark.xdist_group("autogen_classic")  # importing it is what costs

AGENT = AgentSpec(name="worker", role="Worker", goal="Work")


def team(tasks: dict[str, dict[str, Any]]) -> TeamSpec:
    """A graph of tasks of one agent."""
    specs = [TaskSpec(name=name, description=f"MARK-{name}.", agent=AGENT, **fields) for name, fields in tasks.items()]
    return TeamSpec(tasks=specs, process="graph", models={"default": "openai/x"})


def compiled(answers: Any, tasks: dict[str, dict[str, Any]]) -> Any:
    """The group chat's manager for such tasks, on scripted answers."""
    return compile_team(team(tasks), backend="autogen_classic", models={"default": ScriptedModel(answers)}).native


@pytest.fixture
def console() -> Iterator[list[Any]]:
    """What reaches AutoGen's console; its printing handler keeps the stdout of the first test that used it, so that is no place to look."""
    from unified_agents_autogen_classic import quiet

    stream: Any = vars(quiet)["IOStream"]
    seen: list[Any] = []

    class Console(quiet.Silence):
        def send(self, message: Any) -> None:
            seen.append(message)

    real = stream.get_global_default()
    stream.set_global_default(Console())
    yield seen
    stream.set_global_default(real)


def test_a_chat_by_hand_prints_nothing_and_needs_no_message(console: list[Any]) -> None:
    """Whatever the first message says, or without one, the plan is walked once; nothing is printed, and stdin is not read."""
    manager = compiled(lambda request: f"{request.task}: TERMINATE, exit", {"one": {}, "two": {"context": ["one"]}})
    for options in ({}, {"message": "TERMINATE"}, {"message": "exit", "clear_history": False}, {"message": "x", "max_turns": 3}):
        manager.initiator.initiate_chat(manager, summary_method=None, **options)
        said = [(message["name"], message["content"]) for message in manager.groupchat.messages][-3:]
        assert said[0][0] == "initiator"
        assert said[1:] == [("worker_1", "one: TERMINATE, exit"), ("worker_2", "two: TERMINATE, exit")]
    assert console == []


def test_a_stream_of_the_callers_is_left_alone() -> None:
    """Only the console is silenced: AutoGen's `run` still tells of the chat's end."""
    manager = compiled(lambda request: request.task, {"one": {}})
    response = manager.initiator.run(manager)
    events = {type(event).__name__ for event in response.events}
    assert {"TerminationEvent", "RunCompletionEvent"} <= events
    assert response.summary == "one"


def test_speakers_do_not_hear_each_other() -> None:
    """The transcript has every answer, a speaker its own task and answer only, also in a chat that keeps its history."""
    manager = compiled(lambda request: f"OUT-{request.task}", {"one": {}, "two": {}})
    for keep in (False, True):
        manager.initiator.initiate_chat(manager, clear_history=not keep)
        for speaker, name in zip(manager.groupchat.agents[1:], ("one", "two"), strict=True):
            assert [message["content"] for message in speaker.chat_messages[manager]] == [f"MARK-{name}.", f"OUT-{name}"]
    assert len(manager.groupchat.messages) == 6


def test_the_teams_output_is_said_last() -> None:
    """A chat's summary is its last message: the final task waits until nothing else can speak."""
    manager = compiled(lambda request: f"OUT-{request.task}", {"a": {}, "b": {"context": ["a"]}, "c": {"context": ["b"]}, "last": {}})
    chat = manager.initiator.initiate_chat(manager)
    assert chat.summary == "OUT-last"
    assert [message["content"] for message in chat.chat_history[1:]] == ["OUT-a", "OUT-b", "OUT-c", "OUT-last"]


def test_a_large_plan_is_spoken_to_its_end() -> None:
    """Neither AutoGen's ten rounds nor its hundred replies are a limit, and its checks of speakers stay out of the way."""
    manager = compiled(lambda request: request.task, {f"t{n}": {} for n in range(300)})
    assert len(manager.initiator.initiate_chat(manager).chat_history) == 301


def test_a_cancelled_chat_starts_no_task_that_was_waiting_for_its_turn() -> None:
    """Independent tasks could all start at once; cancelled during the first, the others are never begun."""
    started: list[str] = []
    ended = threading.Event()

    async def cancelled() -> None:
        begun = asyncio.Event()

        async def answer(request: Any) -> Any:
            loop.call_soon_threadsafe(begun.set)
            await asyncio.sleep(60)

        def listen(event: Any) -> None:
            if event.type == "TaskStarted":
                started.append(event.task)
            if event.type == "RunFailed":
                ended.set()

        loop = asyncio.get_running_loop()
        spec = team({name: {} for name in ("one", "two", "three")})
        run = asyncio.create_task(run_team_async(spec, backend="autogen_classic", models={"default": answer}, on_event=listen))
        await begun.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(cancelled())
    assert ended.wait(5)
    assert started == ["one"]


def test_messages_on_the_wire_are_plain() -> None:
    """Speakers' names and an empty system message stay behind."""
    from unified_agents_autogen_classic.model import plain

    user = {"role": "user", "content": "task", "name": "chat_manager"}
    assert plain([{"role": "system", "content": ""}, user]) == [{"role": "user", "content": "task"}]


def test_an_agent_that_asks_on_the_terminal_is_refused() -> None:
    """The stream in place of the console has nobody to ask."""
    from unified_agents_autogen_classic import quiet

    with quiet.silent(), pytest.raises(EOFError, match="terminal"):
        vars(quiet)["IOStream"].get_default().input("?")


def test_silence_ends_with_the_chat() -> None:
    """After a chat the console is AutoGen's default again."""
    from unified_agents_autogen_classic import quiet

    stream = vars(quiet)["IOStream"]
    with quiet.silent():
        assert isinstance(stream.get_default(), quiet.Silence)
    assert stream.get_default() is stream.get_global_default()
