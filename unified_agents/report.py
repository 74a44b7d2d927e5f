"""Runs and comparisons as a page: one HTML file without scripts and without anything from elsewhere, so that it can be kept, sent and published.

Whatever came from a model, a tool or a person is text: it is escaped, and the page's Content-Security-Policy lets nothing run or load.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup, escape

from unified_agents._version import __version__
from unified_agents.differences import Piece, Prompts, request_text, side_by_side
from unified_agents.errors import Problem, SpecError
from unified_agents.events import Event, RunFailed, RunStarted
from unified_agents.files import beside, write_whole
from unified_agents.sheet import LABELS, blocks, errors, metric, number, percent, seconds, where
from unified_agents.timeline import Call, TaskLine, Timeline, timeline

if TYPE_CHECKING:
    from unified_agents.comparison import ComparedRun, Comparison, Difference
    from unified_agents.journal import RunRecord

# What keeps a page below 5 MB, whatever a run holds. What is left out is said where it would stand.
_LONGEST_TEXT = 20_000  # characters of one text
_ALL_TEXTS = 1_500_000  # bytes of all texts together; the longest are cut first
_MESSAGE = 2_000  # characters of a message: what is handed over stands among the outputs too
_CALLS = 2_000
_LINES = 800
_GROUPS = 12
_MESSAGES = 500
_ERRORS = 100
_EVENTS = 2_000
_FRAGMENTS = 300  # a text that differs in more places differs as a whole


def comparison_page(comparison: Comparison) -> str:
    """A comparison as one HTML page: summary, differences, timelines, prompts, outputs, messages and errors."""
    return _rendered("comparison.html.jinja", page=_ComparisonView(comparison))


def run_page(record: RunRecord, events: Iterable[Event]) -> str:
    """A stored run as one HTML page: summary, timeline, outputs, messages, errors and everything that happened."""
    return _rendered("run.html.jinja", page=_StoredView(record, list(events)))


def comparison_table(comparison: Comparison) -> str:
    """A comparison as an HTML table, for a notebook."""
    return _rendered(
        "table.html.jinja", made=comparison, blocks=blocks(comparison), others=comparison.backends[1:], rows=comparison.inputs,
        errors=errors(comparison)[:_ERRORS],
    )  # fmt: skip


def prompts_beside(prompts: Prompts) -> str:
    """The requests of several backends side by side, what differs marked, for a notebook."""
    texts = _Texts()
    return _rendered(
        "prompts.html.jinja", found=_pairs("", {backend: texts.add(request_text(asked)) for backend, asked in prompts.items()})
    )


def check_page(path: Path) -> None:
    """See that a page can be written, before what it tells of is run.

    Raises:
        SpecError: it cannot.
    """
    with _telling(path), beside(path.resolve()):
        pass


def write_page(page: str, path: Path) -> None:
    """Write a page, whole or not at all.

    Raises:
        SpecError: it cannot be written.
    """
    with _telling(path):
        write_whole(path.resolve(), page)


@contextlib.contextmanager
def _telling(path: Path) -> Any:
    try:
        if path.exists() and not path.is_file():
            raise IsADirectoryError(0, "it is a folder, or no plain file")
        yield
    except OSError as error:
        said = (
            "what should be its folder is a file" if isinstance(error, (FileExistsError, NotADirectoryError)) else error.strerror or error
        )
        raise SpecError([Problem("--html", f"{path} cannot be written: {said}")], "the arguments") from None


# Texts


class _Texts:
    """All long texts of a page, so that the longest are cut when together they are too much."""

    def __init__(self) -> None:
        self._sizes: list[int] = []

    def add(self, text: str | None, longest: int = _LONGEST_TEXT) -> Text | None:
        """A text that will be shown."""
        if text is None:
            return None
        shown = text[:longest]
        size = len(str(escape(shown)).encode("utf-8", "replace"))
        self._sizes.append(size)
        return Text(shown, len(text), size, self)

    @cached_property
    def limit(self) -> int:
        """Bytes that a text may take, once all are known."""
        left = _ALL_TEXTS
        for count, size in zip(range(len(self._sizes), 0, -1), sorted(self._sizes), strict=True):
            if size * count > left:
                return left // count
            left -= size
        return _ALL_TEXTS


@dataclass(frozen=True)
class Text:
    """A text as a page shows it: its beginning, and how much is left out."""

    whole: str
    length: int
    size: int
    among: _Texts = field(repr=False, compare=False)

    @property
    def shown(self) -> str:
        """The text, or as much of it as there is room for."""
        return self.whole if self.size <= self.among.limit else self.whole[: len(self.whole) * self.among.limit // self.size]

    @property
    def left_out(self) -> int:
        """Characters that are not shown."""
        return self.length - len(self.shown)


# One run


@dataclass(frozen=True)
class _TaskView:
    """A task of a run: its line in the timeline, and what came of it."""

    name: str
    agent: str
    backend: str
    status: str
    seconds: float | None
    line: TaskLine
    result: Mapping[str, Any]
    output: Text | None
    error: Text | None
    calls: Sequence[tuple[Call, Text | None, Text | None]]
    more_calls: int

    @property
    def described(self) -> str:
        """The line in words."""
        counts = {kind: sum(call.kind == kind for call in self.line.calls) for kind in ("model", "tool", "retry", "wait")}
        names = {
            "model": ("model call", "model calls"),
            "tool": ("tool call", "tool calls"),
            "retry": ("retry", "retries"),
            "wait": ("wait", "waits"),
        }
        said = [f"{count} {names[kind][count != 1]}" for kind, count in counts.items() if count]
        start = f"begins at {seconds(self.line.bars[0].start)} s" if self.line.bars else "never began"
        return ", ".join([start, *said])


class _RunView:
    """One run: its facts, its timeline and its texts."""

    def __init__(self, events: Sequence[Event], result: Mapping[str, Any] | None, texts: _Texts, calls: int) -> None:
        self.timeline: Timeline = timeline(events)
        self.result: Mapping[str, Any] = result or {}
        self.began = next((event.time for event in events if isinstance(event, RunStarted)), None)
        lines = {line.task: line for line in self.timeline.lines}
        known: Mapping[str, Any] = self.result.get("tasks") or {}
        names = list(dict.fromkeys([*known, *lines]))
        each = max(2, calls // max(len(names), 1))
        self.tasks = [_task(name, lines.get(name) or TaskLine(name, (), ()), known.get(name) or {}, texts, each) for name in names]
        sent = self.result.get("messages") or ()
        self.messages = [(message, texts.add(message["content"], _MESSAGE)) for message in sent[: _CALLS // 6]]
        self.more_messages = max(len(sent) - len(self.messages), 0)

    @property
    def usage(self) -> Mapping[str, Any]:
        """The run's usage; empty when it has no result."""
        return self.result.get("usage") or {}


def _task(name: str, line: TaskLine, known: Mapping[str, Any], texts: _Texts, calls: int) -> _TaskView:
    last = line.bars[-1] if line.bars else None
    status = known.get("status") or (last.status if last else "skipped" if line.because_of else "pending")
    output, error = known.get("output"), known.get("error")
    failed = f"{error['type']}: {error['message']}" if error else last.error if last else None
    return _TaskView(
        name, known.get("agent") or (last.agent if last else ""), known.get("backend", ""), status, known.get("duration_s", last.seconds if last else None),
        line, known, texts.add(output), texts.add(failed),
        [(call, texts.add(call.asked, _MESSAGE), _answer(call, output, texts)) for call in line.calls[:calls]], max(len(line.calls) - calls, 0),
    )  # fmt: skip


def _answer(call: Call, output: str | None, texts: _Texts) -> Text | None:
    """What came of a call; the task's output itself stands above its calls."""
    same = call.kind == "model" and call.answer is not None and call.answer.strip() == output
    return texts.add("the output" if same else call.answer, _MESSAGE)


class _StoredView(_RunView):
    """A run of the journal."""

    def __init__(self, record: RunRecord, events: Sequence[Event]) -> None:
        texts = _Texts()
        super().__init__(events, record.result, texts, _CALLS)
        self.record = record
        self.output = texts.add(self.result.get("output"))
        error = self.result.get("error") or _failure(events)
        self.error = texts.add(f"{error['type']}: {error['message']}" if error else None)
        self.events = [(event, _said(event)) for event in events[:_EVENTS]]
        self.more_events = max(len(events) - _EVENTS, 0)


def _failure(events: Sequence[Event]) -> Mapping[str, Any] | None:
    """Why a run without a stored result failed, unless it went on afterwards."""
    last = next((event for event in reversed(events) if event.seq), None)
    return {"type": last.error, "message": last.message} if isinstance(last, RunFailed) else None


def _said(event: Event) -> str:
    """What an event says beyond its time, task and agent."""
    apart = {"seq", "time", "run_id", "type", "task", "agent", "key", "fingerprint", "definition"}
    told = {name: value for name, value in event.to_dict().items() if name not in apart and value not in (None, "", (), [], {})}
    return ", ".join(f"{name}: {_short(value)}" for name, value in told.items())


def _short(value: Any) -> str:
    text = " ".join(str(list(value) if isinstance(value, tuple) else value).split())
    return text if len(text) <= 120 else f"{text[:119]}…"


# A comparison


class _ComparisonView:
    """A comparison in the order in which it is read."""

    def __init__(self, made: Comparison) -> None:
        self.made, self.first = made, next(iter(made.backends), "")
        self.summary = _summary(made)
        self.by_task = [(task, list(rows)) for task, rows in itertools.groupby(self.summary, key=lambda row: row["task"])]
        self.metrics = [name for name in LABELS if _tells(name, [row["differences"][name] for row in self.summary])]
        self.repeated = len(made.runs) > len(made.backends)
        self.totals = made.totals()
        self.texts = _Texts()
        together = [list(runs) for _, runs in itertools.groupby(made.runs, key=lambda run: (run.repeat, run.row))]
        lines = max(len(made.tasks) * len(made.backends), 1)
        shown = together[: max(1, min(_GROUPS, _LINES // lines))]
        each = _CALLS // max(sum(map(len, shown)), 1)
        self.groups = [_Group(runs, self.texts, each, made) for runs in shown]
        self.more_groups = len(together) - len(self.groups)
        self.prompts = [(group, _prompts(made, group.row, self.texts)) for group in self.groups if group.repeat == 0]
        self.repeats = max((run.repeat for run in made.runs), default=-1) + 1
        self.rows = made.inputs
        self.scores = list(dict.fromkeys(name for run in made.runs for name in run.scores))
        found = errors(made)
        self.errors = [(run, count, self.texts.add(said)) for run, count, said in found[:_ERRORS]]
        self.more_errors = len(found) - len(self.errors)
        self.began = next((group.began for group in self.groups if group.began), None)


@dataclass(frozen=True)
class _Cell:
    """A paired difference as a cell: `low`, `mean` and `high` in percent of its column's width, 50 being no difference."""

    difference: Difference
    low: float
    mean: float
    high: float

    @property
    def spread(self) -> bool:
        """Whether there is an interval with a width."""
        return self.difference.low is not None and self.difference.low != self.difference.high


_ALWAYS = ("input_tokens", "output_tokens", "cost_usd", "duration_s")


def _tells(metric: str, cells: Sequence[_Cell | None]) -> bool:
    """Whether a metric's differences are worth a column: they are known, and not all nothing where nobody would look for them."""
    known = [cell.difference for cell in cells if cell is not None]
    return bool(known) and (metric in _ALWAYS or any(one.mean or one.low or one.high for one in known))


def _summary(made: Comparison) -> list[dict[str, Any]]:
    """The rows of the comparison by task, with the paired differences of each."""
    rows = sorted(made.rows(), key=lambda row: (made.tasks.index(row["task"]), made.backends.index(row["backend"])))
    found: dict[tuple[str, str, str], Difference | None] = {
        (row["backend"], row["task"], metric): made.difference(row["backend"], row["task"], metric)
        for row in rows
        for metric in LABELS
        if row["backend"] != made.backends[0]
    }
    widths = {metric: _width([one for (_, _, name), one in found.items() if name == metric and one]) for metric in LABELS}
    for row in rows:
        one = {metric: found.get((row["backend"], row["task"], metric)) for metric in LABELS}
        row["differences"] = {metric: _cell(known, widths[metric]) if known else None for metric, known in one.items()}
    return rows


def _width(differences: Sequence[Difference]) -> float:
    return max((abs(value) for one in differences for value in (one.low, one.mean, one.high) if value is not None), default=0.0) or 1.0


def _cell(one: Difference, width: float) -> _Cell:
    low, mean, high = ((one.mean if value is None else value) / width * 46 + 50 for value in (one.low, one.mean, one.high))
    return _Cell(one, low, mean, high)


@dataclass(frozen=True)
class _Pair:
    """A text of the first backend beside that of another one."""

    backend: str
    other: str
    one: Text
    its: Text

    @cached_property
    def sides(self) -> tuple[Sequence[Piece], Sequence[Piece]]:
        """Both in pieces, marked where they differ."""
        left, right = side_by_side(self.one.shown, self.its.shown)
        if max(len(left), len(right)) > _FRAGMENTS:
            return [Piece(self.one.shown, True)], [Piece(self.its.shown, True)]  # noqa: FBT003
        return left, right

    @property
    def same(self) -> bool:
        """Whether they are the same text."""
        return self.one.whole == self.its.whole and self.one.length == self.its.length


@dataclass(frozen=True)
class _Pairs:
    """What backends have of one thing: that of the first beside each other one's; `only` where a single backend has any."""

    task: str
    pairs: Sequence[_Pair]
    only: tuple[str, Text] | None

    @property
    def same(self) -> bool:
        """Whether all are the same text."""
        return self.only is None and all(pair.same for pair in self.pairs)


def _pairs(task: str, texts: Mapping[str, Text | None]) -> _Pairs | None:
    """Texts by backend in pairs; None where there are none."""
    known = [(backend, text) for backend, text in texts.items() if text is not None]
    if not known:
        return None
    (first, own), *others = known
    return _Pairs(task, [_Pair(first, backend, own, text) for backend, text in others], None if others else (first, own))


def _prompts(made: Comparison, row: int, texts: _Texts) -> list[_Pairs]:
    """The opening requests of each task for one row of inputs."""
    asked = [
        (task, {backend: texts.add(request_text(messages)) for backend, messages in made.prompts(task, row).items()}) for task in made.tasks
    ]
    return [found for task, shown in asked if (found := _pairs(task, shown)) is not None]


class _Group:
    """The runs of one row of inputs in one repeat, a run a backend, on one scale of time."""

    def __init__(self, runs: Sequence[ComparedRun], texts: _Texts, calls: int, made: Comparison) -> None:
        self.row, self.repeat, self.inputs = runs[0].row, runs[0].repeat, runs[0].inputs
        self.runs = [(run, _RunView(run.events, run.result.model_dump(mode="json") if run.result else None, texts, calls)) for run in runs]
        self.seconds = max((view.timeline.seconds for _, view in self.runs), default=0.0)
        self.began = min((view.began for _, view in self.runs if view.began), default=None)
        self._made = made

    def outputs(self, name: str) -> list[tuple[str, _TaskView]]:
        """What came of a task on each backend that has it."""
        return [(run.backend, task) for run, view in self.runs for task in view.tasks if task.name == name]

    def compared(self, name: str) -> _Pairs | None:
        """A task's outputs in pairs, where several backends have one."""
        found = _pairs(name, {backend: task.output for backend, task in self.outputs(name)})
        return found if found is not None and found.pairs else None

    def without(self, name: str) -> list[tuple[str, _TaskView]]:
        """The backends on which a task has no output."""
        return [(backend, task) for backend, task in self.outputs(name) if task.output is None]

    def equal(self, name: str) -> bool:
        """Whether a task has one and the same output on all backends."""
        found = [run.tasks[name].output for run, _ in self.runs if name in run.tasks]
        return len(found) == len(self._made.backends) > 1 and found[0] is not None and len(set(found)) == 1


# Numbers and the template


def ticks(total: float) -> list[float]:
    """Up to eight round numbers on an axis."""
    if total <= 0:
        return [0.0]
    rough = total / 7
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    return [index * step for index in range(int(total / step + 1e-9) + 1)]


def _share(value: float, total: float) -> str:
    """A place on an axis, in percent of its width and within it."""
    return f"{min(max(value / total, 0.0), 1.0) * 100 if total > 0 else 0.0:.3f}%"


def _moment(value: datetime | None) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S}" if value else "–"


def _rendered(name: str, **values: Any) -> str:
    return _environment().get_template(name).render(**values)


@cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("unified_agents"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(number=number, seconds=seconds, metric=metric, percent=percent, share=_share, moment=_moment)
    style = (files("unified_agents") / "templates" / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    made.globals.update(style=Markup(style), style_hash=digest, version=__version__, compared=LABELS, ticks=ticks, where=where)  # noqa: S704  # our own file
    return made
