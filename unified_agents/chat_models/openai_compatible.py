"""Every provider with an OpenAI-compatible endpoint: one attempt is one request, and the answer is looked at before it is believed."""

from __future__ import annotations

import json
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from functools import cache, partial
from typing import Any, NoReturn

import aiohttp
import httpx
import openai
import openai.resources.chat  # the SDK would load it inside the first request: half a second on the engine's loop, within that attempt's timeout
from aiohttp.abc import AbstractResolver, ResolveResult
from httpx_aiohttp import AiohttpTransport

from unified_agents import errors
from unified_agents.chat_models import ChatRequest, ChatResponse, ToolCall, Usage, clean_text
from unified_agents.chat_models.deltas import Pieces
from unified_agents.chat_models.providers import HIDDEN, ModelConfig, is_link_local, without_secrets
from unified_agents.clock import clock
from unified_agents.engine import engine

_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_OVERFLOW = ("maximum context length", "exceeds the available context size")  # OpenAI's and vLLM's words, llama.cpp's
_MAX_DETAIL = 300


class _WithoutSecrets(logging.Filter):
    """Keeps keys out of the SDK's debug log, which shows `extra_headers` and `extra_body` as they are sent."""

    def __init__(self) -> None:
        super().__init__()
        self._secrets: set[str] = set()

    def know(self, config: ModelConfig) -> None:
        """Hide this model's secrets from now on; costs nothing while nobody looks."""
        if _sdk_logger.isEnabledFor(logging.DEBUG):
            self._secrets.update(_sent_secrets(config))

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = _without(record.getMessage(), self._secrets), ()
        return True


_sdk_logger = logging.getLogger("openai._base_client")
_log = _WithoutSecrets()
_sdk_logger.addFilter(_log)


class OpenAICompatibleModel:
    """Calls `POST {base_url}/chat/completions` through the OpenAI SDK with its retries off.

    Clients are shared per base_url and key for the life of the process, so that connections stay open; certificates are read once for all of them.
    """

    async def __call__(self, request: ChatRequest) -> ChatResponse:
        """The answer to one request.

        Raises:
            ModelError: one of its kinds, for whatever went wrong; the SDK's own error is its `__cause__`.
        """
        try:
            return await self._ask(request)
        except errors.ModelError as error:
            _hide_secrets(error, request.model)
            raise

    async def _ask(self, request: ChatRequest) -> ChatResponse:
        config = request.model
        try:
            raw = await _completion(request)
        except openai.APIError as error:
            _raise(error, config)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:  # the SDK's JSON decoder lets its own errors through
            raise errors.BadResponseError(f"{config.model} answered with something that is no JSON", model=config.model) from error
        return _hushed(parse_completion(raw, config.model), config)


async def _completion(request: ChatRequest) -> Any:
    """The chat completion, in one piece or put together from a stream."""
    config = request.model
    _log.know(config)
    create: Callable[..., Awaitable[Any]] = partial(
        _client(config).chat.completions.create, **_body(request), extra_headers=_headers(config), extra_query=_query(config)
    )
    if request.on_text is None:
        return await create()
    on_text = request.on_text
    pieces = Pieces(config.model, lambda text: on_text(without_secrets(text, [config])))
    try:
        async with await create(stream=True, stream_options={"include_usage": True}) as stream:
            async for chunk in stream:
                pieces.take(chunk)
    except httpx.HTTPError as error:  # the SDK translates what breaks before the first byte, not what breaks after it
        raise openai.APIConnectionError(request=error.request) from error
    return pieces.whole


def _hushed(response: ChatResponse, config: ModelConfig) -> ChatResponse:
    """The answer without our key, should the provider echo it: it would stand in events, journal and output."""
    calls = tuple(replace(call, arguments=without_secrets(call.arguments, [config])) for call in response.tool_calls)
    return replace(response, text=without_secrets(response.text, [config]), tool_calls=calls)


def _body(request: ChatRequest) -> dict[str, Any]:
    config = request.model
    body: dict[str, Any] = {"model": config.name, "messages": list(request.messages), **config.sampling}
    if request.tools:
        body["tools"] = list(request.tools)
    if request.tools and request.tool_choice is not None:
        body["tool_choice"] = request.tool_choice
    if request.response_format is not None:
        body["response_format"] = request.response_format
    if config.extra_body:
        body["extra_body"] = dict(config.extra_body)
    return body


def _headers(config: ModelConfig) -> dict[str, Any]:
    headers: dict[str, Any] = {name: value.get_secret_value() for name, value in config.extra_headers.items()}
    if config.api_key is None and not any(name.lower() == "authorization" for name in headers):
        headers["Authorization"] = openai.Omit()  # the SDK insists on a key; none was given, so none is sent
    return headers


def _query(config: ModelConfig) -> dict[str, str]:
    return {"api-version": config.api_version} if config.api_version else {}


_clients: dict[tuple[int, str, str], openai.AsyncOpenAI] = {}


def _client(config: ModelConfig) -> openai.AsyncOpenAI:
    """The shared client of this base_url and key. Runs on the engine's loop, so it needs no lock."""
    key = config.api_key.get_secret_value() if config.api_key else ""
    place = (id(engine()), config.base_url, key)
    if place not in _clients:
        client = openai.AsyncOpenAI(
            api_key=key or "unused",
            base_url=config.base_url,
            max_retries=0,
            timeout=None,
            http_client=_http_client(),
            organization="",
            project="",
        )
        _clients[place] = client
        engine().on_close(client.close)
    return _clients[place]


def _http_client() -> httpx.AsyncClient:
    """No redirects (a key goes only to the host it was written beside), no limit on connections, no timeout: those are ours to set."""

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, resolver=_GuardedResolver(), ssl=transport.ssl_context))

    transport = AiohttpTransport(client=session, verify=_trusted(*map(os.environ.get, ("SSL_CERT_FILE", "SSL_CERT_DIR"))))
    return openai.DefaultAioHttpClient(transport=transport, follow_redirects=False, timeout=None)


@cache
def _trusted(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    """The certificates that are trusted, which the two variables name to httpx: to read them takes more than 20 ms, on the engine's loop."""
    return httpx.create_ssl_context()


class _GuardedResolver(AbstractResolver):
    """Resolves names, and refuses link-local answers: a host name may point at the cloud's metadata service."""

    def __init__(self) -> None:
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        allowed = [item for item in found if not is_link_local(item["host"])]
        if found and not allowed:
            raise OSError(f"{host} resolves to a link-local address, which is never called")
        return allowed

    async def close(self) -> None:
        await self._inner.close()


def parse_completion(raw: Any, model: str) -> ChatResponse:
    """A validated answer from what the endpoint sent with status 200.

    Raises:
        BadResponseError: no chat completion.
        ContentFilterError: the provider withheld the content.
    """
    choices = getattr(raw, "choices", None)
    if not isinstance(choices, list) or not choices:
        raise errors.BadResponseError(f"{model} answered with status 200 but no chat completion: {_short(raw)}", model=model, status=200)
    message = getattr(choices[0], "message", None)
    content = getattr(message, "content", None)
    if not hasattr(message, "content") or not (content is None or isinstance(content, str)):
        raise errors.BadResponseError(f"{model} answered with a choice that holds no message", model=model, status=200)
    reason = getattr(choices[0], "finish_reason", None)
    reason = reason if isinstance(reason, str) else None
    refusal = getattr(message, "refusal", None)
    if reason == "content_filter" or (refusal and not content):
        raise errors.ContentFilterError(f"{model} withheld its answer: {refusal or 'content filter'}", model=model, status=200)
    return ChatResponse(
        text=clean_text(content or ""), model=model, tool_calls=_tool_calls(message, model), finish_reason=reason, usage=_usage(raw),
        served=served if isinstance(served := getattr(raw, "model", None), str) else None,
    )  # fmt: skip


def _tool_calls(message: Any, model: str) -> tuple[ToolCall, ...]:
    calls = getattr(message, "tool_calls", None) or []
    made = [_tool_call(call) for call in calls] if isinstance(calls, list) else [None]
    if None in made:
        raise errors.BadResponseError(f"{model} answered with tool calls that are none", model=model, status=200)
    return tuple(call for call in made if call is not None)


def _tool_call(call: Any) -> ToolCall | None:
    name, arguments = (getattr(getattr(call, "function", None), field, None) for field in ("name", "arguments"))
    if not isinstance(name, str) or not isinstance(arguments, (str, type(None))):
        return None
    call_id = getattr(call, "id", None)
    return ToolCall(id=call_id if isinstance(call_id, str) else "", name=name, arguments=arguments or "{}")


def _usage(raw: Any) -> Usage:
    usage = getattr(raw, "usage", None)
    return Usage(_count(getattr(usage, "prompt_tokens", None)), _count(getattr(usage, "completion_tokens", None)))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


_BY_STATUS: Mapping[int, tuple[type[errors.ModelError], str]] = {
    401: (errors.AuthenticationError, "the key was not accepted"),
    402: (errors.QuotaExceededError, "the account has no credit left"),
    403: (errors.PermissionDeniedError, "the key may not use this model"),
    404: (errors.NotFoundError, "there is no such model, or base_url has no such path"),
    408: (errors.InternalServerError, "the provider gave up waiting"),
    429: (errors.RateLimitError, "too many requests"),
}


def _raise(error: openai.APIError, config: ModelConfig) -> NoReturn:
    """Our error for the SDK's."""
    if isinstance(error, openai.APIConnectionError):  # its timeouts too: none is set here, so they are connections that broke
        cause = str(error.__cause__ or error).strip() or type(error.__cause__).__name__
        raise errors.APIConnectionError(f"no connection to {config.model} at {config.base_url}: {cause}", model=config.model) from error
    if not isinstance(error, openai.APIStatusError):
        raise errors.BadResponseError(f"{config.model} sent an answer that cannot be read: {error.message}", model=config.model) from error
    kind, said = _kind(error)
    detail = _detail(error, config)
    raise kind(
        f"{config.model}: HTTP {error.status_code}, {said}{_advice(kind, config)}{detail}",
        model=config.model,
        status=error.status_code,
        retry_after=retry_after(error.response.headers, clock().wall()),
    ) from error


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that a provider asks to wait: `retry-after-ms`, or Retry-After as seconds or as a date (RFC 9110, 10.2.3). None when it says nothing that can be read.

    `now` is in seconds since 1970; a date that has passed is 0.
    """
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        seconds = _seconds(headers.get(name), unit, now)
        if seconds is not None and 0 <= seconds < float("inf"):
            return seconds
    return None


def _seconds(said: str | None, unit: int, now: float) -> float | None:
    if said is None:
        return None
    try:
        return float(said) / unit
    except ValueError:
        return _seconds_until(said, now)


def _seconds_until(date: str, now: float) -> float:
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - now)
    except (ValueError, OverflowError):
        return -1.0


def _kind(error: openai.APIStatusError) -> tuple[type[errors.ModelError], str]:
    status, code, text = error.status_code, str(error.code or ""), str(error.message).lower()
    if status == 429 and (code in _QUOTA_CODES or "insufficient_quota" in text):
        return errors.QuotaExceededError, "the account's quota is used up"
    if code == "context_length_exceeded" or (status in (400, 413) and any(words in text for words in _OVERFLOW)):
        return errors.ContextOverflowError, "the request does not fit into the model's context window"
    if code in ("content_filter", "content_policy_violation"):
        return errors.ContentFilterError, "the provider's content filter stopped the request"
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return errors.InternalServerError, "the provider failed"
    if 300 <= status < 400:
        return errors.BadRequestError, "base_url answers with a redirect, and keys are not sent on to another address: write the new one"
    return errors.BadRequestError, "the provider calls the request wrong"


def _advice(kind: type[errors.ModelError], config: ModelConfig) -> str:
    """What the person at the keyboard can do; names the variable, never the key."""
    if kind is errors.AuthenticationError:
        if config.api_key is None:
            return " (none was sent: write api_key beside base_url)"
        return f" (check {config.key_variable} or api_key)" if config.key_variable else " (check api_key)"
    return ""


def _detail(error: openai.APIStatusError, config: ModelConfig) -> str:
    """The provider's own words, short and on one line."""
    body = error.body if isinstance(error.body, Mapping) else {}
    text = scrubbed(" ".join(str(body.get("message") or "").split()), config)
    return f": {text[:_MAX_DETAIL]}" if text else ""


def _short(raw: Any) -> str:
    text = " ".join((raw if isinstance(raw, str) else type(raw).__name__).split())
    return repr(text[:80]) if isinstance(raw, str) else "an object without choices"


def scrubbed(text: str, config: ModelConfig) -> str:
    """`text` without any secret of ours: providers echo keys."""
    return _without(text, _sent_secrets(config))


def _sent_secrets(config: ModelConfig) -> list[str]:
    """All that may be one: headers are written as secrets, whatever their names."""
    return [*config.secrets, *(value.get_secret_value() for value in config.extra_headers.values())]


def _without(text: str, secrets: Iterable[str]) -> str:
    for secret in filter(None, secrets):
        text = text.replace(secret, HIDDEN)
    return text


def _hide_secrets(error: BaseException, config: ModelConfig) -> None:
    """Scrub an error and what caused it; the SDK's frames are dropped, since their locals hold headers and key in clear."""
    error.args = tuple(scrubbed(arg, config) if isinstance(arg, str) else arg for arg in error.args)
    cause = error.__cause__ or error.__context__
    while cause is not None:
        cause.__traceback__ = None
        cause.args = tuple(scrubbed(str(arg), config) for arg in cause.args)
        for field in ("message", "body"):
            if hasattr(cause, field):
                setattr(cause, field, scrubbed(str(getattr(cause, field)), config))
        cause = cause.__cause__ or cause.__context__
