"""The benchmarks run and yield what they promise; how fast anything was is never asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import BENCHMARKS
from benchmarks.common import Result, Row, check, paired
from benchmarks.jobs import MARK, chain, critical_path, diamond, levels, uneven

ROOT = Path(__file__).parent.parent
# Those that start the frameworks in many processes take a minute and a half: `make test-long` runs them too.
NAMES = list(BENCHMARKS) if os.environ.get("UNIFIED_AGENTS_LONG") else ["faults", "window", "memory", "journal"]
pytestmark = pytest.mark.xdist_group("benchmarks")  # they are run once, for all of these tests


@pytest.mark.timeout(600)
def test_the_benchmarks_run_and_yield_ratios() -> None:
    """In their smallest configuration, all in one process: ours and hand-written stand beside each other, each with a positive ratio or as the base of its case."""
    command = [sys.executable, "-m", "benchmarks", *NAMES, "--quick", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    results = {result["benchmark"]: result for result in json.loads(done.stdout)}
    assert list(results) == NAMES
    for name in NAMES:
        check_rows(name, results[name]["rows"])


def check_rows(name: str, rows: list[dict[str, Any]]) -> None:
    """What must stand in a benchmark's rows."""
    beside = {"unified"} if name == "journal" else {"unified", "handwritten"}  # the journal is measured beside the same run without it
    assert beside <= {row["variant"].split(".")[0].split(",")[0] for row in rows}
    assert name == "journal" or all(row["ratio"] is None or row["ratio"] > 0 for row in rows)  # a difference of two times may be below 0
    bases = [row["case"] for row in rows if row["ratio"] is None]
    assert bases == [] if name in ("graph", "faults") else bases == list(dict.fromkeys(row["case"] for row in rows))


def test_the_critical_path_is_the_longest_way() -> None:
    """By hand: three steps of the diamond, five units on either long way of the uneven graph."""
    assert critical_path(diamond(200)) == pytest.approx(0.6)
    assert critical_path(uneven(200)) == pytest.approx(1.0)
    assert critical_path(chain(20)) == 0


def test_levels_are_waves() -> None:
    """The uneven graph has three."""
    assert [[job.name for job in level] for level in levels(uneven(1))] == [["t1"], ["t2", "t3"], ["t4", "t5"]]


def test_the_model_reads_a_tasks_mark() -> None:
    """Name and latency, once."""
    assert MARK.findall(uneven(200)[2].prompt) == [("t3", "600")]


def test_a_request_too_many_or_too_few_fails_the_measurement() -> None:
    """The negative control of the count that makes variants comparable."""
    check({"asked": ["t1", "t0"]}, [chain(2)])
    for asked in (["t0"], ["t0", "t1", "t1"], ["t0", "t2"]):
        with pytest.raises(AssertionError, match="differ"):
            check({"asked": asked}, [chain(2)])


def test_ratios_are_of_runs_that_stood_beside_each_other() -> None:
    """A slow moment of the machine that falls on both changes nothing."""
    assert paired([1.0, 10.0, 1.0], [2.0, 20.0, 2.0]) == 0.5


def test_a_table_says_which_targets_were_met() -> None:
    """Met, missed, and nothing where there is no target."""
    rows = [
        Row("case", name, ratio, {"wall s": "1"}, target) for name, ratio, target in (("a", 1.1, 1.15), ("b", 1.2, 1.15), ("c", None, None))
    ]
    lines = Result("graph", "Title", "ratio", 1, rows).markdown().splitlines()
    assert [line.split(" | ")[-1] for line in lines if line.startswith("| case")] == [
        "target |",
        "met (≤ 1.15) |",
        "missed (≤ 1.15) |",
        " |",
    ]
