"""Who does a task that names no agent: every strategy, its ties, its errors, and that it is the same every time."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_agents.assignment import STRATEGIES, Assignment, assign_tasks, best_fit, mentioned, reports_of, superiors
from unified_agents.checks import assignments
from unified_agents.errors import SpecError
from unified_agents.spec import AgentSpec, TaskSpec, TeamSpec


def person(name: str, *expertise: str, reports_to: str | None = None, human: bool = False) -> AgentSpec:
    """An agent that offers some expertise."""
    return AgentSpec(name=name, role=name.title(), expertise=expertise, reports_to=reports_to, human=human)


def job(name: str, *expertise: str, **fields: Any) -> TaskSpec:
    """A task that wants some expertise."""
    return TaskSpec(name=name, description=f"Do {name}", expertise=expertise, **fields)


def jobs(*names: str) -> list[TaskSpec]:
    """Tasks that say nothing."""
    return [job(name) for name in names]


def who(made: Mapping[str, Assignment]) -> dict[str, str]:
    """The agent of each task."""
    return {name: one.agent for name, one in made.items()}


def reason(task: TaskSpec, agents: Sequence[AgentSpec], strategy: str, **options: Any) -> str:
    """Why one task went where it went."""
    return assign_tasks([task], agents, strategy, **options)[task.name].reason


def fault(tasks: Sequence[TaskSpec], agents: Sequence[AgentSpec], strategy: str, **options: Any) -> list[tuple[str, str]]:
    """Where and why nobody was found."""
    with pytest.raises(SpecError) as caught:
        assign_tasks(tasks, agents, strategy, **options)
    return [(problem.path, problem.message) for problem in caught.value.problems]


ANN, BOB, EVE = person("ann", "law", "tax"), person("bob", "tax", "history"), person("eve", "music")
PEOPLE = [ANN, BOB, EVE]


@pytest.mark.parametrize(
    ("wanted", "agent", "shared"),
    [
        (["law"], "ann", "law"),
        (["music"], "eve", "music"),
        (["tax"], "ann", "tax"),
        (["tax", "history"], "bob", "tax, history"),
        (["tax", "music"], "ann", "tax"),
        (["music", "cooking", "tax", "history"], "bob", "tax, history"),
        (["TAX", "History"], "bob", "TAX, History"),
    ],
)
def test_the_largest_overlap_gets_the_task(wanted: list[str], agent: str, shared: str) -> None:
    """Most of the wanted expertise wins, the first of equals; what nobody offers does not matter; the reason says what is shared."""
    made = assign_tasks([job("t", *wanted)], PEOPLE)["t"]
    assert made == Assignment("t", agent, f"by_expertise: offers {shared}")


def test_of_equals_the_first_of_the_agents_wins() -> None:
    """Turned round, the other one gets it."""
    assert who(assign_tasks([job("t", "tax")], [ANN, BOB])) == {"t": "ann"}
    assert who(assign_tasks([job("t", "tax")], [BOB, ANN])) == {"t": "bob"}


@pytest.mark.parametrize(
    ("wanted", "offered", "same"),
    [
        ("Marine Biology", "marine biology", True),
        ("marine  biology ", " marine\tbiology", True),
        ("marine-biology", "marine_biology", True),
        ("STRASSE", "straße", True),
        ("marinebiology", "marine biology", False),
        ("biology", "marine biology", False),
        ("marine biology", "biology", False),
        ("law", "laws", False),
    ],
)
def test_case_and_spacing_do_not_matter_and_words_do(wanted: str, offered: str, same: bool) -> None:
    """A term is compared as a whole."""
    found = best_fit([wanted], [person("ann", offered)])
    assert (found is not None) == same


def test_a_term_that_is_written_twice_counts_once() -> None:
    """Neither the task nor the agent gains by repeating itself."""
    agents = [person("ann", "law", "LAW", " law "), person("bob", "law", "tax")]
    assert who(assign_tasks([job("t", "law", "Law", "tax")], agents)) == {"t": "bob"}


@pytest.mark.parametrize("wanted", [[], ["cooking"]])
def test_nobody_fits_when_nothing_is_shared(wanted: list[str]) -> None:
    """No expertise fits nobody, also an agent that offers none."""
    assert best_fit(wanted, [*PEOPLE, person("max")]) is None
    assert best_fit(["law"], []) is None


def test_expertise_that_a_text_mentions() -> None:
    """What agents offer and the text holds as whole words, however it is written, in the agents' order; parts of words do not count."""
    assert mentioned("The LAW of taxes, and Music-History?", PEOPLE) == ["law", "history", "music"]
    assert mentioned("lawful musical", PEOPLE) == []


@pytest.mark.parametrize(
    ("tasks", "agents"),
    [
        (["a", "b", "c", "d"], ["ann", "bob", "eve", "ann"]),
        (["a"], ["ann"]),
        ([], []),
    ],
)
def test_round_robin_goes_round(tasks: list[str], agents: list[str]) -> None:
    """One after the other in the order of the agents, in the order of the tasks, whatever they want."""
    made = assign_tasks([job(name, "music") for name in tasks], PEOPLE, "round_robin")
    assert list(who(made).values()) == agents
    assert [one.reason for one in made.values()] == [f"round_robin: number {n % 3 + 1} of 3" for n in range(len(tasks))]


@pytest.mark.parametrize("strategy", ["explicit", "by_expertise", "round_robin", "least_loaded"])
def test_a_task_that_names_its_agent_keeps_it(strategy: str) -> None:
    """Whatever the strategy, the expertise and the load; also one that may not be picked."""
    tasks = [job("a", "music", agent="bob"), job("b", "music", agent="bob"), job("c", agent="max")]
    made = assign_tasks(tasks, PEOPLE, strategy)
    assert who(made) == {"a": "bob", "b": "bob", "c": "max"}
    assert {one.reason for one in made.values()} == {"named by the task"}


def test_a_named_task_takes_no_turn() -> None:
    """The next one without a name goes to whom it would have gone to."""
    assert who(assign_tasks([job("a"), job("b", agent="bob"), job("c")], PEOPLE, "round_robin")) == {"a": "ann", "b": "bob", "c": "bob"}


def test_explicit_wants_a_name() -> None:
    """Without one it is an error, for each task; by name all is well."""
    assert fault(jobs("a", "b"), PEOPLE, "explicit") == [
        ("tasks.a", "names no agent: write agent: NAME"),
        ("tasks.b", "names no agent: write agent: NAME"),
    ]


@pytest.mark.parametrize(
    ("tasks", "agents"),
    [
        ([job("a"), job("b"), job("c"), job("d")], ["ann", "bob", "eve", "ann"]),
        ([job("a"), job("b", agent="ann"), job("c", agent="bob")], ["eve", "ann", "bob"]),
        (
            [job("a"), job("b", agent="ann"), job("c", agent="ann"), job("d"), job("e"), job("f")],
            ["bob", "ann", "ann", "eve", "bob", "eve"],
        ),
    ],
)
def test_least_loaded_counts_tasks(tasks: list[TaskSpec], agents: list[str]) -> None:
    """The fewest so far, those that are named anywhere in the file included; of equals the first."""
    assert list(who(assign_tasks(tasks, PEOPLE, "least_loaded")).values()) == agents


def test_least_loaded_says_how_many_there_were() -> None:
    """The reason counts in plain English."""
    made = assign_tasks(jobs("a", "b", "c"), [ANN], "least_loaded")
    assert [one.reason for one in made.values()] == [f"least_loaded: {text} so far" for text in ("0 tasks", "1 task", "2 tasks")]


@pytest.mark.parametrize("field", ["context", "after"])
@pytest.mark.parametrize(
    ("waits", "agent"),
    [
        ({}, "ann"),
        ({"last": ["one"]}, "ann"),
        ({"last": ["two"]}, "bob"),
        ({"last": ["middle"], "middle": ["two"]}, "bob"),
        ({"two": ["last"]}, "bob"),
        ({"last": ["one", "two"]}, "ann"),
    ],
)
def test_of_equally_loaded_the_one_who_is_free_by_then(field: str, waits: Mapping[str, list[str]], agent: str) -> None:
    """A task goes to who has less that could run beside it: what comes before or after it, however far, does not count."""
    tasks = [job(name, agent=owner, **({field: waits[name]} if name in waits else {})) for name, owner in OWNED.items()]
    assert assign_tasks(tasks, [ANN, BOB], "least_loaded")["last"].agent == agent


OWNED = {"one": "ann", "two": "bob", "middle": "eve", "last": None}


def test_what_tasks_wait_for_may_be_said_apart() -> None:
    """`waits` replaces what the tasks say of themselves, as a sequence needs it; fewer tasks still go before freer ones."""
    tasks = [job("one", agent="ann"), job("two", agent="bob"), job("last", context=["two"])]
    assert assign_tasks(tasks, PEOPLE[:2], "least_loaded", waits={"last": ["one"]})["last"].agent == "ann"
    assert assign_tasks(tasks, PEOPLE[:2], "least_loaded", waits={})["last"].agent == "ann"
    assert assign_tasks(tasks, PEOPLE[:2], "least_loaded")["last"].agent == "bob"
    assert assign_tasks([*tasks, job("more", agent="bob")], PEOPLE[:2], "least_loaded")["last"].agent == "ann"


def test_a_ring_of_tasks_ends() -> None:
    """A cycle is told elsewhere; here it does no harm."""
    assert who(assign_tasks([job("a", after=["b"]), job("b", after=["a"])], [ANN, BOB], "least_loaded")) == {"a": "ann", "b": "bob"}


@pytest.mark.parametrize("manager", ["eve", EVE, person("max")])
def test_the_manager_takes_what_nobody_fits(manager: Any) -> None:
    """By name or as an object, also one who is not among the agents; what somebody fits goes there."""
    name = manager if isinstance(manager, str) else manager.name
    made = assign_tasks([job("a", "cooking"), job("b"), job("c", "law")], PEOPLE, "by_expertise", manager=manager)
    assert who(made) == {"a": name, "b": name, "c": "ann"}
    assert made["a"].reason == "by_expertise: wants cooking, which nobody offers; the manager takes it"
    assert made["b"].reason == "by_expertise: names no agent and wants no expertise; the manager takes it"


def test_without_a_manager_nobody_is_found() -> None:
    """Every such task is named at once, with what it wants, what each offers, and what to write; what fits is none of them."""
    advice = "write agent: NAME, other expertise, or delegation.manager"
    offered = "(ann: law, tax; bob: tax, history; max: nothing)"
    assert fault([job("a", "cooking", "golf"), job("b", "law"), job("c")], [ANN, BOB, person("max")], "by_expertise") == [
        ("tasks.a", f"wants cooking, golf, which nobody offers {offered}: {advice}"),
        ("tasks.c", f"names no agent and wants no expertise {offered}: {advice}"),
    ]


@pytest.mark.parametrize("strategy", ["by_expertise", "round_robin", "least_loaded"])
def test_with_nobody_to_pick_it_is_an_error(strategy: str) -> None:
    """A task that names its agent needs nobody to be picked."""
    assert fault(jobs("a"), [], strategy) == [("tasks.a", "names no agent, and there is none that may be picked (delegation.agents)")]
    assert who(assign_tasks([job("a", agent="ann")], [], strategy)) == {"a": "ann"}


def test_an_unknown_strategy_names_the_known_ones() -> None:
    """A wrong word is no SpecError: it stands in the code, not in a file."""
    with pytest.raises(ValueError, match="found 'fastest'") as caught:
        assign_tasks([], [], "fastest")
    assert not isinstance(caught.value, SpecError)
    assert str(caught.value).endswith("allowed: explicit | by_expertise | round_robin | least_loaded | hierarchical")
    assert [assign_tasks([], [], strategy) for strategy in STRATEGIES if strategy != "hierarchical"] == [{}] * 4


def test_a_manager_is_asked_for_and_must_exist() -> None:
    """Hierarchical without one, or one who is none of the agents, says what is missing; two tasks of one name are none."""
    with pytest.raises(ValueError, match="needs a manager"):
        assign_tasks([], [person("a")], "hierarchical")
    with pytest.raises(ValueError, match="the manager 'bos' is none of the agents: a, b"):
        assign_tasks([job("t", "x")], [person("a"), person("b")], "hierarchical", manager="bos")
    with pytest.raises(ValueError, match="two tasks have one name"):
        assign_tasks([job("t"), job("t")], [person("a")], "round_robin")


def test_a_manager_given_as_an_object_is_not_picked() -> None:
    """It takes what nobody fits, as when it is named, and has no turn of its own."""
    people, boss = [person("a"), person("b")], person("boss", "filing")
    tasks = [job("t1"), job("t2"), job("t3")]
    assert [one.agent for one in assign_tasks(tasks, people, "round_robin", manager=boss).values()] == ["a", "b", "a"]
    assert assign_tasks([job("t", "cooking")], people, "by_expertise", manager=boss)["t"].agent == "boss"


def test_signs_tell_expertise_apart() -> None:
    """C, C++ and C# are three things; case, spaces and hyphens make no difference."""
    people = [person("c", "C"), person("plus", "C++"), person("sharp", "C#"), person("web", "Web-Search")]
    wanted = {"C": "c", "c++": "plus", "c#": "sharp", "web search": "web"}
    assert {term: assign_tasks([job("t", term)], people, "by_expertise")["t"].agent for term in wanted} == wanted


def test_what_only_the_superior_offers_goes_up() -> None:
    """A manager cannot hand work up, so expertise above it is none that it can reach."""
    office = [person("chief", "law"), person("lead", reports_to="chief"), person("clerk", "filing", reports_to="lead")]
    assert assign_tasks([job("t", "law")], office, "hierarchical", manager="lead")["t"].agent == "chief"
    assert assign_tasks([job("t", "filing")], office, "hierarchical", manager="lead")["t"].agent == "lead"


def test_who_may_not_be_picked_is_passed_over_in_the_tree() -> None:
    """Whoever reports to somebody outside `delegation.agents` reports to the next above who may be picked."""
    people = {one.name: one for one in (person("boss"), person("mid", reports_to="boss"), person("low", reports_to="mid"))}
    assert reports_of(people, ["low"], "boss") == {"boss": ("low",)}
    assert reports_of(people, ["mid", "low"], "boss") == {"boss": ("mid",), "mid": ("low",)}


CHIEF, LEAD = person("chief"), person("lead", reports_to="chief")
CLERK = person("clerk", "filing", reports_to="lead")
OFFICE = [CHIEF, LEAD, CLERK]


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (job("t"), Assignment("t", "lead", "hierarchical: lead manages")),
        (job("t", "Filing"), Assignment("t", "lead", "hierarchical: lead manages")),
        (job("t", "cooking"), Assignment("t", "chief", "hierarchical: nobody offers cooking; chief, lead's superior, takes it")),
        (job("t", "cooking", "filing"), Assignment("t", "lead", "hierarchical: lead manages")),
        (job("t", agent="clerk"), Assignment("t", "lead", "hierarchical: lead hands it to clerk, whom the task names", "clerk")),
        (job("t", "cooking", agent="clerk"), Assignment("t", "lead", "hierarchical: lead hands it to clerk, whom the task names", "clerk")),
        (job("t", agent="lead"), Assignment("t", "lead", "named by the task")),
        (job("t", agent="chief"), Assignment("t", "chief", "named by the task")),
    ],
)
def test_in_a_hierarchy_the_manager_gets_it(task: TaskSpec, expected: Assignment) -> None:
    """To hand on as it likes, or to whom the task names; a task nobody fits goes up one step; above the manager nobody is handed anything."""
    assert assign_tasks([task], OFFICE, "hierarchical", manager="lead") == {"t": expected}


def test_a_manager_without_a_superior_keeps_what_nobody_fits() -> None:
    """There is nowhere to go up to."""
    assert (
        reason(job("t", "cooking"), [LEAD, CLERK], "hierarchical", manager="lead") == "hierarchical: nobody offers cooking; lead takes it"
    )


def test_what_the_manager_offers_itself_does_not_go_up() -> None:
    """Also when it is not among those who may be picked; what it does not offer does."""
    people = [CHIEF, person("lead", "cooking", reports_to="chief"), CLERK]
    office = {"strategy": "hierarchical", "manager": "lead", "agents": ["clerk"]}
    team = TeamSpec(agents=people, tasks=[job("a", "cooking"), job("b", "golf")], process="graph", delegation=office)
    assert who(assignments(team)[0]) == {"a": "lead", "b": "chief"}


def test_a_task_goes_up_one_step() -> None:
    """Not on to the superior's own superior."""
    board = [person("chair"), person("chief", reports_to="chair"), LEAD]
    assert who(assign_tasks([job("t", "cooking")], board, "hierarchical", manager="lead")) == {"t": "chief"}


def test_the_tree_of_a_manager() -> None:
    """Direct reports each; who says nothing reports to the manager; whom the manager reports to stands above it; who is not eligible is left out."""
    people = {agent.name: agent for agent in [*OFFICE, person("temp"), person("guest")]}
    tree = reports_of(people, ["chief", "lead", "clerk", "temp"], "lead")
    assert tree == {"lead": ("clerk", "temp"), "chief": ("lead",)}
    assert superiors(people, "clerk") == ["lead", "chief"]
    assert superiors(people, "temp") == []


def test_superiors_end_at_a_ring() -> None:
    """Also when it does not hold the agent itself."""
    people = {agent.name: agent for agent in [person("a", reports_to="b"), person("b", reports_to="c"), person("c", reports_to="b")]}
    assert superiors(people, "a") == ["b", "c"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_group_chat_is_assigned_to_nobody(strategy: str) -> None:
    """Its participants stand in the file; it takes no turn either."""
    tasks = [
        TaskSpec(name="talk", description="D", participants=["ann", "bob"]),
        job("a", agent="ann") if strategy == "explicit" else job("a", "law"),
    ]
    assert list(assign_tasks(tasks, PEOPLE, strategy, manager="eve")) == ["a"]


@pytest.mark.parametrize("strategy", ["round_robin", "least_loaded", "by_expertise"])
def test_only_those_who_may_be_picked_are(strategy: str) -> None:
    """In a team: `delegation.agents` in its order, else all who are not human, in the order of the file."""
    tasks = {task.name: task for task in (job("a", "tax"), job("b", "tax"), job("c", "tax"))}
    people = {agent.name: agent for agent in [person("me", "tax", human=True), *PEOPLE]}

    def picked(*names: str) -> set[str]:
        team = TeamSpec(agents=people, tasks=tasks, process="graph", delegation={"strategy": strategy, "agents": list(names)})
        made, problems = assignments(team)
        assert problems == []
        return set(who(made).values())

    assert picked() == ({"ann"} if strategy == "by_expertise" else {"ann", "bob", "eve"})
    assert picked("eve", "bob") == ({"bob"} if strategy == "by_expertise" else {"eve", "bob"})
    assert picked("me") == {"me"}


def test_in_a_sequence_each_task_waits_for_the_one_before() -> None:
    """So nothing there runs beside anything, and of equals the first gets the task; in a graph the free one does."""
    tasks = [job("a", agent="ann"), job("b", agent="bob"), job("c", context=["b"])]

    def third(process: Any) -> str:
        team = TeamSpec(agents=[ANN, BOB], tasks=tasks, process=process, delegation={"strategy": "least_loaded"})
        return assignments(team)[0]["c"].agent

    assert (third("sequential"), third("graph")) == ("ann", "bob")


def test_lists_and_mappings_mean_the_same() -> None:
    """As they stand in a TeamSpec, or by themselves."""
    tasks, agents = [job("a", "law"), job("b", "music")], PEOPLE
    by_name = assign_tasks({task.name: task for task in tasks}, {agent.name: agent for agent in agents})
    assert by_name == assign_tasks(iter(tasks), iter(agents)) == assign_tasks(tasks, agents)


TERMS = st.lists(st.sampled_from(["law", "tax", "Music", "music ", "history"]), max_size=3).map(tuple)
AGENTS = st.lists(TERMS, min_size=1, max_size=5).map(lambda offers: [person(f"p{n}", *terms) for n, terms in enumerate(offers)])


@st.composite
def _tasks(draw: st.DrawFn) -> list[TaskSpec]:
    """Tasks that want something and wait for earlier ones; some name an agent."""
    made: list[TaskSpec] = []
    for number in range(draw(st.integers(0, 8))):
        earlier = draw(st.lists(st.integers(0, max(0, number - 1)), max_size=2, unique=True)) if number else []
        agent = draw(st.sampled_from([None, None, None, "p0"]))
        made.append(job(f"t{number}", *draw(TERMS), agent=agent, context=[f"t{n}" for n in earlier]))
    return made


STRATEGY = st.sampled_from(["by_expertise", "round_robin", "least_loaded", "hierarchical"])


@given(tasks=_tasks(), agents=AGENTS, strategy=STRATEGY)
def test_every_task_has_somebody(tasks: list[TaskSpec], agents: list[AgentSpec], strategy: str) -> None:
    """Each in file order, done by its own agent, one who may be picked, or the manager; nothing that was given is changed."""
    before = copy.deepcopy((tasks, agents))
    made = assign_tasks(tasks, agents, strategy, manager=person("boss"))
    assert list(made) == [task.name for task in tasks]
    for task in tasks:
        allowed = {"boss"} if strategy == "hierarchical" else {task.agent} if task.agent else {"boss", *(agent.name for agent in agents)}
        assert made[task.name].agent in allowed
        assert made[task.name].delegate == (task.agent if strategy == "hierarchical" else None)
    assert (tasks, agents) == before


@given(tasks=_tasks(), agents=AGENTS, strategy=STRATEGY)
def test_the_same_is_assigned_the_same(tasks: list[TaskSpec], agents: list[AgentSpec], strategy: str) -> None:
    """A second time, and from copies."""
    first = assign_tasks(tasks, agents, strategy, manager=person("boss"))
    assert assign_tasks(tasks, agents, strategy, manager=person("boss")) == first
    assert assign_tasks(copy.deepcopy(tasks), copy.deepcopy(agents), strategy, manager=person("boss")) == first


@given(tasks=_tasks(), agents=AGENTS)
def test_turns_differ_by_one_at_most(tasks: list[TaskSpec], agents: list[AgentSpec]) -> None:
    """Round robin, counting what it hands out itself; least loaded, counting all tasks, among those who have none by name."""
    free = [task for task in tasks if task.agent is None]
    turns = Counter({agent.name: 0 for agent in agents})
    made = assign_tasks(tasks, agents, "round_robin")
    turns.update(made[task.name].agent for task in free)
    assert max(turns.values()) - min(turns.values()) <= 1
    loads = Counter({agent.name: 0 for agent in agents})
    loads.update(who(assign_tasks(tasks, agents, "least_loaded")).values())
    others = [count for name, count in loads.items() if name != "p0"] or [0]
    assert max(others) - min(others) <= 1
    assert max(others) <= loads["p0"] + 1


@given(tasks=_tasks(), agents=AGENTS)
def test_nobody_fits_better_than_who_was_picked(tasks: list[TaskSpec], agents: list[AgentSpec]) -> None:
    """By expertise: no agent shares more with the task, and none before it as much."""
    made = assign_tasks(tasks, agents, "by_expertise", manager=person("boss"))
    for task in tasks:
        if task.agent is None:
            scores = [len(_plain(task) & _plain(agent)) for agent in agents]
            expected = agents[scores.index(max(scores))].name if max(scores) else "boss"
            assert made[task.name].agent == expected


def _plain(spec: TaskSpec | AgentSpec) -> set[str]:
    return {term.strip().lower() for term in spec.expertise}
