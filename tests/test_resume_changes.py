"""What counts as a change of a team between two sessions of a run: whatever would make an unfinished task another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Run
from tests.test_cli import without_streams  # noqa: F401  # pytest finds fixtures by name
from unified_agents import RunError, SpecError, resume_run, run_team
from unified_agents.errors import UnsupportedFeatureError
from unified_agents.testing import Reply, ScriptedServer

TEAM = """\
name: pair
process: sequential
models: {{default: {{model: openai/scripted, base_url: "{url}", api_key: k}}}}
tools: {{look: {{python: "my_tools:look", with: {{depth: 1}}}}}}
agents:
  worker: {{role: Worker, tools: [look], delegates_to: [helper], fallback: second}}
  helper: {{role: Helper, delegates_to: [far]}}
  far: {{role: Far away}}
  second: {{role: Second}}
tasks:
  one: {{description: TASK-one, agent: helper}}
  two: {{description: TASK-two, agent: worker}}
"""
TOOLS = '''
class look:
    """Looks."""

    def __init__(self, depth: int = 0) -> None:
        self.depth = depth

    def __call__(self, q: str) -> str:
        return q


class stare(look):
    """Stares."""
'''
STOP = Reply(status=401)


@pytest.fixture
def file(tmp_path: Path, server: ScriptedServer) -> Path:
    """A team of which the second task has failed, as run `r`."""
    path = tmp_path / "team.yaml"
    path.write_text(TEAM.format(url=server.base_url))
    (tmp_path / "my_tools.py").write_text(TOOLS)
    server.reply("TASK-two", STOP, STOP, "OUT-two").reply("TASK-one", "OUT-one", forever=True)
    with pytest.raises(RunError):
        run_team(path, backend="autogen", run_id="r")
    return path


def changed(path: Path, old: str, new: str) -> None:
    """Change the file."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


CHANGES: list[Any] = [
    pytest.param("process: sequential", "process: graph", id="what it sees"),
    pytest.param("role: Helper", "role: Doctor", id="a coworker"),
    pytest.param("role: Far away", "role: Near", id="a coworker's coworker"),
    pytest.param("role: Second", "role: Third", id="the fallback"),
    pytest.param("my_tools:look", "my_tools:stare", id="a tool's code"),
    pytest.param('look", with', 'look", side_effects: true, with', id="a tool's fields"),
    pytest.param("TASK-two", "TASK-two quickly", id="its own fields"),
]


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_a_changed_task_is_told(file: Path, server: ScriptedServer, old: str, new: str) -> None:
    """By its name, before anything is asked; with accept_changes it goes on."""
    asked = len(server.requests)
    changed(file, old, new)
    with pytest.raises(SpecError, match=r"tasks\.two: is not what it was"):
        resume_run("r")
    assert len(server.requests) == asked
    assert resume_run("r", accept_changes=True).output == "OUT-two"


UNCHANGED: list[Any] = [
    pytest.param("depth: 1", "depth: 2", id="what may be a secret"),
    pytest.param("api_key: k", "api_key: other, temperature: 0.5", id="models"),
    pytest.param("name: pair", "name: pair\nbudget: {tokens: 100000}\nlimits: {tool_calls: 50}", id="budget and limits"),
]


@pytest.mark.parametrize(("old", "new"), UNCHANGED)
def test_what_may_change(file: Path, old: str, new: str) -> None:
    """The negative control."""
    changed(file, old, new)
    assert resume_run("r").output == "OUT-two"


@pytest.mark.usefixtures("without_streams")
def test_it_goes_on_as_strictly_as_it_began(file: Path, server: ScriptedServer) -> None:
    """Not strict when it was not, unless it is said."""
    changed(file, "name: pair", "name: pair\nstream: true")
    server.reply("TASK-three", STOP, STOP, "OUT-three")
    changed(file, "TASK-two", "TASK-three")
    with pytest.raises(RunError):
        run_team(file, backend="autogen", run_id="s", strict=False)
    with pytest.raises(UnsupportedFeatureError):
        resume_run("s", strict=True)
    assert resume_run("s").output == "OUT-three"


def test_events_and_pages_spare_the_runs_files(file: Path, server: ScriptedServer, cli: Run) -> None:
    """Neither the team file, wherever it is, nor a journal is written over: exit 2, and they are as they were."""
    other = file.rename(file.with_name("other.yaml"))
    before, book = other.read_text(), Path(".unified_agents/runs.db")
    server.reply("TASK-moved", "OUT")
    other.with_name("team2.yaml").write_text(before.replace("TASK-two", "TASK-moved").replace("TASK-one", "TASK-moved"))
    for command in (
        ("resume", "r", "--file", str(other), "--events", str(other)),
        ("resume", "r", "--file", str(other), "--events", str(book)),
        ("run", str(other), "--events", str(book)),
        ("runs", "show", "r", "--html", str(book)),
        ("compare", str(other), "--html", str(book)),
    ):
        kept = book.read_bytes()[:16]
        code, _, err = cli(*command)
        assert (code, "name another" in err) == (2, True), (command, err)
        assert (other.read_text(), book.read_bytes()[:16]) == (before, kept)


def test_a_recorded_source_is_spared(file: Path, server: ScriptedServer, cli: Run) -> None:
    """Without --file too."""
    other = file.rename(file.with_name("mine.yaml"))
    server.reply("TASK-two", STOP, STOP)
    assert cli("run", str(other), "-b", "autogen", "--run-id", "s", "--set", "tasks.one.description=TASK-two")[0] == 1
    before = other.read_text()
    code, _, err = cli("resume", "s", "--events", str(other))
    assert (code, "is a file of the run itself" in err, other.read_text()) == (2, True, before)


def test_a_completed_run_says_that_nothing_was_run(file: Path, server: ScriptedServer, cli: Run) -> None:
    """What else was said had nothing to do: the stored result comes, and stderr says so."""
    assert cli("resume", "r")[:2] == (0, "OUT-two\n")
    asked = len(server.requests)
    code, out, err = cli("resume", "r", "--backend", "crewai", "--finished", "x=1")
    assert (code, out, len(server.requests)) == (0, "OUT-two\n", asked)
    assert err == "Run r was completed before: this is its stored result, and nothing was run.\n"
    assert cli("resume", "r", "--quiet")[2] == ""
