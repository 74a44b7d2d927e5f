"""kill -9 at any instant: every run finishes, nothing that was committed is done again, and the journal stays whole.

`UNIFIED_AGENTS_KILLS` is how often (20 a backend when absent), `UNIFIED_AGENTS_SEED` what the instants are drawn from.
Each kill prints both (`pytest -s`), and a failure names them.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from unified_agents.events import Event, ModelAnswered, TaskCompleted, ToolCalled, ToolStarted
from unified_agents.journal import Journal
from unified_agents.testing import Reply, ScriptedServer, call

KILLS = int(os.environ.get("UNIFIED_AGENTS_KILLS", "20"))
SEED = os.environ.get("UNIFIED_AGENTS_SEED") or str(random.randrange(10**9))
BACKENDS = ("crewai", "autogen")
RUN = "killed"
TEAM = """\
name: killed
models:
  default: {{model: openai/scripted, base_url: "{base_url}", api_key: k}}
agents:
  ann: {{role: ann}}
  bob: {{role: bob, tools: [lookup]}}
  lead: {{role: lead, delegates_to: [cyd]}}
  cyd: {{role: cyd, tools: [stamp]}}
tasks:
  one: {{description: TASK-one., agent: ann}}
  two: {{description: TASK-two., agent: bob}}
  three: {{description: TASK-three., agent: lead, context: [one]}}
  four: {{description: TASK-four., agent: bob, after: [two]}}
  five: {{description: TASK-five., agent: ann, context: [three, four]}}
tools:
  lookup: {{python: "my_tools:lookup"}}
  stamp: {{python: "my_tools:stamp", side_effects: true}}
"""
TOOLS = '''
import time


def _did(what):
    with open("calls.log", "a") as log:
        log.write(what + "\\n")


def lookup(q: str) -> str:
    """Look something up."""
    _did(f"lookup {q}")
    return f"FOUND-{q}"


def stamp(text: str) -> str:
    """Stamp something, for good."""
    _did(f"stamp {text}")
    time.sleep(0.02)
    return f"STAMPED-{text}"
'''
REQUESTS = {"one": 1, "two": 2, "three": 4, "four": 3, "five": 1}


def script(server: ScriptedServer) -> None:
    """Answers that hang on nothing but the request: a killed process may have taken one without ever reading it."""

    def say(contains: str, text: str | None = None, **calls: Sequence[dict[str, Any]]) -> None:
        wanted = [call(name, arguments) for name, given in calls.items() for arguments in given]
        server.reply(contains, Reply(text=text, tool_calls=wanted, delay=0.02), forever=True)

    say("TASK-five.", "OUT-five")
    say("DRAFT-three", "OUT-three")
    say("STAMPED-three", "DRAFT-three")
    say("WORK-three", stamp=[{"text": "three"}])
    say("TASK-three.", delegate_work_to_coworker=[{"task": "WORK-three", "coworker": "cyd"}])
    say("FOUND-x", "OUT-two")
    say("TASK-two.", lookup=[{"q": "x"}, {"q": "y"}])
    say("FOUND-w", "OUT-four")
    say("FOUND-v", lookup=[{"q": "w"}])
    say("TASK-four.", lookup=[{"q": "v"}])
    say("TASK-one.", "OUT-one")


def _lives(pid: int) -> bool:
    """Whether a child of another process has not ended: until it is waited for, it is there as a zombie."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


class Zygote:
    """A warm process of tests/zygote.py."""

    def __init__(self, backend: str) -> None:
        command = [sys.executable, "-m", "tests.zygote", backend]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("UNIFIED_AGENTS")}
        root = Path(__file__).parent.parent
        self.process = subprocess.Popen(command, cwd=root, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._read() == {"threads": ["MainThread"]}

    def _read(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def _ask(self, **command: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self._read()

    def run(self, folder: Path, arguments: Sequence[str], kill_at: Callable[[], bool] | None = None) -> int:
        """Run a command line in a folder, and kill it at some moment; its exit code, -9 when it was killed."""
        pid = self._ask(folder=str(folder), arguments=list(arguments))["pid"]
        if kill_at is not None:
            while _lives(pid) and not kill_at():
                time.sleep(0.001)
            os.kill(pid, signal.SIGKILL)  # a process that has ended is there until it is waited for
        return int(self._ask(wait=pid)["code"])

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


@pytest.fixture(scope="module")
def zygotes() -> Iterator[dict[str, Zygote]]:
    """One for each backend."""
    made = {backend: Zygote(backend) for backend in BACKENDS}
    yield made
    for zygote in made.values():
        zygote.close()


@dataclass
class Committed:
    """What the journal holds of the run between two sessions."""

    events: list[Event] = field(default_factory=list)

    @property
    def completed(self) -> set[str]:
        """The tasks that must not run again."""
        return {event.task for event in self.events if isinstance(event, TaskCompleted)}

    @property
    def answered(self) -> Counter[str]:
        """How many calls of each task have their answer."""
        return Counter(task for task, _ in {(e.task, e.key) for e in self.events if isinstance(e, ModelAnswered)})

    @property
    def called(self) -> set[str]:
        """The tool calls that must not be made again, as calls.log names them."""
        ended = {event.key for event in self.events if isinstance(event, ToolCalled) and event.result is not None}
        begun = [event for event in self.events if isinstance(event, ToolStarted) and event.key in ended]
        return {" ".join([event.tool, *event.arguments.values()]) for event in begun if event.tool in ("lookup", "stamp")}


class Trial:
    """One run that is killed again and again until it completes."""

    def __init__(self, folder: Path, server: ScriptedServer, zygotes: dict[str, Zygote], backend: str, dice: random.Random) -> None:
        self.folder, self.server, self.zygotes, self.backend, self.dice = folder, server, zygotes, backend, dice
        self.journal = Journal(folder / ".unified_agents" / "runs.db")
        self.sessions: list[str] = []
        self.repeat = False
        self.hits = 0

    def some_time(self) -> Callable[[], bool]:
        """A moment of a session, by how far it is: so many requests, and a part of what follows the last of them."""
        wanted, rest = len(self.server.requests) + self.dice.randint(0, sum(REQUESTS.values())), self.dice.uniform(0, 0.06)
        reached: list[float] = []

        def is_now() -> bool:
            if not reached and len(self.server.requests) >= wanted:
                reached.append(time.monotonic())
            return bool(reached) and time.monotonic() >= reached[0] + rest

        return is_now

    def go(self) -> None:
        """Run, kill, resume until completed; look at everything in between."""
        code = self.session(["run", "-q", "-b", self.backend, "--run-id", RUN], self.backend, self.some_time())
        while code != 0:
            assert len(self.sessions) < 30, self.sessions
            where = self.dice.choice([self.backend, self.backend, *BACKENDS])
            command = ["resume", RUN, *(["--repeat-unfinished"] if self.repeat else [])] if self.known else ["run", "--run-id", RUN]
            kill_at = self.some_time() if len(self.sessions) < 4 and self.dice.random() < 0.3 else None
            code = self.session([*command, "-q", "-b", where], where, kill_at)
        result = self.journal.run(RUN)
        assert (result.status, (self.folder / "out").read_text()) == ("completed", "OUT-five\n")

    @property
    def known(self) -> bool:
        """Whether the run came as far as the journal."""
        return self.journal.has(RUN)

    def session(self, arguments: list[str], backend: str, kill_at: Callable[[], bool] | None) -> int:
        """One process, and what must hold after it."""
        before, asked, called = self.committed(), len(self.server.requests), len(self.calls())
        for name in ("out", "err"):
            (self.folder / name).unlink(missing_ok=True)
        code = self.zygotes[backend].run(self.folder, arguments, kill_at)
        said = (self.folder / "err").read_text() if (self.folder / "err").exists() else ""
        time.sleep(0.02 if code == -9 else 0)  # what it had sent last reaches the server after its end
        self.sessions.append(f"{' '.join(arguments)} → {code} {'' if code in (0, -9) else said}")
        requests = Counter(task_of(request.text) for request in self.server.requests[asked:])
        if code == 1:
            assert "UnfinishedCallError" in said
            assert "stamp(text='three') in task 'three'" in said
            assert not requests
            self.repeat = True
        else:
            assert code in (0, -9)
            self.repeat = False
        self.hits += code == -9 and self.known and self.journal.run(RUN).status == "interrupted"
        assert not before.completed & set(requests)
        assert not before.called & set(self.calls()[called:])
        if code == 0 and all(f"-b {self.backend}" in session for session in self.sessions):
            wanted = {task: count - before.answered[task] for task, count in REQUESTS.items() if task not in before.completed}
            assert requests == Counter(wanted)
        self.check_journal(before)
        return code

    def committed(self) -> Committed:
        """What stands in the journal now."""
        return Committed(self.journal.events(RUN))

    def calls(self) -> list[str]:
        """The tool calls that were made."""
        log = self.folder / "calls.log"
        return log.read_text().splitlines() if log.exists() else []

    def check_journal(self, before: Committed) -> None:
        """It is whole, without a gap, and holds what it held."""
        if not self.journal.path.exists():
            return
        db = sqlite3.connect(self.journal.path)
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        db.close()
        events = self.committed().events
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert events[: len(before.events)] == before.events


def task_of(text: str) -> str:
    """The task that a request belongs to."""
    match = re.search(r"(?:TASK|WORK)-(\w+)", text)
    assert match is not None, text
    return match[1]


@pytest.mark.timeout(60 + 20 * KILLS)
@pytest.mark.xdist_group("kill")
@pytest.mark.parametrize("backend", BACKENDS)
def test_kill(backend: str, zygotes: dict[str, Zygote], tmp_path: Path) -> None:
    """Killed at random instants and resumed, here or on the other backend: completed tasks and recorded calls stay done, and every run completes."""
    hits = 0
    for number in range(KILLS + 1):
        where = f"UNIFIED_AGENTS_SEED={SEED}, kill {number} of {KILLS} on {backend}"
        folder = tmp_path / str(number)
        folder.mkdir()
        with ScriptedServer() as server:
            script(server)
            (folder / "team.yaml").write_text(TEAM.format(base_url=server.base_url))
            (folder / "my_tools.py").write_text(TOOLS)
            trial = Trial(folder, server, zygotes, backend, random.Random(f"{SEED} {backend} {number}"))
            try:
                if number == 0:  # the control: nobody is killed
                    assert trial.session(["run", "-q", "-b", backend, "--run-id", RUN], backend, None) == 0
                    assert sorted(trial.calls()) == ["lookup v", "lookup w", "lookup x", "lookup y", "stamp three"]
                else:
                    trial.go()
            except AssertionError as error:
                raise AssertionError("\n".join([where, *trial.sessions, str(error)])) from error
        print(f"{where}: {trial.hits} hit, completed in {len(trial.sessions)} sessions")  # noqa: T201  # the seed of each
        hits += trial.hits > 0
    assert hits >= KILLS / 2, f"UNIFIED_AGENTS_SEED={SEED}: {hits} kills hit a run that the journal knew"
