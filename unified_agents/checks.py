"""What a well-formed team may still have wrong: names, cycles, placeholders, order, references. Everything found, at once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import jsonschema
from pydantic import BaseModel

from unified_agents.assignment import Assignment, assign, reports_of
from unified_agents.chat_models.providers import check_base_url, check_model, shown_url
from unified_agents.errors import Problem, did_you_mean
from unified_agents.spec import AgentSpec, DelegationSpec, ModelSpec, TaskSpec, TeamSpec
from unified_agents.state import in_state_place
from unified_agents.texts import placeholders, texts_of

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_STORES = {"memory": re.compile(r"sqlite:///.+|:memory:"), "journal": re.compile(r"sqlite:///.+")}
_INPUT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_team(team: TeamSpec, given_tools: Collection[str] = ()) -> list[Problem]:
    """Every problem that can be seen without inputs, environment or a backend; `given_tools` are bound by the caller."""
    return [*(problem for check in _CHECKS for problem in check(team)), *_tool_names(team, given_tools)]


def _unknown(path: str, kind: str, name: str, allowed: Iterable[str]) -> Problem:
    known = sorted(allowed)
    return Problem(path, f"unknown {kind} {name!r}{did_you_mean(name, known)}; {kind}s here: {', '.join(known) or 'none'}")


def _tasks(team: TeamSpec) -> Iterator[Problem]:
    if not team.tasks:
        yield Problem("tasks", "a team needs at least one task: tasks: {name: {description: …, agent: …}}")
    for name, task in team.tasks.items():
        path = f"tasks.{name}"
        if not task.description.strip():
            yield Problem(f"{path}.description", "is empty")
        for field in ("context", "after"):
            yield from _references(f"{path}.{field}", "task", getattr(task, field) or (), set(team.tasks) - {name}, name)
        yield from _who(path, task, team)


def _references(path: str, kind: str, names: Sequence[str], allowed: Iterable[str], itself: str | None = None) -> Iterator[Problem]:
    known = set(allowed)
    for index, name in enumerate(names):
        if name == itself:
            yield Problem(f"{path}[{index}]", f"{name!r} names itself")
        elif name not in known:
            yield _unknown(f"{path}[{index}]", kind, name, known)
        elif name in names[:index]:
            yield Problem(f"{path}[{index}]", f"{name!r} stands twice")


def _who(path: str, task: TaskSpec, team: TeamSpec) -> Iterator[Problem]:
    if task.agent is not None and task.agent not in team.agents:
        yield _unknown(f"{path}.agent", "agent", task.agent, team.agents)
    if task.agent is not None and task.participants:
        yield Problem(f"{path}.participants", "a task has either an agent or participants, not both")
    assigned = team.delegation is not None and team.delegation.strategy != "explicit"
    if task.agent is None and not task.participants and not assigned:
        known = ", ".join(team.agents) or "none are declared"
        yield Problem(
            path, f"names no agent: write agent: NAME (agents: {known}), participants: […], or delegation: {{strategy: by_expertise}}"
        )
    yield from _references(f"{path}.participants", "agent", task.participants, team.agents)
    yield from _group_chat(path, task, team)


_CHECKS_OF_ONE = {"output_schema": None, "guardrail": None, "human_review": False, "expertise": ()}


def _group_chat(path: str, task: TaskSpec, team: TeamSpec) -> Iterator[Problem]:
    for field in ("speaker_selection", "max_rounds", "stop_when", "result"):
        if getattr(task, field) is not None and not task.participants:
            yield Problem(f"{path}.{field}", "belongs to a group chat: it needs participants")
    for field, unset in _CHECKS_OF_ONE.items():
        if task.participants and getattr(task, field) != unset:
            yield Problem(f"{path}.{field}", "belongs to a task of one agent: put it on a task that has this one in its context")
    if task.stop_when is not None and task.stop_when.by is not None and task.participants and task.stop_when.by not in task.participants:
        yield _unknown(f"{path}.stop_when.by", "participant", task.stop_when.by, task.participants)
    if task.stop_when is not None and not task.stop_when.says.strip():
        yield Problem(f"{path}.stop_when.says", "is empty, which every turn says")
    selection = task.speaker_selection
    if isinstance(selection, str) and selection not in ("round_robin", "model") and not _REFERENCE.fullmatch(selection):
        yield Problem(f"{path}.speaker_selection", f"found {selection!r}, allowed: round_robin | model | MODULE:FUNCTION")
    people = [name for name in task.participants if name in team.agents and team.agents[name].human]
    if selection == "model" and task.participants and len(people) == len(task.participants):
        yield Problem(f"{path}.speaker_selection", "model asks the model of the first participant that is not human, and here all are")
    if selection is not None and not isinstance(selection, str) and not callable(selection):
        yield Problem(f"{path}.speaker_selection", f"found {selection!r}, allowed: round_robin | model | MODULE:FUNCTION")


def _agents(team: TeamSpec) -> Iterator[Problem]:
    names = set(team.agents)
    for name, agent in team.agents.items():
        path = f"agents.{name}"
        if not agent.human and not (agent.role or "").strip() and not (agent.instructions or "").strip():
            yield Problem(path, "needs a role or instructions")
        if name in ("broadcast", "all"):
            yield Problem(path, f"{name!r} means everyone: call this agent something else")
        if agent.human:
            yield from _human(path, agent)
        if agent.delegates_to != ("all",):
            yield from _references(f"{path}.delegates_to", "agent", agent.delegates_to, names - {name}, name)
        for field in ("reports_to", "fallback"):
            other = getattr(agent, field)
            if other == name:
                yield Problem(f"{path}.{field}", f"{name!r} names itself")
            elif other is not None and other not in names:
                yield _unknown(f"{path}.{field}", "agent", other, names - {name})
    yield from _chains(team, "reports_to")
    yield from _chains(team, "fallback")


_NOT_FOR_PEOPLE = {"tools": (), "model": None, "max_iterations": None, "delegates_to": (), "messaging": False}


def _human(path: str, agent: AgentSpec) -> Iterator[Problem]:
    for field, unset in _NOT_FOR_PEOPLE.items():
        if getattr(agent, field) != unset:
            yield Problem(f"{path}.{field}", "is for a model, and this agent is human: leave one of them out")


def object_name(tool: Any) -> str:
    """How a tool that is given as an object is called: a function, or a tool of a framework."""
    return str(getattr(tool, "__name__", None) or getattr(tool, "name", ""))


def _tool_names(team: TeamSpec, given: Collection[str]) -> Iterator[Problem]:
    objects = {object_name(tool) for agent in team.agents.values() for tool in agent.tools if not isinstance(tool, str)}
    for name, tool in team.tools.items():
        if tool.python is None and tool.mcp is None and name not in given and name not in objects:
            yield Problem(f"tools.{name}", "needs exactly one of python: MODULE:NAME or mcp: {command: …} / {url: …}")
    for agent in team.agents.values():
        for index, tool in enumerate(agent.tools):
            path = f"agents.{agent.name}.tools[{index}]"
            if isinstance(tool, str) and tool not in team.tools and tool not in given:
                yield _unknown(path, "tool", tool, [*team.tools, *given])
            elif not isinstance(tool, str) and not callable(tool) and not hasattr(tool, "name"):
                yield Problem(path, f"found {tool!r}, expected the name of a tool or a function")


def _chains(team: TeamSpec, field: str) -> Iterator[Problem]:
    edges = {name: [other] if (other := getattr(agent, field)) in set(team.agents) - {name} else [] for name, agent in team.agents.items()}
    for cycle in find_cycles(edges):
        yield Problem(f"agents.{cycle[0]}.{field}", f"a cycle: {' → '.join([*cycle, cycle[0]])}")


def check_models(models: Mapping[str, ModelSpec]) -> Iterator[Problem]:
    """What is wrong with models by themselves: provider, name, address."""
    for name, model in models.items():
        wrong = check_model(model.model)
        if wrong:
            yield Problem(f"models.{name}.model", wrong)
        if model.base_url is not None and (fault := check_base_url(model.base_url)):
            yield Problem(f"models.{name}.base_url", f"found {shown_url(model.base_url)}: {fault}")


def _models(team: TeamSpec) -> Iterator[Problem]:
    yield from check_models(team.models)
    for name, model in team.models.items():
        yield from _references(f"models.{name}.fallbacks", "model", model.fallbacks, set(team.models) - {name}, name)
    for name, agent in team.agents.items():
        for index, model_name in enumerate(agent.model or ()):
            where = f"agents.{name}.model" + (f"[{index}]" if len(agent.model or ()) > 1 else "")
            yield from _model_name(where, model_name, team)
    if team.resilience:
        yield from _references("resilience.fallback_models", "model", team.resilience.fallback_models, team.models)
    used = agents_in_use(team)
    lacking = [name for name in used if not team.agents[name].model and not team.agents[name].human]
    if team.models and "default" not in team.models and lacking:
        yield Problem("models", f"has no 'default', and {lacking[0]!r} names no model; models here: {', '.join(team.models)}")


def _model_name(path: str, name: str, team: TeamSpec) -> Iterator[Problem]:
    if name in team.models:
        return
    if "/" in name:
        wrong = check_model(name)
        if wrong:
            yield Problem(path, wrong)
    else:
        yield Problem(path, f"{_unknown('', 'model', name, team.models).message}; or write PROVIDER/NAME")


def _tools(team: TeamSpec) -> Iterator[Problem]:
    for name, tool in team.tools.items():
        path = f"tools.{name}"
        if tool.python is not None and tool.mcp is not None:
            yield Problem(path, "needs exactly one of python: MODULE:NAME or mcp: {command: …} / {url: …}")
        if tool.python is not None:
            yield from _reference(f"{path}.python", tool.python)
        if tool.mcp is not None and (tool.mcp.command is None) == (tool.mcp.url is None):
            yield Problem(f"{path}.mcp", "needs exactly one of command or url")
        if tool.with_ and tool.python is None:
            yield Problem(f"{path}.with", "builds a Python class: it needs python: MODULE:CLASS")


def _reference(path: str, text: Any) -> Iterator[Problem]:
    if isinstance(text, str) and not _REFERENCE.fullmatch(text):
        yield Problem(path, f"found {text!r}, expected MODULE:NAME such as 'my_tools:check_length'")
    elif not isinstance(text, str) and not callable(text):
        yield Problem(path, f"found {text!r}, expected MODULE:NAME or a function")


def _answers(team: TeamSpec) -> Iterator[Problem]:
    for name, task in team.tasks.items():
        path = f"tasks.{name}"
        if task.guardrail is not None:
            yield from _reference(f"{path}.guardrail", task.guardrail)
        elif task.guardrail_retries is not None:
            yield Problem(f"{path}.guardrail_retries", "needs a guardrail")
        if task.output_schema is not None and (fault := _schema_fault(task.output_schema)):
            yield Problem(f"{path}.output_schema", fault)
        if task.output_file is not None and not is_inside(task.output_file):
            yield Problem(
                f"{path}.output_file", f"found {task.output_file!r}: it must lie inside the working folder (relative, without '..')"
            )
    for index, layer in enumerate(team.middleware):
        yield from _reference(f"middleware[{index}]", layer)


def _schema_fault(value: Any) -> str | None:
    if isinstance(value, type) and issubclass(value, BaseModel):
        return None
    if not isinstance(value, dict):
        return f"found {value!r}, expected a JSON Schema or a pydantic class"
    try:
        jsonschema.Draft202012Validator.check_schema(value)
    except jsonschema.SchemaError as error:
        where = error.json_path.removeprefix("$").removeprefix(".")
        return f"not a JSON Schema: {f'{where}: ' if where else ''}{error.message}"
    return None


def is_inside(path: str) -> bool:
    """Whether a relative path stays inside its folder, on any system."""
    return all(
        not kind(path).is_absolute() and not kind(path).drive and ".." not in kind(path).parts for kind in (PurePosixPath, PureWindowsPath)
    ) and bool(path.strip())


def _delegation(team: TeamSpec) -> Iterator[Problem]:
    if team.delegation is None:
        return
    yield from _references("delegation.agents", "agent", team.delegation.agents, team.agents)
    manager = team.delegation.manager
    if manager is not None and manager not in team.agents:
        yield _unknown("delegation.manager", "agent", manager, team.agents)
    if team.delegation.strategy == "hierarchical" and manager is None:
        yield Problem("delegation.manager", "strategy: hierarchical needs a manager")
    if team.delegation.strategy == "hierarchical" and manager in team.agents and team.agents[manager].human:
        yield Problem("delegation.manager", f"{manager!r} is human, and a manager hands out work by calling tools")
    if not depends_on_inputs(team):
        yield from assignments(team)[1]


def _stores(team: TeamSpec) -> Iterator[Problem]:
    if team.memory and team.memory.semantic is not False and not isinstance(team.memory.store, str):
        yield Problem(
            "memory.semantic", "says how a store that is named by a text ranks; one that is given as an object ranks as it was made to"
        )
    for name, spec in (("memory", team.memory), ("journal", team.journal)):
        if spec is not None and isinstance(spec.store, str) and not _STORES[name].fullmatch(spec.store):
            yield Problem(f"{name}.store", f"found {re.sub('//.*@', '//…@', spec.store)!r}, expected sqlite:///FILE")
    yield from _same_file(team)


def _same_file(team: TeamSpec) -> Iterator[Problem]:
    """A journal in the memory's file."""
    stores = [spec.store for spec in (team.memory, team.journal) if spec is not None and isinstance(spec.store, str)]
    files = [in_state_place(store.removeprefix("sqlite:///")) for store in stores if store.startswith("sqlite:///")]
    if len(files) == 2 and os.path.realpath(files[0]) == os.path.realpath(files[1]):
        yield Problem("journal.store", f"found {stores[1]!r}, where the memory is: name another file, such as sqlite:///runs.db")


def _inputs(team: TeamSpec) -> Iterator[Problem]:
    for name in team.inputs:
        if not _INPUT_NAME.fullmatch(name):
            yield Problem(f"inputs.{name}", "the name of an input is letters, digits and _, not beginning with a digit")
    if "inputs" not in team.model_fields_set:
        return  # built in Python without `inputs`: what the texts ask for is what a run must give
    for path, text in team_texts(team):
        for name in placeholders(text):
            if name not in team.inputs:
                known = ", ".join(team.inputs) or "none are declared"
                yield Problem(
                    path,
                    f"{{{name}}} is no declared input{did_you_mean(name, team.inputs)} (inputs: {known}); {{{{{name}}}}} is literal {{{name}}}",
                )


def team_texts(team: TeamSpec) -> Iterator[tuple[str, str]]:
    """Path and text of everything in agents and tasks that may hold placeholders."""
    for section, items in (("agents", team.agents), ("tasks", team.tasks)):
        for name, item in items.items():
            for where, text in texts_of(item):
                yield f"{section}.{name}.{where}", text


def _order(team: TeamSpec) -> Iterator[Problem]:
    uses = any(task.context is not None or task.after is not None for task in team.tasks.values())
    if team.process is None and len(team.tasks) > 1 and not uses:
        yield Problem(
            "process",
            "say in which order the tasks run: process: sequential (one after the other, each sees all earlier outputs) "
            "or process: graph (all at once, each sees only its context)",
        )
    for cycle in find_cycles(waits_for(team)):
        hint = (
            " (in a sequential process a task waits for the one before it, so it can name only earlier ones)"
            if team.process == "sequential"
            else ""
        )
        yield Problem(_cycle_place(team, cycle), f"a cycle: {' → '.join([*cycle, cycle[0]])}{hint}")


def _cycle_place(team: TeamSpec, cycle: Sequence[str]) -> str:
    for position, name in enumerate(cycle):
        target = cycle[(position + 1) % len(cycle)]
        for field in ("context", "after"):
            names = getattr(team.tasks[name], field) or ()
            if target in names:
                return f"tasks.{name}.{field}[{names.index(target)}]"
    return f"tasks.{cycle[0]}"


def waits_for(team: TeamSpec) -> dict[str, list[str]]:
    """For each task the tasks it waits for, unknown names and itself left out."""
    names = list(team.tasks)
    edges: dict[str, list[str]] = {}
    for position, (name, task) in enumerate(team.tasks.items()):
        before = names[position - 1 : position] if team.process == "sequential" else []
        wanted = [*before, *(task.context or ()), *(task.after or ())]
        edges[name] = [other for other in dict.fromkeys(wanted) if other in team.tasks and other != name]
    return edges


def find_cycles(edges: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Cycles of a small graph, each once, without recursion."""
    left = {name: set(others) for name, others in edges.items()}
    while free := [name for name, others in left.items() if not others]:
        for name in free:
            del left[name]
        for others in left.values():
            others.difference_update(free)
    cycles: list[list[str]] = []
    seen: set[str] = set()
    for start in left:
        trail: list[str] = []
        node: str | None = start
        while node is not None and node not in seen:
            seen.add(node)
            trail.append(node)
            node = next((other for other in edges[node] if other in left), None)
        if node in trail:
            cycles.append(trail[trail.index(node) :])
    return cycles


def assignments(team: TeamSpec) -> tuple[dict[str, Assignment], list[Problem]]:
    """Who does each task that is no group chat, by the task's name, and for which nobody is found."""
    delegation = team.delegation or DelegationSpec()
    if delegation.strategy == "explicit" or (delegation.strategy == "hierarchical" and delegation.manager not in team.agents):
        named = {name: task.agent for name, task in team.tasks.items() if task.agent}
        return {name: Assignment(name, agent, "named by the task") for name, agent in named.items()}, []
    manager = delegation.manager if delegation.manager in team.agents else None
    return assign(list(team.tasks.values()), team.agents, _eligible(team), delegation.strategy, manager, waits_for(team))


def depends_on_inputs(team: TeamSpec) -> bool:
    """Whether who does what is known only once the inputs are: some expertise holds a placeholder."""
    wanted = [text for task in team.tasks.values() for text in task.expertise]
    offered = [text for agent in team.agents.values() for text in agent.expertise]
    return any(placeholders(text) for text in (*wanted, *offered))


def _eligible(team: TeamSpec) -> list[str]:
    """Who may be picked for a task."""
    named = team.delegation.agents if team.delegation else ()
    return list(named) or [name for name, agent in team.agents.items() if not agent.human]


def coworkers(team: TeamSpec) -> dict[str, tuple[str, ...]]:
    """To whom each agent may delegate: those it names, and in a hierarchy its direct reports."""
    delegation = team.delegation
    reports: Mapping[str, Sequence[str]] = {}
    if delegation and delegation.strategy == "hierarchical" and delegation.manager in team.agents and delegation.manager is not None:
        reports = reports_of(team.agents, _eligible(team), delegation.manager)
    found: dict[str, tuple[str, ...]] = {}
    for name, agent in team.agents.items():
        named = [other for other in team.agents if other != name] if agent.delegates_to == ("all",) else agent.delegates_to
        found[name] = tuple(other for other in dict.fromkeys([*named, *reports.get(name, ())]) if other in team.agents)
    return found


def agents_in_use(team: TeamSpec) -> list[str]:
    """The agents that a run may call, in file order."""
    made, problems = assignments(team)
    queue = [name for task in team.tasks.values() for name in (task.agent, *task.participants) if name]
    queue += [name for one in made.values() for name in (one.agent, one.delegate) if name]
    if team.delegation and (problems or depends_on_inputs(team)):  # who will do it is not known yet
        queue += [*_eligible(team), *([team.delegation.manager] if team.delegation.manager else [])]
    edges, used = coworkers(team), set[str]()
    while queue:
        name = queue.pop()
        if name not in used and name in team.agents:
            used.add(name)
            fallback = team.agents[name].fallback
            queue += [*edges[name], *([fallback] if fallback else [])]
    return [name for name in team.agents if name in used]


def models_in_use(team: TeamSpec) -> set[str]:
    """The names in `models` that a run may call: those of the agents in use, and what they fall back to."""
    speaking = [team.agents[name] for name in agents_in_use(team) if not team.agents[name].human]
    names = {name for agent in speaking for name in (agent.model or ("default",))}
    names |= set(team.resilience.fallback_models if team.resilience else ())
    return names | {other for name in names if name in team.models for other in team.models[name].fallbacks}


_CHECKS: tuple[Callable[[TeamSpec], Iterator[Problem]], ...] = (
    _tasks,
    _agents,
    _models,
    _tools,
    _answers,
    _delegation,
    _stores,
    _inputs,
    _order,
)
