"""What a team remembers: the same in every prompt, across tasks, runs, processes and backends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from unified_agents import AgentMemory, AgentSpec, RunError, RunResult, SpecError, TaskSpec, TeamSpec, run_team
from unified_agents.chat_models import ChatRequest, ChatResponse
from unified_agents.errors import MemoryStoreError
from unified_agents.events import Event, MemoryRecalled, MemoryUnavailable
from unified_agents.memory import Item, MemoryStore
from unified_agents.memory.sqlite import SQLiteStore
from unified_agents.middleware import CallNext
from unified_agents.registry import names
from unified_agents.testing import Reply, Request, ScriptedServer, call
from unified_agents.tokens import count_tokens

HEADING = "What the team remembers"
BROKEN = "sqlite:////dev/null/memory.db"


def team(server: ScriptedServer, *tasks: TaskSpec, memory: Any = True, **fields: Any) -> TeamSpec:
    """A team with memory; one task, MARK about the tide, unless others are given."""
    asked = tasks or (TaskSpec(name="t", description="MARK When is low water?", agent=worker()),)
    return TeamSpec(**{"name": "tides", "tasks": list(asked), "models": {"default": server.model()}, "memory": memory, **fields})


def worker(name: str = "ann", **fields: Any) -> AgentSpec:
    """An agent."""
    return AgentSpec(name=name, role="Worker", **fields)


def note(text: str, key: str | None = None) -> Reply:
    """An answer that remembers something."""
    return Reply(tool_calls=[call("remember", {"text": text, **({"key": key} if key else {})})])


def look(query: str) -> Reply:
    """An answer that looks something up."""
    return Reply(tool_calls=[call("recall", {"query": query})])


def offered(request: Request) -> list[str]:
    """The names of the tools in a request."""
    return [tool["function"]["name"] for tool in request.body.get("tools") or ()]


def result_of(request: Request) -> str:
    """The last tool result in a request."""
    return next(str(message["content"]) for message in reversed(request.messages) if message["role"] == "tool")


def test_a_fact_is_in_the_prompt(server: ScriptedServer, backend: str) -> None:
    """Fenced, with its source, in the instruction; what does not fit the task is not, and without `memory` nothing is."""
    AgentMemory(team="tides").add_to_long_term("low water", "6:12 and 18:40, so ```be``` early", agent="bob")
    AgentMemory(team="tides").add_to_long_term("lunch", "At noon")
    server.reply("MARK", "done", forever=True)
    run_team(team(server), backend=backend)
    (request,) = server.requests
    instruction = next(str(m["content"]) for m in request.messages if m["role"] != "system")
    assert "MARK" in instruction.split(HEADING)[0]
    assert "Fact 'low water', noted 20" in instruction.split(HEADING)[1]
    assert "by bob:\n````\n6:12 and 18:40, so ```be``` early\n````" in instruction
    assert "At noon" not in request.text
    run_team(team(server, memory=None), backend=backend)
    assert HEADING not in server.requests[1].text


def test_it_is_there_once_in_every_request(server: ScriptedServer, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a conversation of several calls the text stands once in each, and the store was asked once."""
    AgentMemory(team="tides").add_to_long_term("low water", "6:12")
    asked = _counted(monkeypatch)
    events: list[Event] = []
    server.reply("MARK", note("one"), note("two"), note("three"), "done")
    run_team(team(server), backend=backend, on_event=events.append)
    assert [request.text.count(HEADING) for request in server.requests] == [1, 1, 1, 1]
    openings = [[m for m in request.messages if m["role"] in ("system", "user")] for request in server.requests]
    assert openings == [openings[0]] * 4
    assert len(asked) == 1
    recalled = [event for event in events if isinstance(event, MemoryRecalled)]
    assert [(event.task, event.agent, event.items) for event in recalled] == [("t", "ann", 1)]
    assert 0 < recalled[0].tokens < 100


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The queries that reach the store."""
    asked: list[str] = []
    recall = SQLiteStore.recall

    async def counted(self: SQLiteStore, namespace: str, query: str, *arguments: Any, **options: Any) -> list[Item]:
        asked.append(query)
        return await recall(self, namespace, query, *arguments, **options)

    monkeypatch.setattr(SQLiteStore, "recall", counted)
    return asked


def test_one_look_up_serves_all_of_a_task(server: ScriptedServer, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A coworker and every speaker of a group chat read what was recalled for the task; the store is asked once for each task."""
    AgentMemory(team="tides").add_to_long_term("low water", "6:12")
    asked = _counted(monkeypatch)
    lead = worker("lead", delegates_to=["ann"])
    alone = TaskSpec(name="one", description="DELEGATED: low water?", agent=lead)
    chat = TaskSpec(name="two", description="CHATTED: low water?", participants=["lead", "ann"], max_rounds=3)
    server.reply("HANDED-ON", "answer")
    server.reply("DELEGATED", Reply(tool_calls=[call("delegate_work_to_coworker", {"task": "HANDED-ON", "coworker": "ann"})]), "done")
    server.reply("CHATTED", "turn", forever=True)
    run_team(team(server, alone, chat, agents=[lead, worker()], process="graph"), backend=backend)
    assert len(server.requests) == 6
    assert [request.text.count(HEADING) for request in server.requests] == [1] * 6
    assert len(asked) == 2


@pytest.mark.parametrize("each", [1, 3])
def test_items_are_bounded(server: ScriptedServer, backend: str, each: int) -> None:
    """`recall.items` is how many are shown."""
    for n in range(5):
        AgentMemory(team="tides").add_to_long_term(f"fact {n}", f"low water {n}")
    server.reply("MARK", "done")
    run_team(team(server, memory={"recall": {"items": each}}), backend=backend)
    assert server.requests[0].text.count("Fact '") == each


@pytest.mark.parametrize("tokens", [110, 200])
def test_tokens_are_bounded(server: ScriptedServer, backend: str, tokens: int) -> None:
    """`recall.tokens` is what all of it takes at most, and nearly that is used; what does not fit is shortened with a mark."""
    for n in range(3):
        AgentMemory(team="tides").add_to_long_term(f"fact {n}", f"low water {n} " * 60)
    server.reply("MARK", "done")
    run_team(team(server, memory={"recall": {"tokens": tokens}}), backend=backend)
    instruction = next(str(m["content"]) for m in server.requests[0].messages if m["role"] != "system")
    shown = HEADING + instruction.split(HEADING)[1]
    assert tokens * 0.7 < count_tokens(shown, "openai/scripted") <= tokens
    assert "tokens left out" in shown


def test_tools_remember_and_recall(server: ScriptedServer, backend: str) -> None:
    """A note is for the run, a fact for good; both with who noted them, both found again at once."""
    server.reply("MARK", note("The ferry is late"), note("6:12", "low water"), look("ferry"), look("low water"), look("xyz"), "done")
    result = run_team(team(server), backend=backend)
    assert offered(server.requests[0]) == ["remember", "recall"]
    said = [result_of(request) for request in server.requests[1:]]
    assert said[:2] == ["Remembered.", "Remembered."]
    assert "A note of this run, by ann:\n```\nThe ferry is late\n```" in said[2]
    assert "Fact 'low water'" in said[3]
    assert said[4] == "Nothing that fits is remembered."
    fact = AgentMemory(team="tides").get("low water")
    assert fact is not None
    assert (fact.text, fact.agent, fact.run) == ("6:12", "ann", result.run_id)


def test_notes_are_for_their_run(server: ScriptedServer, backend: str) -> None:
    """A later task of the run reads a note, another run does not; a fact is read by both."""
    first = TaskSpec(name="first", description="FIRST", agent=worker())
    second = TaskSpec(name="second", description="SECOND tide", agent=worker(), after=["first"])
    for _ in range(2):
        server.reply("SECOND", "done")
    server.reply("FIRST", note("tide NOTED"), note("tide KNOWN", "tide"), "done")
    server.reply("FIRST", "done")
    spec = team(server, first, second)
    run_team(spec, backend=backend)
    run_team(spec, backend=backend)
    one, two = server.asked("SECOND")
    assert ("NOTED" in one.text, "KNOWN" in one.text) == (True, True)
    assert ("NOTED" in two.text, "KNOWN" in two.text) == (False, True)


def test_who_has_no_part_in_memory(server: ScriptedServer, backend: str) -> None:
    """`memory: false` takes text and tools from one agent alone; `tools: false` takes the tools from all."""
    AgentMemory(team="tides").add_to_long_term("low water", "6:12")
    tasks = [TaskSpec(name=n, description=f"{n.upper()} low water", agent=worker(n, memory=n == "has")) for n in ("has", "not")]
    server.reply("low water", "done", forever=True)
    run_team(team(server, *tasks, process="graph"), backend=backend)
    has, without = server.asked("HAS low")[0], server.asked("NOT low")[0]
    assert (HEADING in has.text, offered(has)) == (True, ["remember", "recall"])
    assert (HEADING in without.text, offered(without)) == (False, [])
    run_team(team(server, tasks[0], memory={"tools": False}), backend=backend)
    assert (HEADING in server.requests[-1].text, offered(server.requests[-1])) == (True, [])


def test_every_task_is_an_episode(server: ScriptedServer, backend: str) -> None:
    """With its agent and outcome, failed ones too; the run's summary names them all; a later run reads them."""
    good = TaskSpec(name="good", description="GOOD", agent=worker("ann"))
    bad = TaskSpec(name="bad", description="BAD", agent=worker("bob"))
    server.reply("GOOD", "the tide is out")
    server.reply("BAD", Reply(status=401))
    with pytest.raises(RunError) as caught:
        run_team(team(server, good, bad, process="graph"), backend=backend)
    assert caught.value.result is not None
    found = {item.key: item for item in AgentMemory(team="tides").episodes()}
    assert set(found) == {"good", "bad", None}
    assert (found["good"].agent, found["good"].text, found["good"].data["status"]) == ("ann", "the tide is out", "completed")
    assert found["bad"].text.startswith("bob failed: AuthenticationError")
    assert "good by ann completed; bad by bob failed" in _reordered(found[None].text)
    assert {item.run for item in found.values()} == {caught.value.result.run_id}
    server.reply("LATER", "done")
    run_team(team(server, TaskSpec(name="later", description="LATER: the tide?", agent=worker("cat"))), backend=backend)
    assert "Task 'good', done 20" in server.requests[-1].text


def _reordered(text: str) -> str:
    """Tasks that run at once end in any order."""
    head, _, tasks = text.partition("failed: ")
    return head + "; ".join(sorted(tasks.split("; "), reverse=True))


def test_episodes_of_this_run_are_not_recalled(server: ScriptedServer, backend: str) -> None:
    """What a task sees of others is its `context`, also with memory: a task without one does not read its neighbour's output."""
    one = TaskSpec(name="one", description="ONE about the tide", agent=worker())
    two = TaskSpec(name="two", description="TWO about the tide", agent=worker(), after=["one"])
    server.reply("TWO", "done", forever=True)
    server.reply("ONE", "the tide is SECRET", forever=True)
    spec = team(server, one, two, memory={"recall": {"items": 1}})
    run_team(spec, backend=backend)
    assert "SECRET" not in server.asked("TWO")[0].text
    run_team(spec, backend=backend)
    assert "SECRET" in server.asked("TWO")[1].text


def test_no_team_reads_another(server: ScriptedServer, backend: str) -> None:
    """Neither in prompts nor through the tool."""
    AgentMemory(team="others").add_to_long_term("low water", "SECRET")
    server.reply("MARK", look("low water"), "done")
    run_team(team(server), backend=backend)
    assert not server.asked("SECRET")
    assert "Nothing" in result_of(server.requests[1])


def test_a_store_that_fails_stops_the_run_before_the_first_call(server: ScriptedServer, backend: str) -> None:
    """With its place and reason; the run has a result."""
    with pytest.raises(MemoryStoreError, match=r"/dev/null/memory\.db") as caught:
        run_team(team(server, memory={"store": BROKEN}), backend=backend)
    assert not server.requests
    assert caught.value.result is not None
    assert (caught.value.result.status, caught.value.result.tasks["t"].status) == ("failed", "pending")


def test_a_store_that_is_not_required_may_fail(server: ScriptedServer, backend: str) -> None:
    """The run goes on without memory, the tools say so, and so does one event."""
    events: list[Event] = []
    server.reply("MARK", note("x"), look("x"), "done")
    result = run_team(team(server, memory={"store": BROKEN, "required": False}), backend=backend, on_event=events.append)
    assert result.status == "completed"
    assert [result_of(request) for request in server.requests[1:]] == ["Memory is not available in this run."] * 2
    (said,) = [event for event in events if isinstance(event, MemoryUnavailable)]
    assert "/dev/null/memory.db" in said.error


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("when", ["note", "episode", "summary"])
def test_a_store_that_fails_in_the_midst(
    server: ScriptedServer, backend: str, monkeypatch: pytest.MonkeyPatch, when: str, required: bool
) -> None:
    """A full disk fails the run where memory is required, with the tasks that were completed kept and no fallback agent asked; else it is said."""
    add, kinds = SQLiteStore.add, {"note": "short_term", "episode": "episode", "summary": "episode"}

    async def full(self: SQLiteStore, namespace: str, kind: Any, text: str, **options: Any) -> Item:
        if kind == kinds[when] and (when != "summary" or text.startswith("Run ")):
            raise MemoryStoreError("database or disk is full")
        return await add(self, namespace, kind, text, **options)

    monkeypatch.setattr(SQLiteStore, "add", full)
    events: list[Event] = []
    server.reply("MARK", note("x"), "done")
    agent = worker(fallback="bob")
    task = TaskSpec(name="t", description="MARK", agent=agent)
    spec = team(server, task, agents=[agent, worker("bob")], memory={"required": required})
    result, error = _outcome(spec, backend, events)
    assert isinstance(error, MemoryStoreError) == required
    assert result.tasks["t"].status == ("failed" if required and when == "note" else "completed")
    assert result.status == ("failed" if required else "completed")
    assert sum(isinstance(event, MemoryUnavailable) for event in events) == (not required)
    assert len(server.requests) == (1 if required and when == "note" else 2)


def _outcome(spec: TeamSpec, backend: str, events: list[Event]) -> tuple[RunResult, RunError | None]:
    try:
        return run_team(spec, backend=backend, on_event=events.append), None
    except RunError as error:
        return error.result, error  # type: ignore[return-value]  # a run that failed has its result


def test_the_tools_names_are_taken(server: ScriptedServer, backend: str) -> None:
    """A tool of one's own by the name of a memory tool is refused before any call; without memory's tools it is welcome."""

    def recall(query: str) -> str:
        """Looks something up."""
        return query

    task = TaskSpec(name="t", description="MARK", agent=worker(tools=[recall]))
    with pytest.raises(SpecError, match="'recall' is the name of a tool that"):
        run_team(team(server, task), backend=backend)
    assert not server.requests
    server.reply("MARK", "done")
    assert run_team(team(server, task, memory={"tools": False}), backend=backend).output == "done"


@dataclass(frozen=True)
class Spy:
    """A layer of the user's."""

    seen: list[str]

    async def __call__(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        """Notes the request's text."""
        self.seen.append("\n".join(str(message["content"]) for message in request.messages))
        return await call_next(request)


def test_layers_see_what_was_recalled(server: ScriptedServer, backend: str) -> None:
    """The user's own layers stand inside: they may change or remove it."""
    AgentMemory(team="tides").add_to_long_term("low water", "6:12")
    server.reply("MARK", "done")
    spy = Spy([])
    run_team(team(server), backend=backend, middleware=[spy])
    assert [HEADING in text for text in spy.seen] == [True]


FIRST_RUN = """
import json, sys
from unified_agents import AgentSpec, TaskSpec, TeamSpec, run_team
task = TaskSpec(name="t", description="STORE it", agent=AgentSpec(name="ann", role="Worker"))
model = {"model": "openai/scripted", "base_url": sys.argv[2], "api_key": "k"}
run_team(TeamSpec(name="tides", tasks=[task], models={"default": model}, memory=True), backend=sys.argv[1])
"""


def test_a_fact_crosses_processes_and_backends(server: ScriptedServer, backend: str) -> None:
    """A run on another backend, in another process, stores a fact with its tool; a run here finds it in its prompt."""
    another = next(name for name in names() if name != backend)
    server.reply("STORE", note("6:12 and 18:40", "low water"), "done")
    subprocess.run([sys.executable, "-c", FIRST_RUN, another, server.base_url], check=True, timeout=120, cwd=Path.cwd())
    server.reply("MARK", "done")
    run_team(team(server), backend=backend)
    assert "6:12 and 18:40" in server.requests[-1].text.split(HEADING)[1]


def test_runs_at_once_see_what_the_other_has_committed(server: ScriptedServer, backend: str) -> None:
    """A run that began before another stored a fact looks it up and finds it."""
    other = AgentMemory(team="tides")

    def wait_for_the_other() -> str:
        """Waits until another run has stored something."""
        other.add_to_long_term("low water", "6:12 and 18:40", agent="other")
        return "ok"

    task = TaskSpec(name="t", description="MARK low water", agent=worker(tools=[wait_for_the_other]))
    server.reply("MARK", Reply(tool_calls=[call("wait_for_the_other")]), look("low water"), "done")
    run_team(team(server, task), backend=backend)
    assert HEADING not in server.requests[0].text
    assert "6:12 and 18:40" in result_of(server.requests[2])


class Elsewhere:
    """A store of the user's own, that is no SQLite."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, str]] = []
        self.closed = False

    async def add(
        self, namespace: str, kind: Any, text: str, *, key: str | None, agent: str | None, run: str | None, data: Mapping[str, Any], keep: int | None
    ) -> Item:  # fmt: skip
        """See `MemoryStore`."""
        self.kept.append((kind, text))
        return Item(len(self.kept), kind, text, datetime.now(timezone.utc), key, agent, run, data)

    async def recall(self, *_arguments: Any, **_options: Any) -> list[Item]:
        """See `MemoryStore`."""
        return []

    async def items(self, *_arguments: Any, **_options: Any) -> list[Item]:
        """See `MemoryStore`."""
        return []

    async def forget(self, *_arguments: Any, **_options: Any) -> int:
        """See `MemoryStore`."""
        return 0

    async def close(self) -> None:
        """See `MemoryStore`."""
        self.closed = True


def test_a_store_of_ones_own(server: ScriptedServer, backend: str) -> None:
    """In Python `memory.store` may be any MemoryStore; it is left open, for it is not ours."""
    store: MemoryStore = Elsewhere()
    server.reply("MARK", note("x"), "done")
    run_team(team(server, memory={"store": store}), backend=backend)
    assert isinstance(store, Elsewhere)
    assert [kind for kind, _ in store.kept] == ["short_term", "episode", "episode"]
    assert not store.closed
    with pytest.raises(SpecError, match=r"memory\.semantic"):
        run_team(team(server, memory={"store": store, "semantic": True}), backend=backend)


class Failing(Elsewhere):
    """One of whose methods raises an error of its own."""

    def __init__(self, when: str) -> None:
        super().__init__()
        self.asked = 0
        setattr(self, when, self._gone)

    async def _gone(self, *_arguments: Any, **_options: Any) -> Any:
        self.asked += 1
        raise ConnectionError("redis is gone")


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("when", ["items", "recall", "add"])
def test_a_store_of_ones_own_that_fails(server: ScriptedServer, backend: str, when: str, required: bool) -> None:
    """Whatever it raises is our error with its words and itself as the cause, in the result and in an event; it is not asked again."""
    store = Failing(when)
    events: list[Event] = []
    server.reply("MARK", note("x"), "done")
    result, error = _outcome(team(server, memory={"store": store, "required": required}), backend, events)
    assert store.asked == 1
    said = "the memory store Failing failed: ConnectionError: redis is gone"
    if required:
        assert type(error) is MemoryStoreError
        assert isinstance(error.__cause__, ConnectionError)
        assert (str(error), result.status) == (said, "failed")
        assert result.error is not None
        assert (result.error.type, events[-1].type) == ("MemoryStoreError", "RunFailed")
    else:
        assert result.status == "completed"
        assert [event.error for event in events if isinstance(event, MemoryUnavailable)] == [said]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"text": " "}, "text"),
        ({"text": "x" * 4001}, "text"),
        ({"text": "x", "key": " "}, "key"),
        ({"text": "x", "key": "k" * 201}, "key"),
        ({"text": "x" * 4000, "key": "k" * 200}, None),
    ],
)
def test_what_cannot_be_shown_again_is_not_remembered(
    server: ScriptedServer, backend: str, arguments: dict[str, str], fault: str | None
) -> None:
    """White space, and texts and keys without end: the model is told, and nothing is stored."""
    server.reply("MARK", Reply(tool_calls=[call("remember", arguments)]), "done")
    run_team(team(server), backend=backend)
    told = result_of(server.requests[1])
    assert told == "Remembered." if fault is None else f"the arguments of remember are wrong: {fault}" in told
    assert len(AgentMemory(team="tides").recall("x" * 4000, kinds=("short_term", "long_term"))) == (fault is None)
