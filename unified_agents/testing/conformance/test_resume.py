"""Resuming on every backend: what was completed or answered is not asked again, whatever stopped the run and wherever in it.

A case is data: a team and what its models say. It is run once without a stop; then once for every request of it, with that request failing
and the run resumed. What the server answered in both sessions together must be, body by body, what it answered without a stop, and so must
the result, the messages and the calls of tools. Every agent's role is its name, as in test_teamwork.py.
"""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from unified_agents import (
    AgentMemory,
    AgentSpec,
    RunError,
    RunResult,
    SpecError,
    TaskSpec,
    TeamSpec,
    backends,
    resume_run,
    run_team,
    run_team_async,
)
from unified_agents import journal as journals
from unified_agents.errors import AuthenticationError, JournalError, RunBusyError, UnfinishedCallError, UnknownRunError
from unified_agents.events import CallReplayed, Event, JournalUnavailable, ReplayDiverged, RunResumed, RunStarted, ToolCalled
from unified_agents.journal import open_journal
from unified_agents.review import Decision, Review
from unified_agents.testing import Reply, Request, ScriptedServer, call

DELEGATE, ASK, SEND, SELECTION = "delegate_work_to_coworker", "ask_question_to_coworker", "send_message", "selection"
STOP = Reply(status=401)
LATE = Reply(text="LATE", delay=30)
RUN = "the-run"
CALLS: list[str] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


@dataclass(frozen=True)
class Case:
    """A team and what its models say in turn.

    `people`: what reviewers decide, in turn. `cancel`: stop by cancelling, where a failure would go to a fallback. `fails`: agents whose
    failing answers are given again in the next session, since a failure is no record.
    """

    agents: Sequence[AgentSpec]
    tasks: Sequence[TaskSpec]
    says: Mapping[str, Sequence[str | Reply]]
    team: Mapping[str, Any] = field(default_factory=dict)
    people: Sequence[Any] = ()
    cancel: bool = False


def agent(name: str, **fields: Any) -> AgentSpec:
    """An agent whose role is its name."""
    return AgentSpec(**{"name": name, "role": name, "goal": "Work", **fields})


def task(name: str, agent: Any = None, **fields: Any) -> TaskSpec:
    """A task whose requests hold `TASK-name.`."""
    return TaskSpec(name=name, description=f"TASK-{name}.", agent=agent, **fields)


def use(tool: str, **arguments: Any) -> Reply:
    """The model calls a tool."""
    return Reply(tool_calls=[call(tool, arguments)])


def hand(coworker: str, work: str) -> Reply:
    """The model hands work to a coworker."""
    return use(DELEGATE, task=work, coworker=coworker)


def write(recipient: str, content: str) -> Reply:
    """The model sends a message."""
    return use(SEND, recipient=recipient, content=content)


def together(*replies: Reply) -> Reply:
    """The calls of several replies in one."""
    return Reply(tool_calls=[wanted for reply in replies for wanted in reply.tool_calls])


def lookup(q: str) -> str:
    """Look something up; each time it says something else."""
    CALLS.append(f"lookup {q}")
    return f"FOUND-{q}"


def fetch(q: str) -> str:
    """Look something up that is not there."""
    CALLS.append(f"fetch {q}")
    raise LookupError(q)


def wipe(path: str = "all") -> str:
    """Delete everything."""
    CALLS.append(f"wipe {path}")
    return "WIPED"


def short(text: str) -> str | None:
    """A guardrail."""
    return None if "SHORT" in text else "it is not SHORT"


def backwards(turns: Any, participants: Any) -> str:
    """A speaker selection."""
    return list(participants)[-1 - len(turns) % len(participants)]


TOOLS = {"lookup": lookup, "fetch": fetch, "wipe": wipe}
ANN, BOB, CYD = agent("ann"), agent("bob"), agent("cyd")
LEAD = agent("lead", delegates_to=["ann", "bob"])
PEN = agent("ann", messaging=True)
LOOKER = agent("ann", tools=["lookup", "fetch"])
NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


class Number(BaseModel):
    """A schema given as a class."""

    n: int


CASES: dict[str, Case] = {
    "a chain of tasks": Case(
        [ANN, BOB, CYD], [task("one", "ann"), task("two", "bob", context=["one"]), task("three", "cyd", context=["one", "two"])],
        {"ann": ["A"], "bob": ["B"], "cyd": ["C"]},
    ),
    "tasks side by side": Case(
        [ANN, BOB, CYD], [task("one", "ann"), task("two", "bob"), task("three", "cyd", context=["one", "two"])],
        {"ann": ["A"], "bob": [Reply(text="B", delay=0.15)], "cyd": ["C"]},
    ),
    "tools, one after another": Case(
        [LOOKER], [task("t", "ann")], {"ann": [use("lookup", q="x"), use("fetch", q="y"), use("lookup", q="x"), "A"]},
    ),
    "tools at once, two of them alike": Case(
        [LOOKER], [task("t", "ann")],
        {"ann": [together(use("lookup", q="x"), use("lookup", q="y"), use("lookup", q="x"), use("fetch", q="z")), use("lookup", q="w"), "A"]},
    ),
    "wrong calls of tools": Case(
        [LOOKER], [task("t", "ann")], {"ann": [use("nothing"), use("lookup", q=3), use("lookup", q="x"), "A"]},
    ),
    "a delegation with tools on both sides": Case(
        [LEAD.model_copy(update={"tools": ("lookup",)}), LOOKER, BOB], [task("t", "lead")],
        {"lead": [use("lookup", q="l"), hand("ann", "WORK"), "DONE"], "ann": [use("lookup", q="a"), "DRAFT"]},
    ),
    "delegations at once": Case(
        [LEAD, LOOKER, BOB], [task("t", "lead")],
        {"lead": [together(hand("ann", "WORK-1"), hand("bob", "WORK-2")), "DONE"], "ann": [use("lookup", q="a"), "DRAFT-1"], "bob": ["DRAFT-2"]},
    ),
    "delegations in a row, the same twice": Case(
        [LEAD, ANN, BOB], [task("t", "lead")], {"lead": [hand("ann", "WORK"), hand("ann", "WORK"), "DONE"], "ann": ["DRAFT-1", "DRAFT-2"]},
    ),
    "a guardrail that asks again": Case(
        [LOOKER], [task("t", "ann", guardrail=short, guardrail_retries=2)], {"ann": ["LONG", use("lookup", q="x"), "LONGER", "SHORT"]},
    ),
    "a schema that asks again": Case(
        [ANN, BOB], [task("t", "ann", output_schema=NUMBER), task("u", "bob", context=["t"])], {"ann": ['{"m": 1}', '{"n": 1}'], "bob": ["B"]},
    ),
    "a schema that is a class": Case(
        [ANN, BOB], [task("t", "ann", output_schema=Number), task("u", "bob", context=["t"])], {"ann": ['{"m": 1}', '{"n": 1}'], "bob": ["B"]},
    ),
    "a fallback agent": Case(
        [agent("ann", fallback="bob"), BOB, CYD], [task("t", "ann"), task("u", "cyd", context=["t"])],
        {"ann": [Reply(status=400)], "bob": ["B"], "cyd": ["C"]}, cancel=True,
    ),
    "a group chat in turn": Case(
        [LOOKER, BOB, CYD], [task("t", participants=["ann", "bob"], max_rounds=4), task("u", "cyd", context=["t"])],
        {"ann": [use("lookup", q="x"), "A1", "A2"], "bob": ["B1", "B2"], "cyd": ["C"]},
    ),
    "a group chat led by a model": Case(
        [ANN, BOB], [task("t", participants=["ann", "bob"], max_rounds=3, speaker_selection="model")],
        {SELECTION: ["bob", "nobody", "ann", "bob"], "ann": ["A1"], "bob": ["B1", "B2"]},
    ),
    "a group chat led by a function": Case(
        [ANN, BOB], [task("t", participants=["ann", "bob"], max_rounds=3, speaker_selection=backwards, result="transcript")],
        {"ann": ["A1"], "bob": ["B1", "B2"]},
    ),
    "messages to one and to all": Case(
        [PEN, BOB, CYD],
        [task("one", "ann"), task("two", "bob", after=["one"]), task("three", "cyd", after=["two"]), task("four", "ann", after=["three"])],
        {"ann": [write("bob", "HELLO"), together(write("cyd", "HI"), write("broadcast", "ALL")), "A1", "A2"], "bob": ["B"], "cyd": ["C"]},
    ),
    "a message in the midst of a conversation": Case(
        [agent("lead", delegates_to=["ann"]), agent("ann", messaging=True)], [task("t", "lead")],
        {"lead": [hand("ann", "WORK"), "DONE"], "ann": [write("lead", "PSST"), "DRAFT"]},
    ),
    "memory": Case(
        [ANN, BOB], [task("one", "ann"), task("two", "bob", after=["one"])],
        {
            "ann": [use("remember", text="TASK noted"), use("recall", query="noted"), use("remember", text="6:12", key="TASK two"), "A"],
            "bob": [use("recall", query="TASK"), "B"],
        },
        team={"memory": True},
    ),
    "reviews of answers": Case(
        [ANN, BOB], [task("t", "ann", human_review=True), task("u", "bob", context=["t"], human_review=True)], {"ann": ["A1", "A2"], "bob": ["B"]},
        people=["not so", Decision(approved=True, content="EDITED"), True],
    ),
    "reviews of tools": Case(
        [agent("ann", tools=["wipe"])], [task("t", "ann")],
        {"ann": [together(use("wipe", path="a"), use("wipe", path="a")), use("wipe", path="b"), "A"]},
        team={"tools": {"wipe": {"python": "x:y", "requires_confirmation": True}}}, people=["not this", True, False],
    ),
    "people in a group chat": Case(
        [ANN, AgentSpec(name="boss", human=True)], [task("t", participants=["ann", "boss"], max_rounds=4)], {"ann": ["A1", "A2"]},
        people=["SAID-1", "SAID-2"],
    ),
}  # fmt: skip


def asker(request: Request) -> str:
    """Whose model was asked."""
    match = re.search(r"You are (\w+)\.", request.text)
    return SELECTION if "You lead a group chat" in request.text else match[1] if match else "?"


def script(server: ScriptedServer, says: Mapping[str, Sequence[str | Reply]]) -> None:
    """Let every agent say its answers in turn."""
    server.reply("You lead a group chat", *says.get(SELECTION, ()))
    for name, replies in says.items():
        server.reply(f"You are {name}.", *replies)


def built(server: ScriptedServer, case: Case, **fields: Any) -> TeamSpec:
    """The case's team."""
    return TeamSpec(**{"name": "team", "agents": list(case.agents), "tasks": list(case.tasks), "models": {"default": server.model()}, "process": "graph", **case.team, **fields})  # fmt: skip


class People:
    """A reviewer who says what the case has, in turn, and keeps what was asked."""

    def __init__(self, says: Sequence[Any]) -> None:
        self._says, self.asked = list(says), []
        self.asked: list[tuple[str, str]] = []

    def __call__(self, review: Review) -> Any:
        """The next decision."""
        self.asked.append((review.kind, review.content))
        return self._says.pop(0)


@dataclass
class Session:
    """What was seen of a run: the bodies that were answered, the calls of tools, what people were asked, and the result."""

    result: RunResult
    bodies: Counter[str]
    calls: list[str]
    asked: list[tuple[str, str]]
    events: list[Event]


def stopped(team: TeamSpec, backend: str, server: ScriptedServer, at: int | None, **options: Any) -> RunResult:
    """Run until the 401 of the script; or, with `at`, until so many requests were made, and cancel it then."""
    if at is None:
        with pytest.raises(RunError) as caught:
            run_team(team, backend=backend, run_id=RUN, **options)
        assert caught.value.result is not None
        return caught.value.result
    done = asyncio.run(_cancelled(team, backend, server, at, options))
    assert done
    return done[0]


async def _cancelled(team: TeamSpec, backend: str, server: ScriptedServer, at: int, options: Any) -> list[RunResult]:
    running = asyncio.create_task(run_team_async(team, backend=backend, run_id=RUN, **options))
    while len(server.requests) < at and not running.done():  # noqa: ASYNC110  # the server lives in a thread of its own
        await asyncio.sleep(0.005)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    while (record := open_journal("sqlite:///runs.db").run(RUN)).status == "running":  # its end is written a moment later
        await asyncio.sleep(0.005)
    return [RunResult.model_validate(record.result)]


def tools_of(case: Case) -> dict[str, Any]:
    """The tools that the case's agents name."""
    return {name: TOOLS[name] for name in TOOLS if any(name in agent.tools for agent in case.agents)}


def facts(case: Case) -> None:
    """What a memory holds before the run."""
    if "memory" in case.team:
        AgentMemory(team="team").add_to_long_term("TASK", "6:12")


def told(result: RunResult) -> list[tuple[str, ...]]:
    """The messages of a run, and who never read them."""
    return sorted((m.sender, m.recipient, m.message_type, m.content, *m.undelivered) for m in result.messages)


def outcome(result: RunResult) -> dict[str, Any]:
    """What a resumed run's result has in common with that of an uninterrupted one."""
    tasks = {n: (t.status, t.agent, t.backend, t.output, t.truncated, t.error, t.usage.output_tokens) for n, t in result.tasks.items()}
    return {
        "status": result.status,
        "output": result.output,
        "tasks": tasks,
        "messages": told(result),
        "tokens": result.usage.output_tokens,
    }


def answered(requests: Sequence[Request], stop: int | None = None) -> Counter[str]:
    """The bodies of requests, without that of the one that was not answered, and without what was recalled: memory may have changed since."""
    bodies = (json.dumps(r.body, sort_keys=True) for n, r in enumerate(requests) if n != stop)
    return Counter(re.sub(r"\\n\\nWhat the team remembers.*?(?=\")", "", body.replace('\\"', "'")) for body in bodies)


def positions(case: Case) -> Iterator[tuple[str, int]]:
    """Every request of a case: the agent and its how manieth."""
    for name, replies in case.says.items():
        for number, reply in enumerate(replies):
            if not (isinstance(reply, Reply) and reply.status != 200):
                yield name, number


def with_stop(case: Case, name: str, number: int) -> dict[str, Sequence[str | Reply]]:
    """The script with one request not answered the first time."""
    says = dict(case.says)
    says[name] = [*says[name][:number], LATE if case.cancel else STOP, *says[name][number:]]
    return says


def whole(case: Case, backend: str) -> tuple[dict[str, Any], Counter[str], list[str], list[tuple[str, str]]]:
    """The run without a stop: the negative control of all that follows."""
    people = People(case.people)
    with ScriptedServer() as server:
        facts(case)
        script(server, case.says)
        result = run_team(built(server, case), backend=backend, tools=tools_of(case), reviewer=people, run_id="whole")
        made, CALLS[:] = list(CALLS), []
        return outcome(result), answered(server.requests), sorted(made), people.asked


@pytest.mark.parametrize("name", CASES)
def test_two_sessions_are_as_one(backend: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the run stops: no answered request is made again, none is left out, and the result, messages, tools and reviews are those of one run."""
    case = CASES[name]
    wanted, bodies, calls, asked = whole(case, backend)
    for who, number in positions(case):
        folder = tmp_path / f"{who}-{number}"
        folder.mkdir()
        monkeypatch.chdir(folder)
        events: list[Event] = []
        people = People(case.people)
        with ScriptedServer() as server:
            facts(case)
            script(server, with_stop(case, who, number))
            team = built(server, case)
            options: dict[str, Any] = {"tools": tools_of(case), "reviewer": people}
            first = stopped(team, backend, server, _cancel_at(case, who) if case.cancel else None, **options)
            asked_first = len(server.requests)
            stop = next(n for n, r in enumerate(server.requests) if asker(r) == who and _failed(server, n, who, number))
            assert first.status in ("failed", "cancelled")
            second = resume_run(RUN, team=team, on_event=events.append, **options)
            place = f"{who} {number + 1}"
            assert answered(server.requests, stop) == bodies, place
            assert len(server.requests) > asked_first, place
            assert outcome(second) == wanted, place
            assert sorted(CALLS) == calls, place
            assert sorted(people.asked) == sorted(asked), place
            assert not [event for event in events if isinstance(event, ReplayDiverged)], place
            assert second.resumed_from == second.run_id == RUN
            seqs = [event.seq for event in open_journal("sqlite:///runs.db").events(RUN)]
            assert seqs == list(range(1, len(seqs) + 1)), place
            CALLS.clear()


def _cancel_at(case: Case, who: str) -> int:
    """How many requests there are once this agent's is made."""
    names = list(case.says)
    return sum(len(case.says[name]) for name in names[: names.index(who)]) + 1


def _failed(server: ScriptedServer, position: int, who: str, number: int) -> bool:
    """Whether this is the request of an agent that was not answered: its how manieth."""
    return sum(asker(r) == who for r in server.requests[:position]) == number
