"""What docs/patterns.md shows is true: every block runs, on every backend, and asks whom the page says, as often as it says."""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Run
from unified_agents import RunError, RunResult, TeamSpec, run_team
from unified_agents.checks import assignments
from unified_agents.checks import coworkers as edges
from unified_agents.fidelity import unused_fields
from unified_agents.group_chat import MAX_ROUNDS, SELECTION
from unified_agents.spec import LimitsSpec
from unified_agents.testing import Reply, Request, ScriptedServer, call
from unified_agents.testing.conformance.conftest import _available, pytest_generate_tests  # noqa: F401  # pytest finds them by name

PAGE = (Path(__file__).parent.parent / "docs" / "patterns.md").read_text()
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
CLAIM = re.compile(r"\*\*(\d+) requests?\*\*: ([\w ]+(?:, [\w ]+)*)\.")
FILE = re.compile(r"# (\w+\.py)\n")
Said = Mapping[str, Sequence[str | Reply]]
"""What models answer, by the agent's name."""


@dataclass(frozen=True)
class Piece:
    """A part of the page: its team file, its files of Python, its Python to run, and who is asked, as the page says."""

    name: str
    team: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    code: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()


def pieces_of(page: str) -> list[Piece]:
    """Every part of a page that holds blocks: a section, or where it has several team files a part for each."""
    found: list[Piece] = []
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        title, first, *others = section.split("\n", 1)[0], *re.split(r"^(?=```yaml$)", section, flags=re.MULTILINE)
        parts = [first, *others] if FENCED.search(first) or not others else [first + others[0], *others[1:]]
        found += [_piece(title if n == 1 else f"{title} ({n})", part) for n, part in enumerate(parts, 1) if FENCED.search(part)]
    return found


def _piece(name: str, text: str) -> Piece:
    blocks = FENCED.findall(text)
    code = [block for language, block in blocks if language == "python"]
    claims = [(int(count), tuple(names.split(", "))) for count, names in CLAIM.findall(text)]
    assert [language for language, _ in blocks if language not in ("yaml", "python")] == [], f"{name} holds a block that nobody runs"
    assert all(count == len(names) for count, names in claims), f"{name} counts other requests than it lists: {claims}"
    return Piece(
        name=name,
        team="".join(block for language, block in blocks if language == "yaml"),
        files={match[1]: block for block in code if (match := FILE.match(block))},
        code=tuple(block for block in code if not FILE.match(block)),
        asked=tuple(agent for _, names in claims for agent in names),
    )


@dataclass
class Ran:
    """What running a part left to look at."""

    result: RunResult
    requests: Sequence[Request]
    out: str

    @property
    def messages(self) -> list[tuple[str, str, str]]:
        """Type, sender and recipient of each message."""
        return [(message.message_type, message.sender, message.recipient) for message in self.result.messages]


@dataclass(frozen=True)
class Script:
    """What models (by the agent's name) and the person say in a part, what passes between the agents, and what else must be seen."""

    said: Said
    messages: Sequence[tuple[str, str, str]]
    check: Callable[[Ran], None]
    person: Sequence[str] = ()


def wants(tool: str, **arguments: str) -> Reply:
    """An answer that calls one tool."""
    return Reply(tool_calls=[call(tool, arguments)])


def hands(coworker: str, task: str) -> Reply:
    """An answer that hands work to a coworker."""
    return wants("delegate_work_to_coworker", coworker=coworker, task=task)


def tells(recipient: str, content: str) -> Reply:
    """An answer that sends a message."""
    return wants("send_message", recipient=recipient, content=content)


def offered(request: Request) -> dict[str, Any]:
    """The parameters of the tools that a request offers, by name."""
    return {tool["function"]["name"]: tool["function"]["parameters"]["properties"] for tool in request.body.get("tools") or ()}


def coworkers(request: Request) -> list[str]:
    """To whom a request lets its agent delegate."""
    found: list[str] = offered(request).get("delegate_work_to_coworker", {}).get("coworker", {}).get("enum", [])
    return found


def _roles(ran: Ran) -> None:
    system = ran.requests[0].messages[0]
    assert system["role"] == "system"
    for told in (
        "Literary Critic",
        "Judge a text by what",
        "Your expertise: poetry, translation",
        "- Name one weakness",
        "tone: dry; praise: rare",
    ):
        assert told in system["content"]
    assert ran.out == "WET\n"


def _messages(ran: Ran) -> None:
    cook = ran.requests[3]
    assert [cook.text.count(words) for words in ("From scout:\n```\nSTORM\n```", "From scout:\n```\nHURRY\n```", "SCOUTED")] == [1, 1, 0]
    assert [message.undelivered for message in ran.result.messages] == [[], ["guest"]]
    assert ran.out == "scout to cook: STORM (unread by [])\nscout to broadcast: HURRY (unread by ['guest'])\n"


def _delegation(ran: Ran) -> None:
    writer, researcher, again = ran.requests
    assert coworkers(writer) == ["researcher", "editor"]
    assert "expertise" in offered(writer)["ask_question_to_coworker"]
    assert offered(researcher) == {}
    assert "Find a fact on whales" in researcher.text
    assert "Write a line on the sea" not in researcher.text
    assert again.messages[-1]["content"] == "FACT"
    assert ran.out == "{'writer': 2, 'researcher': 1}\n"


def _hierarchy(ran: Ran) -> None:
    assert [coworkers(request) for request in ran.requests] == [["lead"], ["analyst"], [], ["analyst"], ["lead"]]
    assert ran.out.splitlines()[0] == "delegation: director to lead"
    assert ran.result.output == "REPORT"


def _round_robin(ran: Ran) -> None:
    assert ran.out == "{'first': 'ann', 'second': 'bob', 'third': 'ann'}\n"


def _load(ran: Ran) -> None:
    assert ran.out == "{'call': 'ann', 'pack': 'bob', 'send': 'bob', 'bill': 'ann'}\n"


def _person(ran: Ran) -> None:
    assert ran.result.output == "guide: RIVER\n\nme: MORE\n\nguide: TRAM\n\nme: Fine, THAT IS ALL."
    shown = ran.out.split("> ")[0]
    assert "Plan a day in Lisbon together." in shown
    assert "RIVER" in shown
    assert "TRAM" not in shown
    assert "me said:\n```\nMORE\n```" in ran.requests[1].text


def _model_led(ran: Ran) -> None:
    assert ran.out == "['bob', 'ann']\n"
    assert ran.result.usage.by_agent[SELECTION].model_calls == 2


def _function_led(ran: Ran) -> None:
    assert ran.result.output == "ANN"


def _fallback(ran: Ran) -> None:
    notes = ran.result.tasks["audit"].notes
    assert ran.out == f"senior 2 {notes}\n"
    assert "junior failed: NotFoundError" in notes[0]
    assert "junior failed: NotFoundError" in ran.requests[1].text
    assert "Audit the books." in ran.requests[1].text


def _superior(ran: Ran) -> None:
    assert ran.out == "chief\n"
    assert coworkers(ran.requests[0]) == ["lead"]


SCRIPTS: Mapping[str, Script] = {
    "Roles": Script({"critic": ["WET"]}, [], _roles),
    "Messages in a team": Script(
        {"scout": [tells("cook", "STORM"), tells("broadcast", "HURRY"), "SCOUTED"], "cook": ["SOUP"]},
        [("direct", "scout", "cook"), ("direct", "scout", "broadcast")],
        _messages,
    ),
    "Delegation": Script(
        {"writer": [hands("researcher", "Find a fact on whales"), "LINE"], "researcher": ["FACT"]},
        [("delegation", "writer", "researcher"), ("answer", "researcher", "writer")],
        _delegation,
    ),
    "Hierarchy": Script(
        {"director": [hands("lead", "Look into tides"), "REPORT"], "lead": [hands("analyst", "Count the tides"), "TWICE"], "analyst": ["TWO"]},
        [("delegation", "director", "lead"), ("delegation", "lead", "analyst"), ("answer", "analyst", "lead"), ("answer", "lead", "director")],
        _hierarchy,
    ),
    "Round robin": Script({"ann": ["MAR", "SOL"], "bob": ["CIEL"]}, [], _round_robin),
    "Load balancing": Script({"ann": ["DONE"] * 2, "bob": ["DONE"] * 2}, [("handover", "bob", "bob")], _load),
    "Group chat with a person": Script(
        {"guide": ["RIVER", "TRAM"]},
        [("turn", name, "broadcast") for name in ("guide", "me", "guide", "me")],
        _person,
        ["MORE", "Fine, THAT IS ALL."],
    ),
    "Group chat led by a model": Script(
        {SELECTION: ["bob", "I think it is Ann."], "ann": ["SUN"], "bob": ["RAIN"]},
        [("turn", "bob", "broadcast"), ("turn", "ann", "broadcast")],
        _model_led,
    ),
    "Group chat led by a function": Script(
        {"ann": ["ANN"], "bob": ["BOB"], "eve": ["EVE"]}, [("turn", name, "broadcast") for name in ("eve", "bob", "ann")], _function_led
    ),
    "Escalation to a fallback agent": Script({"junior": [Reply(status=404)], "senior": ["CLEAN"]}, [], _fallback),
    "Escalation to a superior": Script({"chief": ["YES"]}, [], _superior),
}  # fmt: skip
ALONE = {
    "Message bus": "",
    "By expertise": "tasks.charge: wants accounting, which nobody offers (nurse: first aid; doctor: First Aid, surgery)",
}
"""The parts without a team: what each prints, or a piece of it."""

PIECES = pieces_of(PAGE)
TEAMS = [pytest.param(piece, id=piece.name) for piece in PIECES if piece.team]


def marks(team: Mapping[str, Any]) -> dict[str, str]:
    """Words by which a request is known as an agent's."""
    return {SELECTION: "You lead a group chat", **{name: f"You are {agent.get('role')}." for name, agent in team["agents"].items()}}


def prompted(server: ScriptedServer, team: Mapping[str, Any], said: Said) -> None:
    """Let the server say what each agent says."""
    for name, replies in said.items():
        server.reply(marks(team)[name], *replies)


def askers(server: ScriptedServer, team: Mapping[str, Any]) -> list[str]:
    """The agents whose models were asked, in the order of the requests."""
    return [next(name for name, mark in marks(team).items() if mark in request.text) for request in server.requests]


@pytest.fixture
def surroundings(monkeypatch: pytest.MonkeyPatch, server: ScriptedServer) -> list[RunResult]:
    """The scripted server in the place of OpenAI; the results of every `run_team` of a block."""
    results: list[RunResult] = []

    def kept(*arguments: Any, **options: Any) -> RunResult:
        results.append(run_team(*arguments, **options))
        return results[-1]

    monkeypatch.setenv("OPENAI_API_KEY", "test-key")
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setattr("unified_agents.run_team", kept)
    return results


@pytest.mark.parametrize("piece", TEAMS)
def test_a_team_of_the_page_runs(
    piece: Piece, backend: str, server: ScriptedServer, surroundings: list[RunResult], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """File and code run as they stand; whose models are asked, how often and in which order is what the page says, and so is what passes between them."""
    script, team = SCRIPTS[piece.name], yaml.safe_load(piece.team)
    prompted(server, team, script.said)
    lines = list(script.person)
    monkeypatch.setattr("builtins.input", lambda prompt: sys.stdout.write(f"{prompt}\n") and lines.pop(0))
    monkeypatch.setenv("UNIFIED_AGENTS_BACKEND", backend)
    _write(piece)
    for code in piece.code:
        exec(compile(code, piece.name, "exec"), {"__name__": "pattern"})
    ran = Ran(surroundings[0] if surroundings else run_team("team.yaml"), server.requests, capsys.readouterr().out)
    parallel = len(team["tasks"]) > 1 and team.get("process") != "sequential"  # whose request is sent first is anybody's guess
    asked = askers(server, team)
    assert Counter(asked) == Counter(piece.asked)
    assert [task.agent for task in ran.result.tasks.values()] == [*piece.asked] if parallel else asked == [*piece.asked]
    assert {name: usage.model_calls for name, usage in ran.result.usage.by_agent.items()} == Counter(piece.asked)
    assert sum(map(len, script.said.values())) == len(server.requests)
    assert ran.messages == list(script.messages)
    assert ran.result.backend == backend
    assert lines == []
    script.check(ran)


def _write(piece: Piece) -> None:
    Path("team.yaml").write_text(piece.team)
    for name, text in piece.files.items():
        Path(name).write_text(text)


@pytest.mark.parametrize("piece", [pytest.param(piece, id=piece.name) for piece in PIECES if not piece.team])
def test_what_needs_no_team_runs_alone(piece: Piece, capsys: pytest.CaptureFixture[str]) -> None:
    """A Python block without a team asserts what it shows; it needs no file, no key and no model."""
    for code in piece.code:
        exec(compile(code, piece.name, "exec"), {"__name__": "pattern"})
    assert ALONE[piece.name] in capsys.readouterr().out
    assert piece.files == {}
    assert sum(code.count("\nassert ") for code in piece.code) > 0


def test_every_part_of_the_page_is_played() -> None:
    """A pattern that is added needs a script here, and no block lies outside all parts."""
    assert {piece.name for piece in PIECES} == {*SCRIPTS, *ALONE}
    assert (
        sum(len(piece.files) + len(piece.code) + bool(piece.team) for piece in PIECES) == len(FENCED.findall(PAGE)) == PAGE.count("```") / 2
    )
    assert all(piece.asked for piece in PIECES if piece.team)


def test_a_block_that_is_added_is_found() -> None:
    """A new section, a second team in a section and a further piece of Python each become something to run; a block of another language is refused."""
    page = "# T\n## A\n\n```python\na\n```\n\n```yaml\nb\n```\n\n```python\n# c.py\n```\n\n**1 request**: x.\n## B\n\n```yaml\nd\n```\n\n```yaml\ne\n```\n## C\n"
    assert pieces_of(page) == [
        Piece("A", code=("a\n",)),
        Piece("A (2)", "b\n", {"c.py": "# c.py\n"}, asked=("x",)),
        Piece("B", "d\n"),
        Piece("B (2)", "e\n"),
    ]
    with pytest.raises(AssertionError, match="nobody runs"):
        pieces_of("## A\n```bash\nls\n```\n")
    with pytest.raises(AssertionError, match="counts other"):
        pieces_of("## A\n```yaml\na\n```\n**2 requests**: x.\n")


@pytest.mark.parametrize("piece", TEAMS)
def test_a_team_of_the_page_checks(piece: Piece, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` accepts it on every backend, says who does each task and why, and finds no field that nothing reads."""
    monkeypatch.setenv("OPENAI_API_KEY", "test-key")
    _write(piece)
    code, out, _ = cli("check", "team.yaml", "--json")
    document = json.loads(out)
    assert code == 0
    assert {row["level"] for row in document["fidelity"]} == {"native", "emulated"}
    assert {row["task"]: bool(row["agent"] and row["reason"]) for row in document["plan"]} == dict.fromkeys(
        yaml.safe_load(piece.team)["tasks"], True
    )
    assert unused_fields(TeamSpec.model_validate(yaml.safe_load(piece.team))) == []


def varied(name: str, **changes: Mapping[str, Any]) -> dict[str, Any]:
    """A team of the page, with `changes` laid over its sections; in tasks and agents over each entry."""
    team: dict[str, Any] = yaml.safe_load({piece.name: piece.team for piece in PIECES}[name])
    for section, change in changes.items():
        held = team.setdefault(section, {})
        held.update({key: {**held.get(key, {}), **value} if section in ("tasks", "agents") else value for key, value in change.items()})
    return team


def played(team: Mapping[str, Any], said: Said, backend: str, server: ScriptedServer, **options: Any) -> RunResult:
    """The result of a team in which models say what is scripted, no more and no less; also of a run that failed."""
    prompted(server, team, said)
    result: RunResult | None
    try:
        result = run_team(TeamSpec.model_validate({**team, "models": {"default": server.model()}}), backend=backend, **options)
    except RunError as error:
        result = error.result
    assert result is not None
    assert len(server.requests) == sum(map(len, said.values()))
    return result


def why(result: RunResult) -> str:
    """The kind of a run's error."""
    return result.error.type if result.error else "none"


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ({"task": "Find a fact.", "coworker": "editor"}, "editor"),
        ({"task": "Find a fact.", "expertise": ["Whales"]}, "researcher"),
        ({"task": "Find a fact on tides."}, "researcher"),
    ],
)
def test_a_coworker_is_named_or_fits(arguments: Any, asked: str, backend: str, server: ScriptedServer) -> None:
    """Delegation: the writer names the coworker, or expertise, or neither; then the words of the work decide."""
    said: Said = {"writer": [Reply(tool_calls=[call("delegate_work_to_coworker", arguments)]), "LINE"], asked: ["FACT"]}
    result = played(varied("Delegation"), said, backend, server)
    assert [(m.message_type, m.recipient) for m in result.messages] == [("delegation", asked), ("answer", "writer")]


def test_nobody_is_asked_who_waits(backend: str, server: ScriptedServer) -> None:
    """Delegation: `all` is everyone else, and still the researcher may not ask the writer, who waits for it."""
    team = varied("Delegation", agents={"researcher": {"delegates_to": "all"}})
    said: Said = {"writer": [hands("researcher", "A"), "LINE"], "researcher": [hands("writer", "B"), "FACT"]}
    played(team, said, backend, server)
    assert coworkers(server.requests[1]) == ["writer", "editor"]
    assert "is a cycle" in server.requests[2].messages[-1]["content"]


def test_a_manager_must_turn_to_whom_the_task_names(backend: str, server: ScriptedServer) -> None:
    """Hierarchy: a task that names the analyst is handed straight to it; an answer without that is asked for again."""
    team = varied("Hierarchy", tasks={"report": {"agent": "analyst"}})
    said: Said = {"director": ["ALONE", hands("analyst", "Do it"), "REPORT"], "analyst": ["TWO"]}
    result = played(team, said, backend, server)
    assert [coworkers(request) for request in server.requests] == [["analyst"], ["analyst"], [], ["analyst"]]
    assert result.output == "REPORT"


def test_a_manager_may_answer_at_once(backend: str, server: ScriptedServer) -> None:
    """Hierarchy: whether to hand on is the model's choice, and a director that does not costs one request."""
    assert played(varied("Hierarchy"), {"director": ["REPORT"]}, backend, server).output == "REPORT"


def test_one_message_too_many_fails_the_task_that_sends_it(backend: str, server: ScriptedServer) -> None:
    """Messages: `limits.messages` bounds the run, and the scout's second one is not sent."""
    said = {"scout": [tells("cook", "STORM"), tells("broadcast", "HURRY")]}
    result = played(varied("Messages in a team", limits={"messages": 1}), said, backend, server)
    assert (why(result), result.tasks["look"].status, len(result.messages)) == ("LimitExceededError", "failed", 1)


def test_a_chat_with_a_person_ends_at_its_last_round(backend: str, server: ScriptedServer) -> None:
    """Group chat: only the person's words end it early, in these letters; else it takes six turns."""
    said = {"guide": ["RIVER", "THAT IS ALL", "SEA"]}
    result = played(varied("Group chat with a person"), said, backend, server, reviewer=lambda review: "that is all")
    assert [message.sender for message in result.messages] == ["guide", "me"] * 3


@pytest.mark.parametrize("answer", ["Nobody.", "Ann or Bob"])
def test_a_model_that_names_no_speaker_is_asked_once_more(answer: str, backend: str, server: ScriptedServer) -> None:
    """Group chat led by a model: after two answers without one name the next in order speaks; after one the second counts."""
    said = {SELECTION: [answer, answer, answer, "ann"], "ann": ["SUN", "MORE SUN"]}
    result = played(varied("Group chat led by a model"), said, backend, server)
    assert [message.sender for message in result.messages] == ["ann", "ann"]
    assert len(result.tasks["debate"].notes) == 1


def test_a_function_that_names_a_stranger_fails_the_task(backend: str, server: ScriptedServer) -> None:
    """Group chat led by a function: only participants may be named."""
    team = varied("Group chat led by a function", tasks={"review": {"speaker_selection": lambda messages: "max"}})
    assert why(played(team, {}, backend, server)) == "TaskError"


def test_fallbacks_are_followed_to_the_end_of_the_chain(backend: str, server: ScriptedServer) -> None:
    """Escalation: a poor answer is a failure by its guardrail; the last one's error is the run's."""
    agents = {"senior": {"fallback": "partner"}, "partner": {"role": "Partner"}}
    team = varied(
        "Escalation to a fallback agent",
        agents=agents,
        tasks={"audit": {"guardrail": lambda text: "poor" if text == "BAD" else None, "guardrail_retries": 0}},
    )
    result = played(team, {"junior": ["BAD"], "senior": ["BAD"], "partner": [Reply(status=404)]}, backend, server)
    assert why(result) == "NotFoundError"
    assert [note.split(":")[0] for note in result.tasks["audit"].notes] == ["junior failed", "senior failed"]
    assert "senior failed: GuardrailError" in server.requests[2].text


def test_a_coworkers_fallback_answers_in_its_place(backend: str, server: ScriptedServer) -> None:
    """Escalation: the writer gets the editor's answer for the researcher's, and the editor is told why it was asked."""
    said: Said = {"writer": [hands("researcher", "Find a fact"), "LINE"], "researcher": [Reply(status=404)], "editor": ["FACT"]}
    result = played(varied("Delegation", agents={"researcher": {"fallback": "editor"}}), said, backend, server)
    assert (result.output, result.messages[-1].sender) == ("LINE", "editor")
    assert "researcher failed: NotFoundError" in server.requests[2].text


def test_a_participants_fallback_speaks_in_its_place(backend: str, server: ScriptedServer) -> None:
    """Escalation: the designer's turn goes to the tester, and the chat goes on."""
    team = varied("Group chat led by a function", agents={"bob": {"fallback": "eve"}}, tasks={"review": {"speaker_selection": None}})
    team["tasks"]["review"]["max_rounds"] = 3
    result = played(team, {"ann": ["ANN"], "bob": [Reply(status=404)], "eve": ["EVE", "EVE AGAIN"]}, backend, server)
    assert [message.sender for message in result.messages] == ["ann", "eve", "eve"]


def test_no_coworkers_fallback_helps_when_the_time_is_up(backend: str, server: ScriptedServer) -> None:
    """Escalation: the time is the task's; nobody is asked after it."""
    team = varied("Delegation", agents={"researcher": {"fallback": "editor"}}, tasks={"article": {"timeout": 2}})
    said: Said = {"writer": [hands("researcher", "Find a fact")], "researcher": [Reply("late", delay=2.5)]}
    assert why(played(team, said, backend, server)) == "TaskTimeoutError"
    while server.requests[1].ended == float("inf"):
        time.sleep(0.02)  # the server is not stopped in the middle of its answer


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, {"chief": ("lead",), "lead": ("clerk",), "clerk": ()}),
        ({"delegates_to": ["chief"]}, {"chief": ("lead",), "lead": ("chief", "clerk"), "clerk": ()}),
    ],
)
def test_work_goes_up_by_delegates_to_alone(change: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Hierarchy: to direct reports and nobody else, unless `delegates_to` allows it."""
    assert edges(TeamSpec.model_validate(varied("Escalation to a superior", agents={"lead": change}))) == expected


BY_EXPERTISE: Mapping[str, Any] = {
    "delegation": {"strategy": "by_expertise", "manager": "bob"},
    "agents": {"ann": {"expertise": ["the sea"]}},
    "tasks": {"first": {"expertise": ["The  Sea"]}},
}


@pytest.mark.parametrize(
    ("team", "agents"),
    [
        (varied("Round robin", tasks={"first": {"agent": "bob"}}), ["bob", "ann", "bob"]),
        (varied("Escalation to a superior", agents={"chief": {"reports_to": "board"}, "board": {"role": "Board"}}), ["chief"]),
        (varied("Escalation to a superior", tasks={"permit": {"expertise": ["Filing"]}}), ["lead"]),
        (varied("Round robin", **BY_EXPERTISE), ["ann", "bob", "bob"]),
        (varied("Load balancing", tasks={"send": {"context": []}}), ["ann", "bob", "ann", "bob"]),
    ],
)
def test_what_is_settled_before_the_run(team: Mapping[str, Any], agents: list[str]) -> None:
    """A named task takes no turn; a task goes up one step, and none when somebody fits; the manager takes what nobody fits; independence decides."""
    assert [one.agent for one in assignments(TeamSpec.model_validate(team))[0].values()] == agents


def test_the_numbers_of_the_page_are_the_codes() -> None:
    """The limits that the page names are the defaults."""
    limits = LimitsSpec()
    assert f"`limits.messages` messages, {limits.messages} when absent" in PAGE
    assert f"`limits.delegation_depth` times at most, {limits.delegation_depth} when absent" in PAGE
    assert f"`max_rounds`, {MAX_ROUNDS} when absent" in PAGE
