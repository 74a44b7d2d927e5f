"""Retry: the same model again after a failure that may pass, and nobody else retries. N attempts are N requests."""

from __future__ import annotations

import functools
import inspect
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import tenacity

from unified_agents.chat_models import ChatRequest, ChatResponse
from unified_agents.clock import clock
from unified_agents.errors import CircuitOpenError, ModelError
from unified_agents.events import CallRetried, Event, ignore
from unified_agents.middleware import CallNext
from unified_agents.spec import RetrySpec

F = TypeVar("F", bound=Callable[..., Any])

LONGEST_PAUSE = 120.0
"""Seconds of a provider's Retry-After that are waited; a longer one is no failure that passes."""


def backoff(attempt: int, settings: RetrySpec) -> float:
    """Seconds before the attempt after `attempt`: exponential with full jitter, uniform in [0, min(max_delay, base_delay · 2^(attempt-1))].

    After "Exponential Backoff And Jitter", M. Brooker, AWS Architecture Blog, 2015.
    """
    return random.uniform(0, min(settings.max_delay, settings.base_delay * 2 ** min(attempt - 1, 60)))  # noqa: S311  # spreads load, hides nothing


def pause(retry_after: float) -> float:
    """Seconds to wait when a provider asks for some: those, and up to a tenth more, so that not everybody comes back at once."""
    return retry_after * random.uniform(1, 1.1)  # noqa: S311  # as above


@dataclass(frozen=True)
class Retry:
    """Asks a model up to `settings.max_attempts` times, as its errors allow (`ModelError.retries`), within the task's time."""

    settings: RetrySpec = field(default_factory=RetrySpec)
    emit: Callable[[Event], None] = ignore

    async def __call__(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        """The first good answer.

        Raises:
            ModelError: the last attempt's.
        """
        call = _Call(self, request)
        try:
            return await call.attempt(call_next)  # most calls are answered at once; only the others pay for tenacity
        except ModelError as error:
            call.failed = error
        retrying = tenacity.AsyncRetrying(
            sleep=clock().sleep, wait=call.wait, retry=tenacity.retry_if_exception(call.may_pass), before_sleep=call.announce, reraise=True
        )
        return await retrying(call.again, call_next)


class _Call:
    """One call under way: how often the model was asked, and for which failures."""

    def __init__(self, layer: Retry, request: ChatRequest) -> None:
        self._layer, self._request = layer, request
        self._number = request.attempt - 1
        self._kinds: Counter[type[ModelError]] = Counter(request.kinds)
        self._delay = 0.0
        self.failed: ModelError | None = None

    async def attempt(self, call_next: CallNext) -> ChatResponse:
        self._number += 1
        try:
            return await call_next(replace(self._request, attempt=self._number))
        except ModelError as error:
            error.attempt = self._number
            if isinstance(error, CircuitOpenError):
                error.kinds = self._kinds
            raise

    async def again(self, call_next: CallNext) -> ChatResponse:
        """What tenacity repeats; its first time is the attempt that was made before it, and failed."""
        failed, self.failed = self.failed, None
        if failed is not None:
            raise failed
        return await self.attempt(call_next)

    def may_pass(self, error: BaseException) -> bool:
        """Whether asking again may help: the kind, the count, and the time that is left."""
        if not isinstance(error, ModelError) or isinstance(error, CircuitOpenError) or self._number >= self._layer.settings.max_attempts:
            return False
        self._kinds[type(error)] += 1
        if error.retries is not None and self._kinds[type(error)] > error.retries:
            return False
        if error.retry_after is not None and error.retry_after > LONGEST_PAUSE:
            return False
        self._delay = backoff(self._number, self._layer.settings) if error.retry_after is None else pause(error.retry_after)
        return self._request.left is None or self._delay < self._request.left()

    def wait(self, _state: tenacity.RetryCallState) -> float:
        return self._delay

    def announce(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        request = self._request
        self._layer.emit(
            CallRetried(
                task=request.task, agent=request.agent, model=request.model.model, attempt=self._number, delay_s=self._delay,
                error=type(error).__name__,
            )
        )  # fmt: skip


def retry_with_backoff(
    max_attempts: int = 4,
    base_delay: float = 1.0,
    max_delay: float = 60.0,
    *,
    retry_on: type[Exception] | tuple[type[Exception], ...] = Exception,
) -> Callable[[F], F]:
    """A decorator that calls a sync or async function again when it fails, up to `max_attempts` times in all; delays in seconds, full jitter.

    An exception with `retry_after` (seconds) is waited for that long, up to two minutes; one of ours that no repetition helps
    (`ModelError.retries` 0, such as a wrong key) is raised at once. The last exception is raised as it is.

    ::

        @retry_with_backoff(max_attempts=3, base_delay=0.5)
        async def fetch(url): ...
    """
    settings = RetrySpec(max_attempts=max_attempts, base_delay=base_delay, max_delay=max_delay)

    def may_pass(error: BaseException) -> bool:
        wanted = getattr(error, "retry_after", None)
        too_long = isinstance(wanted, (int, float)) and wanted > LONGEST_PAUSE
        return isinstance(error, retry_on) and getattr(error, "retries", None) != 0 and not too_long

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        wanted = getattr(error, "retry_after", None)
        return pause(wanted) if isinstance(wanted, (int, float)) and wanted >= 0 else backoff(state.attempt_number, settings)

    options: dict[str, Any] = {
        "stop": tenacity.stop_after_attempt(max_attempts), "wait": wait, "retry": tenacity.retry_if_exception(may_pass), "reraise": True,
    }  # fmt: skip

    def decorate(function: F) -> F:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def again(*arguments: Any, **named: Any) -> Any:
                return await tenacity.AsyncRetrying(sleep=clock().sleep, **options)(function, *arguments, **named)

            return again  # type: ignore[return-value]  # a decorator keeps the function's type

        @functools.wraps(function)
        def again_sync(*arguments: Any, **named: Any) -> Any:
            return tenacity.Retrying(sleep=clock().sleep_blocking, **options)(function, *arguments, **named)

        return again_sync  # type: ignore[return-value]  # as above

    return decorate
