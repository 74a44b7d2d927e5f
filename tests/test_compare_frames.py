"""A comparison as DataFrames, and rows of inputs from one."""

from __future__ import annotations

import json

import pandas
import pytest

from unified_agents import SpecError, compare_backends
from unified_agents.testing import ScriptedServer
from unified_agents.testing.conformance.test_compare import script, team


def test_tables_for_pandas(server: ScriptedServer) -> None:
    """A row for each backend and task, and one for each run with the columns that evaluation tools take."""
    script(server, 2)
    made = compare_backends(team(server.model()), ["crewai", "autogen"], scorers=[lambda _inputs, result: len(result.output or "")])
    tasks, runs = made.to_pandas(), made.to_pandas("runs")
    assert list(zip(tasks["backend"], tasks["task"], strict=True)) == [(name, task) for name in made.backends for task in ("one", "two")]
    assert list(tasks["requests"]) == [2, 3, 2, 3]
    wanted = {
        "backend",
        "repeat",
        "inputs",
        "outputs",
        "status",
        "input_tokens",
        "output_tokens",
        "cost_usd",
        "duration_s",
        "score_<lambda>",
    }
    assert wanted <= set(runs.columns)


def test_rows_from_a_frame(server: ScriptedServer) -> None:
    """A DataFrame's rows are inputs; what is no mapping is refused by its place."""
    server.reply("HANDED", "helped", forever=True).reply("TWO", "second", forever=True).reply("ONE", "first", forever=True)
    made = compare_backends(team(server.model()), ["autogen"], inputs=pandas.DataFrame({"x": ["p", "q"]}))
    assert [run.inputs for run in made.runs] == [{"x": "p"}, {"x": "q"}]
    assert (len(server.asked("ONE p")), len(server.asked("ONE q"))) == (1, 1)
    with pytest.raises(SpecError, match=r"inputs\[1\]: found str"):
        compare_backends(team(server.model()), ["autogen"], inputs=[{"x": "p"}, "q"])


def test_cells_of_a_frame_read_as_they_are(server: ScriptedServer) -> None:
    """A number of numpy's as a number, a time as text; what is missing was not given. The document is JSON whatever they are."""
    server.reply("HANDED", "helped", forever=True).reply("TWO", "second", forever=True).reply("ONE", "first", forever=True)
    frame = pandas.DataFrame({"x": pandas.Series([4, pandas.Timestamp("2026-01-01"), float("nan")], dtype=object)})
    frame.loc[0, "x"] = pandas.Series([4]).iloc[0]
    made = compare_backends(team(server.model()), ["autogen"], inputs=frame)
    said = [
        line for request in server.requests for line in str(request.body["messages"][-1]["content"]).splitlines() if line.startswith("ONE")
    ]
    assert {"ONE 4", "ONE 2026-01-01 00:00:00", "ONE a"} == set(said)
    json.dumps(made.to_dict(), allow_nan=False)
