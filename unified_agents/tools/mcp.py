"""MCP servers: started once a run, each owned by one task from its start to its end, all of their tools offered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import tempfile
import warnings
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unified_agents.errors import ToolError
from unified_agents.spec import McpSpec, ToolSpec
from unified_agents.tools import Tool, ToolUnavailableError
from unified_agents.tools.foreign import wire_name

START_SECONDS = 30.0
STOP_SECONDS = 8.0  # the library gives a process 2 s after its input closed and 2 s after SIGTERM, then kills it
PING_SECONDS = 5.0
_LOST = "Connection closed"

logging.getLogger("mcp").addHandler(logging.NullHandler())  # else its warnings go to the terminal where nobody configured logging


@dataclass
class McpServer:
    """One server of a team: `start` gives its tools, `stop` ends it. Used on the engine's loop."""

    spec: ToolSpec
    folder: Path
    _ready: asyncio.Future[list[Tool]] | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _owner: asyncio.Task[None] | None = None
    _session: Any = None
    _said: Any = None

    async def start(self) -> list[Tool]:
        """Start the server and list its tools.

        Raises:
            ToolError: it did not start, or is no MCP server; the message names it and what it said.
        """
        self._ready = asyncio.get_running_loop().create_future()
        self._owner = asyncio.ensure_future(self._own())
        try:
            return await asyncio.wait_for(asyncio.shield(self._ready), START_SECONDS)
        except (asyncio.TimeoutError, TimeoutError):
            await self.stop()
            raise ToolError(f"MCP server {self.spec.name!r} did not answer within {START_SECONDS:g} s ({self._place})") from None

    async def stop(self) -> None:
        """End the server: asked to, then cancelled; its process is gone after that."""
        self._stopping.set()
        if self._owner is None:
            return
        if self._session is None:  # still starting: nobody looks at the event yet
            self._owner.cancel()
        if not (await asyncio.wait([self._owner], timeout=STOP_SECONDS))[0]:
            self._owner.cancel()
            await asyncio.wait([self._owner], timeout=STOP_SECONDS)

    @property
    def _mcp(self) -> McpSpec:
        assert self.spec.mcp is not None
        return self.spec.mcp

    @property
    def _place(self) -> str:
        return self._mcp.url or " ".join([self._mcp.command or "", *self._mcp.args])

    async def _own(self) -> None:
        """Hold the connection from beginning to end: the library's scopes must be left by the task that entered them."""
        assert self._ready is not None
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
            self._said = said
            try:
                await self._serve(said)
            except BaseException as error:
                if not self._ready.done():
                    self._ready.set_exception(
                        ToolError(f"MCP server {self.spec.name!r} did not start ({self._place}): {_reason(error, said)}")
                    )
                    self._ready.exception()  # taken here: nobody may be waiting any more
                if isinstance(error, asyncio.CancelledError):
                    raise
            finally:
                self._session = self._said = None

    async def _serve(self, said: Any) -> None:
        from mcp import ClientSession

        assert self._ready is not None
        async with self._streams(said) as streams, ClientSession(streams[0], streams[1]) as session:
            await session.initialize()
            tools = [self._tool(tool) for tool in await _listed(session)]
            self._session = session
            if not self._ready.done():
                self._ready.set_result(tools)
            await self._stopping.wait()

    @asynccontextmanager
    async def _streams(self, said: Any) -> AsyncIterator[Sequence[Any]]:
        if self._mcp.url is not None:
            from mcp.client.streamable_http import streamablehttp_client

            headers = {name: value.get_secret_value() for name, value in self._mcp.headers.items()}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # its successor is missing from the older versions that are allowed
                connection = streamablehttp_client(self._mcp.url, headers=headers)
            async with connection as streams:
                yield streams
            return
        from mcp import StdioServerParameters
        from mcp.client.stdio import get_default_environment, stdio_client

        env = {**get_default_environment(), **{name: value.get_secret_value() for name, value in self._mcp.env.items()}}
        server = StdioServerParameters(command=self._mcp.command or "", args=list(self._mcp.args), env=env, cwd=self.folder)
        async with stdio_client(server, errlog=said) as streams:
            yield streams

    def _tool(self, tool: Any) -> Tool:
        async def run(arguments: Mapping[str, Any]) -> Any:
            return await self._call(tool.name, arguments)

        return Tool(
            name=wire_name(tool.name),
            description=tool.description or tool.name,
            parameters=dict(tool.inputSchema or {"type": "object"}),
            run=run,
            timeout=self.spec.timeout,
            requires_confirmation=self.spec.requires_confirmation,
            side_effects=self.spec.side_effects,
        )

    async def _call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """The result's text; a server that died is no tool error of the model's."""
        session = self._session
        if session is None:
            raise ToolUnavailableError(f"MCP server {self.spec.name!r} has ended")
        try:
            result = await self._while_alive(session, session.call_tool(name, dict(arguments)))
        except Exception as error:
            if not self._is_lost(error):
                raise RuntimeError(str(error)) from error  # the server is there, and says what is wrong with this call
            raise ToolUnavailableError(f"MCP server {self.spec.name!r} failed during {name}: {_reason(error, self._said)}") from error
        text = "\n".join(_part(part) for part in result.content)
        if result.isError:
            raise RuntimeError(text or "the tool failed")
        if not result.content and result.structuredContent is not None:
            return json.dumps(result.structuredContent, ensure_ascii=False)
        return text or "(no result)"

    async def _while_alive(self, session: Any, work: Any) -> Any:
        """The result of `work`, unless the connection ends before. Over HTTP the library does not notice that, so it is pinged."""
        assert self._owner is not None
        call = asyncio.ensure_future(work)
        pinging = asyncio.ensure_future(_pinging(session)) if self._mcp.url is not None else None
        try:
            await asyncio.wait([call, self._owner], return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                raise ConnectionError(_LOST)
            return call.result()
        finally:
            for task in (call, pinging):
                if task is not None:
                    task.cancel()
                    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # taken: nobody else asks for it

    def _is_lost(self, error: BaseException) -> bool:
        from anyio import BrokenResourceError, ClosedResourceError
        from mcp import McpError
        from mcp.types import CONNECTION_CLOSED

        if isinstance(error, McpError):
            return error.error.code == CONNECTION_CLOSED and error.error.message == _LOST
        return self._session is None or isinstance(error, (ConnectionError, BrokenResourceError, ClosedResourceError))


async def _listed(session: Any) -> list[Any]:
    """All tools of a server, page by page."""
    page = await session.list_tools()
    tools = list(page.tools)
    while page.nextCursor:
        page = await session.list_tools(page.nextCursor)
        tools += page.tools
    return tools


async def _pinging(session: Any) -> None:
    """Asks now and then whether the server is there: a request that cannot be sent ends the connection, a late answer does not."""
    while True:
        await asyncio.sleep(PING_SECONDS)
        with contextlib.suppress(Exception):
            await session.send_ping()


def _part(part: Any) -> str:
    text = getattr(part, "text", None)
    return text if isinstance(text, str) else f"[{getattr(part, 'type', 'content')} that cannot be shown as text]"


def _reason(error: BaseException, said: Any) -> str:
    """The innermost error of a task group, and the last line that the server wrote to stderr."""
    while isinstance(getattr(error, "exceptions", None), (list, tuple)) and error.exceptions:  # type: ignore[attr-defined]
        error = error.exceptions[0]  # type: ignore[attr-defined]
    text = str(error) or type(error).__name__
    if said is None:
        return text
    said.seek(0)
    lines = said.read().strip().splitlines()
    return f"{text}; it said: {lines[-1][:300]}" if lines else text
