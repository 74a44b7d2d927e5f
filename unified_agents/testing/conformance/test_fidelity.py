"""Every cell of the support matrix: a field that is supported has an effect that is seen, and none without it; a refused one stops the run.

A case is data: what the field adds to a small team, what must then be seen, and (by default) that it is not seen without the field.
"""

from __future__ import annotations

import contextlib
import copy
import sqlite3
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from unified_agents import AgentMemory, RunError, RunResult, TeamSpec, UnsupportedFeatureError, run_team
from unified_agents.fidelity import CORE, fidelity, used_fields
from unified_agents.registry import backends
from unified_agents.testing import Reply, ScriptedServer, call

TOOLS = '''
from dataclasses import dataclass, replace


def lookup(q: str) -> str:
    """S-DOCSTRING"""
    return f"S-FOUND {q}"


def fail(q: str) -> str:
    """Fails."""
    raise ValueError(q)


def slow(q: str) -> str:
    """Sleeps."""
    import time
    time.sleep(3)
    return "late"


class Made:
    """A tool that is built."""

    def __init__(self, word: str = "plain") -> None:
        self.word = word

    def __call__(self, q: str) -> str:
        """S-MADE"""
        return f"made {self.word}"


def check(text: str) -> str | None:
    return "S-FAULT" if text == "bad" else None


@dataclass(frozen=True)
class Loud:
    async def __call__(self, request, call_next):
        response = await call_next(request)
        return replace(response, text=response.text + " S-LOUD")
'''

SERVER = """
from mcp.server.fastmcp import FastMCP
server = FastMCP("x")

@server.tool()
def mcp_lookup(q: str) -> str:
    "S-MCP"
    return "S-FROM-MCP"

server.run()
"""


@dataclass
class Seen:
    """What a run left to look at."""

    server: ScriptedServer
    result: RunResult
    error: RunError | None
    reviews: list[Any]
    waits: list[float]

    @property
    def text(self) -> str:
        """Everything that was sent."""
        return "\n".join(request.text for request in self.server.requests)

    @property
    def first(self) -> Mapping[str, Any]:
        """The body of the first request."""
        return self.server.requests[0].body


@dataclass(frozen=True)
class Case:
    """`change` and `without` are merged into the small team; `effect` must hold with the first and not with the second."""

    change: Mapping[str, Any]
    effect: Callable[[Seen], Any]
    without: Mapping[str, Any] = field(default_factory=dict)
    answers: tuple[str | Reply, ...] = ("ok",)
    broken: bool = False  # the framework fails to build its team
    facts: tuple[str, ...] = ()  # what the team remembers before the run


def agent(**fields: Any) -> dict[str, Any]:
    """A change of the agent."""
    return {"agents": {"a": fields}}


def task(**fields: Any) -> dict[str, Any]:
    """A change of the task."""
    return {"tasks": {"t": fields}}


def model(**fields: Any) -> dict[str, Any]:
    """A change of the model."""
    return {"models": {"default": fields}}


def text(word: str) -> Callable[[Seen], bool]:
    """The word was sent to the model."""
    return lambda seen: word in seen.text


def body(key: str, value: Any) -> Callable[[Seen], bool]:
    """The first request holds the value."""
    return lambda seen: seen.first.get(key) == value


def error(kind: str) -> Callable[[Seen], bool]:
    """The run failed with this kind of error."""
    return lambda seen: type(seen.error).__name__ == kind


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `change` laid over it, mapping by mapping."""
    made = copy.deepcopy(dict(base))
    for key, value in change.items():
        made[key] = merged(made[key], value) if isinstance(value, Mapping) and isinstance(made.get(key), dict) else copy.deepcopy(value)
    return made


USES = {**agent(tools=["lookup"]), "tools": {"lookup": {"python": "my_tools:lookup"}}}
CALLS = (Reply(tool_calls=[call("lookup", {"q": "x"})]), "ok")
SECOND = {"agents": {"b": {"role": "S-OTHER-ROLE", "goal": "G"}}}
SEQUENCE = {"tasks": {"t": {}, "u": {"description": "AFTER", "agent": "a"}}}
OTHER = {"models": {"other": {"model": "openai/S-OTHER", "base_url": "SAME"}}}

WORDY: tuple[str | Reply, ...] = (*(Reply(tool_calls=[call("lookup", {"q": f"{n} " + "word " * 60})]) for n in range(5)), "ok")
ASKS = (Reply(tool_calls=[call("delegate_work_to_coworker", {"task": "S-WORK", "coworker": "b"})]), "S-ANSWER", "ok")
WRITES = (Reply(tool_calls=[call("send_message", {"recipient": "b", "content": "S-LETTER"})]), "ok")
NOTES: tuple[str | Reply, ...] = (*(Reply(tool_calls=[call("remember", {"text": f"note {n}"})]) for n in range(2)), "ok")
PAIR = merged(SECOND, {"agents": {"a": {"delegates_to": ["b"]}}})
PEN = merged(SECOND, {"agents": {"a": {"messaging": True}}})
NOBODY = {"tasks": {"t": {"agent": None}}}
SKILLS = {"agents": {"a": {"expertise": ["one"]}, "b": {"role": "S-OTHER-ROLE", "expertise": ["two"]}}, **NOBODY}
LED = {**merged(SECOND, NOBODY), "delegation": {"strategy": "hierarchical", "manager": "b"}}


PRICED = {"prices": {"openai/plain": {"input_per_million": 1, "output_per_million": 2}}}


def chat(**fields: Any) -> dict[str, Any]:
    """A change to a group chat of both agents."""
    return {**SECOND, "tasks": {"t": {"agent": None, "participants": ["a", "b"], "max_rounds": 2, **fields}}}


def tool(**fields: Any) -> dict[str, Any]:
    """A change of the tool that the agent uses."""
    return merged(USES, {"tools": {"lookup": fields}})


CASES: dict[str, Case] = {
    "name": Case({"name": "S-TEAM"}, lambda seen: seen.result.team == "S-TEAM"),
    "backend": Case({"backend": "THIS"}, lambda seen: seen.result.backend == "THIS", {"backend": "ANOTHER"}),
    "fallback_backend": Case(
        {"fallback_backend": "ANOTHER"}, lambda seen: seen.result.tasks["t"].status == "completed" and seen.result.tasks["t"].backend != seen.result.backend,
        broken=True,
    ),
    "process": Case(
        {**SEQUENCE, "process": "sequential"}, lambda seen: "ANSWER" in seen.server.asked("AFTER")[0].text, {**SEQUENCE, "process": "graph"}, ("ANSWER", "two")
    ),
    "prompts": Case({"prompts": "neutral"}, lambda seen: seen.first["messages"][0]["content"] == "You are R.\n\nYour goal: G"),
    "inputs.*": Case({"inputs": {"x": "S-INPUT"}, **task(description="MARK {x}")}, text("MARK S-INPUT"), {"inputs": {"x": "other"}, **task(description="MARK {x}")}),
    "models.*.model": Case(model(model="groq/vendor/S-NAME"), body("model", "vendor/S-NAME")),
    "models.*.base_url": Case(model(base_url="SAME/s-path"), lambda seen: seen.server.requests[0].path == "/v1/s-path/chat/completions"),
    "models.*.api_key": Case(model(api_key="S-KEY"), lambda seen: seen.server.requests[0].headers.get("Authorization") == "Bearer S-KEY"),
    "models.*.api_version": Case(model(api_version="S-V"), lambda seen: "api-version=S-V" in seen.server.requests[0].query),
    "models.*.temperature": Case(model(temperature=0.3), body("temperature", 0.3)),
    "models.*.top_p": Case(model(top_p=0.4), body("top_p", 0.4)),
    "models.*.seed": Case(model(seed=5), body("seed", 5)),
    "models.*.max_tokens": Case(model(max_tokens=6), body("max_tokens", 6)),
    "models.*.timeout": Case(model(timeout=0.2), error("APITimeoutError"), answers=(Reply(text="late", delay=0.8),)),
    "models.*.extra_headers": Case(model(extra_headers={"X-S": "S"}), lambda seen: seen.server.requests[0].headers.get("X-S") == "S"),
    "models.*.extra_body": Case(model(extra_body={"top_k": 4}), body("top_k", 4)),
    "models.*.fallbacks": Case(
        {"models": {"default": {"fallbacks": ["other"]}, **OTHER["models"]}},
        lambda seen: seen.result.output == "second", {}, (Reply(status=404), "second"),
    ),
    "agents.*.name": Case({"agents": {"S-AGENT": {"role": "R"}}, **task(agent="S-AGENT")}, lambda seen: seen.result.tasks["t"].agent == "S-AGENT"),
    "agents.*.role": Case(agent(role="S-ROLE"), text("S-ROLE")),
    "agents.*.goal": Case(agent(goal="S-GOAL"), text("S-GOAL")),
    "agents.*.backstory": Case(agent(backstory="S-BACK"), text("S-BACK")),
    "agents.*.instructions": Case(agent(instructions="S-INSTR"), text("S-INSTR")),
    "agents.*.expertise": Case(agent(expertise=["S-EXP"]), text("S-EXP")),
    "agents.*.responsibilities": Case(agent(responsibilities=["S-RESP"]), text("S-RESP")),
    "agents.*.personality": Case(agent(personality={"tone": "S-TONE"}), text("S-TONE")),
    "agents.*.model": Case({**agent(model="other"), **OTHER}, body("model", "S-OTHER"), OTHER),
    "agents.*.model[]": Case({**agent(model=["default", "other"]), **OTHER}, lambda seen: seen.result.output == "second", OTHER, (Reply(status=404), "second")),
    "agents.*.tools": Case(USES, text("S-FOUND x"), {}, CALLS),
    "agents.*.max_iterations": Case({**USES, **agent(tools=["lookup"], max_iterations=1)}, lambda seen: "tools" not in seen.server.requests[-1].body, USES, CALLS),
    "tasks.*.name": Case({"tasks": {"S-TASK": {"description": "MARK", "agent": "a"}}}, lambda seen: "S-TASK" in seen.result.tasks),
    "tasks.*.description": Case(task(description="MARK S-DESC"), text("S-DESC")),
    "tasks.*.expected_output": Case(task(expected_output="S-EXPECTED"), text("S-EXPECTED")),
    "tasks.*.agent": Case({**SECOND, **task(agent="b")}, text("S-OTHER-ROLE"), SECOND),
    "tasks.*.context": Case(
        {"tasks": {"t": {}, "u": {"description": "AFTER", "agent": "a", "context": ["t"]}}},
        lambda seen: "ANSWER" in seen.server.asked("AFTER")[0].text,
        {**SEQUENCE, "process": "graph"},
        ("ANSWER", "two"),
    ),
    "tasks.*.after": Case(
        {"tasks": {"t": {}, "u": {"description": "AFTER", "agent": "a", "after": ["t"]}}},
        lambda seen: "AFTER" in seen.server.requests[1].text and seen.server.requests[1].started >= seen.server.requests[0].ended,
        {"tasks": {"t": {"after": ["u"]}, "u": {"description": "AFTER", "agent": "a"}}},
        (Reply(text="one", delay=0.1), "two"),
    ),
    "tasks.*.output_schema": Case(task(output_schema={"type": "object"}), lambda seen: seen.result.structured == {"n": 1}, answers=('{"n": 1}',)),
    "tasks.*.output_file": Case(task(output_file="S-FILE.txt"), lambda _: Path("S-FILE.txt").exists()),
    "tasks.*.human_review": Case(task(human_review=True), lambda seen: [review.kind for review in seen.reviews] == ["answer"]),
    "tasks.*.guardrail": Case(task(guardrail="my_tools:check"), text("S-FAULT"), answers=("bad", "good")),
    "tasks.*.guardrail_retries": Case(
        task(guardrail="my_tools:check", guardrail_retries=2), lambda seen: seen.result.output == "good", task(guardrail="my_tools:check"), ("bad", "bad", "good")
    ),
    "tasks.*.timeout": Case(task(timeout=0.3), error("TaskTimeoutError"), answers=(Reply(text="late", delay=0.8),)),
    "models.*.rate_limit": Case(
        {**model(rate_limit={"tokens_per_minute": 100}), **SEQUENCE, "process": "graph"}, lambda seen: sum(seen.waits) > 0.5, {**SEQUENCE, "process": "graph"},
    ),
    "models.*.context_window": Case(
        {**model(context_window=1200), **task(description="MARK " + "long " * 900)}, lambda seen: "tokens left out" in seen.text,
        task(description="MARK " + "long " * 900),
    ),
    "token_window.limit": Case(
        {"token_window": {"limit": 1200}, **task(description="MARK " + "long " * 900)}, lambda seen: "tokens left out" in seen.text,
        task(description="MARK " + "long " * 900),
    ),
    "token_window.strategy": Case(
        {**USES, "token_window": {"limit": 1400, "strategy": "summarize"}}, lambda seen: "Sum all of it up" in seen.text,
        {**USES, "token_window": {"limit": 1400}}, WORDY,
    ),
    "resilience.retry": Case(
        {"resilience": {"retry": {"max_attempts": 2}}}, lambda seen: len(seen.server.requests) == 2, answers=(Reply(status=500),)
    ),
    "resilience.circuit_breaker": Case(
        {"resilience": {"circuit_breaker": {"failure_threshold": 2, "recovery_time": 77}}}, lambda seen: any(wait > 60 for wait in seen.waits),
        answers=(Reply(status=500), Reply(status=500), "ok"),
    ),
    "resilience.timeout": Case({"resilience": {"timeout": 0.2}}, error("APITimeoutError"), answers=(Reply(text="late", delay=0.8),)),
    "resilience.fallback_models": Case(
        {"resilience": {"fallback_models": ["other"]}, **OTHER}, lambda seen: seen.result.output == "second", OTHER, (Reply(status=404), "second")
    ),
    "agents.*.delegates_to": Case(PAIR, lambda seen: "S-ANSWER" in seen.server.requests[-1].text and seen.result.usage.model_calls == 3, SECOND, ASKS),
    "agents.*.reports_to": Case(
        merged(LED, {"agents": {"c": {"role": "C", "reports_to": "a"}}}),
        lambda seen: seen.first["tools"][0]["function"]["parameters"]["properties"]["coworker"]["enum"] == ["a"],
        merged(LED, {"agents": {"c": {"role": "C"}}}),
    ),
    "agents.*.fallback": Case(
        merged(SECOND, {"agents": {"a": {"fallback": "b"}}}), lambda seen: seen.result.tasks["t"].agent == "b", SECOND, (Reply(status=400), "ok")
    ),
    "agents.*.messaging": Case(
        PEN, lambda seen: [m.undelivered for m in seen.result.messages if m.message_type == "direct"] == [["b"]], SECOND, WRITES
    ),
    "agents.*.human": Case(agent(human=True), lambda seen: [review.kind for review in seen.reviews] == ["turn"]),
    "tasks.*.expertise": Case(
        merged(SKILLS, {**task(expertise=["two"]), "delegation": {"strategy": "by_expertise"}}), text("S-OTHER-ROLE"),
        merged(SKILLS, {**task(expertise=["one"]), "delegation": {"strategy": "by_expertise"}}),
    ),
    "tasks.*.participants": Case(chat(), lambda seen: [m.sender for m in seen.result.messages] == ["a", "b"], SECOND),
    "tasks.*.speaker_selection": Case(
        chat(speaker_selection="model"), lambda seen: [m.sender for m in seen.result.messages] == ["b", "b"], chat(), ("b", "one", "b", "two")
    ),
    "tasks.*.max_rounds": Case(chat(max_rounds=3), lambda seen: len(seen.result.messages) == 3, chat()),
    "tasks.*.stop_when": Case(chat(stop_when={"says": "DONE"}), lambda seen: len(seen.result.messages) == 1, chat(), ("DONE",)),
    "tasks.*.result": Case(chat(result="transcript"), lambda seen: seen.result.output == "a: one\n\nb: two", chat(), ("one", "two")),
    "delegation.strategy": Case(
        {**NOBODY, "delegation": {"strategy": "round_robin"}}, lambda seen: seen.result.tasks["t"].agent == "a",
        {**merged(SECOND, NOBODY), "delegation": {"strategy": "hierarchical", "manager": "b"}},
    ),
    "delegation.agents": Case(
        {**merged(SECOND, NOBODY), "delegation": {"strategy": "round_robin", "agents": ["b"]}}, lambda seen: seen.result.tasks["t"].agent == "b",
        {**merged(SECOND, NOBODY), "delegation": {"strategy": "round_robin"}},
    ),
    "delegation.manager": Case(LED, lambda seen: seen.result.tasks["t"].agent == "b", merged(LED, {"delegation": {"manager": "a"}})),
    "limits.delegation_depth": Case({**PAIR, "limits": {"delegation_depth": 0}}, text("limits.delegation_depth"), PAIR, ASKS),
    "limits.messages": Case({**PEN, "limits": {"messages": 0}}, error("LimitExceededError"), PEN, WRITES),
    "limits.tool_calls": Case({**USES, "limits": {"tool_calls": 0}}, error("LimitExceededError"), USES, CALLS),
    "limits.tool_errors": Case({**USES, "limits": {"tool_errors": 0}}, error("ToolError"), USES, (Reply(tool_calls=[call("nope")]), "ok")),
    "limits.output_bytes": Case({"limits": {"output_bytes": 1}}, error("LimitExceededError")),
    "memory": Case({"memory": True}, text("S-FACT"), facts=("S-FACT about MARK",)),
    "memory.store": Case(
        {"memory": {"store": "sqlite:///S.db"}}, lambda seen: Path(".unified_agents/S.db").exists(), {"memory": True},
    ),
    "memory.short_term": Case({"memory": {"short_term": 1}}, lambda seen: kept("short_term") == 1, {"memory": True}, NOTES),
    "memory.episodes": Case({"memory": {"episodes": 1}}, lambda seen: kept("episode") == 1, {"memory": True}),
    "memory.recall.items": Case(
        {"memory": {"recall": {"items": 1}}}, lambda seen: seen.text.count("Fact 'fact ") == 1, {"memory": True}, facts=("MARK one", "MARK two"),
    ),
    "memory.recall.tokens": Case(
        {"memory": {"recall": {"tokens": 110}}}, text("tokens left out"), {"memory": True}, facts=("MARK " + "word " * 200,),
    ),
    "memory.tools": Case({"memory": {"tools": False}}, lambda seen: "tools" not in seen.first, {"memory": True}),
    "memory.semantic": Case(
        {"memory": {"semantic": True}, **task(description="When does the ship leave?")}, text("S-BOAT"),
        {"memory": True, **task(description="When does the ship leave?")}, facts=("Boat S-BOAT departs noon",),
    ),
    "memory.required": Case(
        {"memory": {"required": False, "store": "sqlite:////dev/null/x.db"}}, lambda seen: seen.result.status == "completed",
        {"memory": {"store": "sqlite:////dev/null/x.db"}},
    ),
    "agents.*.memory": Case(
        {**agent(memory=False), "memory": True}, lambda seen: "S-FACT" not in seen.text and "tools" not in seen.first, {"memory": True},
        facts=("S-FACT about MARK",),
    ),
    "budget.tokens": Case({"budget": {"tokens": 5}}, lambda seen: type(seen.error).__name__ == "BudgetExceededError" and not seen.server.requests),
    "budget.usd": Case({"budget": {"usd": 0.000001}, **PRICED}, error("BudgetExceededError"), PRICED),
    "budget.seconds": Case({"budget": {"seconds": 0.2}}, error("BudgetExceededError"), answers=(Reply(text="late", delay=0.8),)),
    "budget.model_calls": Case({"budget": {"model_calls": 1}}, lambda seen: len(seen.server.requests) == 1, answers=(Reply(status=500), "ok")),
    "prices.*": Case(PRICED, lambda seen: seen.result.usage.cost_usd == 0.000013),
    "stream": Case({"stream": True}, lambda seen: seen.first.get("stream") is True),
    "journal": Case({"journal": False}, lambda seen: not Path(".unified_agents/runs.db").exists()),
    "journal.store": Case({"journal": {"store": "sqlite:///S.db"}}, lambda seen: Path(".unified_agents/S.db").exists()),
    "journal.required": Case(
        {"journal": {"required": False, "store": "sqlite:////dev/null/x.db"}}, lambda seen: seen.error is None,
        {"journal": {"store": "sqlite:////dev/null/x.db"}},
    ),
    "middleware": Case({"middleware": ["my_tools:Loud"]}, lambda seen: seen.result.output == "ok S-LOUD"),
    "tools.*.name": Case(USES, lambda seen: [t["function"]["name"] for t in seen.first.get("tools", ())] == ["lookup"]),
    "tools.*.python": Case(USES, text("S-FOUND x"), {}, CALLS),
    "tools.*.with": Case(
        {**agent(tools=["lookup"]), "tools": {"lookup": {"python": "my_tools:Made", "with": {"word": "S-WORD"}}}},
        text("made S-WORD"),
        {**agent(tools=["lookup"]), "tools": {"lookup": {"python": "my_tools:Made"}}},
        CALLS,
    ),
    "tools.*.mcp": Case(
        {**agent(tools=["files"]), "tools": {"files": {"mcp": {"command": sys.executable, "args": ["server.py"]}}}},
        text("S-FROM-MCP"), {}, (Reply(tool_calls=[call("mcp_lookup", {"q": "x"})]), "ok"),
    ),
    "tools.*.description": Case(
        {**USES, "tools": {"lookup": {"python": "my_tools:lookup", "description": "S-SAID"}}},
        lambda seen: seen.first["tools"][0]["function"]["description"] == "S-SAID", USES,
    ),
    "tools.*.timeout": Case(
        {**USES, "tools": {"lookup": {"python": "my_tools:slow", "timeout": 0.2}}}, text("did not return within 0.2 s"),
        {**USES, "tools": {"lookup": {"python": "my_tools:slow"}}}, CALLS,
    ),
    "tools.*.side_effects": Case(
        {**USES, "tools": {"lookup": {"python": "my_tools:lookup", "side_effects": True}}}, lambda seen: '"side_effects": true' in journaled("ToolStarted"),
        USES, CALLS,
    ),
    "tools.*.requires_confirmation": Case(
        {**USES, "tools": {"lookup": {"python": "my_tools:lookup", "requires_confirmation": True}}},
        lambda seen: [review.kind for review in seen.reviews] == ["tool"], USES, CALLS,
    ),
}  # fmt: skip

# No field is refused by the core today; these a backend is made to refuse.
REFUSED = ("stream", "memory", "tools.*.side_effects", "budget.tokens")


def small(server: ScriptedServer, change: Mapping[str, Any], backend: str) -> TeamSpec:
    """The small team with a change; SAME, THIS and ANOTHER stand for the server's address, this backend and another."""
    base = {
        "name": "small",
        "models": {"default": {"model": "openai/plain", "base_url": server.base_url}},
        "agents": {"a": {"role": "R", "goal": "G"}},
        "tasks": {"t": {"description": "MARK", "agent": "a"}},
    }
    another = next(name for name in sorted(backends()) if name != backend)
    if list(change.get("tasks", ())) == ["S-TASK"]:
        del base["tasks"]
    return TeamSpec.model_validate(replaced(merged(base, change), {"SAME": server.base_url, "THIS": backend, "ANOTHER": another}))


def replaced(value: Any, words: Mapping[str, str]) -> Any:
    """`value` with some words replaced in all of its texts."""
    if isinstance(value, dict):
        return {key: replaced(item, words) for key, item in value.items()}
    if isinstance(value, str):
        return next((value.replace(word, text) for word, text in words.items() if value == word or value.startswith(f"{word}/")), value)
    return value


def run(server: ScriptedServer, change: Mapping[str, Any], backend: str, answers: tuple[str | Reply, ...], waits: list[float]) -> Seen:
    """Run the small team with a change; a model that is asked more often gets the last answer again."""
    Path("my_tools.py").write_text(TOOLS)
    Path("server.py").write_text(SERVER)
    reviews: list[Any] = []
    server.reply("", *answers, forever=True)
    team = small(server, change, backend)
    try:
        result = run_team(team, backend=None if team.backend else backend, reviewer=lambda review: _reviewed(review, reviews))
    except RunError as failure:
        return Seen(server, failure.result, failure, reviews, waits)  # type: ignore[arg-type]  # a run that failed has its result
    return Seen(server, result, None, reviews, waits)


def _reviewed(review: Any, reviews: list[Any]) -> Any:
    """Approves everything, and speaks for a human agent."""
    reviews.append(review)
    return "S-SAID" if review.kind == "turn" else True


def remember(case: Case) -> None:
    """Let the team know the case's facts."""
    for number, fact in enumerate(case.facts):
        AgentMemory(team="small").add_to_long_term(f"fact {number}", fact)


def kept(kind: str) -> int:
    """How many items of a kind the team remembers."""
    with contextlib.closing(sqlite3.connect(".unified_agents/memory.db")) as db:
        return int(db.execute("SELECT COUNT(*) FROM items WHERE kind = ?", (kind,)).fetchone()[0])


def journaled(kind: str) -> str:
    """The events of a type that the run's journal holds, as they stand there."""
    with contextlib.closing(sqlite3.connect(".unified_agents/runs.db")) as db:
        return "\n".join(row[0] for row in db.execute("SELECT data FROM events WHERE type = ?", (kind,)))


def break_if_asked(case: Case, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this backend's framework fail, for the fields that are about that."""

    def build(*_arguments: Any) -> Any:
        raise OSError("the framework is broken")

    if case.broken:
        monkeypatch.setattr(type(backends()[backend].adapter), "build", build)


def test_every_field_has_a_case() -> None:
    """A field of the format without a case here fails; the core refuses none."""
    levels = {name: level for name, (level, _) in CORE.items()}
    assert set(CASES) == {name for name, level in levels.items() if level != "refused"}
    assert not [name for name, level in levels.items() if level == "refused"]


@pytest.mark.parametrize("name", CASES)
def test_a_supported_field_has_its_effect(
    server: ScriptedServer, backend: str, name: str, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """With the field, what it promises is seen, and its row says how; a backend that declares it refused stops the run instead."""
    case = CASES[name]
    if backends()[backend].adapter.fidelity.get(name, ("",))[0] == "refused":
        check_refusal(server, backend, name, case.change)
        return
    break_if_asked(case, backend, monkeypatch)
    remember(case)
    seen = run(server, case.change, backend, case.answers, waits)
    effect = case.effect(seen) if name != "backend" else seen.result.backend == backend
    assert effect, (seen.error, seen.first)
    rows = fidelity(small(server, case.change, backend), backends()[backend].adapter)
    assert {row.level for row in rows if row.field == name} & {"native", "emulated"}


@pytest.mark.parametrize("name", CASES)
def test_without_the_field_the_effect_is_not_there(
    server: ScriptedServer, backend: str, name: str, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """The negative control of each case."""
    if name == "prompts" and not backends()[backend].adapter.capabilities["native_prompts"]:
        return  # this framework has no wording of its own: native and neutral are one, as the capability says
    case = CASES[name]
    break_if_asked(case, backend, monkeypatch)
    remember(case)
    seen = run(server, case.without, backend, case.answers, waits)
    assert not (case.effect(seen) if name != "backend" else seen.result.backend == backend)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_field_stops_the_run(server: ScriptedServer, backend: str, name: str) -> None:
    """By its name, with a reason, before any request; the rows say the same."""
    adapter = backends()[backend].adapter
    before = adapter.fidelity
    object.__setattr__(adapter, "fidelity", {**before, name: ("refused", "it cannot")})  # frozen
    try:
        check_refusal(server, backend, name, CASES[name].change)
    finally:
        object.__setattr__(adapter, "fidelity", before)


def check_refusal(server: ScriptedServer, backend: str, name: str, change: Mapping[str, Any]) -> None:
    """A run that uses the field is refused by its path, with a reason, before any request."""
    Path("my_tools.py").write_text(TOOLS)
    team = small(server, change, backend)
    paths = {path for path, field in used_fields(team) if field == name}
    with pytest.raises(UnsupportedFeatureError) as caught:
        run_team(team, backend=None if team.backend else backend, reviewer=lambda _: True)
    assert paths & {problem.path for problem in caught.value.problems if problem.message}
    assert server.requests == []
