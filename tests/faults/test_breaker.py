"""The circuit breaker: each of its rules, alone and in the layers, and as a state machine beside a small model of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.faults.virtual import Rig, VirtualClock, after, config, play
from unified_agents import CircuitBreaker, errors
from unified_agents.circuit_breaker import Permit
from unified_agents.clock import Clock


class HandClock(Clock):
    """Moved by hand. `date` is the wall clock, which the breaker must not look at."""

    def __init__(self) -> None:
        self.at, self.date = 1000.0, 1_700_000_000.0

    def now(self) -> float:
        """As it was set."""
        return self.at

    def wall(self) -> float:
        """As it was set."""
        return self.date


@dataclass
class Bench:
    """A breaker on a clock of its own, and what it said."""

    breaker: CircuitBreaker
    clock: HandClock
    said: list[tuple[str, float]]

    def votes(self, *good: bool) -> None:
        """Calls that end at once, one after another."""
        for vote in good:
            permit = self.breaker.acquire()
            permit.succeed() if vote else permit.fail()

    def opened(self, times: int = 1) -> Bench:
        """Open it, and fail its probe until it opened so often."""
        self.votes(*[False] * 5)
        for _ in range(times - 1):
            self.later(self.said[-1][1])
            self.votes(False)
        return self

    def later(self, seconds: float) -> Bench:
        """Let time pass."""
        self.clock.at += seconds
        return self

    def half_open(self) -> Bench:
        """Open it and wait for its cool-down."""
        return self.opened().later(self.said[-1][1] if self.said else 11)

    @property
    def state(self) -> str:
        """The breaker's state, now."""
        return self.breaker.state

    @property
    def states(self) -> list[str]:
        """The transitions."""
        return [state for state, _ in self.said]


@pytest.fixture
def bench() -> Bench:
    """A breaker with the defaults: 5 failures, half of the calls, 30 s, 10 s."""
    clock, said = HandClock(), list[tuple[str, float]]()
    return Bench(CircuitBreaker(clock=clock, on_change=lambda state, seconds: said.append((state, seconds))), clock, said)


def refused(breaker: CircuitBreaker) -> errors.CircuitOpenError:
    """The refusal of a call that must be refused."""
    with pytest.raises(errors.CircuitOpenError) as caught:
        breaker.acquire()
    return caught.value


# When it opens.


def test_so_many_failures_open_it(bench: Bench) -> None:
    """Four failures do nothing, the fifth opens it, and the refusal says for how long."""
    bench.votes(*[False] * 4)
    assert (bench.state, bench.said) == ("closed", [])
    bench.votes(False)
    assert bench.state == "open"
    assert 9 <= (refused(bench.breaker).retry_after or 0) <= 11


@pytest.mark.parametrize(("good", "opens"), [(5, True), (6, False)])
def test_failures_must_be_their_share(bench: Bench, good: int, opens: bool) -> None:
    """Five failures of ten calls are half of them and open it; five of eleven are not."""
    bench.votes(*[True] * good, *[False] * 5)
    assert bench.state == ("open" if opens else "closed")


@pytest.mark.parametrize(("under_way", "opens"), [(5, True), (6, False)])
def test_calls_under_way_are_in_the_denominator(bench: Bench, under_way: int, opens: bool) -> None:
    """Failures that come faster than successes are no majority: calls that have not ended count as calls."""
    waiting = [bench.breaker.acquire() for _ in range(under_way)]
    bench.votes(*[False] * 5)
    assert bench.state == ("open" if opens else "closed")
    assert len(waiting) == under_way


@pytest.mark.parametrize(("gap", "opens"), [(29.9, True), (30.0, False)])
def test_what_is_older_than_the_window_is_forgotten(bench: Bench, gap: float, opens: bool) -> None:
    """Failures count for 30 s, and successes too."""
    bench.votes(*[False] * 4)
    bench.later(gap).votes(False)
    assert bench.state == ("open" if opens else "closed")


def test_old_successes_do_not_hide_new_failures(bench: Bench) -> None:
    """A hundred good calls half a minute ago say nothing of now; a moment ago they do."""
    bench.votes(*[True] * 100, *[False] * 5)
    assert bench.state == "closed"
    bench.later(30).votes(*[False] * 5)
    assert bench.state == "open"


def test_settings_are_used() -> None:
    """Two failures, all of the calls, in one second, for three."""
    clock = HandClock()
    breaker = CircuitBreaker(2, 1.0, 1.0, 3.0, clock=clock)
    Bench(breaker, clock, []).votes(True, False, False)
    assert breaker.state == "closed"
    clock.at += 1
    Bench(breaker, clock, []).votes(False, False)
    assert 2.7 <= (refused(breaker).retry_after or 0) <= 3.3


def test_one_failure_may_open_it_at_once(bench: Bench) -> None:
    """A used-up quota is no matter of counting, and says how long."""
    bench.votes(*[True] * 100)
    bench.breaker.acquire().fail(300, at_once=True)
    assert bench.said == [("open", 300)]
    assert bench.later(299).state == "open"
    assert bench.later(1).state == "half_open"


# Votes.


def test_a_call_given_back_is_no_vote(bench: Bench) -> None:
    """Neither a failure nor a call under way: a thousand of them change nothing."""
    for _ in range(1000):
        bench.breaker.acquire().give_back()
    bench.votes(*[False] * 4)
    assert bench.state == "closed"
    bench.votes(False)
    assert bench.state == "open"


def test_a_permit_is_settled_once(bench: Bench) -> None:
    """What comes after the first word on a call is not heard."""
    permit = bench.breaker.acquire()
    permit.succeed()
    for _ in range(9):
        permit.fail()
        permit.fail(at_once=True)
    assert bench.state == "closed"


@pytest.mark.parametrize("late", ["succeed", "fail"])
def test_a_call_that_began_before_the_last_transition_has_no_vote(bench: Bench, late: str) -> None:
    """An old call's success does not close a half-open circuit, and its failure does not open it again; the probe's does."""
    old = bench.breaker.acquire()
    bench.half_open()
    probe = bench.breaker.acquire()
    getattr(old, late)()
    assert bench.state == "half_open"
    refused(bench.breaker)  # nor does it free the place of the probe
    probe.succeed()
    assert bench.states == ["open", "half_open", "closed"]


def test_late_failures_do_not_open_a_circuit_that_closed_again(bench: Bench) -> None:
    """Fifty calls of the outage that fail after it count for nothing; five new ones do."""
    old = [bench.breaker.acquire() for _ in range(50)]
    bench.breaker.acquire().fail(at_once=True)
    bench.later(11).votes(True)
    for permit in old:
        permit.fail()
    assert bench.state == "closed"
    bench.votes(*[False] * 5)
    assert bench.state == "open"


# Half-open.


def test_exactly_one_probe_passes(bench: Bench) -> None:
    """Of two hundred callers one gets through; the circuit closes when it succeeds, and then all do."""
    bench.half_open()
    permits, refusals = [], 0
    for _ in range(200):
        try:
            permits.append(bench.breaker.acquire())
        except errors.CircuitOpenError:
            refusals += 1
    assert (len(permits), refusals) == (1, 199)
    permits[0].succeed()
    assert all(bench.breaker.acquire() for _ in range(200))


def test_as_many_probes_as_are_asked_for() -> None:
    """`probes=3` lets three through."""
    clock = HandClock()
    breaker = CircuitBreaker(1, clock=clock, probes=3)
    breaker.acquire().fail()
    clock.at += 11
    assert len([breaker.acquire() for _ in range(3)]) == 3
    refused(breaker)


def test_a_probe_that_is_given_back_lets_the_next_one_through(bench: Bench) -> None:
    """A cancelled probe, or one that says nothing of the model's health, must not block the circuit for ever."""
    bench.half_open()
    for _ in range(3):
        probe = bench.breaker.acquire()
        refused(bench.breaker)
        probe.give_back()
        assert bench.state == "half_open"
    bench.votes(True)
    assert bench.state == "closed"


def test_the_cool_down_grows_and_is_reset(bench: Bench) -> None:
    """10, 20, 40, 60, 60 s, a tenth more or less; after a success 10 again."""
    bench.opened(times=6)
    grown = [seconds for state, seconds in bench.said if state == "open"]
    for seconds, meant in zip(grown, (10, 20, 40, 60, 60, 60), strict=True):
        assert 0.9 * meant <= seconds <= 1.1 * meant
    bench.later(grown[-1]).votes(True, *[False] * 5)
    assert 9 <= bench.said[-1][1] <= 11


def test_cool_downs_differ() -> None:
    """The jitter is one: two hundred breakers do not all probe in the same instant, and stay within the tenth."""
    found = []
    for _ in range(200):
        breaker = CircuitBreaker(1, clock=HandClock(), on_change=lambda _, seconds: found.append(seconds))
        breaker.acquire().fail()
    assert len(set(found)) > 150
    assert 9 <= min(found) < 9.3
    assert 10.7 < max(found) <= 11


@pytest.mark.parametrize(("asked", "least", "most"), [(45.0, 45, 45), (2.0, 9, 11)])
def test_retry_after_is_a_floor_of_the_cool_down(bench: Bench, asked: float, least: float, most: float) -> None:
    """The provider may ask for more than our cool-down, never for less."""
    bench.votes(*[False] * 4)
    bench.breaker.acquire().fail(asked)
    assert least <= bench.said[-1][1] <= most


def test_every_transition_is_said_once(bench: Bench) -> None:
    """Also the one that only time makes, which is said when somebody looks; refusals and votes without effect are not."""
    bench.opened().later(11)
    assert bench.states == ["open"]
    assert [bench.state for _ in range(3)] == ["half_open"] * 3
    bench.votes(False)
    bench.later(22).votes(True, True, False)
    assert bench.states == ["open", "half_open", "open", "half_open", "closed"]
    assert [seconds > 0 for _, seconds in bench.said] == [True, False, True, False, False]


@pytest.mark.parametrize("hours", [-1, 1])
def test_the_wall_clock_may_be_set(bench: Bench, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """An hour forwards or back changes nothing: neither in the window nor in a cool-down. Its own clock does."""
    bench.votes(*[False] * 4)
    bench.clock.date += 3600 * hours
    stepped = time.time() + 3600 * hours
    monkeypatch.setattr(time, "time", lambda: stepped)
    bench.votes(False)
    assert bench.state == "open"
    bench.clock.date += 3600 * hours
    assert bench.later(8.9).state == "open"
    assert bench.later(2.2).state == "half_open"


# Calls.


def test_call_counts_exceptions_and_hands_them_on(bench: Bench) -> None:
    """The function's own value and exception come through; when it is open the function is not called."""
    ran: list[int] = []

    def fails(value: int) -> None:
        ran.append(value)
        raise ZeroDivisionError(value)

    assert bench.breaker.call(lambda value, more: value + more, 1, more=2) == 3
    for number in range(5):
        with pytest.raises(ZeroDivisionError):
            bench.breaker.call(fails, number)
    with pytest.raises(errors.CircuitOpenError):
        bench.breaker.call(fails, 9)
    assert ran == [0, 1, 2, 3, 4]


def test_an_interrupt_is_no_vote(bench: Bench) -> None:
    """Ctrl-C within a call says nothing of what is called, and gives the place back."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    bench.half_open()
    for _ in range(9):
        with pytest.raises(KeyboardInterrupt):
            bench.breaker.call(interrupted)
    assert bench.state == "half_open"
    bench.breaker.call(lambda: 1)
    assert bench.state == "closed"


def test_a_cancelled_call_is_no_vote() -> None:
    """Nine cancelled calls leave it closed; a cancelled probe gives its place back."""

    async def scenario(clock: VirtualClock) -> list[str]:
        breaker = CircuitBreaker(2, clock=clock)
        states = []

        async def cancelled() -> None:
            call = asyncio.ensure_future(breaker.call_async(asyncio.sleep, 100))
            await asyncio.sleep(1)
            call.cancel()
            with suppress(asyncio.CancelledError):
                await call
            states.append(breaker.state)

        for _ in range(9):
            await cancelled()
        breaker.acquire().fail(at_once=True)
        await asyncio.sleep(11)
        await cancelled()
        await breaker.call_async(asyncio.sleep, 1)
        return [*states, breaker.state]

    assert play(scenario) == ["closed"] * 9 + ["half_open", "closed"]


def together(threads: int, work: Callable[[], None]) -> None:
    """Run `work` on so many threads at once."""
    start = threading.Barrier(threads)

    def run() -> None:
        start.wait(10)
        work()

    running = [threading.Thread(target=run, daemon=True) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(20)
    assert not any(thread.is_alive() for thread in running)


def test_threads_share_it() -> None:
    """Eight threads call a function that fails: five calls reach it at least, no more than were under way; then none does."""
    clock, lock, ran = HandClock(), threading.Lock(), 0
    breaker = CircuitBreaker(clock=clock)

    def fails() -> None:
        nonlocal ran
        with lock:
            ran += 1
        raise ValueError

    def work() -> None:
        for _ in range(50):
            with suppress(ValueError, errors.CircuitOpenError):
                breaker.call(fails)

    together(8, work)
    assert breaker.state == "open"
    assert 5 <= ran <= 5 + 8
    before = ran
    together(8, work)
    assert ran == before


def test_one_thread_of_eight_is_the_probe() -> None:
    """At half-open one of eight threads gets through; the others are refused while it is under way."""
    clock = HandClock()
    breaker = CircuitBreaker(1, clock=clock)
    breaker.acquire().fail()
    clock.at += 11
    everybody, outcomes = threading.Barrier(8), list[str]()

    def work() -> None:
        try:
            permit = breaker.acquire()
        except errors.CircuitOpenError:
            outcomes.append("refused")
            everybody.wait(10)
        else:
            outcomes.append("probe")
            everybody.wait(10)
            permit.succeed()

    together(8, work)
    assert sorted(outcomes) == ["probe", *["refused"] * 7]
    assert breaker.state == "closed"


def test_no_count_is_lost_between_threads() -> None:
    """Eight threads, thousands of calls of all outcomes: afterwards nothing is under way, which a half-open circuit would show."""
    clock = HandClock()
    breaker = CircuitBreaker(10**9, clock=clock)

    def work() -> None:
        for number in range(600):
            permit = breaker.acquire()
            (permit.succeed, permit.fail, permit.give_back)[number % 3]()

    together(8, work)
    permits = [breaker.acquire() for _ in range(3)]
    assert (breaker.state, len(permits)) == ("closed", 3)
    assert vars(breaker)["_in_flight"] == 3
    assert vars(breaker)["_failures"] == 8 * 200


def test_a_listener_that_fails_does_not_break_the_circuit() -> None:
    """The call's own exception is raised, not the listener's, and who waits for a change is still told."""

    def listener(state: str, _: float) -> None:
        raise RuntimeError(f"a listener that cannot hear {state}")

    async def scenario(clock: VirtualClock) -> tuple[type[BaseException] | None, str, float]:
        breaker = CircuitBreaker(1, clock=clock, on_change=listener)
        permit = breaker.acquire()
        waiter = asyncio.ensure_future(breaker.changed(1000))
        await asyncio.sleep(1)
        raised = None
        try:
            permit.fail()
        except RuntimeError as error:
            raised = type(error)
        await waiter
        return raised, breaker.state, clock.now()

    assert play(scenario) == (None, "open", 1.0)


# In the layers: whose breaker it is, who waits, and what is no vote.

ONE_ATTEMPT = {"retry": {"max_attempts": 1}}


def broken(_: Any) -> errors.InternalServerError:
    """A model that is down."""
    return errors.InternalServerError("down", status=500)


async def failures(rig: Rig, *models: Any, times: int = 5) -> None:
    """So many calls that fail."""
    for _ in range(times):
        with suppress(errors.ModelError):
            await rig.ask(*models, within=1)


@pytest.mark.parametrize(
    ("other", "shared"),
    [
        ({"agent": "another"}, True), ({"task": "another"}, True), ({"conversation": "another"}, True),
        ({"key": "another"}, False), ({"name": "two"}, False), ({"base_url": "http://elsewhere"}, False),
    ],
)  # fmt: skip
def test_there_is_one_breaker_for_an_address_a_model_and_a_key(other: dict[str, str], shared: bool) -> None:
    """Never one for an agent, a task or a run, and never one for all."""

    async def scenario(_: VirtualClock) -> bool:
        rig = Rig({"one": broken, "two": broken}, ONE_ATTEMPT)
        await failures(rig)
        before = len(rig.calls)
        with suppress(errors.ModelError):
            await _ask_as(rig, other)
        return len(rig.calls) == before

    assert play(scenario) is shared


async def _ask_as(rig: Rig, other: dict[str, str]) -> None:
    asked = {name: value for name, value in other.items() if name in ("name", "key")}
    model = replace(config(**asked), base_url=other.get("base_url", "virtual:"))

    async def renamed(request: Any, call_next: Any) -> Any:
        fields = {name: value for name, value in other.items() if name in ("agent", "task", "conversation")}
        return await call_next(replace(request, **fields))

    second = Rig(rig._models, ONE_ATTEMPT, [renamed])
    second.calls = rig.calls
    await second.ask(model, within=1)


NO_VOTES = [
    errors.BadRequestError("x", status=400),
    errors.ContextOverflowError("x", status=400),
    errors.ContentFilterError("x"),
    errors.AuthenticationError("x", status=401),
    errors.PermissionDeniedError("x", status=403),
    errors.NotFoundError("x", status=404),
    errors.RateLimitError("x", status=429),
    errors.EmptyAnswerError("x"),
    ValueError("a bug in a layer"),
]
VOTES = [
    errors.InternalServerError("x", status=500),
    errors.APIConnectionError("x"),
    errors.APITimeoutError("x"),
    errors.BadResponseError("x", status=200),
]


@pytest.mark.parametrize(("error", "asked"), [*((error, 20) for error in NO_VOTES), *((error, 5) for error in VOTES)], ids=repr)
def test_which_errors_are_votes(error: Exception, asked: int) -> None:
    """Twenty calls: what says nothing of the model's health reaches it twenty times, what does five times."""

    async def scenario(clock: VirtualClock) -> int:
        rig = Rig({"one": lambda _: error}, ONE_ATTEMPT)
        for _ in range(20):
            with pytest.raises((errors.ModelError, ValueError)):
                await rig.ask(within=1)
        return len(rig.calls)

    assert play(scenario) == asked


def test_a_used_up_quota_opens_it_at_once_for_long() -> None:
    """After one such answer nobody asks for five minutes, longer than any cool-down; then one does."""

    async def scenario(clock: VirtualClock) -> tuple[list[float], list[Any]]:
        rig = Rig({"one": lambda request: errors.QuotaExceededError("no credit", status=429)})
        for _ in range(100):
            with suppress(errors.ModelError):
                await rig.ask(within=2)
            await asyncio.sleep(4)
        return rig.asked("one"), rig.circuits()

    asked, changes = play(scenario)
    assert len(asked) == 2
    assert 300 <= asked[1] <= 308
    assert [change.state for change in changes[:2]] == ["open", "half_open"]
    assert changes[0].seconds == 300


def test_two_hundred_callers_at_half_open() -> None:
    """One request is made, the others wait for it, and all are answered in the moment it succeeds (fault 37)."""

    async def scenario(_: VirtualClock) -> tuple[list[float], list[str]]:
        up = False

        def model(_: Any) -> Any:
            return after(2, "well") if up else errors.InternalServerError("down")

        rig = Rig({"one": model}, ONE_ATTEMPT)
        await failures(rig)
        rig.calls.clear()
        up = True
        answers = await asyncio.gather(*(rig.ask(within=600) for _ in range(200)))
        return [at for at, _ in rig.calls], [answer.text for answer in answers]

    asked, answers = play(scenario)
    assert answers == ["well"] * 200
    assert len(asked) == 200
    assert 9 <= asked[0] <= 11.01
    assert asked[1] == pytest.approx(asked[0] + 2, abs=0.01)
    assert asked[-1] == pytest.approx(asked[1], abs=0.01)


def test_callers_wait_through_several_failed_probes() -> None:
    """Two hundred callers, a model that is down for a minute: one request a cool-down, and in the end all are answered."""

    async def scenario(clock: VirtualClock) -> tuple[int, int, float]:
        def model(_: Any) -> Any:
            return errors.InternalServerError("down") if clock.now() < 60 else "well"

        rig = Rig({"one": model}, {"retry": {"max_attempts": 9}})
        await failures(rig, times=2)
        answers = await asyncio.gather(*(rig.ask(within=600) for _ in range(200)))
        dead = [at for at, _ in rig.calls if at < 60]
        return len([answer for answer in answers if answer.text == "well"]), len([at for at in dead if at > 30]), clock.now()

    answered, late_probes, ended = play(scenario)
    assert answered == 200
    assert late_probes <= 3
    assert ended < 130


def test_a_cancelled_probe_lets_the_next_caller_through_at_once() -> None:
    """Who waits is woken when a probe is cancelled, and not only when its own wait is over (fault 38)."""

    async def scenario(clock: VirtualClock) -> tuple[str, float]:
        slow = [True]

        def model(_: Any) -> Any:
            return after(50, "never") if slow.pop() else "well"

        rig = Rig({"one": lambda _: errors.InternalServerError("down")}, ONE_ATTEMPT)
        await failures(rig)
        await asyncio.sleep(12)
        rig._models = {"one": model}
        slow[:] = [False, True]
        probe = asyncio.ensure_future(rig.ask(within=600))
        await asyncio.sleep(1)
        waiter = asyncio.ensure_future(rig.ask(within=600))
        await asyncio.sleep(1)
        cancelled = clock.now()
        probe.cancel()
        answer = await waiter
        assert probe.cancelled()
        return answer.text, clock.now() - cancelled

    text, waited = play(scenario)
    assert text == "well"
    assert waited < 0.1


def test_a_short_task_waits_for_a_probe_that_is_under_way() -> None:
    """At half-open nobody knows how long the probe takes: a call waits for it as long as its task has time."""

    async def scenario(clock: VirtualClock) -> str:
        rig = Rig({"one": lambda _: after(1, "well") if clock.now() > 11 else errors.InternalServerError("down")}, ONE_ATTEMPT)
        await failures(rig)
        await asyncio.sleep(12)
        probe = asyncio.ensure_future(rig.ask(within=5))
        await asyncio.sleep(0.1)
        answer = await rig.ask(within=5)
        await probe
        return answer.text

    assert play(scenario) == "well"


def test_an_open_circuit_and_a_task_without_the_time() -> None:
    """The call is not made and not waited for: the error says when the model is tried again. With the time it waits and completes."""

    async def scenario(clock: VirtualClock) -> tuple[float, float | None, str]:
        rig = Rig({"one": lambda _: "well" if clock.now() > 5 else errors.InternalServerError("down")}, ONE_ATTEMPT)
        await failures(rig)
        began = clock.now()
        with pytest.raises(errors.CircuitOpenError) as caught:
            await rig.ask(within=5)
        waited = clock.now() - began
        return waited, caught.value.retry_after, (await rig.ask(within=20)).text

    waited, left, text = play(scenario)
    assert waited == 0
    assert left is not None
    assert 9 <= left <= 11
    assert text == "well"


def test_transitions_are_events_of_the_runs_that_use_the_model() -> None:
    """Open, half-open and closed, with the model's name and the seconds; a run that does not use it hears nothing."""

    async def scenario(clock: VirtualClock) -> tuple[list[Any], list[Any]]:
        rig = Rig({"one": lambda _: "well" if clock.now() > 30 else errors.InternalServerError("down")}, {"retry": {"max_attempts": 9}})
        other = Rig({"two": lambda _: "fine"})
        for _ in range(3):
            await other.ask("two")
        await rig.ask(within=600)
        await other.ask("two")
        return rig.circuits(), other.circuits()

    mine, others = play(scenario)
    states = [change.state for change in mine]
    assert (states[0], states[-2:], others) == ("open", ["half_open", "closed"], [])
    assert {change.model for change in mine} == {"openai/one"}
    assert all(change.seconds >= 9 for change in mine if change.state == "open")


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_a_wall_clock_that_is_set_delays_no_call(hours: int) -> None:
    """The date steps by an hour while the circuit is open: the call is made when it would have been (fault 36)."""

    async def scenario(clock: VirtualClock) -> float:
        rig = Rig({"one": lambda _: "well" if clock.now() > 5 else errors.InternalServerError("down")}, ONE_ATTEMPT)
        await failures(rig)
        call = asyncio.ensure_future(rig.ask(within=60))
        await asyncio.sleep(3)
        clock.date += 3600 * hours
        await call
        return clock.now()

    assert 9 <= play(scenario) <= 11.01


# A state machine: the breaker beside a model that counts everything anew at each step.

RANDOM = settings(max_examples=200, stateful_step_count=50, deadline=None, database=None)


@dataclass
class Held:
    """A permit, and when the model says that it began."""

    permit: Permit
    epoch: int
    settled: bool = False


class Machine(RuleBasedStateMachine):
    """Calls begin and end in any order while time passes; the model keeps all votes and derives the state from them."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        self.heard: list[tuple[str, float]] = []
        self.breaker = CircuitBreaker(3, 0.5, 30, 10, probes=2, clock=self.clock, on_change=lambda *said: self.heard.append(said))
        self.state, self.until, self.opened, self.epoch = "closed", 0.0, 0, 0
        self.votes: list[tuple[float, bool]] = []
        self.held: list[Held] = []
        self.expected: list[str] = []

    def move(self, state: str) -> None:
        """A transition of the model."""
        self.state, self.votes = state, []
        self.epoch += 1
        self.expected.append(state)

    def under_way(self) -> int:
        """Calls of this epoch that have not ended."""
        return sum(one.epoch == self.epoch and not one.settled for one in self.held)

    def look(self) -> None:
        """Time's own transition."""
        if self.state == "open" and self.clock.at >= self.until:
            self.move("half_open")

    def open(self, at_least: float) -> None:
        """The model opens: the breaker must have said so, for a time within its bounds, which the model takes over."""
        grown = (10, 20, 40, 60)[min(self.opened, 3)]
        self.opened += 1
        self.move("open")
        state, seconds = self.heard[-1]
        assert state == "open"
        assert max(at_least, 0.9 * grown) <= seconds <= max(at_least, 1.1 * grown)
        self.until = self.clock.at + seconds

    @rule()
    def begin(self) -> None:
        """A call asks for leave."""
        self.look()
        free = self.state == "closed" or (self.state == "half_open" and self.under_way() < 2)
        if free:
            return self.held.append(Held(self.breaker.acquire(), self.epoch))
        left = refused(self.breaker).retry_after
        assert self.state == "half_open" or left == pytest.approx(self.until - self.clock.at)
        return None

    @precondition(lambda self: self.held)
    @rule(
        data=st.data(),
        end=st.sampled_from(["succeed", "fail", "fail", "fail", "at_once", "give_back"]),
        floor=st.sampled_from([0.0, 0.0, 15.0, 200.0]),
    )
    def finish(self, data: st.DataObject, end: str, floor: float) -> None:
        """A call ends; it may be one that ended before, or that began in another epoch."""
        one = data.draw(st.sampled_from(self.held))
        if end == "at_once":
            one.permit.fail(floor, at_once=True)
        elif end == "fail":
            one.permit.fail(floor)
        else:
            getattr(one.permit, end)()
        counts, one.settled = not one.settled and one.epoch == self.epoch, True
        if counts and end != "give_back":
            self.vote(end == "succeed", floor, end == "at_once")

    def vote(self, good: bool, floor: float, at_once: bool) -> None:
        """What a vote does in the model."""
        if self.state == "half_open":
            if not good:
                return self.open(floor)
            self.opened = 0
            return self.move("closed")
        self.votes.append((self.clock.at, good))
        recent = [vote for at, vote in self.votes if at > self.clock.at - 30]
        failed = recent.count(False)
        if not good and (at_once or (failed >= 3 and failed >= 0.5 * (len(recent) + self.under_way()))):
            self.open(floor)
        return None

    @rule(seconds=st.sampled_from([0.0, 0.1, 3.0, 9.0, 11.0, 29.9, 30.0, 70.0]))
    def pass_time(self, seconds: float) -> None:
        """Time passes."""
        self.clock.at += seconds

    @rule(hours=st.sampled_from([-1, 1]))
    def set_wall_clock(self, hours: int) -> None:
        """Somebody sets the date, which must change nothing."""
        self.clock.date += 3600 * hours

    @invariant()
    def agree(self) -> None:
        """Both are in the same state after the same transitions."""
        self.look()
        assert self.breaker.state == self.state
        assert [state for state, _ in self.heard] == self.expected


def test_the_breaker_does_what_a_small_model_of_it_does() -> None:
    """In two hundred random histories."""
    run_state_machine_as_test(Machine, settings=RANDOM)


def test_the_state_machine_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: a breaker that lets late answers vote is found out."""
    real = CircuitBreaker._settled

    def careless(self: CircuitBreaker, epoch: int, vote: bool | None, retry_after: float, at_once: bool) -> None:
        real(self, self._epoch, vote, retry_after, at_once)

    monkeypatch.setattr(CircuitBreaker, "_settled", careless)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run_state_machine_as_test(Machine, settings=settings(RANDOM, phases=[Phase.generate], report_multiple_bugs=False))
