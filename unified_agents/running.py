"""One run of a prepared team: its events, its outcomes, what is left of it when something fails, its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from unified_agents.adapter import NativeTeam
from unified_agents.chat_models import monotonic
from unified_agents.definition import definition
from unified_agents.engine import in_thread
from unified_agents.errors import (
    BackendError,
    BudgetExceededError,
    JournalError,
    MemoryStoreError,
    RunCancelledError,
    RunError,
    SpecError,
    TaskError,
    failure_text,
)  # fmt: skip
from unified_agents.events import (
    BackendReplaced,
    Dispatcher,
    Event,
    FieldsDropped,
    FieldsUnused,
    JournalUnavailable,
    RunCompleted,
    RunFailed,
    RunResumed,
    RunStarted,
    TaskReassigned,
    TaskSkipped,
    TextStreamed,
    stamped,
)  # fmt: skip
from unified_agents.fidelity import unused_fields
from unified_agents.journal import RunJournal, Writer
from unified_agents.memory.team import TeamMemory
from unified_agents.plan import Plan, Step
from unified_agents.post import Post
from unified_agents.preparation import Prepared, Shared
from unified_agents.prompts import Earlier
from unified_agents.recorded import Recorded
from unified_agents.registry import Backend
from unified_agents.result import ResultBuilder, RunResult
from unified_agents.resume import Before, restored
from unified_agents.tools import Tool
from unified_agents.tracing import run_spans
from unified_agents.walk import Seam, TaskOutcome

T = TypeVar("T")
_Ended = TypeVar("_Ended", RunError, SpecError)

_CANCEL_SECONDS = 1.0


class Run:
    """One run: its events, its outcomes, its end."""

    def __init__(
        self, prepared: Prepared, run_id: str, dispatcher: Dispatcher, before: Before | None, book: Writer | JournalError | None
    ) -> None:
        before, self._entered = before or Before(), before is not None
        self.prepared, self.run_id, self.dispatcher, self.before = prepared, run_id, dispatcher, before
        self.builder = ResultBuilder(prepared.plan, prepared.backend, run_id)
        self.recorded = Recorded(before.events, self.emit)
        self.post = Post(prepared.plan.team.agents, self.emit, self.recorded)
        self.spending = prepared.spending(before.spent(prepared.prices) if before else None)
        self.memory = TeamMemory.of(prepared.plan.team, run_id, self.emit)
        self.journal = RunJournal(book, run_id, self._unwritten, required=self._journal_required) if isinstance(book, Writer) else None
        self.spans = run_spans(run_id, (model for member in prepared.plan.members.values() for model in member.models))
        self.cancelled: RunResult | None = None
        self.forgotten: MemoryStoreError | None = None
        """Why something that had to be remembered was not."""
        self.broken: JournalError | None = book if isinstance(book, JournalError) else None
        """Why the run is not written down."""
        self._seq = max((event.seq for event in before.events), default=0)
        self._ending: Event | None = None
        self._started = monotonic() - before.seconds
        self._begun = False
        self._working: asyncio.Task[Any] | None = None

    def emit(self, event: Event) -> None:
        """Number an event, write it down, and tell everybody who listens."""
        passing = isinstance(event, TextStreamed)
        event = self._stamped(event, passing=passing)
        if self.journal is not None and not passing:
            self.journal.put(event)
        self._say(event)

    def _stamped(self, event: Event, *, passing: bool = False) -> Event:
        self._seq += not passing
        return stamped(event, 0 if passing else self._seq, self.run_id)

    def _say(self, event: Event) -> None:
        self.builder.take(event)
        if self.spans is not None:
            self.spans.take(event)
        self.dispatcher.put(event)

    def _unwritten(self, error: JournalError) -> None:
        """The journal failed: the run ends, or goes on and says that it cannot be resumed."""
        self.broken = error
        if self._ending is not None and self._ending.seq == self._seq:
            self._seq -= 1  # what could not be written is not said either
        if not self._journal_required:
            if self._begun:  # else it is said once the run begins
                self.emit(JournalUnavailable(error=str(error)))
        elif self._working is not None:
            self._working.cancel()

    @property
    def _journal_required(self) -> bool:
        spec = self.prepared.plan.team.journal
        return spec is None or spec.required

    async def report(self, outcome: TaskOutcome) -> None:
        """Take how a task ended."""
        self.builder.end(outcome)
        await self._remember(outcome)

    async def go(self) -> RunResult:
        """The result, once everything is written down.

        Raises:
            JournalError: nothing was asked, since it could not be written down.
            RunError: the run failed; `result` is on it.
        """
        plan, afresh = restored(self.before, self.prepared.plan, self.builder, self.recorded)
        await self._begin_journal()
        self.spending.begin()
        self._say_started(plan)
        self._begun = True
        self.post.restore(self.before.events, self.builder.outcomes, afresh)
        try:
            await self._work(plan)
        except asyncio.CancelledError:
            if self.broken is not None and self._journal_required:
                raise await self._end(self.broken) from self.broken.__cause__
            self.cancelled = (await self._end(RunCancelledError("the run was cancelled"))).result
            raise
        except SpecError as error:  # two tools of one name, known only when the MCP servers run
            raise await self._end(error) from error.__cause__
        except RunError as error:
            await self._sum_up("failed")
            raise await self._end(error) from error.__cause__
        except Exception as error:
            await self._sum_up("failed")
            raise await self._end(TaskError(f"the run failed: {type(error).__name__}: {error}")) from error
        finally:
            if self.memory is not None:
                await self.memory.close()
        return await self._complete()

    async def _begin_journal(self) -> None:
        if self.journal is None:
            return
        try:
            if self._entered:
                await self.journal.resume(self.prepared.plan.team.name, self.prepared.backend.name, definition(self.prepared))
            else:
                await self.journal.begin(self.prepared.plan.team.name, self.prepared.backend.name, definition(self.prepared))
        except JournalError as error:
            if self._journal_required:
                raise
            self.journal, self.broken = None, error

    def _say_started(self, plan: Plan) -> None:
        team, backend = plan.team, self.prepared.backend.name
        resumable = self.journal is not None
        if self.before:
            self.builder.resumed = True
            done, left = tuple(self.builder.outcomes), tuple(step.name for step in plan.steps)
            self.emit(RunResumed(team=team.name, backend=backend, completed=done, tasks=left, resumable=resumable))
            for found in self.recorded.found:
                self.emit(found)
        else:
            self.emit(RunStarted(team=team.name, backend=backend, tasks=tuple(team.tasks), resumable=resumable))
        if self.broken is not None and self.journal is None:
            self.emit(JournalUnavailable(error=str(self.broken)))
        unused = unused_fields(team, {model.model for member in self.prepared.plan.members.values() for model in member.models})
        if unused:
            self.emit(FieldsUnused(paths=tuple(problem.path for problem in unused)))
        if self.prepared.lost:
            self.emit(FieldsDropped(backend=backend, paths=tuple(row.path for row in self.prepared.lost)))

    async def _complete(self) -> RunResult:
        self.post.close()
        broken = self.broken
        if broken is not None and self._journal_required:
            raise await self._end(broken) from broken.__cause__
        result = self.builder.build("completed", self._duration(), None)
        self._ending = self._stamped(RunCompleted(duration_s=result.duration_s, result=result))
        try:
            await self._write(result, self._ending)  # before it is said: a run that cannot be written down has not completed
        except asyncio.CancelledError:  # too late: it is being written
            self._say(self._ending)
            raise
        if self.broken is not None and self._journal_required:
            raise await self._end(self.broken) from self.broken.__cause__
        self._say(self._ending if self.broken is broken else self._stamped(self._ending))
        return result

    async def _write(self, result: RunResult, last: Event | None = None) -> None:
        """Wait until the run's end is in the journal, with its last event."""
        if self.journal is not None:
            await self.journal.end(result.status, result.duration_s, result.model_dump_json(), last)

    async def written(self) -> None:
        """Wait until everything that was emitted is in the journal.

        Raises:
            JournalError: it cannot be, and has to.
        """
        if self.journal is not None:
            await self.journal.flush()
            if self.broken is not None and self._journal_required:
                raise self.broken

    async def _work(self, plan: Plan) -> None:
        """All of the run, with what it leaves in memory.

        Raises:
            RunError: the first that failed.
        """
        if self.memory is not None:
            await self.memory.open()
        await self._run_until_broken(plan)
        failure = next((outcome.error for outcome in self.builder.outcomes.values() if outcome.error), None)
        if failure is None:
            await self._sum_up("completed")
        if failure or self.forgotten:
            raise failure or self.forgotten  # type: ignore[misc]  # one of them is an error

    async def _remember(self, outcome: TaskOutcome) -> None:
        """Every task that ended is an episode. A store that fails then fails the run, but not the framework in the midst of its tasks."""
        if self.memory is None or outcome.status == "cancelled":
            return
        said = failure_text(outcome.agent, outcome.error) if outcome.output is None else outcome.output
        task = self.prepared.plan.step(outcome.task).task
        await self._noted(self.memory.task_ended(task.name, task.description, outcome.agent, outcome.status, said))

    async def _sum_up(self, status: str) -> None:
        if self.memory is not None:
            ended = [f"{name} by {one.agent} {one.status}" for name, one in self.builder.outcomes.items()]
            await self._noted(self.memory.run_ended(status, ended, self._duration()))

    async def _noted(self, work: Awaitable[None]) -> None:
        try:
            await work
        except MemoryStoreError as error:
            self.forgotten = self.forgotten or error

    async def _run_until_broken(self, plan: Plan) -> None:
        """Run the plan; a journal that fails meanwhile cancels it."""
        self._working = asyncio.current_task()
        try:
            await self._run_with_tools(plan)
        finally:
            self._working = None

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
                    self._check_budget(left)
                    other = self.prepared.fallback
                    if other is None or backend is other:
                        raise
                    left = self._left(left)
                    self._say_replaced(backend, other, error, left)
                    backend = other
            over = self.spending.overspent()
            if over is not None and all(outcome.error is None for outcome in self.builder.outcomes.values()):
                raise over
        finally:
            await toolbox.close()

    async def _run_on(self, backend: Backend, plan: Plan, tools: Mapping[str, Sequence[Tool]]) -> None:
        """Run a plan on one backend.

        Raises:
            BackendError: the framework itself failed, or left steps out.
            BudgetExceededError: the run's budget does not cover all of the plan.
        """
        shared = Shared(
            self.emit, self.post, self.memory, self.spending, self.recorded if self.journal or self.before else None, self.written, self.spans,
            traced=True,
        )  # fmt: skip
        seam = self.prepared.seam(tools, shared, plan)
        team = await self._framework(backend, in_thread(partial(backend.adapter.build, plan, seam), "unified-agents-build"))
        self.builder.backend = backend.name
        await self._run_native(backend, team, seam)
        self._check_budget(plan)
        outcomes = self.builder.outcomes
        if not any(step.name in outcomes and outcomes[step.name].error for step in plan.steps):
            missing = [step.name for step in plan.steps if step.name not in outcomes]
            if missing:
                raise BackendError(f"the framework ended without running {', '.join(map(repr, missing))}")

    def _check_budget(self, plan: Plan) -> None:
        """Nobody takes over what the budget did not cover: another agent or backend would spend from the same.

        Raises:
            BudgetExceededError: it was exceeded, and something is left.
        """
        ended = self.builder.outcomes
        if self.spending.error is None or all(step.name in ended and ended[step.name].error is None for step in plan.steps):
            return
        raise next((one.error for one in ended.values() if isinstance(one.error, BudgetExceededError)), self.spending.error)

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
        if name is None or step.task.participants or isinstance(error, (RunCancelledError, MemoryStoreError)):
            return None
        self.emit(TaskReassigned(task=step.name, agent=name, failed=step.agent.name, error=type(error).__name__))
        return step.handed_on(plan.members[name], failure_text(step.agent.name, error))

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

    async def _end(self, error: _Ended) -> _Ended:
        """The error with the run's result on it (a SpecError has no place for one), once everything that will not run is said and written down."""
        status = "cancelled" if isinstance(error, RunCancelledError) else "failed"
        self.post.close()
        for name, cause in self.builder.skipped.items():
            self.emit(TaskSkipped(task=name, because_of=cause))
        self._failed(error, status)
        result = self.builder.build(status, self._duration(), error)
        if isinstance(error, RunError):
            error.result = result
        await self._write(result)
        return error

    def _failed(self, error: Exception, status: str) -> None:
        self.emit(RunFailed(status=status, error=type(error).__name__, message=str(error), duration_s=self._duration()))

    def _duration(self) -> float:
        return monotonic() - self._started
