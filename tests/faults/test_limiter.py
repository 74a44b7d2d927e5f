"""The rate limit: requests and tokens a minute, calls at once, and the pauses that a provider asks for, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.faults.virtual import Rig, VirtualClock, after, config, play, used
from unified_agents import errors
from unified_agents.chat_models.providers import ModelConfig
from unified_agents.clock import SkippingClock, use_clock
from unified_agents.middleware.rate_limit import TokenBucket, estimate
from unified_agents.spec import RateLimitSpec

ONE_ATTEMPT = {"retry": {"max_attempts": 1}}


def limited(name: str = "one", key: str = "k", sampling: dict[str, Any] | None = None, **limits: Any) -> ModelConfig:
    """A model with a rate limit."""
    return config(name, key, rate_limit=RateLimitSpec(**limits), sampling=sampling or {})


async def times(rig: Rig, model: ModelConfig, calls: int) -> list[float]:
    """When each of so many calls, begun at once, reached the model."""
    await asyncio.gather(*(rig.ask(model) for _ in range(calls)))
    return rig.asked(model.name)


def most_within(moments: list[float], seconds: float) -> int:
    """The most of them within any span of so many seconds."""
    return max(sum(begin <= at < begin + seconds for at in moments) for begin in moments)


def fine(_: Any) -> str:
    """A model that is well."""
    return "fine"


# Requests a minute.


def test_requests_a_minute() -> None:
    """Ten may go at once, the others follow evenly: 40 calls at 10 a minute take three minutes. Without a limit, no time."""

    async def scenario(clock: VirtualClock) -> tuple[list[float], float, list[Any]]:
        rig = Rig({"one": fine})
        free = max(await times(rig, config(), 40))
        rig.calls.clear()
        return await times(rig, limited(requests_per_minute=10), 40), free, rig.of("CallWaited")

    moments, free, waited = play(scenario)
    assert free == 0
    assert len(moments) == 40
    assert sum(at < 0.01 for at in moments) == 10
    assert max(moments) == pytest.approx(180, abs=6.1)
    assert most_within([at for at in moments if at > 0.01], 59.9) <= 10
    assert {event.reason for event in waited} == {"is at its rate_limit"}
    assert len(waited) == 30


def test_every_attempt_is_a_request_of_the_limit() -> None:
    """A failed attempt was sent too: at one request a minute the second attempt comes a minute later."""

    async def scenario(_: VirtualClock) -> list[float]:
        broken = [errors.InternalServerError("down")]
        rig = Rig({"one": lambda _: broken.pop() if broken else "fine"})
        await rig.ask(limited(requests_per_minute=1))
        return rig.asked("one")

    first, second = play(scenario)
    assert first == 0
    assert second == pytest.approx(60, abs=0.1)


def test_models_and_keys_have_limits_of_their_own() -> None:
    """A minute's wait of one key holds back neither another key nor another model; the same key it does."""

    async def scenario(clock: VirtualClock) -> list[float]:
        rig = Rig({"one": fine, "two": fine})
        ended = []
        for model in (limited(requests_per_minute=1), limited(key="other", requests_per_minute=1), limited("two", requests_per_minute=1)):
            await rig.ask(model)
            ended.append(clock.now())
        await rig.ask(limited(requests_per_minute=1))
        return [*ended, clock.now()]

    *others, same = play(scenario)
    assert others == [0, 0, 0]
    assert same == pytest.approx(60, abs=0.1)


# Calls at once.


@pytest.mark.parametrize(("limit", "seen"), [(3, 3), (None, 20)])
def test_calls_at_once(limit: int | None, seen: int) -> None:
    """Three of twenty are under way at any moment; without a limit, all twenty."""

    async def scenario(_: VirtualClock) -> tuple[int, int]:
        now = most = 0

        async def model() -> str:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(1)
            now -= 1
            return "fine"

        rig = Rig({"one": lambda _: model()})
        return len(await times(rig, limited(concurrency=limit) if limit else config(), 20)), most

    assert play(scenario) == (20, seen)


def test_a_place_is_given_back_whatever_happens() -> None:
    """After errors and cancellations, while waiting and while asking, both places are free."""

    async def scenario(clock: VirtualClock) -> float:
        script: list[Any] = [ValueError("bug"), errors.BadRequestError("x")]
        rig = Rig({"one": lambda _: script.pop() if script else after(10, "fine")})
        model = limited(concurrency=2)
        for _ in range(2):
            with suppress(ValueError, errors.ModelError):
                await rig.ask(model)
        calls = [asyncio.ensure_future(rig.ask(model)) for _ in range(6)]
        await asyncio.sleep(1)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        began = clock.now()
        await asyncio.gather(rig.ask(model), rig.ask(model))
        return clock.now() - began

    assert play(scenario) == pytest.approx(10, abs=0.01)


# Tokens a minute.


def test_what_a_call_may_take_is_estimated() -> None:
    """A quarter of the characters and the longest answer: `max_tokens` under either name, else 1024."""

    async def scenario(_: VirtualClock) -> list[float]:
        found: list[float] = []

        async def layer(request: Any, call_next: Any) -> Any:
            found.append(estimate(request))
            return await call_next(request)

        rig = Rig({"one": fine}, layers=[layer])
        await rig.ask(text="")
        await rig.ask(text="x" * 4000)
        await rig.ask(limited(sampling={"max_tokens": 10}), text="")
        await rig.ask(limited(sampling={"max_completion_tokens": 20}), text="")
        return found

    plain, long, ten, twenty = play(scenario)
    assert 1024 <= plain < 1040
    assert long - plain == 1000
    assert (plain - ten, plain - twenty) == (1014, 1004)


def test_tokens_a_minute_with_correction() -> None:
    """Calls reserve about a thousand and use a hundred: what they did not use is given back, so 6,000 a minute carry 60 calls one by one."""

    async def scenario(clock: VirtualClock) -> float:
        rig = Rig({"one": lambda _: used("fine", 60, 40)})
        for _ in range(50):
            await rig.ask(limited(tokens_per_minute=6000))
        return clock.now()

    assert play(scenario) == pytest.approx(0, abs=1)


@pytest.mark.parametrize(("usage", "waits"), [((None, None), 60.0), ((500, 500), 0.0)])
def test_without_usage_the_estimate_stays(usage: tuple[Any, Any], waits: float) -> None:
    """Five calls of about 2,000 at 6,000 a minute: two more than the bucket holds; with half of it given back, they pass."""

    async def scenario(clock: VirtualClock) -> float:
        rig = Rig({"one": lambda _: used("fine", *usage)})
        model = limited(tokens_per_minute=6000, sampling={"max_tokens": 1985})
        for _ in range(5):
            await rig.ask(model, text="")
        return clock.now()

    assert play(scenario) == pytest.approx(40 if waits else 0, abs=1)


def test_a_call_that_used_more_than_it_reserved_makes_the_next_one_wait() -> None:
    """The level falls below zero: after 12,000 tokens at 6,000 a minute the next call of a thousand waits for more than a minute."""

    async def scenario(clock: VirtualClock) -> list[float]:
        rig = Rig({"one": lambda _: used("fine", 11_000, 1_000)})
        model = limited(tokens_per_minute=6000, sampling={"max_tokens": 985})
        for _ in range(2):
            await rig.ask(model, text="")
        return rig.asked("one")

    first, second = play(scenario)
    assert first == 0
    assert second == pytest.approx(70, abs=1)


def test_a_call_larger_than_the_bucket_takes_all_of_it() -> None:
    """It passes at once when the bucket is full, and the next one waits a whole minute; it does not wait for ever."""

    async def scenario(clock: VirtualClock) -> list[float]:
        rig = Rig({"one": fine})
        for _ in range(3):
            await rig.ask(limited(tokens_per_minute=100))
        return rig.asked("one")

    assert play(scenario) == pytest.approx([0, 60, 120], abs=0.1)


def test_callers_are_served_in_their_order() -> None:
    """A small call does not overtake a large one that waits."""

    async def scenario(_: VirtualClock) -> list[str]:
        order: list[str] = []

        def model(request: Any) -> str:
            order.append(request.messages[0]["content"][:5])
            return "fine"

        rig = Rig({"one": model})
        small = limited(tokens_per_minute=2000, sampling={"max_tokens": 1})
        await rig.ask(small, text="first" + "x" * 7000)
        await asyncio.gather(*(rig.ask(small, text=text) for text in ("large" + "x" * 6000, "small", "tiny.")))
        return order

    assert play(scenario) == ["first", "large", "small", "tiny."]


BREAKS_AT_ONCE = {"retry": {"max_attempts": 1}, "circuit_breaker": {"failure_threshold": 1, "recovery_time": 100.0}}


@pytest.mark.parametrize("limits", [{"tokens_per_minute": 1000}, {"requests_per_minute": 1}, {}], ids=str)
def test_a_call_that_the_breaker_refused_takes_nothing(limits: dict[str, Any]) -> None:
    """A call that was never made uses up no limit: when the model may be tried again, the next call is made at once."""

    async def scenario(clock: VirtualClock) -> tuple[int, float]:
        rig = Rig({"one": scripted(errors.InternalServerError("down"))}, BREAKS_AT_ONCE)
        model = limited(**limits) if limits else config()
        with suppress(errors.ModelError):
            await rig.ask(model, within=1)
        await asyncio.sleep(85)  # the limit is free again, the circuit still open
        with pytest.raises(errors.CircuitOpenError):
            await rig.ask(model, within=1)
        await asyncio.sleep(27)  # past the longest cool-down of the first time
        began = clock.now()
        await rig.ask(model)
        return len(rig.calls), clock.now() - began

    assert play(scenario) == (2, 0.0)


@pytest.mark.parametrize("limits", [{"tokens_per_minute": 1000}, {"requests_per_minute": 1}, {}], ids=str)
def test_an_open_circuit_hands_over_to_the_next_model_at_once(limits: dict[str, Any]) -> None:
    """A model that is left alone is not waited for: its rate limit delays no call that another model answers."""

    async def scenario(clock: VirtualClock) -> tuple[float, int, int]:
        rig = Rig({"one": lambda _: errors.InternalServerError("down"), "two": fine}, BREAKS_AT_ONCE)
        model = limited(**limits) if limits else config()
        await rig.ask(model, "two")  # opens the circuit of the first
        began = clock.now()
        for _ in range(3):
            await rig.ask(model, "two")
        return clock.now() - began, len(rig.asked("one")), len(rig.asked("two"))

    assert play(scenario) == (0.0, 1, 4)


# Pauses that the provider asks for.


def scripted(*first: Any) -> Callable[[Any], Any]:
    """A model that says these things, and then `fine`."""
    left = list(first)
    return lambda _: left.pop(0) if left else "fine"


def slow_down(seconds: float) -> errors.RateLimitError:
    """A 429 with Retry-After."""
    return errors.RateLimitError("slow down", status=429, retry_after=seconds)


def test_a_pause_holds_back_everybody_with_the_same_key() -> None:
    """One call gets a 429 with 30 s; fifty others of the same key send nothing until then. Another key goes on."""

    async def scenario(clock: VirtualClock) -> tuple[list[float], float, list[Any]]:
        rig = Rig({"one": scripted(slow_down(30))})
        first = asyncio.ensure_future(rig.ask())
        await asyncio.sleep(1)
        await rig.ask(config(key="another"))
        other = clock.now()
        rig.calls.clear()
        await asyncio.gather(first, *(rig.ask() for _ in range(50)))
        return rig.asked("one"), other, rig.of("CallWaited")

    moments, other, waited = play(scenario)
    assert other == 1.0
    assert len(moments) == 51
    assert min(moments) >= 30
    assert max(moments) <= 33.01
    assert {event.reason for event in waited} == {"is rate limited"}


def test_a_pause_of_one_model_is_none_of_the_next() -> None:
    """The fallback is asked at once when the wait does not fit into the task."""

    async def scenario(clock: VirtualClock) -> tuple[str, float]:
        rig = Rig({"one": scripted(slow_down(30), slow_down(30)), "two": lambda _: "second"})
        answer = await rig.ask("one", "two", within=20)
        return answer.text, clock.now()

    assert play(scenario) == ("second", 0.0)


def test_a_call_that_cannot_wait_is_told_so_without_a_request() -> None:
    """Others' pause is longer than its task: it fails at once with the provider's time, and sends nothing. With the time it completes."""

    async def scenario(clock: VirtualClock) -> tuple[float, float | None, int, str]:
        rig = Rig({"one": scripted(slow_down(100))}, ONE_ATTEMPT)
        with suppress(errors.RateLimitError):
            await rig.ask(within=10)
        with pytest.raises(errors.RateLimitError, match="longer than the task has") as caught:
            await rig.ask(within=10)
        failed = clock.now(), caught.value.retry_after, len(rig.calls)
        return *failed, (await rig.ask(within=200)).text

    at, wanted, requests, text = play(scenario)
    assert (at, wanted, requests, text) == (0.0, 100.0, 1, "fine")


@pytest.mark.parametrize(("seconds", "waits"), [(120.0, 120.0), (121.0, 0.0)])
def test_a_very_long_pause_is_no_pause(seconds: float, waits: float) -> None:
    """Up to two minutes the key is held back; longer is an error of the call that met it, and of no other."""

    async def scenario(clock: VirtualClock) -> float:
        rig = Rig({"one": scripted(slow_down(seconds))}, ONE_ATTEMPT)
        with suppress(errors.RateLimitError):
            await rig.ask()
        await rig.ask()
        return clock.now()

    assert play(scenario) == waits


def test_a_later_pause_that_is_shorter_does_not_end_the_first() -> None:
    """Thirty seconds stay thirty when another answer says five."""

    async def scenario(_: VirtualClock) -> list[float]:
        rig = Rig({"one": scripted(slow_down(30), after(1, slow_down(5)))}, ONE_ATTEMPT)
        await asyncio.gather(rig.ask(), rig.ask(), return_exceptions=True)
        rig.calls.clear()
        await rig.ask()
        return rig.asked("one")

    assert play(scenario) == [30.0]


def test_the_timeout_does_not_run_while_a_call_is_held_back() -> None:
    """Waiting for the limit is not the model's slowness: a call held back for a minute does not time out after a second."""

    async def scenario(clock: VirtualClock) -> tuple[str, float]:
        rig = Rig({"one": fine}, ONE_ATTEMPT)
        model = config(rate_limit=RateLimitSpec(requests_per_minute=1), timeout=1.0)
        await rig.ask(model)
        return (await rig.ask(model)).text, clock.now()

    text, ended = play(scenario)
    assert text == "fine"
    assert ended == pytest.approx(60, abs=0.1)


@pytest.mark.parametrize("cancelled", [True, False])
def test_cancelled_while_held_back(cancelled: bool) -> None:
    """A call that waits for its turn ends when it is cancelled, and the tokens it had reserved are free again; not cancelled, it keeps them (fault 38)."""

    async def scenario(clock: VirtualClock) -> tuple[float, float]:
        rig = Rig({"one": lambda request: used("fine", 0, 0) if request.turn == 1 else "fine"})
        model = limited(requests_per_minute=12, tokens_per_minute=2000, sampling={"max_tokens": 1485})
        await asyncio.gather(*(rig.ask(model) for _ in range(12)))
        began = clock.now()
        waiting = asyncio.ensure_future(rig.ask(model, turn=2))  # holds three quarters of the tokens, and waits five seconds for a request
        await asyncio.sleep(1)
        if cancelled:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        ended = clock.now() - began
        await rig.ask(model)
        return ended, rig.asked("one")[-1] - began

    ended, next_one = play(scenario)
    assert ended == 1.0
    assert next_one == pytest.approx(5 if cancelled else 30, abs=2)


# A state machine: the bucket beside a model that keeps what was taken and given back, and when.


class Machine(RuleBasedStateMachine):
    """Callers reserve and correct while time passes; the model works out the level from the whole history each time."""

    CAPACITY = 600.0  # ten a second

    def __init__(self) -> None:
        super().__init__()
        self.clock = SkippingClock()
        self._using = use_clock(self.clock)
        self._using.__enter__()
        self.clock.now = lambda: self.clock._skipped  # type: ignore[method-assign]  # nothing but what is waited
        self.bucket = TokenBucket(self.CAPACITY)
        self.history: list[tuple[float, float]] = []

    def teardown(self) -> None:
        """Put the clock back."""
        self._using.__exit__(None, None, None)

    def level(self) -> float:
        """From the history: full at first, refilled evenly, never above the capacity."""
        level, before = self.CAPACITY, 0.0
        for at, change in [*self.history, (self.clock.now(), 0.0)]:
            level = min(self.CAPACITY, level + (at - before) * 10)
            level = min(self.CAPACITY, level + change)
            before = at
        return level

    @rule(amount=st.sampled_from([0.0, 1.0, 90.0, 599.0, 600.0, 601.0, 10_000.0]))
    def reserve(self, amount: float) -> None:
        """Takes exactly the time until there is enough, and never more than all."""
        taken = min(amount, self.CAPACITY)
        missing = max(0.0, taken - self.level())
        began = self.clock.now()
        assert run(self.bucket.reserve(amount)) == taken
        assert self.clock.now() - began == pytest.approx(missing / 10, abs=1e-6)
        self.history.append((self.clock.now(), -taken))

    @rule(amount=st.sampled_from([-2000.0, -50.0, -0.5, 0.0, 40.0, 600.0, 5000.0]))
    def correct(self, amount: float) -> None:
        """Gives back or takes more; below zero is allowed, above the capacity is not."""
        self.bucket.correct(amount)
        self.history.append((self.clock.now(), amount))

    @rule(seconds=st.sampled_from([0.0, 0.01, 1.0, 59.0, 1000.0]))
    def pass_time(self, seconds: float) -> None:
        """Time passes."""
        self.clock.sleep_blocking(seconds)

    @invariant()
    def agree(self) -> None:
        """Both hold the same."""
        assert self.bucket._fill() == pytest.approx(self.level(), abs=1e-4)


def run(work: Awaitable[float]) -> float:
    """What a coroutine returns that only waits for the clock."""

    async def main() -> float:
        return await work

    return asyncio.run(main())


RANDOM = settings(max_examples=60, stateful_step_count=30, deadline=None, database=None)


def test_the_bucket_does_what_a_small_model_of_it_does() -> None:
    """In random histories."""
    run_state_machine_as_test(Machine, settings=RANDOM)


def test_the_state_machine_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: a bucket that forgets what it owes is found out."""
    real = TokenBucket.correct
    monkeypatch.setattr(TokenBucket, "correct", lambda self, amount: real(self, max(0.0, amount)))
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Machine, settings=settings(RANDOM, phases=[Phase.generate], report_multiple_bugs=False))
