"""Recorded answers of models: kept in a file while a team runs, served from it later, so that a run needs no model, no key and no network.

Answers are found by the inputs of the run and by the call's key (`task.attempt/agent:turn`, as in the journal), which is the same on every backend: what was
recorded on one is served to all. A call without a record is an error, never a live call.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from unified_agents.chat_models import ChatModel, ChatRequest, ChatResponse, ToolCall, Usage
from unified_agents.errors import MissingRecordError, Problem, SpecError
from unified_agents.files import beside, write_whole
from unified_agents.recorded import call_key, digest

VERSION = 1


class _Call(BaseModel):
    id: str
    name: str
    arguments: str


class _Answer(BaseModel):
    text: str
    model: str
    finish_reason: str | None
    tool_calls: list[_Call]
    input_tokens: int | None
    output_tokens: int | None


class _Document(BaseModel):
    version: Literal[1]
    answers: dict[str, dict[str, list[_Answer]]]


class Recording:
    """One file of recorded answers. `answers` are lists by scope (a run's inputs) and call key: a call may ask several times, as a summary in pieces does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
        self._made: dict[str, dict[str, list[Mapping[str, Any]]]] = {}

    @classmethod
    def load(cls, path: Path) -> Recording:
        """The recording in a file.

        Raises:
            SpecError: there is none.
        """
        made = cls(path)
        try:
            made.answers = _Document.model_validate_json(path.read_bytes()).model_dump()["answers"]
        except FileNotFoundError:
            raise SpecError([Problem("replay", f"{path} is not there; record it first: run … --record {path}")]) from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise SpecError(
                [Problem("replay", f"{path} holds no recorded answers: {where + ': ' if where else ''}{first['msg']}")]
            ) from None
        except OSError as error:
            raise SpecError([Problem("replay", f"{path} cannot be read: {error.strerror or error}")]) from None
        return made

    @classmethod
    def opened(cls, path: Path) -> Recording:
        """The recording in a file, to add to; a new one when there is none.

        Raises:
            SpecError: the file holds something else, or cannot be written.
        """
        made = cls.load(path) if path.exists() else cls(path)
        with made._telling(), beside(path):
            return made

    def save(self) -> None:
        """Add what was recorded to the file as it is now, whole or not at all: another process may have added to it too.

        Raises:
            SpecError: it cannot be written.
        """
        mine = {scope: calls for scope, calls in self._made.items() if calls}
        if not mine:
            return
        with self._telling(), self._locked():
            known = Recording.load(self.path).answers if self.path.exists() else {}
            document = {"version": VERSION, "answers": {**known, **mine}}
            write_whole(self.path, json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True) + "\n")

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SpecError([Problem("record", f"{self.path} cannot be written: {error.strerror or error}")]) from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Within it no other process adds to a recording of the same folder."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def recorded(self, inputs: Mapping[str, str], *, afresh: bool = False) -> Tape:
        """Where the answers of a run with these inputs are kept. `afresh`: they take the place of what the file held, once there are any."""
        scope = digest(dict(inputs))
        if scope not in self._made:
            self._made[scope] = {} if afresh else {call: list(kept) for call, kept in self.answers.get(scope, {}).items()}
        return Tape(self._made[scope], self.path)

    def played(self, inputs: Mapping[str, str]) -> Tape:
        """The answers for a run with these inputs."""
        return Tape(self.answers.get(digest(dict(inputs)), {}), self.path)


class Tape:
    """The answers of one run, from its beginning: recorded while it goes, or played back. Used on the engine's loop."""

    def __init__(self, calls: dict[str, list[Mapping[str, Any]]], path: Path) -> None:
        self._calls, self._path = calls, path
        self._asked: Counter[str] = Counter()

    def recorder(self, model: ChatModel) -> ChatModel:
        """A model whose answers are kept; where a call has its answer already, of another backend, that one stays."""
        return _Recorder(self, model)

    def player(self) -> ChatModel:
        """A model that gives the recorded answers."""
        return _Player(self)

    def keep(self, request: ChatRequest, response: ChatResponse) -> None:
        """Keep an answer."""
        kept = self._calls.setdefault(call_key(request), [])
        if self._next(request) >= len(kept):
            kept.append(_kept(response))

    def answer(self, request: ChatRequest) -> Mapping[str, Any]:
        """The recorded answer.

        Raises:
            MissingRecordError: there is none.
        """
        kept, position = self._calls.get(call_key(request), []), self._next(request)
        if position >= len(kept):
            said = "no answer" if self._calls else "nothing for these inputs, and so no answer,"
            again = f"record it again, with the models at hand: unified-agents run … --record {shlex.quote(str(self._path))}"
            raise MissingRecordError(f"{self._path} holds {said} for call {call_key(request)}; {again}", model=request.model.model)
        return kept[position]

    def _next(self, request: ChatRequest) -> int:
        """How often the call was made before."""
        self._asked[call_key(request)] += 1
        return self._asked[call_key(request)] - 1


class _Recorder:
    """Asks a model, and keeps what it answers."""

    def __init__(self, tape: Tape, model: ChatModel) -> None:
        self._tape, self._model = tape, model

    async def __call__(self, request: ChatRequest) -> ChatResponse:
        response = await self._model(request)
        self._tape.keep(request, response)
        return response


class _Player:
    """Answers from a tape."""

    recorded = True
    """It stands for the model whose answers it gives: its price is that model's."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    async def __call__(self, request: ChatRequest) -> ChatResponse:
        kept = self._tape.answer(request)
        if request.on_text is not None and kept["text"]:
            request.on_text(kept["text"])
        return _response(kept)


def _kept(response: ChatResponse) -> dict[str, Any]:
    return {
        "text": response.text, "model": response.model, "finish_reason": response.finish_reason,
        "tool_calls": [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in response.tool_calls],
        "input_tokens": response.usage.input_tokens, "output_tokens": response.usage.output_tokens,
    }  # fmt: skip


def _response(kept: Mapping[str, Any]) -> ChatResponse:
    calls = tuple(ToolCall(call["id"], call["name"], call["arguments"]) for call in kept["tool_calls"])
    return ChatResponse(kept["text"], kept["model"], calls, kept["finish_reason"], Usage(kept["input_tokens"], kept["output_tokens"]))
