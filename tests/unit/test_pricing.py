"""What a model costs: the team's table first, the known prices at the provider's own address, and null where nobody knows."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from dataclasses import replace
from typing import Any

import pytest

from unified_agents import ChatResponse, RunResult, ScriptedModel, Usage, pricing, run_team
from unified_agents.chat_models import ChatRequest
from unified_agents.chat_models.providers import PROVIDERS, ModelConfig
from unified_agents.events import ModelCalled
from unified_agents.fidelity import unused_fields
from unified_agents.middleware.trace import Trace
from unified_agents.pricing import Prices, unpriced
from unified_agents.result import usage_of
from unified_agents.spec import PriceSpec, TeamSpec

MILLION = Usage(1_000_000, 1_000_000)


def model(name: str, base_url: str | None = None) -> ModelConfig:
    """A model at its provider's own address, or another."""
    provider, _, rest = name.partition("/")
    return ModelConfig("default", provider, rest, base_url=base_url or PROVIDERS[provider].base_url or "https://x.example/v1")


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("openai/gpt-4o-mini", 0.5, 1.0),
        ("anthropic/claude-sonnet-4-5", 10, 60),
        ("gemini/gemini-2.5-pro", 5, 40),
        ("groq/llama-3.3-70b-versatile", 0.5, 5),
        ("openrouter/openai/gpt-4o-mini", 0.5, 1.0),
    ],
)
def test_known_prices(name: str, least: float, most: float) -> None:
    """A million tokens in and out cost what the list says, at the provider's own address."""
    cost = Prices().cost(model(name), MILLION)
    assert cost is not None
    assert least < cost < most


@pytest.mark.parametrize(
    ("name", "base_url"),
    [
        ("openai/gpt-4o-mini", "http://127.0.0.1:8000/v1"),
        ("openai/gpt-4o-mini", "https://gateway.example/api.openai.com/v1"),
        ("openai/gpt-4o-mini", "https://api.openai.com.example/v1"),
        ("openai/no-such-model", None),
        ("azure/gpt-4o", "https://mine.openai.azure.com/openai/v1"),
        ("vllm/gpt-4o-mini", None),
        ("ollama/llama3", None),
        ("openrouter/meta-llama/llama-3.3-70b-instruct:free", None),
    ],
)
def test_what_nobody_knows_is_null(name: str, base_url: str | None) -> None:
    """Another address, an unknown name, a deployment's name, a server of one's own, a listed model without a price: never 0."""
    assert Prices().cost(model(name, base_url), MILLION) is None
    assert [problem.path for problem in unpriced(Prices(), [model(name, base_url)])] == ["budget.usd"]


@pytest.mark.parametrize("name", ["openai/gpt-4o-mini", "openai/mine", "vllm/x", "local/smollm2-135m"])
def test_the_teams_own_prices_win(name: str) -> None:
    """At every address, over the known ones and over 0.0; another name's price is nobody else's."""
    prices = Prices({name: PriceSpec(input_per_million=2.0, output_per_million=5.0)})
    assert prices.cost(model(name, "http://127.0.0.1:1/v1"), Usage(1_000_000, 100_000)) == 2.5
    assert unpriced(prices, [model(name)]) == []
    assert prices.cost(model("openai/other"), MILLION) is None


def test_the_embedded_model_costs_nothing() -> None:
    """No money changes hands: 0.0, not null; an object given in its place may be anything."""
    assert Prices().cost(model("local/smollm2-135m"), MILLION) == 0.0
    assert Prices().cost(model("local/smollm2-135m", "object:1"), MILLION) is None


@pytest.mark.parametrize("usage", [Usage(), Usage(5, None), Usage(None, 5)])
def test_unknown_tokens_are_an_unknown_cost(usage: Usage) -> None:
    """Also where the model is free."""
    assert Prices().cost(model("local/smollm2-135m"), usage) is None
    assert Prices().cost(model("openai/gpt-4o-mini"), usage) is None


def test_long_prompts_have_their_own_price() -> None:
    """Gemini takes more per token beyond 200,000: the steps of the list are kept."""
    short, long = (Prices().cost(model("gemini/gemini-2.5-pro"), Usage(size, 0)) for size in (100_000, 400_000))
    assert short is not None
    assert long is not None
    assert long > 4 * short


def test_the_price_list_is_loaded_late() -> None:
    """Neither the package nor a price of the team's own loads it; a known price does (the control)."""
    code = """
import sys
import unified_agents.runtime
from unified_agents.pricing import Prices
from unified_agents.chat_models.providers import ModelConfig
from unified_agents.spec import PriceSpec
own = ModelConfig("default", "openai", "gpt-4o-mini", base_url="https://api.openai.com/v1")
Prices({"openai/gpt-4o-mini": PriceSpec(input_per_million=1, output_per_million=1)}).price(own)
Prices().price(ModelConfig("default", "openai", "gpt-4o-mini", base_url="http://127.0.0.1:1/v1"))
print("genai_prices" in sys.modules)
Prices().price(own)
print("genai_prices" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "True"]


def _trace(monkeypatch: pytest.MonkeyPatch, prices: Prices) -> tuple[list[ModelCalled], list[str]]:
    """Two calls of a known model with nothing looked up yet; the events, and the threads that looked."""
    threads: list[str] = []
    listed = pricing._listed

    def watched(config: ModelConfig) -> Any:
        threads.append(threading.current_thread().name)
        return listed(config)

    monkeypatch.setattr(pricing, "_known", {})
    monkeypatch.setattr(pricing, "_listed", watched)
    events: list[Any] = []

    async def answer(_request: ChatRequest) -> ChatResponse:
        return ChatResponse("ok", "openai/gpt-4o-mini", usage=Usage(1_000_000, 0))

    async def calls() -> None:
        request = ChatRequest(model=model("openai/gpt-4o-mini"), messages=[])
        for _ in range(2):
            await Trace(events.append, prices)(request, answer)

    asyncio.run(calls())
    return events, threads


def test_a_price_is_looked_up_once_and_not_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a thread, while the model answers; the second call finds it."""
    events, threads = _trace(monkeypatch, Prices())
    assert [event.cost_usd for event in events] == [0.15, 0.15]
    assert threads == ["unified-agents-prices"]


def test_a_price_in_the_table_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: no thread, no list."""
    events, threads = _trace(monkeypatch, Prices({"openai/gpt-4o-mini": PriceSpec(input_per_million=1, output_per_million=1)}))
    assert [event.cost_usd for event in events] == [1.0, 1.0]
    assert threads == []


def _call(**fields: Any) -> ModelCalled:
    return replace(
        ModelCalled(task="t", agent="a", model="m", turn=1, duration_s=0.1, input_tokens=1, output_tokens=1, cost_usd=0.1), **fields
    )


FAILED: dict[str, Any] = {"error": "X", "input_tokens": None, "output_tokens": None, "cost_usd": None}


@pytest.mark.parametrize(
    ("calls", "cost"),
    [
        ([], 0.0),
        ([_call()], 0.1),
        ([_call()] * 3, 0.3),
        ([_call(), _call(**FAILED)], 0.1),
        ([_call(), _call(cost_usd=None)], None),
        ([_call(**FAILED)], None),
        ([_call(cost_usd=0.0)], 0.0),
    ],
)
def test_sums(calls: list[ModelCalled], cost: float | None) -> None:
    """Exact, null with an unknown part, and without the attempts that failed, as tokens are."""
    assert usage_of(calls).cost_usd == (cost if cost is None else pytest.approx(cost))
    assert usage_of(calls).model_calls == len(calls)


def _run(**fields: Any) -> RunResult:
    base = {"agents": {"a": {"role": "R"}}, "tasks": {"t": {"description": "x", "agent": "a"}}, "models": {"default": {"model": "groq/x"}}}
    return run_team(TeamSpec.model_validate({**base, **fields}), models={"default": ScriptedModel(["ok"])}, backend="autogen")


def test_a_model_given_as_an_object_has_the_price_of_its_name() -> None:
    """By `prices` alone; the known prices are those of addresses."""
    price = {"input_per_million": 1.0, "output_per_million": 1.0}
    priced, unknown = _run(prices={"groq/x": price}), _run()
    assert unknown.usage.cost_usd is None
    assert (priced.usage.cost_usd is None) == (priced.usage.input_tokens is None)


@pytest.mark.parametrize(("name", "unused"), [("groq/x", []), ("groq/y", ["prices.groq/y"]), ("default", ["prices.default"])])
def test_a_price_of_no_model_is_said(name: str, unused: list[str]) -> None:
    """Most of them are typing errors."""
    team = TeamSpec.model_validate(
        {
            "agents": {"a": {"role": "R"}},
            "tasks": {"t": {"description": "x", "agent": "a"}},
            "models": {"default": {"model": "groq/x"}},
            "prices": {name: {"input_per_million": 1, "output_per_million": 1}},
        }
    )
    assert [problem.path for problem in unused_fields(team)] == unused
