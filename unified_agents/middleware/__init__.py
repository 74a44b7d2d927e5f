"""The layers around every model call, and their order.

Outermost first: the user's own, Fallback, Timeout, Trace. (Later layers take their places as the design says: Replay and Recall outermost,
TokenWindow, Retry, Budget, RateLimit and CircuitBreaker between Fallback and Timeout, which is per attempt; Trace is innermost and sees
each attempt.)

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
from typing import Protocol

from unified_agents.chat_models import ChatRequest, ChatResponse

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


def default_middleware(*, extra: Sequence[Middleware] = ()) -> list[Middleware]:
    """The layers every model call passes, outermost first; `extra` are the user's own."""
    from unified_agents.middleware.fallback import Fallback  # they need CallNext from here
    from unified_agents.middleware.timeout import Timeout

    return [*extra, Fallback(), Timeout()]
