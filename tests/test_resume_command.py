"""Interrupting and resuming on the command line: what is said, what is written, and every slip told in one sentence."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Run
from tests.unit.test_memory import unprivileged  # noqa: F401  # pytest finds fixtures by name
from unified_agents import journal as journals
from unified_agents.events import TaskStarted
from unified_agents.journal import Journal, open_journal
from unified_agents.registry import names
from unified_agents.state import HOME_VARIABLE
from unified_agents.testing import Reply, ScriptedServer, call

TEAM = """\
name: trends
inputs:
  topic: {{default: tides}}
models:
  default: {{model: openai/scripted, base_url: "{base_url}", api_key: k}}
agents:
  ann: {{role: Worker, tools: [wipe]}}
tasks:
  one: {{description: "TASK-one {{topic}}", agent: ann}}
  two: {{description: TASK-two, agent: ann, context: [one]}}
tools:
  wipe: {{python: "my_tools:wipe", side_effects: true}}
"""
TOOLS = '''
import time
from pathlib import Path


def wipe(path: str) -> str:
    """Delete something."""
    with open("wiped", "a") as log:
        log.write(path)
    time.sleep(0 if Path("fast").exists() else 30)
    return f"WIPED {path}"
'''
STOP = Reply(status=401)
IDS = re.compile(r"unified-agents resume (\S+)")


@pytest.fixture
def file(tmp_path: Path, server: ScriptedServer) -> Path:
    """A team file on the scripted server."""
    path = tmp_path / "team.yaml"
    path.write_text(TEAM.format(base_url=server.base_url))
    (tmp_path / "my_tools.py").write_text(TOOLS)
    return path


def start(*arguments: str) -> subprocess.Popen[str]:
    """The command line in a process group of its own."""
    command = [sys.executable, "-m", "unified_agents", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def failed(cli: Run, server: ScriptedServer, *arguments: str) -> str:
    """A run of which the second task failed; its id."""
    server.reply("TASK-two", STOP, "OUT-two").reply("TASK-one", "OUT-one")
    code, out, err = cli("run", "-b", "autogen", *arguments)
    assert (code, out) == (1, "")
    match = IDS.search(err)
    assert match is not None, err
    return match[1]


@pytest.mark.parametrize("backend", ["autogen", "crewai"])
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on(file: Path, server: ScriptedServer, cli: Run, stop: signal.Signals, backend: str) -> None:
    """Exit 130 soon after Ctrl-C or SIGTERM, with the words to type; nothing is left running; what they say goes on with the rest."""
    server.reply("TASK-two", Reply(text="LATE", delay=30), "OUT-two").reply("TASK-one", "OUT-one")
    process = start("run", "-b", backend)
    wait_for(lambda: server.asked("TASK-two"), process)
    began = time.monotonic()
    process.send_signal(stop)
    out, err = process.communicate(timeout=30)
    took = time.monotonic() - began
    assert (process.returncode, out) == (130, "")
    assert took < 1.0, took
    assert "Traceback" not in err
    match = IDS.search(err)
    assert match is not None, err
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert json.loads(cli("runs", "list", "--json")[1])["runs"][0]["status"] in ("cancelled", "interrupted")
    assert cli("resume", match[1]) == (0, "OUT-two\n", "")
    assert [len(server.asked("TASK-one")), len(server.asked("TASK-two"))] == [1, 2]


def test_events_of_both_sessions_are_one_row(file: Path, server: ScriptedServer, cli: Run, tmp_path: Path) -> None:
    """`--events` of run and resume: lines of JSON, numbered through; the journal holds the same."""
    run_id = failed(cli, server, "--events", "first.jsonl")
    assert cli("resume", run_id, "--events", "second.jsonl")[0] == 0
    lines = [json.loads(line) for name in ("first", "second") for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert {line["run_id"] for line in lines} == {run_id}
    assert [line["type"] for line in lines if line["type"].startswith("Run")] == ["RunStarted", "RunFailed", "RunResumed", "RunCompleted"]
    shown = json.loads(cli("runs", "show", run_id, "--json")[1])
    assert shown["events"] == lines


@pytest.mark.parametrize("options", [[], ["--backend", "crewai"]])
def test_resume_json_is_the_contracts_shape(file: Path, server: ScriptedServer, cli: Run, options: list[str]) -> None:
    """One document: the result of both sessions, each task with where it ran. A completed run gives the same again."""
    run_id = failed(cli, server)
    code, out, err = cli("resume", run_id, "--json", *options)
    result = json.loads(out)
    assert (code, err, result["status"], result["output"], result["run_id"], result["resumed_from"]) == (
        0,
        "",
        "completed",
        "OUT-two",
        run_id,
        run_id,
    )
    assert [task["backend"] for task in result["tasks"].values()] == ["autogen", "crewai" if options else "autogen"]
    assert result["usage"]["model_calls"] == 3
    assert len(server.requests) == 3
    code, out, _ = cli("resume", run_id, "--json")
    assert (code, json.loads(out)) == (0, result)
    assert len(server.requests) == 3


def test_a_resumed_run_may_fail_again(file: Path, server: ScriptedServer, cli: Run) -> None:
    """Exit 1, the result as JSON, and it can be resumed again."""
    server.reply("TASK-two", STOP, STOP, "OUT-two").reply("TASK-one", "OUT-one")
    assert cli("run", "-b", "autogen", "--run-id", "r")[0] == 1
    code, out, err = cli("resume", "r", "--json")
    assert (code, json.loads(out)["error"]["type"], json.loads(out)["tasks"]["one"]["status"]) == (1, "AuthenticationError", "completed")
    assert err == ""  # the result names the run
    assert cli("resume", "r") == (0, "OUT-two\n", "")


def test_a_changed_file_needs_accept_changes(file: Path, server: ScriptedServer, cli: Run) -> None:
    """Exit 2 names the tasks; inputs and --set of the run are kept and need not be given again."""
    server.reply("TASK-two", STOP, "OUT-two").reply("TASK-one moon", "OUT-one")
    assert cli("run", "-b", "autogen", "--run-id", "r", "-i", "topic=moon", "--set", "models.default.temperature=0.5")[0] == 1
    file.write_text(file.read_text().replace("TASK-two", "TASK-two NEW"))
    code, out, err = cli("resume", "r")
    assert (code, out) == (2, "")
    assert "tasks.two: is not what it was" in err
    assert "--accept-changes" in err
    assert len(server.requests) == 2
    assert cli("resume", "r", "--accept-changes") == (0, "OUT-two\n", "")
    assert "TASK-two NEW" in server.requests[2].text
    assert [request.body["temperature"] for request in server.requests] == [0.5] * 3


def test_a_moved_file_is_named(file: Path, server: ScriptedServer, cli: Run, tmp_path: Path) -> None:
    """Exit 2 says where it was and what to type; `--file` finds it."""
    run_id = failed(cli, server)
    (tmp_path / "sub").mkdir()
    (tmp_path / "my_tools.py").rename(tmp_path / "sub" / "my_tools.py")
    file.rename(tmp_path / "sub" / "other.yaml")
    code, _, err = cli("resume", run_id)
    assert code == 2
    assert f"not there any more: {file}" in err
    assert "--file FILE" in err
    assert cli("resume", run_id, "--file", "sub/other.yaml")[0] == 0


SECRETS = [
    "models.default.api_key=sk-CANARY",
    'models.default={{"model": "openai/scripted", "base_url": "{url}", "api_key": "sk-CANARY"}}',
    "models.default.extra_headers.X-Key=sk-CANARY",
]


@pytest.mark.parametrize("setting", SECRETS)
def test_a_secret_setting_is_not_stored_and_asked_for(file: Path, server: ScriptedServer, cli: Run, tmp_path: Path, setting: str) -> None:
    """It is in no file; resume says which one to give again."""
    setting = setting.format(url=server.base_url)
    run_id = failed(cli, server, "--set", setting)
    assert "CANARY" in str(server.requests[0].headers)
    code, _, err = cli("resume", run_id)
    assert code == 2
    assert f"{setting.partition('=')[0]}: was given with --set when the run began" in err
    assert cli("resume", run_id, "--set", setting)[0] == 0
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"CANARY" in path.read_bytes()]


def test_an_unfinished_side_effect_needs_a_word(file: Path, server: ScriptedServer, cli: Run, tmp_path: Path) -> None:
    """Killed while a tool with side effects ran: exit 1 names tool, arguments and task; --repeat-unfinished calls it again."""
    server.reply("TASK-two", Reply(tool_calls=[call("wipe", {"path": "disk"})]), "OUT-two").reply("TASK-one", "OUT-one")
    process = start("run", "-b", "autogen", "--run-id", "r")
    wait_for(lambda: (tmp_path / "wiped").exists() and (tmp_path / "wiped").read_text() == "disk", process)
    process.kill()
    process.communicate()
    assert json.loads(cli("runs", "--json")[1])["runs"][0]["status"] == "interrupted"
    (tmp_path / "fast").touch()
    code, _, err = cli("resume", "r")
    assert code == 1
    assert "wipe(path='disk') in task 'two'" in err
    assert "--repeat-unfinished" in err
    assert (tmp_path / "wiped").read_text() == "disk"
    assert cli("resume", "r", "--repeat-unfinished") == (0, "OUT-two\n", "")
    assert (tmp_path / "wiped").read_text() == "diskdisk"
    assert len(server.requests) == 3


def test_of_two_processes_one_resumes(file: Path, server: ScriptedServer, cli: Run) -> None:
    """The other is told that the run is being worked on, exit 1; `runs` says so too, and will not delete it."""
    server.reply("TASK-two", STOP, Reply(text="OUT-two", delay=5)).reply("TASK-one", "OUT-one")
    assert cli("run", "-b", "autogen", "--run-id", "r")[0] == 1
    process = start("resume", "r")
    wait_for(lambda: len(server.asked("TASK-two")) == 2, process)
    for command in (["resume", "r"], ["runs", "delete", "r"]):
        code, out, err = cli(*command)
        assert (code, out) == (1, "")
        assert "run 'r' is being worked on by another process" in err
    assert json.loads(cli("runs", "list", "--json")[1])["runs"][0]["status"] == "running"
    assert json.loads(cli("runs", "prune", "--older-than", "0s", "--json")[1]) == {"deleted": []}
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "OUT-two\n", "")
    assert len(server.requests) == 3


def test_runs_lists_shows_deletes_and_prunes(file: Path, server: ScriptedServer, cli: Run, tmp_path: Path) -> None:
    """Newest first, in the contract's shape; what is deleted is gone with its folder, and prune goes by age."""
    assert cli("runs") == (0, "", "Nothing was run yet.\n")
    assert json.loads(cli("runs", "list", "--json")[1]) == {"runs": []}
    server.reply("TASK-two", "OUT-two", "OUT-two", STOP).reply("TASK-one", "OUT-one", forever=True)
    for name in ("a", "b", "c"):
        cli("run", "-b", "autogen", "--run-id", name)
    rows = json.loads(cli("runs", "list", "--json")[1])["runs"]
    assert [list(row) for row in rows] == [["run_id", "team", "backend", "status", "started_at", "duration_s"]] * 3
    assert [(row["run_id"], row["team"], row["backend"], row["status"]) for row in rows] == [
        ("c", "trends", "autogen", "failed"), ("b", "trends", "autogen", "completed"), ("a", "trends", "autogen", "completed"),
    ]  # fmt: skip
    assert [row["run_id"] for row in json.loads(cli("runs", "list", "--json", "--limit", "1")[1])["runs"]] == ["c"]
    assert all(name in cli("runs")[1] for name in ("trends", "completed", "failed"))
    _, out, err = cli("runs", "show", "c")
    assert "one (ann): completed on autogen" in out
    assert "AuthenticationError" in out
    assert "unified-agents resume c" in err
    shown = json.loads(cli("runs", "show", "a", "--json")[1])
    assert (shown["result"]["output"], shown["events"][-1]["type"]) == ("OUT-two", "RunCompleted")
    assert cli("runs", "delete", "a") == (0, "", "Deleted a.\n")
    assert not (tmp_path / ".unified_agents" / "runs" / "a").exists()
    assert cli("runs", "show", "a")[0] == 2
    with sqlite3.connect(tmp_path / ".unified_agents" / "runs.db") as db:
        db.execute("UPDATE runs SET started_at = '2020-01-01T00:00:00+00:00' WHERE run_id = 'b'")
    assert cli("runs", "prune", "--older-than", "30d") == (0, "", "Deleted 1 run.\n")
    assert [row["run_id"] for row in json.loads(cli("runs", "--json")[1])["runs"]] == ["c"]
    assert json.loads(cli("runs", "prune", "--older-than", "999999w", "--json")[1]) == {"deleted": []}
    assert json.loads(cli("runs", "prune", "--older-than", "0s", "--json")[1]) == {"deleted": ["c"]}


SLIPS: list[tuple[list[str], int, str]] = [
    (["resume", "nope"], 2, "there is no run 'nope'"),
    (["resume", ".."], 2, "there is no run '..'"),
    (["resume"], 2, "Missing argument"),
    (["resume", "r", "--backend", "nope"], 3, "unknown backend 'nope'"),
    (["resume", "r", "--file", "none.yaml"], 2, "none.yaml: cannot be read"),
    (["resume", "r", "--set", "topic"], 2, "expected KEY=VALUE"),
    (["resume", "r", "--events", "no/such/folder/x"], 2, "--events: no/such/folder/x cannot be written"),
    (["resume", "r", "--journal", "postgres://host/x"], 2, "expected sqlite:///FILE"),
    (["resume", "r", "--journal", "sqlite:////dev/null/x.db"], 2, "there is no run 'r'"),
    (["runs", "show", "nope"], 2, "there is no run 'nope'"),
    (["runs", "show", ".."], 2, "there is no run '..'"),
    (["runs", "delete", "../.."], 2, "there is no run '../..'"),
    (["runs", "prune", "--older-than", "yesterday"], 2, "expected a number and a unit: 30d"),
    (["runs", "prune"], 2, "Missing option"),
    (["runs", "list", "--limit", "0"], 2, "Invalid value for '--limit'"),
    (["runs", "list", "--journal", "/x"], 2, "expected sqlite:///FILE"),
    (["run", "--run-id", "r", "-b", "autogen"], 2, "there is a run 'r' already: resume it"),
    (["run", "--run-id", "..", "-b", "autogen"], 2, "found '..', allowed: 1 to 128 of"),
    (["run", "--run-id", "..", "-b", "autogen"], 2, "1 problem in the arguments"),
    (["run", "--run-id", "r", "-b", "autogen"], 2, "1 problem in the arguments"),
    (["runs", "list", "--journal", "/x"], 2, "1 problem in the arguments"),
    (["runs", "--journal", "/x", "list"], 2, "expected sqlite:///FILE"),
    (["run", "--events", "team.yaml"], 2, "--events: team.yaml is a file of the run itself"),
    (["run", "--events", "./sub/../team.yaml"], 2, "is a file of the run itself"),
    (["resume", "r", "--events", "team.yaml"], 2, "--events: team.yaml is a file of the run itself"),
    (["run", "--set", 'journal=":memory:"'], 2, "found ':memory:', expected journal: {store: \"sqlite:///FILE\"}"),
    (["run", "--set", "journal=sqlite:///x.db"], 2, 'expected journal: {store: "sqlite:///x.db"}'),
    (["run", "--set", "memory=sqlite:///x.db"], 2, 'expected memory: {store: "sqlite:///x.db"}'),
    (["run", "--set", 'memory=":memory:"'], 2, 'expected memory: {store: ":memory:"}'),
    (["run", "--set", 'journal.store=":memory:"'], 2, "journal.store: found ':memory:', expected sqlite:///FILE"),
    (
        ["run", "--set", "memory=true", "--set", "journal.store=sqlite:///memory.db"],
        2,
        "journal.store: found 'sqlite:///memory.db', where the memory is",
    ),
]


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(("arguments", "code", "said"), SLIPS, ids=[" ".join(slip[0]) for slip in SLIPS])
def test_a_slip_is_told_in_words(
    file: Path, server: ScriptedServer, cli: Run, arguments: list[str], code: int, said: str, as_json: bool
) -> None:
    """The right exit code and one sentence, or the error document; no traceback, no request."""
    failed(cli, server, "--run-id", "r")
    Path("sub").mkdir()
    done, out, err = cli(*arguments, *(["--json"] if as_json else []))
    told = json.loads(out)["error"]["message"] if as_json else err
    assert done == code, told
    assert said in " ".join(told.split())
    assert "Traceback" not in out + err
    assert len(server.requests) == 2
    assert "TASK-two" in file.read_text()
    assert not (file.parent / ".unified_agents" / "memory.db").exists()


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no database": (lambda path: _alone(path).write_bytes(b"hello" * 999), "not a database"),
    "a newer version": (lambda path: _newer(path), "newer version of unified_agents (schema 99, known here: 1)"),
    "a folder": (lambda path: _alone(path).mkdir(), "runs.db failed"),
}


def _alone(path: Path) -> Path:
    for name in ("runs.db", "runs.db-wal", "runs.db-shm"):
        (path.parent / name).unlink(missing_ok=True)
    return path


def _newer(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize("command", [["runs"], ["runs", "show", "r"], ["runs", "delete", "r"], ["resume", "r"], ["run", "-b", "autogen"]])
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_journal_is_told_in_words(
    file: Path, server: ScriptedServer, cli: Run, tmp_path: Path, how: str, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 1 with the file's name and the reason, whatever was asked of it, and no request."""
    failed(cli, server, "--run-id", "r")
    journals._journals.clear()  # as another process
    BROKEN[how][0](tmp_path / ".unified_agents" / "runs.db")
    code, out, err = cli(*command)
    assert (code, out) == (1, ""), err
    assert BROKEN[how][1] in " ".join(err.split())
    assert ".unified_agents/runs.db" in "".join(err.split())
    assert "Traceback" not in err
    assert len(server.requests) == 2


def test_a_journal_elsewhere_is_found(file: Path, server: ScriptedServer, cli: Run, tmp_path: Path) -> None:
    """`journal.store` of the file is where it is written; `--journal` of resume and runs is where to look."""
    file.write_text(f"journal: {{store: 'sqlite:///{tmp_path}/elsewhere.db'}}\n{file.read_text()}")
    run_id = failed(cli, server)
    assert cli("resume", run_id)[0] == 2
    store = f"sqlite:///{tmp_path}/elsewhere.db"
    assert cli("resume", run_id, "--journal", store) == (0, "OUT-two\n", "")
    assert [row["status"] for row in json.loads(cli("runs", "--journal", store, "--json")[1])["runs"]] == ["completed"]


def test_files_are_for_their_owner_alone(file: Path, server: ScriptedServer, cli: Run, tmp_path: Path) -> None:
    """Whatever the umask: 0600, in a folder of 0700 that git ignores."""
    before = os.umask(0)
    try:
        failed(cli, server, "--run-id", "r")
    finally:
        os.umask(before)
    folder = tmp_path / ".unified_agents"
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    found = {
        path.relative_to(folder).as_posix(): oct(path.stat().st_mode & 0o777) for path in folder.rglob("*") if path.name != ".gitignore"
    }
    assert {mode for name, mode in found.items() if "." in name or name.endswith("lock")} == {"0o600"}
    assert found["runs"] == found["runs/r"] == "0o700"
    assert isinstance(open_journal("sqlite:///runs.db"), Journal)


def test_options_before_the_command_count(file: Path, server: ScriptedServer, cli: Run, tmp_path: Path) -> None:
    """`runs --journal X --json` means the same before and after list, show, delete and prune; what stands after it wins."""
    store = f"sqlite:///{tmp_path}/elsewhere.db"
    failed(cli, server, "--run-id", "r", "--set", f"journal.store={store}")
    for arguments in (["--json", "list"], ["list", "--json"], ["--json"]):
        assert [row["run_id"] for row in json.loads(cli("runs", "--journal", store, *arguments)[1])["runs"]] == ["r"]
    assert json.loads(cli("runs", "--json", "--journal", store, "show", "r")[1])["run_id"] == "r"
    assert cli("runs", "--journal", store, "show", "r", "--journal", "sqlite:///none.db")[0] == 2
    assert json.loads(cli("runs", "--json", "--journal", store, "prune", "--older-than", "1d")[1]) == {"deleted": []}
    assert json.loads(cli("runs", "--journal", store, "--json", "delete", "r")[1]) == {"deleted": ["r"]}
    assert json.loads(cli("runs", "--journal", store, "--json")[1]) == {"runs": []}


def test_hints_name_the_journal(file: Path, server: ScriptedServer, cli: Run, tmp_path: Path) -> None:
    """Where it is not the default one, every command that is said can be typed as it stands."""
    for store, said in (
        (f"sqlite:///{tmp_path}/else where.db", f"'sqlite:///{tmp_path}/else where.db'"),
        ("sqlite:///b.db", "sqlite:///b.db"),
    ):
        server.reply("TASK-two", STOP, STOP).reply("TASK-one", "OUT-one")
        hint = f"unified-agents resume r --journal {said}"
        setting = ["--set", f"journal.store={store}"]
        assert f"Resume it with: {hint}\n" in cli("run", "-b", "autogen", "--run-id", "r", *setting)[2]
        assert f"Resume it with: {hint}\n" in cli("resume", "r", "--journal", store, *setting)[2]
        assert f"Finish it with: {hint}\n" in cli("runs", "show", "r", "--journal", store)[2]
        assert f"resume it ({hint})" in cli("run", "-b", "autogen", "--run-id", "r", *setting)[2]
        assert f"see: unified-agents runs list --journal {said}" in cli("runs", "show", "s", "--journal", store)[2]


def test_a_run_id_is_never_cut(file: Path, server: ScriptedServer, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pipe nothing is; on a narrow terminal other columns are."""
    name = "a-run-with-a-name-of-sixty-characters-" + "x" * 22
    failed(cli, server, "--run-id", name)
    for arguments in (["runs"], ["runs", "show", name]):
        monkeypatch.delenv("FORCE_COLOR", raising=False)
        monkeypatch.setenv("COLUMNS", "80")
        out = cli(*arguments)[1]
        assert re.search(rf"^{name} +trends +autogen +failed +\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d +\d+\.\d s *$", out, re.MULTILINE), out
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "30")
        assert name in cli(*arguments)[1]


def begun(run_id: str, task: str) -> bool:
    """Whether a run's journal says that a task began."""
    return any(isinstance(event, TaskStarted) and event.task == task for event in open_journal("sqlite:///runs.db").events(run_id))


def test_an_interrupted_run_is_shown_as_far_as_it_came(file: Path, server: ScriptedServer, cli: Run) -> None:
    """What was completed, with its output, though it has no result."""
    server.reply("TASK-two", Reply(text="LATE", delay=30)).reply("TASK-one", "OUT-one")
    process = start("run", "-b", "autogen", "--run-id", "r")
    wait_for(lambda: server.asked("TASK-two") and begun("r", "two"), process)
    process.kill()
    process.communicate()
    code, out, err = cli("runs", "show", "r")
    assert code == 0
    assert "one (ann): completed on autogen\nOUT-one\n" in out
    assert "two (ann): unfinished on autogen" in out
    assert "unified-agents resume r" in err


@pytest.mark.parametrize(("first", "second"), [("crewai", "autogen"), ("autogen", "crewai")])
def test_killed_on_one_backend_and_resumed_on_the_other(file: Path, server: ScriptedServer, cli: Run, first: str, second: str) -> None:
    """With two of five tasks completed: the other backend asks once for each that is missing, the third again, whose answer nobody read."""
    words = ["one", "two", "three", "four", "five"]
    tasks = {
        word: {"description": f"TASK-{word}", "agent": "ann", "context": words[number - 1 : number]} for number, word in enumerate(words)
    }
    model = {"model": "openai/scripted", "base_url": server.base_url, "api_key": "k"}
    file.write_text(json.dumps({"models": {"default": model}, "agents": {"ann": {"role": "Worker"}}, "tasks": tasks}))
    for word in words:
        server.reply(f"TASK-{word}", *([Reply(text="LATE", delay=30)] if word == "three" else []), f"OUT-{word}")
    process = start("run", "-b", first, "--run-id", "r")
    wait_for(lambda: server.asked("TASK-three") and begun("r", "three"), process)
    process.kill()
    process.communicate()
    code, out, err = cli("resume", "r", "--backend", second, "--json")
    result = json.loads(out)
    assert (code, err, result["status"], result["output"]) == (0, "", "completed", "OUT-five")
    assert [word for request in server.requests for word in words if f"TASK-{word}" in request.text] == [*words[:3], *words[2:]]
    assert {word: (task["backend"], task["output"]) for word, task in result["tasks"].items()} == {
        word: (first if word in words[:2] else second, f"OUT-{word}") for word in words
    }


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("backend", names())
def test_a_state_folder_that_is_read_only(
    file: Path,
    server: ScriptedServer,
    cli: Run,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    backend: str,
    required: bool,
) -> None:
    """Exit 1 before any request, with what can be typed; where no journal is required, the run completes and says it cannot be resumed."""
    server.reply("TASK-two", "OUT-two", forever=True).reply("TASK-one", "OUT-one", forever=True)
    assert cli("run", "-b", backend) == (0, "OUT-two\n", "")  # the control; and what is imported is, before the right to read it goes
    server.requests.clear()
    team = file.read_text()
    state = request.getfixturevalue("unprivileged") / "state"
    (state.parent / "team.yaml").write_text(team)
    (state.parent / "my_tools.py").write_text(TOOLS)
    state.mkdir(mode=0o500)
    monkeypatch.chdir(state.parent)
    monkeypatch.setenv(HOME_VARIABLE, str(state))
    code, out, err = cli("run", "-b", backend, "--set", f"journal.required={required}")
    said = " ".join(err.split())
    assert "Permission denied" in said
    assert "Traceback" not in err
    if required:
        assert (code, out, server.requests) == (1, "", [])
        assert "set UNIFIED_AGENTS_HOME to a folder that can be written" in said
    else:
        assert (code, out, len(server.requests)) == (0, "OUT-two\n", 2)
        assert "cannot be resumed" in said
    assert list(state.iterdir()) == []


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="there is no full disk to write to")
@pytest.mark.parametrize(("stop", "code"), [(False, 0), (True, 1)])
def test_events_on_a_full_disk_lose_no_result(file: Path, server: ScriptedServer, stop: bool, code: int) -> None:
    """One line on stderr, and the run's own output and exit code."""
    server.reply("TASK-two", STOP if stop else "OUT-two").reply("TASK-one", "OUT-one")
    process = start("run", "-b", "autogen", "--events", str(FULL))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "" if stop else "OUT-two\n"), err
    assert err.count("Events are not written any more: /dev/full: No space left on device. The run goes on.\n") == 1
    assert "Traceback" not in err
    assert stop or len(err.splitlines()) == 1


def test_events_to_a_reader_that_goes_away_lose_no_result(file: Path, server: ScriptedServer, tmp_path: Path) -> None:
    """As on a full disk."""
    server.reply("TASK-two", Reply(text="OUT-two", delay=3)).reply("TASK-one", "OUT-one")
    os.mkfifo(tmp_path / "pipe")
    process = start("run", "-b", "autogen", "--events", "pipe")
    with (tmp_path / "pipe").open() as reader:
        assert json.loads(reader.readline())["type"] == "RunStarted"
        wait_for(lambda: server.asked("TASK-two"), process)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "OUT-two\n", "Events are not written any more: pipe: Broken pipe. The run goes on.\n")


def test_a_resumed_run_adds_its_events(file: Path, server: ScriptedServer, cli: Run, tmp_path: Path) -> None:
    """Those of the first session stay in the file."""
    run_id = failed(cli, server, "--events", "e.jsonl")
    assert cli("resume", run_id, "--events", "e.jsonl")[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert [line["type"] for line in lines if line["type"].startswith("Run")] == ["RunStarted", "RunFailed", "RunResumed", "RunCompleted"]


def test_a_run_that_went_on_without_its_journal_is_not_resumed(
    file: Path, server: ScriptedServer, cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state folder's file is locked by somebody from its midst on: the tool runs once, `runs` says what it is, and resume refuses, exit 2."""
    (tmp_path / "fast").touch()
    monkeypatch.setattr(journals, "_BUSY_SECONDS", 0.2)
    holder = sqlite3.connect(tmp_path / "other.db", isolation_level=None, check_same_thread=False)

    def lock() -> None:
        while not server.asked("TASK-two"):
            time.sleep(0.01)
        while "TaskCompleted" not in [event.type for event in open_journal("sqlite:///runs.db").events("r")]:
            time.sleep(0.01)  # it waits for others to be written with
        holder.execute("ATTACH ? AS journal", (str(tmp_path / ".unified_agents" / "runs.db"),))
        holder.execute("BEGIN IMMEDIATE")
        holder.execute("UPDATE journal.runs SET team = team")

    locking = threading.Thread(target=lock)
    locking.start()
    server.reply("TASK-two", Reply(tool_calls=[call("wipe", {"path": "disk"})], delay=1), STOP).reply("TASK-one", "OUT-one")
    code, _, err = cli("run", "-b", "autogen", "--run-id", "r", "--set", "journal.required=false")
    locking.join()
    holder.close()
    assert code == 1
    assert "is not written down and cannot be resumed" in err
    assert "unified-agents resume" not in err
    assert (tmp_path / "wiped").read_text() == "disk"
    assert json.loads(cli("runs", "--json")[1])["runs"][0]["status"] == "unrecorded"
    _, out, err = cli("runs", "show", "r")
    assert "OUT-one" in out
    assert "unified-agents resume" not in err
    assert "it cannot be resumed" in err
    for word in ([], ["--repeat-unfinished"]):
        code, _, err = cli("resume", "r", *word)
        assert code == 2
        assert "run 'r' went on after its journal had failed" in err
    assert (tmp_path / "wiped").read_text() == "disk"
    assert cli("runs", "delete", "r")[0] == 0
