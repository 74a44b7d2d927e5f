"""Progress under the cell of a notebook, in a real kernel; and the same words in a terminal."""

from __future__ import annotations

import io
import re
import sys
from contextlib import AbstractContextManager
from typing import Any

import pytest
from rich.console import Console

from tests.unit.test_progress import ALWAYS, WORDS
from unified_agents import AgentSpec, RunResult, ScriptedModel, TaskSpec, TeamSpec, compare_backends, run_team
from unified_agents.events import Event, RunCompleted, TaskCompleted, TaskFailed, TaskSkipped, TaskStarted, TextStreamed
from unified_agents.progress import Board, RunProgress
from unified_agents.progress.notebook import NotebookBoard
from unified_agents.progress.terminal import TerminalBoard
from unified_agents.progress.wording import Line

ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
TIMED = re.compile(r"  [\d.]+ s$")
STORY: list[Event] = [
    TaskStarted(task="t", agent="ann"),
    *(event for event, _ in WORDS),
    *(event for event, _ in ALWAYS),
    TextStreamed(task="t", agent="ann", key="k", model="m", attempt=1, text="x" * 1234),
]
ENDS: list[Event] = [
    TaskCompleted(task="t", agent="ann", output="o", truncated=True, duration_s=1.0),
    TaskFailed(task="t", agent="ann", error="ToolError", message="<script>", duration_s=1.0),
    TaskSkipped(task="u", because_of="t"),
]
CELLS = """
from unified_agents import AgentSpec, ScriptedModel, TaskSpec, TeamSpec, compare_backends, resume_run, run_team, run_team_async
def team(): return TeamSpec(name="<b>crew</b>", tasks=[TaskSpec(name="one", description="ONE", agent=AgentSpec(name="ann", role="R"))])
def models(): return {"default": ScriptedModel(lambda _: "done")}
---
result = run_team(team(), backend="autogen", models=models(), run_id="r1")
---
print(resume_run("r1", team=team()), (await run_team_async(team(), backend="autogen_classic", models=models())).output)
---
run_team(team(), backend="autogen", models=models(), progress=False).output
---
made = compare_backends(team(), ["autogen", "nobody"], models=models(), repeat=2)
---
from unified_agents import SpecError
from unified_agents.progress import board_for
from unified_agents.progress.wording import Line
try:
    with board_for(None, timed=False) as board:
        board.show(Line("started", "autogen", "0 of 1 runs"))
        raise KeyboardInterrupt
except KeyboardInterrupt:
    print("stopped")
try:
    run_team(team(), {"nonsense": 1}, backend="autogen", models=models())
except SpecError:
    print("refused")
---
seen = []
try:
    run_team(team(), backend="autogen", models={"default": ScriptedModel(lambda _: "")}, on_event=seen.append)
except Exception as error:
    print(type(error).__name__, len(seen) > 3)
"""


def words(board: Board, events: list[Event]) -> str:
    """What a board says of events, without what is only one of them's: times and spinners."""
    with board:
        progress = RunProgress(board)
        for event in events:
            progress.listen(event)
        if isinstance(board, NotebookBoard):
            return board._repr_mimebundle_()["text/plain"]
    return ""


class Still(NotebookBoard):
    """A notebook's board without a notebook."""

    def __enter__(self) -> Still:
        return self

    def __exit__(self, *_: object) -> None:
        return


@pytest.mark.parametrize("event", [*STORY[1:], *ENDS], ids=lambda event: event.type)
def test_both_say_the_same_words(event: Event) -> None:
    """A line in the notebook is the terminal's line."""
    out = io.StringIO()
    words(TerminalBoard(console=Console(file=out, force_terminal=True, width=300, color_system=None)), [STORY[0], event])
    shown = words(Still(), [STORY[0], event]).splitlines()
    said = shown[0] if not shown[0].startswith("… t: ann is working") else shown[-1]
    assert TIMED.sub("", said).removeprefix("… ").strip() in ANSI.sub("", out.getvalue())


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """The outputs of each cell, run in a kernel."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS.split("---")])
    place = tmp_path_factory.mktemp("notebook")
    nbclient.NotebookClient(book, timeout=100, resources={"metadata": {"path": str(place)}}).execute()
    return [[dict(output) for output in cell.outputs] for cell in book.cells]


def plain(output: dict[str, Any]) -> list[str]:
    """The lines of a display, without their times."""
    return [TIMED.sub("", line) for line in output["data"]["text/plain"].splitlines()]


def test_a_run_shows_a_line_for_each_task(cells: list[list[dict[str, Any]]]) -> None:
    """One display under the cell, as it was in the end; what a team is called is text."""
    (shown,) = cells[1]
    assert plain(shown) == ["<b>crew</b> on autogen (run r1)", "✓ one: ann"]
    assert "&lt;b&gt;crew&lt;/b&gt; on autogen" in shown["data"]["text/html"]
    assert "<b>one</b>: ann" in shown["data"]["text/html"]


def test_awaited_runs_and_comparisons_show_it_too(cells: list[list[dict[str, Any]]]) -> None:
    """A completed run has nothing to show; a comparison has a line for each backend, with what kept one from running."""
    displays = [plain(one) for one in cells[2] if one["output_type"] == "display_data"]
    assert [one[-1:] for one in displays if any(one)] == [["✓ one: ann"]]
    (shown,) = cells[4]
    assert plain(shown)[:2] == ["✓ autogen: 2 of 2 runs", "✗ nobody: 2 of 2 runs, 2 did not complete"]
    assert "nobody: run 1: unknown backend 'nobody'" in shown["data"]["text/plain"]


def test_what_was_stopped_says_so(cells: list[list[dict[str, Any]]]) -> None:
    """A comparison that was interrupted does not look alive; a run that was refused shows nothing."""
    displays = ["\n".join(plain(one)) for one in cells[5] if one["output_type"] == "display_data"]
    assert displays == ["✗ autogen: 0 of 1 runs, stopped", ""]
    assert "refused" in "".join(one.get("text", "") for one in cells[5])


def test_it_can_be_left_out(cells: list[list[dict[str, Any]]]) -> None:
    """`progress=False` shows nothing but the cell's value."""
    (value,) = cells[3]
    assert value["output_type"] == "execute_result"


def test_a_failed_run_says_so_and_other_listeners_hear_all(cells: list[list[dict[str, Any]]]) -> None:
    """`on_event` is called beside it."""
    (shown,) = (one for one in cells[6] if one["output_type"] == "display_data")
    assert plain(shown)[1].startswith("✗ one: ")
    assert any("True" in one.get("text", "") for one in cells[6])


def run(**options: Any) -> RunResult:
    """A run of one task."""
    team = TeamSpec(name="crew", tasks=[TaskSpec(name="one", description="ONE", agent=AgentSpec(name="ann", role="R"))])
    return run_team(team, backend="autogen", models={"default": ScriptedModel(lambda _: "done")}, **options)


class Broken(AbstractContextManager[Any]):
    """A board that fails from some call on."""

    def __init__(self, when: str) -> None:
        self.when = when

    def __enter__(self) -> Broken:
        return self._fail("enter")

    def __exit__(self, *_: object) -> None:
        self._fail("exit")

    def show(self, _line: Line) -> None:
        """Show nothing."""
        self._fail("show")

    def _fail(self, place: str) -> Broken:
        if place == self.when:
            raise BrokenPipeError("nobody looks")
        return self


@pytest.mark.parametrize("when", ["enter", "show", "exit"])
def test_what_cannot_be_shown_costs_no_run(when: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Neither its result nor another's listener; it is logged once."""
    monkeypatch.setattr("unified_agents.progress.terminal.TerminalBoard", lambda **_: Broken(when))
    seen: list[Event] = []
    assert run(progress=True, on_event=seen.append).output == "done"
    assert isinstance(seen[-1], RunCompleted)
    made = compare_backends(TeamSpec(tasks=[TaskSpec(name="t", description="Go", agent=AgentSpec(name="a", role="R"))]), ["autogen"],
                            models={"default": ScriptedModel(lambda _: "done")}, repeat=2, progress=True)  # fmt: skip
    assert made.success_rate("autogen") == 1
    assert [record.getMessage() for record in caplog.records].count("progress cannot be shown any more; the run goes on") == 2


def test_outside_a_notebook_it_is_shown_when_asked_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing on stderr by itself; with `progress=True` the terminal's lines."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    run()
    assert capsys.readouterr().err == ""
    run(progress=True)
    assert "one: ann" in ANSI.sub("", capsys.readouterr().err)
    assert "IPython" not in sys.modules or sys.modules["IPython"].get_ipython() is None
