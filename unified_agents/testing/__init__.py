"""Test doubles that are part of the product: a scripted OpenAI-compatible server that looks at what reaches the wire.

::

    with ScriptedServer() as server:
        server.reply("TASK-ONE", "first answer")                 # requests whose text holds TASK-ONE
        server.reply("TASK-TWO", Reply(status=500), "second")    # fails once, then answers
        team = TeamSpec(..., models={"default": server.model()})
        run_team(team)
        assert [request.model for request in server.requests] == ["scripted", "scripted"]

A request that no rule answers gets HTTP 400 and fails the `with` block: a script never answers by accident.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from aiohttp import web
from typing_extensions import Self

from unified_agents.spec import ModelSpec

KEY = "test-key"


@dataclass(frozen=True)
class Reply:
    """What the server sends: a chat completion holding `text`, or whatever `status` and `body` say, after `delay` seconds.

    `drop` closes the connection instead of answering. `usage` None leaves the field out. `tool_calls` are those of `call(...)`.

    To a request that wants a stream the text comes in pieces, one for each word, or as `pieces` says; `cut` closes the connection after so many
    pieces, `stall` waits so many seconds before the last one.
    """

    text: str | None = None
    status: int = 200
    body: Any = None
    delay: float = 0.0
    drop: bool = False
    finish_reason: str | None = None
    tool_calls: Sequence[Any] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    pieces: Sequence[str] = ()
    cut: int | None = None
    stall: float = 0.0
    usage: Mapping[str, int] | None = field(default_factory=lambda: {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10})


@dataclass(frozen=True)
class Request:
    """One request as it reached the server. Times are seconds on the monotonic clock; `ended` is when the reply was sent, `status` what it said."""

    body: Mapping[str, Any]
    headers: Mapping[str, str]
    path: str
    query: str
    started: float
    ended: float
    status: int = 200

    @property
    def messages(self) -> list[Mapping[str, Any]]:
        """The messages of the request."""
        return list(self.body["messages"])

    @property
    def text(self) -> str:
        """The contents of all messages."""
        return _text(self.body)

    @property
    def model(self) -> str:
        """The model's name on the wire."""
        return str(self.body["model"])


def _text(body: Mapping[str, Any]) -> str:
    return "\n".join(str(message.get("content") or "") for message in body.get("messages", ()))


@dataclass
class _Rule:
    contains: str
    replies: list[Reply]
    forever: bool

    def take(self, text: str) -> Reply | None:
        if self.contains not in text or not self.replies:
            return None
        return self.replies[0] if self.forever and len(self.replies) == 1 else self.replies.pop(0)


class ScriptedServer:
    """An OpenAI-compatible server on loopback, in a thread; a context manager."""

    def __init__(self, strict: bool = True) -> None:
        self.requests: list[Request] = []
        self.unscripted: list[str] = []
        self._strict = strict
        self._rules: list[_Rule] = []
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._port = 0
        self._thread = threading.Thread(target=self._run, name="scripted-server", daemon=True)

    def reply(self, contains: str, *replies: str | Reply, forever: bool = False) -> Self:
        """Answer requests whose text holds `contains` with `replies` in turn; `forever` repeats the last one. Earlier rules go first."""
        self._rules.append(_Rule(contains, [Reply(text=r) if isinstance(r, str) else r for r in replies], forever))
        return self

    @property
    def base_url(self) -> str:
        """What to write as a model's base_url."""
        return f"http://127.0.0.1:{self._port}/v1"

    def model(self, **fields: Any) -> ModelSpec:
        """A model that asks this server."""
        return ModelSpec(**{"model": "openai/scripted", "base_url": self.base_url, "api_key": KEY, **fields})

    def asked(self, contains: str) -> list[Request]:
        """The requests whose text holds `contains`."""
        return [request for request in self.requests if contains in request.text]

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the scripted server did not start")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)
        if error is None and self._strict and self.unscripted:
            raise AssertionError(f"requests without a rule: {self.unscripted}")

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.run_until_complete(self._give_up())
            self._loop.close()

    async def _give_up(self) -> None:
        """End what is under way, such as answers that are delayed."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _serve(self) -> None:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._port = runner.addresses[0][1]
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        started, body = time.monotonic(), await request.json()
        reply = next((found for rule in self._rules if (found := rule.take(_text(body)))), None)
        if reply is None:
            self.unscripted.append(_text(body)[-200:])
            reply = Reply(status=400, body={"error": {"message": "unscripted request"}})
        record = Request(body, request.headers.copy(), request.path, request.query_string, started, float("inf"), reply.status)
        self.requests.append(record)
        position = len(self.requests) - 1
        await asyncio.sleep(reply.delay)
        self.requests[position] = replace(record, ended=time.monotonic())
        if reply.drop:
            assert request.transport is not None
            request.transport.close()
        if body.get("stream") and reply.status == 200 and reply.body is None:
            with contextlib.suppress(ConnectionResetError):  # whoever asked has gone
                return await _streamed(request, body, reply)
        return web.Response(status=reply.status, headers=reply.headers, body=_payload(reply), content_type="application/json")


async def _streamed(request: web.Request, body: Mapping[str, Any], reply: Reply) -> web.StreamResponse:
    """The reply as server-sent events, as OpenAI streams it."""
    response = web.StreamResponse(headers={**reply.headers, "Content-Type": "text/event-stream"})
    await response.prepare(request)
    chunks = _chunks(reply, bool((body.get("stream_options") or {}).get("include_usage")))
    for number, chunk in enumerate(chunks):
        if number == reply.cut:
            assert request.transport is not None
            request.transport.close()
            return response
        if reply.stall and number == len(chunks) - 1:
            await asyncio.sleep(reply.stall)
        await response.write(b"data: " + (chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode()) + b"\n\n")
    return response


def _chunks(reply: Reply, with_usage: bool) -> list[Any]:
    """The chunks of a stream: texts, tool calls with their arguments in two halves, the end, usage where it was asked for."""
    texts = list(reply.pieces) or re.findall(r"\s*\S+\s*", reply.text or "") or ([reply.text] if reply.text else [])
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": text} for text in texts]
    for index, made in enumerate(reply.tool_calls):
        name, arguments = made["function"]["name"], made["function"]["arguments"]
        half = len(arguments) // 2
        deltas.append(
            {
                "tool_calls": [
                    {"index": index, "id": made["id"], "type": "function", "function": {"name": name, "arguments": arguments[:half]}}
                ]
            }
        )
        deltas.append({"tool_calls": [{"index": index, "function": {"arguments": arguments[half:]}}]})
    reason = reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop")
    choices = [
        *({"index": 0, "delta": delta, "finish_reason": None} for delta in deltas),
        {"index": 0, "delta": {}, "finish_reason": reason},
    ]
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": "scripted"}
    usage = [{**head, "choices": [], "usage": dict(reply.usage)}] if with_usage and reply.usage is not None else []
    return [*({**head, "choices": [choice]} for choice in choices), *usage, b"[DONE]"]


def _payload(reply: Reply) -> bytes:
    if isinstance(reply.body, bytes):
        return reply.body
    if reply.body is not None:
        return json.dumps(reply.body).encode()
    if reply.status != 200:
        return json.dumps({"error": {"message": f"scripted status {reply.status}", "type": "scripted", "code": None}}).encode()
    return json.dumps(completion(reply.text, reply.finish_reason, reply.usage, reply.tool_calls)).encode()


def call(name: str, arguments: Any = None, call_id: str | None = None) -> dict[str, Any]:
    """A tool call for `Reply(tool_calls=[…])`; `arguments` as data, or as the text that the model wrote."""
    text = arguments if isinstance(arguments, str) else json.dumps({} if arguments is None else arguments)
    return {"id": call_id or f"call_{next(_ids)}", "type": "function", "function": {"name": name, "arguments": text}}


_ids = itertools.count(1)


def completion(
    text: str | None, finish_reason: str | None = None, usage: Mapping[str, int] | None = None, tool_calls: Sequence[Any] = ()
) -> dict[str, Any]:
    """A chat completion as OpenAI sends it."""
    message: dict[str, Any] = {"role": "assistant", "content": text if text is not None or tool_calls else ""}
    if tool_calls:
        message["tool_calls"] = list(tool_calls)
    reason = finish_reason or ("tool_calls" if tool_calls else "stop")
    document: dict[str, Any] = {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": "scripted",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
    }  # fmt: skip
    return {**document, "usage": dict(usage)} if usage is not None else document
