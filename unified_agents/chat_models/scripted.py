"""A model that answers from a script: for tests of a team, for documentation, and for trying things without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unified_agents import errors
from unified_agents.chat_models import ChatRequest, ChatResponse, Usage

Answer = str | ChatResponse | BaseException


class ScriptedModel:
    """Answers each task from a script, and keeps every request in `requests`.

    Args:
        answers: a mapping from task name to its answer or list of answers; or one list, used in the order of the calls; or a function
            from ChatRequest to an answer. An answer is text, a ChatResponse, or an exception to raise.

    A call that the script does not hold raises `NotFoundError`, naming the task: a script never repeats itself silently.

    Example:
        >>> model = ScriptedModel({"greet": "Hello!"})
    """

    def __init__(self, answers: Mapping[str, Answer | Sequence[Answer]] | Sequence[Answer] | Callable[[ChatRequest], Answer]) -> None:
        self.requests: list[ChatRequest] = []
        self._function = answers if callable(answers) else None
        self._by_task: dict[str, list[Answer]] = {}
        self._in_order: list[Answer] = []
        if isinstance(answers, Mapping):
            self._by_task = {task: _listed(script) for task, script in answers.items()}
        elif not callable(answers):
            self._in_order = _listed(answers)

    async def __call__(self, request: ChatRequest) -> ChatResponse:
        """The next answer of the script."""
        self.requests.append(request)
        answer = self._function(request) if self._function else self._next(request)
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, ChatResponse):
            return answer
        return ChatResponse(text=answer.strip(), model=request.model.model, finish_reason="stop", usage=Usage())

    def _next(self, request: ChatRequest) -> Answer:
        script = self._by_task.get(request.task, self._in_order)
        if not script:
            raise errors.NotFoundError(f"the script holds no further answer for task {request.task!r}", model=request.model.model)
        return script.pop(0)


def _listed(script: Any) -> list[Answer]:
    return [script] if isinstance(script, (str, ChatResponse, BaseException)) else list(script)
