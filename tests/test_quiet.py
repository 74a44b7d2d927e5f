"""A run as a process of its own: what it prints, writes, resolves and imports, and when it ends. One process a backend, looked at from all sides."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from unified_agents.registry import names
from unified_agents.testing import Reply, ScriptedServer

CANARY = "sk-CANARY-5f2a"

# What a run on each backend imports, of all frameworks. A backend without a row fails here.
FRAMEWORKS = {"crewai": ["crewai"], "autogen": ["autogen_agentchat", "autogen_core"], "autogen_classic": ["autogen"]}

TEAM = """\
name: quiet
models:
  default: {{model: openai/scripted, base_url: "{base_url}", api_key: "${{QUIET_KEY}}"}}
agents:
  worker: {{role: Worker, goal: Work}}
tasks:
  one: {{description: MARK-ONE, agent: worker}}
  two: {{description: MARK-TWO, agent: worker, context: [one]}}
"""

# Runs the command line as the script entry does, and writes down at its end what the process did on the side.
PROBE = """\
import atexit, json, os, socket, sys, time
resolved, real = [], socket.getaddrinfo
def watch(host, *args, **kwargs):
    resolved.append(host)
    return real(host, *args, **kwargs)
socket.getaddrinfo = watch
from unified_agents.cli import main
printed, write = [time.time()], sys.stdout.write
def note(text):
    printed[0] = time.time()
    return write(text)
sys.stdout.write = note
before = dict(os.environ)
try:
    main(sys.argv[2:])
except SystemExit as end:
    code = end.code
frameworks = sorted({name.split(".")[0] for name in sys.modules} & {"crewai", "autogen_agentchat", "autogen_core", "autogen"})
changed = sorted(k for k, v in os.environ.items() if before.get(k) != v)
json.dump({"code": code, "resolved": resolved, "frameworks": frameworks, "changed": changed, "end": printed[0]}, open(sys.argv[1], "w"))
sys.exit(code)
"""


@dataclass
class Seen:
    """What one run left to look at."""

    returncode: int
    stdout: str
    stderr: str
    probe: dict[str, Any]
    files: set[str]
    home_files: set[str]
    temporary_files: set[str]
    exit_s: float
    stopped_s: float


During = Callable[["subprocess.Popen[str]"], None]


def run_process(
    folder: Path, server: ScriptedServer, *arguments: str, env: dict[str, str] | None = None, during: During = lambda _: None
) -> Seen:
    """Run `unified-agents` in `folder` with a home folder of its own; stdin is a pipe that nobody writes to."""
    home, work, temporary, probe = folder / "home", folder / "work", folder / "tmp", folder / "probe.json"
    for path in (home, work, temporary):
        path.mkdir()
    (work / "team.yaml").write_text(TEAM.format(base_url=server.base_url.replace("127.0.0.1", "localhost")))
    (work / ".env").write_text("FROM_DOTENV=1\nQUIET_KEY=overridden\n")
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(temporary), "QUIET_KEY": CANARY, **(env or {})}
    command = [sys.executable, "-c", PROBE, str(probe), *arguments]
    process = subprocess.Popen(
        command, cwd=work, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    during(process)
    interrupted = time.time()
    process.wait(timeout=120)
    ended = time.time()
    told = json.loads(probe.read_text())
    return Seen(
        process.returncode, process.stdout.read(), process.stderr.read(), told, _files(work) - {"team.yaml", ".env"},
        _files(home), _files(temporary), ended - told["end"], ended - interrupted,
    )  # fmt: skip


@pytest.mark.parametrize("backend", [pytest.param(name, marks=pytest.mark.xdist_group(f"process-{name}")) for name in names()])
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_at_once(tmp_path: Path, server: ScriptedServer, backend: str, stop: signal.Signals) -> None:
    """Ctrl-C and SIGTERM during a model call: exit 130 soon, in words, without a traceback, and no further request."""
    server.reply("MARK-ONE", Reply(text="late", delay=5))

    def interrupt(process: subprocess.Popen[str]) -> None:
        while not server.requests and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(stop)

    started = time.monotonic()
    seen = run_process(tmp_path, server, "run", "--backend", backend, during=interrupt)
    assert (seen.returncode, seen.stdout) == (130, "")
    assert re.fullmatch(r"Resume it with: unified-agents resume \S+\nInterrupted\.\n", seen.stderr)
    assert seen.stopped_s < 1.0, time.monotonic() - started
    assert len(server.requests) == 1


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("backend", [pytest.param(name, marks=pytest.mark.xdist_group(f"process-{name}")) for name in names()])
def test_a_run_is_quiet(tmp_path: Path, server: ScriptedServer, backend: str) -> None:
    """The output alone on stdout, nothing on stderr, no file outside the state folder, no name resolved, no other framework, a prompt exit."""
    server.reply("MARK-ONE", "one").reply("MARK-TWO", "two")
    seen = run_process(tmp_path, server, "run", "--backend", backend)
    assert (seen.returncode, seen.stdout, seen.stderr) == (0, "two\n", "")
    assert {path for path in seen.files if not path.startswith(".unified_agents/")} == set()
    assert {path for path in seen.home_files if not path.startswith(".cache/matplotlib/")} == set()  # AG2 imports it where it is installed
    assert set(seen.probe["resolved"]) == {"localhost"}
    assert seen.temporary_files == set()
    assert seen.probe["frameworks"] == FRAMEWORKS[backend]
    assert "FROM_DOTENV" not in seen.probe["changed"]
    assert seen.exit_s < 1.0
    assert [request.headers["Authorization"] for request in server.requests] == [f"Bearer {CANARY}"] * 2


@pytest.mark.parametrize("backend", [pytest.param(name, marks=pytest.mark.xdist_group(f"process-{name}")) for name in names()])
def test_a_failed_run_says_so_once(tmp_path: Path, server: ScriptedServer, backend: str) -> None:
    """Exit 1, the original error as JSON alone on stdout, no framework's traceback, no key anywhere, what was completed kept."""
    server.reply("MARK-ONE", "one").reply("MARK-TWO", Reply(status=401, body={"error": {"message": f"bad key {CANARY}"}}))
    seen = run_process(tmp_path, server, "run", "--json", "--backend", backend)
    document = json.loads(seen.stdout)
    assert (seen.returncode, seen.stderr) == (1, "")
    assert document["error"]["type"] == "AuthenticationError"
    assert document["error"]["task"] == "two"
    assert document["tasks"]["one"]["output"] == "one"
    assert document["backend"] == backend
    assert CANARY not in seen.stdout
    assert all(
        CANARY not in path.read_text(errors="replace") for path in (tmp_path / "work" / ".unified_agents").rglob("*") if path.is_file()
    )
    assert seen.exit_s < 1.0


@pytest.mark.parametrize("backend", [pytest.param(name, marks=pytest.mark.xdist_group(f"process-{name}")) for name in names()])
def test_a_failed_run_reads_well(tmp_path: Path, server: ScriptedServer, backend: str) -> None:
    """As text: one line with task, kind and advice, one with what became of the tasks; nothing on stdout, no framework's words."""
    server.reply("MARK-ONE", Reply(status=401, body={"error": {"message": "bad key"}}))
    seen = run_process(tmp_path, server, "run", "--backend", backend)
    assert (seen.returncode, seen.stdout) == (1, "")
    *said, hint = seen.stderr.splitlines()
    assert said == [
        "Error: task 'one' failed: AuthenticationError: openai/scripted: HTTP 401, the key was not accepted (check OPENAI_API_KEY or api_key): bad key",
        "failed: one; skipped: two",
    ]
    assert re.fullmatch(r"Resume it with: unified-agents resume \S+", hint)


def test_a_backend_from_the_environment(tmp_path: Path, server: ScriptedServer) -> None:
    """UNIFIED_AGENTS_BACKEND decides when no argument does, by the modules that were loaded too."""
    server.reply("MARK-ONE", "one").reply("MARK-TWO", "two")
    seen = run_process(tmp_path, server, "run", "--json", env={"UNIFIED_AGENTS_BACKEND": "autogen"})
    assert json.loads(seen.stdout)["backend"] == "autogen"
    assert "crewai" not in seen.probe["frameworks"]


def test_importing_the_package_is_light() -> None:
    """`import unified_agents` loads no framework and no SDK, and its whole public surface loads no framework."""
    heavy = "{'crewai', 'autogen_agentchat', 'autogen_core', 'autogen', 'openai', 'xllamacpp'}"
    code = f"""
import sys, unified_agents
assert not {heavy} & set(sys.modules), sorted({heavy} & set(sys.modules))
assert not {{name for name in sys.modules if name.startswith('unified_agents_')}}
from unified_agents import *
assert not ({heavy} - {{'openai'}}) & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
