"""What came of a comparison: the same team's runs on several backends, side by side, and how they differ.

Differences are paired, row by row and repeat by repeat, against the first backend; their 95% intervals are percentile bootstraps of the mean over 2,000 resamples
of the pairs (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from rapidfuzz.distance import Indel

from unified_agents.chat_models import Message
from unified_agents.differences import Prompts
from unified_agents.events import Event, ModelCalled
from unified_agents.result import RunResult, UsageResult

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

_Found = TypeVar("_Found")

RESAMPLES = 2000
METRICS = ("requests", "input_tokens", "output_tokens", "added_tokens", "cost_usd", "duration_s", "outside_s", "retries", "tool_calls")
_USAGE = {"requests": "model_calls"}


def seconds_asked(calls: Iterable[ModelCalled]) -> float:
    """Seconds in which a model was being asked, those in which several were counted once."""
    spans = [(call.time.timestamp() - call.duration_s, call.time.timestamp()) for call in calls if call.time]
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


@dataclass(frozen=True)
class TaskRun:
    """One task in one run; None is not known.

    `added_tokens`: what the framework's wording adds to the spec's own text in the opening request. `outside_s`: time in which no model was being asked.
    """

    task: str
    status: str
    output: str | None
    structured: Any
    duration_s: float | None
    outside_s: float | None
    retries: int
    tool_calls: int
    usage: UsageResult
    added_tokens: int | None = None

    def value(self, metric: str) -> float | None:
        """One of METRICS."""
        name = _USAGE.get(metric, metric)
        found = getattr(self.usage if hasattr(self.usage, name) else self, name)
        return None if found is None else float(found)


@dataclass(frozen=True)
class ComparedRun:
    """One run. `error` is why it failed, or why the backend could not begin; then there is no result."""

    backend: str
    row: int
    repeat: int
    inputs: Mapping[str, Any]
    status: str
    error: str | None
    result: RunResult | None
    tasks: Mapping[str, TaskRun]
    prompts: Mapping[str, Sequence[Message]] = field(repr=False)
    events: Sequence[Event] = field(repr=False)
    scores: Mapping[str, float | None] = field(default_factory=dict)
    notes: Sequence[str] = ()
    """Why a score is missing."""

    def value(self, metric: str, task: str | None = None) -> float | None:
        """One of METRICS or `score_NAME`, of one task or of the whole run; None is not known."""
        if metric.startswith("score_"):
            return None if task is not None else self.scores.get(metric.removeprefix("score_"))
        if task is not None:
            return self.tasks[task].value(metric) if task in self.tasks else None
        if self.result is None:
            return None
        if metric in ("retries", "tool_calls", "added_tokens"):
            return _sum(one.value(metric) for one in self.tasks.values())
        if metric == "outside_s":
            return max(0.0, self.result.duration_s - seconds_asked(event for event in self.events if isinstance(event, ModelCalled)))
        found = self.result.duration_s if metric == "duration_s" else getattr(self.result.usage, _USAGE.get(metric, metric))
        return None if found is None else float(found)


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences to the first backend, with its 95% interval; `pairs` is how many there were. Without a second pair there is no interval."""

    mean: float
    low: float | None
    high: float | None
    pairs: int

    @property
    def clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclass(frozen=True)
class Comparison:
    """What came of a comparison."""

    team: str
    backends: Sequence[str]
    tasks: Sequence[str]
    runs: Sequence[ComparedRun] = field(repr=False)

    @property
    def inputs(self) -> int:
        """How many rows of inputs there are."""
        return max((run.row for run in self.runs), default=-1) + 1

    def of(self, backend: str) -> list[ComparedRun]:
        """The runs of one backend."""
        return [run for run in self.runs if run.backend == backend]

    @cached_property
    def scores(self) -> list[str]:
        """The names of the scorers."""
        return list(dict.fromkeys(name for run in self.runs for name in run.scores))

    def _check(self, backend: str | None = None, task: str | None = None, metric: str | None = None) -> None:
        """A name that is misspelt must not look like something that is not known."""
        known = {"backend": self.backends, "task": self.tasks, "metric": [*METRICS, *(f"score_{name}" for name in self.scores)]}
        for kind, name in (("backend", backend), ("task", task), ("metric", metric)):
            if name is not None and name not in known[kind]:
                raise ValueError(f"found {name!r}, expected a {kind} of the comparison: {', '.join(known[kind])}")

    def values(self, backend: str, task: str | None, metric: str) -> list[float]:
        """What is known of a metric (METRICS, `score_NAME`) in all runs of a backend: of one task, or with None of the whole run.

        Raises:
            ValueError: there is no such backend, task or metric.
        """
        self._check(backend, task, metric)
        found = (run.value(metric, task) for run in self.of(backend))
        return [value for value in found if value is not None]

    def middle(self, backend: str, task: str | None, metric: str) -> float | None:
        """The median of what is known of a metric, of a score the mean; None when nothing is."""
        values = self.values(backend, task, metric)
        if not values:
            return None
        return statistics.fmean(values) if metric.startswith("score_") else statistics.median(values)

    def success_rate(self, backend: str, task: str | None = None) -> float | None:
        """The part of the runs in which a task, or everything, was completed; None where none was begun, the comparison being stopped before.

        Raises:
            ValueError: there is no such backend or task.
        """
        self._check(backend, task)
        runs = self.of(backend)
        statuses = [run.status if task is None else run.tasks[task].status if task in run.tasks else None for run in runs]
        return statuses.count("completed") / len(runs) if runs else None

    def difference(self, backend: str, task: str | None, metric: str) -> Difference | None:
        """A backend against the first one, in one task or with None in the whole run; None without pairs.

        Raises:
            ValueError: there is no such backend, task or metric.
        """
        self._check(backend, task, metric)
        return self._once(("difference", backend, task, metric), lambda: self._difference(backend, task, metric))

    def _difference(self, backend: str, task: str | None, metric: str) -> Difference | None:
        first = {(run.row, run.repeat): run.value(metric, task) for run in self.of(self.backends[0])}
        both = ((run.value(metric, task), first.get((run.row, run.repeat))) for run in self.of(backend))
        return _difference([mine - its for mine, its in both if mine is not None and its is not None])

    def agreement(self, backend: str, task: str) -> Agreement | None:
        """How far a backend's outputs are those of the first one; None without pairs.

        Raises:
            ValueError: there is no such backend or task.
        """
        self._check(backend, task)
        return self._once(("agreement", backend, task), lambda: self._agreement(backend, task))

    def _agreement(self, backend: str, task: str) -> Agreement | None:
        first = {(run.row, run.repeat): run for run in self.of(self.backends[0])}
        pairs = [
            (run.tasks[task], first[run.row, run.repeat].tasks[task])
            for run in self.of(backend)
            if task in run.tasks and (run.row, run.repeat) in first and task in first[run.row, run.repeat].tasks
        ]
        return _agreement([(one, other) for one, other in pairs if one.output is not None and other.output is not None])

    @cached_property
    def _found(self) -> dict[tuple[str | None, ...], Any]:
        return {}

    def _once(self, what: tuple[str | None, ...], find: Callable[[], _Found]) -> _Found:
        """What was found before: intervals and similarities take their time, and stand in the rows, the table and the page."""
        if what not in self._found:
            self._found[what] = find()
        known: _Found = self._found[what]
        return known

    @cached_property
    def equal(self) -> bool:
        """Whether every output of every backend is that of the first one, and none is missing."""
        return (
            bool(self.tasks)
            and not self._differ
            and all(self.success_rate(backend, task) == 1 for backend in self.backends for task in self.tasks)
        )

    @cached_property
    def _differ(self) -> bool:
        found = [self.agreement(backend, task) for backend in self.backends[1:] for task in self.tasks]
        return any(one is not None and one.equal < one.pairs for one in found)

    @property
    def verdict(self) -> str:
        """What is to be said of the outputs; nothing where there is one backend."""
        if len(self.backends) < 2:
            return ""
        if self._differ:
            return "The outputs differ."
        return "All outputs are equal." if self.equal else "Some outputs are missing."

    def prompts(self, task: str, row: int = 0) -> Prompts:
        """A task's opening request on each backend, of the first repeat of a row of inputs. A notebook shows them side by side with what differs marked.

        Raises:
            ValueError: there is no such task or row.
        """
        self._check(task=task)
        if not 0 <= row < max(self.inputs, 1):
            raise ValueError(f"found row {row}, expected one of the {self.inputs} rows of inputs, counted from 0")
        return Prompts({run.backend: run.prompts[task] for run in self.runs if (run.row, run.repeat) == (row, 0) and task in run.prompts})

    def prompt_diff(self, task: str, row: int = 0) -> str:
        """The opening requests of a task as a unified diff, each backend against the first one."""
        return str(self.prompts(task, row))

    def rows(self) -> list[dict[str, Any]]:
        """A row for each backend and task: medians, and for all but the first backend `METRIC_diff`: mean, low and high of the differences to it."""
        return [self._row(backend, task) for backend in self.backends for task in self.tasks]

    def _row(self, backend: str, task: str) -> dict[str, Any]:
        made: dict[str, Any] = {
            "backend": backend,
            "task": task,
            "runs": len(self.of(backend)),
            "success_rate": self.success_rate(backend, task),
        }
        made.update({metric: self.middle(backend, task, metric) for metric in METRICS})
        durations = self.values(backend, task, "duration_s")
        made["duration_s_min"], made["duration_s_max"] = (min(durations), max(durations)) if durations else (None, None)
        if backend != self.backends[0]:
            agreed = self.agreement(backend, task)
            made["outputs_equal"] = agreed.equal / agreed.pairs if agreed else None
            made["similarity"] = agreed.similarity if agreed else None
            made["structured_equal"] = agreed.structured_equal if agreed else None
        return {**made, **self._differences(backend, task, METRICS)}

    def _differences(
        self, backend: str, task: str | None, metrics: Sequence[str]
    ) -> dict[str, tuple[float, float | None, float | None] | None]:
        if backend == self.backends[0]:
            return {}
        found = {metric: self.difference(backend, task, metric) for metric in metrics}
        return {f"{metric}_diff": (one.mean, one.low, one.high) if one else None for metric, one in found.items()}

    def totals(self) -> list[dict[str, Any]]:
        """A row for each backend: medians over its whole runs, means of the scores, and differences as in `rows`."""
        return [self._total(backend) for backend in self.backends]

    def _total(self, backend: str) -> dict[str, Any]:
        runs = self.of(backend)
        versions = (run.result.framework_version for run in runs if run.result is not None)
        took = self.values(backend, None, "duration_s")
        metrics = [*METRICS, *(f"score_{name}" for name in self.scores)]
        return {
            "backend": backend, "framework_version": next((version for version in versions if version), None), "runs": len(runs),
            "completed": sum(run.status == "completed" for run in runs), "refused": sum(run.status == "refused" for run in runs),
            "success_rate": self.success_rate(backend), **{metric: self.middle(backend, None, metric) for metric in metrics},
            "duration_s_min": min(took, default=None), "duration_s_max": max(took, default=None), **self._differences(backend, None, metrics),
        }  # fmt: skip

    def run_rows(self) -> list[dict[str, Any]]:
        """A row for each run, with the columns that evaluation tools take."""
        return [
            {
                "backend": run.backend, "repeat": run.repeat, "inputs": dict(run.inputs), "outputs": run.result.output if run.result else None,
                "status": run.status, "error": run.error, "input_tokens": run.result.usage.input_tokens if run.result else None,
                "output_tokens": run.result.usage.output_tokens if run.result else None,
                "cost_usd": run.result.usage.cost_usd if run.result else None, "duration_s": run.result.duration_s if run.result else None,
                **{f"score_{name}": score for name, score in run.scores.items()}, "notes": "; ".join(run.notes),
            }
            for run in self.runs
        ]  # fmt: skip

    def to_pandas(self, kind: str = "tasks") -> pandas.DataFrame:
        """As a DataFrame: `tasks`, a row for each backend and task; or `runs`, a row for each run.

        Raises:
            ValueError: another kind.
            ModuleNotFoundError: pandas is not installed (the extra `notebook`).
        """
        import pandas

        if kind not in ("tasks", "runs"):
            raise ValueError(f"found {kind!r}, expected 'tasks' or 'runs'")
        return pandas.DataFrame(self.rows() if kind == "tasks" else self.run_rows())

    def plot(self) -> Figure:
        """As a matplotlib figure: a timeline of each backend, tokens and seconds of each task.

        Raises:
            ModuleNotFoundError: matplotlib is not installed (the extra `notebook`).
        """
        from unified_agents.figure import comparison_figure

        return comparison_figure(self)

    def _repr_html_(self) -> str:
        """As a notebook shows it."""
        from unified_agents.report import comparison_table

        return comparison_table(self)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data; a number that JSON does not have is None, any other object its text."""
        made = {
            "team": self.team,
            "backends": list(self.backends),
            "equal": self.equal,
            "verdict": self.verdict,
            "totals": self.totals(),
            "tasks": self.rows(),
            "runs": self.run_rows(),
        }
        plain: dict[str, Any] = _plain(made)
        return plain


@dataclass(frozen=True)
class Agreement:
    """Outputs of two backends in pairs: how many are equal, how alike they are on average (0 to 1), how many structured ones are equal (None: none)."""

    pairs: int
    equal: int
    similarity: float
    structured_equal: float | None


def _agreement(pairs: Sequence[tuple[TaskRun, TaskRun]]) -> Agreement | None:
    if not pairs:
        return None
    alike = [1.0 if one.output == other.output else _similarity(one.output or "", other.output or "") for one, other in pairs]
    structured = [one.structured == other.structured for one, other in pairs if one.structured is not None or other.structured is not None]
    share = sum(structured) / len(structured) if structured else None
    return Agreement(len(pairs), sum(one.output == other.output for one, other in pairs), statistics.fmean(alike), share)


def _similarity(one: str, other: str) -> float:
    """Twice the longest common subsequence of words, of all words."""
    return float(Indel.normalized_similarity(one.split(), other.split()))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if isinstance(value, (str, int, type(None))) else str(value)


def _sum(values: Iterable[float | None]) -> float | None:
    """A sum with an unknown part is unknown."""
    known = list(values)
    return None if None in known else float(sum(value for value in known if value is not None))


def _difference(pairs: Sequence[float]) -> Difference | None:
    if not pairs:
        return None
    mean = statistics.fmean(pairs)
    if len(pairs) < 2:
        return Difference(mean, None, None, 1)
    dice = random.Random(0)  # noqa: S311  # the same interval for the same runs
    means = sorted(statistics.fmean(dice.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES))
    return Difference(mean, means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1], len(pairs))
