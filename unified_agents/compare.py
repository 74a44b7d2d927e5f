"""The same team on several backends, side by side: paired runs, and what they took, said and cost.

Each backend runs each row of inputs `repeat` times, in turns, so that what slows the machine or the provider slows all alike; each run begins without memory of
another, with closed circuits and its whole rate limit, and leaves no journal; it ends on its own backend. Frameworks are imported before the first run: that a
process pays once.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from unified_agents import prompts
from unified_agents.chat_models import ChatRequest, ChatResponse, Message
from unified_agents.chat_models.embedded import EmbeddedModel
from unified_agents.comparison import ComparedRun, Comparison, TaskRun, seconds_asked
from unified_agents.engine import called, engine, in_thread
from unified_agents.errors import BackendUnavailableError, Problem, RunError, SpecError, UnsupportedFeatureError
from unified_agents.events import CallRetried, Event, ModelCalled, ToolCalled
from unified_agents.middleware import CallNext, Middleware
from unified_agents.middleware.rate_limit import rested
from unified_agents.model_choice import Models
from unified_agents.plan import Plan
from unified_agents.preparation import Options, Prepared, Shared, Team, input_problems, load, prepare
from unified_agents.progress import Board, Shielded, board_for
from unified_agents.progress.wording import Line
from unified_agents.recording import Recording
from unified_agents.result import RunResult, usage_of
from unified_agents.review import Reviewer
from unified_agents.runtime import execute
from unified_agents.tokens import count_tokens

logger = logging.getLogger("unified_agents")
Scorer = Callable[[Mapping[str, Any], RunResult], Any]
"""`(inputs, result) -> float | bool`; sync or async."""


def compare_backends(
    team: Team, backends: Sequence[str], *, inputs: Any = None, repeat: int = 1, models: Models | None = None, tools: Mapping[str, Any] | None = None,
    reviewer: Reviewer | None = None, middleware: Sequence[Middleware] = (), scorers: Iterable[Scorer] = (), record: str | os.PathLike[str] | None = None,
    replay: str | os.PathLike[str] | None = None, strict: bool = True, on_run: Callable[[ComparedRun], None] | None = None,
    settings: Mapping[str, str] | None = None, allow_imports: Sequence[str] = (), progress: bool | Board | None = None,
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
        progress: as for `run_team`, with a line for each backend; or what shows the lines.

    A backend that is not installed, refuses a field or fails is a row of the comparison, not an exception.

    Raises:
        SpecError: the team, the arguments, a row of inputs or the recording are wrong; nothing was run.
    """
    rows, asked = _rows(inputs), [backends] if isinstance(backends, str) else list(backends)
    options = Options(
        None, None, models or {}, tools or {}, reviewer, middleware, strict, None, replay, settings=settings or {}, allow_imports=allow_imports
    )  # fmt: skip
    how = _How(repeat, list(scorers), record, on_run)
    _check(team, asked, rows, options, how)
    kept = Recording.opened(Path(record)) if record is not None else None
    with board_for(progress, timed=False) as board:  # the backends take turns: no time is one backend's
        told = [*([_Told(board, asked, len(rows) * repeat).tell] if board else []), *([_logged(on_run)] if on_run else [])]
        return engine().run(_compare(team, asked, rows, options, how, kept, told))


@dataclass(frozen=True)
class _How:
    """What was asked for beside the team."""

    repeat: int
    scorers: Sequence[Scorer]
    record: str | os.PathLike[str] | None
    on_run: Callable[[ComparedRun], None] | None


def _name_of(scorer: Scorer) -> str:
    return getattr(scorer, "__name__", type(scorer).__name__)


class _Told:
    """Shows how far each backend is."""

    def __init__(self, board: Shielded, backends: Sequence[str], runs: int) -> None:
        self._board, self._runs = board, runs
        self._ended: dict[str, list[bool]] = {backend: [] for backend in backends}
        for backend in backends:
            board.show(Line("started", backend, f"0 of {runs} runs"))

    def tell(self, run: ComparedRun) -> None:
        """One run more."""
        ended = self._ended[run.backend]
        ended.append(run.status == "completed")
        failed = f", {ended.count(False)} did not complete" if not all(ended) else ""
        if run.error:
            self._board.show(Line("note", run.backend, f"run {len(ended)}: {run.error.splitlines()[0]}"))
        if len(ended) < self._runs:
            self._board.show(Line("working", run.backend, f"{len(ended)} of {self._runs} runs{failed}"))
        else:
            self._board.show(Line("failed" if failed else "done", run.backend, f"{self._runs} of {self._runs} runs{failed}"))


def _logged(on_run: Callable[[ComparedRun], None]) -> Callable[[ComparedRun], None]:
    """Somebody's function: the runs are not lost for it."""

    def tell(run: ComparedRun) -> None:
        try:
            on_run(run)
        except Exception:
            logger.exception("on_run failed; the comparison goes on")

    return tell


async def _compare(
    team: Team, backends: list[str], rows: list[dict[str, Any]], options: Options, how: _How, kept: Recording | None,
    told: Sequence[Callable[[ComparedRun], None]],
) -> Comparison:  # fmt: skip
    for backend in backends:
        await _warm(team, replace(options, backend=backend, inputs=rows[0]))
    runs: list[ComparedRun] = []
    try:
        for turn in range(how.repeat):
            for row, values in enumerate(rows):
                first = (turn * len(rows) + row) % len(backends)
                for backend in [*backends[first:], *backends[:first]]:  # nobody is always first
                    place = ComparedRun(backend, row, turn, dict(values), "failed", None, None, {}, {}, ())
                    runs.append(
                        await _one(team, replace(options, backend=backend, inputs=dict(values)), place, how.scorers, kept, bool(runs))
                    )
                    for tell in told:
                        tell(runs[-1])
    finally:
        if kept is not None:  # what was answered before it was stopped too
            await in_thread(kept.save, "unified-agents-record")
    return put_together(backends, runs)


def put_together(backends: Sequence[str], runs: Iterable[ComparedRun]) -> Comparison:
    """Runs as a comparison, in the order of repeats, rows and backends, whatever order they ended in."""
    ordered = sorted(runs, key=lambda run: (run.repeat, run.row, backends.index(run.backend)))
    name, tasks = _named(ordered)
    return Comparison(name, backends, tasks, ordered)


async def _warm(team: Team, options: Options) -> None:
    """Import the framework, and load models that live in this process, so that no run pays for it. What is wrong shows in the runs."""
    with contextlib.suppress(Exception):
        prepared = await in_thread(lambda: _clean(prepare(team, options), None), "unified-agents-warm")
        build = partial(prepared.backend.adapter.build, prepared.plan, prepared.seam({}, Shared()))
        await in_thread(build, "unified-agents-warm")
        for model in prepared.models.values():
            if isinstance(model, EmbeddedModel):
                await model.load()


def _named(runs: Sequence[ComparedRun]) -> tuple[str, list[str]]:
    """The team's name and its tasks, as the first run that began knows them."""
    known = next((run.result for run in runs if run.result is not None), None)
    return (known.team, list(known.tasks)) if known else ("", [])


async def _one(
    team: Team, options: Options, place: ComparedRun, scorers: Sequence[Scorer], kept: Recording | None, begun: bool
) -> ComparedRun:  # fmt: skip
    """One run, from a clean state. Once the comparison has `begun`, what is wrong with the team is this run's failure: the others are kept."""
    seen, events = _Openings({}), list[Event]()
    try:
        prepared = await in_thread(
            lambda: prepare(team, replace(options, middleware=[*options.middleware, seen])), "unified-agents-prepare"
        )
        prepared = _clean(prepared, kept)
        await rested(model for member in prepared.plan.members.values() for model in member.models)
        result: RunResult | None = await execute(prepared, events.append)
        error = None
    except (BackendUnavailableError, UnsupportedFeatureError) as refused:
        return replace(place, status="refused", error=str(refused))
    except SpecError as wrong:  # somebody changed a file meanwhile
        if not begun:
            raise
        return replace(place, error=f"SpecError: {wrong}")
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
        name = _name_of(scorer)
        scores[name] = None
        try:
            if run.result is not None and run.status == "completed":
                scores[name] = _score(await called(scorer, copy.deepcopy(run.inputs), run.result, thread="unified-agents-scorer"))
        except Exception as error:  # noqa: BLE001  # somebody's code: the runs are not lost for it
            notes.append(f"{name} failed: {type(error).__name__}: {error}")
    return replace(run, scores=scores, notes=notes)


def _score(given: Any) -> float:
    """A score as a number.

    Raises:
        ValueError: it is none that can be compared.
    """
    if not math.isfinite(found := float(given)):
        raise ValueError(f"found {found}, expected a finite number, True or False")
    return found


def _clean(prepared: Prepared, kept: Recording | None) -> Prepared:
    """Without a journal and a backend that would take over, with a memory and circuits of its own, and with its answers kept where that is asked for."""
    team = prepared.plan.team
    memory = team.memory.model_copy(update={"store": ":memory:"}) if team.memory else None
    copied = team.model_copy(update={"journal": None, "memory": memory})
    models = prepared.models
    if kept is not None:
        tape = kept.recorded(prepared.values, afresh=True)
        models = {alias: tape.recorder(model) for alias, model in models.items()}
    return replace(prepared, plan=replace(prepared.plan, team=copied), models=models, fallback=None, breakers={})


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
    return TaskRun(
        task=name, status=task.status, output=task.output, structured=task.structured, duration_s=task.duration_s,
        outside_s=None if task.duration_s is None else max(0.0, task.duration_s - seconds_asked(calls)),
        retries=sum(isinstance(event, CallRetried) and event.task == name for event in events),
        tool_calls=sum(isinstance(event, ToolCalled) and event.task == name and bool(event.key) for event in events),
        usage=usage_of(calls), added_tokens=_added(name, result, opening, plan),
    )  # fmt: skip


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
    if hasattr(inputs, "to_dict") and hasattr(inputs, "columns"):
        inputs = [{name: _known(value) for name, value in row.items()} for row in inputs.to_dict("records")]
    listed = isinstance(inputs, Iterable) and not isinstance(inputs, (str, Mapping))
    rows = list(inputs) if listed else [inputs]
    wrong = [_wrong(f"inputs[{index}]", row) for index, row in enumerate(rows)]
    problems = [problem for problem in wrong if problem] or ([] if rows else [Problem("inputs", "found no rows")])
    if problems:
        raise SpecError(problems, "the arguments")
    return [dict(row) for row in rows]


def _wrong(path: str, row: Any) -> Problem | None:
    if not isinstance(row, Mapping):
        return Problem(path, f"found {type(row).__name__}, expected a mapping, a list of them, or a DataFrame")
    names = [name for name in row if not isinstance(name, str)]
    return Problem(path, f"found {names[0]!r} as an input's name, expected text") if names else None


def _known(value: Any) -> Any:
    """A cell of a DataFrame: what is missing there was not given."""
    import pandas

    return None if pandas.api.types.is_scalar(value) and pandas.isna(value) else value


def _check(team: Team, backends: Sequence[str], rows: Sequence[Mapping[str, Any]], options: Options, how: _How) -> None:
    """See that what was asked for can be done, before the first run.

    Raises:
        SpecError: it cannot.
    """
    found = []
    if not backends or len(set(backends)) != len(backends):
        found.append(Problem("backends", f"found {', '.join(backends) or 'none'}, expected names, each once"))
    if not isinstance(how.repeat, int) or how.repeat < 1:
        found.append(Problem("repeat", f"found {how.repeat!r}, expected a number of at least 1"))
    names = [_name_of(scorer) for scorer in how.scorers]
    found += [
        Problem("scorers", f"two are called {name!r}: give one another name") for name in sorted({n for n in names if names.count(n) > 1})
    ]
    if how.record is not None and options.replay is not None:
        found.append(Problem("record", "stands beside replay; leave one of them out"))
    if how.on_run is not None and not callable(how.on_run):
        found.append(Problem("on_run", f"found {type(how.on_run).__name__}, expected a function that takes a ComparedRun"))
    if found:
        raise SpecError(found, "the arguments")
    loaded = load(team, options)
    if loaded.team is not None and not loaded.problems and len(rows) > 1:  # the only one is checked by its run
        problems = [_of_row(index, problem) for index, row in enumerate(rows) for problem in input_problems(loaded.team, row)]
        if problems:
            raise SpecError(problems, "the arguments")


def _of_row(index: int, problem: Problem) -> Problem:
    """A problem with the row that has it."""
    if problem.path.startswith("inputs"):
        return Problem(f"inputs[{index}]{problem.path.removeprefix('inputs')}", problem.message)
    return Problem(f"inputs[{index}]", f"{problem.path} {problem.message}")
