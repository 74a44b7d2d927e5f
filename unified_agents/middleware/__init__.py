"""The layers around every model call, and their order.

Outermost first:

1. `Replay`, in a run that is written down, answers a call that an earlier session recorded, before anything is spent;
2. `Recall`, in a team with memory, adds what is remembered about the task;
3. the user's own layers see the request with what was recalled, and the answer that counts;
4. `Fallback` asks the next model when one fails for good, and waits while every circuit is open;
5. `TokenWindow` keeps the request within the model's window; inside Fallback, because another model has another one;
6. `Retry` asks the same model again; inside Fallback, because another model starts afresh;
7. `Budget`, where the team has one, checks what each attempt may take and counts what it took; inside Retry, since attempts cost, and since it must know
   the model; outside RateLimit, so that a call that does not fit takes nothing of the provider's limits. Its error is neither retried nor fallen back;
8. `RateLimit` holds calls back; outside the breaker, else callers that queued while it was closed would still hit a dead model;
9. `CircuitBreaking` leaves a failing model alone;
10. `around_attempt`, where it is given, sees each attempt as a whole: `ChatSpans`, where the process is traced;
11. `Timeout` ends one attempt;
12. `Trace` sees every attempt; innermost, so what it counts is requests.

A middleware is a frozen dataclass whose fields are its options::

    @dataclass(frozen=True)
    class Loud:
        async def __call__(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
            response = await call_next(request)
            return replace(response, text=response.text.upper())
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, Protocol

from unified_agents.chat_models import ChatRequest, ChatResponse
from unified_agents.events import Event, ignore
from unified_agents.spec import CircuitBreakerSpec, ResilienceSpec, RetrySpec, TokenWindowSpec

if TYPE_CHECKING:
    from unified_agents.circuit_breaker import CircuitBreaker
    from unified_agents.spending import Spending

CallNext = Callable[[ChatRequest], Awaitable[ChatResponse]]


class Middleware(Protocol):
    """One layer: it may change the request, the answer, or call again."""

    async def __call__(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        """The answer to `request`; `call_next` is the next layer inside."""
        ...


def chain(layers: Sequence[Middleware], model: CallNext) -> CallNext:
    """`model` wrapped in `layers`, the first outermost."""
    return reduce(_wrapped, reversed(layers), model)


def _wrapped(inner: CallNext, layer: Middleware) -> CallNext:
    return lambda request: layer(request, inner)


def default_middleware(
    *,
    resilience: ResilienceSpec | None = None,
    token_window: TokenWindowSpec | None = None,
    spending: Spending | None = None,
    extra: Sequence[Middleware] = (),
    emit: Callable[[Event], None] = ignore,
    around_attempt: Sequence[Middleware] = (),
    breakers: dict[Any, CircuitBreaker] | None = None,
) -> list[Middleware]:
    """The layers every model call passes, outermost first.

    Args:
        resilience: retry and circuit breaker; what is unset has its default (4 attempts; 5 failures of half the calls within 30 s).
        token_window: the limit and what is done about a larger request; absent: the model's window, oldest messages dropped.
        spending: the run's budget and what is left of it; absent: no limit.
        extra: the user's own layers.
        emit: is told of retries, waits, replaced models and breaker transitions.
        around_attempt: layers around each attempt, its timeout included.
        breakers: where the circuit breakers are kept; absent: the process's, so that all runs learn of a dead model from one.
    """
    from unified_agents.middleware.budget import Budget  # they need CallNext from here
    from unified_agents.middleware.circuit_breaker import CircuitBreaking
    from unified_agents.middleware.fallback import Fallback
    from unified_agents.middleware.rate_limit import RateLimit
    from unified_agents.middleware.retry import Retry
    from unified_agents.middleware.timeout import Timeout
    from unified_agents.middleware.token_window import TokenWindow

    settings = resilience or ResilienceSpec()
    retry, breaker = settings.retry or RetrySpec(), settings.circuit_breaker or CircuitBreakerSpec()
    window = TokenWindow(token_window or TokenWindowSpec(), emit)
    breaking = CircuitBreaking(breaker, emit, breakers)
    budget = [Budget(spending, emit)] if spending is not None and spending.limited else []
    return [
        *extra,
        Fallback(emit),
        window,
        Retry(retry, emit),
        *budget,
        RateLimit(emit, breaking.check),
        breaking,
        *around_attempt,
        Timeout(),
    ]
