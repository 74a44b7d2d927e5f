"""A plan is a checked team with its inputs bound: steps, what each waits for and sees, and the model that answers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unified_agents.chat_models.providers import ModelConfig
from unified_agents.checks import agents_in_use, team_texts, waits_for
from unified_agents.errors import Problem, did_you_mean
from unified_agents.spec import AgentSpec, TaskSpec, TeamSpec
from unified_agents.texts import as_text, filled, identifier, placeholders


@dataclass(frozen=True)
class Step:
    """One task with its agent. `waits` must have completed before it starts; `context` are the outputs that reach its prompt."""

    task: TaskSpec
    agent: AgentSpec
    model: ModelConfig
    fallbacks: tuple[ModelConfig, ...] = ()
    waits: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    reason: str = "named by the task"

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name

    def participant(self, index: int) -> str:
        """A name for the agent of this step that is an identifier, and unique when `index` is the step's."""
        return f"{identifier(self.agent.name)}_{index + 1}"


@dataclass(frozen=True)
class Plan:
    """What an adapter builds from. `steps` are in file order; `given` are outputs of tasks that are not run (again)."""

    team: TeamSpec
    steps: tuple[Step, ...]
    given: Mapping[str, str] = field(default_factory=dict)

    def step(self, name: str) -> Step:
        """The step of a task.

        Raises:
            KeyError: no such step.
        """
        return {step.name: step for step in self.steps}[name]

    @property
    def ordered(self) -> tuple[Step, ...]:
        """The steps so that each comes after what it waits for; file order otherwise."""
        placed: dict[str, Step] = {}
        while len(placed) < len(self.steps):
            placed.update({s.name: s for s in self.steps if s.name not in placed and all(w in placed or w in self.given for w in s.waits)})
        return tuple(placed.values())

    def remainder(self, completed: Mapping[str, str]) -> Plan:
        """The smaller plan of what is left once the outputs `completed` are given."""
        given = {**self.given, **completed}
        return replace(self, steps=tuple(step for step in self.steps if step.name not in given), given=given)

    def downstream(self, names: Sequence[str]) -> dict[str, str]:
        """Every step that waits, directly or not, for one of `names`: its name to the name it hangs on."""
        found: dict[str, str] = {}
        for step in self.ordered:
            cause = next((w for w in step.waits if w in names or w in found), None)
            if cause is not None and step.name not in names:
                found[step.name] = found.get(cause, cause)
        return found

    @property
    def final(self) -> str:
        """The task whose output is the run's: the last in file order among those nothing depends on."""
        needed = {name for edges in waits_for(self.team).values() for name in edges}
        return [name for name in self.team.tasks if name not in needed][-1]


def bind_inputs(team: TeamSpec, inputs: Mapping[str, Any] | None) -> tuple[dict[str, str], list[Problem]]:
    """The text of every input, and what is missing or was never declared."""
    given = {name: value for name, value in (inputs or {}).items() if value is not None}
    if "inputs" in team.model_fields_set:
        required = {name for name, spec in team.inputs.items() if spec.required}
        known = set(team.inputs)
    else:
        required = known = {name for _, text in team_texts(team) for name in placeholders(text)}
    defaults = {name: spec.default for name, spec in team.inputs.items() if not spec.required}
    problems = [
        Problem(f"inputs.{name}", f"{_about(team, name)} has no default and was not given: -i {name}=…")
        for name in sorted(required - set(given))
    ]
    for name in given:
        if name not in known:
            allowed = ", ".join(sorted(known)) or "none"
            problems.append(Problem(f"inputs.{name}", f"no such input{did_you_mean(name, known)}; inputs of this team: {allowed}"))
    return {name: as_text(value) for name, value in {**defaults, **given}.items()}, problems


def _about(team: TeamSpec, name: str) -> str:
    said = team.inputs[name].description if name in team.inputs else None
    return f"input {name!r} ({said})" if said else f"input {name!r}"


def make_plan(team: TeamSpec, values: Mapping[str, str], models: Mapping[str, Sequence[ModelConfig]]) -> Plan:
    """The plan of a team that passed all checks; `models` holds the models of every agent in use, the first to be asked first."""
    agents = {name: filled(team.agents[name], values) for name in agents_in_use(team)}
    edges, names = waits_for(team), list(team.tasks)
    steps = []
    for position, (name, task) in enumerate(team.tasks.items()):
        assert task.agent is not None  # checks and refusals let nothing else through yet
        unset = names[:position] if team.process == "sequential" else []
        context = tuple(task.context if task.context is not None else unset)
        first, *rest = models[task.agent]
        steps.append(
            Step(
                task=filled(task, values),
                agent=agents[task.agent],
                model=first,
                fallbacks=tuple(rest),
                waits=tuple(edges[name]),
                context=context,
            )
        )
    return Plan(team=team, steps=tuple(steps))
