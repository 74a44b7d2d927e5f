"""CircuitBreaking: a model that keeps failing is left alone for a while. One breaker for each address, model and key of the process, or of `breakers`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from unified_agents.chat_models import ChatRequest, ChatResponse
from unified_agents.chat_models.providers import ModelConfig
from unified_agents.circuit_breaker import CircuitBreaker, Permit
from unified_agents.engine import shared
from unified_agents.errors import ModelError, QuotaExceededError
from unified_agents.events import CircuitClosed, CircuitHalfOpened, CircuitOpened, Event, ignore
from unified_agents.middleware import CallNext
from unified_agents.spec import CircuitBreakerSpec

QUOTA_PAUSE = 300.0
"""Seconds that a model is left alone when the account has nothing left: nobody pays within ten."""


@dataclass(frozen=True)
class CircuitBreaking:
    """Lets a call pass as the model's breaker allows, and tells the breaker what came of it (`ModelError.vote`)."""

    settings: CircuitBreakerSpec = field(default_factory=CircuitBreakerSpec)
    emit: Callable[[Event], None] = ignore
    breakers: dict[Any, CircuitBreaker] | None = None

    async def __call__(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        """The answer.

        Raises:
            CircuitOpenError: the model was not asked.
        """
        breaker = self.breaker(request.model)
        with self._watching(breaker):
            permit = breaker.acquire()
            try:
                response = await call_next(request)
            except BaseException as error:
                _vote(permit, error)
                raise
            permit.succeed()
            return response

    def check(self, model: ModelConfig) -> None:
        """Whether a call would be let through now: for a layer outside that would wait in vain.

        Raises:
            CircuitOpenError: it would not.
        """
        breaker = self.breaker(model)
        if not breaker.closed:
            with self._watching(breaker):
                breaker.check()

    def breaker(self, model: ModelConfig) -> CircuitBreaker:
        """The breaker of a model, address and key; with other settings it is another one."""
        key = ("circuit", *model.identity, self.settings)
        breakers = shared() if self.breakers is None else self.breakers
        if key not in breakers:
            breakers[key] = CircuitBreaker(
                self.settings.failure_threshold,
                self.settings.failure_rate,
                self.settings.window,
                self.settings.recovery_time,
                name=model.model,
            )
        found: CircuitBreaker = breakers[key]
        return found

    @contextmanager
    def _watching(self, breaker: CircuitBreaker) -> Iterator[None]:
        """Say in this run's events what the breaker does while the run uses it; several calls at once say it once."""
        tell = self._tell
        breaker.watchers[tell] += 1
        try:
            yield
        finally:
            breaker.watchers[tell] -= 1
            if not breaker.watchers[tell]:
                del breaker.watchers[tell]

    def _tell(self, model: str, state: str, seconds: float) -> None:
        if state == "open":
            self.emit(CircuitOpened(model=model, seconds=seconds))
        else:
            self.emit(CircuitClosed(model=model) if state == "closed" else CircuitHalfOpened(model=model))


def _vote(permit: Permit, error: BaseException) -> None:
    if isinstance(error, QuotaExceededError):
        permit.fail(QUOTA_PAUSE, at_once=True)
    elif isinstance(error, ModelError) and error.vote:
        permit.fail(error.retry_after or 0.0)
    else:
        permit.give_back()  # cancelled, or the model's health is not in question
