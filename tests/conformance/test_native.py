"""The framework's own object, run by the runtime, by the user directly, and inside a running loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from unified_agents import AgentSpec, ChatResponse, ModelError, ScriptedModel, TaskSpec, TeamSpec, compile_team, run_team, run_team_async
from unified_agents.errors import BudgetExceededError
from unified_agents.registry import backends
from unified_agents.testing import Reply, ScriptedServer

AGENT = AgentSpec(name="worker", role="Worker", goal="Work")


def team(model: Any, **fields: Any) -> TeamSpec:
    """`two` sees `one`."""
    tasks = [
        TaskSpec(name="one", description="MARK-ONE", agent=AGENT),
        TaskSpec(name="two", description="MARK-TWO", agent=AGENT, context=["one"]),
    ]
    return TeamSpec(tasks=tasks, models={"default": model}, **fields)


def _crew(native: Any) -> list[Callable[[], Awaitable[str]]]:
    async def kickoff() -> str:
        return str((await asyncio.to_thread(native.kickoff)).raw)

    async def akickoff() -> str:
        return str((await native.akickoff()).raw)

    return [kickoff, akickoff]


def _chat(native: Any) -> list[Callable[[], Awaitable[str]]]:
    async def run() -> str:
        return str((await native.run()).messages[-1].content)

    return [run]


def _group_chat(native: Any) -> list[Callable[[], Awaitable[str]]]:
    async def initiate_chat() -> str:
        chat = await asyncio.to_thread(native.initiator.initiate_chat, native, message="Go on.")
        return str(chat.chat_history[-1]["content"])

    async def a_initiate_chat() -> str:
        return str((await native.initiator.a_initiate_chat(native, message="Go on.")).summary)

    return [initiate_chat, a_initiate_chat]


# How a user runs each framework's object by hand, and the class it must be. A backend without a row fails here.
DIRECT: dict[str, tuple[str, str, Callable[[Any], list[Callable[[], Awaitable[str]]]]]] = {
    "crewai": ("crewai", "Crew", _crew),
    "autogen": ("autogen_agentchat.teams", "BaseGroupChat", _chat),
    "autogen_classic": ("autogen", "GroupChatManager", _group_chat),
}


def test_native_is_the_frameworks_own_object(server: ScriptedServer, backend: str) -> None:
    """`compiled.native` is an instance of the framework's class, with an agent for every task."""
    module, name, _ = DIRECT[backend]
    compiled = compile_team(team(server.model()), backend=backend)
    assert isinstance(compiled.native, getattr(__import__(module, fromlist=[name]), name))
    assert compiled.backend == backend
    assert {row.level for row in compiled.fidelity} <= {"native", "emulated"}


def test_native_run_by_hand_gives_the_same(server: ScriptedServer, backend: str) -> None:
    """Every entry point of the framework runs the plan: same requests, same final text; a compiled object may run again."""
    compiled = compile_team(team(server.model()), backend=backend)
    for run in DIRECT[backend][2](compiled.native):
        server.reply("MARK-ONE", "Final Answer: 1").reply("MARK-TWO", "Action: 2")
        before = len(server.requests)
        assert asyncio.run(_await(run)) == "Action: 2"
        assert len(server.requests) - before == 2
        assert "Final Answer: 1" in server.requests[-1].text


async def _await(run: Callable[[], Awaitable[str]]) -> str:
    return await run()


def test_native_run_by_hand_raises_the_original_error(server: ScriptedServer, backend: str) -> None:
    """Run directly, a failed task raises our typed error itself, after the attempts of our layers and none of the framework's."""
    server.reply("MARK-ONE", Reply(status=503), forever=True)
    for run in DIRECT[backend][2](compile_team(team(server.model()), backend=backend).native):
        before = len(server.requests)
        with pytest.raises(ModelError, match="HTTP 503"):
            asyncio.run(_await(run))
        assert len(server.requests) - before == 4


def test_native_run_by_hand_keeps_the_budget(server: ScriptedServer, backend: str) -> None:
    """It is counted over the life of the compiled object: the first run uses it up in its second task, a further one in its first."""
    server.reply("MARK-ONE", "1", forever=True)
    compiled = compile_team(team(server.model(), budget={"model_calls": 1}), backend=backend)
    for run in DIRECT[backend][2](compiled.native):
        with pytest.raises(BudgetExceededError, match=r"budget\.model_calls is 1, 1 of it spent"):
            asyncio.run(_await(run))
    assert len(server.requests) == 1


def test_the_backend_asked_for_is_the_one_that_ran(server: ScriptedServer, backend: str) -> None:
    """The result names the backend and the framework's installed version."""
    server.reply("MARK-ONE", "1").reply("MARK-TWO", "2")
    result = run_team(team(server.model(), backend="autogen" if backend == "crewai" else "crewai"), backend=backend)
    assert (result.backend, result.framework_version) == (backend, backends()[backend].framework_version)
    assert {task.backend for task in result.tasks.values()} == {backend}


def test_run_team_works_inside_a_running_loop(backend: str) -> None:
    """As in a notebook: the blocking call returns although a loop is running, and the awaited one does not block it."""

    async def notebook() -> tuple[str, str, int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        blocking = str(run_team(team("openai/x"), backend=backend, models={"default": ScriptedModel(["1", "2"])}))
        ticker = asyncio.create_task(tick())
        slow = ScriptedModel(["1", "2"])

        async def answer(request: Any) -> Any:
            await asyncio.sleep(0.2)
            return await slow(request)

        awaited = str(await run_team_async(team("openai/x"), backend=backend, models={"default": answer}))
        ticker.cancel()
        return blocking, awaited, ticks

    blocking, awaited, ticks = asyncio.run(notebook())
    assert (blocking, awaited) == ("2", "2")
    assert ticks >= 10


def test_a_cancelled_run_ends_at_once(server: ScriptedServer, backend: str) -> None:
    """Cancelling `run_team_async` ends the model call under way; no further request is sent."""
    server.reply("MARK-ONE", Reply(text="late", delay=3)).reply("MARK-TWO", "2")

    async def cancelled() -> float:
        run = asyncio.create_task(run_team_async(team(server.model()), backend=backend))
        while not server.requests:
            await asyncio.sleep(0.01)
        started = time.monotonic()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        return time.monotonic() - started

    assert asyncio.run(cancelled()) < 1
    time.sleep(0.2)
    assert len(server.requests) == 1


def test_runs_at_the_same_time_do_not_mix(backend: str) -> None:
    """Ten runs of one team at once each get their own answers."""

    async def many() -> list[str]:
        def answer(n: int) -> ScriptedModel:
            return ScriptedModel(lambda request: f"{request.task}-{n}")

        runs = [run_team_async(team("openai/x"), backend=backend, models={"default": answer(n)}) for n in range(10)]
        return [str(result) for result in await asyncio.gather(*runs)]

    assert asyncio.run(many()) == [f"two-{n}" for n in range(10)]


def test_events_come_in_order(server: ScriptedServer, backend: str) -> None:
    """A listener sees the run begin, each task start, ask and end, and the run end; one that raises breaks nothing."""
    server.reply("MARK-ONE", "1").reply("MARK-TWO", "2")
    seen: list[tuple[str, str]] = []

    def listen(event: Any) -> None:
        seen.append((event.type, event.task or ""))
        raise ValueError("a failing listener")

    run_team(team(server.model()), backend=backend, on_event=listen)
    task = ["TaskStarted", "AgentStarted", "ModelCalled", "ModelAnswered", "AgentEnded", "TaskCompleted"]
    handover = ["TaskStarted", "MessageSent", "AgentStarted", "ModelCalled", "ModelAnswered", "AgentEnded", "TaskCompleted"]
    assert seen == [("RunStarted", ""), *((kind, "one") for kind in task), *((kind, "two") for kind in handover), ("RunCompleted", "")]


def test_a_compiled_object_never_mixes_two_runs(backend: str) -> None:
    """Run again or twice at once it either works or says that `compile_team` makes another; never a wrong answer."""

    async def answer(request: Any) -> ChatResponse:
        await asyncio.sleep(0.2)
        return ChatResponse(text=f"OUT {request.task}", model="m")

    native = compile_team(team("openai/x"), backend=backend, models={"default": answer})
    starts = {
        "crewai": lambda: asyncio.to_thread(native.native.kickoff),
        "autogen": lambda: native.native.run(),
        "autogen_classic": lambda: asyncio.to_thread(native.initiator.initiate_chat, native.native),
    }

    async def both() -> list[Any]:
        start: Any = starts[backend]
        return list(await asyncio.gather(start(), start(), return_exceptions=True))

    for said in asyncio.run(both()):
        assert "OUT two" in str(said) or "compile_team" in str(said), repr(said)
