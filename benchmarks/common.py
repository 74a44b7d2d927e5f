"""What the benchmarks share: the model and the workers, turns, medians, and a table."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table
from typing_extensions import Self

from benchmarks.jobs import Job

ROOT = Path(__file__).parent.parent
T = TypeVar("T")
Teams = Sequence[Sequence[Job]]


@dataclass(frozen=True)
class Sample:
    """One run of one variant: seconds by the clock, CPU seconds of its process, and the most requests in flight at the server."""

    wall: float
    cpu: float
    peak: int = 0


@dataclass(frozen=True)
class Row:
    """A line of a result: what was run, its cells as shown, and its ratio to what the table compares with (None: it is that itself)."""

    case: str
    variant: str
    ratio: float | None
    cells: Mapping[str, str]
    target: float | None = None

    @property
    def verdict(self) -> str:
        """Whether the target was met; empty without one."""
        if self.target is None or self.ratio is None:
            return ""
        return f"{'met' if self.ratio <= self.target else 'missed'} (≤ {self.target:g})"

    def to_dict(self) -> dict[str, Any]:
        """The row as plain data."""
        return {"case": self.case, "variant": self.variant, "ratio": self.ratio, **self.cells, "target": self.verdict}


@dataclass
class Result:
    """A benchmark's table."""

    name: str
    title: str
    ratio: str  # what the ratio is
    repeat: int
    rows: list[Row] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data."""
        return {
            "benchmark": self.name, "title": self.title, "ratio": self.ratio, "repeat": self.repeat, "cpus": os.cpu_count(),
            "load": [round(value, 2) for value in os.getloadavg()], "rows": [row.to_dict() for row in self.rows],
        }  # fmt: skip

    def table(self) -> list[list[str]]:
        """Header and lines."""
        names = list(self.rows[0].cells) if self.rows else []
        lines = [
            [row.case, row.variant, *(row.cells[name] for name in names), "1" if row.ratio is None else f"{row.ratio:.2f}", row.verdict]
            for row in self.rows
        ]
        return [["case", "variant", *names, self.ratio, "target"], *lines]

    def markdown(self) -> str:
        """The table for a document."""
        header, *lines = self.table()
        rows = [header, ["---"] * len(header), *lines]
        return "\n".join([f"**{self.title}** ({self.repeat} repeats)", "", *("| " + " | ".join(row) + " |" for row in rows), ""])

    def show(self) -> None:
        """The table for a terminal."""
        header, *lines = self.table()
        table = Table(title=f"{self.title} ({self.repeat} repeats)", title_justify="left")
        for name in header:
            table.add_column(name, overflow="fold")
        for line in lines:
            table.add_row(*line)
        Console(width=150).print(table)


@dataclass(frozen=True)
class Settings:
    """How much is measured; `quick` is the smallest thing that still takes every path."""

    repeat: int | None = None
    quick: bool = False

    def repeats(self, usual: int) -> int:
        """How often each variant has its turn."""
        return self.repeat or (1 if self.quick else usual)

    def size(self, usual: int, quick: int) -> int:
        """A count or a latency, or its smallest value."""
        return quick if self.quick else usual


class Child:
    """A Python process of ours that answers a line of JSON with a line of JSON."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        command = [sys.executable, "-m", module]
        self._process = subprocess.Popen(  # noqa: S603  # our own module
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=quiet_environment()
        )

    def read(self) -> Any:
        """The next line it says.

        Raises:
            RuntimeError: it ended; with the end of what it wrote to stderr.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise RuntimeError(f"{self._module} ended:\n{self._errors.read().decode()[-3000:]}")
        return json.loads(line)

    def ask(self, order: Mapping[str, Any]) -> Any:
        """What it says to `order`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self.read()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()


def quiet_environment() -> dict[str, str]:
    """The environment of a measured process: nothing of the caller's that changes what frameworks do, and no telemetry."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CREWAI_", "AUTOGEN_", "OPENAI_", "UNIFIED_AGENTS_"))}
    return {**kept, "CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false", "CREWAI_TESTING": "true"}


class Lab:
    """The model and a warm process for each side and framework; a context manager."""

    def __init__(self) -> None:
        self._workers: dict[str, Child] = {}

    def __enter__(self) -> Self:
        self._server = Child("benchmarks.server")
        self._address = f"http://127.0.0.1:{self._server.read()['port']}"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for child in (*self._workers.values(), self._server):
            child.close()

    def order(self, call: str, teams: Teams) -> dict[str, Any]:
        """What to tell a worker."""
        return {"call": call, "teams": [[tuple(job) for job in team] for team in teams], "base_url": f"{self._address}/v1"}

    def stats(self) -> Any:
        """What the server was asked since the last time."""
        with urllib.request.urlopen(f"{self._address}/stats") as answer:  # noqa: S310  # our own server
            return json.load(answer)

    def run(self, call: str, teams: Teams) -> Sample:
        """One run of a variant such as `unified.crewai`, in its own process."""
        worker = self._worker(call)
        self.stats()
        sample = worker.ask(self.order(call, teams))
        stats = self.stats()
        check(stats, teams)
        return Sample(sample["wall"], sample["cpu"], stats["peak"])

    def _worker(self, call: str) -> Child:
        place = f"{call.split('.')[0]} {framework(call)}"
        if place not in self._workers:
            self._workers[place] = Child("benchmarks.worker")
        return self._workers[place]

    def compare(self, calls: Sequence[str], teams: Teams, repeat: int, warm: Teams | None = None) -> dict[str, list[Sample]]:
        """Every variant once to warm up, then in turns."""
        for call in calls:
            self.run(call, warm or teams)
        return in_turns({call: partial(self.run, call, teams) for call in calls}, repeat)


def check(stats: Mapping[str, Any], teams: Teams) -> None:
    """The server was asked exactly once for each task."""
    asked, due = Counter(stats["asked"]), Counter(job.name for team in teams for job in team)
    assert asked == due, f"requests that differ from the tasks: {(asked - due) + (due - asked)}"


def framework(call: str) -> str:
    """The framework of a variant: the start of its function's name."""
    name = call.split(".")[1]
    return next(known for known in ("autogen_classic", "autogen", "crewai") if name.startswith(known))


def in_turns(runs: Mapping[str, Callable[[], T]], repeat: int) -> dict[str, list[T]]:
    """A B C A B C …, so that what else the machine does falls on all."""
    samples: dict[str, list[T]] = {name: [] for name in runs}
    for _ in range(repeat):
        for name, run in runs.items():
            samples[name].append(run())
    return samples


def spread(values: Sequence[float], digits: int = 2, unit: str = "") -> str:
    """Median and range."""
    return f"{statistics.median(values):.{digits}f}{unit} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def paired(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios of runs that stood beside each other."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
