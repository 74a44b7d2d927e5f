"""The examples: each checks, runs on scripted answers on both backends, and the quickstart on the embedded model too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unified_agents import ScriptedModel, run_team
from unified_agents.cli import run_command
from unified_agents.registry import names

EXAMPLES = Path(__file__).parent.parent / "examples"
ANSWERS = {
    "quickstart.yaml": {"define": "D", "second": "S", "importance": "I"},
    "ai_trends.yaml": {"research": "FINDINGS", "audience": "READERS", "write": "ARTICLE"},
}


def test_every_example_has_answers() -> None:
    """A new example cannot be forgotten here."""
    assert set(ANSWERS) == {path.name for path in EXAMPLES.glob("*.yaml")}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_example_checks(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`unified-agents check` accepts it, with nothing refused on any backend."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert run_command(["check", str(EXAMPLES / name), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {row["level"] for row in document["fidelity"]} <= {"native", "emulated"}


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
