"""A plan as a real `crewai.Crew` that starts each task as soon as what it waits for has completed."""

from __future__ import annotations

import concurrent.futures
import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

# isort: off
from unified_agents_crewai import quiet  # before anything of the framework

# isort: on
from crewai import Agent, Crew, Process, Task
from crewai.crews.crew_output import CrewOutput
from crewai.tasks.task_output import TaskOutput
from pydantic import PrivateAttr

from unified_agents.adapter import Conversation, Member, NativeTeam, Plan, Report, Seam, Step, TaskOutcome, Walk
from unified_agents.engine import engine, in_thread
from unified_agents.prompts import traits_text
from unified_agents.spec import AgentSpec
from unified_agents_crewai.model import ConversationLLM, guard
from unified_agents_crewai.tools import ForwardTool, native_tools

_UNTIL_ASKED = 0.02  # seconds: the first request is on its way by then, and does not wait for what later tasks need
Done = Callable[[TaskOutcome], None]


class CrewTeam(NativeTeam):
    """The crew and how the runtime runs it."""

    native: PlanCrew

    def __init__(self, plan: Plan, seam: Seam) -> None:
        self.native = build_crew(plan, seam)

    async def run(self, report: Report) -> None:
        """Kick the crew off on a thread of its own; its tasks have one each."""
        self.native.watch(lambda outcome: engine().run(report(outcome)))
        await in_thread(self.native.kickoff, "unified-agents-crew")

    def cancel(self) -> None:
        """Nothing to do: the seam ends the model calls that the crew's threads wait for."""


class _NoTaskOutputs:
    """In place of CrewAI's SQLite log of task outputs: it costs more than the rest of a task and is read only by `crewai replay`."""

    def reset(self) -> None:
        pass

    def update(self, task_index: int, log: dict[str, Any]) -> None:
        pass

    def load(self) -> list[dict[str, Any]]:
        return []


class PlanTask(Task):
    """A task worded as CrewAI words it, without the sentence about expected output where the spec expects none."""

    def prompt(self) -> str:
        """The task as it enters the prompt."""
        return str(super().prompt()) if self.expected_output else self.description


class PlanAgent(Agent):
    """The agent of one task. Its executor takes about 10 ms to make: not all of them before the first task, but while models answer."""

    _making: Any = PrivateAttr(default_factory=threading.Lock)

    def create_agent_executor(self, tools: list[Any] | None = None, task: Task | None = None) -> None:
        """Called for every agent at kickoff, where nothing is made yet, and for each task as it starts."""
        if task is not None:
            with self._making:
                super().create_agent_executor(tools=tools, task=task)

    def make_ready(self) -> None:
        """Make the executor ahead of its task."""
        with self._making:
            if self.agent_executor is None:
                super().create_agent_executor()


class PlanCrew(Crew):
    """A Crew that walks a plan: eager by dependency, on kickoff and akickoff, every task with an agent of its own."""

    _seam: Seam = PrivateAttr()
    _staff: dict[tuple[str, str], PlanAgent] = PrivateAttr(default_factory=dict)
    _done: Done | None = PrivateAttr(default=None)
    _ahead: Any = PrivateAttr(default_factory=threading.Event)
    _running: Any = PrivateAttr(default_factory=threading.Lock)
    _task_output_handler: Any = PrivateAttr(default_factory=_NoTaskOutputs)  # private in CrewAI; a test pins it

    def attach(self, seam: Seam, staff: dict[tuple[str, str], PlanAgent]) -> None:
        """Tell the crew its plan, and the agents by task and name: a pydantic model takes no further arguments."""
        self._seam, self._staff = seam, staff
        for agent in staff.values():
            agent.llm.when_waiting(self._look_ahead)  # it is our ConversationLLM

    def watch(self, done: Done) -> None:
        """Report outcomes to `done`; a task's failure is an outcome then, and no longer raised."""
        self._done = done

    def _run_sequential_process(self) -> CrewOutput:
        """CrewAI's hook for a synchronous kickoff; private there, pinned by a test."""
        with quiet.silent_events():
            return self._result(self._walk())

    async def _arun_sequential_process(self) -> CrewOutput:
        """The same for akickoff."""
        with quiet.silent_events():
            return self._result(await in_thread(self._walk, "unified-agents-crew"))

    def _walk(self) -> tuple[Walk, dict[str, TaskOutput]]:
        if not self._running.acquire(blocking=False):
            raise RuntimeError("this compiled crew is running already: call compile_team(…) for each run")
        try:
            return self._walk_plan()
        finally:
            self._running.release()

    def _walk_plan(self) -> tuple[Walk, dict[str, TaskOutput]]:
        walk, outputs = self._seam.start(), dict[str, TaskOutput]()
        running: dict[concurrent.futures.Future[TaskOutput | None], Step] = {}
        while True:
            running.update({self._start(walk, step): step for step in walk.ready()})
            if not running:
                return walk, outputs
            for future in concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED).done:
                step, error = running.pop(future), future.exception()
                outcome = walk.finish(step, error)
                output = None if error else future.result()
                if output is not None and outcome.output is not None:
                    output.raw = outcome.output  # of a group chat perhaps the transcript
                    outputs[step.name] = output
                if self._done is not None:
                    self._done(outcome)

    def _look_ahead(self) -> None:
        """Use the first wait for a model to make what later tasks need."""
        if not self._ahead.is_set():
            self._ahead.set()
            threading.Thread(target=self._make_ready, name="unified-agents-crew-ahead", daemon=True).start()

    def _make_ready(self) -> None:
        time.sleep(_UNTIL_ASKED)
        for agent in self._staff.values():
            agent.make_ready()

    def _start(self, walk: Walk, step: Step) -> concurrent.futures.Future[TaskOutput | None]:
        """Begin a step on a thread of its own, with this thread's context, as CrewAI's `execute_async` does."""
        future: concurrent.futures.Future[TaskOutput | None] = concurrent.futures.Future()
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._work, walk, step, future), name="unified-agents-crew-task", daemon=True).start()
        return future

    def _work(self, walk: Walk, step: Step, future: concurrent.futures.Future[TaskOutput | None]) -> None:
        """All turns of a step: one, or those of a group chat. The last failure counts only if nobody spoke after it."""
        output: TaskOutput | None = None
        failure: BaseException | None = None
        try:
            while (conversation := walk.next_turn_blocking(step)) is not None:
                try:
                    output, failure = self._turn(step, conversation), None
                except Exception as error:  # noqa: BLE001  # the walk knows whether it was the model's or the framework's
                    failure = error
        except BaseException as error:  # noqa: BLE001  # whatever it was, the crew waits for it
            failure = error
        if failure is not None:
            future.set_exception(failure)
        else:
            future.set_result(output)

    def _turn(self, step: Step, conversation: Conversation) -> TaskOutput:
        agent = self._staff[step.name, conversation.agent.name]
        for part in (agent.llm, *(agent.tools or ())):
            part.bind(conversation)  # our ConversationLLM and ForwardTools
        task = next(task for task in self.tasks if task.name == guard(step.name))
        if step.task.participants:
            task = _task(step, agent)  # a task a turn
        return task.execute_sync(agent=agent, context=guard(conversation.context_text), tools=agent.tools)

    def _result(self, walked: tuple[Walk, dict[str, TaskOutput]]) -> CrewOutput:
        walk, outputs = walked
        if self._done is None and walk.failure is not None:
            raise walk.failure
        if not outputs:  # every task failed, and the failures were reported
            return CrewOutput(raw="", tasks_output=[])
        ordered = sorted(outputs, key=lambda name: name == self._seam.plan.final)  # CrewAI takes the last one as the crew's
        return self._create_crew_output([outputs[name] for name in ordered])

    def _interpolate_inputs(self, inputs: dict[str, Any]) -> None:
        """Inputs were bound by the plan; CrewAI's own interpolation would read braces in their values."""
        if inputs:
            raise ValueError("inputs are bound when a team is compiled: compile_team(team, inputs={…})")

    def copy(self) -> NoReturn:  # type: ignore[override]
        """Refused: CrewAI's copy is a plain, sequential Crew."""
        raise NotImplementedError("a compiled crew is not copied; call compile_team(team, backend='crewai', inputs={…}) for each run")

    def kickoff_for_each(self, *_args: Any, **_options: Any) -> NoReturn:
        """Refused, as `copy`."""
        self.copy()

    async def kickoff_for_each_async(self, *_args: Any, **_options: Any) -> NoReturn:
        """Refused, as `copy`."""
        self.copy()

    async def akickoff_for_each(self, *_args: Any, **_options: Any) -> NoReturn:
        """Refused, as `copy`."""
        self.copy()


def build_crew(plan: Plan, seam: Seam) -> PlanCrew:
    """The crew of a plan; each task has agents of its own, since an agent object works on one task at a time."""
    staff = {(seat.step.name, seat.member.name): _agent(seat.member, native_tools(seam.tools_of(seat))) for seat in plan.seats}
    tasks: dict[str, PlanTask] = {}
    for step in plan.ordered:
        tasks[step.name] = _task(step, staff[step.name, step.agent.name], [tasks[name] for name in step.context if name in tasks])
    crew = PlanCrew(
        name=plan.team.name, agents=list(staff.values()), tasks=list(tasks.values()),
        process=Process.sequential, verbose=False, memory=False, cache=False, tracing=False, planning=False,
    )  # fmt: skip
    crew.attach(seam, staff)
    return crew


def _task(step: Step, agent: PlanAgent, context: Sequence[PlanTask] = ()) -> PlanTask:
    return PlanTask(
        name=guard(step.name), description=guard(step.task.description), expected_output=guard(step.task.expected_output or ""),
        agent=agent, context=list(context),
    )  # fmt: skip


def _agent(member: Member, tools: list[ForwardTool]) -> PlanAgent:
    """A fresh CrewAI agent with everything of its own that asks again, cuts, remembers or plans switched off."""
    role, goal, backstory = _words(member.agent)
    return PlanAgent(
        role=guard(role), goal=guard(goal), backstory=guard(backstory), llm=ConversationLLM(model=member.model_name),
        max_iter=1_000_000, max_retry_limit=0, max_execution_time=None, respect_context_window=True, use_better_compaction=False,
        allow_delegation=False, cache=False, verbose=False, memory=False, tools=tools,
    )  # fmt: skip


def _words(agent: AgentSpec) -> tuple[str, str, str]:
    """Role, goal and backstory as CrewAI words them; what it has no field for follows the backstory."""
    backstory = "\n\n".join(part for part in (agent.backstory or "", traits_text(agent)) if part)
    return agent.role or agent.name, agent.goal or "", backstory
