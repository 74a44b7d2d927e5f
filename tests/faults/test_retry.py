"""Retries: the decorator, the layer, and whole outages in virtual time, in which every call waits and completes."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from tests.faults.virtual import Rig, VirtualClock, after, play
from unified_agents import AgentSpec, ChatRequest, ChatResponse, TaskSpec, TeamSpec, errors, retry_with_backoff, run_team, run_team_async
from unified_agents.clock import Clock, use_clock
from unified_agents.middleware.retry import backoff
from unified_agents.spec import ResilienceSpec, RetrySpec

KINDS = pytest.mark.parametrize("kind", ["sync", "async"])
DOWN = errors.InternalServerError("down", status=500)

# The decorator.


class Flaky:
    """Fails in the given ways, one a call, then returns `fine`; as a function of either kind."""

    def __init__(self, *failures: BaseException) -> None:
        self.left, self.calls = list(failures), 0

    def _next(self) -> str:
        self.calls += 1
        if self.left:
            raise self.left.pop(0)
        return "fine"

    def call(self, kind: str, **options: Any) -> str:
        """Decorated with `options`, and called."""
        decorate = retry_with_backoff(**options)
        if kind == "sync":
            return str(decorate(lambda: self._next())())

        async def function() -> str:
            return self._next()

        return asyncio.run(decorate(function)())


@KINDS
def test_nothing_fails_nothing_waits(kind: str, waits: list[float]) -> None:
    """The negative control of all below: one call, no wait."""
    flaky = Flaky()
    assert flaky.call(kind) == "fine"
    assert (flaky.calls, waits) == (1, [])


@KINDS
@pytest.mark.parametrize("attempts", [1, 2, 4, 9])
def test_so_many_attempts(kind: str, attempts: int, waits: list[float]) -> None:
    """A function that always fails is called `max_attempts` times; one failure fewer, and it succeeds."""
    lasting = Flaky(*[ValueError(str(number)) for number in range(20)])
    with pytest.raises(ValueError, match=rf"^{attempts - 1}$"):
        lasting.call(kind, max_attempts=attempts)
    assert (lasting.calls, len(waits)) == (attempts, attempts - 1)
    passing = Flaky(*[ValueError()] * (attempts - 1))
    assert passing.call(kind, max_attempts=attempts) == "fine"
    assert passing.calls == attempts


@KINDS
def test_delays_are_bounded(kind: str, waits: list[float]) -> None:
    """Each delay is between 0 and base · 2^n, and never more than `max_delay`."""
    for _ in range(30):
        waits.clear()
        Flaky(*[ValueError()] * 7).call(kind, max_attempts=8, base_delay=0.5, max_delay=6.0)
        assert len(waits) == 7
        assert all(0 <= waited <= bound for waited, bound in zip(waits, (0.5, 1, 2, 4, 6, 6, 6), strict=True))


def test_delays_have_full_jitter() -> None:
    """They fill the whole interval, and a thousandth attempt overflows nothing."""
    settings = RetrySpec(base_delay=1.0, max_delay=60.0)
    for attempt, bound in ((1, 1.0), (4, 8.0), (7, 60.0), (1000, 60.0)):
        found = [backoff(attempt, settings) for _ in range(2000)]
        assert 0 <= min(found) < 0.05 * bound
        assert 0.95 * bound < max(found) <= bound
        assert 0.45 * bound < sum(found) / len(found) < 0.55 * bound


@KINDS
@pytest.mark.parametrize(
    ("wanted", "calls", "least", "most"), [(7.0, 2, 7.0, 7.7), (0.0, 2, 0, 0), (120.0, 2, 120, 132), (121.0, 1, 0, 0), (-3.0, 2, 0, 1)]
)
def test_retry_after_is_waited(kind: str, wanted: float, calls: int, least: float, most: float, waits: list[float]) -> None:
    """An exception's own `retry_after` replaces the backoff, up to two minutes; a longer one is not waited for, a negative one is not meant."""
    flaky = Flaky(errors.RateLimitError("slow down", retry_after=wanted))
    if calls == 1:
        with pytest.raises(errors.RateLimitError):
            flaky.call(kind)
    else:
        assert flaky.call(kind) == "fine"
    assert flaky.calls == calls
    assert all(least <= waited <= most for waited in waits)
    assert len(waits) == calls - 1


@KINDS
@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (errors.AuthenticationError("x"), 1), (errors.BadRequestError("x"), 1), (errors.QuotaExceededError("x"), 1), (errors.NotFoundError("x"), 1),
        (errors.RateLimitError("x"), 2), (errors.APITimeoutError("x"), 2), (ConnectionResetError("x"), 2),
    ],
    ids=repr,
)  # fmt: skip
def test_what_no_repetition_helps_is_raised_at_once(kind: str, error: Exception, calls: int) -> None:
    """A wrong key stays wrong; what may pass is tried again."""
    flaky = Flaky(error)
    with suppress(errors.ModelError):
        flaky.call(kind)
    assert flaky.calls == calls


@KINDS
def test_only_the_kinds_that_are_asked_for(kind: str) -> None:
    """`retry_on` narrows it down; another exception is raised at once."""
    assert Flaky(KeyError(), ValueError()).call(kind, retry_on=(KeyError, ValueError)) == "fine"
    flaky = Flaky(KeyError(), ValueError())
    with pytest.raises(ValueError, match=r"^$"):
        flaky.call(kind, retry_on=KeyError)
    assert flaky.calls == 2


@KINDS
def test_the_original_exception_is_raised(kind: str) -> None:
    """The same object, not a wrapper of the library that retries; with what it had as its cause."""
    last = ValueError("last")
    last.__cause__ = KeyError("why")
    with pytest.raises(ValueError, match="last") as caught:
        Flaky(ValueError("first"), last).call(kind, max_attempts=2)
    assert caught.value is last
    assert isinstance(caught.value.__cause__, KeyError)


@KINDS
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_not_retried(kind: str, interrupt: type[BaseException]) -> None:
    """Ctrl-C ends it."""
    flaky = Flaky(interrupt())
    with pytest.raises(interrupt):
        flaky.call(kind)
    assert flaky.calls == 1


def test_a_decorated_function_keeps_its_face() -> None:
    """Name, docstring, kind and arguments, also as a method; calls do not share their counts."""

    class Client:
        calls = 0

        @retry_with_backoff(max_attempts=2, base_delay=0)
        async def fetch(self, number: int, *, twice: bool = False) -> int:
            """Fetch."""
            self.calls += 1
            if self.calls % 2:
                raise ValueError
            return number * (2 if twice else 1)

    client = Client()
    assert (client.fetch.__name__, client.fetch.__doc__, asyncio.iscoroutinefunction(client.fetch)) == ("fetch", "Fetch.", True)
    assert [asyncio.run(client.fetch(2, twice=True)) for _ in range(3)] == [4, 4, 4]
    assert client.calls == 6


def test_cancelled_during_a_wait() -> None:
    """A cancelled call ends within a tenth of a second, and the function is not called again (fault 38)."""
    flaky = Flaky(*[ValueError()] * 9)

    @retry_with_backoff(base_delay=1000, max_delay=1000)
    async def function() -> str:
        return flaky._next()

    async def cancelled() -> float:
        call = asyncio.ensure_future(function())
        await asyncio.sleep(0.05)
        began = time.monotonic()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        return time.monotonic() - began

    random.seed(1)  # the first delay is long
    with use_clock(Clock()):
        assert min(asyncio.run(cancelled()) for _ in range(3)) < 0.1  # the best of three: the machine may be busy
    assert flaky.calls == 3


# The layer.


def scripted(*first: Any) -> Callable[[ChatRequest], Any]:
    """A model that says these things, and then `fine`."""
    left = list(first)
    return lambda _: left.pop(0) if left else "fine"


@pytest.mark.parametrize(
    ("fault", "asked"),
    [
        (DOWN, 6), (errors.APIConnectionError("x"), 6), (errors.RateLimitError("x"), 6), (errors.APITimeoutError("x"), 3),
        (errors.BadResponseError("x"), 3), (errors.EmptyAnswerError("x"), 2), (errors.AuthenticationError("x"), 1), (errors.ContentFilterError("x"), 1),
        (errors.RateLimitError("x", retry_after=121.0), 1), (ValueError("a bug"), 1),
    ],
    ids=repr,
)  # fmt: skip
def test_each_kind_is_asked_again_as_often_as_it_may(fault: Exception, asked: int) -> None:
    """Of six attempts, those that the kind allows; the error is the model's own."""

    async def scenario(_: VirtualClock) -> tuple[int, Any]:
        rig = Rig({"one": lambda _: fault}, {"retry": {"max_attempts": 6}, "circuit_breaker": {"failure_threshold": 99}})
        with pytest.raises(type(fault)) as caught:
            await rig.ask()
        return len(rig.calls), caught.value

    assert play(scenario) == (asked, fault)


def test_kinds_are_counted_apart() -> None:
    """Two timeouts and two bad responses are each within their two; a third timeout is one too many."""
    slow, bad = errors.APITimeoutError("slow"), errors.BadResponseError("bad")

    async def scenario(_: VirtualClock) -> tuple[int, str]:
        settings = {"retry": {"max_attempts": 9}, "circuit_breaker": {"failure_threshold": 99}}
        passing = Rig({"one": scripted(slow, bad, slow, bad)}, settings)
        text = (await passing.ask()).text
        failing = Rig({"one": scripted(slow, bad, slow, bad, slow)}, settings)
        with pytest.raises(errors.APITimeoutError):
            await failing.ask()
        return len(passing.calls) * 10 + len(failing.calls), text

    assert play(scenario) == (55, "fine")


def test_every_retry_is_said() -> None:
    """One event for each attempt that another one follows, with its number, error and delay, and attempts are numbered on the calls."""

    async def scenario(_: VirtualClock) -> tuple[list[Any], list[Any], list[float]]:
        rig = Rig({"one": scripted(DOWN, errors.RateLimitError("x", retry_after=5.0))})
        await rig.ask()
        return rig.of("CallRetried"), rig.of("ModelCalled"), rig.asked("one")

    retried, called, asked = play(scenario)
    assert [(event.attempt, event.error) for event in retried] == [(1, "InternalServerError"), (2, "RateLimitError")]
    assert 5 <= retried[1].delay_s <= 5.5
    assert [later - earlier for earlier, later in itertools.pairwise(asked)] == pytest.approx([event.delay_s for event in retried])
    assert [event.attempt for event in called] == [1, 2, 3]


@pytest.mark.parametrize("seconds", [0.5, 3.0, 20.0])
def test_no_wait_goes_past_the_tasks_deadline(seconds: float) -> None:
    """Whatever is tried, the call is over when the task's time is; an error that could not wait is the model's own."""

    async def scenario(clock: VirtualClock) -> tuple[float, int]:
        rig = Rig({"one": lambda _: DOWN}, {"retry": {"max_attempts": 99}, "circuit_breaker": {"failure_threshold": 999}})
        with pytest.raises(errors.InternalServerError):
            await rig.ask(within=seconds)
        return clock.now(), len(rig.calls)

    for _ in range(20):
        ended, asked = play(scenario)
        assert ended < seconds
        assert asked < 99


def test_with_time_enough_the_same_call_makes_all_attempts() -> None:
    """The negative control."""

    async def scenario(_: VirtualClock) -> int:
        rig = Rig({"one": lambda _: DOWN}, {"retry": {"max_attempts": 20}, "circuit_breaker": {"failure_threshold": 999}})
        with pytest.raises(errors.InternalServerError):
            await rig.ask(within=20 * 60)
        return len(rig.calls)

    assert play(scenario) == 20


@pytest.mark.parametrize("moment", [0.5, 2.0])
def test_a_cancelled_call_sends_nothing_more(moment: float) -> None:
    """Cancelled during an attempt or during the wait after it, it ends at that moment (fault 38)."""

    async def scenario(clock: VirtualClock) -> tuple[float, int]:
        rig = Rig({"one": lambda _: after(1, errors.RateLimitError("x", retry_after=50.0))})
        call = asyncio.ensure_future(rig.ask())
        await asyncio.sleep(moment)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        ended = clock.now()
        await asyncio.sleep(200)
        return ended, len(rig.calls)

    assert play(scenario) == (moment, 1)


# Outages.


def test_fifty_calls_wait_for_an_open_circuit() -> None:
    """With the circuit open and no other model all wait and complete: none fails, and none asks before the cool-down is over."""

    async def scenario(clock: VirtualClock) -> tuple[int, float]:
        up = False
        rig = Rig({"one": lambda _: "fine" if up else DOWN})
        with suppress(errors.ModelError):
            await asyncio.gather(*(rig.ask(within=1) for _ in range(9)))
        rig.calls.clear()
        up, opened = True, rig.of("CircuitOpened")[0]
        answers = await asyncio.gather(*(rig.ask(within=600) for _ in range(50)))
        assert opened.seconds >= 9
        return len([answer for answer in answers if answer.text == "fine"]), min(rig.asked("one")) - opened.seconds

    answered, early = play(scenario)
    assert answered == 50
    assert early >= -0.01


_names = itertools.count(1)


def test_fifty_teams_wait_for_an_open_circuit() -> None:
    """The same with whole teams in real time: fifty runs begin while the circuit is open, one asks first, and all complete."""
    name = f"openai/outage-{next(_names)}"
    up, asked = False, list[float]()

    async def model(request: ChatRequest) -> ChatResponse:
        asked.append(time.monotonic())
        if not up:
            raise errors.InternalServerError("down", model=name, status=500)
        return ChatResponse(text=f"fine {request.task}", model=name)

    resilience = ResilienceSpec.model_validate(
        {"retry": {"max_attempts": 2, "base_delay": 0.01}, "circuit_breaker": {"failure_threshold": 2, "recovery_time": 0.5}}
    )
    task = TaskSpec(name="t", description="Answer.", agent=AgentSpec(name="worker", role="Worker"))
    team = TeamSpec(tasks=[task], models={"default": name}, resilience=resilience)

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*(run_team_async(team, backend="autogen", models={"default": model}) for _ in range(50)))

    with use_clock(Clock()):
        with pytest.raises(errors.InternalServerError):
            run_team(team, backend="autogen", models={"default": model})
        assert len(asked) == 2  # the circuit is open
        opened, up = asked[-1], True
        results = asyncio.run(all_of_them())
    assert {result.output for result in results} == {"fine t"}
    assert len(asked) == 2 + 50
    assert asked[2] - opened >= 0.45
    assert {result.usage.model_calls for result in results} == {1}


def outage(until: float, clock: VirtualClock) -> Callable[[ChatRequest], Any]:
    """A model that fails fast until then, and answers slowly after."""
    return lambda _: after(0.1, DOWN) if clock.now() < until else after(2.0, "fine")


async def runs(rig: Rig, count: int, *models: str, calls: int = 5, apart: float = 0.5) -> list[bool]:
    """So many runs of so many calls one after another, begun a moment apart; which of them completed."""

    async def run(number: int) -> bool:
        await asyncio.sleep(number * apart)
        try:
            for _ in range(calls):
                await rig.ask(*models, within=600)
        except errors.ModelError:
            return False
        return True

    return list(await asyncio.gather(*(run(number) for number in range(count))))


def test_44_the_first_model_is_down_for_two_minutes() -> None:
    """With another model every run completes, the dead one gets few calls, and it is used again once it is back."""

    async def scenario(clock: VirtualClock) -> tuple[int, int, int, int]:
        rig = Rig({"one": outage(120, clock), "two": lambda _: after(2.0, "second")})
        completed = sum(await runs(rig, 300, "one", "two", apart=1.0))
        dead = [at for at in rig.asked("one") if at < 120]
        late = [at for at in rig.asked("two") if at > 120 + 67]
        return completed, len(dead), len(late), len([at for at in rig.asked("one") if at > 120 + 67])

    completed, dead, late, back = play(scenario)
    assert completed == 300
    assert dead < 60
    assert (late, back > 50) == (0, True)


def test_44_without_a_breaker_the_dead_model_gets_many_calls() -> None:
    """The negative control: a threshold that is never reached."""

    async def scenario(clock: VirtualClock) -> int:
        rig = Rig({"one": outage(120, clock), "two": lambda _: after(2.0, "second")}, {"circuit_breaker": {"failure_threshold": 10**6}})
        await runs(rig, 100, "one", "two")
        return len([at for at in rig.asked("one") if at < 120])

    assert play(scenario) > 1000


def test_44_without_another_model_the_runs_wait() -> None:
    """Nobody else to ask: all runs complete after the two minutes, with few calls into the dead model."""

    async def scenario(clock: VirtualClock) -> tuple[int, int, float]:
        rig = Rig({"one": outage(120, clock)}, {"retry": {"max_attempts": 9}})
        completed = sum(await runs(rig, 100, "one"))
        return completed, len([at for at in rig.asked("one") if at < 120]), clock.now()

    completed, dead, ended = play(scenario)
    assert completed == 100
    assert dead < 60
    assert 120 < ended < 300


@pytest.mark.parametrize("back", ["one", "two"])
def test_45_both_models_are_down_and_one_comes_back(back: str) -> None:
    """Whichever it is: all runs wait, and complete with it."""

    async def scenario(clock: VirtualClock) -> tuple[int, set[str], int]:
        models = {name: outage(90 if name == back else 10**9, clock) for name in ("one", "two")}
        rig = Rig(models, {"retry": {"max_attempts": 9}})
        completed = sum(await runs(rig, 100, "one", "two"))
        answered = {event.model for event in rig.of("ModelCalled") if event.error is None}
        return completed, answered, len([at for at in rig.asked(back) if at < 90])

    completed, answered, dead = play(scenario)
    assert completed == 100
    assert answered == {f"openai/{back}"}
    assert dead < 60


def test_45_both_models_stay_down() -> None:
    """The negative control: the call ends within its task's time, with an error of a model, and is not asked for ever."""

    async def scenario(clock: VirtualClock) -> tuple[float, int]:
        rig = Rig({"one": lambda _: DOWN, "two": lambda _: DOWN})
        with pytest.raises(errors.ModelError):
            await rig.ask("one", "two", within=600)
        return clock.now(), len(rig.calls)

    ended, asked = play(scenario)
    assert ended < 600
    assert asked == 8


@pytest.mark.parametrize(("share", "completed", "factor", "opened"), [(0.2, 1.0, 1.30, 0), (0.4, 0.995, 1.75, 99)])
def test_transient_faults_at_scale(share: float, completed: float, factor: float, opened: int) -> None:
    """Four hundred runs of five calls; some fail fast, good ones are slow: with a fifth of faults all complete and no circuit opens, with two fifths nearly all do."""
    dice = random.Random(7)
    random.seed(7)  # of the backoff

    async def scenario(_: VirtualClock) -> tuple[float, float, int]:
        rig = Rig(
            {"one": lambda _: after(0.1, DOWN) if dice.random() < share else after(dice.uniform(1, 4), "fine")},
            {"retry": {"max_attempts": 10}},
        )
        good = sum(await runs(rig, 400, "one", apart=0.05))
        return good / 400, len(rig.calls) / 2000, len(rig.circuits())

    good, calls, changes = play(scenario)
    assert good >= completed
    assert calls <= factor
    assert changes <= opened
