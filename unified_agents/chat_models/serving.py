"""The embedded model as an OpenAI-compatible server on 127.0.0.1, for any client that takes a `base_url`.

A small server of ours stands in front of llama.cpp's: tools and JSON answers are rewritten for the model, and everything that it cannot
do is answered in OpenAI's error shape.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
from aiohttp import web

from unified_agents.chat_models import ToolCall, embedded
from unified_agents.chat_models.rewriting import Rewritten, read_back, rewrite
from unified_agents.errors import Problem, SpecError, UnifiedAgentsError

_MODEL = f"local/{embedded.NAME}"
_NAMES = frozenset({embedded.NAME, _MODEL})
_REWRITTEN = frozenset(
    {"messages", "tools", "tool_choice", "parallel_tool_calls", "response_format", "max_tokens", "max_completion_tokens"}
)
_MAX_BODY = 1 << 24
_LLAMA = web.AppKey("llama", aiohttp.ClientSession)
_ERROR_TYPES = {404: "not_found_error", 501: "not_implemented_error"}


class _RefusedError(Exception):
    """A request that is answered with an error; `str` is for the one who sent it."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


async def serve(port: int, ready: Callable[[str], None]) -> None:
    """Serve until cancelled; `ready` gets the base_url once the model is loaded. Awaited on the engine's loop.

    Raises:
        SpecError: the port cannot be listened on.
    """
    runner = web.AppRunner(application(), access_log=None, shutdown_timeout=0.2, handler_cancellation=True)
    await runner.setup()
    try:
        await _listen(runner, port)
        await embedded.EmbeddedModel().load()
        ready(f"http://127.0.0.1:{runner.addresses[0][1]}/v1")
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, port: int) -> None:
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
    except OSError as error:
        said = (error.strerror or str(error)).split(":")[-1].strip()
        raise SpecError(
            [Problem("--port", f"127.0.0.1:{port} cannot be used ({said}); name another one, 0 for any")], "the arguments"
        ) from error


def application() -> web.Application:
    """The server's routes; the model is loaded at the first request that needs it."""
    app = web.Application(client_max_size=_MAX_BODY, middlewares=[_in_openai_shape])
    app.cleanup_ctx.append(_client)
    app.router.add_post("/v1/chat/completions", _chat)
    app.router.add_post("/v1/embeddings", _embeddings)
    app.router.add_get("/v1/models", _models)
    app.router.add_get("/v1/models/{name:.+}", _model)
    app.router.add_get("/health", _health)
    return app


async def _client(app: web.Application) -> Any:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        app[_LLAMA] = session
        yield


@web.middleware
async def _in_openai_shape(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """Every failure as `{"error": {"message", "type", "param", "code"}}`."""
    try:
        return await handler(request)
    except _RefusedError as error:
        return _error(error.status, str(error), error.code)
    except web.HTTPException as error:
        offered = "POST /v1/chat/completions, GET /v1/models, GET /health"
        message = (
            f"{request.method} {request.path}: {error.reason}; this server offers {offered}" if error.status in (404, 405) else error.reason
        )
        return _error(error.status, message)
    except (aiohttp.ClientError, UnifiedAgentsError, ValueError) as error:
        return _error(500, f"the model failed: {type(error).__name__}: {error}")


def _error(status: int, message: str, code: str | None = None) -> web.Response:
    kind = _ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return web.json_response({"error": {"message": message, "type": kind, "param": None, "code": code}}, status=status)


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _models(_: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [_card()]})


async def _model(request: web.Request) -> web.Response:
    _check_model(request.match_info["name"])
    return web.json_response(_card())


def _card() -> dict[str, Any]:
    return {"id": embedded.NAME, "object": "model", "created": 0, "owned_by": "unified-agents"}


async def _embeddings(_: web.Request) -> web.Response:
    raise _RefusedError(501, "this model makes no embeddings")


def _check_model(name: Any) -> None:
    if name not in _NAMES:
        raise _RefusedError(
            404, f"there is no model {name!r} here; there is one: {_MODEL} ({embedded.NAME!r} for short)", "model_not_found"
        )


async def _chat(request: web.Request) -> web.StreamResponse:
    body = await _body(request)
    wire = _rewritten(body)
    stream = bool(body.get("stream"))
    sent = _sent(body, wire, stream=stream and not wire.structured)
    address = await embedded.EmbeddedModel().load()
    async with request.app[_LLAMA].post(f"{address}/v1/chat/completions", json=sent) as answer:
        if answer.status != 200:
            raise _refusal(answer.status, await answer.read())
        if sent["stream"]:
            return await _passed_on(request, answer)
        document = _answered(await answer.json(), wire)
    return await _as_stream(request, document, body) if stream else web.json_response(document)


async def _body(request: web.Request) -> dict[str, Any]:
    """The request, as far as we read it ourselves; the rest is llama.cpp's to check."""
    try:
        body = json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise _RefusedError(400, f"the body is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise _RefusedError(400, "the body must be a JSON object")
    _check_model(body.get("model"))
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise _RefusedError(400, "messages must be a list of at least one message")
    if "functions" in body or "function_call" in body:
        raise _RefusedError(400, "functions and function_call are not read here: use tools and tool_choice")
    return body


def _rewritten(body: Mapping[str, Any]) -> Rewritten:
    most = body.get("max_completion_tokens", body.get("max_tokens"))
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
        raise _RefusedError(400, f"max_tokens: found {most!r}, expected a whole number from 1")
    try:
        return rewrite(body["messages"], body.get("tools") or (), body.get("response_format"), most, body.get("tool_choice") or "auto")
    except ValueError as error:
        raise _RefusedError(400, str(error)) from error


def _sent(body: Mapping[str, Any], wire: Rewritten, *, stream: bool) -> dict[str, Any]:
    """The request as llama.cpp gets it."""
    rest = {key: value for key, value in body.items() if key not in _REWRITTEN}
    if not stream:
        rest.pop("stream_options", None)
    sent = {**embedded.sampling(rest, wire), "messages": wire.messages, "stream": stream, "model": embedded.NAME}
    if wire.max_tokens is not None:
        sent["max_tokens"] = wire.max_tokens
    return {**sent, "response_format": wire.response_format} if wire.structured else sent


def _refusal(status: int, raw: bytes) -> _RefusedError:
    """llama.cpp's error in OpenAI's words, so that every client knows an overflow when it meets one."""
    try:
        error = json.loads(raw)["error"]
        message, kind = str(error["message"]), error.get("type")
    except (ValueError, KeyError, TypeError):
        return _RefusedError(500, "the model failed")
    if kind == "exceed_context_size_error":
        size = f"maximum context length is {error.get('n_ctx')} tokens, the prompt has {error.get('n_prompt_tokens')}"
        return _RefusedError(400, f"This model's {size}.", "context_length_exceeded")
    return _RefusedError(status, message)


def _answered(document: dict[str, Any], wire: Rewritten) -> dict[str, Any]:
    """The completion with tool calls and JSON read back."""
    choices = [_choice(choice, wire) for choice in document["choices"]]
    known: dict[str, Any] = {key: document[key] for key in ("id", "object", "created", "usage") if key in document}
    return {**known, "model": embedded.NAME, "choices": choices}


def _choice(choice: Mapping[str, Any], wire: Rewritten) -> dict[str, Any]:
    answer = read_back(choice["message"].get("content") or "", wire)
    message: dict[str, Any] = {"role": "assistant", "content": answer.text if not answer.tool_calls else None}
    if answer.tool_calls:
        message["tool_calls"] = [_call(call) for call in answer.tool_calls]
    reason = "tool_calls" if answer.tool_calls else choice.get("finish_reason")
    return {"index": choice.get("index", 0), "message": message, "logprobs": choice.get("logprobs"), "finish_reason": reason}


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


async def _passed_on(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    """llama.cpp's own stream, as it comes."""
    response = await _event_stream(request)
    async for chunk in answer.content.iter_any():
        await response.write(chunk)
    await response.write_eof()
    return response


async def _as_stream(request: web.Request, document: dict[str, Any], body: Mapping[str, Any]) -> web.StreamResponse:
    """A whole answer as one chunk: rewritten answers are only known once they are complete."""
    response = await _event_stream(request)
    usage = document.pop("usage", None)
    chunks = [{**document, "object": "chat.completion.chunk", "choices": [_delta(choice) for choice in document["choices"]]}]
    if (body.get("stream_options") or {}).get("include_usage"):
        chunks.append({**document, "object": "chat.completion.chunk", "choices": [], "usage": usage})
    for chunk in [*map(json.dumps, chunks), "[DONE]"]:
        await response.write(f"data: {chunk}\n\n".encode())
    await response.write_eof()
    return response


async def _event_stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    return response


def _delta(choice: Mapping[str, Any]) -> dict[str, Any]:
    message = dict(choice["message"])
    if "tool_calls" in message:
        message["tool_calls"] = [{"index": index, **call} for index, call in enumerate(message["tool_calls"])]
    return {"index": choice["index"], "delta": message, "finish_reason": choice["finish_reason"]}
