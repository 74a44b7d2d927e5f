"""Resuming on every backend: what was completed or answered is not asked again, whatever stopped the run and wherever in it.

A case is data: a team and what its models say. It is run once without a stop; then once for every request of it, with that request failing
and the run resumed. What the server answered in both sessions together must be, body by body, what it answered without a stop, and so must
the result, the messages and the calls of tools. Every agent's role is its name, as in test_teamwork.py.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    resume_run_async,
    run_team,
    run_team_async,
)
from unified_agents import journal as journals
from unified_agents.errors import AuthenticationError, JournalError, RunBusyError, UnfinishedCallError, UnknownRunError, UnrecordedRunError
from unified_agents.events import (
    CallReplayed,
    Event,
    JournalUnavailable,
    ModelAnswered,
    ReplayDiverged,
    RunCompleted,
    RunFailed,
    RunResumed,
    RunStarted,
    TaskCompleted,
)
from unified_agents.journal import open_journal
from unified_agents.review import Decision, Review
from unified_agents.spec import BudgetSpec
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

    `people`: what reviewers decide, in turn, or by what they are asked. `cancel`: stop by cancelling, where a failure would go to a fallback.
    """

    agents: Sequence[AgentSpec]
    tasks: Sequence[TaskSpec]
    says: Mapping[str, Sequence[str | Reply]]
    team: Mapping[str, Any] = field(default_factory=dict)
    people: Sequence[Any] | Mapping[str, Any] = ()
    cancel: bool = False

    @property
    def at_once(self) -> bool:
        """Whether coworkers work at the same time: a failure of one ends the others, so it comes when they have answered."""
        replies = [reply for says in self.says.values() for reply in says if isinstance(reply, Reply)]
        return any(sum(wanted["function"]["name"] == DELEGATE for wanted in reply.tool_calls) > 1 for reply in replies)


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
    return str(participants[-1 - len(turns) % len(participants)])


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
        {"ann": [write("bob", "HELLO"), write("cyd", "HI"), write("broadcast", "ALL"), "A1", "A2"], "bob": ["B"], "cyd": ["C"]},
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
        {"ann": [together(use("wipe", path="a"), use("wipe", path="b")), use("wipe", path="c"), "A"]},
        team={"tools": {"wipe": {"python": "x:y", "requires_confirmation": True}}},
        people={'{"path": "a"}': "not this", '{"path": "b"}': True, '{"path": "c"}': False},
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


def built(server: ScriptedServer, case: Case) -> TeamSpec:
    """The case's team."""
    fields = {"agents": list(case.agents), "tasks": list(case.tasks), "models": {"default": server.model()}, **case.team}
    return TeamSpec(name="team", process="graph", **fields)


class People:
    """A reviewer who says what the case has, in turn or by what is asked, and keeps what was asked."""

    def __init__(self, says: Sequence[Any] | Mapping[str, Any]) -> None:
        self._says = dict(says) if isinstance(says, Mapping) else list(says)
        self.asked: list[tuple[str, str]] = []

    def __call__(self, review: Review) -> Any:
        """The next decision."""
        self.asked.append((review.kind, review.content))
        return self._says.pop(0) if isinstance(self._says, list) else self._says[review.content]


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
    return [RunResult.model_validate((await ended()).result)]


async def ended() -> journals.RunRecord:
    """The run once its end is written, a moment after it was cancelled."""
    while (record := open_journal("sqlite:///runs.db").run(RUN)).status == "running":  # noqa: ASYNC110  # it may be another process
        await asyncio.sleep(0.005)
    return record


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


def positions(case: Case) -> list[tuple[str, int]]:
    """The requests of a case at which it is stopped: the agent and its how manieth. The first, one in the midst and the last; all with UNIFIED_AGENTS_LONG."""
    found = [
        (name, number)
        for name, replies in case.says.items()
        for number, reply in enumerate(replies)
        if not (isinstance(reply, Reply) and reply.status != 200)
    ]
    return found if os.environ.get("UNIFIED_AGENTS_LONG") else list(dict.fromkeys([found[0], found[len(found) // 2], found[-1]]))


def with_stop(case: Case, name: str, number: int) -> dict[str, Sequence[str | Reply]]:
    """The script with one request not answered the first time."""
    says = dict(case.says)
    stop = LATE if case.cancel else replace(STOP, delay=0.5 if case.at_once else 0.0)
    says[name] = [*says[name][:number], stop, *says[name][number:]]
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


def another(backend: str) -> str:
    """A backend that is not this one."""
    return next(name for name in sorted(backends()) if name != backend and backends()[name].available)


FIVE = [
    task("one", "ann"),
    task("two", "bob", context=["one"]),
    task("three", "cyd", context=["two"]),
    task("four", "ann", context=["three"]),
    task("five", "bob", context=["one", "four"]),
]


def five(server: ScriptedServer, **fields: Any) -> TeamSpec:
    """A chain of five tasks; the third fails the first time it is asked."""
    for name in ("one", "two", "four", "five"):
        server.reply(f"TASK-{name}.", f"OUT-{name}", forever=True)
    server.reply("TASK-three.", STOP)
    server.reply("TASK-three.", "OUT-three", forever=True)
    return TeamSpec(**{"name": "team", "agents": [ANN, BOB, CYD], "tasks": FIVE, "models": {"default": server.model()}, **fields})


def tasks_asked(requests: Sequence[Request]) -> list[str]:
    """The tasks whose model was asked."""
    return [match[1] for request in requests if (match := re.search(r"TASK-(\w+)\.", request.text))]


@pytest.mark.parametrize("there", [False, True])
def test_the_remainder_runs_here_or_elsewhere(server: ScriptedServer, backend: str, there: bool) -> None:
    """Exactly the missing tasks' requests, with the completed outputs in them; the result says which task ran where; all sessions count."""
    where = another(backend) if there else backend
    team = five(server)
    first = stopped(team, backend, server, None)
    assert tasks_asked(server.requests) == ["one", "two", "three"]
    result = resume_run(RUN, team=team, backend=where)
    assert tasks_asked(server.requests[3:]) == ["three", "four", "five"]
    assert "OUT-two" in server.requests[3].text
    assert ("OUT-one" in server.requests[5].text, "OUT-four" in server.requests[5].text) == (True, True)
    assert {name: one.backend for name, one in result.tasks.items()} == {
        "one": backend, "two": backend, "three": where, "four": where, "five": where,
    }  # fmt: skip
    assert (result.status, result.output, result.resumed_from, result.run_id) == ("completed", "OUT-five", RUN, RUN)
    assert (result.usage.model_calls, result.usage.output_tokens, result.usage.by_agent["cyd"].model_calls) == (6, 15, 2)
    assert {name: one.attempts for name, one in result.tasks.items()} == {"one": 1, "two": 1, "three": 2, "four": 1, "five": 1}
    assert result.tasks["one"].duration_s == pytest.approx(first.tasks["one"].duration_s)
    assert result.duration_s > first.duration_s
    assert "AuthenticationError" in result.tasks["three"].notes[0]
    assert [m.content for m in result.messages].count("OUT-one") == 2  # to two and to five, once each


def test_a_fresh_run_asks_everything_again(server: ScriptedServer, backend: str) -> None:
    """The negative control: another run id, or no journal, and nothing is kept."""
    team = five(server)
    stopped(team, backend, server, None)
    run_team(team, backend=backend, run_id="another")
    assert tasks_asked(server.requests[3:]) == ["one", "two", "three", "four", "five"]
    run_team(team.model_copy(update={"journal": None}), backend=backend, run_id="none")
    with pytest.raises(UnknownRunError, match="'none'"):
        resume_run("none", team=team)


def test_a_completed_run_gives_its_stored_result(server: ScriptedServer, backend: str) -> None:
    """Without a request, a team, or a tool; also when it was itself resumed."""
    team = five(server)
    stopped(team, backend, server, None)
    result = resume_run(RUN, team=team)
    asked = len(server.requests)
    assert resume_run(RUN) == result
    assert resume_run(RUN, backend=another(backend)) == result
    assert len(server.requests) == asked
    with pytest.raises(SpecError, match=f"there is a run '{RUN}' already: resume it"):
        run_team(team, backend=backend, run_id=RUN)


def chattering(server: ScriptedServer) -> TeamSpec:
    """A task of three calls with two tools, that fails at the last."""
    server.reply("TASK-t.", use("lookup", q="x"), use("lookup", q="y"), STOP)
    return TeamSpec(name="team", agents=[LOOKER], tasks=[task("t", "ann")], models={"default": server.model()})


def replayed(events: Sequence[Event]) -> list[str]:
    """What was answered from the record."""
    return [event.kind for event in events if isinstance(event, CallReplayed)]


TWO = {"lookup": lookup, "fetch": fetch}


@pytest.mark.parametrize("prompts", ["native", "neutral"])
def test_within_a_task_another_backend_goes_live(server: ScriptedServer, backend: str, prompts: Any) -> None:
    """Where its prompts differ, which is said; what the tools said is taken from the record all the same. With neutral prompts everything is."""
    server.reply("FOUND-y", STOP, *(Reply(text="DONE") if n % 2 == 0 else STOP for n in range(9)))
    server.reply("FOUND-x", use("lookup", q="y"), forever=True).reply("TASK-t.", use("lookup", q="x"), forever=True)
    team = TeamSpec(name="team", agents=[LOOKER], tasks=[task("t", "ann")], models={"default": server.model()}, prompts=prompts)
    for where in (name for name in backends() if name != backend and backends()[name].available):
        events: list[Event] = []
        server.requests.clear()
        with pytest.raises(RunError):
            run_team(team, backend=backend, run_id=where, tools=TWO)
        CALLS.clear()
        result = resume_run(where, team=team, backend=where, tools=TWO, on_event=events.append)
        openings = [[m["content"] for m in server.requests[n].messages[:2]] for n in (0, -1)]
        differs = openings[0] != openings[1]
        assert not (differs and prompts == "neutral")
        kinds = ["tool", "tool"] if differs else ["model", "tool", "model", "tool"]
        assert (result.output, len(server.requests), replayed(events), CALLS) == ("DONE", 6 if differs else 4, kinds, [])
        assert len([event for event in events if isinstance(event, ReplayDiverged)]) == differs


def test_a_changed_conversation_goes_live(server: ScriptedServer, backend: str) -> None:
    """From where it asks something else: another model here. The event says what was asked before."""
    events: list[Event] = []
    team = chattering(server)
    stopped(team, backend, server, None, tools=TWO)
    server.reply("TASK-t.", use("lookup", q="y"), "DONE")
    other = team.model_copy(update={"models": {"default": server.model(model="openai/other")}})
    assert resume_run(RUN, team=other, tools=TWO, on_event=events.append).output == "DONE"
    assert [request.model for request in server.requests] == ["scripted"] * 3 + ["other"] * 2
    (diverged,) = [event for event in events if isinstance(event, ReplayDiverged)]
    assert (diverged.task, diverged.reason) == ("t", "openai/scripted was asked before")
    assert CALLS == ["lookup x", "lookup y"]


def test_a_fallback_models_answer_is_recorded(server: ScriptedServer, backend: str) -> None:
    """What the second model said is not asked for again, of either."""
    server.reply("TASK-t.", Reply(status=404), use("lookup", q="x"), Reply(status=401))
    models = {"default": server.model(fallbacks=["small"]), "small": server.model(model="openai/small")}
    team = TeamSpec(name="team", agents=[LOOKER], tasks=[task("t", "ann")], models=models)
    stopped(team, backend, server, None, tools=TWO)
    server.reply("TASK-t.", "DONE")
    result = resume_run(RUN, team=team, tools=TWO)
    assert [request.model for request in server.requests] == ["scripted", "small", "scripted", "scripted"]
    assert (result.output, CALLS) == ("DONE", ["lookup x"])


def test_a_coworker_that_failed_is_asked_again_and_its_fallback_is_not(server: ScriptedServer, backend: str) -> None:
    """A failure is no record; when it fails in the same way, the fallback's answer is taken from the record."""
    agents = [agent("lead", delegates_to=["ann"]), agent("ann", fallback="bob"), BOB]
    server.reply("You are ann.", Reply(status=400), forever=True).reply("You are bob.", "DRAFT")
    server.reply("You are lead.", hand("ann", "WORK"), STOP, "DONE")
    team = TeamSpec(name="team", agents=agents, tasks=[task("t", "lead")], models={"default": server.model()})
    stopped(team, backend, server, None)
    result = resume_run(RUN, team=team)
    assert [asker(request) for request in server.requests] == ["lead", "ann", "bob", "lead", "ann", "lead"]
    assert (result.output, len(result.tasks["t"].notes)) == ("DONE", 3)  # of ann, of lead, of ann again


def test_a_fallback_agents_task_stays_with_it(server: ScriptedServer, backend: str) -> None:
    """Where the fallback failed for a reason from outside, it goes on; the first agent is not asked again."""
    agents = [agent("ann", fallback="bob"), agent("bob", tools=["lookup"])]
    server.reply("You are ann.", Reply(status=400)).reply("You are bob.", use("lookup", q="x"), STOP, "B")
    team = TeamSpec(name="team", agents=agents, tasks=[task("t", "ann")], models={"default": server.model()})
    stopped(team, backend, server, None, tools={"lookup": lookup})
    result = resume_run(RUN, team=team, tools={"lookup": lookup})
    assert [asker(request) for request in server.requests] == ["ann", "bob", "bob", "bob"]
    assert (result.output, result.tasks["t"].agent, result.tasks["t"].attempts, CALLS) == ("B", "bob", 3, ["lookup x"])


@pytest.mark.parametrize("again", [False, True])
def test_a_task_that_failed_by_itself_begins_afresh(server: ScriptedServer, backend: str, again: bool) -> None:
    """Its recorded answers are what it failed for. Stopped again in the new attempt, that attempt goes on and is not begun once more."""
    ann = agent("ann", tools=["lookup"])
    team = TeamSpec(
        name="team", agents=[ann], tasks=[task("t", ann, guardrail=short, guardrail_retries=0)], models={"default": server.model()}
    )
    server.reply("TASK-t.", "LONG", use("lookup", q="x"), *([STOP] if again else []), "SHORT")
    stopped(team, backend, server, None, tools={"lookup": lookup})
    if again:
        with pytest.raises(AuthenticationError):
            resume_run(RUN, team=team, tools={"lookup": lookup})
    result = resume_run(RUN, team=team, tools={"lookup": lookup})
    assert len(server.requests) == (4 if again else 3)
    assert (result.output, CALLS) == ("SHORT", ["lookup x"])
    assert [note.split(":")[1].strip() for note in result.tasks["t"].notes] == [
        "GuardrailError",
        *(["AuthenticationError"] if again else []),
    ]


def test_a_task_that_failed_for_its_output_file_writes_it(server: ScriptedServer, backend: str, tmp_path: Path) -> None:
    """The answer was good: nothing is asked again once the folder can be written."""
    Path("out").write_text("in the way")
    team = TeamSpec(name="team", agents=[ANN], tasks=[task("t", "ann", output_file="out/t.txt")], models={"default": server.model()})
    server.reply("TASK-t.", "DONE")
    stopped(team, backend, server, None)
    Path("out").unlink()
    resume_run(RUN, team=team)
    assert (Path("out/t.txt").read_text().strip(), len(server.requests)) == ("DONE", 1)


def test_stopped_by_its_budget_a_run_goes_on_with_more(server: ScriptedServer, backend: str) -> None:
    """What was spent counts: with the same budget nothing is asked, with a larger one only what is missing."""
    team = five(server, budget={"model_calls": 2})
    stopped(team, backend, server, None)
    assert tasks_asked(server.requests) == ["one", "two"]
    with pytest.raises(RunError, match="2 of it spent"):
        resume_run(RUN, team=team)
    assert len(server.requests) == 2
    with pytest.raises(AuthenticationError):
        resume_run(RUN, team=team.model_copy(update={"budget": BudgetSpec(model_calls=6)}))
    result = resume_run(RUN, team=team.model_copy(update={"budget": BudgetSpec(model_calls=6)}))
    assert (result.status, tasks_asked(server.requests)) == ("completed", ["one", "two", "three", "three", "four", "five"])


CHANGES: dict[str, tuple[Callable[[list[TaskSpec]], list[TaskSpec]], list[str], list[str]]] = {
    "changed": (lambda tasks: [*tasks[:3], tasks[3].model_copy(update={"expected_output": "NEW"}), tasks[4]], ["tasks.four: is not what"], []),
    "a changed agent": (lambda tasks: [*tasks[:2], tasks[2].model_copy(update={"agent": "ann"}), *tasks[3:]], ["tasks.three: is not what"], []),
    "completed and changed": (
        lambda tasks: [tasks[0].model_copy(update={"expected_output": "NEW"}), *tasks[1:]], ["tasks.one: is not what"], [],
    ),
    "added": (lambda tasks: [*tasks, task("six", "ann", context=["five"])], ["tasks.six: was not in the team"], ["six"]),
    "missing": (
        lambda tasks: [tasks[0], *tasks[2:4], tasks[4]], ["tasks.two: is not in the team any more", "tasks.three: is not what"], [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_changed_tasks_are_reported_and_may_be_accepted(server: ScriptedServer, backend: str, change: str) -> None:
    """By name, before any request; accepted, the run goes on with the team as it is, and what was completed keeps its output."""
    made, said, more = CHANGES[change]
    team = five(server)
    stopped(team, backend, server, None)
    server.reply("TASK-six.", "OUT-six", forever=True)
    tasks = made(list(FIVE))
    if change == "missing":
        tasks[1] = tasks[1].model_copy(update={"context": ("one",)})
    now = TeamSpec(name="team", agents=[ANN, BOB, CYD], tasks=tasks, models={"default": server.model()})
    with pytest.raises(SpecError) as caught:
        resume_run(RUN, team=now)
    assert all(words in str(caught.value) for words in [*said, "--accept-changes"])
    assert len(caught.value.problems) == len(said)
    assert len(server.requests) == 3
    result = resume_run(RUN, team=now, accept_changes=True)
    assert tasks_asked(server.requests[3:]) == ["three", "four", "five", *more]
    assert (result.status, list(result.tasks)) == ("completed", [one.name for one in tasks])
    assert result.tasks["one"].output == "OUT-one"
    assert resume_run(RUN) == result


def test_a_tool_with_side_effects_is_not_repeated_unasked(server: ScriptedServer, backend: str) -> None:
    """It began and has no result: nobody knows whether it was done. Not in a task that was completed, and not a call that has its result."""
    started, go = threading.Event(), threading.Event()

    def wipe(path: str) -> str:
        """Delete something."""
        CALLS.append(f"wipe {path}")
        if path == "b" and not go.is_set():
            started.set()
            go.wait(20)
        return "WIPED"

    async def interrupted() -> None:
        running = asyncio.create_task(run_team_async(team, backend=backend, run_id=RUN, tools={"wipe": wipe}))
        while not started.is_set() and not running.done():  # noqa: ASYNC110  # the tool runs in a thread of its own
            await asyncio.sleep(0.005)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await ended()

    server.reply("TASK-t.", use("wipe", path="a"), use("wipe", path="b"), "DONE")
    tools: Any = {"wipe": {"python": "x:y", "side_effects": True}}
    team = TeamSpec(
        name="team", agents=[agent("ann", tools=["wipe"])], tasks=[task("t", "ann")], models={"default": server.model()}, tools=tools
    )
    asyncio.run(interrupted())
    go.set()
    for _ in range(2):
        with pytest.raises(UnfinishedCallError, match=r"(?s)wipe\(path='b'\) in task 't'.*--repeat-unfinished"):
            resume_run(RUN, team=team, tools={"wipe": wipe})
    assert (len(server.requests), CALLS) == (2, ["wipe a", "wipe b"])
    assert resume_run(RUN, team=team, tools={"wipe": wipe}, repeat_unfinished=True).output == "DONE"
    assert (len(server.requests), CALLS) == (3, ["wipe a", "wipe b", "wipe b"])


def test_one_process_works_on_a_run(server: ScriptedServer, backend: str) -> None:
    """Whoever comes second gets RunBusyError and asks nothing; the first one completes."""
    team = five(server)
    stopped(team, backend, server, None)
    asked: list[Any] = []

    def second(event: Event) -> None:
        if isinstance(event, RunResumed):
            with pytest.raises(RunBusyError, match=RUN) as caught:
                resume_run(RUN, team=team)
            asked.append(caught.value)

    result = resume_run(RUN, team=team, on_event=second)
    assert (result.status, len(asked), len(server.requests)) == ("completed", 1, 6)


def full(monkeypatch: pytest.MonkeyPatch, pages: int) -> None:
    """Let the disk hold so many pages of the journal more."""
    connect = journals._connect

    def connected(path: Path) -> sqlite3.Connection:
        db = connect(path)
        count = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {count + pages}")
        return db

    monkeypatch.setattr(journals, "_connect", connected)


def locked(path: Path) -> sqlite3.Connection:
    """A connection that holds the journal."""
    journals._connect(path).close()
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    return db


def newer(path: Path) -> None:
    """A journal of a version to come."""
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")


BROKEN: dict[str, tuple[Callable[[Path, pytest.MonkeyPatch], Any], str]] = {
    "a folder in its place": (lambda path, _: path.mkdir(), "directory"),
    "no database": (lambda path, _: path.write_text("hello " * 500), "not a database"),
    "a newer version": (lambda path, _: newer(path), "newer version of unified_agents"),
    "locked": (lambda path, _: locked(path), "another process has been writing to it"),
    "a full disk": (lambda _, patch: full(patch, 0), "no room left"),
}


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("how", BROKEN)
def test_a_journal_that_cannot_be_written(
    server: ScriptedServer, backend: str, how: str, required: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clear error before the first request; where it is not required, the run goes on and says once that it cannot be resumed."""
    monkeypatch.setattr(journals, "_BUSY_SECONDS", 0.1)
    path = tmp_path / "broken.db"
    held = BROKEN[how][0](path, monkeypatch)
    events: list[Event] = []
    given = {"size": "more than a page of the file " * 300}
    server.reply("TASK-t.", "DONE")
    team = TeamSpec(
        name="team", agents=[ANN], tasks=[task("t", "ann")], models={"default": server.model()}, inputs={"size": {}},
        journal={"store": f"sqlite:///{path}", "required": required},
    )  # fmt: skip
    if required:
        with pytest.raises(JournalError, match=BROKEN[how][1]):
            run_team(team, given, backend=backend, run_id=RUN, on_event=events.append)
        assert (server.requests, events) == ([], [])
        server.reply("TASK-t.", forever=True)
    else:
        assert run_team(team, given, backend=backend, run_id=RUN, on_event=events.append).status == "completed"
        (said,) = [event for event in events if isinstance(event, JournalUnavailable)]
        assert re.search(BROKEN[how][1], said.error)
        assert [event.resumable for event in events if isinstance(event, RunStarted)] == [False]
    if isinstance(held, sqlite3.Connection):
        held.close()


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("pages", [1, 2, 3])
def test_a_disk_that_becomes_full(
    server: ScriptedServer, backend: str, pages: int, required: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends with a JournalError and its result, or goes on and says so; what was committed is there without a gap, and is resumed only where it ended."""
    server.reply("TASK-one.", "OUT-one" * 1500, forever=True).reply("TASK-two.", "OUT-two" * 1500, forever=True)
    tasks = [task("one", "ann"), task("two", "bob", after=["one"])]
    team = TeamSpec(name="team", agents=[ANN, BOB], tasks=tasks, models={"default": server.model()}, journal={"required": required})
    events: list[Event] = []
    with monkeypatch.context() as patch:
        full(patch, pages)
        if required:
            with pytest.raises(JournalError, match="no room left") as caught:
                run_team(team, backend=backend, run_id=RUN)
            assert caught.value.result is not None
            assert caught.value.result.status == "failed"
        else:
            assert run_team(team, backend=backend, run_id=RUN, on_event=events.append).status == "completed"
            assert len([event for event in events if isinstance(event, JournalUnavailable)]) == 1
    kept = journals.Journal(Path(".unified_agents/runs.db").absolute()).events(RUN)
    assert [event.seq for event in kept] == list(range(1, len(kept) + 1))
    done = {event.task for event in kept if isinstance(event, (ModelAnswered, TaskCompleted))}
    asked = len(server.requests)
    journals._journals.clear()
    if required:
        assert resume_run(RUN, team=team).status == "completed"
        assert set(tasks_asked(server.requests[asked:])) == {"one", "two"} - done
        return
    assert open_journal("sqlite:///runs.db").run(RUN).status == "unrecorded"
    with pytest.raises(UnrecordedRunError, match="went on after its journal had failed"):
        resume_run(RUN, team=team)
    assert len(server.requests) == asked


@pytest.mark.parametrize("required", [True, False])
def test_a_journal_that_fails_at_the_end(server: ScriptedServer, backend: str, required: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run has completed or failed, and says so once and after it was written down; no number is left out."""
    server.reply("TASK-t.", "DONE", forever=True)
    team = TeamSpec(name="team", agents=[ANN], tasks=[task("t", "ann")], models={"default": server.model()}, journal={"required": required})
    events: list[Event] = []
    commit = journals.Writer._commit

    def fails(self: journals.Writer, statements: Sequence[journals.Statement]) -> None:
        if any("RunCompleted" in values for _, values in statements):
            raise sqlite3.OperationalError("database or disk is full")
        commit(self, statements)

    with monkeypatch.context() as patch:
        patch.setattr(journals.Writer, "_commit", fails)
        if required:
            with pytest.raises(JournalError, match="no room left"):
                run_team(team, backend=backend, run_id=RUN, on_event=events.append)
        else:
            assert run_team(team, backend=backend, run_id=RUN, on_event=events.append).status == "completed"
    ends = [type(event).__name__ for event in events if isinstance(event, (RunCompleted, RunFailed, JournalUnavailable))]
    assert ends == (["RunFailed"] if required else ["JournalUnavailable", "RunCompleted"])
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert open_journal("sqlite:///runs.db").run(RUN).status == ("failed" if required else "unrecorded")
    if required:
        assert resume_run(RUN, team=team, on_event=events.append).status == "completed"
        assert isinstance(open_journal("sqlite:///runs.db").events(RUN)[-1], RunCompleted)
        assert len(server.requests) == 1


def test_a_run_that_is_said_to_be_completed_is_written_down(server: ScriptedServer, backend: str) -> None:
    """Whoever hears RunCompleted, with the result in it, finds both in the journal."""
    server.reply("TASK-t.", "DONE")
    team = TeamSpec(name="team", agents=[ANN], tasks=[task("t", "ann")], models={"default": server.model()})
    found: list[Any] = []

    def listen(event: Event) -> None:
        if isinstance(event, RunCompleted):
            book = journals.Journal(Path(".unified_agents/runs.db").absolute())
            found.extend([event.result, book.run(RUN), book.events(RUN)[-1]])

    result = run_team(team, backend=backend, run_id=RUN, on_event=listen)
    assert found[0] == result
    assert (found[1].status, found[1].result["output"], type(found[2]).__name__) == ("completed", "DONE", "RunCompleted")


def test_a_session_that_cannot_be_written_down_is_the_last(server: ScriptedServer, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a resumed run may go on without its journal, nobody knows afterwards what it did."""
    monkeypatch.setattr(journals, "_BUSY_SECONDS", 0.1)
    server.reply("TASK-t.", STOP, STOP, "DONE")
    team = TeamSpec(name="team", agents=[ANN], tasks=[task("t", "ann")], models={"default": server.model()}, journal={"required": False})
    with pytest.raises(AuthenticationError):
        run_team(team, backend=backend, run_id=RUN)
    journals._journals.clear()
    holder = locked(Path(".unified_agents/runs.db"))
    with pytest.raises(AuthenticationError):
        resume_run(RUN, team=team)
    holder.close()
    assert open_journal("sqlite:///runs.db").run(RUN).status == "unrecorded"
    with pytest.raises(UnrecordedRunError):
        resume_run(RUN, team=team)
    assert len(server.requests) == 2


def test_the_key_is_nowhere(server: ScriptedServer, backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not in an event, the journal's files, an error, the output or a log at its most talkative: whoever echoes it (provider, model, tool), whatever holds it."""
    caplog.set_level(logging.DEBUG)
    key = "sk-CANARY-0123456789abcdef"
    events: list[Event] = []
    echo = f"Incorrect API key: {key} and token-{key}"
    server.reply(
        "TASK-t.",
        use("lookup", q=key),
        use("printenv"),
        Reply(status=401, body={"error": {"message": echo}}),
        f"DONE with {key}, FOUND all",
    )

    def printenv() -> str:
        """Shows the environment."""
        return f"OPENAI_API_KEY={key}"

    ann = AgentSpec(name="ann", role="Looker", tools=[lookup, printenv])
    model = server.model(api_key=key, extra_headers={"X-Key": key}, extra_body={"session_token": f"token-{key}"})
    team = TeamSpec(name="team", agents=[ann], tasks=[task("t", "ann")], models={"default": model})
    with pytest.raises(RunError) as caught:
        run_team(team, backend=backend, run_id=RUN, on_event=events.append)
    result = resume_run(RUN, team=team, on_event=events.append)
    assert server.requests[-1].headers["Authorization"] == f"Bearer {key}"
    assert server.requests[-1].body["session_token"] == f"token-{key}"
    assert key not in json.dumps(server.requests[-1].messages)
    assert result.output == "DONE with …, FOUND all"
    told = json.dumps([event.to_dict() for event in events], default=str) + str(caught.value) + repr(caught.value.result)
    assert "CANARY" not in told
    assert any(record.name == "openai._base_client" for record in caplog.records)
    assert "CANARY" not in caplog.text
    files = [path for path in Path(".unified_agents").rglob("*") if path.is_file()]
    assert {"runs.db", "runs.db-wal"} <= {path.name for path in files}
    assert b"TASK-t" not in b"".join(path.read_bytes() for path in files)  # nor are prompts: only what was answered
    assert b"FOUND" in b"".join(path.read_bytes() for path in files)
    assert not [path for path in files if b"CANARY" in path.read_bytes()]


def test_a_short_key_changes_no_answer(server: ScriptedServer, backend: str) -> None:
    """The negative control: `ollama` and `none` are keys and words."""
    server.reply("TASK-t.", "none of it runs on ollama")
    team = TeamSpec(name="team", agents=[ANN], tasks=[task("t", "ann")], models={"default": server.model(api_key="ollama")})
    assert run_team(team, backend=backend).output == "none of it runs on ollama"


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "a b", "../x", "x" * 129, "a\n"])
def test_run_ids_that_are_no_names_are_refused(server: ScriptedServer, backend: str, name: str) -> None:
    """Before anything is made of them."""
    team = TeamSpec(name="team", agents=[ANN], tasks=[task("t", "ann")], models={"default": server.model()})
    with pytest.raises(SpecError, match="run_id"):
        run_team(team, backend=backend, run_id=name)
    with pytest.raises(UnknownRunError):
        resume_run(name, team=team)
    assert not list(Path(".unified_agents").glob("runs/*"))
    assert server.requests == []


def test_odd_answers_come_back_as_they_were(server: ScriptedServer, backend: str) -> None:
    """Surrogates, NULs, every script and a megabyte: what a replayed conversation sends is what it sent."""
    odd = "A\ud800\x00Ω日本\u2028" + "x" * 1_000_00
    server.reply("TASK-t.", Reply(text=odd, tool_calls=[call("lookup", {"q": odd[:50]})]), STOP, odd)
    team = TeamSpec(name="team", agents=[LOOKER], tasks=[task("t", "ann")], models={"default": server.model()})
    events: list[Event] = []
    stopped(team, backend, server, None, tools=TWO)
    result = resume_run(RUN, team=team, tools=TWO, on_event=events.append)
    assert server.requests[1].body == server.requests[2].body
    assert replayed(events) == ["model", "tool"]
    assert resume_run(RUN).output == result.output


def test_an_answer_without_text_is_asked_for_again(server: ScriptedServer, backend: str) -> None:
    """A layer that lost the text was mended: the task does not fail for the same recorded nothing for ever."""

    async def loses(request: Any, call_next: Any) -> Any:
        return replace(await call_next(request), text="")

    server.reply("TASK-t.", "LOST", "DONE")
    team = TeamSpec(name="team", agents=[ANN], tasks=[task("t", "ann")], models={"default": server.model()})
    stopped(team, backend, server, None, middleware=[loses])
    with pytest.raises(SpecError, match="middleware"):
        resume_run(RUN, team=team)
    assert resume_run(RUN, team=team, accept_changes=True).output == "DONE"


@pytest.mark.parametrize("name", [name for name in CASES if not CASES[name].cancel])
def test_with_neutral_prompts_two_backends_are_as_one(backend: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the midst and resumed elsewhere, where the prompts are the same text: every record counts there too."""
    case = CASES[name]
    stops = positions(case)
    who, number = stops[len(stops) // 2]
    events: list[Event] = []
    people = People(case.people)
    with ScriptedServer() as server:
        facts(case)
        script(server, with_stop(case, who, number))
        team = built(server, case).model_copy(update={"prompts": "neutral"})
        stopped(team, backend, server, None, tools=tools_of(case), reviewer=people)
        result = resume_run(RUN, team=team, backend=another(backend), tools=tools_of(case), reviewer=people, on_event=events.append)
        assert len(server.requests) == sum(len(replies) for replies in case.says.values()) + 1
    assert result.status == "completed"
    assert not [event for event in events if isinstance(event, ReplayDiverged)]
    assert not [message for message in result.messages if message.undelivered]
    assert len(people.asked) == len(case.people)


def test_a_cancelled_run_can_be_resumed_at_once(server: ScriptedServer, backend: str) -> None:
    """When `run_team_async` has raised, the run's end is written and nobody holds it any more."""
    server.reply("MARK", Reply(text="late", delay=30), "done")
    team = TeamSpec(tasks=[TaskSpec(name="t", description="MARK", agent=AgentSpec(name="a", role="a"))], models={"default": server.model()})

    async def stopped_then_resumed() -> str:
        running = asyncio.create_task(run_team_async(team, backend=backend, run_id="r"))
        while not server.requests:  # noqa: ASYNC110  # the server is a thread
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return str(await resume_run_async("r", team=team))

    assert asyncio.run(stopped_then_resumed()) == "done"


def test_a_task_that_begins_afresh_pays_nothing_twice(server: ScriptedServer, backend: str) -> None:
    """Its answers were at fault, so its model is asked again; the recorded result of a tool answers the same call, whatever the turn."""
    paid: list[int] = []

    def pay(amount: int) -> str:
        """Pays."""
        paid.append(amount)
        return f"paid {amount}"

    agent = AgentSpec(name="a", role="a", tools=[pay])
    task = TaskSpec(
        name="t", description="MARK", agent=agent, guardrail=lambda text: None if text == "good" else "bad", guardrail_retries=0
    )
    team = TeamSpec(tasks=[task], models={"default": server.model()})
    asked = Reply(tool_calls=[call("pay", {"amount": 5})])
    server.reply("MARK", asked, "bad", Reply(tool_calls=[call("pay", {"amount": 1})]), asked, "good")
    with pytest.raises(RunError):
        run_team(team, backend=backend, run_id="r")
    assert resume_run("r", team=team).output == "good"
    assert paid == [5, 1]
