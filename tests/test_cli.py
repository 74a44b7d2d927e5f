"""The command line in process: documents, messages and exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.conftest import Run
from unified_agents import registry
from unified_agents.fidelity import Row
from unified_agents.spec import team_schema
from unified_agents.testing import Reply, ScriptedServer

EXAMPLES = Path(__file__).parent.parent / "examples"

TEAM = """\
name: cli
inputs:
  topic: {{description: What to write about}}
models:
  default: {{model: openai/scripted, base_url: "{base_url}", api_key: k}}
agents:
  worker: {{role: Worker, goal: "Work on {{topic}}"}}
tasks:
  one: {{description: "MARK-ONE {{topic}}", agent: worker}}
  two: {{description: MARK-TWO, agent: worker, context: [one]}}
"""


@pytest.fixture
def file(tmp_path: Path, server: ScriptedServer) -> Path:
    """A team file on the scripted server."""
    path = tmp_path / "team.yaml"
    path.write_text(TEAM.format(base_url=server.base_url))
    return path


def test_run_prints_the_output(cli: Run, file: Path, server: ScriptedServer) -> None:
    """`run` reads team.yaml by default; the output goes to stdout and nothing to stderr when that is no terminal."""
    server.reply("MARK-ONE tides", "one").reply("MARK-TWO", "two")
    assert cli("run", "-i", "topic=tides", "--backend", "autogen") == (0, "two\n", "")
    assert "Work on tides" in server.requests[0].text


def test_run_json_is_the_contracts_shape(cli: Run, file: Path, server: ScriptedServer) -> None:
    """`--json` prints one document with every field of the contract, and the run id that was asked for."""
    server.reply("MARK-ONE", "one").reply("MARK-TWO", "two")
    code, out, err = cli("run", str(file), "-i", "topic=x", "-b", "autogen", "--json", "--run-id", "my-run.1")
    result = json.loads(out)
    assert (code, err) == (0, "")
    assert list(result) == [
        "run_id", "team", "backend", "framework_version", "status", "output", "structured", "tasks", "messages", "usage", "duration_s", "resumed_from", "error",
    ]  # fmt: skip
    assert (result["run_id"], result["team"], result["status"], result["output"]) == ("my-run.1", "cli", "completed", "two")
    assert list(result["tasks"]["one"]) == [
        "status", "agent", "backend", "models", "output", "structured", "truncated", "attempts", "notes", "started_at", "duration_s", "usage", "error",
    ]  # fmt: skip
    assert result["tasks"]["one"]["started_at"].endswith("Z")
    assert list(result["usage"]) == ["model_calls", "input_tokens", "output_tokens", "cost_usd", "by_agent", "by_model"]
    assert result["messages"][0] | {"timestamp": ""} == {
        "sender": "worker",
        "recipient": "worker",
        "message_type": "handover",
        "content": "one",
        "timestamp": "",
        "undelivered": [],
    }


def test_inputs_from_a_file_and_settings(cli: Run, file: Path, server: ScriptedServer, tmp_path: Path) -> None:
    """`--inputs` gives inputs, `-i` wins over it; `--set` replaces a part of the file."""
    (tmp_path / "inputs.json").write_text('{"topic": "from file"}')
    server.reply("MARK-ONE", "one", "one").reply("MARK-TWO", "two", "two")
    cli("run", "--inputs", "inputs.json", "--set", "models.default.temperature=0.5", "-b", "autogen")
    assert "MARK-ONE from file" in server.requests[0].text
    assert server.requests[0].body["temperature"] == 0.5
    cli("run", "--inputs", "inputs.json", "-i", "topic=from -i", "-b", "autogen")
    assert "MARK-ONE from -i" in server.requests[2].text
    assert "temperature" not in server.requests[2].body


WRONG: dict[str, tuple[Callable[[str], str], list[str]]] = {
    "a cycle": (lambda t: t.replace('topic}", agent: worker}', 'topic}", agent: worker, context: [two]}'), ["a cycle: one → two → one"]),
    "an unknown name": (lambda t: t.replace("context: [one]", "context: [on]"), ["unknown task 'on', did you mean 'one'?"]),
    "a misspelt key": (lambda t: t.replace("role: Worker", "rol: Worker"), ["unknown key 'rol', did you mean 'role'?"]),
    "a missing variable": (lambda t: t.replace("api_key: k", 'api_key: "${NOT_SET}"'), ["NOT_SET is not set"]),
    "a wrong type": (lambda t: t.replace("api_key: k", "temperature: warm"), ["found 'warm', expected a number"]),
    "no order": (lambda t: t.replace(", context: [one]", ""), ["process: sequential", "process: graph"]),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("as_json", [False, True])
def test_a_wrong_file_is_exit_2_before_any_request(cli: Run, file: Path, server: ScriptedServer, case: str, as_json: bool) -> None:
    """Each fault, with the missing input beside it, is told with its line and in one go; no request is sent."""
    change, said = WRONG[case]
    text = change(file.read_text())
    assert text != file.read_text()
    file.write_text(text)
    code, out, err = cli("run", "team.yaml", "-b", "autogen", *(["--json"] if as_json else []))
    told = json.loads(out)["error"]["message"] if as_json else err
    assert code == 2
    assert (out == "") is not as_json
    for words in [*said, "input 'topic' (What to write about) has no default and was not given"]:
        assert words in told
    assert "team.yaml:" in told
    assert server.requests == []


def test_all_faults_are_told_at_once(cli: Run, file: Path, server: ScriptedServer) -> None:
    """A file with every fault of the table tells all of them, each with its line."""
    text = file.read_text()
    for name in ("an unknown name", "a misspelt key", "a missing variable"):
        text = WRONG[name][0](text)
    file.write_text(text)
    code, out, _ = cli("run", "--json", "-b", "autogen")
    problems = json.loads(out)["error"]["problems"]
    assert code == 2
    assert {(p["path"], p["line"]) for p in problems} >= {
        ("tasks.two.context[0]", 10), ("agents.worker.rol", 7), ("models.default.api_key", 5), ("inputs.topic", 3),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["nope", "crewia"])
@pytest.mark.parametrize("how", ["argument", "environment", "file"])
def test_an_unknown_backend_is_exit_3(cli: Run, file: Path, monkeypatch: pytest.MonkeyPatch, name: str, how: str) -> None:
    """Wherever it was asked for, the message names what is registered, and what was meant."""
    if how == "environment":
        monkeypatch.setenv("UNIFIED_AGENTS_BACKEND", name)
    if how == "file":
        file.write_text(f"backend: {name}\n{file.read_text()}")
    code, out, err = cli("run", "-i", "topic=x", *(["--backend", name] if how == "argument" else []))
    assert (code, out) == (3, "")
    assert f"unknown backend '{name}'" in err
    assert "autogen, autogen_classic, crewai" in err
    assert ("did you mean 'crewai'" in err) is (name == "crewia")


def test_argument_over_environment_over_file(cli: Run, file: Path, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """--backend wins over UNIFIED_AGENTS_BACKEND, which wins over the file."""
    server.reply("MARK-ONE", "one", forever=True).reply("MARK-TWO", "two", forever=True)
    file.write_text(f"backend: crewai\n{file.read_text()}")
    monkeypatch.setenv("UNIFIED_AGENTS_BACKEND", "nope")
    assert json.loads(cli("run", "-i", "topic=x", "--json", "-b", "autogen")[1])["backend"] == "autogen"
    monkeypatch.setenv("UNIFIED_AGENTS_BACKEND", "autogen")
    assert json.loads(cli("run", "-i", "topic=x", "--json")[1])["backend"] == "autogen"
    monkeypatch.delenv("UNIFIED_AGENTS_BACKEND")
    assert json.loads(cli("check", "--json")[1])["ok"]


def test_a_backend_that_is_not_installed_says_what_to_type(cli: Run, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registered backend whose framework is missing: exit 3 and the pip command; `backends` lists it as not available."""
    install_stranger(tmp_path / "site", monkeypatch, requirement="no-such-framework")
    code, _, err = cli("run", "-i", "topic=x", "--backend", "stranger")
    assert code == 3
    assert "no-such-framework is not installed" in err
    assert "pip install 'stranger-adapter'" in err
    rows = {row["name"]: row for row in json.loads(cli("backends", "--json")[1])["backends"]}
    assert (rows["stranger"]["available"], rows["stranger"]["framework_version"]) == (False, None)
    assert rows["crewai"]["available"]
    assert list(rows["crewai"]) == ["name", "available", "framework_version", "supported", "install", "capabilities"]


def test_a_framework_outside_its_range_is_named(cli: Run, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed version that was never tested is refused by name and number."""
    install_stranger(tmp_path / "site", monkeypatch, requirement="pydantic", versions="<1")
    code, _, err = cli("run", "-i", "topic=x", "--backend", "stranger")
    assert code == 3
    assert "pydantic 2." in err
    assert "<1 is what was tested" in err


def install_stranger(site: Path, monkeypatch: pytest.MonkeyPatch, requirement: str, versions: str = ">=1") -> None:
    """A distribution with an adapter, as pip would leave it."""
    info = site / "stranger_adapter-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger-adapter\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[unified_agents.adapters]\nstranger = stranger_adapter:ADAPTER\n")
    (site / "stranger_adapter.py").write_text(
        "from unified_agents.adapter import Adapter\n"
        "class Stranger(Adapter):\n"
        "    def build(self, plan, seam):\n"
        "        raise AssertionError\n"
        f"ADAPTER = Stranger('stranger', {{{requirement!r}: {versions!r}}}, 'stranger-adapter')\n"
    )
    monkeypatch.syspath_prepend(site)
    registry._load.cache_clear()
    monkeypatch.delitem(__import__("sys").modules, "stranger_adapter", raising=False)


@pytest.fixture
def without_streams() -> Iterator[None]:
    """AutoGen's adapter says that it cannot stream; the core itself refuses nothing."""
    adapter = registry.backends()["autogen"].adapter
    before = adapter.fidelity
    object.__setattr__(adapter, "fidelity", {**before, "stream": ("refused", "it cannot stream")})  # frozen
    yield
    object.__setattr__(adapter, "fidelity", before)


@pytest.mark.usefixtures("without_streams")
def test_what_a_backend_refuses_is_refused_by_name(cli: Run, file: Path, server: ScriptedServer) -> None:
    """Exit 3, the field's path and the reason, before any request; without the field, or on another backend, the team is fine."""
    assert cli("check", "-b", "autogen")[0] == 0
    file.write_text("stream: true\n" + file.read_text())
    code, out, err = cli("run", "-i", "topic=x", "-b", "autogen")
    assert (code, out) == (3, "")
    assert "stream: it cannot stream" in err
    assert server.requests == []
    assert (cli("check", "-b", "autogen")[0], cli("check", "-b", "crewai")[0]) == (3, 0)


@pytest.mark.usefixtures("without_streams")
def test_no_strict_says_what_is_lost_and_never_drops_protection(cli: Run, file: Path, server: ScriptedServer) -> None:
    """`--no-strict` runs without a droppable field and names it; a budget is kept all the same, and a backend without one would be refused."""
    server.reply("MARK-ONE", "one").reply("MARK-TWO", "two")
    text = file.read_text()
    file.write_text("stream: true\n" + text)
    code, out, err = cli("run", "-i", "topic=x", "-b", "autogen", "--no-strict")
    assert (code, out) == (0, "two\n")
    assert "Without stream" in err
    file.write_text("budget: {tokens: 5}\n" + text)
    code, out, err = cli("run", "-i", "topic=x", "-b", "autogen", "--no-strict")
    assert (code, out) == (1, "")
    assert "budget.tokens is 5, 0 of it spent" in err
    assert not Row("budget.tokens", "budget.tokens", "b", "refused", "").droppable


def test_check_prints_plan_and_fidelity(cli: Run, file: Path, server: ScriptedServer) -> None:
    """`check` asks nothing of the model or of the inputs, and says who does what and what becomes of each field."""
    code, out, _ = cli("check", str(file), "--json")
    document = json.loads(out)
    assert code == 0
    assert list(document) == ["ok", "problems", "plan", "fidelity", "unused"]
    assert document["plan"][1] == {"task": "two", "agent": "worker", "reason": "named by the task", "context": ["one"]}
    assert {row["backend"] for row in document["fidelity"]} >= {"crewai", "autogen"}
    assert {"path": "agents.worker.role", "backend": "crewai", "level": "native", "reason": "Agent.role"} in document["fidelity"]
    code, out, _ = cli("check", str(file))
    assert "agents.worker.role" in out
    assert server.requests == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--nope"], "No such option: --nope"),
        (["nope"], "No such command 'nope'"),
        (["run", "-i", "topic"], "expected KEY=VALUE"),
        (["run", "no-such.yaml"], "cannot be read: No such file or directory"),
        (["run", "--inputs", "none.yaml"], "cannot be read"),
        (["run", "-i", "topic=x", "--set", "no.such.place.here=1"], "unknown key 'no'"),
        (["run", "-i", "topic=x", "--run-id", "../x"], "run_id"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_wrong_arguments_are_exit_2(cli: Run, file: Path, arguments: list[str], said: str, as_json: bool) -> None:
    """A slip on the command line is told in words, or as the error document; never a traceback."""
    code, out, err = cli(*arguments, *(["--json"] if as_json else []))
    assert code == 2
    assert said in (json.loads(out)["error"]["message"] if as_json else err)
    assert "Traceback" not in out + err


def test_control_characters_of_a_model_do_not_reach_the_terminal(cli: Run, file: Path, server: ScriptedServer) -> None:
    """An error text that a provider wrote is printed without escape sequences."""
    server.reply("MARK-ONE", Reply(status=400, body={"error": {"message": "a\x1b[2Jb"}}))
    code, _, err = cli("run", "-i", "topic=x", "-b", "autogen")
    assert code == 1
    assert "\x1b" not in err
    assert "a[2Jb" in err


def test_schema_accepts_the_examples_and_refuses_slips(cli: Run) -> None:
    """`schema` prints a JSON Schema that every example passes, with lists for mappings too, and a misspelt key does not."""
    schema = json.loads(cli("schema")[1])
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema == json.loads(json.dumps(team_schema()))
    for path in EXAMPLES.glob("*.yaml"):
        jsonschema.validate(_plain(path), schema)
    good: dict[str, Any] = {
        "agents": [{"name": "a", "role": "r"}],
        "tasks": {"t": {"description": "d", "agent": "a"}},
        "models": {"default": "openai/x"},
        "memory": True,
    }
    jsonschema.validate(good, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**good, "agnets": {}}, schema)


def _plain(path: Path) -> Any:
    from unified_agents.reading import read_text

    return read_text(path.read_text())[0]


def test_init_writes_a_team_that_runs(cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The starter checks as it is, with the embedded model or with a key from the environment; existing files are left alone."""
    code, out, err = cli("init", "fresh")
    assert (code, out) == (0, "")
    assert "local/smollm2-135m" in (tmp_path / "fresh" / "team.yaml").read_text()
    assert {path.name for path in (tmp_path / "fresh").iterdir()} == {"team.yaml", "my_tools.py", ".env.example"}
    assert cli("check", "fresh/team.yaml", "-b", "autogen")[0] == 0
    (tmp_path / "fresh" / "team.yaml").write_text("mine")
    code, _, err = cli("init", "fresh")
    assert code == 2
    assert "exists already" in err
    assert (tmp_path / "fresh" / "team.yaml").read_text() == "mine"
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    cli("init", "keyed")
    assert "openai/gpt-4o-mini" in (tmp_path / "keyed" / "team.yaml").read_text()
    assert cli("check", "keyed/team.yaml", "-b", "autogen")[0] == 0


def test_version(cli: Run) -> None:
    """`--version` prints the package's version."""
    from unified_agents import __version__

    assert cli("--version") == (0, f"unified-agents {__version__}\n", "")
