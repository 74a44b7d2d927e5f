"""The command line on a real terminal (a pseudo-terminal): live progress, and the reviewer who is asked."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unified_agents.testing import Reply, ScriptedServer, call

TEAM = """\
name: terminal
models:
  default: {{model: openai/scripted, base_url: "{base_url}"}}
agents:
  worker: {{role: Worker, goal: Work, tools: [stamp]}}
tasks:
  one: {{description: MARK-ONE, agent: worker, human_review: {review}}}
tools:
  stamp: {{python: "my_tools:stamp", requires_confirmation: true}}
"""
TOOLS = '''
def stamp(text: str) -> str:
    """Stamp a text."""
    return f"stamped {text}"
'''
ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A process whose stdin and stderr are one pseudo-terminal; what it shows is in `shown`."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
        command = [sys.executable, "-m", "unified_agents", *arguments]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=slave, stderr=slave, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        os.close(slave)
        self.shown = ""

    def wait_for(self, words: str, seconds: float = 30) -> None:
        """Read until the words are shown."""
        deadline = time.monotonic() + seconds
        while words not in self.shown:
            assert time.monotonic() < deadline, self.shown
            self._read(0.2)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            self.shown += ANSI.sub("", os.read(self._master, 4096).decode(errors="replace"))
        except OSError:  # the other side is closed
            return False
        return True

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._master, f"{text}\n".encode())

    def end(self) -> tuple[int, str]:
        """Exit code and stdout."""
        code = self.process.wait(30)
        while self._read(0.1):
            pass
        os.close(self._master)
        assert self.process.stdout is not None
        return code, self.process.stdout.read()


@pytest.fixture
def folder(tmp_path: Path, server: ScriptedServer) -> Path:
    """A team that is reviewed, with its tool."""
    (tmp_path / "team.yaml").write_text(TEAM.format(base_url=server.base_url, review="true"))
    (tmp_path / "my_tools.py").write_text(TOOLS)
    return tmp_path


@pytest.mark.xdist_group("terminal")
def test_a_person_is_asked_and_progress_is_shown(folder: Path, server: ScriptedServer) -> None:
    """Confirmation refused with a reason, an answer rejected with a comment, then edited: each reaches the agent or the output."""
    server.reply("MARK-ONE", Reply(tool_calls=[call("stamp", {"text": "x"}, "c1")]), "draft", "second draft")
    terminal = Terminal(folder, "run", "--backend", "autogen")
    terminal.wait_for("worker wants to call stamp")
    terminal.wait_for("Allow this call?")
    terminal.type("n")
    terminal.wait_for("Why")
    terminal.type("not today")
    terminal.wait_for("Accept this answer?")
    terminal.type("perhaps")
    terminal.type("n")
    terminal.wait_for("Why", 10)
    terminal.type("say more")
    terminal.wait_for("second draft")
    terminal.type("e")
    terminal.wait_for("a line with a single dot ends it")
    terminal.type("the person's words")
    terminal.type(".")
    code, out = terminal.end()
    assert (code, out) == (0, "the person's words\n")
    assert "terminal on autogen" in terminal.shown
    assert "one: worker" in terminal.shown
    assert "not today" in server.requests[1].messages[-1]["content"]
    assert "say more" in server.requests[2].messages[-1]["content"]


@pytest.mark.xdist_group("terminal")
def test_a_comparison_asks_too_and_shows_how_far_it_is(folder: Path, server: ScriptedServer) -> None:
    """Each run asks; the live lines are out of the way meanwhile."""
    server.reply("MARK-ONE", "draft", forever=True)
    terminal = Terminal(folder, "compare", "--backends", "autogen,autogen_classic")
    for _ in range(2):
        terminal.wait_for("Accept this answer?")
        terminal.shown = terminal.shown.replace("Accept this answer?", "asked")
        terminal.type("y")
    code, out = terminal.end()
    assert code == 0
    assert "All outputs are equal." in out
    assert "autogen: 1 of 1 runs" in terminal.shown
    assert "autogen_classic: 1 of 1 runs" in terminal.shown


@pytest.mark.xdist_group("terminal")
def test_an_interrupt_during_a_question_ends_the_run(folder: Path, server: ScriptedServer) -> None:
    """Ctrl-C while a person is asked: exit 130 in words, no traceback, no fatal error of the interpreter."""
    server.reply("MARK-ONE", "draft")
    terminal = Terminal(folder, "run", "--backend", "autogen")
    terminal.wait_for("Accept this answer?")
    terminal.process.send_signal(2)
    code, out = terminal.end()
    assert (code, out) == (130, "")
    assert "Interrupted." in terminal.shown
    assert "Traceback" not in terminal.shown
    assert "Fatal" not in terminal.shown


@pytest.mark.xdist_group("terminal")
def test_without_a_terminal_a_review_is_refused(folder: Path, server: ScriptedServer) -> None:
    """The same file with stdin closed: exit 2 before any request, naming every place that asks for a person."""
    command = [sys.executable, "-m", "unified_agents", "run", "--backend", "autogen"]
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "tasks.one.human_review: needs a reviewer" in done.stderr
    assert "tools.stamp.requires_confirmation: needs a reviewer" in done.stderr
    assert server.requests == []
