"""The examples: each checks and runs on every backend, on scripted or recorded answers, and the quickstart on the embedded model too."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.test_terminal import Terminal
from unified_agents import ChatRequest, Review, RunError, ScriptedModel, compare_backends, load_team, run_team
from unified_agents.cli import run_command
from unified_agents.errors import GuardrailError, MissingRecordError
from unified_agents.recorded import digest
from unified_agents.registry import names
from unified_agents.testing import Reply, ScriptedServer, call

EXAMPLES = Path(__file__).parent.parent / "examples"
ANSWERS = {
    "quickstart.yaml": {"define": "D", "second": "S", "importance": "I"},
    "ai_trends.yaml": {"research": "FINDINGS", "audience": "READERS", "write": "ARTICLE"},
}


def test_every_example_has_answers() -> None:
    """A new example cannot be forgotten here."""
    assert set(ANSWERS) == {path.name for path in EXAMPLES.glob("*.yaml")}


@pytest.mark.parametrize("name", [*ANSWERS, *sorted(str(path.relative_to(EXAMPLES)) for path in EXAMPLES.glob("*/team.yaml"))])
def test_an_example_checks(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`unified-agents check` accepts it, with nothing refused on any backend, and no field that nothing reads."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert run_command(["check", str(EXAMPLES / name), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {row["level"] for row in document["fidelity"]} <= {"native", "emulated"}
    assert document["unused"] == []


@pytest.mark.parametrize("backend", names())
@pytest.mark.parametrize("name", ANSWERS)
def test_an_example_runs_on_scripted_answers(name: str, backend: str) -> None:
    """Same outputs on every backend; what a task should see it sees."""
    model = ScriptedModel(ANSWERS[name])
    result = run_team(EXAMPLES / name, backend=backend, models={"default": model})
    assert {task: row.output for task, row in result.tasks.items()} == ANSWERS[name]
    if name == "ai_trends.yaml":
        last = next(request for request in model.requests if request.task == "write")
        text = " ".join(message["content"] for message in last.messages)
        assert "FINDINGS" in text
        assert "READERS" in text
        assert "AI trends 2026" in text
        assert "600" in text


@pytest.mark.embedded
@pytest.mark.xdist_group("embedded")
@pytest.mark.parametrize("backend", names())
def test_the_quickstart_runs_on_the_embedded_model(backend: str) -> None:
    """Real answers over real HTTP from the model in this process, with its token counts; shapes are looked at, never prose."""
    result = run_team(EXAMPLES / "quickstart.yaml", backend=backend)
    assert result.status == "completed"
    assert result.usage.model_calls == 3
    assert "hotosynthesis" in (result.tasks["define"].output or "")
    for task in result.tasks.values():
        assert task.models == ["local/smollm2-135m"]
        assert task.output
        assert (task.usage.input_tokens or 0) > 20
        assert 0 < (task.usage.output_tokens or 0) <= 60


@pytest.mark.embedded
@pytest.mark.xdist_group("embedded")
def test_the_demo_prints_both_results(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`make demo`: both backends side by side with timings."""
    monkeypatch.syspath_prepend(EXAMPLES)
    import demo  # type: ignore[import-not-found]

    assert demo.main() == 0
    out = capsys.readouterr().out
    for words in ("crewai 1.", "autogen 0.", "define", "importance", "3 model calls"):
        assert words in out


# Teams with recorded answers, each in a folder of its own.

TEAMS = sorted(path.parent.name for path in EXAMPLES.glob("*/team.yaml"))
ROWS = {"support_triage": "tickets.jsonl", "data_extraction": "inputs.jsonl"}
TOOL_CALLS = {
    "research_and_write": {"research": 5, "write": 0, "edit": 0},
    "support_triage": {"triage": 1, "resolve": 3, "reply": 0},
    "code_review": {"review": 1 + 2 + 2 * 2},
    "data_extraction": {"extract": 0, "decide": 0},
    "debate": {"prepare": 2, "debate": 0, "verdict": 0},
}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of all examples, with the working folder beside it."""
    return Path(shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__", "drafts")))


def inputs_of(name: str) -> list[dict[str, Any]]:
    """The rows of inputs that were recorded."""
    return [json.loads(line) for line in (EXAMPLES / name / ROWS[name]).read_text().splitlines()] if name in ROWS else [{}]


def script_of(name: str) -> list[dict[str, Any]]:
    """The texts that the recording is made of."""
    found: list[dict[str, Any]] = yaml.safe_load((EXAMPLES / name / "script.yaml").read_text())
    return found


def test_every_team_is_complete_and_listed() -> None:
    """None without a recording, a page, a line in the table of pages; the expectations here name all of them."""
    page = (EXAMPLES / "README.md").read_text()
    for name in TEAMS:
        assert {"answers.json", "script.yaml", "README.md"} <= {path.name for path in (EXAMPLES / name).iterdir()}
        assert f"[{name}]({name}/README.md)" in page
    assert sorted(TOOL_CALLS) == TEAMS


@pytest.mark.parametrize("name", TEAMS)
def test_all_backends_agree_on_recorded_answers(name: str, copied: Path) -> None:
    """Without a key and on every row: equal outputs, real tool calls, structure that fits its schema, known tokens and costs."""
    rows = inputs_of(name)
    made = compare_backends(copied / name / "team.yaml", names(), inputs=rows, replay=copied / name / "answers.json")
    assert [run.error for run in made.runs] == [None] * len(rows) * len(names())
    assert made.equal
    schemas = {task: spec.output_schema for task, spec in load_team(copied / name / "team.yaml").tasks.items() if spec.output_schema}
    assert schemas
    for run in made.runs:
        assert run.result is not None
        assert (run.result.usage.cost_usd or 0) > 0
        assert not [message for message in run.result.messages if message.undelivered]
        for task, schema in schemas.items():
            jsonschema.validate(run.tasks[task].structured, schema)
        if run.row == 0:
            assert {task: found.tool_calls for task, found in run.tasks.items()} == TOOL_CALLS[name]


@pytest.mark.parametrize("backend", names())
@pytest.mark.parametrize("name", TEAMS)
def test_a_missing_answer_is_named(name: str, backend: str, copied: Path) -> None:
    """The negative control of all replays: without one of its answers the run fails, and says which."""
    path = copied / name / "answers.json"
    document = json.loads(path.read_text())
    scope = digest(default_inputs(copied / name / "team.yaml"))
    key = max(key for key in document["answers"][scope] if key.count("/") == 1)
    del document["answers"][scope][key]
    path.write_text(json.dumps(document))
    with pytest.raises(MissingRecordError, match=re.escape(f"holds no answer for call {key}")):
        run_team(copied / name / "team.yaml", backend=backend, replay=path)


def default_inputs(path: Path) -> dict[str, str]:
    """A team's inputs as they are when none are given."""
    return {key: str(spec.default) for key, spec in load_team(path).inputs.items()}


@pytest.mark.parametrize(
    ("name", "file", "old", "new"),
    [
        ("research_and_write", "sources/tides.md", "12 hours and 25 minutes", "half a day"),
        ("research_and_write", "sources/la_rance.md", "1966", "1967"),
        ("support_triage", "orders.json", '"paid_eur": 64.9', '"paid_eur": 4.9'),
        ("code_review", "sample/orders.py", "import sqlite3\n", "import sqlite3\nimport sys\n"),
    ],
)
def test_a_changed_world_is_noticed(name: str, file: str, old: str, new: str, copied: Path) -> None:
    """Tools and guardrails really look: what was true when it was recorded is refused when the files say something else."""
    path = copied / name / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises((GuardrailError, MissingRecordError)):  # a guardrail refuses, or asks again, and a recording has no other answer
        run_team(copied / name / "team.yaml", replay=copied / name / "answers.json")


@pytest.mark.parametrize("backend", names())
def test_a_refund_is_drafted_on_every_backend(backend: str, copied: Path) -> None:
    """The tool with side effects does its work once; with confirmation only when the reviewer says so."""
    team, draft = copied / "support_triage" / "team.yaml", copied / "support_triage" / "drafts" / "10421.json"
    replay = team.with_name("answers.json")
    run_team(team, backend=backend, replay=replay)
    assert json.loads(draft.read_text())["amount_eur"] == 34.9
    draft.unlink()
    asking(team)
    with pytest.raises(MissingRecordError):  # the guardrail finds no draft
        run_team(team, backend=backend, replay=replay, reviewer=lambda review: "too much")
    assert not draft.exists()
    asked: list[str | None] = []

    def approve(review: Review) -> bool:
        asked.append(review.tool)
        return True

    run_team(team, backend=backend, replay=replay, reviewer=approve)
    assert asked == ["draft_refund"]
    assert draft.exists()


def asking(team: Path) -> None:
    """Have the team's file ask before each refund."""
    text = team.read_text()
    assert "requires_confirmation: false" in text
    team.write_text(text.replace("requires_confirmation: false", "requires_confirmation: true"))


def test_both_sides_read_their_own_message(copied: Path) -> None:
    """The clerk's messages are private: each speaker is shown its own, the judge neither."""
    shown: defaultdict[str, str] = defaultdict(str)

    async def look(request: ChatRequest, call_next: Any) -> Any:
        shown[request.agent] += str(request.messages)
        return await call_next(request)

    result = run_team(copied / "debate" / "team.yaml", replay=copied / "debate" / "answers.json", middleware=[look])
    told = {message.recipient: message.content for message in result.messages if message.message_type == "direct"}
    assert {reader for reader, text in told.items() if text[:60] in shown[reader]} == {"pro", "con"}
    assert told["pro"][:60] not in shown["con"] + shown["judge"]
    assert "I rest my case" in shown["judge"]


@pytest.mark.parametrize("name", TEAMS)
def test_the_recording_is_that_of_the_script(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python examples/record.py` makes these very answers; input tokens may differ a little, since prompts are reworded now and then."""
    monkeypatch.syspath_prepend(EXAMPLES)
    import record  # type: ignore[import-not-found]

    record.record(name, tmp_path / "answers.json")
    made, kept = (answers_of(path / "answers.json") for path in (tmp_path, EXAMPLES / name))
    assert made.keys() == kept.keys(), "type: python examples/record.py"
    for key, (answer, tokens) in made.items():
        assert answer == kept[key][0], "type: python examples/record.py"
        assert tokens == pytest.approx(kept[key][1], rel=0.2), "type: python examples/record.py"


def test_a_script_that_does_not_fit_is_an_error(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer too few is named by its speaker, and so is one too many."""
    monkeypatch.syspath_prepend(EXAMPLES)
    import record

    monkeypatch.setattr(record, "EXAMPLES", copied)
    script = copied / "debate" / "script.yaml"
    text = script.read_text()
    script.write_text(text.replace("    debate/con:", "      - One word more.\n    debate/con:"))
    with pytest.raises(ValueError, match="nobody asked for, of debate/pro"):
        record.record("debate", tmp_path / "answers.json")
    script.write_text(text.replace("I rest my case.", "That is all."))
    with pytest.raises(RunError, match="no further answer of debate/pro"):
        record.record("debate", tmp_path / "answers.json")


def answers_of(path: Path) -> dict[tuple[str, str], tuple[Any, int]]:
    """Each answer of a recording, and its input tokens."""
    found = {}
    for scope, calls in json.loads(path.read_text())["answers"].items():
        for key, (answer,) in calls.items():
            tokens = answer.pop("input_tokens")
            found[scope, key] = answer, tokens
    return found


def commands(page: str, section: Callable[[str], bool]) -> list[str]:
    """The command lines of a page, of the sections whose title fits."""
    parts = [part for part in re.split(r"^## ", page, flags=re.MULTILINE) if section(part.splitlines()[0])]
    lines = [line for part in parts for language, block in BLOCK.findall(part) if language == "bash" for line in block.splitlines()]
    return [line.split(" #")[0].strip() for line in lines if line.strip()]


@pytest.mark.parametrize("name", ["", *TEAMS])
def test_the_commands_of_a_page_run_without_a_model(
    name: str, copied: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they stand, from the folder above; the one that asks a person is in the test below, the one that remakes recordings above."""
    lines = commands((copied / name / "README.md").read_text(), lambda title: title != "With a model")
    assert lines
    for line in lines:
        program, *arguments = shlex.split(line)
        if program == "unified-agents" and "requires_confirmation=true" not in line:
            assert run_command(arguments) == 0, capsys.readouterr().err
            out = capsys.readouterr().out
            assert out.strip()
            assert arguments[0] != "compare" or "All outputs are equal." in out
        else:
            assert program == "unified-agents" or line == "python examples/record.py"


@pytest.mark.parametrize("name", TEAMS)
def test_the_commands_of_a_page_run_with_a_model(
    name: str, copied: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they stand, over HTTP; the model says what the script says."""
    shutil.copytree(copied / "code_review" / "sample", copied / "support_triage", dirs_exist_ok=True)  # so that REVIEW_FOLDER holds it
    for line in commands((copied / name / "README.md").read_text(), lambda title: title == "With a model"):
        if line.startswith("export "):
            monkeypatch.setenv(*line.removeprefix("export ").replace("…", "k").split("=", 1))
            continue
        with ScriptedServer() as server:
            monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
            for role, replies in spoken(name).items():
                server.reply(f"You are {role}.", *replies, forever=True)
            assert run_command(shlex.split(line)[1:]) == 0, capsys.readouterr().err
            assert bool(server.requests) == (" check " not in line and "--replay" not in line)


def spoken(name: str) -> dict[str, list[Reply]]:
    """What each role says in the first run of a script."""
    agents = load_team(EXAMPLES / name / "team.yaml").agents
    return {str(agents[speaker.split("/")[1]].role): list(map(reply, said)) for speaker, said in script_of(name)[0]["says"].items()}


def reply(said: Any) -> Reply:
    """An answer of a script as the server gives it."""
    if isinstance(said, str):
        return Reply(text=said)
    calls = [call(tool, arguments) for entry in said.get("calls", ()) for tool, arguments in entry.items()]
    return Reply(tool_calls=calls) if calls else Reply(text=json.dumps(said["json"]))


@pytest.mark.xdist_group("terminal")
def test_the_command_that_asks_a_person_runs(copied: Path) -> None:
    """The line of support_triage's page that needs a terminal: the person says yes."""
    (line,) = (
        line for line in commands((copied / "support_triage" / "README.md").read_text(), bool) if "requires_confirmation=true" in line
    )
    terminal = Terminal(copied.parent, *shlex.split(line)[1:])
    terminal.wait_for("specialist wants to call draft_refund")
    terminal.wait_for("Allow this call?")
    terminal.type("y")
    code, out = terminal.end()
    assert (code, out.splitlines()[0]) == (0, "Dear Maeve Doyle,")
    assert (copied / "support_triage" / "drafts" / "10421.json").exists()


@pytest.mark.xdist_group("terminal")
def test_a_person_may_speak_in_the_debate(copied: Path) -> None:
    """As debate's page says: `con` is asked at the terminal, and ends the chat with the words that the file names."""
    folder = copied / "debate"
    terminal = Terminal(copied.parent, "run", f"{folder}/team.yaml", "--replay", f"{folder}/answers.json", "--set", "agents.con.human=true")
    terminal.wait_for("You are con, in task 'debate'")
    terminal.wait_for("a line with a single dot ends it")
    terminal.type("I rest my case.")
    terminal.type(".")
    code, out = terminal.end()
    assert (code, json.loads(out)["winner"]) == (0, "draw")


@pytest.mark.parametrize("name", [name for name in TEAMS if "```python" in (EXAMPLES / name / "README.md").read_text()])
def test_the_python_of_a_page_runs(name: str, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands, from the folder above."""
    if name == "support_triage":
        asking(copied / name / "team.yaml")
    for language, block in BLOCK.findall((copied / name / "README.md").read_text()):
        if language == "python":
            exec(compile(block, name, "exec"), {"__name__": name})
    out = capsys.readouterr().out
    if name == "support_triage":
        assert out.startswith("specialist wants to call draft_refund: {")
        assert out.endswith("refund\n")
    else:
        assert out.count("{'as_expected': 1.0}") == 15
        assert out.endswith("True\n")
