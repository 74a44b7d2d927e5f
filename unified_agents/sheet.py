"""A comparison as a sheet of text, the same in a terminal and in a notebook: a block for whole runs and one for each task, a column for each backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unified_agents.comparison import ComparedRun, Comparison, Difference

LABELS = {"requests": "requests", "input_tokens": "tokens in", "added_tokens": "added tokens", "output_tokens": "tokens out", "cost_usd": "cost USD",
           "duration_s": "seconds", "outside_s": "outside models", "retries": "retries", "tool_calls": "tool calls"}  # fmt: skip
"""What the metrics are called, in the order in which they are shown."""
_IF_ANY = ("cost_usd", "retries", "tool_calls")
"""Metrics that are left out of a block where no backend has any: no price is known, nothing was made again, no tool was called."""
_SECONDS = ("duration_s", "outside_s")


@dataclass(frozen=True)
class Row:
    """A line of a block: a cell for each backend, and a difference for each but the first."""

    label: str
    cells: Sequence[str]
    differences: Sequence[str] = ()


@dataclass(frozen=True)
class Block:
    """What belongs together; `task` is None for whole runs."""

    task: str | None
    rows: Sequence[Row]


def blocks(made: Comparison) -> list[Block]:
    """The sheet. Numbers of several runs are medians, scores and differences means."""
    tasks: list[str | None] = list(made.tasks)
    return [Block(task, [_completed(made, task), *_measured(made, task), *_agreed(made, task)]) for task in [None, *tasks]]


def _completed(made: Comparison, task: str | None) -> Row:
    return Row("completed", [percent(made.success_rate(backend, task)) for backend in made.backends])


def _measured(made: Comparison, task: str | None) -> list[Row]:
    scores = [] if task is not None else [f"score_{name}" for name in made.scores]
    shown = [name for name in LABELS if name not in _IF_ANY or any(any(made.values(one, task, name)) for one in made.backends)]
    rows = [_row(made, task, name) for name in [*shown, *scores]]
    if len(made.runs) > len(made.backends):
        rows.insert(
            shown.index("duration_s") + 1, Row("  from – to", [_spread(made.values(one, task, "duration_s")) for one in made.backends])
        )
    return rows


def _spread(values: Sequence[float]) -> str:
    return f"{seconds(min(values))} – {seconds(max(values))}" if values else "–"


def _row(made: Comparison, task: str | None, name: str) -> Row:
    differences = [made.difference(backend, task, name) for backend in made.backends[1:]]
    label = LABELS.get(name) or name.replace("_", " ", 1)
    return Row(
        label, [metric(made.middle(backend, task, name), name) for backend in made.backends], [difference(one, name) for one in differences]
    )


def difference(one: Difference | None, name: str) -> str:
    """A paired difference with its 95% interval, unless all pairs differ by the same; ✱ where it leaves 0 out."""
    if one is None:
        return ""
    between = (
        ""
        if one.low is None or one.low == one.mean == one.high
        else f" [{metric(one.low, name, sign=True)}, {metric(one.high, name, sign=True)}]"
    )
    return f"{metric(one.mean, name, sign=True)}{between}{' ✱' if one.clear else ''}"


def _agreed(made: Comparison, task: str | None) -> list[Row]:
    """How far outputs are those of the first backend."""
    if task is None or len(made.backends) < 2:
        return []
    found = [made.agreement(backend, task) for backend in made.backends[1:]]
    rows = [Row("same output", ["", *("–" if one is None else f"{one.equal} of {one.pairs}" for one in found)])]
    if any(one is not None and one.equal < one.pairs for one in found):
        rows.append(Row("alike, 0 to 1", ["", *("–" if one is None else number(one.similarity, 2) for one in found)]))
    if any(one is not None and one.structured_equal is not None for one in found):
        shares = [None if one is None or one.structured_equal is None else one.structured_equal for one in found]
        rows.append(Row("same structure", ["", *map(percent, shares)]))
    return rows


def errors(made: Comparison) -> list[tuple[ComparedRun, int, str]]:
    """Why runs failed and scores are missing: each once for a backend, with the first run that says so and how many do."""
    told: dict[tuple[str, str], list[ComparedRun]] = {}
    for run in made.runs:
        for said in [*([run.error] if run.error else []), *run.notes]:
            told.setdefault((run.backend, said), []).append(run)
    return [(runs[0], len(runs), said) for (_, said), runs in told.items()]


def where(run: ComparedRun, count: int, rows: int) -> str:
    """Which runs an error is of: the first one, or how many."""
    if count > 1:
        return f"{run.backend}, {count} runs"
    return f"{run.backend}{f', row {run.row + 1}' if rows > 1 else ''}, repeat {run.repeat + 1}"


def number(value: float | None, places: int = 0) -> str:
    """A number; what is not known is a dash, never 0."""
    return "–" if value is None else f"{value:,.{places}f}"


def percent(value: float | None) -> str:
    """A part of all in percent."""
    return "–" if value is None else f"{value:.0%}"


def seconds(value: float | None) -> str:
    """Seconds with as many places as they need."""
    return "–" if value is None else f"{value:,.{3 if abs(value) < 1 else 2 if abs(value) < 100 else 1}f}"


def metric(value: float | None, name: str, *, sign: bool = False) -> str:
    """A metric as its kind is written."""
    if value is None:
        return "–"
    shown = seconds(value) if name in _SECONDS else number(value, _places(value, name))
    if not shown.strip("-0.,"):
        return "0"
    return f"+{shown}" if sign and value > 0 else shown.replace("-", "−")


def _places(value: float, name: str) -> int:
    if name == "cost_usd":
        return 6
    if name.startswith("score_"):
        return 2
    return 0 if float(value).is_integer() else 1
