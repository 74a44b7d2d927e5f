"""MCP servers of a team: real ones, over stdio and HTTP, from their start to the end of their processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.test_resume_command import start, wait_for
from unified_agents import AgentSpec, RunError, SpecError, TaskSpec, TeamSpec, compile_team, run_team
from unified_agents.errors import ToolError
from unified_agents.review import Decision, Review
from unified_agents.testing import Reply, Request, ScriptedServer, call
from unified_agents.tools import mcp

SERVER = '''
import asyncio, os, signal, sys, threading
from pathlib import Path

with open(Path(__file__).with_name("pids"), "a") as pids:
    pids.write(f"{os.getpid()}\\n")

from pydantic import BaseModel
from mcp.server.fastmcp import FastMCP

if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=threading.Event().wait).start()  # nor does it end with its input

port = next((int(a.removeprefix("port=")) for a in sys.argv if a.startswith("port=")), 0)
server = FastMCP("notes", port=port, log_level="ERROR")

class Note(BaseModel):
    title: str
    size: int

@server.tool()
def search(q: str, limit: int = 1) -> str:
    """Search the notes."""
    return f"note on {q} " * limit

@server.tool()
def note(title: str) -> Note:
    """A note as an object."""
    return Note(title=title, size=len(title))

@server.tool()
def several() -> list[str]:
    """Several notes."""
    return ["one", "two"]

@server.tool()
def nothing() -> None:
    """Returns nothing."""

@server.tool()
def broken(q: str) -> str:
    """Always fails."""
    raise ValueError(f"no luck with {q}")

@server.tool()
def where() -> str:
    """Where it runs."""
    return f"{os.getcwd()}|{os.environ.get('NOTES_KEY')}|{os.environ.get('OPENAI_API_KEY')}"

@server.tool(name="notes.dotted")
def dotted() -> str:
    """Has a dot."""
    return "dotted"

@server.tool()
async def slow() -> str:
    """Takes a while."""
    Path(__file__).with_name("slow").touch()
    await asyncio.sleep(60)
    return "late"

@server.tool()
def die() -> str:
    """Ends the server."""
    print("out of ink", file=sys.stderr, flush=True)
    os._exit(3)

server.run("streamable-http" if port else "stdio")
'''
TOOLS = ["search", "note", "several", "nothing", "broken", "where", "notes_dotted", "slow", "die"]
BOTH = pytest.mark.parametrize("backend", ["autogen", "crewai"])


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Path]:
    """The server's file; a server that outlives the test fails it."""
    path = tmp_path / "notes_server.py"
    path.write_text(SERVER)
    yield path
    left = [pid for pid in pids(tmp_path) if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "an MCP server outlived its run"


def pids(folder: Path) -> list[int]:
    """The processes that servers of this folder have had."""
    path = folder / "pids"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def url(script: Path, tmp_path: Path) -> Iterator[str]:
    """The same server over HTTP, on a free port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(script), f"port={port}"], stderr=subprocess.DEVNULL, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        process.wait(10)


def stdio(script: Path, *arguments: str, **fields: Any) -> dict[str, Any]:
    """An entry of `tools:` that starts the server."""
    own = {key: fields.pop(key) for key in ("env",) if key in fields}
    return {"mcp": {"command": sys.executable, "args": [str(script), *arguments], **own}, **fields}


def team(server: ScriptedServer, tools: dict[str, Any], *further: Any, **fields: Any) -> TeamSpec:
    """One task, MARK, of an agent with these tools."""
    agent = AgentSpec(name="a", role="R", goal="G", tools=[*tools, *further])
    return TeamSpec(tasks=[TaskSpec(name="t", description="MARK", agent=agent)], models={"default": server.model()}, tools=tools, **fields)


def answers(request: Request) -> dict[str, str]:
    """The tool results in a request, by the call's id."""
    return {message["tool_call_id"]: message["content"] for message in request.messages if message["role"] == "tool"}


def failed(run: Callable[[], Any]) -> RunError:
    """The error of a run that fails, well before any timeout of a task."""
    began = time.monotonic()
    with pytest.raises(RunError) as caught:
        run()
    assert time.monotonic() - began < 30
    return caught.value


def check_all_tools(server: ScriptedServer, spec: TeamSpec, backend: str) -> dict[str, str]:
    """Every tool is offered, and several called in one run; their results."""
    calls = [
        call("search", {"q": "tides", "limit": 2}, "search"), call("note", {"title": "abc"}, "note"), call("several", {}, "several"),
        call("nothing", {}, "nothing"), call("broken", {"q": "x"}, "broken"), call("where", {}, "where"), call("notes_dotted", {}, "dotted"),
    ]  # fmt: skip
    server.reply("MARK", Reply(tool_calls=calls), Reply(tool_calls=[call("search", {"q": 5}, "wrong")]), "done")
    assert run_team(spec, backend=backend).output == "done"
    offered = server.requests[0].body["tools"]
    assert [tool["function"]["name"] for tool in offered] == TOOLS
    assert offered[0]["function"]["description"] == "Search the notes."
    assert offered[0]["function"]["parameters"]["properties"]["limit"]["default"] == 1
    assert offered[0]["function"]["parameters"]["required"] == ["q"]
    said = answers(server.requests[2])
    assert said["search"] == "note on tides note on tides "
    assert json.loads(said["note"]) == {"title": "abc", "size": 3}
    assert said["several"] == "one\ntwo"
    assert said["nothing"] == '{"result": null}'
    assert said["broken"].startswith("Error: broken failed: ")
    assert "no luck with x" in said["broken"]
    assert said["dotted"] == "dotted"
    assert "q: 5 is not of type 'string'" in said["wrong"]
    return said


@BOTH
def test_over_stdio(server: ScriptedServer, script: Path, tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tools are offered and called; env is what the file gives and no key of ours; the process is gone when the run is."""
    monkeypatch.setenv("OPENAI_API_KEY", "canary")
    said = check_all_tools(server, team(server, {"notes": stdio(script, env={"NOTES_KEY": "k1"})}), backend)
    assert said["where"] == f"{tmp_path}|k1|None"
    (pid,) = pids(tmp_path)
    assert not alive(pid)


@BOTH
def test_over_http(server: ScriptedServer, url: str, tmp_path: Path, backend: str) -> None:
    """The same tools from a server that runs already; it runs on after the run."""
    check_all_tools(server, team(server, {"notes": {"mcp": {"url": url}}}), backend)
    (pid,) = pids(tmp_path)
    assert alive(pid)


def test_it_runs_in_the_folder_of_the_team_file(
    server: ScriptedServer, script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative script and the server's own files lie beside the team file, wherever the run was started."""
    (tmp_path / "team.yaml").write_text(
        f'models: {{default: {{model: openai/scripted, base_url: "{server.base_url}", api_key: k}}}}\n'
        f'tools: {{notes: {{mcp: {{command: "{sys.executable}", args: [notes_server.py], env: {{NOTES_KEY: "${{SOME_KEY}}"}}}}}}}}\n'
        "agents: {a: {role: R, goal: G, tools: [notes]}}\ntasks: {t: {description: MARK, agent: a}}\n"
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("SOME_KEY", "k2")
    server.reply("MARK", Reply(tool_calls=[call("where", {}, "c")]), "done")
    run_team(tmp_path / "team.yaml", backend="autogen")
    assert answers(server.requests[1])["c"] == f"{tmp_path}|k2|None"


@BOTH
def test_it_is_started_once_a_run(server: ScriptedServer, script: Path, tmp_path: Path, backend: str) -> None:
    """Two agents in two tasks share one process; the next run has one of its own."""
    tools = {"notes": stdio(script)}
    agents = [AgentSpec(name=name, role="R", tools=["notes"]) for name in ("a", "b")]
    tasks = [TaskSpec(name=agent.name, description=f"MARK-{agent.name}", agent=agent, context=[]) for agent in agents]
    for name in ("a", "b"):
        replies: list[Reply | str] = [Reply(tool_calls=[call("search", {"q": name})]), "done"]
        server.reply(f"MARK-{name}", *replies, *replies)
    spec = TeamSpec(tasks=tasks, tools=tools, models={"default": server.model()})
    run_team(spec, backend=backend)
    assert len(pids(tmp_path)) == 1
    run_team(spec, backend=backend)
    assert len(set(pids(tmp_path))) == 2
    assert not any(alive(pid) for pid in pids(tmp_path))


def test_a_server_that_no_agent_in_use_names_is_not_started(server: ScriptedServer, script: Path, tmp_path: Path) -> None:
    """The negative control: what nobody uses costs nothing."""
    idle = AgentSpec(name="idle", role="R", tools=["notes"])
    agent = AgentSpec(name="a", role="R")
    server.reply("MARK", "done")
    tasks = [TaskSpec(name="t", description="MARK", agent=agent)]
    run_team(
        TeamSpec(agents={"idle": idle}, tasks=tasks, tools={"notes": stdio(script)}, models={"default": server.model()}), backend="autogen"
    )
    assert pids(tmp_path) == []


def test_the_process_is_gone_after_a_failed_and_after_a_cancelled_run(server: ScriptedServer, script: Path, tmp_path: Path) -> None:
    """However a run ends, its servers end with it."""
    from unified_agents import run_team_async

    spec = team(server, {"notes": stdio(script)})
    server.reply("MARK", Reply(status=400))
    failed(lambda: run_team(spec, backend="autogen"))
    assert not any(alive(pid) for pid in pids(tmp_path))
    server.reply("MARK", Reply(tool_calls=[call("slow")]))

    async def cancelled() -> None:
        task = asyncio.ensure_future(run_team_async(spec, backend="autogen"))
        while len(server.requests) < 2:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, RunError)):
            await task

    asyncio.run(cancelled())
    _, pid = pids(tmp_path)
    deadline = time.monotonic() + 15
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(pid)


def processes(folder: Path) -> set[int]:
    """The processes that others run in this folder, whatever session they are in."""
    there = {int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and works_in(path, folder)}
    return {pid for pid in there if alive(pid)} - {os.getpid()}


def works_in(process: Path, folder: Path) -> bool:
    """Whether this is a process's working folder; not of one that has ended."""
    try:
        return (process / "cwd").readlink() == folder
    except OSError:
        return False


SIGNALS = [("autogen", signal.SIGINT, ()), ("crewai", signal.SIGTERM, ()), ("autogen", signal.SIGTERM, ("stubborn",))]


@pytest.mark.parametrize(("backend", "stop", "arguments"), SIGNALS)
def test_a_signal_during_a_call_leaves_no_process(
    server: ScriptedServer, script: Path, tmp_path: Path, backend: str, stop: signal.Signals, arguments: tuple[str, ...]
) -> None:
    """Ctrl-C or SIGTERM while a server's tool is called, of `run` and then of `resume`: exit 130 within a second, and no process is left."""
    tools = {"notes": stdio(script, *arguments)}
    model = {"model": "openai/scripted", "base_url": server.base_url, "api_key": "k"}
    task = {"agents": {"a": {"role": "R", "tools": ["notes"]}}, "tasks": {"t": {"description": "MARK", "agent": "a"}}}
    (tmp_path / "team.yaml").write_text(json.dumps({"models": {"default": model}, "tools": tools, **task}))
    server.reply("MARK", Reply(tool_calls=[call("slow", {})]))
    for command in (["run", "-b", backend, "--run-id", "r"], ["resume", "r"]):
        process = start(*command)
        wait_for((tmp_path / "slow").exists, process)
        assert {process.pid, pids(tmp_path)[-1]} <= processes(tmp_path)
        began = time.monotonic()
        process.send_signal(stop)
        _, err = process.communicate(timeout=30)
        took = time.monotonic() - began
        assert (process.returncode, "Traceback" in err) == (130, False), err
        assert took < 1.0, took
        until = time.monotonic() + 5
        while (left := processes(tmp_path)) and time.monotonic() < until:
            time.sleep(0.05)
        assert not left
        (tmp_path / "slow").unlink()
    assert len(server.requests) == 1


def test_a_server_that_will_not_end_is_killed(server: ScriptedServer, script: Path, tmp_path: Path) -> None:
    """Neither the end of its input nor SIGTERM ends it: it is gone all the same when the run returns."""
    server.reply("MARK", "done")
    run_team(team(server, {"notes": stdio(script, "stubborn")}), backend="autogen")
    (pid,) = pids(tmp_path)
    assert not alive(pid)


def test_a_command_that_does_not_exist(server: ScriptedServer) -> None:
    """The run fails with the server's name, its command and the reason, before any request."""
    error = failed(lambda: run_team(team(server, {"notes": {"mcp": {"command": "no-such-command", "args": ["x"]}}}), backend="autogen"))
    assert type(error) is ToolError
    assert "MCP server 'notes' did not start (no-such-command x)" in str(error)
    assert "No such file or directory" in str(error)
    assert error.result is not None
    assert error.result.tasks["t"].status in ("pending", "skipped")
    assert server.requests == []


def test_a_server_that_crashes_at_once(server: ScriptedServer, tmp_path: Path) -> None:
    """What it said last on stderr is in the message; a program that is no MCP server is told too."""
    (tmp_path / "crash.py").write_text("import sys\nprint('loading', file=sys.stderr)\nsys.exit('no licence key')")
    for run in (run_team, compile_team):
        error = failed(lambda run=run: run(team(server, {"notes": stdio(tmp_path / "crash.py")}), backend="autogen"))  # type: ignore[misc]
        assert type(error) is ToolError
        assert "did not start" in str(error)
        assert "it said: no licence key" in str(error)
    assert server.requests == []


def test_a_url_that_nobody_answers(server: ScriptedServer) -> None:
    """A port without a server is an error at once, with the address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/mcp"
    error = failed(lambda: run_team(team(server, {"notes": {"mcp": {"url": url}}}), backend="autogen"))
    assert f"MCP server 'notes' did not start ({url})" in str(error)
    assert server.requests == []


def test_a_url_of_something_else(server: ScriptedServer) -> None:
    """A web server that knows no MCP is an error too."""
    url = f"{server.base_url}/mcp"
    server.reply("", Reply(status=404), forever=True)
    error = failed(lambda: run_team(team(server, {"notes": {"mcp": {"url": url}}}), backend="autogen"))
    assert "MCP server 'notes' did not start" in str(error)


@pytest.mark.parametrize("ends", [True, False], ids=["ends with its input", "has to be killed"])
def test_a_server_that_never_answers(server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: bool) -> None:
    """After the start's time it is an error, and the process is gone; a good server beside it is ended too."""
    monkeypatch.setattr(mcp, "START_SECONDS", 3.0)
    (tmp_path / "notes_server.py").write_text(SERVER)
    wait = "sys.stdin.read()" if ends else "signal.signal(signal.SIGTERM, signal.SIG_IGN); threading.Event().wait()"
    (tmp_path / "mute.py").write_text(f"import os, signal, sys, threading\nopen('pids', 'a').write(f'{{os.getpid()}}\\n')\n{wait}\n")
    tools = {"mute": stdio(tmp_path / "mute.py"), "notes": stdio(tmp_path / "notes_server.py")}
    error = failed(lambda: run_team(team(server, tools), backend="autogen"))
    assert "MCP server 'mute' did not answer within 3 s" in str(error)
    assert len(pids(tmp_path)) == 2
    assert not any(alive(pid) for pid in pids(tmp_path))
    assert server.requests == []


@BOTH
def test_a_server_that_dies_fails_the_task(server: ScriptedServer, script: Path, backend: str) -> None:
    """The model cannot mend it: the task fails with the server's name and last words, the cause behind it, without another request."""
    server.reply("MARK", Reply(tool_calls=[call("die")]))
    error = failed(lambda: run_team(team(server, {"notes": stdio(script)}), backend=backend))
    assert type(error) is ToolError
    assert "MCP server 'notes' failed during die: Connection closed; it said: out of ink" in str(error)
    assert type(error.__cause__).__name__ == "ToolUnavailableError"
    assert error.result is not None
    assert (error.result.tasks["t"].status, len(server.requests)) == ("failed", 1)


def test_a_server_that_died_between_two_calls(server: ScriptedServer, script: Path, tmp_path: Path) -> None:
    """The next call says that it is gone."""
    server.reply("MARK", Reply(tool_calls=[call("search", {"q": "x"})]), Reply(tool_calls=[call("search", {"q": "y"})], delay=1.0))

    def kill(event: Any) -> None:
        if type(event).__name__ == "ToolCalled" and len(server.requests) == 1:
            os.kill(pids(tmp_path)[0], signal.SIGKILL)

    error = failed(lambda: run_team(team(server, {"notes": stdio(script)}), backend="autogen", on_event=kill))
    assert type(error) is ToolError
    assert "MCP server 'notes'" in str(error)


@pytest.mark.parametrize("tool", ["die", "slow"])
def test_a_server_over_http_that_dies(server: ScriptedServer, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str) -> None:
    """The connection just ends: the task fails within seconds all the same, where the library would wait for ever."""
    monkeypatch.setattr(mcp, "PING_SECONDS", 0.3)
    server.reply("MARK", Reply(tool_calls=[call(tool)]))

    def kill() -> None:
        while not server.requests:
            time.sleep(0.05)
        time.sleep(1.0)  # the call is on its way
        os.kill(pids(tmp_path)[0], signal.SIGKILL)

    if tool == "slow":
        threading.Thread(target=kill, daemon=True).start()
    error = failed(lambda: run_team(team(server, {"notes": {"mcp": {"url": url}}}), backend="autogen"))
    assert type(error) is ToolError
    assert "MCP server 'notes'" in str(error)


def test_a_slow_tool_over_http_is_no_dead_server(server: ScriptedServer, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: pinged often, a tool that takes longer than its timeout is told to the model, and the server lives on."""
    monkeypatch.setattr(mcp, "PING_SECONDS", 0.2)
    tools = {"notes": {"mcp": {"url": url}, "timeout": 1.5}}
    server.reply("MARK", Reply(tool_calls=[call("slow", {}, "c1")]), Reply(tool_calls=[call("search", {"q": "x"}, "c2")]), "done")
    result = run_team(team(server, tools), backend="autogen")
    assert "slow did not return within 1.5 s" in answers(server.requests[2])["c1"]
    assert answers(server.requests[2])["c2"] == "note on x "
    assert result.output == "done"


def search(q: str) -> str:
    """Another search."""
    return q


def test_a_name_that_is_taken_is_an_error(server: ScriptedServer, script: Path, tmp_path: Path) -> None:
    """A function and a server's tool, or two servers, with one name: said by agent and name before any request; nothing runs on."""
    for spec in (
        team(server, {"notes": stdio(script)}, search),
        team(server, {"notes": stdio(script), "more": stdio(script)}),
    ):
        for run in (run_team, compile_team):
            with pytest.raises(SpecError, match=r"agents\.a\.tools: two tools are called 'search'"):
                run(spec, backend="autogen")
            assert not any(alive(pid) for pid in pids(tmp_path))
    assert server.requests == []


@pytest.mark.parametrize("allowed", [True, False])
def test_confirmation_holds_for_every_tool_of_a_server(server: ScriptedServer, script: Path, allowed: bool) -> None:
    """The reviewer is asked before each call, and a refused one does not reach the server; without a reviewer nothing starts."""
    asked: list[Review] = []

    def reviewer(review: Review) -> Decision:
        asked.append(review)
        return Decision(allowed)

    spec = team(server, {"notes": stdio(script, requires_confirmation=True)})
    with pytest.raises(SpecError, match=r"tools\.notes\.requires_confirmation: needs a reviewer"):
        run_team(spec, backend="autogen")
    assert pids(script.parent) == []
    server.reply("MARK", Reply(tool_calls=[call("search", {"q": "x"}, "c1")]), "done")
    run_team(spec, backend="autogen", reviewer=reviewer)
    assert [(review.tool, review.arguments) for review in asked] == [("search", {"q": "x"})]
    assert (answers(server.requests[1])["c1"] == "note on x ") is allowed


def test_a_compiled_team_keeps_its_servers_until_close(server: ScriptedServer, script: Path, tmp_path: Path) -> None:
    """The native object can be run as often as its server lives; `close`, or the end of a `with` block, ends it, and twice is fine."""
    turn: list[Reply | str] = [Reply(tool_calls=[call("search", {"q": "x"}, "c1")]), "done"]
    server.reply("MARK", *turn, *turn)
    spec = team(server, {"notes": stdio(script)})
    with compile_team(spec, backend="autogen") as compiled:
        (pid,) = pids(tmp_path)
        assert alive(pid)
        asyncio.run(compiled.native.run())
        assert answers(server.requests[1])["c1"] == "note on x "
        assert alive(pid)
    assert not alive(pid)
    compiled.close()
    assert pids(tmp_path) == [pid]
