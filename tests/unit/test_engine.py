"""Whose state is shared with whom: one for all of the process's runs, none with other loops, none with a fork's parent."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import warnings
from typing import Any

import pytest

from unified_agents.chat_models import ChatRequest, ChatResponse, ToolCall
from unified_agents.chat_models.providers import ModelConfig
from unified_agents.circuit_breaker import CircuitBreaker
from unified_agents.conversation import Brief, Conversation
from unified_agents.deadline import Deadline
from unified_agents.engine import engine, forget_shared, shared
from unified_agents.errors import RunCancelledError, TaskTimeoutError
from unified_agents.middleware import chain, default_middleware
from unified_agents.middleware.circuit_breaker import CircuitBreaking
from unified_agents.middleware.rate_limit import Gate
from unified_agents.plan import Member, Plan, Step
from unified_agents.post import Post
from unified_agents.spec import AgentSpec, BudgetSpec, TaskSpec, TeamSpec
from unified_agents.spending import Spending
from unified_agents.tools import Tool
from unified_agents.walk import Seam

MODEL = ModelConfig("one", "openai", "one", "http://one")


async def _state() -> dict[Any, Any]:
    return shared()


async def _breaker() -> CircuitBreaker:
    return CircuitBreaking().breaker(MODEL)


async def _gate() -> Gate:
    async def model(request: ChatRequest) -> ChatResponse:
        return ChatResponse("ok", request.model.model)

    await chain(default_middleware(), model)(ChatRequest(model=MODEL, messages=[]))
    (gate,) = [value for value in shared().values() if isinstance(value, Gate)]
    return gate


@pytest.mark.parametrize("made", [_breaker, _gate])
def test_runs_share_what_was_made_once_until_it_is_forgotten(made: Any) -> None:
    """Layers of two runs find the same breaker and gate of a model; after `forget_shared` there are new ones."""
    first = engine().run(made())
    assert engine().run(made()) is first
    forget_shared()
    assert engine().run(made()) is not first


def test_another_loop_has_state_of_its_own() -> None:
    """Locks and limiters belong to their loop."""
    assert asyncio.run(_state()) is not engine().run(_state())
    assert engine().run(_state()) is engine().run(_state())


def test_what_is_cancelled_before_it_begins_is_closed() -> None:
    """Work that nobody will await leaves no warning behind, however deep it stands; nor does work that was cancelled in its midst."""

    async def work() -> None:
        await asyncio.sleep(10)

    async def guarded(steps: int) -> None:
        spending = Spending(BudgetSpec(seconds=10))
        seam = Seam(Plan(TeamSpec(), ()), {}, spending=spending)
        task = asyncio.ensure_future(seam.guard(Deadline(10, spending).bound(work)))
        for _ in range(steps):
            await asyncio.sleep(0)
        seam.cancel()
        with pytest.raises(RunCancelledError):
            await task

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for steps in range(8):
            asyncio.run(guarded(steps))
        gc.collect()
    assert not [str(one.message) for one in told if "never awaited" in str(one.message)]


def test_who_waits_for_a_call_that_another_gave_up_is_answered() -> None:
    """A framework may ask for a call twice; the first to see that the time is over ends it, and `call_tool` does not raise for the other."""

    async def forever(_arguments: Any) -> str:
        await asyncio.sleep(60)
        return "late"

    async def asked() -> tuple[str, BaseException | None]:
        step = Step(TaskSpec(name="t", description="d", agent="a"), (Member(AgentSpec(name="a", role="R")),))
        seam = Seam(Plan(TeamSpec(), (step,)), {}, tools={"a": [Tool("slow", "Sleeps.", {"type": "object"}, forever)]})
        brief = Brief(step, step.members[0], step.task, "t.1/a", Deadline(60), Post(["a"], seam.emit))
        conversation = Conversation(seam, brief)
        conversation._desk.accept([ToolCall("c", "slow", "{}")])
        waiting = asyncio.ensure_future(conversation._call_tool("c"))
        await asyncio.sleep(0.05)
        conversation._fail(TaskTimeoutError("over"))
        return await waiting, conversation.error

    said, error = engine().run(asked())
    assert said == "The task was stopped."
    assert isinstance(error, TaskTimeoutError)


FORK = """
import asyncio, os
from unified_agents.engine import engine, shared

async def take(key):
    found = list(shared())
    shared()[key] = True
    return found

engine().run(take("parent"))
child = os.fork()
if not child:
    os._exit(engine().run(take("child")) != [])
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, "the child saw its parent's state"
assert engine().run(take("again")) == ["parent"]
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_fork_begins_anew() -> None:
    """The parent's breakers and limiters are those of a loop that does not run in the child."""
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
