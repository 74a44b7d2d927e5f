"""Recorded answers of models: kept in a file while a team runs, served from it later, so that a run needs no model, no key and no network.

Answers are found by the inputs of the run and by the call's key (`task.attempt/agent:turn`, as in the journal), which is the same on every backend: what was
recorded on one is served to all. A call without a record is an error, never a live call.
"""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unified_agents.chat_models import ChatModel, ChatRequest, ChatResponse, ToolCall, Usage
from unified_agents.errors import MissingRecordError, Problem, SpecError
from unified_agents.recorded import call_key, digest

VERSION = 1


class Recording:
    """One file of recorded answers. `answers` are lists by scope (a run's inputs) and call key: a call may ask several times, as a summary in pieces does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
        self._begun: set[str] = set()

    @classmethod
    def load(cls, path: Path) -> Recording:
        """The recording in a file.

        Raises:
            SpecError: there is none.
        """
        made = cls(path)
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["version"] != VERSION:
                raise ValueError(f"version {document['version']}, known here: {VERSION}")
            made.answers = {scope: dict(calls) for scope, calls in document["answers"].items()}
        except FileNotFoundError:
            raise SpecError([Problem("replay", f"{path} is not there; record it first: run … --record {path}")]) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SpecError([Problem("replay", f"{path} holds no recorded answers: {type(error).__name__}: {error}")]) from None
        return made

    @classmethod
    def opened(cls, path: Path) -> Recording:
        """The recording in a file, to add to; a new one when there is none.

        Raises:
            SpecError: the file holds something else.
        """
        return cls.load(path) if path.exists() else cls(path)

    def save(self) -> None:
        """Write the file, whole or not at all.

        Raises:
            SpecError: it cannot be written.
        """
        text = json.dumps({"version": VERSION, "answers": self.answers}, ensure_ascii=False, indent=1, sort_keys=True)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                "w", encoding="utf-8", dir=self.path.parent, prefix=f".{self.path.name}.", delete=False
            ) as file:
                file.write(text + "\n")
            os.replace(file.name, self.path)
        except OSError as error:
            raise SpecError([Problem("record", f"{self.path} cannot be written: {error.strerror or error}")]) from None

    def tape(self, inputs: Mapping[str, str], *, afresh: bool = False) -> Tape:
        """The answers of a run with these inputs; `afresh` forgets those that the file held, not those of another run that is being recorded."""
        scope = digest(dict(inputs))
        if afresh and scope not in self._begun:
            self.answers.pop(scope, None)
        self._begun.add(scope)
        return Tape(self.answers.setdefault(scope, {}), self.path)


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
