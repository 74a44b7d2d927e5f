"""What the layers are worth when a model fails: completion, calls per needed call, false openings, calls into a dead model. In virtual time.

Beside no layers at all, and beside what people copy: retries with a breaker that opens after five failures in a row, for 10 s, and refuses then.
The last table is real time: the CPU that the layers cost a call.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial

from benchmarks.common import Lab, Result, Row, Settings
from unified_agents.chat_models import ChatRequest, ChatResponse
from unified_agents.chat_models.providers import ModelConfig
from unified_agents.clock import clock
from unified_agents.engine import engine
from unified_agents.errors import InternalServerError, ModelError
from unified_agents.events import CircuitOpened, Event
from unified_agents.middleware import CallNext, chain, default_middleware
from unified_agents.middleware.retry import Retry
from unified_agents.middleware.timeout import Timeout
from unified_agents.spec import ResilienceSpec, RetrySpec
from unified_agents.testing.virtual import run_virtual

CALLS = 5  # a run makes so many, one after the other
EVERY = 0.1  # seconds between the starts of two runs
OUTAGE = (30.0, 150.0)
MAIN = ModelConfig("main", "openai", "main", "http://main")
SPARE = ModelConfig("spare", "openai", "spare", "http://spare")


@dataclass
class World:
    """A model that fails: now and then, or not at all, or for two minutes. Failures are quick, answers take their time."""

    faults: float
    outage: bool = False
    asked: int = 0
    dead: int = 0
    opened: int = 0
    dice: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311  # the same world for every variant

    async def answer(self, request: ChatRequest) -> ChatResponse:
        """One attempt."""
        self.asked += 1
        down = self.outage and request.model is MAIN and OUTAGE[0] <= clock().now() < OUTAGE[1]
        self.dead += down
        if down or self.dice.random() < self.faults:
            await asyncio.sleep(self.dice.uniform(0.02, 0.2))
            raise InternalServerError("down", model=request.model.model, status=503)
        await asyncio.sleep(self.dice.uniform(0.5, 2.0))
        return ChatResponse("ok", request.model.model)

    def listen(self, event: Event) -> None:
        """Count openings."""
        self.opened += isinstance(event, CircuitOpened)


@dataclass
class Consecutive:
    """The breaker that people copy: open after five failures in a row, an error while it is."""

    failures: int = 0
    until: float = 0.0
    opened: int = 0

    async def __call__(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        """Refuse while open, else call and count."""
        if clock().now() < self.until:
            raise ModelError("circuit open")
        try:
            response = await call_next(request)
        except ModelError:
            self.failures += 1
            if self.failures >= 5:
                self.until, self.failures, self.opened = clock().now() + 10, 0, self.opened + 1
            raise
        self.failures = 0
        return response


PATIENT = RetrySpec(max_attempts=8)
"""Four attempts, the default, leave 0.4^4 = 2.6% of calls unanswered at 40% faults, whatever else is done; eight leave 0.07%."""


def _ours(world: World) -> CallNext:
    return chain(default_middleware(resilience=ResilienceSpec(retry=PATIENT), emit=world.listen), world.answer)


def _defaults(world: World) -> CallNext:
    return chain(default_middleware(emit=world.listen), world.answer)


def _classic(world: World) -> CallNext:
    breaker = Consecutive()

    async def counted(request: ChatRequest) -> ChatResponse:
        try:
            return await call(request)
        finally:
            world.opened = breaker.opened

    call = chain([Retry(PATIENT), breaker, Timeout()], world.answer)
    return counted


VARIANTS: dict[str, Callable[[World], CallNext]] = {
    "unified.8_attempts": _ours,
    "unified.defaults": _defaults,
    "handwritten.no_layers": lambda world: world.answer,
    "handwritten.consecutive_breaker_8_attempts": _classic,
}


async def _runs(count: int, call: CallNext, request: ChatRequest) -> int:
    """How many of so many runs had all of their calls answered."""

    async def one(number: int) -> bool:
        await asyncio.sleep(number * EVERY)
        try:
            for _ in range(CALLS):
                await call(replace(request, left=_until(clock().now() + 600)))
        except ModelError:
            return False
        return True

    return sum(await asyncio.gather(*(one(number) for number in range(count))))


def _until(end: float) -> Callable[[], float]:
    return lambda: end - clock().now()


def run(_lab: Lab, settings: Settings) -> Result:
    """The benchmark."""
    count = settings.size(1000, 40)
    result = Result("faults", f"Faults: {count} runs of {CALLS} calls", "calls per answered call", 1)
    cases: list[tuple[str, World, tuple[ModelConfig, ...]]] = [
        *((f"{share:.0%} transient faults", World(share), ()) for share in (0.05, 0.2, 0.4)),
        ("120 s outage, spare model", World(0.0, outage=True), (SPARE,)),
        ("120 s outage, no other model", World(0.0, outage=True), ()),
    ]
    targets = {"20% transient faults": 1.30, "40% transient faults": 1.75}
    for case, template, fallbacks in cases:
        for name, build in VARIANTS.items():
            world = replace(template, dice=random.Random(7))  # noqa: S311  # as above
            request = ChatRequest(model=MAIN, fallbacks=fallbacks, messages=[{"role": "user", "content": "x"}])
            done = run_virtual(_runs(count, build(world), request))
            result.rows.append(_row(case, name, world, done, count, targets.get(case) if name == "unified.8_attempts" else None))
    result.rows.append(_cost(settings))
    return result


def _row(case: str, name: str, world: World, done: int, count: int, target: float | None) -> Row:
    answered = max(1, done * CALLS)
    cells = {
        "completed": f"{done} of {count}",
        "calls": str(world.asked),
        "openings": str(world.opened),
        "into the dead model": str(world.dead),
    }
    return Row(case, name, world.asked / answered, cells, target)


def _cost(settings: Settings) -> Row:
    """CPU of the layers and the hop: 200 calls in flight from another loop, minus the model alone, in milliseconds a call; median of turns."""
    turns, rounds = settings.size(7, 1), settings.size(5, 1)
    request = ChatRequest(model=MAIN, messages=[{"role": "user", "content": "x"}])

    async def instant(request: ChatRequest) -> ChatResponse:
        await asyncio.sleep(0.01)
        return ChatResponse("ok", request.model.model)

    async def together(call: CallNext) -> None:
        for _ in range(rounds):
            await asyncio.gather(*(call(request) for _ in range(200)))

    def cpu(call: CallNext) -> float:
        began = time.process_time()
        asyncio.run(together(call))
        return (time.process_time() - began) / (rounds * 200) * 1000

    layers = chain(default_middleware(), instant)
    cpu(partial(_hop, layers))  # warm
    taken = [cpu(partial(_hop, layers)) - cpu(instant) for _ in range(turns)]
    cells = {"completed": "", "calls": "", "openings": "", "into the dead model": ""}
    return Row("200 calls in flight", "unified.layers: ms of CPU a call, hop included", statistics.median(taken), cells, 0.3)


async def _hop(call: CallNext, request: ChatRequest) -> ChatResponse:
    work: Awaitable[ChatResponse] = engine().call(call(request))  # type: ignore[arg-type]  # a coroutine
    return await work
