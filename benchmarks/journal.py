"""What the journal costs: the same run with it and without, in turns, on a model that answers at once.

A chain of tasks of one call each gives the cost of a task; one task whose answer is rejected again and again that of a model call; one of many tool calls that
of a model call together with its tool's.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial

from benchmarks.common import Lab, Result, Row, Settings, in_turns
from unified_agents import AgentSpec, ChatRequest, ChatResponse, ScriptedModel, TaskSpec, TeamSpec, ToolCall, run_team
from unified_agents.state import HOME_VARIABLE

BACKENDS = ("autogen", "crewai")


def look(page: int) -> str:
    """Read a page."""
    return f"page {page} " + "tide " * 40


def chain_of(tasks: int) -> TeamSpec:
    """Tasks that wait for one another."""
    agent = AgentSpec(name="a", role="R")
    names = [f"t{n}" for n in range(tasks)]
    made = [TaskSpec(name=name, description="Go on", agent=agent, context=[names[n - 1]] if n else []) for n, name in enumerate(names)]
    return TeamSpec(tasks=made)


def calls_of(turns: int) -> TeamSpec:
    """One task that calls a tool so many times."""
    agent = AgentSpec(name="a", role="R", tools=[look], max_iterations=turns + 1)
    return TeamSpec(tasks=[TaskSpec(name="t", description="Read all pages", agent=agent)], limits={"tool_calls": turns})


def asked_again(turns: int) -> TeamSpec:
    """One task that is asked for its answer so many times."""

    def last(text: str) -> str | None:
        return None if text.startswith(f"{turns}:") else "say it again"

    agent = AgentSpec(name="a", role="R", max_iterations=turns + 1)
    return TeamSpec(tasks=[TaskSpec(name="t", description="Go on", agent=agent, guardrail=last, guardrail_retries=turns)])


def answers(turns: int) -> Callable[[ChatRequest], ChatResponse]:
    """A model that calls the tool while it may, then answers."""

    def answer(request: ChatRequest) -> ChatResponse:
        if request.tools and request.turn <= turns:
            return ChatResponse("", request.model.model, (ToolCall(f"c{request.turn}", "look", f'{{"page": {request.turn}}}'),))
        return ChatResponse(f"{request.turn}: " + "done " * 50, request.model.model)

    return answer


def run(_lab: Lab, settings: Settings) -> Result:
    """The benchmark."""
    repeat, tasks, turns = settings.repeats(15), settings.size(20, 2), settings.size(60, 3)
    result = Result(
        "journal",
        f"The journal: a chain of {tasks} tasks; one task of {turns} model calls; one of {turns} tool calls",
        "ms more than without, median",
        repeat,
    )
    with tempfile.TemporaryDirectory() as folder:
        os.environ[HOME_VARIABLE] = folder
        for backend in BACKENDS:
            result.rows += _rows(f"{backend}, a task", chain_of(tasks), 0, backend, tasks, repeat, 1.0)
            result.rows += _rows(f"{backend}, a model call", asked_again(turns), 0, backend, turns, repeat, 0.3)
            result.rows += _rows(f"{backend}, a model call and its tool's", calls_of(turns), turns, backend, turns, repeat, None)
        del os.environ[HOME_VARIABLE]
    return result


def _rows(case: str, team: TeamSpec, turns: int, backend: str, units: int, repeat: int, target: float | None) -> list[Row]:
    """Pairs of runs; what is compared is CPU, the writing thread's included: the clock of a busy machine says less."""

    def once(spec: TeamSpec) -> float:
        began = time.process_time()
        run_team(spec, backend=backend, models={"default": ScriptedModel(answers(turns))})
        return (time.process_time() - began) / units * 1000

    kinds = {"without": team.model_copy(update={"journal": None}), "with": team}
    in_turns({name: partial(once, spec) for name, spec in kinds.items()}, 1)  # warm
    taken = in_turns({name: partial(once, spec) for name, spec in kinds.items()}, repeat)
    base = statistics.median(taken["without"])
    more = statistics.median(one - other for one, other in zip(taken["with"], taken["without"], strict=True))
    return [
        Row(case, "unified, journal: false", None, {"ms of CPU": f"{base:.2f}"}),
        Row(case, "unified", more, {"ms of CPU": f"{statistics.median(taken['with']):.2f} ({more / base:+.0%})"}, target),
    ]
