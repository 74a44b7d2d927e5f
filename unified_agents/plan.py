"""A plan is a checked team with its inputs bound: steps, what each waits for and sees, and the model that answers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unified_agents.chat_models.providers import ModelConfig
from unified_agents.checks import agents_in_use, assignments, coworkers, team_texts, waits_for
from unified_agents.errors import Problem, did_you_mean
from unified_agents.prompts import Earlier
from unified_agents.spec import AgentSpec, TaskSpec, TeamSpec
from unified_agents.texts import as_text, filled, identifier, placeholders


@dataclass(frozen=True)
class Member:
    """An agent of the plan: the models that answer for it, the first to be asked first (none for a person), and to whom it may delegate."""

    agent: AgentSpec
    models: tuple[ModelConfig, ...] = ()
    coworkers: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The agent's name."""
        return self.agent.name

    @property
    def model_name(self) -> str:
        """Something to show where a framework insists on a model's name."""
        return (self.models[0].name if self.models else "") or "model"


@dataclass(frozen=True)
class Step:
    """One task and who speaks in it: its agent, or the participants of a group chat with their fallbacks.

    `waits` must have completed before it starts; `context` are the outputs that reach its prompt. `delegate` is the coworker to whom the agent
    must hand the task on. `attempt` counts the agents it was given to, `failures` say how the ones before fared.
    """

    task: TaskSpec
    members: tuple[Member, ...]
    waits: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    reason: str = "named by the task"
    delegate: str | None = None
    attempt: int = 1
    failures: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name

    @property
    def agent(self) -> AgentSpec:
        """The agent whose task it is; of a group chat the first participant."""
        return self.members[0].agent

    @property
    def who(self) -> str:
        """The agent's name, or all participants'."""
        return ", ".join(self.task.participants) or self.agent.name

    def handed_on(self, member: Member, failure: str) -> Step:
        """The step as it goes to another agent, which is told how the one before failed; who takes a task over does not hand it to itself."""
        delegate = None if member.name == self.delegate else self.delegate
        return replace(self, members=(member,), attempt=self.attempt + 1, failures=(*self.failures, failure), delegate=delegate)

    def member(self, name: str) -> Member:
        """Who speaks by this name.

        Raises:
            KeyError: nobody here does.
        """
        return {member.name: member for member in self.members}[name]

    def coworkers(self, member: Member) -> tuple[str, ...]:
        """To whom a member may delegate within this task."""
        return (self.delegate,) if self.delegate and member is self.members[0] else member.coworkers


@dataclass(frozen=True)
class Seat:
    """One member of one step. `name` is an identifier, unique in the plan: a framework's name for the agent object that speaks there."""

    name: str
    step: Step
    member: Member


@dataclass(frozen=True)
class Plan:
    """What an adapter builds from. `steps` are in file order; `given` are outputs of tasks that are not run (again).

    `members` are all agents that may be called, also those who only take what is delegated.
    """

    team: TeamSpec
    steps: tuple[Step, ...]
    members: Mapping[str, Member] = field(default_factory=dict)
    given: Mapping[str, Earlier] = field(default_factory=dict)

    @property
    def seats(self) -> tuple[Seat, ...]:
        """Every member of every step: an agent object works on one task at a time, so each has its own."""
        pairs = [(step, member) for step in self.steps for member in step.members]
        return tuple(Seat(f"{identifier(member.name)}_{index + 1}", step, member) for index, (step, member) in enumerate(pairs))

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

    def remainder(self, completed: Mapping[str, Earlier], changed: Mapping[str, Step] | None = None, lost: Sequence[str] = ()) -> Plan:
        """The smaller plan of what is left once the outputs `completed` are given: some steps `changed`, and without what hangs on `lost` ones."""
        given, gone = {**self.given, **completed}, {*lost, *self.downstream(lost)}
        steps = [(changed or {}).get(step.name, step) for step in self.steps if step.name not in given and step.name not in gone]
        return replace(self, steps=tuple(steps), given=given)

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
    known = filled_team(team, values)
    edges, used = coworkers(team), agents_in_use(known)
    members = {name: Member(known.agents[name], tuple(models.get(name, ())), edges[name]) for name in used}
    made, waits, names = assignments(known)[0], waits_for(team), list(team.tasks)
    steps = []
    for position, (name, task) in enumerate(team.tasks.items()):
        unset = names[:position] if team.process == "sequential" else []
        context = tuple(task.context if task.context is not None else unset)
        assigned = made.get(name)
        who = [assigned.agent] if assigned else _speakers(team, task.participants)
        steps.append(
            Step(
                task=known.tasks[name],
                members=tuple(members[one] for one in who),
                waits=tuple(waits[name]),
                context=context,
                reason=assigned.reason if assigned else "group chat",
                delegate=assigned.delegate if assigned else None,
            )
        )
    return Plan(team=team, steps=tuple(steps), members=members)


def filled_team(team: TeamSpec, values: Mapping[str, str]) -> TeamSpec:
    """The team with its inputs in all texts of agents and tasks."""
    agents = {name: filled(agent, values) for name, agent in team.agents.items()}
    return team.model_copy(update={"agents": agents, "tasks": {name: filled(task, values) for name, task in team.tasks.items()}})


def _speakers(team: TeamSpec, participants: Sequence[str]) -> list[str]:
    """The participants of a group chat, then those who speak when one of them fails."""
    names = list(participants)
    for name in names:
        fallback = team.agents[name].fallback
        if fallback is not None and fallback not in names:
            names.append(fallback)
    return names
