"""What a run may spend and has spent: one meter for all of its tasks, agents, fallback agents and backends."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from unified_agents.chat_models.providers import ModelConfig
from unified_agents.clock import clock
from unified_agents.engine import within
from unified_agents.errors import BudgetExceededError, SpecError
from unified_agents.pricing import Prices, unpriced
from unified_agents.spec import BudgetSpec

T = TypeVar("T")

_EPSILON = 1e-12  # USD: sums of floats
_COUNTED = ("model_calls", "tokens", "usd")


@dataclass(frozen=True)
class Spent:
    """Requests, tokens (in and out), USD, and the seconds of a run before it was resumed."""

    model_calls: int = 0
    tokens: int = 0
    usd: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.model_calls + other.model_calls, self.tokens + other.tokens, self.usd + other.usd, self.seconds + other.seconds)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.model_calls - other.model_calls, self.tokens - other.tokens, self.usd - other.usd, self.seconds - other.seconds)


class Spending:
    """A budget and what is left of it. Lives on one loop; its time begins with `begin`, or with the first look at it.

    Args:
        limits: what may be spent; what is None has no limit.
        prices: what models cost, for `limits.usd`.
        before: what was spent already, by a run that is resumed.
    """

    def __init__(self, limits: BudgetSpec | None = None, prices: Prices | None = None, before: Spent | None = None) -> None:
        self.limits, self.prices = limits or BudgetSpec(), prices or Prices()
        self.spent = before or Spent()
        self.error: BudgetExceededError | None = None
        """The first refusal: nobody takes over what is left of the run."""
        self._reserved = Spent()
        self._began: float | None = None
        self._changed = asyncio.Event()

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self.limits != BudgetSpec()

    def begin(self) -> None:
        """Start the clock, once."""
        if self._began is None:
            self._began = clock().now() - self.spent.seconds

    def left(self) -> float:
        """Seconds until the end; infinite without `limits.seconds`."""
        self.begin()
        assert self._began is not None
        return math.inf if self.limits.seconds is None else self._began + self.limits.seconds - clock().now()

    async def in_time(self, work: Awaitable[T]) -> T:
        """The result of `work`, unless the time is up before: then it is cancelled.

        Raises:
            BudgetExceededError: it is.
        """
        if self.limits.seconds is None:
            return await work
        late = self._exceeded("seconds")
        try:
            return await within(work, self.left, late)
        except BudgetExceededError as error:
            if error is late:
                self.error = self.error or late
            raise

    def of(self, model: ModelConfig, input_tokens: int, output_tokens: int) -> Spent:
        """One call of a model; in USD only where they are limited.

        Raises:
            SpecError: they are, and the model's price is not known.
        """
        usd = 0.0
        if self.limits.usd is not None:
            price = self.prices.price(model)
            if price is None:
                raise SpecError(unpriced(self.prices, [model]))
            usd = price.cost(input_tokens, output_tokens)
        return Spent(1, input_tokens + output_tokens, usd)

    def has_room(self, need: Spent) -> bool:
        """Whether so much is left beside what the calls under way may take."""
        return not self._over(self.spent + self._reserved + need)

    async def reserve(self, need: Spent, model: str) -> None:
        """Take what a call may need at most. Where it has room only if the calls under way take less than they may, it waits for them.

        Raises:
            BudgetExceededError: it does not fit.
        """
        while True:
            self._check(need, model)
            if self.has_room(need):
                break
            self._changed.clear()
            await self._changed.wait()
        self._reserved += need

    def settle(self, reserved: Spent, used: Spent) -> None:
        """Put what a call did take in the place of what it might have taken."""
        self._reserved -= reserved
        self.spent += used
        self._changed.set()

    def overspent(self) -> BudgetExceededError | None:
        """What is wrong when calls took more than they were to take at most, so that more is spent than the budget allows."""
        kind = self._over(self.spent)
        if kind is None:
            return None
        limit, spent = getattr(self.limits, kind), getattr(self.spent, kind)
        return BudgetExceededError(
            f"budget.{kind} is {_shown(limit)}, and {_shown(spent)} are spent: a call took more than it was expected to take at most; "
            f"allow at least budget: {{{kind}: {_rounded_up(spent)}}}; what was completed is kept"
        )

    def _check(self, need: Spent, model: str) -> None:
        over = "seconds" if self.left() <= 0 else self._over(self.spent + need)
        if over:
            error = self._exceeded(over, need, model)
            self.error = self.error or error
            raise error

    def _over(self, total: Spent) -> str | None:
        """The first limit that a sum is over."""
        limits = ((kind, getattr(self.limits, kind)) for kind in _COUNTED)
        return next((kind for kind, limit in limits if limit is not None and getattr(total, kind) > limit + _EPSILON), None)

    def _exceeded(self, kind: str, need: Spent | None = None, model: str = "") -> BudgetExceededError:
        limit = getattr(self.limits, kind)
        if kind == "seconds" or need is None:
            return BudgetExceededError(
                f"budget.seconds is {limit:g}, and that time is over; allow more: budget: {{seconds: {2 * limit:g}}}"
            )
        spent, wanted = getattr(self.spent, kind), getattr(need, kind)
        takes = "makes one more" if kind == "model_calls" else f"may take {_shown(wanted)} with its answer"
        smaller = "" if kind == "model_calls" else ", or set a smaller max_tokens"
        return BudgetExceededError(
            f"budget.{kind} is {_shown(limit)}, {_shown(spent)} of it spent, and the next call, of {model}, {takes}; "
            f"allow at least budget: {{{kind}: {_rounded_up(spent + wanted)}}}{smaller}"
        )


def _shown(amount: float) -> str:
    return f"{amount:,}" if isinstance(amount, int) else f"{amount:.9f}".rstrip("0").rstrip(".")


def _rounded_up(amount: float) -> str:
    """As it may be written into a file."""
    return str(amount) if isinstance(amount, int) else f"{math.ceil(round(amount * 1e6, 3)) / 1e6:.6f}".rstrip("0").rstrip(".")
