"""The model: an OpenAI-compatible server on loopback, in a process of its own so that its CPU time is nobody else's.

Each request names its task and the latency in a mark (`[t1 200ms]`). `GET /stats` gives what was asked since the last one. It prints its
port and ends when its stdin does. aiohttp sets TCP_NODELAY.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from aiohttp import web

from benchmarks.jobs import MARK

MODEL = "gpt-4o-mini-2024-07-18"  # what AutoGen's client expects to hear when it asked for gpt-4o-mini


class Model:
    """Answers, and remembers what it was asked."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.clear()

    def clear(self) -> None:
        """Forget what was asked."""
        self.asked: list[str] = []
        self.peak = 0
        self.first: float | None = None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request."""
        if request.path == "/stats":
            said = {"asked": self.asked, "peak": self.peak, "first": self.first}
            self.clear()
            return web.json_response(said)
        self.first = self.first or time.monotonic()
        marks = MARK.findall(await request.text())
        if len(marks) != 1:
            return web.json_response({"error": {"message": f"expected one mark, found {marks}"}}, status=400)
        return web.json_response(await self.answer(*marks[0]))

    async def answer(self, name: str, ms: str) -> dict[str, Any]:
        """A completion, after the latency that the task asked for."""
        self.asked.append(name)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        if int(ms):
            await asyncio.sleep(int(ms) / 1000)
        self.in_flight -= 1
        message = {"role": "assistant", "content": f"{name} is worth a sentence."}
        return {
            "id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        }  # fmt: skip


async def serve() -> None:
    """Serve until stdin ends."""
    runner = web.ServerRunner(web.Server(Model().handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    sys.stdout.write(json.dumps({"port": runner.addresses[0][1]}) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve())
