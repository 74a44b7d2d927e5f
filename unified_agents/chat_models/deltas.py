"""A streamed answer: its chunks put together to what the same answer is in one piece."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from unified_agents import errors


class Pieces:
    """Takes the chunks of one streamed chat completion; `whole` is the completion. Text goes to `on_text` as it comes."""

    def __init__(self, model: str, on_text: Callable[[str], None]) -> None:
        self._model, self._on_text = model, on_text
        self._texts: list[str] = []
        self._refusals: list[str] = []
        self._calls: dict[int, SimpleNamespace] = {}
        self._reason: str | None = None
        self._usage: Any = None
        self._served: Any = None
        self._any = False

    def take(self, chunk: Any) -> None:
        """One chunk; what holds nothing of use is passed over, since providers send all kinds of extra ones."""
        self._usage = getattr(chunk, "usage", None) or self._usage
        self._served = self._served or getattr(chunk, "model", None)
        choices = getattr(chunk, "choices", None)
        if not isinstance(choices, list) or not choices:
            return
        self._any = True
        self._reason = getattr(choices[0], "finish_reason", None) or self._reason
        delta = getattr(choices[0], "delta", None)
        self._text(getattr(delta, "content", None))
        self._refusals += [refusal] if isinstance(refusal := getattr(delta, "refusal", None), str) else []
        for call in getattr(delta, "tool_calls", None) or ():
            self._call(call)

    def _text(self, text: Any) -> None:
        if isinstance(text, str) and text:
            self._texts.append(text)
            self._on_text(text)

    def _call(self, piece: Any) -> None:
        """A call comes in pieces: first its id and name, then its arguments."""
        made = self._calls.setdefault(
            getattr(piece, "index", 0) or 0, SimpleNamespace(id="", function=SimpleNamespace(name=None, arguments=""))
        )
        function = getattr(piece, "function", None)
        made.id = getattr(piece, "id", None) or made.id
        made.function.name = getattr(function, "name", None) or made.function.name
        made.function.arguments += getattr(function, "arguments", None) or ""

    @property
    def whole(self) -> Any:
        """The completion, in the shape of one that was not streamed.

        Raises:
            BadResponseError: there was no chunk of a completion.
            APIConnectionError: it broke off before its end.
        """
        if not self._any:
            raise errors.BadResponseError(f"{self._model} streamed no chat completion", model=self._model, status=200)
        if self._reason is None:
            raise errors.APIConnectionError(f"the answer of {self._model} broke off before its end", model=self._model)
        message = SimpleNamespace(
            content="".join(self._texts),
            refusal="".join(self._refusals) or None,
            tool_calls=[self._calls[index] for index in sorted(self._calls)],
        )
        return SimpleNamespace(
            choices=[SimpleNamespace(message=message, finish_reason=self._reason)], usage=self._usage, model=self._served
        )
