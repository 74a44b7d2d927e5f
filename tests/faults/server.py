"""A server of raw sockets that misbehaves on purpose: it plays a list of behaviours, one a request, and keeps every request.

::

    with FaultServer(reset(), good("fine")) as server:     # the first request is reset, the second answered
        ...
        assert len(server.requests) == 2

A behaviour is a function that writes on the wire; the last one of the list may be played for ever. A request after the last one fails the
`with` block. HTTP libraries cannot send what is sent here: half a body, a wrong chunk, a byte at a time.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from typing_extensions import Self

from unified_agents import ModelSpec
from unified_agents.testing import completion

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
PATIENCE = 20.0
"""Seconds after which a server that hangs lets go, so that a client that hangs too fails its test rather than the suite."""


class Wire:
    """One connection, as a behaviour sees it."""

    def __init__(self, connection: socket.socket, stopped: threading.Event) -> None:
        self._connection, self._stopped = connection, stopped
        self.open = True

    def send(self, data: bytes) -> None:
        """Send all of it at once."""
        self._connection.sendall(data)

    def wait(self, seconds: float) -> bool:
        """Wait; False when the server is being closed."""
        return not self._stopped.wait(seconds)

    def close(self) -> None:
        """End the connection in an orderly way."""
        self.open = False

    def reset(self) -> None:
        """End the connection with a RST: a close that lingers for no time at all."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.open = False


Behaviour = Callable[[Wire], None]


def head(status: int = 200, length: int | None = None, kind: str = "application/json", headers: Mapping[str, str] | None = None) -> bytes:
    """Status line and headers; without `length` the body is chunked."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [
        f"HTTP/1.1 {status} Scripted",
        f"Content-Type: {kind}",
        framing,
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def reply(
    body: bytes | str | Any, status: int = 200, kind: str = "application/json", headers: Mapping[str, str] | None = None
) -> Behaviour:
    """A whole answer: `body` as it is, or as JSON."""
    sent = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()

    def play(wire: Wire) -> None:
        wire.send(head(status, len(sent), kind, headers) + sent)

    return play


def good(text: str | None = "fine", finish_reason: str = "stop", usage: Any = USAGE) -> Behaviour:
    """A chat completion; `usage` None leaves the field out."""
    document = completion(text, finish_reason)
    return reply(document if usage is None else {**document, "usage": usage})


def failing(status: int, code: str | None = None, message: str = "scripted", headers: Mapping[str, str] | None = None) -> Behaviour:
    """An error as OpenAI sends it."""
    return reply({"error": {"message": message, "type": "scripted", "code": code}}, status, headers=headers)


def reset() -> Behaviour:
    """The connection breaks before a byte of the answer."""
    return lambda wire: wire.reset()


def reset_in_body(text: str = "never whole") -> Behaviour:
    """The connection breaks after half of the body."""

    def play(wire: Wire) -> None:
        body = json.dumps(completion(text)).encode()
        wire.send(head(length=len(body)) + body[: len(body) // 2])
        wire.wait(0.02)  # else the RST may overtake what was sent
        wire.reset()

    return play


def cut_short() -> Behaviour:
    """The connection is closed in an orderly way, before the body is as long as its Content-Length."""

    def play(wire: Wire) -> None:
        body = json.dumps(completion("cut")).encode()
        wire.send(head(length=len(body)) + body[:-5])
        wire.close()

    return play


def bad_chunk() -> Behaviour:
    """A chunked body with a size that is no number."""

    def play(wire: Wire) -> None:
        wire.send(head() + b'5\r\n{"cho\r\nZZZ\r\nices"}\r\n0\r\n\r\n')
        wire.close()

    return play


def hang() -> Behaviour:
    """Nothing is answered."""

    def play(wire: Wire) -> None:
        wire.wait(PATIENCE)
        wire.close()

    return play


def hang_in_body() -> Behaviour:
    """Headers and half of the body, then nothing."""

    def play(wire: Wire) -> None:
        wire.send(head(length=1000) + b'{"choices": ')
        wire.wait(PATIENCE)
        wire.close()

    return play


def drip(text: str = "dripped", every: float = 0.05) -> Behaviour:
    """A good answer, a byte every so many seconds."""
    return _in_pieces(text, every)


def single_bytes(text: str = "fine") -> Behaviour:
    """A good answer in as many TCP writes as it has bytes."""
    return _in_pieces(text, 0.0)


def _in_pieces(text: str, every: float) -> Behaviour:
    def play(wire: Wire) -> None:
        body = json.dumps({**completion(text), "usage": USAGE}, ensure_ascii=False).encode()
        for byte in head(length=len(body)) + body:
            wire.send(bytes([byte]))
            if every and not wire.wait(every):
                return wire.close()
        return None

    return play


def late(text: str = "fine", seconds: float = 0.2) -> Behaviour:
    """A good answer after a while."""

    def play(wire: Wire) -> None:
        wire.wait(seconds)
        good(text)(wire)

    return play


def slow_close(text: str = "fine", seconds: float = 10.0) -> Behaviour:
    """A whole answer that says it is the connection's last, and a connection that stays open all the same."""

    def play(wire: Wire) -> None:
        body = json.dumps({**completion(text), "usage": USAGE}).encode()
        wire.send(head(length=len(body), headers={"Connection": "close"}) + body)
        wire.wait(seconds)
        wire.close()

    return play


_keys = itertools.count(1)


class FaultServer:
    """Plays behaviours, one a request, in the order in which requests arrive; a context manager. `forever` repeats the last one."""

    def __init__(self, *behaviours: Behaviour, forever: bool = False) -> None:
        self.requests: list[dict[str, Any]] = []
        """The body of every request that arrived whole."""
        self.arrived: list[float] = []
        """When each of them did, in seconds on the monotonic clock."""
        self.beyond = 0
        """Requests that no behaviour was left for."""
        self._behaviours, self._forever = list(behaviours), forever
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._connections: set[socket.socket] = set()
        # A key of its own: breakers and limits are kept by address, model and key, and the machine gives ports out again.
        self.key = f"key-{next(_keys)}"

    @property
    def base_url(self) -> str:
        """What to write as a model's base_url."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def model(self, **fields: Any) -> ModelSpec:
        """A model that asks this server."""
        return ModelSpec(**{"model": "openai/scripted", "base_url": self.base_url, "api_key": self.key, **fields})

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="fault-server", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopped.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        if error is None and self.beyond:
            raise AssertionError(f"{self.beyond} requests came after the last behaviour")

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), name="fault-server-connection", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        wire = Wire(connection, self._stopped)
        with contextlib.suppress(OSError), connection.makefile("rb") as stream:  # a client that gave up closes its end
            while wire.open and (body := _request(stream)) is not None:
                self._next(body)(wire)
        with self._lock:
            self._connections.discard(connection)
        connection.close()

    def _next(self, body: bytes) -> Behaviour:
        with self._lock:
            self.requests.append(json.loads(body))
            self.arrived.append(time.monotonic())
            if not self._behaviours:
                self.beyond += 1
                return failing(400, message="no behaviour is left")
            return self._behaviours[0] if self._forever and len(self._behaviours) == 1 else self._behaviours.pop(0)


def _request(stream: Any) -> bytes | None:
    """The body of the next request on a connection; None when there is no other."""
    length, first = 0, stream.readline()
    if not first:
        return None
    while (line := stream.readline().strip()) and b":" in line:
        name, _, value = line.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    body: bytes = stream.read(length)
    return body if len(body) == length else None


@contextlib.contextmanager
def refusing() -> Any:
    """The base_url of a port that is taken, so that nobody else gets it, and that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
