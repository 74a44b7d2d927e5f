"""The meter and its layer, without a framework: what is reserved, what is corrected, who waits and who is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from unified_agents import ChatResponse, SpecError, Usage, count_tokens, default_middleware
from unified_agents.chat_models import ChatRequest
from unified_agents.chat_models.providers import ModelConfig
from unified_agents.clock import clock
from unified_agents.errors import BudgetExceededError, CircuitOpenError, InternalServerError, RunError
from unified_agents.events import CallWaited, Event, ModelCalled, UsageAssumed
from unified_agents.managed import ManagedModel
from unified_agents.middleware import budget as layer
from unified_agents.middleware import chain
from unified_agents.middleware.budget import Budget, largest_size, request_tokens
from unified_agents.middleware.rate_limit import RateLimit
from unified_agents.middleware.retry import Retry
from unified_agents.pricing import Prices
from unified_agents.resume import Before
from unified_agents.spec import BudgetSpec, PriceSpec
from unified_agents.spending import Spending, Spent
from unified_agents.testing import Reply, ScriptedServer

MODEL = ModelConfig("default", "openai", "gpt-4o", base_url="http://127.0.0.1:1/v1", sampling={"max_tokens": 20})
TEN = Usage(7, 3)


def request(text: str = "MARK", **fields: Any) -> ChatRequest:
    """One call of a model."""
    return ChatRequest(**{"model": MODEL, "messages": [{"role": "user", "content": text}], "task": "t", "agent": "a", **fields})


def answers(usage: Usage = TEN, delay: float = 0.0) -> Callable[[ChatRequest], Awaitable[ChatResponse]]:
    """A model that answers."""

    async def answer(_request: ChatRequest) -> ChatResponse:
        await asyncio.sleep(delay)
        return ChatResponse("ok", "openai/gpt-4o", usage=usage)

    return answer


def fails(error: BaseException) -> Callable[[ChatRequest], Awaitable[ChatResponse]]:
    """A model that fails."""

    async def answer(_request: ChatRequest) -> ChatResponse:
        raise error

    return answer


async def together(spending: Spending, count: int, model: Any, emit: Any = lambda _: None) -> list[bool]:
    """Calls at once; which of them were made."""
    calls = (Budget(spending, emit)(request(), model) for _ in range(count))
    return [not isinstance(said, BaseException) for said in await asyncio.gather(*calls, return_exceptions=True)]


def need() -> int:
    """Tokens that the small request may take with its answer."""
    return asyncio.run(request_tokens(request())) + 20


def test_calls_at_once_cannot_all_pass() -> None:
    """Ten at once, three in the budget: three are made. Without a budget: ten."""
    assert sum(asyncio.run(together(Spending(BudgetSpec(model_calls=3)), 10, answers(delay=0.01)))) == 3
    assert sum(asyncio.run(together(Spending(), 10, answers(delay=0.01)))) == 10


@pytest.mark.parametrize(("usage", "made"), [(TEN, 3), (Usage(7, 20), 1), (Usage(), 1)])
def test_who_may_fit_waits_for_those_under_way(usage: Usage, made: int) -> None:
    """One call at its largest fits at a time: how many are made depends on what each takes, not on the order of starting."""
    spending = Spending(BudgetSpec(tokens=need() + 20))
    assert sum(asyncio.run(together(spending, 9, answers(usage, 0.001)))) == made
    assert spending.spent.model_calls == made


def test_a_wait_is_said() -> None:
    """When it is long enough to be noticed."""
    events: list[Event] = []
    asyncio.run(together(Spending(BudgetSpec(tokens=need() + 10)), 2, answers(delay=0.6), events.append))
    assert [type(event) for event in events] == [CallWaited]
    events.clear()
    asyncio.run(together(Spending(BudgetSpec(tokens=2 * need())), 2, answers(delay=0.6), events.append))
    assert events == []


@pytest.mark.parametrize(
    ("error", "calls"), [(InternalServerError("x"), 1), (asyncio.CancelledError(), 1), (ValueError("x"), 1), (CircuitOpenError("x"), 0)]
)
def test_what_a_failed_attempt_takes(error: BaseException, calls: int) -> None:
    """One call and no tokens; nothing when it was not made. Nothing stays reserved."""
    spending = Spending(BudgetSpec(tokens=1000, model_calls=9))
    with pytest.raises(type(error)):
        asyncio.run(_once(spending, fails(error)))
    assert spending.spent == Spent(model_calls=calls)
    assert spending._reserved == Spent()


async def _once(spending: Spending, answer: Any, **fields: Any) -> ChatResponse:
    return await Budget(spending)(request(**fields), answer)


def test_the_error_says_what_to_do() -> None:
    """Which budget, how large, how much is spent, what the next call may take, and what to write; written, it is enough."""
    spending = Spending(BudgetSpec(tokens=1000), before=Spent(5, 995))
    with pytest.raises(BudgetExceededError) as caught:
        asyncio.run(_once(spending, answers()))
    said = str(caught.value)
    assert f"budget.tokens is 1,000, 995 of it spent, and the next call, of openai/gpt-4o, may take {need()} with its answer" in said
    assert f"budget: {{tokens: {995 + need()}}}, or set a smaller max_tokens" in said
    asyncio.run(_once(Spending(BudgetSpec(tokens=995 + need()), before=Spent(5, 995)), answers()))


@pytest.mark.parametrize("limits", [{"usd": 0.02}, {"usd": 0.02, "tokens": 100_000}])
def test_usd_counts_by_the_price_of_the_model_that_is_asked(limits: dict[str, Any]) -> None:
    """A hundredth a call for one model, nothing for another: the dear one has two calls, the free one is not held back."""
    prices = {"openai/gpt-4o": PriceSpec(input_per_million=0.0, output_per_million=500.0)}
    spending = Spending(BudgetSpec(**limits), Prices(prices))
    free = ModelConfig("free", "local", "smollm2-135m", base_url="embedded:")
    for _ in range(2):
        asyncio.run(_once(spending, answers(Usage(7, 20))))
    with pytest.raises(BudgetExceededError, match=r"budget\.usd is 0\.02, 0\.02 of it spent"):
        asyncio.run(_once(spending, answers()))
    asyncio.run(_once(spending, answers(), model=free))


def test_usd_without_a_price_is_an_error() -> None:
    """For who builds the layers alone: a budget that cannot be kept is none."""
    with pytest.raises(SpecError, match=r"budget\.usd: the price of openai/gpt-4o is not known"):
        asyncio.run(_once(Spending(BudgetSpec(usd=1.0)), answers()))


TEXTS = ["", "a", "MARK " * 500, "海の潮だまり" * 50, "🦀" * 40, '"\\\n\t' * 90, "\ud800", "zz" * 700]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_no_bound_is_below_the_count(text: str) -> None:
    """The bytes are a bound of the tokens, whatever the text; the count holds tools and the answer's format too."""
    tool = {"type": "function", "function": {"name": "look", "description": text, "parameters": {}}}
    for fields in ({}, {"tools": [tool]}, {"response_format": {"type": "json_schema", "json_schema": {"name": text}}}):
        one = request(text, **fields)
        counted = asyncio.run(request_tokens(one))
        assert largest_size(one) >= counted >= count_tokens(list(one.messages), "openai/gpt-4o")
        assert not fields or counted > count_tokens(list(one.messages), "openai/gpt-4o")


@pytest.mark.parametrize(("tokens", "counted"), [(10_000_000, 0), (2_000, 1)])
def test_a_request_is_counted_only_where_it_matters(monkeypatch: pytest.MonkeyPatch, tokens: int, counted: int) -> None:
    """With room for many calls its bytes do, and no vocabulary is loaded; near the end it is counted."""
    seen: list[int] = []

    async def count(_request: ChatRequest) -> int:
        seen.append(1)
        return 100

    monkeypatch.setattr(layer, "request_tokens", count)
    asyncio.run(Budget(Spending(BudgetSpec(tokens=tokens)))(request("word " * 100), answers()))
    assert len(seen) == counted


def test_calls_alone_need_no_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget of calls or seconds does not look at messages."""
    monkeypatch.setattr(layer, "largest_size", None)
    asyncio.run(_once(Spending(BudgetSpec(model_calls=1, seconds=10)), answers()))


def test_time(waits: list[float]) -> None:
    """It goes by the clock, begins once, and a resumed run has less of it."""
    spending = Spending(BudgetSpec(seconds=100), before=Spent(seconds=30))
    assert 69 < spending.left() <= 70
    clock().sleep_blocking(60)
    spending.begin()
    assert 9 < spending.left() <= 10
    clock().sleep_blocking(20)
    with pytest.raises(BudgetExceededError, match=r"budget\.seconds is 100, and that time is over; allow more: budget: \{seconds: 200\}"):
        asyncio.run(_once(spending, answers()))
    assert Spending(BudgetSpec(tokens=1)).left() == float("inf")


def test_its_place_in_the_chain() -> None:
    """Inside Retry, outside RateLimit; without a budget there is no such layer."""
    kinds = [type(one) for one in default_middleware(spending=Spending(BudgetSpec(tokens=1)))]
    assert kinds.index(Budget) == kinds.index(Retry) + 1 == kinds.index(RateLimit) - 1
    assert Budget not in [type(one) for one in default_middleware(spending=Spending())]
    assert Budget not in [type(one) for one in default_middleware()]


def test_it_is_neither_retried_nor_given_to_another_model() -> None:
    """One attempt, then the error; the control has its four and the other model's four."""
    asked: list[str] = []

    async def answer(one: ChatRequest) -> ChatResponse:
        asked.append(one.model.alias)
        raise InternalServerError("x", model="m")

    other = ModelConfig("other", "openai", "other", base_url="http://127.0.0.1:2/v1")
    for spending, expected in ((Spending(BudgetSpec(model_calls=1)), 1), (Spending(), 8)):
        asked.clear()
        with pytest.raises(RunError) as caught:
            asyncio.run(_ask(chain(default_middleware(spending=spending), answer), request(fallbacks=(other,))))
        assert len(asked) == expected
        assert isinstance(caught.value, BudgetExceededError) == (expected == 1)


async def _ask(call: Any, one: ChatRequest) -> ChatResponse:
    answer: ChatResponse = await call(one)
    return answer


def managed(server: ScriptedServer, **options: Any) -> ManagedModel:
    """A model on the server."""
    return ManagedModel({"model": "openai/scripted", "base_url": server.base_url, "max_tokens": 20}, **options)


def test_a_managed_model_counts_over_its_life(server: ScriptedServer) -> None:
    """Two calls of one object; another object has its own."""
    server.reply("MARK", "ok", forever=True)
    model = managed(server, budget={"model_calls": 2})
    for _ in range(2):
        assert model.ask_blocking([{"role": "user", "content": "MARK"}]).text == "ok"
    with pytest.raises(BudgetExceededError, match=r"budget\.model_calls is 2"):
        model.ask_blocking([{"role": "user", "content": "MARK"}])
    assert managed(server, budget={"model_calls": 2}).ask_blocking([{"role": "user", "content": "MARK"}]).text == "ok"
    assert len(server.requests) == 3


def test_a_managed_model_and_usd(server: ScriptedServer) -> None:
    """Without a price it cannot be made; with one it costs."""
    server.reply("MARK", "ok", forever=True)
    with pytest.raises(SpecError, match=r"openai/scripted is not known here"):
        managed(server, budget={"usd": 1.0})
    events: list[Any] = []
    prices = {"openai/scripted": {"input_per_million": 0.0, "output_per_million": 50_000.0}}
    model = managed(server, budget={"usd": 1.0}, prices=prices, on_event=events.append)
    model.ask_blocking([{"role": "user", "content": "MARK"}])
    assert [event.cost_usd for event in events] == [pytest.approx(0.15)]
    with pytest.raises(BudgetExceededError, match=r"budget\.usd is 1, 0\.15 of it spent"):
        model.ask_blocking([{"role": "user", "content": "MARK"}])


def test_a_managed_model_and_seconds(server: ScriptedServer) -> None:
    """They end a call under way, and begin with the first call."""
    server.reply("MARK", Reply(text="ok", delay=30))
    model = managed(server, budget={"seconds": 1.5})
    clock().sleep_blocking(100)
    with pytest.raises(BudgetExceededError, match=r"budget\.seconds is 1\.5"):
        model.ask_blocking([{"role": "user", "content": "MARK"}])
    assert len(server.requests) == 1


def called(key: str, taken: int | None = 7, given: int | None = 3, cost: float | None = None, attempt: int = 1) -> ModelCalled:
    """An attempt in a run's record."""
    return ModelCalled(
        task="t", agent="a", model="openai/x", turn=1, duration_s=0.1, attempt=attempt, key=key, input_tokens=taken, output_tokens=given, cost_usd=cost
    )  # fmt: skip


def assumed(key: str, cost: float | None = None) -> UsageAssumed:
    """What the budget counted for one."""
    return UsageAssumed(task="t", agent="a", key=key, model="openai/x", attempt=1, input_tokens=50, output_tokens=20, cost_usd=cost)


def test_what_earlier_sessions_spent() -> None:
    """What was assumed stands in the place of the attempt that it was said of, and of no other of the same name; what had no price has today's."""
    events = [
        called("k", None, None),
        assumed("k", 0.5),
        called("k", cost=0.25),
        called("l", 7, None),
        assumed("l"),
        called("m", attempt=2),
    ]
    now = Prices({"openai/x": PriceSpec(input_per_million=1e6, output_per_million=1e6)})
    assert Before(events).spent(Prices()) == Spent(4, 70 + 10 + 70 + 10, 0.75)
    assert Before(events).spent(now) == Spent(4, 70 + 10 + 70 + 10, 0.75 + 70 + 10)


@pytest.mark.parametrize(("usage", "said"), [(Usage(), [(7, 20)]), (Usage(5, None), [(5, 20)]), (Usage(None, 2), [(7, 2)]), (TEN, [])])
def test_what_is_assumed_is_said(usage: Usage, said: list[tuple[int, int]]) -> None:
    """So that a resumed run can count it; nothing where the provider reported all."""
    events: list[Event] = []
    spending = Spending(BudgetSpec(tokens=1000))
    asyncio.run(Budget(spending, events.append)(request(), answers(usage)))
    found = [(event.input_tokens, event.output_tokens) for event in events if isinstance(event, UsageAssumed)]
    assert [(min(taken, 7), given) for taken, given in found] == said
    assert sum(map(sum, found)) == (spending.spent.tokens if found else 0)
