"""Models behind one small protocol: a request in the OpenAI chat format in, an answer out.

`ChatModel` is what an endpoint is to the rest of the code; `openai_compatible.py`, `embedded.py` and `scripted.py` are the three there are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from unified_agents.chat_models.providers import ModelConfig
from unified_agents.errors import EmptyAnswerError

Message = Mapping[str, Any]
"""One message in the OpenAI chat format: `{"role": …, "content": …}`."""


@dataclass(frozen=True)
class Usage:
    """Tokens as the provider reported them; None is unknown, never 0."""

    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True)
class ToolCall:
    """A model's wish to call a tool; `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class ChatRequest:
    """One model call. `fallbacks` are the models to ask next, `conversation` is its conversation's key, `turn` counts calls within it from 1.

    `attempt` counts the requests to one model for this call from 1, `kinds` the failures before it by their class; `left` says how
    many seconds the task still has (None: no end). `on_text`, where it is set, is given the answer's text piece by piece while it comes.
    """

    model: ModelConfig
    messages: Sequence[Message]
    fallbacks: tuple[ModelConfig, ...] = ()
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: Any = None
    response_format: Mapping[str, Any] | None = None
    task: str = ""
    agent: str = ""
    conversation: str = ""
    turn: int = 1
    attempt: int = 1
    kinds: Mapping[Any, int] = field(default_factory=dict, repr=False, compare=False)
    left: Callable[[], float] | None = field(default=None, repr=False, compare=False)
    on_text: Callable[[str], None] | None = field(default=None, repr=False, compare=False)
    fallback_from: str = ""
    """The model that was to answer, when this is one of its `fallbacks`."""


@dataclass(frozen=True)
class ChatResponse:
    """The model's answer. `text` has lost outer white space; `model` is PROVIDER/NAME of the one that answered."""

    text: str
    model: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    served: str | None = None
    """The model's name as its provider reports it, often with a version."""

    @property
    def truncated(self) -> bool:
        """Whether the answer was cut off at `max_tokens`."""
        return self.finish_reason == "length"


@runtime_checkable
class ChatModel(Protocol):
    """Anything that answers a ChatRequest. Called on the engine's loop; failures are `ModelError`s."""

    async def __call__(self, request: ChatRequest) -> ChatResponse:
        """The answer to one request, with exactly one attempt."""
        ...


def clean_text(text: str) -> str:
    """An answer without outer white space, and without lone surrogates, which no file and no socket takes."""
    return text.encode("utf-8", "replace").decode("utf-8").strip()


def monotonic() -> float:
    """The clock of the model layers, in seconds; replaced in tests."""
    return time.monotonic()


async def answer(models: Mapping[str, ChatModel], request: ChatRequest) -> ChatResponse:
    """What the request's model answers: the innermost of all layers.

    Raises:
        EmptyAnswerError: neither text nor tool calls.
    """
    response = await models[request.model.alias](request)
    if isinstance(response, ChatResponse) and not response.text and not response.tool_calls:
        cut = " before max_tokens was reached" if response.truncated else ""
        raise EmptyAnswerError(f"{request.model.model} answered with no text{cut}", model=request.model.model)
    return response
