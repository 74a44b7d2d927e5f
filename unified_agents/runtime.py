"""Running a team: compile, run, gather, and raise what must be raised."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from typing import Any, TypeVar

from unified_agents.adapter import NativeTeam
from unified_agents.chat_models import monotonic
from unified_agents.engine import engine, in_thread
from unified_agents.errors import BackendError, Problem, RunCancelledError, RunError, SpecError, failure_text
from unified_agents.events import (
    BackendReplaced,
    Dispatcher,
    Event,
    FieldsDropped,
    FieldsUnused,
    Listener,
    RunCompleted,
    RunFailed,
    RunStarted,
    TaskReassigned,
    TaskSkipped,
)  # fmt: skip
from unified_agents.fidelity import unused_fields
from unified_agents.middleware import Middleware
from unified_agents.middleware.trace import Trace
from unified_agents.model_choice import Models
from unified_agents.plan import Plan, Step
from unified_agents.post import Post
from unified_agents.preparation import Options, Prepared, Team, prepare
from unified_agents.prompts import Earlier
from unified_agents.registry import Backend
from unified_agents.result import ResultBuilder, RunResult
from unified_agents.review import Reviewer
from unified_agents.tools import Tool
from unified_agents.walk import Seam, TaskOutcome

T = TypeVar("T")

_RUN_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_CANCEL_SECONDS = 1.0


def run_team(
    team: Team, inputs: Mapping[str, Any] | None = None, *, backend: str | None = None, models: Models | None = None,
    tools: Mapping[str, Any] | None = None, reviewer: Reviewer | None = None, middleware: Sequence[Middleware] = (), on_event: Listener | None = None,
    run_id: str | None = None, strict: bool = True,
) -> RunResult:  # fmt: skip
    """Run a team and wait for its result; works inside a running event loop too (a notebook).

    Args:
        team: a TeamSpec, or the path of a team file.
        inputs: values for the team's inputs.
        backend: the backend's name; absent: UNIFIED_AGENTS_BACKEND, the team's own, or the first that is installed.
        models: replaces models by name: PROVIDER/NAME, a ModelSpec, its fields, or a ChatModel.
        tools: tools by name, for agents that name them: functions, or tools of CrewAI, AutoGen or LangChain.
        reviewer: is asked for `human_review` and `requires_confirmation`: a callable from Review to Decision, True, False or a comment.
        middleware: extra layers around each model call, outermost first.
        on_event: called with each Event, in order, on a thread of its own.
        run_id: `[A-Za-z0-9._-]{1,128}`; absent: made up.
        strict: False runs without fields that the backend refuses, where that is allowed.

    Raises:
        SpecError: the team or its inputs are wrong; nothing was called.
        BackendUnavailableError: unknown or not installed.
        UnsupportedFeatureError: the backend refuses a field that the team uses.
        RunError: the run failed; `error.result` is the RunResult.
    """
    options = Options(backend, inputs, models or {}, tools or {}, reviewer, middleware, strict)
    return engine().run(_run(team, options, on_event, run_id))


async def run_team_async(
    team: Team, inputs: Mapping[str, Any] | None = None, *, backend: str | None = None, models: Models | None = None,
    tools: Mapping[str, Any] | None = None, reviewer: Reviewer | None = None, middleware: Sequence[Middleware] = (), on_event: Listener | None = None,
    run_id: str | None = None, strict: bool = True,
) -> RunResult:  # fmt: skip
    """As `run_team`, awaited; cancelling it cancels the run."""
    options = Options(backend, inputs, models or {}, tools or {}, reviewer, middleware, strict)
    return await engine().call(_run(team, options, on_event, run_id))


async def _run(team: Team, options: Options, on_event: Listener | None, run_id: str | None) -> RunResult:
    prepared = await in_thread(lambda: prepare(team, options), "unified-agents-prepare")  # reading and importing block
    return await execute(prepared, on_event, run_id)


def new_run_id() -> str:
    """A run id that sorts by time."""
    return f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


async def execute(
    prepared: Prepared,
    on_event: Listener | None = None,
    run_id: str | None = None,
    on_cancelled: Callable[[RunResult], None] = lambda _: None,
) -> RunResult:
    """Run a prepared team once, on the engine's loop; errors as `run_team`. `on_cancelled` gets the result of a run that was cancelled."""
    if on_event is not None and not callable(on_event):
        raise SpecError([Problem("on_event", f"found {type(on_event).__name__}, expected a function that takes an Event")])
    if run_id is not None and not _RUN_ID.fullmatch(run_id):
        raise SpecError([Problem("run_id", f"found {run_id!r}, allowed: 1 to 128 of A-Z a-z 0-9 . _ -")])
    run = _Run(prepared, run_id or new_run_id(), Dispatcher(on_event))
    try:
        return await run.go()
    except asyncio.CancelledError:
        if run.cancelled is not None:
            on_cancelled(run.cancelled)
        raise
    finally:
        await in_thread(run.dispatcher.close, "unified-agents-close")


class _Run:
    """One run: its events, its outcomes, its end."""

    def __init__(self, prepared: Prepared, run_id: str, dispatcher: Dispatcher) -> None:
        self.prepared, self.run_id, self.dispatcher = prepared, run_id, dispatcher
        self.builder = ResultBuilder(prepared.plan, prepared.backend, run_id)
        self.post = Post(prepared.plan.team.agents, self.emit)
        self.started = monotonic()
        self.cancelled: RunResult | None = None

    def emit(self, event: Event) -> None:
        self.builder.take(event)
        self.dispatcher.put(event)

    async def report(self, outcome: TaskOutcome) -> None:
        self.builder.end(outcome)

    async def go(self) -> RunResult:
        plan = self.prepared.plan
        unused = unused_fields(plan.team)
        self.emit(RunStarted(run_id=self.run_id, team=plan.team.name, backend=self.prepared.backend.name, tasks=tuple(plan.team.tasks)))
        if unused:
            self.emit(FieldsUnused(paths=tuple(problem.path for problem in unused)))
        if self.prepared.lost:
            self.emit(FieldsDropped(backend=self.prepared.backend.name, paths=tuple(row.path for row in self.prepared.lost)))
        try:
            await self._run_with_tools(plan)
        except asyncio.CancelledError:
            self.cancelled = self._end(RunCancelledError("the run was cancelled")).result
            raise
        except SpecError as error:  # two tools of one name, known only when the MCP servers run
            self._failed(error, "failed")
            raise
        except RunError as error:
            raise self._end(error) from error.__cause__
        failure = next((outcome.error for outcome in self.builder.outcomes.values() if outcome.error), None)
        if failure is not None:
            raise self._end(failure)
        self.post.close()
        self.emit(RunCompleted(run_id=self.run_id, duration_s=self._duration()))
        return self.builder.build("completed", self._duration(), None)

    async def _run_with_tools(self, plan: Plan) -> None:
        """Run the plan, then what is left of it: with fallback agents, on the fallback backend, until nothing is or nobody is left to try."""
        toolbox, backend = self.prepared.toolbox, self.prepared.backend
        try:
            tools = await toolbox.open()
            left = plan
            while left.steps:
                try:
                    await self._run_on(backend, left, tools)
                    left = self._left(left)
                except BackendError as error:
                    other = self.prepared.fallback
                    if other is None or backend is other:
                        raise
                    left = self._left(left)
                    self._say_replaced(backend, other, error, left)
                    backend = other
        finally:
            await toolbox.close()

    async def _run_on(self, backend: Backend, plan: Plan, tools: Mapping[str, Sequence[Tool]]) -> None:
        """Run a plan on one backend.

        Raises:
            BackendError: the framework itself failed, or left steps out.
        """
        seam = self.prepared.seam(tools, [Trace(self.emit)], self.emit, plan, self.post)
        team = await self._framework(backend, in_thread(partial(backend.adapter.build, plan, seam), "unified-agents-build"))
        self.builder.backend = backend
        await self._run_native(backend, team, seam)
        outcomes = self.builder.outcomes
        if not any(step.name in outcomes and outcomes[step.name].error for step in plan.steps):
            missing = [step.name for step in plan.steps if step.name not in outcomes]
            if missing:
                raise BackendError(f"the framework ended without running {', '.join(map(repr, missing))}")

    def _say_replaced(self, backend: Backend, other: Backend, error: BackendError, left: Plan) -> None:
        said, names = next(iter(str(error).splitlines()), ""), tuple(step.name for step in left.steps)
        self.emit(BackendReplaced(backend=backend.name, replacement=other.name, error=said, tasks=names))

    def _left(self, plan: Plan) -> Plan:
        """The remainder of a plan after a run: failed tasks with their agents' fallbacks, and nothing that hangs on one without. Empty when all is done."""
        outcomes = self.builder.outcomes
        failed = [step for step in plan.steps if step.name in outcomes and outcomes[step.name].error is not None]
        changed = {step.name: made for step in failed if (made := self._with_fallback(plan, step)) is not None}
        for name in changed:
            self.builder.reassign(name)
        completed = {name: Earlier(name, one.speaker or one.agent, one.output) for name, one in outcomes.items() if one.error is None}
        return plan.remainder(completed, changed, [step.name for step in failed if step.name not in changed])

    def _with_fallback(self, plan: Plan, step: Step) -> Step | None:
        error, name = self.builder.outcomes[step.name].error, step.agent.fallback
        if name is None or step.task.participants or isinstance(error, RunCancelledError):
            return None
        self.emit(TaskReassigned(task=step.name, agent=name, failed=step.agent.name, error=type(error).__name__))
        failures = (*step.failures, failure_text(step.agent.name, error))
        delegate = None if name == step.delegate else step.delegate  # who takes a task over does not hand it to itself
        return replace(step, members=(plan.members[name],), attempt=step.attempt + 1, failures=failures, delegate=delegate)

    async def _run_native(self, backend: Backend, team: NativeTeam, seam: Seam) -> None:
        """Run the framework's team; when this is cancelled, end it and wait a moment for its tasks to be reported."""
        running = asyncio.ensure_future(self._framework(backend, team.run(self.report)))
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            seam.cancel()
            team.cancel()
            await asyncio.wait([running], timeout=_CANCEL_SECONDS)
            raise
        finally:
            seam.cancel()  # whatever a framework that failed left under way must not go on asking

    async def _framework(self, backend: Backend, work: Awaitable[T]) -> T:
        """What a framework does, with any error of its own as a BackendError."""
        try:
            return await work
        except RunError:
            raise
        except Exception as error:
            said = next(iter(str(error).splitlines()), "")
            raise BackendError(f"{backend.name} failed: {type(error).__name__}: {said}") from error

    def _end(self, error: RunError) -> RunError:
        """The error with the run's result on it, once everything that will not run is said."""
        status = "cancelled" if isinstance(error, RunCancelledError) else "failed"
        self.post.close()
        failed = [name for name, outcome in self.builder.outcomes.items() if outcome.error is not None]
        for name, cause in self.prepared.plan.downstream(failed).items():
            self.emit(TaskSkipped(task=name, because_of=cause))
        self._failed(error, status)
        error.result = self.builder.build(status, self._duration(), error)
        return error

    def _failed(self, error: Exception, status: str) -> None:
        self.emit(RunFailed(run_id=self.run_id, status=status, error=type(error).__name__, message=str(error), duration_s=self._duration()))

    def _duration(self) -> float:
        return monotonic() - self.started
