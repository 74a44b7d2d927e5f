"""`unified-agents compare` as its user sees it: a table that fits, what it says of the outputs, and answers without a key."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from tests.conftest import Run
from tests.pages import comparison
from unified_agents import AgentSpec, RunResult, ScriptedModel, TaskSpec, TeamSpec, compare_backends
from unified_agents.cli.compare import show
from unified_agents.testing import Reply, ScriptedServer
from unified_agents.testing.conformance.test_compare import script, team

TEAM = """\
name: keyed
models:
  default: {{model: openai/gpt-4o-mini, base_url: "{base_url}", api_key: "${{NOBODY_SETS_THIS}}"}}
agents:
  a: {{role: Worker}}
tasks:
  one: {{description: MARK-ONE, agent: a}}
  two: {{description: MARK-TWO, agent: a, context: [one]}}
"""


@pytest.fixture
def file(tmp_path: Path, server: ScriptedServer) -> Path:
    """A team file whose key is in a variable that is not set."""
    path = tmp_path / "team.yaml"
    path.write_text(TEAM.format(base_url=server.base_url))
    return path


def shown(width: int | None, repeat: int) -> list[str]:
    """The lines of a comparison on a terminal; None: in a pipe."""
    out = io.StringIO()
    show(comparison(repeat=repeat), Console(file=out, highlight=False, width=width, force_terminal=width is not None, color_system=None))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("repeat", [1, 5])
def test_the_table_fits_a_terminal(repeat: int) -> None:
    """80 columns hold two backends and their differences, with nothing folded or cut."""
    lines = shown(80, repeat)
    assert max(len(line.rstrip()) for line in lines[:-5]) <= 80
    wanted = r"  seconds +2\.50 +3\.[57]0 +\+1\.[02]0( \[\+1\.08, \+1\.32\] ✱)? *"
    assert [line for line in lines if re.fullmatch(wanted, line)]
    assert not any("…" in line for line in lines)


def test_the_numbers_are_those_of_the_document(cli: Run, file: Path, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the text says is what --json says; whole runs add up their tasks, and a score stands with them."""
    monkeypatch.setenv("NOBODY_SETS_THIS", "k")
    server.reply("MARK-ONE", "one", forever=True).reply("MARK-TWO", "two", forever=True)
    code, out, _ = cli("compare", str(file), "-b", "autogen,autogen_classic", "--json")
    document = json.loads(out)
    assert code == 0
    for total in document["totals"]:
        tasks = [row for row in document["tasks"] if row["backend"] == total["backend"]]
        assert (total["completed"], total["requests"]) == (1, 2)
        for metric in ("requests", "input_tokens", "output_tokens", "added_tokens", "retries", "tool_calls"):
            assert total[metric] == sum(row[metric] for row in tasks)
    _, out, _ = cli("compare", str(file), "-b", "autogen,autogen_classic")
    first, second = (int(total["input_tokens"]) for total in document["totals"])
    assert re.search(rf"  tokens in +{first} +{second} ", out)


def test_scores_are_compared() -> None:
    """The mean of each backend, and the paired difference."""
    task = TaskSpec(name="t", description="Go", agent=AgentSpec(name="a", role="R"))
    models = {"default": ScriptedModel(lambda _request: "done")}
    made = compare_backends(TeamSpec(tasks=[task]), ["autogen", "autogen_classic"], repeat=3, scorers=[says_who], models=models)
    assert [total["score_says_who"] for total in made.totals()] == [0.0, 1.0]
    found = made.difference("autogen_classic", None, "score_says_who")
    assert found is not None
    assert (found.mean, found.pairs, found.clear) == (1.0, 3, True)
    out = io.StringIO()
    show(made, Console(file=out, width=100, highlight=False))
    assert re.search(r"score says_who +0 +1\.00 +\+1\.00 ✱", out.getvalue())


def says_who(_inputs: object, result: RunResult) -> bool:
    """A score that only one backend gets."""
    return result.backend == "autogen_classic"


def test_the_verdict(server: ScriptedServer) -> None:
    """Equal, different, and missing are three things; one backend has none."""
    script(server, 3)
    whole = compare_backends(team(server.model()), ["autogen", "autogen_classic"])
    lacking = compare_backends(team(server.model()), ["autogen", "nobody"])
    assert (whole.verdict, whole.equal) == ("All outputs are equal.", True)
    assert (lacking.verdict, lacking.equal) == ("Some outputs are missing.", False)
    assert comparison().verdict == "The outputs differ."


def test_recorded_answers_need_no_key(cli: Run, file: Path, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable that holds the key was set when the answers were recorded; a replay does not ask for it. A live run does."""
    server.reply("MARK-ONE", "one", forever=True).reply("MARK-TWO", "two", forever=True)
    with monkeypatch.context() as patched:
        patched.setenv("NOBODY_SETS_THIS", "secret-key")
        assert cli("run", str(file), "-b", "autogen", "--record", "answers.json")[0] == 0
    asked = len(server.requests)
    for command in (["compare", str(file), "-b", "autogen,autogen_classic"], ["run", str(file), "-b", "autogen_classic"]):
        code, out, err = cli(*command, "--replay", "answers.json")
        assert (code, err) == (0, "")
        assert "two" in out or "All outputs are equal." in out
        code, _, err = cli(*command)
        assert code == 2 or "All outputs are equal." not in err
        assert "NOBODY_SETS_THIS is not set" in err
    assert len(server.requests) == asked


@pytest.mark.parametrize("after", [3, 1])
def test_an_interrupt_keeps_what_was_answered(file: Path, server: ScriptedServer, after: int) -> None:
    """Ctrl-C in the middle: exit 130, the runs so far are on stdout as one document, and the recording holds what was paid for."""
    server.reply("MARK-TWO", Reply(text="two", delay=0.1), forever=True).reply(
        "MARK-ONE", Reply(text="one", delay=0.1 if after == 3 else 30), forever=True
    )
    command = [
        sys.executable,
        "-m",
        "unified_agents",
        "compare",
        str(file),
        "-b",
        "autogen,autogen_classic",
        "-n",
        "50",
        "--record",
        "a.json",
        "--json",
        "--html",
        "a.html",
    ]
    environment = {**os.environ, "NOBODY_SETS_THIS": "k"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    end = time.monotonic() + 60
    while len(server.requests) < after and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, "Traceback" in err) == (130, False), err
    document = json.loads(out)
    assert {run["status"] for run in document["runs"]} <= {"completed"}
    assert (len(document["runs"]) >= 1, Path("a.html").exists()) == (after == 3, True)
    answers = json.loads(Path("a.json").read_text())["answers"].values() if after == 3 else []
    for calls in answers:
        texts = {key: [answer["text"] for answer in kept] for key, kept in calls.items()}
        assert texts == {"one.1/a:1": ["one"], "two.1/a:1": ["two"]}
    assert len(answers) == (after == 3)


def test_a_page_is_not_written_over_the_runs_own_files(
    cli: Run, file: Path, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The team file, the rows, the recording: told before anything runs."""
    monkeypatch.setenv("NOBODY_SETS_THIS", "k")
    server.reply("MARK-ONE", "one", forever=True).reply("MARK-TWO", "two", forever=True)
    Path("rows.jsonl").write_text("{}\n")
    assert cli("run", str(file), "-b", "autogen", "--record", "answers.json")[0] == 0
    asked = len(server.requests)
    for options in (
        ["--html", str(file)],
        ["--inputs", "rows.jsonl", "--html", "rows.jsonl"],
        ["--record", "./answers.json", "--html", "answers.json"],
    ):
        before = Path(options[-1]).read_bytes()
        code, _, err = cli("compare", str(file), "-b", "autogen", *options)
        assert (code, Path(options[-1]).read_bytes()) == (2, before)
        assert "is a file of the run itself: name another one" in err
    assert len(server.requests) == asked


@pytest.mark.parametrize("backends", ["", ",", "autogen,autogen"])
def test_backends_that_are_none_are_a_wrong_argument(cli: Run, file: Path, backends: str) -> None:
    """Exit 2 in words, also as JSON."""
    code, out, err = cli("compare", str(file), "-b", backends, "--json")
    assert code == 2
    assert "expected names, each once" in json.loads(out)["error"]["message"] + err
    assert "Traceback" not in err


def test_rows_may_hold_any_text(cli: Run, tmp_path: Path, server: ScriptedServer) -> None:
    """A line ends at a line feed and nowhere else; what a terminal has no letters for is escaped in the document."""
    server.reply("MARK", "one", forever=True)
    Path("team.yaml").write_text(
        f'models: {{default: {{model: openai/x, base_url: "{server.base_url}", api_key: k}}}}\n'
        'inputs: {topic: }\nagents: {a: {role: R}}\ntasks: {one: {description: "MARK {topic}", agent: a}}\n'
    )
    (tmp_path / "rows.NDJSON").write_text('\ufeff{"topic": "coral\u2028reef\u0085"}\n{"topic": "\\ud800"}\n')
    code, out, err = cli("compare", "-b", "autogen", "--inputs", "rows.NDJSON", "--json")
    assert code == 0, err
    assert [run["inputs"]["topic"] for run in json.loads(out)["runs"]] == ["coral\u2028reef\u0085", "\ud800"]
    assert "coral\u2028reef\u0085" in server.requests[0].text


def test_a_closed_pipe_costs_no_page(file: Path, server: ScriptedServer) -> None:
    """`compare --html FILE | head -1`: the page is written all the same."""
    server.reply("MARK-TWO", "two", forever=True).reply("MARK-ONE", "one", forever=True)
    command = [sys.executable, "-m", "unified_agents", "compare", str(file), "-b", "autogen", "--quiet", "--html", "page.html"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        command, env={**os.environ, "NOBODY_SETS_THIS": "k"}, stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "two" in Path("page.html").read_text()
