"""Whose state is shared with whom: one for all of the process's runs, none with other loops, none with a fork's parent."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from unified_agents.chat_models import ChatRequest, ChatResponse
from unified_agents.chat_models.providers import ModelConfig
from unified_agents.circuit_breaker import CircuitBreaker
from unified_agents.engine import engine, forget_shared, shared
from unified_agents.middleware import chain, default_middleware
from unified_agents.middleware.circuit_breaker import CircuitBreaking
from unified_agents.middleware.rate_limit import Gate

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
