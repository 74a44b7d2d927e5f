"""Fallback: the next model when one fails in a way that another may not; and patience when all circuits are open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from unified_agents.chat_models import ChatRequest, ChatResponse
from unified_agents.errors import CircuitOpenError, ModelError
from unified_agents.events import CallWaited, Event, ModelReplaced, ignore
from unified_agents.middleware import CallNext


@dataclass(frozen=True)
class Fallback:
    """Asks the request's model, then its `fallbacks`. Errors that another model would meet too (a wrong key, a bad request) are not passed on.

    When the circuit of every model that is left is open, the call waits for the first that may be tried again, as long as the task has time.
    """

    emit: Callable[[Event], None] = ignore

    async def __call__(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        """The first answer there is.

        Raises:
            ModelError: of the last model that was asked.
        """
        asked = [
            replace(request, fallbacks=()),
            *(
                replace(request, model=model, fallbacks=(), attempt=1, kinds={}, fallback_from=request.model.model)
                for model in request.fallbacks
            ),
        ]
        failed: ModelError | None = None
        while asked:
            waiting: list[tuple[ChatRequest, CircuitOpenError]] = []
            for position, one in enumerate(asked):
                try:
                    return await call_next(one)
                except CircuitOpenError as error:
                    waiting.append((replace(one, attempt=error.attempt, kinds=error.kinds), error))
                except ModelError as error:
                    if not error.next_model:
                        raise
                    failed = error
                    self._say(one, asked[position + 1 :] or [item for item, _ in waiting], error)
            asked = [one for one, _ in waiting]
            if waiting:
                await self._wait(min((error for _, error in waiting), key=lambda error: error.retry_after or 0), request, failed)
        assert failed is not None
        raise failed

    def _say(self, request: ChatRequest, following: list[ChatRequest], error: ModelError) -> None:
        if following:
            self.emit(
                ModelReplaced(
                    task=request.task, agent=request.agent, model=request.model.model, replacement=following[0].model.model,
                    error=type(error).__name__,
                )
            )  # fmt: skip

    async def _wait(self, circuit: CircuitOpenError, request: ChatRequest, failed: ModelError | None) -> None:
        """Until the circuit that is tried first may have changed.

        Raises:
            ModelError: the task ends before; what another model failed with, else the open circuit.
        """
        seconds, left = circuit.retry_after or 0.0, request.left() if request.left is not None else None
        if left is not None and circuit.probing and left > 0:
            seconds = min(seconds, left)  # the probe may end any moment
        elif circuit.changed is None or (left is not None and left <= seconds):
            raise failed or circuit
        assert circuit.changed is not None
        model = circuit.model or request.model.model
        self.emit(CallWaited(task=request.task, agent=request.agent, model=model, delay_s=seconds, reason="keeps failing"))
        await circuit.changed(seconds)
