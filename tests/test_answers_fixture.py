"""The fixture `answers` as users have it, in a pytest of its own; and what docs/testing.md shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from unified_agents.testing import ScriptedServer

PAGE = (Path(__file__).parent.parent / "docs" / "testing.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
FILES = {match[1]: block for block in BLOCKS if (match := re.match(r"# (\w+\.py)\n", block))}
TEAM = """\
inputs: {topic: null}
agents: {writer: {role: Writer}}
tasks: {article: {description: "Write about {topic}", agent: writer}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with the page's files and a team."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "team.yaml").write_text(TEAM)
    return tmp_path


def run_pytest(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and output of a pytest in a folder; it has no key unless it is given one."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**os.environ, "UNIFIED_AGENTS_BACKEND": "autogen", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def recording(server: ScriptedServer) -> dict[str, str]:
    """An environment in which a test is recorded, with the server as its provider."""
    return {"UNIFIED_AGENTS_RECORD": "1", "OPENAI_API_KEY": "k", "OPENAI_BASE_URL": server.base_url}


def answer_of(path: Path) -> str:
    """The one answer in a recording."""
    (calls,) = json.loads(path.read_text())["answers"].values()
    return str(calls["article.1/writer:1"][0]["text"])


def test_the_pages_test_is_recorded_once_and_replayed_on_any_backend(folder: Path, server: ScriptedServer) -> None:
    """As it stands: recorded with a model, then without a key, a server or a second request; other inputs are not answered (the negative control)."""
    server.reply("Write about tides", "On tides.")
    assert run_pytest(folder, **recording(server))[0] == 0
    assert answer_of(folder / "answers" / "test_article.json") == "On tides."
    assert run_pytest(folder, UNIFIED_AGENTS_BACKEND="crewai")[0] == 0
    assert len(server.requests) == 1
    assert not (folder / ".unified_agents").exists()
    test = folder / "test_article.py"
    test.write_text(test.read_text().replace('"topic": "tides"', '"topic": "moons"'))
    code, out = run_pytest(folder)
    assert code == 1
    assert "MissingRecordError" in out
    assert "article.1/writer:1" in out


def test_a_missing_recording_says_what_to_type(folder: Path) -> None:
    """The failure names the file and the command, and shows no traceback of ours."""
    code, out = run_pytest(folder, "test_article.py")
    assert code == 1
    assert f"{folder / 'answers' / 'test_article.json'} is not there" in out
    assert "UNIFIED_AGENTS_RECORD=1 pytest test_article.py::test_article" in out
    assert "fixtures.py" not in out


def test_recording_again_keeps_nothing_old(folder: Path, server: ScriptedServer) -> None:
    """A recording is made anew; where no model was asked, the old one stays."""
    kept = folder / "answers" / "test_article.json"
    kept.parent.mkdir()
    kept.write_text('{"version": 1, "answers": {"other inputs": {}}}')
    code, out = run_pytest(folder, UNIFIED_AGENTS_RECORD="1")
    assert code == 1
    assert "needs a key" in out
    assert "other inputs" in kept.read_text()
    server.reply("Write about tides", "On tides.")
    assert run_pytest(folder, **recording(server))[0] == 0
    assert answer_of(kept) == "On tides."


def test_a_clean_environment_keeps_the_keys_of_a_test_that_is_recorded(folder: Path, server: ScriptedServer) -> None:
    """With all fixtures in force; a test without `answers` beside it is as clean as ever."""
    (folder / "conftest.py").write_text("from unified_agents.testing.fixtures import answers, clean_environment, waits  # noqa: F401\n")
    test = (folder / "test_article.py").read_text().replace('"team.yaml"', f'"{folder / "team.yaml"}"')
    clean = "\n\ndef test_clean():\n    import os\n    assert 'OPENAI_API_KEY' not in os.environ\n"
    (folder / "test_article.py").write_text(test + clean)
    server.reply("Write about tides", "On tides.")
    code, out = run_pytest(folder, **recording(server))
    assert (code, "2 passed" in out) == (0, True), out
    assert run_pytest(folder)[0] == 0


CASES = """\
import pytest

@pytest.mark.parametrize("topic", ["a/b", "c"])
def test_case(answers, topic):
    assert answers["replay"].exists()

class TestOne:
    def test_case(self, answers):
        assert answers["replay"].parent.name == "answers"
"""


def test_each_test_has_a_recording_of_its_own(folder: Path) -> None:
    """Cases and classes have their own file; two tests that would share one are told, since neither would be right."""
    (folder / "answers").mkdir()
    for name in ("test_case_a_b", "test_case_c", "TestOne.test_case"):
        (folder / "answers" / f"{name}.json").write_text("{}")
    (folder / "test_article.py").write_text(CASES)
    assert run_pytest(folder)[0] == 0
    (folder / "test_other.py").write_text(CASES.partition("class")[0].replace('"a/b", ', ""))
    code, out = run_pytest(folder)
    assert code == 1
    assert re.search(r"test_article.py::test_case\[c\] and test_other.py::test_case\[c\] would both be recorded", out)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block not in FILES.values()])
def test_the_rest_of_the_page_runs(block: str) -> None:
    """Every other block works as it stands."""
    exec(compile(block, "docs/testing.md", "exec"), {"__name__": "page"})
