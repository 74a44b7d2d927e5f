"""A plan as a real `crewai.Crew` that starts each task as soon as what it waits for has completed."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

# isort: off
from unified_agents_crewai import quiet  # before anything of the framework

# isort: on
from crewai import Agent, Crew, Process, Task
from crewai.crews.crew_output import CrewOutput
from crewai.tasks.task_output import TaskOutput
from pydantic import PrivateAttr

from unified_agents.adapter import NativeTeam, Plan, Report, Seam, Step, TaskOutcome, Walk
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
    _steps: dict[str, PlanTask] = PrivateAttr(default_factory=dict)
    _done: Done | None = PrivateAttr(default=None)
    _ahead: Any = PrivateAttr(default_factory=threading.Event)
    _running: Any = PrivateAttr(default_factory=threading.Lock)
    _task_output_handler: Any = PrivateAttr(default_factory=_NoTaskOutputs)  # private in CrewAI; a test pins it

    def attach(self, seam: Seam, tasks: dict[str, PlanTask]) -> None:
        """Tell the crew its plan: a pydantic model takes no further arguments."""
        self._seam, self._steps = seam, tasks
        for task in tasks.values():
            task.agent.llm.when_waiting(self._look_ahead)  # type: ignore[union-attr]  # it is our ConversationLLM

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

    def _walk(self) -> tuple[Walk, list[TaskOutput]]:
        if not self._running.acquire(blocking=False):
            raise RuntimeError("this compiled crew is running already: call compile_team(…) for each run")
        try:
            return self._walk_plan()
        finally:
            self._running.release()

    def _walk_plan(self) -> tuple[Walk, list[TaskOutput]]:
        walk, outputs = self._seam.start(), list[TaskOutput]()
        running: dict[concurrent.futures.Future[TaskOutput], Step] = {}
        while True:
            running.update({self._start(walk, step): step for step in walk.ready()})
            if not running:
                return walk, outputs
            for future in concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED).done:
                step, error = running.pop(future), future.exception()
                outcome = walk.finish(step, error)
                if error is None:
                    outputs.append(future.result())
                if self._done is not None:
                    self._done(outcome)

    def _look_ahead(self) -> None:
        """Use the first wait for a model to make what later tasks need."""
        if not self._ahead.is_set():
            self._ahead.set()
            threading.Thread(target=self._make_ready, name="unified-agents-crew-ahead", daemon=True).start()

    def _make_ready(self) -> None:
        time.sleep(_UNTIL_ASKED)
        for task in self._steps.values():
            task.agent.make_ready()  # type: ignore[union-attr]  # it is our PlanAgent

    def _start(self, walk: Walk, step: Step) -> concurrent.futures.Future[TaskOutput]:
        conversation, task = walk.open(step), self._steps[step.name]
        assert task.agent is not None
        for part in (task.agent.llm, *task.agent.tools):
            part.bind(conversation)  # our ConversationLLM and ForwardTools
        future: concurrent.futures.Future[TaskOutput] = task.execute_async(
            agent=task.agent, context=guard(conversation.context_text), tools=task.agent.tools
        )
        return future

    def _result(self, walked: tuple[Walk, list[TaskOutput]]) -> CrewOutput:
        walk, outputs = walked
        if self._done is None and walk.failure is not None:
            raise walk.failure
        if not outputs:  # every task failed, and the failures were reported
            return CrewOutput(raw="", tasks_output=[])
        final = self._steps.get(self._seam.plan.final)
        outputs.sort(key=lambda output: output is (final.output if final else None))  # CrewAI takes the last one as the crew's
        return self._create_crew_output(outputs)

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
    """The crew of a plan; each task has an agent of its own, since an agent object works on one task at a time."""
    tasks: dict[str, PlanTask] = {}
    for step in plan.ordered:
        tasks[step.name] = PlanTask(
            name=guard(step.name), description=guard(step.task.description), expected_output=guard(step.task.expected_output or ""),
            agent=_agent(step, native_tools(seam.tools.get(step.agent.name, ()))), context=[tasks[name] for name in step.context if name in tasks],
        )  # fmt: skip
    crew = PlanCrew(
        name=plan.team.name, agents=[task.agent for task in tasks.values() if task.agent], tasks=list(tasks.values()),
        process=Process.sequential, verbose=False, memory=False, cache=False, tracing=False, planning=False,
    )  # fmt: skip
    crew.attach(seam, tasks)
    return crew


def _agent(step: Step, tools: list[ForwardTool]) -> Agent:
    """A fresh CrewAI agent with everything of its own that asks again, cuts, remembers or plans switched off."""
    role, goal, backstory = _words(step.agent)
    return PlanAgent(
        role=guard(role), goal=guard(goal), backstory=guard(backstory), llm=ConversationLLM(model=step.model.name or "model"),
        max_iter=1_000_000, max_retry_limit=0, max_execution_time=None, respect_context_window=True, use_better_compaction=False,
        allow_delegation=False, cache=False, verbose=False, memory=False, tools=tools,
    )  # fmt: skip


def _words(agent: AgentSpec) -> tuple[str, str, str]:
    """Role, goal and backstory as CrewAI words them; what it has no field for follows the backstory."""
    backstory = "\n\n".join(part for part in (agent.backstory or "", traits_text(agent)) if part)
    return agent.role or agent.name, agent.goal or "", backstory
