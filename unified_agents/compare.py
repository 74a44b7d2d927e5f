"""The same team on several backends, side by side: paired runs, and what they took, said and cost.

Each backend runs each row of inputs `repeat` times, in turns, so that what slows the machine or the provider slows all alike; each run begins without memory of
another and leaves no journal. Differences are paired, row by row and repeat by repeat, against the first backend; their 95% intervals are percentile
bootstraps of the mean over 2,000 resamples of the pairs (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).
"""

from __future__ import annotations

import difflib
import os
import random
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from unified_agents import prompts
from unified_agents.chat_models import ChatRequest, ChatResponse, Message
from unified_agents.engine import called, engine, in_thread
from unified_agents.errors import BackendUnavailableError, Problem, RunError, SpecError, UnsupportedFeatureError
from unified_agents.events import CallRetried, Event, ModelCalled, ToolCalled
from unified_agents.middleware import CallNext, Middleware
from unified_agents.model_choice import Models
from unified_agents.plan import Plan
from unified_agents.preparation import Options, Prepared, Team, prepare
from unified_agents.recording import Recording
from unified_agents.result import RunResult, UsageResult, usage_of
from unified_agents.review import Reviewer
from unified_agents.runtime import execute
from unified_agents.tokens import count_tokens

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

Scorer = Callable[[Mapping[str, Any], RunResult], Any]
"""`(inputs, result) -> float | bool`; sync or async."""

_Found = TypeVar("_Found")

RESAMPLES = 2000
METRICS = ("requests", "input_tokens", "output_tokens", "added_tokens", "cost_usd", "duration_s", "outside_s", "retries", "tool_calls")


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
        found = self.usage.model_calls if metric == "requests" else getattr(self.usage if hasattr(self.usage, metric) else self, metric)
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

    def of(self, backend: str) -> list[ComparedRun]:
        """The runs of one backend."""
        return [run for run in self.runs if run.backend == backend]

    def values(self, backend: str, task: str, metric: str) -> list[float]:
        """What is known of a metric, in all runs of a backend."""
        found = (run.tasks[task].value(metric) for run in self.of(backend) if task in run.tasks)
        return [value for value in found if value is not None]

    def success_rate(self, backend: str, task: str) -> float:
        """The part of the runs in which a task was completed."""
        runs = self.of(backend)
        return sum(task in run.tasks and run.tasks[task].status == "completed" for run in runs) / len(runs) if runs else 0.0

    def difference(self, backend: str, task: str, metric: str) -> Difference | None:
        """A backend against the first one; None without pairs."""
        return self._once(("difference", backend, task, metric), lambda: self._difference(backend, task, metric))

    def _difference(self, backend: str, task: str, metric: str) -> Difference | None:
        first = {(run.row, run.repeat): run for run in self.of(self.backends[0])}
        pairs = []
        for run in self.of(backend):
            other = first.get((run.row, run.repeat))
            if other is None or task not in run.tasks or task not in other.tasks:
                continue
            mine, its = run.tasks[task].value(metric), other.tasks[task].value(metric)
            if mine is not None and its is not None:
                pairs.append(mine - its)
        return _difference(pairs)

    def agreement(self, backend: str, task: str) -> Agreement | None:
        """How far a backend's outputs are those of the first one; None without pairs."""
        return self._once(("agreement", backend, task), lambda: self._agreement(backend, task))

    def _agreement(self, backend: str, task: str) -> Agreement | None:
        first = {(run.row, run.repeat): run for run in self.of(self.backends[0])}
        pairs = [
            (run.tasks[task], first[run.row, run.repeat].tasks[task])
            for run in self.of(backend)
            if task in run.tasks and task in first[run.row, run.repeat].tasks
        ]
        return _agreement([(one, other) for one, other in pairs if one.output is not None and other.output is not None])

    @cached_property
    def _found(self) -> dict[tuple[str, ...], Any]:
        return {}

    def _once(self, what: tuple[str, ...], find: Callable[[], _Found]) -> _Found:
        """What was found before: intervals and similarities take their time, and stand in the rows, the table and the page."""
        if what not in self._found:
            self._found[what] = find()
        known: _Found = self._found[what]
        return known

    @cached_property
    def equal(self) -> bool:
        """Whether every output of every backend is that of the first one, and none is missing."""
        found = [self.agreement(backend, task) for backend in self.backends[1:] for task in self.tasks]
        whole = all(one is not None and one.equal == one.pairs for one in found)
        return whole and all(self.success_rate(backend, task) == 1 for backend in self.backends for task in self.tasks)

    def prompts(self, task: str, row: int = 0) -> dict[str, Sequence[Message]]:
        """A task's opening request on each backend: its messages in the first repeat of a row of inputs."""
        return {run.backend: run.prompts[task] for run in self.runs if (run.row, run.repeat) == (row, 0) and task in run.prompts}

    def prompt_diff(self, task: str, row: int = 0) -> str:
        """The opening requests of a task as a unified diff, each backend against the first one."""
        shown = {backend: _as_text(messages).splitlines() for backend, messages in self.prompts(task, row).items()}
        names = list(shown)
        parts = ["\n".join(difflib.unified_diff(shown[names[0]], shown[name], names[0], name, lineterm="", n=2)) for name in names[1:]]
        return "\n\n".join(part or "the same" for part in parts)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each backend and task: medians, and differences to the first backend."""
        return [self._row(backend, task) for backend in self.backends for task in self.tasks]

    def _row(self, backend: str, task: str) -> dict[str, Any]:
        made: dict[str, Any] = {
            "backend": backend,
            "task": task,
            "runs": len(self.of(backend)),
            "success_rate": self.success_rate(backend, task),
        }
        for metric in METRICS:
            values = self.values(backend, task, metric)
            made[metric] = statistics.median(values) if values else None
        durations = self.values(backend, task, "duration_s")
        made["duration_s_min"], made["duration_s_max"] = (min(durations), max(durations)) if durations else (None, None)
        if backend != self.backends[0]:
            agreed, slower = self.agreement(backend, task), self.difference(backend, task, "duration_s")
            made["outputs_equal"] = agreed.equal / agreed.pairs if agreed else None
            made["similarity"] = agreed.similarity if agreed else None
            made["structured_equal"] = agreed.structured_equal if agreed else None
            made["duration_s_diff"] = (slower.mean, slower.low, slower.high) if slower else None
        return made

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
        """As plain JSON data."""
        return {"team": self.team, "backends": list(self.backends), "equal": self.equal, "tasks": self.rows(), "runs": self.run_rows()}


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


_LONGEST = 20_000  # characters that are compared: the time grows with their square


def _similarity(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one[:_LONGEST].split(), other[:_LONGEST].split(), autojunk=False).ratio()


def _difference(pairs: Sequence[float]) -> Difference | None:
    if not pairs:
        return None
    mean = statistics.fmean(pairs)
    if len(pairs) < 2:
        return Difference(mean, None, None, 1)
    dice = random.Random(0)  # noqa: S311  # the same interval for the same runs
    means = sorted(statistics.fmean(dice.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES))
    return Difference(mean, means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1], len(pairs))


def _as_text(messages: Sequence[Message]) -> str:
    return "\n".join(f"[{message['role']}]\n{message['content']}" for message in messages)


def compare_backends(
    team: Team, backends: Sequence[str], *, inputs: Any = None, repeat: int = 1, models: Models | None = None, tools: Mapping[str, Any] | None = None,
    reviewer: Reviewer | None = None, middleware: Sequence[Middleware] = (), scorers: Iterable[Scorer] = (), record: str | os.PathLike[str] | None = None,
    replay: str | os.PathLike[str] | None = None, strict: bool = True, on_run: Callable[[ComparedRun], None] | None = None,
    settings: Mapping[str, str] | None = None, allow_imports: Sequence[str] = (),
) -> Comparison:  # fmt: skip
    """Run a team on several backends and put them side by side; works inside a running event loop too (a notebook).

    Args:
        team: a TeamSpec, or the path of a team file.
        backends: their names; differences are to the first.
        inputs: one mapping, a list of them, or a DataFrame: each row is run on each backend.
        repeat: how often each row is run.
        models: as for `run_team`.
        tools: as for `run_team`.
        reviewer: as for `run_team`.
        middleware: as for `run_team`.
        scorers: functions `(inputs, result) -> float | bool`, called for each run that completed; their names are columns.
        record: a file that the models' answers are kept in, the first that each call got.
        replay: such a file, which answers instead of the models: then all backends work with identical answers.
        strict: as for `run_team`.
        on_run: called as each run ends.
        settings: replaced parts of the file, as `--set` gives them.
        allow_imports: packages that references in the file may name.

    A backend that is not installed, refuses a field or fails is a row of the comparison, not an exception.

    Raises:
        SpecError: the team, the inputs or the recording are wrong.
        ValueError: no backend, one twice, or `repeat` below 1.
    """
    options = Options(
        None,
        None,
        models or {},
        tools or {},
        reviewer,
        middleware,
        strict,
        None,
        replay,
        settings=settings or {},
        allow_imports=allow_imports,
    )
    kept = Recording.opened(Path(record)) if record is not None else None
    return engine().run(_compare(team, list(backends), _rows(inputs), repeat, options, list(scorers), kept, on_run))


async def _compare(
    team: Team, backends: list[str], rows: list[dict[str, Any]], repeat: int, options: Options, scorers: list[Scorer], kept: Recording | None,
    on_run: Callable[[ComparedRun], None] | None,
) -> Comparison:  # fmt: skip
    if not backends or len(set(backends)) != len(backends) or repeat < 1:
        raise ValueError(f"found backends {backends!r} and repeat {repeat}, expected names that differ, and at least 1")
    if kept is not None and options.replay is not None:
        raise SpecError([Problem("record", "stands beside replay; leave one of them out")])
    runs: list[ComparedRun] = []
    for turn in range(repeat):
        for row, values in enumerate(rows):
            first = (turn * len(rows) + row) % len(backends)
            for backend in [*backends[first:], *backends[:first]]:  # nobody is always first
                place = ComparedRun(backend, row, turn, values, "failed", None, None, {}, {}, ())
                runs.append(await _one(team, replace(options, backend=backend, inputs=values), place, scorers, kept))
                if on_run is not None:
                    on_run(runs[-1])
    if kept is not None:
        await in_thread(kept.save, "unified-agents-record")
    name, tasks = _named(runs)
    return Comparison(name, backends, tasks, sorted(runs, key=lambda run: (run.repeat, run.row, backends.index(run.backend))))


def _named(runs: Sequence[ComparedRun]) -> tuple[str, list[str]]:
    """The team's name and its tasks, as the first run that began knows them."""
    known = next((run.result for run in runs if run.result is not None), None)
    return (known.team, list(known.tasks)) if known else ("", [])


async def _one(team: Team, options: Options, place: ComparedRun, scorers: Sequence[Scorer], kept: Recording | None) -> ComparedRun:
    """One run, from a clean state."""
    seen, events = _Openings({}), list[Event]()
    try:
        prepared = await in_thread(
            lambda: prepare(team, replace(options, middleware=[*options.middleware, seen])), "unified-agents-prepare"
        )
        prepared = _clean(prepared, kept)
        result: RunResult | None = await execute(prepared, events.append)
        error = None
    except (BackendUnavailableError, UnsupportedFeatureError) as refused:
        return replace(place, status="refused", error=str(refused))
    except RunError as failed:
        result, error = failed.result, f"{type(failed).__name__}: {failed}"
    if result is None:  # it failed before it began
        return replace(place, error=error)
    tasks = {name: _task_run(name, result, events, seen.messages.get(name), prepared.plan) for name in result.tasks}
    made = replace(place, status=result.status, error=error, result=result, tasks=tasks, prompts=seen.messages, events=events)
    return await _scored(made, scorers)


async def _scored(run: ComparedRun, scorers: Sequence[Scorer]) -> ComparedRun:
    """The run with its scores: none where it did not complete, or the scorer failed."""
    scores: dict[str, float | None] = {}
    notes: list[str] = []
    for scorer in scorers:
        name = getattr(scorer, "__name__", type(scorer).__name__)
        scores[name] = None
        try:
            if run.result is not None and run.status == "completed":
                scores[name] = float(await called(scorer, run.inputs, run.result, thread="unified-agents-scorer"))
        except Exception as error:  # noqa: BLE001  # somebody's code: the runs are not lost for it
            notes.append(f"{name} failed: {type(error).__name__}: {error}")
    return replace(run, scores=scores, notes=notes)


def _clean(prepared: Prepared, kept: Recording | None) -> Prepared:
    """Without a journal, with an empty memory of its own, and with its answers kept where that is asked for."""
    team = prepared.plan.team
    memory = team.memory.model_copy(update={"store": ":memory:"}) if team.memory else None
    copied = team.model_copy(update={"journal": None, "memory": memory})
    models = prepared.models
    if kept is not None:
        tape = kept.tape(prepared.values, afresh=True)
        models = {alias: tape.recorder(model) for alias, model in models.items()}
    return replace(prepared, plan=replace(prepared.plan, team=copied), models=models)


@dataclass(frozen=True)
class _Openings:
    """A layer that keeps the first request of each task."""

    messages: dict[str, Sequence[Message]]

    async def __call__(self, request: ChatRequest, call_next: CallNext) -> ChatResponse:
        self.messages.setdefault(request.task, list(request.messages))
        return await call_next(request)


def _task_run(name: str, result: RunResult, events: Sequence[Event], opening: Sequence[Message] | None, plan: Plan) -> TaskRun:
    task = result.tasks[name]
    calls = [event for event in events if isinstance(event, ModelCalled) and event.task == name]
    asked = _covered([(call.time.timestamp() - call.duration_s, call.time.timestamp()) for call in calls if call.time])
    return TaskRun(
        task=name, status=task.status, output=task.output, structured=task.structured, duration_s=task.duration_s,
        outside_s=None if task.duration_s is None else max(0.0, task.duration_s - asked),
        retries=sum(isinstance(event, CallRetried) and event.task == name for event in events),
        tool_calls=sum(isinstance(event, ToolCalled) and event.task == name and bool(event.key) for event in events),
        usage=usage_of(calls), added_tokens=_added(name, result, opening, plan),
    )  # fmt: skip


def _covered(spans: list[tuple[float, float]]) -> float:
    """Seconds that some spans cover, those that overlap counted once."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def _added(name: str, result: RunResult, opening: Sequence[Message] | None, plan: Plan) -> int | None:
    """Tokens of the opening request beyond those of the spec's own text, which is what `prompts: neutral` would send."""
    step = plan.step(name)
    if opening is None or not step.members[0].models:
        return None
    earlier = [prompts.Earlier(one, result.tasks[one].agent, result.tasks[one].output or "") for one in step.context]
    own = [
        {"role": "system", "content": prompts.system_text(step.agent)},
        {"role": "user", "content": prompts.task_text(step.task, earlier)},
    ]
    model = step.members[0].models[0].model
    return count_tokens(list(opening), model) - count_tokens([message for message in own if message["content"]], model)


def _rows(inputs: Any) -> list[dict[str, Any]]:
    """Rows of inputs from whatever they came as.

    Raises:
        SpecError: they are none.
    """
    if inputs is None:
        return [{}]
    if isinstance(inputs, Mapping):
        return [dict(inputs)]
    if hasattr(inputs, "to_dict") and hasattr(inputs, "columns"):
        inputs = inputs.to_dict("records")
    rows = list(inputs)
    wrong = [index for index, row in enumerate(rows) if not isinstance(row, Mapping)]
    if wrong or not rows:
        found = f"found {type(rows[wrong[0]]).__name__}" if wrong else "found no rows"
        raise SpecError(
            [Problem(f"inputs[{wrong[0]}]" if wrong else "inputs", f"{found}, expected a mapping, a list of them, or a DataFrame")]
        )
    return [dict(row) for row in rows]
