"""Virtual time: an event loop whose clock jumps to the next timer when nothing else is left to do, so that minutes take milliseconds.

::

    async def scenario(clock: VirtualClock) -> str:
        await asyncio.sleep(3600)
        return "an hour later"

    play(scenario)

Only for what happens on the loop itself: it waits for no thread and no socket. A scenario in which nothing can ever happen again is an error,
and so is one that goes on for ever.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import SecretStr

from unified_agents import ChatRequest, ChatResponse, Usage, default_middleware
from unified_agents.chat_models.providers import ModelConfig
from unified_agents.clock import Clock, use_clock
from unified_agents.events import Event
from unified_agents.middleware import CallNext, chain
from unified_agents.middleware.trace import Trace
from unified_agents.spec import ResilienceSpec

T = TypeVar("T")

_MOST_TURNS = 2_000_000  # a layer that spins is an error, not a test that never ends


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: it moves the loop's clock on instead."""

    now = 0.0
    turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        self.turns += 1
        if self.turns > _MOST_TURNS:
            raise RuntimeError(f"no end after {self.turns} turns of the loop and {self.now:.0f} s of its time")
        if ready:
            return ready
        if timeout is None:
            raise RuntimeError(f"nothing can happen any more, {self.now:.0f} s after the start")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that goes by its own time, from 0."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self._clock_resolution = 1e-6  # what is due is run, whatever sums of floats say

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._jumping.now


class VirtualClock(Clock):
    """The layers' clock on a virtual loop. `date` is the wall clock, which may be set; nothing should mind."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.date = 1_700_000_000.0

    def now(self) -> float:
        """The loop's time."""
        return self._loop.time()

    def wall(self) -> float:
        """The date, which goes on with the loop's time."""
        return self.date + self._loop.time()

    def sleep_blocking(self, seconds: float) -> None:
        """Refused: it would stop the loop."""
        raise AssertionError("a blocking wait on a loop")


def play(scenario: Callable[[VirtualClock], Awaitable[T]]) -> T:
    """What a scenario returns, played in virtual time; whatever it left behind is cancelled."""
    loop = VirtualLoop()
    try:
        with use_clock(VirtualClock(loop)) as clock:
            try:
                return loop.run_until_complete(_awaited(scenario(clock)))
            finally:
                _cancel_all(loop)
    finally:
        loop.close()


async def _awaited(work: Awaitable[T]) -> T:
    return await work


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))


Script = Callable[[ChatRequest], Any]
"""What a model does with a request: an answer's text, a ChatResponse or an error to raise, or something to await that gives one."""


def config(name: str = "one", key: str = "k", **fields: Any) -> ModelConfig:
    """A model that is only a name; another key is another account."""
    return ModelConfig(alias=name, provider="openai", name=name, base_url="virtual:", api_key=SecretStr(key), **fields)


class Rig:
    """The layers of a team around scripted models: `ask` makes one call. Build it inside a scenario.

    `calls` holds (time, model) of every request that reached a model; `events` what the layers said.
    """

    def __init__(
        self, models: Mapping[str, Script], resilience: ResilienceSpec | Mapping[str, Any] | None = None, layers: Sequence[Any] = ()
    ) -> None:
        self.calls: list[tuple[float, str]] = []
        self.events: list[Event] = []
        self._models = models
        settings = ResilienceSpec.model_validate(resilience) if isinstance(resilience, Mapping) else resilience
        around = [*default_middleware(resilience=settings, extra=layers, emit=self.events.append), Trace(self.events.append)]
        self._call: CallNext = chain(around, self._answer)

    async def ask(self, *models: ModelConfig | str, within: float | None = None, text: str = "question", **fields: Any) -> ChatResponse:
        """One call, of models in their order; `within`: seconds that its task has."""
        first, *others = [config(model) if isinstance(model, str) else model for model in models or ("one",)]
        loop = asyncio.get_running_loop()
        end = None if within is None else loop.time() + within
        request = ChatRequest(
            model=first, fallbacks=tuple(others), messages=[{"role": "user", "content": text}], task="t", agent="a",
            left=None if end is None else lambda: end - loop.time(), **fields,
        )  # fmt: skip
        return await self._call(request)

    async def _answer(self, request: ChatRequest) -> ChatResponse:
        self.calls.append((asyncio.get_running_loop().time(), request.model.name))
        said = self._models[request.model.name](request)
        if isinstance(said, Awaitable):
            said = await said
        if isinstance(said, BaseException):
            raise said
        return said if isinstance(said, ChatResponse) else ChatResponse(text=str(said), model=request.model.model)

    def of(self, kind: str) -> list[Any]:
        """The events of one kind."""
        return [event for event in self.events if event.type == kind]

    def circuits(self) -> list[Any]:
        """What circuits did."""
        return [event for event in self.events if event.type.startswith("Circuit")]

    def asked(self, name: str) -> list[float]:
        """When a model was asked."""
        return [at for at, model in self.calls if model == name]


async def after(seconds: float, said: Any) -> Any:
    """Say something a while later."""
    await asyncio.sleep(seconds)
    return said


def used(text: str, tokens_in: int, tokens_out: int) -> ChatResponse:
    """An answer with its usage."""
    return replace(ChatResponse(text=text, model="openai/one"), usage=Usage(tokens_in, tokens_out))
