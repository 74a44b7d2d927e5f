"""What models cost: the team's own `prices`, then the price list that `genai-prices` carries; nothing is fetched.

A known price counts at the provider's own address alone: a server of one's own, or somebody's gateway, may speak the same names for another price.
Azure's names are those of deployments, which say nothing about the model. The embedded model costs 0.0: no money changes hands.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from unified_agents.chat_models import Usage
from unified_agents.chat_models.providers import PROVIDERS, ModelConfig
from unified_agents.engine import in_thread
from unified_agents.errors import Problem
from unified_agents.spec import PriceSpec


class Price(Protocol):
    """What one model takes for tokens."""

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """USD of one call."""
        ...


@dataclass(frozen=True)
class PerMillion:
    """A price in USD per million tokens."""

    input: float
    output: float

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """USD of one call."""
        return (input_tokens * self.input + output_tokens * self.output) / 1_000_000


@dataclass(frozen=True)
class _Listed:
    """A price of the list, with its steps (more for long prompts) and its hours. Cached input counts in full: nobody reports it to us."""

    provider: Any
    model: Any

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        from genai_prices import Usage as Tokens

        return float(self.model.calc_price(Tokens(input_tokens=input_tokens, output_tokens=output_tokens), self.provider).total_price)


FREE = PerMillion(0.0, 0.0)

_known: dict[str, Price | None] = {}


@dataclass(frozen=True)
class Prices:
    """The prices of one team: `table` by PROVIDER/NAME, as the user wrote the name, wins over what is known."""

    table: Mapping[str, PriceSpec] = field(default_factory=dict)

    def price(self, model: ModelConfig) -> Price | None:
        """The price of a model, None when it is not known. The first look-up of a name blocks for up to a third of a second."""
        own = self.table.get(model.model)
        if own is not None:
            return PerMillion(own.input_per_million, own.output_per_million)
        return known_price(model)

    def cost(self, model: ModelConfig, usage: Usage) -> float | None:
        """USD of one call; None when the price or a number of tokens is not known, never 0 in their place. Blocks as `price`."""
        if usage.input_tokens is None or usage.output_tokens is None:
            return None
        price = self.price(model)
        return price.cost(usage.input_tokens, usage.output_tokens) if price is not None else None

    def look_up(self, model: ModelConfig) -> Awaitable[Any] | None:
        """Begin to look a price up, on a thread; None when there is nothing to wait for. Called on a loop, before a model is asked."""
        if model.model in self.table or model.model in _known or not _is_at_home(model.provider, model.base_url):
            return None
        return asyncio.ensure_future(in_thread(lambda: known_price(model), "unified-agents-prices"))


def known_price(model: ModelConfig) -> Price | None:
    """What the provider itself takes for a model: 0.0 for the embedded one, None where no price is known. Looked up once; blocks as `Prices.price`."""
    if model.provider == "local" and not model.base_url.startswith("object:"):  # a model given as an object may be anything
        return FREE
    if not _is_at_home(model.provider, model.base_url):
        return None
    if model.model not in _known:
        _known[model.model] = _listed(model)
    return _known[model.model]


@functools.lru_cache(maxsize=256)
def _is_at_home(provider: str, base_url: str) -> bool:
    """Whether calls go to the provider's own address, and it takes money."""
    found = PROVIDERS.get(provider)
    if found is None or found.base_url is None or found.key_variable is None:
        return False
    return urlsplit(base_url).hostname == urlsplit(found.base_url).hostname


def _listed(model: ModelConfig) -> Price | None:
    from genai_prices import data_snapshot  # a quarter of a second, on the thread of whoever looks first

    try:
        provider, found = data_snapshot.get_snapshot().find_provider_model(model.name, None, model.provider, None)
    except LookupError:
        return None
    prices = [one.prices for one in found.prices] if isinstance(found.prices, list) else [found.prices]
    complete = all(one.input_mtok is not None and one.output_mtok is not None for one in prices)
    return _Listed(provider, found) if complete else None  # the list has models without a price: those are unknown, not free


def unpriced(prices: Prices, models: Iterable[ModelConfig]) -> list[Problem]:
    """Why `budget.usd` could not be kept: models whose price nobody knows. Blocks as `Prices.price`."""
    names = dict.fromkeys(model.model for model in models if prices.price(model) is None)
    return [
        Problem(
            "budget.usd",
            f"the price of {name} is not known here, so no budget in USD can be kept; write its price, in USD: "
            f"prices: {{{name}: {{input_per_million: 0.15, output_per_million: 0.60}}}}",
        )
        for name in names
    ]
