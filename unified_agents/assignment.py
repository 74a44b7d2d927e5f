"""Who does a task that names no agent: pure and deterministic, usable alone.

::

    assign_tasks(tasks, agents, "by_expertise")["write"].agent      # 'writer'
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from unified_agents.errors import Problem, SpecError
from unified_agents.spec import AgentSpec, TaskSpec
from unified_agents.texts import folded

STRATEGIES = ("explicit", "by_expertise", "round_robin", "least_loaded", "hierarchical")


@dataclass(frozen=True)
class Assignment:
    """Who does a task, and why. `delegate`: the agent named by the task, to whom a manager hands it on."""

    task: str
    agent: str
    reason: str
    delegate: str | None = None


def assign_tasks(
    tasks: Iterable[TaskSpec] | Mapping[str, TaskSpec], agents: Iterable[AgentSpec] | Mapping[str, AgentSpec], strategy: str = "by_expertise", *,
    manager: str | AgentSpec | None = None, waits: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Assignment]:  # fmt: skip
    """The assignment of every task that is no group chat, by its name, in file order.

    Args:
        tasks: those to be done; one that names an agent keeps it.
        agents: who may be picked, in the order that breaks ties.
        strategy: explicit: every task names its agent. by_expertise: the largest overlap of wanted and offered expertise. round_robin: one after
            the other. least_loaded: fewest tasks so far, then fewest that could run at the same time. hierarchical: all go through the manager.
        manager: takes what nobody fits (by_expertise), or everything (hierarchical).
        waits: for each task the tasks it waits for; absent: its `context` and `after`.

    Raises:
        ValueError: an unknown strategy, a manager who is none of the agents, two tasks of one name.
        SpecError: a task that nobody can be found for, with what it wants and what the agents offer.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"found {strategy!r}, allowed: {' | '.join(STRATEGIES)}")
    listed = list(tasks.values() if isinstance(tasks, Mapping) else tasks)
    people = {agent.name: agent for agent in (agents.values() if isinstance(agents, Mapping) else agents)}
    eligible = list(people)
    if isinstance(manager, AgentSpec):
        people.setdefault(manager.name, manager)
    name = manager.name if isinstance(manager, AgentSpec) else manager
    if name is not None and name not in people:
        raise ValueError(f"the manager {name!r} is none of the agents: {', '.join(people)}")
    if strategy == "hierarchical" and name is None:
        raise ValueError("hierarchical needs a manager: assign_tasks(tasks, agents, 'hierarchical', manager=…)")
    if len({task.name for task in listed}) < len(listed):
        raise ValueError("two tasks have one name")
    made, problems = assign(listed, people, eligible, strategy, name, waits)
    if problems:
        raise SpecError(problems)
    return made


def assign(
    tasks: Sequence[TaskSpec], agents: Mapping[str, AgentSpec], eligible: Sequence[str], strategy: str, manager: str | None,
    waits: Mapping[str, Sequence[str]] | None = None,
) -> tuple[dict[str, Assignment], list[Problem]]:  # fmt: skip
    """As `assign_tasks`, with everything that is wrong; `eligible` are the names that may be picked."""
    picker = _Picker(tasks, agents, eligible, strategy, manager, waits)
    for task in tasks:
        if not task.participants:
            picker.take(task)
    return picker.made, picker.problems


def best_fit(wanted: Iterable[str], agents: Iterable[AgentSpec]) -> AgentSpec | None:
    """The agent that offers most of the wanted expertise, the first of equals; None when nobody offers any. Case and spacing do not matter."""
    terms = {folded(text) for text in wanted}
    scored = [(len(terms & {folded(text) for text in agent.expertise}), agent) for agent in agents]
    best = max((score for score, _ in scored), default=0)
    return next(agent for score, agent in scored if score == best) if best else None


def mentioned(text: str, agents: Iterable[AgentSpec]) -> list[str]:
    """The expertise that is offered by some agent and stands in `text` as words of its own (`C` does not stand in `C++`)."""
    plain = folded(text)
    return [term for agent in agents for term in agent.expertise if re.search(rf"(?<![\w+#]){re.escape(folded(term))}(?![\w+#])", plain)]


def offers(agents: Iterable[AgentSpec]) -> str:
    """What agents offer, for an error message."""
    return "; ".join(f"{agent.name}: {', '.join(agent.expertise) or 'nothing'}" for agent in agents)


def reports_of(agents: Mapping[str, AgentSpec], eligible: Iterable[str], manager: str) -> dict[str, tuple[str, ...]]:
    """The direct reports of everyone in a manager's tree. An agent that says nothing reports to the manager; who the manager reports to is above."""
    above = superiors(agents, manager)
    under = [name for name in eligible if name != manager and name not in above and name in agents]
    tree: dict[str, list[str]] = {}
    for name in under:
        boss = next(
            (one for one in superiors(agents, name) if one in (*under, *above, manager)), manager
        )  # one who may not be picked is passed over
        tree.setdefault(boss, []).append(name)
    for lower, upper in zip([manager, *above], above, strict=False):
        tree.setdefault(upper, []).append(lower)
    return {boss: tuple(dict.fromkeys(names)) for boss, names in tree.items()}


def superiors(agents: Mapping[str, AgentSpec], name: str) -> list[str]:
    """Whom an agent reports to, and that one, and so on; ends at a cycle."""
    chain: list[str] = []
    boss = agents[name].reports_to if name in agents else None
    while boss is not None and boss in agents and boss not in chain and boss != name:
        chain.append(boss)
        boss = agents[boss].reports_to
    return chain


class _Picker:
    """Takes tasks in file order and remembers who has which."""

    def __init__(
        self, tasks: Sequence[TaskSpec], agents: Mapping[str, AgentSpec], eligible: Sequence[str], strategy: str, manager: str | None,
        waits: Mapping[str, Sequence[str]] | None,
    ) -> None:  # fmt: skip
        self.made: dict[str, Assignment] = {}
        self.problems: list[Problem] = []
        self._agents, self._strategy, self._manager = agents, strategy, manager
        self._eligible = [agents[name] for name in eligible if name in agents]
        self._loads: dict[str, list[str]] = {name: [] for name in agents}
        for task in tasks:  # named agents have their tasks before anything is handed out
            if task.agent in self._loads and task.agent is not None:
                self._loads[task.agent].append(task.name)
        self._before = _ancestors({task.name: tuple((waits or {}).get(task.name) or _waits(task, waits)) for task in tasks})
        self._turns = 0

    def take(self, task: TaskSpec) -> None:
        """Assign one task, or note why nobody does it."""
        if self._strategy == "hierarchical" and self._manager is not None:
            self._put(self._through_manager(task, self._manager))
        elif task.agent is not None:
            self._put(Assignment(task.name, task.agent, "named by the task"))
        elif not self._eligible and self._strategy != "explicit":
            self.problems.append(Problem(f"tasks.{task.name}", "names no agent, and there is none that may be picked (delegation.agents)"))
        else:
            pick = {"by_expertise": self._by_expertise, "round_robin": self._round_robin, "least_loaded": self._least_loaded}
            if self._strategy not in pick:
                self.problems.append(Problem(f"tasks.{task.name}", "names no agent: write agent: NAME"))
            elif (assignment := pick[self._strategy](task)) is not None:
                self._put(assignment)

    def _put(self, assignment: Assignment) -> None:
        self.made[assignment.task] = assignment
        held = self._loads.setdefault(assignment.agent, [])
        if assignment.task not in held:
            held.append(assignment.task)

    def _by_expertise(self, task: TaskSpec) -> Assignment | None:
        agent = best_fit(task.expertise, self._eligible)
        if agent is not None:
            return Assignment(task.name, agent.name, f"by_expertise: offers {_shared(task, agent)}")
        wanted = f"wants {', '.join(task.expertise)}, which nobody offers" if task.expertise else "names no agent and wants no expertise"
        if self._manager is not None:
            return Assignment(task.name, self._manager, f"by_expertise: {wanted}; the manager takes it")
        self.problems.append(
            Problem(f"tasks.{task.name}", f"{wanted} ({offers(self._eligible)}): write agent: NAME, other expertise, or delegation.manager")
        )
        return None

    def _round_robin(self, task: TaskSpec) -> Assignment:
        turn = self._turns % len(self._eligible)
        self._turns += 1
        return Assignment(task.name, self._eligible[turn].name, f"round_robin: number {turn + 1} of {len(self._eligible)}")

    def _least_loaded(self, task: TaskSpec) -> Assignment:
        load = {agent.name: self._loads[agent.name] for agent in self._eligible}
        name = min(load, key=lambda name: (len(load[name]), sum(self._independent(task.name, other) for other in load[name])))
        return Assignment(task.name, name, f"least_loaded: {len(load[name])} task{'s' * (len(load[name]) != 1)} so far")

    def _independent(self, task: str, other: str) -> bool:
        return other not in self._before[task] and task not in self._before[other]

    def _through_manager(self, task: TaskSpec, manager: str) -> Assignment:
        above = superiors(self._agents, manager)
        if task.agent is not None and (task.agent == manager or task.agent in above or task.agent not in self._agents):
            return Assignment(task.name, task.agent, "named by the task")
        if task.agent is not None:
            return Assignment(task.name, manager, f"hierarchical: {manager} hands it to {task.agent}, whom the task names", task.agent)
        if task.expertise and best_fit(task.expertise, [self._agents[name] for name in self._tree(manager)]) is None:
            taker = above[0] if above else manager
            whom = f"{taker}, {manager}'s superior," if above else manager
            return Assignment(task.name, taker, f"hierarchical: nobody offers {', '.join(task.expertise)}; {whom} takes it")
        return Assignment(task.name, manager, f"hierarchical: {manager} manages")

    def _tree(self, manager: str) -> list[str]:
        """The manager and everyone below it."""
        reports = reports_of(self._agents, [agent.name for agent in self._eligible], manager)
        names = [manager]
        for name in names:
            names += [one for one in reports.get(name, ()) if one not in names]
        return names


def _shared(task: TaskSpec, agent: AgentSpec) -> str:
    offered = {folded(text) for text in agent.expertise}
    return ", ".join(text for text in task.expertise if folded(text) in offered)


def _waits(task: TaskSpec, waits: Mapping[str, Sequence[str]] | None) -> Sequence[str]:
    return () if waits is not None else (*(task.context or ()), *(task.after or ()))


def _ancestors(waits: Mapping[str, Sequence[str]]) -> dict[str, set[str]]:
    """For each task all that end before it; a cycle, which is told elsewhere, does no harm."""
    found: dict[str, set[str]] = {}
    for name in waits:
        queue, seen = list(waits[name]), set[str]()
        while queue:
            other = queue.pop()
            if other not in seen:
                seen.add(other)
                queue += waits.get(other, ())
        found[name] = seen
    return found
