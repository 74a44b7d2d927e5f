"""What the documentation shows is true: its code runs, its files check, its lists are the code's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from unified_agents import RunResult, ScriptedModel, load_team, run_team
from unified_agents.adapter import Conversation
from unified_agents.chat_models.providers import PROVIDERS
from unified_agents.fidelity import CORE
from unified_agents.registry import backends
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


def test_the_list_of_what_is_not_supported_is_the_codes() -> None:
    """Every refused field stands in docs/team-file.md, and every provider in its table."""
    told = TEAM_FILE.split("## Not supported yet")[1]
    refused = [field.rsplit(".", 1)[-1].removesuffix("[]") for field, (level, _) in CORE.items() if level == "refused"]
    assert not [name for name in refused if f"`{name}`" not in told and f".{name}`" not in told and name not in ("model", "memory")]
    supported = {field.rsplit(".", 1)[-1] for field, (level, _) in CORE.items() if level != "refused" and field != "tools"}
    assert not [name for name in supported - set(refused) if f"`{name}`" in told]
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
