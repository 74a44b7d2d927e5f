"""Code that a team file names, through the command line: found beside the file, allowed, or refused with path and line, before any request."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Run
from unified_agents.testing import Reply, ScriptedServer, call

TEAM = """\
models:
  default: {{model: openai/scripted, base_url: "{base_url}", api_key: k}}
tools:
  search_notes:
    python: my_tools:search_notes
    description: Search the notes
agents:
  worker: {{role: Worker, goal: Work, tools: [search_notes]}}
tasks:
  one:
    description: MARK
    agent: worker
    guardrail: my_tools:no_shouting
middleware:
  - my_tools:Redact
"""

CODE = '''
import dataclasses
from typing import Any

from helpers import NOTES


def search_notes(q: str, limit: int = 1) -> list[str]:
    """Never read: the file describes it.

    Args:
        q: What to look for.
        limit: How many.
    """
    return [note for note in NOTES if q in note][:limit]


def no_shouting(text: str) -> Any:
    return "do not shout" if text.isupper() else None


class Redact:
    async def __call__(self, request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        return dataclasses.replace(response, text=response.text.replace("Alice", "[name]")) if response.text else response


def untyped(q, limit=3):
    return q


def positional(q: str, /) -> str:
    return q


def holds(x: "Redact") -> str:
    return ""


class NeedsMore:
    def __init__(self, more: str) -> None: ...


NUMBER = 3
'''


@pytest.fixture
def file(tmp_path: Path, server: ScriptedServer) -> Path:
    """A team file in a folder of its own, with my_tools.py and helpers.py beside it; the working folder is another."""
    folder = tmp_path / "team"
    folder.mkdir()
    (folder / "my_tools.py").write_text(CODE)
    (folder / "helpers.py").write_text("NOTES = ['the tide', 'the time', 'a car']")
    path = folder / "team.yaml"
    path.write_text(TEAM.format(base_url=server.base_url))
    return path


@pytest.mark.parametrize("backend", ["autogen", "crewai"])
def test_tool_guardrail_and_middleware_of_a_file(cli: Run, file: Path, server: ScriptedServer, backend: str) -> None:
    """The tool answers, the guardrail asks again, the layer changes what the model said; the file lies elsewhere than the run."""
    server.reply("MARK", Reply(tool_calls=[call("search_notes", {"q": "ti", "limit": 2})]), "SHOUTED", "Alice is fine")
    assert cli("run", str(file), "-b", backend) == (0, "[name] is fine\n", "")
    first, second, third = server.requests
    function = first.body["tools"][0]["function"]
    assert (function["name"], function["description"]) == ("search_notes", "Search the notes")
    assert function["parameters"]["properties"]["q"] == {"type": "string", "description": "What to look for."}
    assert second.messages[-1]["content"] == '["the tide", "the time"]'
    assert "do not shout" in third.messages[-1]["content"]


TOOL, GUARD, LAYER = ("tools.search_notes.python", 5), ("tasks.one.guardrail", 13), ("middleware[0]", 15)
WRONG: dict[str, tuple[str, str, tuple[str, int], list[str]]] = {
    "no such module": ("my_tools:search_notes", "my_toolz:search_notes", TOOL, ["holds no my_toolz.py", "--allow-import my_toolz"]),
    "no such function": ("my_tools:search_notes", "my_tools:search_note", TOOL, ["has no 'search_note'", "did you mean 'search_notes'?"]),
    "a dotted attribute": ("my_tools:search_notes", "my_tools:a.b", TOOL, ["expected MODULE:NAME"]),
    "a path": ("my_tools:search_notes", "../my_tools:f", TOOL, ["expected MODULE:NAME"]),
    "not allowed": ("my_tools:search_notes", "os:system", TOOL, ["'os' is not among the allowed packages", "--allow-import os"]),
    "no annotations": ("my_tools:search_notes", "my_tools:untyped", TOOL, ["'q' of search_notes has no annotation: write q: str"]),
    "positional only": ("my_tools:search_notes", "my_tools:positional", TOOL, ["'q' of search_notes", "take the `/` out"]),
    "a type without JSON": ("my_tools:search_notes", "my_tools:holds", TOOL, ["'x' of search_notes", "no JSON can hold"]),
    "no function": ("my_tools:search_notes", "my_tools:NUMBER", TOOL, ["int is neither a function nor a tool"]),
    "a class that is no tool": ("my_tools:search_notes", "my_tools:NeedsMore", TOOL, ["NeedsMore() failed: TypeError", "more"]),
    "no such guardrail": ("my_tools:no_shouting", "my_tools:no_shoutin", GUARD, ["has no 'no_shoutin'", "did you mean 'no_shouting'?"]),
    "a guardrail not allowed": ("my_tools:no_shouting", "os:system", GUARD, ["'os' is not among"]),
    "a guardrail that is none": ("my_tools:no_shouting", "my_tools:NUMBER", GUARD, ["names a int, expected a function"]),
    "no such layer": ("my_tools:Redact", "my_tools:Redakt", LAYER, ["has no 'Redakt'", "did you mean 'Redact'?"]),
    "a layer that needs more": ("my_tools:Redact", "my_tools:NeedsMore", LAYER, ["NeedsMore() failed: TypeError"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_reference_is_exit_2_with_path_and_line(cli: Run, file: Path, server: ScriptedServer, case: str) -> None:
    """Path, line and what to do, in words and as the error document; nothing is sent."""
    old, new, (path, line), said = WRONG[case]
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))
    code, out, err = cli("run", str(file), "-b", "autogen")
    assert (code, out) == (2, "")
    assert f"team.yaml:{line}" in err
    for words in (path, *said):
        assert words in err
    code, out, _ = cli("run", str(file), "-b", "autogen", "--json")
    problems = json.loads(out)["error"]["problems"]
    assert code == 2
    assert [(problem["path"], problem["line"]) for problem in problems] == [(path, line)]
    assert "Traceback" not in err
    assert server.requests == []


def test_all_wrong_references_are_told_at_once(cli: Run, file: Path, server: ScriptedServer) -> None:
    """Tool, guardrail and layer in one go."""
    file.write_text(file.read_text().replace(":search_notes\n", ":untyped\n").replace(":no_shouting", ":nope").replace(":Redact", ":nope"))
    code, out, _ = cli("run", str(file), "-b", "autogen", "--json")
    problems = json.loads(out)["error"]["problems"]
    assert code == 2
    assert [(problem["path"], problem["line"]) for problem in problems] == [TOOL, GUARD, LAYER]
    assert server.requests == []


BROKEN = {
    "import no_such_module": "ModuleNotFoundError: No module named 'no_such_module' (my_tools.py, line 2)",
    "def f(:": "SyntaxError",
    "import sys; sys.exit(0)": "SystemExit: 0 (my_tools.py, line 2)",
    "import helpers": "RuntimeError: not today (helpers.py, line 1)",
}


@pytest.mark.parametrize("line", BROKEN)
def test_a_module_that_cannot_be_imported(cli: Run, file: Path, server: ScriptedServer, line: str) -> None:
    """The error of the user's own code is told with its place, not as a traceback, and ends nothing but this run."""
    (file.parent / "my_tools.py").write_text(f"\n{line}\n")
    (file.parent / "helpers.py").write_text("raise RuntimeError('not today')")
    code, out, err = cli("run", str(file), "-b", "autogen")
    assert (code, out) == (2, "")
    assert f"importing my_tools failed: {BROKEN[line]}" in err
    assert "team.yaml:5" in err
    assert server.requests == []


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed package with a tool in it."""
    package = tmp_path / "site" / "strange_notes"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "tools.py").write_text('def find(q: str) -> str:\n    """Find."""\n    return f"found {q}"\n')
    monkeypatch.syspath_prepend(tmp_path / "site")
    for name in ("strange_notes", "strange_notes.tools"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "strange_notes"


def test_allow_import(cli: Run, file: Path, server: ScriptedServer, site: str) -> None:
    """An installed package is used only when the command line names it, or the part of it; the file cannot allow itself anything."""
    text = file.read_text().replace("my_tools:search_notes", "strange_notes.tools:find")
    file.write_text(text)
    for allowed in ([], ["--allow-import", "strange"], ["--allow-import", "strange_notes.other"]):
        code, _, err = cli("run", str(file), "-b", "autogen", *allowed)
        assert code == 2
        assert "--allow-import strange_notes" in err
        assert site not in sys.modules
    file.write_text("allow_imports: [strange_notes]\n" + text)
    assert cli("run", str(file), "-b", "autogen")[0] == 2
    assert site not in sys.modules
    assert server.requests == []
    file.write_text(text)
    for allowed in (["--allow-import", "os", "--allow-import", "strange_notes"], ["--allow-import", "strange_notes.tools"]):
        server.reply("MARK", Reply(tool_calls=[call("search_notes", {"q": "x"})]), "done")
        assert cli("run", str(file), "-b", "autogen", *allowed) == (0, "done\n", "")
        assert server.requests[-1].messages[-1]["content"] == "found x"


def test_check_runs_no_code_of_the_team(cli: Run, file: Path) -> None:
    """`check` of a file from elsewhere executes nothing that lies beside it."""
    (file.parent / "my_tools.py").write_text("raise AssertionError('executed')")
    code, out, err = cli("check", str(file), "-b", "autogen")
    assert code == 0
    assert "executed" not in out + err


def test_a_wrong_file_is_told_before_its_code_runs(cli: Run, file: Path, server: ScriptedServer, tmp_path: Path) -> None:
    """A file with another fault imports nothing at all."""
    (file.parent / "my_tools.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    file.write_text(file.read_text().replace("agent: worker", "agent: wroker"))
    assert cli("run", str(file), "-b", "autogen")[0] == 2
    assert not (tmp_path / "ran").exists()


def test_a_server_that_does_not_start_is_exit_1(cli: Run, file: Path, server: ScriptedServer) -> None:
    """An MCP server of the file that is not there fails the run with its name; nothing is sent."""
    file.write_text(
        file.read_text().replace("    python: my_tools:search_notes\n    description: Search the notes\n", "    mcp: {command: no-such}\n")
    )
    code, out, err = cli("run", str(file), "-b", "autogen")
    assert (code, out) == (1, "")
    assert "MCP server 'search_notes' did not start (no-such)" in err
    assert server.requests == []


QUIET = """
import os, sys, threading, warnings
original = warnings.warn
from unified_agents.references import resolve_reference
from pathlib import Path
resolve_reference("my_tools:look", Path.cwd())
print(warnings.warn is original, os.environ.get("CANARY"), [t.name for t in threading.enumerate() if "Otel" in t.name])
"""


@pytest.mark.parametrize("line", ["from crewai.tools import tool", "import helper"])
def test_code_that_imports_crewai_first_is_kept_quiet(tmp_path: Path, line: str) -> None:
    """A team's tools may be the first to import CrewAI: no telemetry, no .env, no key in the home folder, whichever backend runs."""
    (tmp_path / "home").mkdir()
    (tmp_path / ".env").write_text("CANARY=read")
    (tmp_path / "helper.py").write_text("def start():\n    from crewai.tools import tool\n    return tool\ntool = start()")
    (tmp_path / "my_tools.py").write_text(f"{line}\nlook = 1")
    environment = {**os.environ, "HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", QUIET], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert (done.stdout, done.stderr) == ("True None []\n", "")
    assert [path for path in (tmp_path / "home").rglob("*") if path.is_file()] == []
