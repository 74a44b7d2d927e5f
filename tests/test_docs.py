"""What the documentation shows is true: its code runs, its files check, its lists are the code's."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Run
from unified_agents import AgentMemory, AgentSpec, ModelError, RunResult, ScriptedModel, TaskSpec, TeamSpec, events, load_team, run_team
from unified_agents.adapter import Conversation
from unified_agents.chat_models.providers import PROVIDERS
from unified_agents.errors import BudgetExceededError
from unified_agents.fidelity import CORE
from unified_agents.managed import ManagedModel
from unified_agents.registry import backends
from unified_agents.spec import BudgetSpec
from unified_agents.spending import Spending, Spent
from unified_agents.testing import Reply, ScriptedServer, call

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TEAM_FILE = (ROOT / "docs" / "team-file.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_the_first_working_example_stands_before_line_30() -> None:
    """A reader sees running code on the first screen."""
    before = README.split(blocks(README, "python")[0])[0]
    assert before.count("\n") < 20


def test_the_readmes_python_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The first example runs as it stands on both backends; only the model's answers are scripted."""
    models: list[ScriptedModel] = []

    def scripted(team: Any, inputs: Any, backend: str) -> RunResult:
        models.append(ScriptedModel({"research": "FACTS", "write": f"PARAGRAPH on {backend}"}))
        return run_team(team, inputs, backend=backend, models={"default": models[-1]})

    monkeypatch.setattr("unified_agents.run_team", scripted)
    exec(blocks(README, "python")[0], {})
    assert capsys.readouterr().out == "PARAGRAPH on crewai\nPARAGRAPH on autogen\n"
    assert all("tide pools" in model.requests[0].messages[1]["content"] for model in models)


def test_the_readmes_tools_example_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: ScriptedServer
) -> None:
    """The second example runs as it stands; the model calls the tool, is reviewed, and the instance is printed."""
    server.reply("low water today", Reply(tool_calls=[call("search_notes", {"query": "tides"})]), '{"low_water": ["6:12", "18:40"]}')

    def scripted(team: Any, **options: Any) -> RunResult:
        return run_team(team, models={"default": server.model()}, **options)

    monkeypatch.setattr("unified_agents.run_team", scripted)
    exec(compile(blocks(README, "python")[1], "readme", "exec"), {"__name__": "readme"})
    assert "6:12" in capsys.readouterr().out
    assert "low water at 6:12" in server.requests[1].text


@pytest.mark.parametrize("keyed", [True, False], ids=["a-key", "no-key"])
def test_from_nothing_to_a_picture(server: ScriptedServer, cli: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, keyed: bool) -> None:
    """The commands of the README's comparison as they stand, and its Python; only what is installed is there already. A provider answers, or the embedded model."""
    server.reply("Define tide pools", "A pool.", forever=True).reply("Rewrite", "A small pool.", forever=True)
    if keyed:
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    section = README.split("## Which backend?")[1].split("\n## ")[0]
    lines = [line.split(" #")[0].strip() for block in blocks(section, "bash") for line in block.splitlines()]
    ran = []
    for line in lines:
        program, *arguments = shlex.split(line)
        if program == "cd":
            monkeypatch.chdir(tmp_path / arguments[0])
        elif program == "unified-agents" and arguments[0] != "model":
            if "--replay" in arguments:
                monkeypatch.delenv("OPENAI_API_KEY", raising=False)
            code, _, err = cli(*arguments)
            assert code == 0, err
            ran.append(arguments[0])
    assert ran == ["init", "compare", "compare", "compare"]
    assert "Define tide pools in one sentence." in (tmp_path / "tides" / "comparison.html").read_text()
    asked = len(server.requests)
    exec(blocks(section, "python")[0], {})
    assert (tmp_path / "tides" / "comparison.png").stat().st_size > 10_000
    assert len(server.requests) == asked == (2 * 2 + 3 * 2 * 2 if keyed else 0)


def test_the_adapter_guide_names_what_there_is() -> None:
    """Every name of the contract that the guide uses exists, and the adapter it walks through is the one that is tested."""
    guide = (ROOT / "docs" / "writing-an-adapter.md").read_text()
    for name in ("system_text", "task_text", "context_text", "chat", "chat_blocking", "call_tool", "call_tool_blocking", "tools"):
        assert f"`{name}" in guide or f".{name}" in guide or f"{name}`" in guide
        assert hasattr(Conversation, name)
    assert (ROOT / "tests" / "stranger" / "plain_loop_adapter.py").exists()
    for capability in {name for found in backends().values() for name in found.adapter.capabilities}:
        assert f'capabilities["{capability}"]' in guide


def test_the_readmes_file_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The team file in the README loads."""
    (tmp_path / "team.yaml").write_text(blocks(README, "yaml")[0])
    assert list(load_team(tmp_path / "team.yaml").tasks) == ["research", "write"]


def test_nothing_is_refused_and_every_provider_is_listed() -> None:
    """As docs/team-file.md says: the core refuses no field; every provider stands in its table."""
    assert not [field for field, (level, _) in CORE.items() if level == "refused"]
    assert not [name for name in PROVIDERS if f"| `{name}` |" not in TEAM_FILE]


def test_what_make_promises_is_in_the_makefile() -> None:
    """The two commands of the README are targets, and CI calls one of them."""
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^demo:", makefile, flags=re.MULTILINE)
    assert re.search(r"^test:", makefile, flags=re.MULTILINE)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_no_file_names_an_index() -> None:
    """Constraints and packaging hold names and versions, no addresses."""
    for name in ("constraints.txt", "pyproject.toml", "Makefile"):
        assert not re.search(r"https?://|index-url|find-links|file:", (ROOT / name).read_text()), name


@pytest.mark.parametrize("backend", sorted(backends()))
def test_the_fault_tolerance_page_runs(server: ScriptedServer, tmp_path: Path, backend: str) -> None:
    """Its file is a team that runs as it stands, and its parts work alone."""
    page = (ROOT / "docs" / "fault-tolerance.md").read_text()
    file = tmp_path / "team.yaml"
    file.write_text(blocks(page, "yaml")[0])
    server.reply("tide pools", "FACTS")
    models = {"default": server.model(), "other": server.model()}
    assert run_team(file, backend=backend, models=models).output == "FACTS"
    for block in blocks(page, "python"):
        exec(compile(block, "page", "exec"), {"__name__": "page"})


@pytest.mark.parametrize("backend", sorted(backends()))
def test_the_usage_page_runs(server: ScriptedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], backend: str) -> None:
    """Its file is a team that runs as it stands, its Python prints what was used, and the error it shows is worded as errors are."""
    page = (ROOT / "docs" / "usage-and-budgets.md").read_text()
    file = tmp_path / "team.yaml"
    file.write_text(blocks(page, "yaml")[0])
    server.reply("one sentence", "SENTENCE", forever=True).reply("tide pools", "FACTS", forever=True)
    models = {
        "default": server.model(model="openai/gpt-4o-mini", max_tokens=500),
        "dear": server.model(model="openai/gpt-4o"),
    }
    space = {"run_team": lambda _: run_team(file, backend=backend, models=models)}
    exec(compile(blocks(page, "python")[0], "page", "exec"), space)
    cheap, dear = (7 * 0.15 + 3 * 0.60) / 1e6, (7 * 2.50 + 3 * 10.00) / 1e6
    printed = [float(word) for word in capsys.readouterr().out.split()]
    assert printed == pytest.approx([2, 14, 6, cheap + dear, dear, dear, dear])
    shown = blocks(page, "text")[0].strip()
    spending = Spending(BudgetSpec(tokens=2000), before=Spent(2, 1630))
    with pytest.raises(BudgetExceededError) as caught:
        asyncio.run(spending.reserve(Spent(1, 612), "openai/gpt-4o-mini"))
    assert str(caught.value) == shown


def test_the_usage_pages_managed_model_is_made(monkeypatch: pytest.MonkeyPatch, server: ScriptedServer) -> None:
    """Two calls in its budget; the third is refused."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    space: dict[str, Any] = {"ManagedModel": ManagedModel}
    exec(compile(blocks((ROOT / "docs" / "usage-and-budgets.md").read_text(), "python")[1], "page", "exec"), space)
    server.reply("MARK", "ok", forever=True)
    for _ in range(2):
        space["llm"].ask_blocking([{"role": "user", "content": "MARK"}])
    with pytest.raises(BudgetExceededError):
        space["llm"].ask_blocking([{"role": "user", "content": "MARK"}])


def test_the_readmes_managed_example_runs(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line gives a hand-written agent our layers: a persistent 429 is four requests."""
    from crewai import Crew, Task  # noqa: TID251  # the example is about the framework

    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setenv("GROQ_API_KEY", "k")
    space: dict[str, Any] = {"__name__": "readme"}
    exec(compile(blocks(README, "python")[2].replace(', fallbacks=["groq/llama-3.3-70b-versatile"]', ""), "readme", "exec"), space)
    server.reply("MARK", Reply(status=429), forever=True)
    task = Task(description="MARK", expected_output="facts", agent=space["analyst"])
    with pytest.raises(Exception, match="RateLimitError"):
        Crew(agents=[space["analyst"]], tasks=[task], tracing=False).kickoff()
    assert len(server.requests) == 4


def test_the_list_of_events_is_the_codes() -> None:
    """docs/events.md is what `make docs` makes."""
    assert (ROOT / "docs" / "events.md").read_text() == events.page()


@pytest.mark.parametrize("backend", sorted(backends()))
def test_the_memory_pages_team_runs(server: ScriptedServer, tmp_path: Path, backend: str) -> None:
    """As it stands; the fact is in the prompt of the one, and not of the other."""
    AgentMemory(team="tides").add_to_long_term("low water", "The harbour is dry at 6:12")
    file = tmp_path / "team.yaml"
    file.write_text(blocks((ROOT / "docs" / "memory.md").read_text(), "yaml")[0])
    server.reply("Is the plan safe", "yes").reply("harbour", "at 8:00")
    assert run_team(file, backend=backend, models={"default": server.model()}).output == "yes"
    assert ["6:12" in request.text for request in server.requests] == [True, False]


def test_the_runs_pages_settings_check(tmp_path: Path) -> None:
    """What it shows for a file is allowed in one."""
    file = tmp_path / "team.yaml"
    file.write_text(
        blocks((ROOT / "docs" / "runs.md").read_text(), "yaml")[0] + "agents: {a: {role: R}}\ntasks: {t: {description: D, agent: a}}\n"
    )
    team = load_team(file)
    assert team.stream
    assert team.journal is not None
    assert team.journal.required


def test_the_runs_pages_python_runs(server: ScriptedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A stream prints its events; a run that was killed is finished by its id."""
    block = blocks((ROOT / "docs" / "runs.md").read_text(), "python")[0]
    agent = AgentSpec(name="a", role="R")
    team = TeamSpec(
        inputs={"topic": None}, models={"default": server.model()}, tasks=[TaskSpec(name="t", description="On {topic}", agent=agent)]
    )
    server.reply("On tide pools", Reply(status=401), "done", "again")
    with pytest.raises(ModelError):
        run_team(team, {"topic": "tide pools"}, run_id="20261123-101500-a1b2c3", backend="crewai")
    space: dict[str, Any] = {"TEAM": team}
    exec(compile(block.replace('backend="autogen")', 'backend="autogen", team=TEAM)'), "page", "exec"), space)
    assert str(space["result"]) == "done"
    asyncio.run(space["watch"](team))
    assert "RunCompleted" in capsys.readouterr().out


TRACING = (ROOT / "docs" / "tracing.md").read_text()


def test_the_tracing_page_names_what_there_is() -> None:
    """Every attribute, metric and span event of the code stands there, and no other of ours."""
    from unified_agents.tracing import names, run

    said = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str) and name != "SCOPE"}
    told = {run.span_event(kind) for kind in run.TOLD} | {"unified_agents.tool_refused"}
    assert not [name for name in said | told if f"`{name}`" not in TRACING]
    assert set(re.findall(r"`(unified_agents\.[a-z_.]+)`", TRACING)) <= said | told


def test_the_tracing_pages_python_exports(server: ScriptedServer, tmp_path: Path) -> None:
    """As it stands, in a process of its own: spans and metrics reach a collector before the process ends."""
    reached: list[str] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            reached.append(self.path)
            assert b"invoke_agent" in self.rfile.read(int(self.headers["Content-Length"])) or self.path != "/v1/traces"
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            """Quiet."""

    server.reply("MARK", "ANSWER")
    model = f'{{model: openai/scripted, base_url: "{server.base_url}", api_key: k}}'
    (tmp_path / "team.yaml").write_text(
        f"models: {{default: {model}}}\nagents: {{a: {{role: R}}}}\ntasks: {{t: {{description: MARK, agent: a}}}}\n"
    )
    (tmp_path / "traced.py").write_text(blocks(TRACING, "python")[0])
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}", "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(
            [sys.executable, "traced.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        collector.shutdown()
    assert (done.returncode, done.stdout) == (0, "ANSWER\n"), done.stderr
    assert set(reached) == {"/v1/traces", "/v1/metrics"}
