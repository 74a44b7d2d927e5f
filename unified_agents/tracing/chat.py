"""A span for each attempt at a model, the metrics of it, and what of its content may be shown."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.metrics import Histogram, MeterProvider, NoOpMeterProvider
from opentelemetry.trace import INVALID_SPAN, NoOpTracerProvider, Span, SpanKind, Status, StatusCode, Tracer, TracerProvider, use_span

from unified_agents._version import __version__
from unified_agents.chat_models import ChatRequest, ChatResponse, Message
from unified_agents.chat_models.providers import ModelConfig
from unified_agents.middleware import CallNext
from unified_agents.tracing import names

logger = logging.getLogger("unified_agents")

CAPTURE_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
CANCELLED = "Cancelled"
_SHORTEST_SECRET = 8  # characters: below it a key is a placeholder such as `none`, and every text holds it


@dataclass(frozen=True)
class Instruments:
    """What spans and metrics are made with."""

    tracer: Tracer
    duration: Histogram
    tokens: Histogram

    def begin(self, name: str, **options: Any) -> Span:
        """A new span; one that records nothing when a span processor of the user's fails, since tracing never fails a run."""
        try:
            return self.tracer.start_span(name, **options)
        except Exception:
            logger.exception("a span processor failed on %s; the run goes on", name)
            return INVALID_SPAN


@lru_cache(maxsize=4)
def instruments(tracers: TracerProvider | None, meters: MeterProvider | None) -> Instruments:
    """The instruments of two providers; None is one that the process has not set."""
    meter = (meters or NoOpMeterProvider()).get_meter(names.SCOPE, __version__)
    return Instruments(
        (tracers or NoOpTracerProvider()).get_tracer(names.SCOPE, __version__),
        meter.create_histogram(
            names.DURATION_METRIC, "s", "GenAI operation duration.", explicit_bucket_boundaries_advisory=names.DURATION_BUCKETS
        ),
        meter.create_histogram(
            names.TOKEN_METRIC, "{token}", "Tokens of input and output.", explicit_bucket_boundaries_advisory=names.TOKEN_BUCKETS
        ),
    )


def finish(span: Span, error: str | None = None, said: str | None = None) -> None:
    """End a span; `error` is the kind of what it failed with, `said` its words, where content may be shown."""
    if error is not None:
        span.set_attribute(names.ERROR_TYPE, error)
        span.set_status(Status(StatusCode.ERROR, said))
    try:
        span.end()
    except Exception:
        logger.exception("a span processor failed; the run goes on")


@dataclass(frozen=True)
class Content:
    """What may be shown of prompts, answers, tools' arguments and results, and errors' words: all or nothing, and never a secret."""

    secrets: tuple[str, ...] = field(repr=False)

    @classmethod
    def of(cls, models: Iterable[ModelConfig]) -> Content | None:
        """None unless the environment asks for content; `models` have the secrets."""
        if os.environ.get(CAPTURE_VARIABLE, "").strip().lower() != "true":
            return None
        found = [secret for model in models for secret in (model.api_key, *model.extra_headers.values()) if secret is not None]
        return cls(tuple({secret.get_secret_value() for secret in found if len(secret.get_secret_value()) >= _SHORTEST_SECRET}))

    def text(self, value: Any) -> str:
        """A text as it is, anything else as JSON, without secrets."""
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        for secret in self.secrets:
            text = text.replace(secret, "…")
        return text

    def asked(self, messages: Sequence[Message]) -> str:
        """The messages of a request in the shape of the conventions."""
        return self.text([{"role": str(message.get("role")), "parts": _parts(message)} for message in messages])

    def answered(self, response: ChatResponse) -> str:
        """An answer likewise."""
        calls = [{"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments} for call in response.tool_calls]
        parts = [*([_text_part(response.text)] if response.text else []), *calls]
        return self.text([{"role": "assistant", "parts": parts, "finish_reason": response.finish_reason or ""}])


def _parts(message: Message) -> list[dict[str, Any]]:
    content = message.get("content")
    if message.get("role") == "tool":
        return [{"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content}]
    calls = [
        {"type": "tool_call", "id": call.get("id"), "name": call["function"]["name"], "arguments": call["function"]["arguments"]}
        for call in message.get("tool_calls") or ()
    ]
    return [*([_text_part(content)] if content else []), *calls]


def _text_part(content: Any) -> dict[str, Any]:
    return {"type": "text", "content": content}


@dataclass(frozen=True)
class ChatSpans:
    """A layer: each attempt is a span, which is current while the model is asked.

    Outside of Timeout, so that an attempt that took too long says so; inside of everything that may make another attempt. `common` are attributes of all spans.
    """

    instruments: Instruments
    content: Content | None = None
    common: Mapping[str, Any] = field(default_factory=dict)

    async def __call__(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        """The answer, unchanged."""
        where, started = _where(request.model), time.perf_counter()
        attributes = {**where, **self.common, **self._of(request)}
        span = self.instruments.begin(f"chat {request.model.name}", kind=SpanKind.CLIENT, attributes=attributes)
        with use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False):
            try:
                response = await call_next(request)
            except BaseException as error:
                self._failed(span, error, where, started)
                raise
        self._answered(span, response, where, started)
        return response

    def _of(self, request: ChatRequest) -> dict[str, Any]:
        in_run = bool(request.conversation)
        said = {
            names.TASK: request.task if in_run else "",
            names.AGENT: request.agent if in_run else "",
            names.ATTEMPT: request.attempt,
            names.FALLBACK_FROM: request.fallback_from,
            names.INPUT_MESSAGES: self.content.asked(request.messages) if self.content else "",
        }
        return {name: value for name, value in said.items() if value}

    def _failed(self, span: Span, error: BaseException, where: Mapping[str, Any], started: float) -> None:
        kind = CANCELLED if isinstance(error, asyncio.CancelledError) else type(error).__name__
        self.instruments.duration.record(time.perf_counter() - started, {**where, names.ERROR_TYPE: kind})
        finish(span, kind, self.content.text(str(error)) if self.content else None)

    def _answered(self, span: Span, response: Any, where: Mapping[str, Any], started: float) -> None:
        if isinstance(response, ChatResponse):
            where = {**where, names.RESPONSE_MODEL: response.served or response.model.partition("/")[2] or response.model}
            self._describe(span, response, where)
        self.instruments.duration.record(time.perf_counter() - started, where)
        finish(span)

    def _describe(self, span: Span, response: ChatResponse, where: Mapping[str, Any]) -> None:
        """What the answer says of itself."""
        span.set_attribute(names.RESPONSE_MODEL, where[names.RESPONSE_MODEL])
        if response.finish_reason:
            span.set_attribute(names.FINISH_REASONS, (response.finish_reason,))
        counts = {"input": response.usage.input_tokens, "output": response.usage.output_tokens}
        for (kind, count), name in zip(counts.items(), (names.INPUT_TOKENS, names.OUTPUT_TOKENS), strict=True):
            if count is not None:
                span.set_attribute(name, count)
                self.instruments.tokens.record(count, {**where, names.TOKEN_TYPE: kind})
        if self.content is not None:
            span.set_attribute(names.OUTPUT_MESSAGES, self.content.answered(response))


def _where(model: ModelConfig) -> dict[str, Any]:
    """Which model is asked, and at which address: the attributes that spans and metrics share."""
    said: dict[str, Any] = {
        names.OPERATION: "chat",
        names.PROVIDER: names.PROVIDER_NAMES.get(model.provider, model.provider),
        names.REQUEST_MODEL: model.name,
    }
    parts = urlsplit(model.base_url)
    if parts.hostname:
        said[names.SERVER_ADDRESS] = parts.hostname
        said[names.SERVER_PORT] = parts.port or (443 if parts.scheme == "https" else 80)
    return said
