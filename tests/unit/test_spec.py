"""Teams written in Python: objects or names, lists or mappings, frozen and strict; secrets stay secret."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel, ValidationError

from unified_agents.memory import AgentMemory, open_store
from unified_agents.spec import (
    AgentSpec,
    DelegationSpec,
    InputSpec,
    JournalSpec,
    McpSpec,
    MemorySpec,
    ModelSpec,
    TaskSpec,
    TeamSpec,
    ToolSpec,
    team_schema,
)

CANARY = "sk-canary-4711"


def agent(name: str, **fields: Any) -> AgentSpec:
    """An agent, its other fields as a user writes them."""
    return AgentSpec(name=name, **{"role": f"The {name}", **fields})


def task(name: str, **fields: Any) -> TaskSpec:
    """A task, its other fields as a user writes them."""
    return TaskSpec(name=name, **{"description": f"Do {name}", **fields})


def team(**fields: Any) -> TeamSpec:
    """A team, its fields as a user writes them."""
    return TeamSpec(**fields)


def test_objects_stand_where_names_may() -> None:
    """A team of objects is the team of their names, and the agents need no second listing."""
    writer, lead = agent("writer"), agent("lead")
    researcher = agent("researcher", fallback=writer, reports_to=lead, delegates_to=[writer, lead])
    research = task("research", agent=researcher)
    write = task("write", agent=writer, context=[research], after=[research])
    made = team(tasks=[research, write])
    assert made.tasks["research"].agent == "researcher"
    assert (made.tasks["write"].context, made.tasks["write"].after) == (("research",), ("research",))
    assert (made.agents["researcher"].fallback, made.agents["researcher"].reports_to) == ("writer", "lead")
    assert made.agents["researcher"].delegates_to == ("writer", "lead")
    assert set(made.agents) == {"researcher", "writer", "lead"}
    assert made.agents["lead"].role == "The lead"


NEW = agent("new")


@pytest.mark.parametrize(
    "fields",
    [
        {"tasks": [task("t", agent=NEW)]},
        {"tasks": [task("t", participants=[NEW])]},
        {"tasks": [task("t", agent=agent("a", fallback=NEW))]},
        {"tasks": [task("t", agent=agent("a", reports_to=NEW))]},
        {"tasks": [task("t", agent=agent("a", delegates_to=[NEW]))]},
        {"tasks": [task("t", agent=agent("a", fallback=agent("b", fallback=agent("c", fallback=NEW))))]},
        {"agents": [agent("a", fallback=NEW)], "tasks": [task("t", agent="a")]},
        {"agents": {"a": agent("a", fallback=NEW)}, "tasks": {"t": task("t", agent="a")}},
        {"agents": [NEW], "tasks": [task("t", agent=NEW)]},
        {"tasks": [task("t", agent="a")], "delegation": DelegationSpec(strategy="hierarchical", manager=NEW)},  # type: ignore[arg-type]  # objects or names
        {"tasks": [task("t")], "delegation": {"strategy": "round_robin", "agents": [NEW]}},
        {"tasks": [{"name": "t", "description": "D", "agent": NEW}]},
        {"tasks": {"t": {"description": "D", "agent": NEW}}},
    ],
)
def test_agents_are_gathered_wherever_they_are_held(fields: dict[str, Any]) -> None:
    """However deep an agent object is held, the team knows it."""
    assert team(**fields).agents["new"] == NEW


def test_a_name_alone_gathers_nothing() -> None:
    """Only objects bring their agents along."""
    assert team(tasks=[task("t", agent="new")]).agents == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"tasks": [task("one", agent=agent("twin")), task("two", agent=agent("twin", goal="Other"))]},
        {"agents": [agent("twin", goal="Other")], "tasks": [task("one", agent=agent("twin"))]},
        {"tasks": [task("one", agent=agent("a", fallback=agent("twin"))), task("two", agent=agent("twin", goal="Other"))]},
        {"agents": [agent("twin"), agent("twin", goal="Other")], "tasks": [task("one", agent="twin")]},
        {"agents": [{"name": "twin", "role": "R"}, {"name": "twin", "role": "S"}], "tasks": [task("one", agent="twin")]},
        {"tasks": [task("twin", agent=agent("a")), task("twin", description="Other", agent="a")]},
    ],
)
def test_two_different_things_of_one_name_are_refused(fields: dict[str, Any]) -> None:
    """Nobody wins silently when two agents or tasks share a name."""
    with pytest.raises(ValueError, match="twin"):
        team(**fields)


def test_one_agent_may_do_many_tasks() -> None:
    """The same object, or an equal one, is one agent."""
    same = agent("same")
    assert list(team(tasks=[task("one", agent=same), task("two", agent=same), task("three", agent=agent("same"))]).agents) == ["same"]


@pytest.mark.parametrize("value", [{"name": "other", "role": "R"}, agent("other")], ids=["fields", "object"])
def test_a_key_and_a_name_that_disagree_are_refused(value: object) -> None:
    """`agents={"writer": …}` holds the agent called writer."""
    with pytest.raises(ValueError, match="other"):
        team(agents={"writer": value}, tasks=[task("t", agent="writer")])


def test_lists_and_mappings_are_the_same_team() -> None:
    """Every mapping of named things may be written as a list of them, in the same order."""
    named: dict[str, dict[str, Any]] = {
        "inputs": {"topic": {"default": "AI"}, "length": {"default": 1}},
        "models": {"default": {"model": "openai/x"}, "small": {"model": "local/y"}},
        "agents": {"b": {"role": "R"}, "a": {"role": "S"}},
        "tasks": {"two": {"description": "D", "agent": "a"}, "one": {"description": "E", "agent": "b", "context": ["two"]}},
        "tools": {"t": {"python": "my_tools:t"}},
    }
    listed = {section: [{"name": name, **fields} for name, fields in items.items()] for section, items in named.items()}
    assert team(**listed) == team(**named)
    assert list(team(**listed).tasks) == ["two", "one"]


@pytest.mark.parametrize("section", ["inputs", "models", "agents", "tasks", "tools"])
def test_an_item_of_a_list_needs_its_name(section: str) -> None:
    """A nameless thing in a list is refused."""
    with pytest.raises(ValueError, match="name"):
        team(**{section: [{"description": "D"}]})


def test_shorthands_are_written_out() -> None:
    """A text is a model, a value is an input's default, `true` means the defaults and `false` means none."""
    made = team(
        models={"default": "openai/x"}, inputs={"n": 1000, "flag": False, "items": ["a"], "needed": None}, memory=True, journal=True
    )
    assert made.models == {"default": ModelSpec(model="openai/x")}
    assert made.inputs["n"] == InputSpec(default=1000)
    assert (made.inputs["flag"].default, made.inputs["items"].default) == (False, ["a"])
    assert (made.inputs["needed"].required, made.inputs["flag"].required) == (True, False)
    assert (made.memory, made.journal) == (MemorySpec(), JournalSpec())
    off = team(memory=False, journal=False)
    assert (off.memory, off.journal) == (None, None)
    assert agent("a", model="openai/x") == agent("a", model=["openai/x"])


class Half:
    """A store that can do no more than look up."""

    async def recall(self) -> None:
        """See `MemoryStore`."""


@pytest.mark.parametrize(
    ("store", "told"),
    [
        (AgentMemory(":memory:"), "found an AgentMemory, expected what it is kept in: its `store`"),
        (Half(), "found Half, which lacks add, items, forget, close; expected sqlite:///FILE"),
        (7, "found int; expected sqlite:///FILE"),
    ],
)
def test_what_is_no_memory_store_is_refused_at_once(store: Any, told: str) -> None:
    """Not in the midst of a run; what an AgentMemory is kept in is one."""
    with pytest.raises(ValidationError, match=re.escape(told)):
        team(memory={"store": store})
    assert team(memory={"store": open_store(":memory:")}).memory is not None


def test_recall_has_room_for_something() -> None:
    """Its heading alone takes 40 tokens."""
    with pytest.raises(ValidationError, match="greater than or equal to 64"):
        team(memory={"recall": {"tokens": 63}})
    assert team(memory={"recall": {"tokens": 64}}).memory is not None


def test_the_documented_defaults() -> None:
    """What the documentation shows as default is the default."""
    memory = MemorySpec()
    assert (memory.store, memory.short_term, memory.episodes, memory.recall.items, memory.recall.tokens) == (
        "sqlite:///memory.db",
        10,
        100,
        5,
        500,
    )
    assert (memory.tools, memory.semantic, memory.required) == (True, False, True)
    assert (JournalSpec().store, JournalSpec().required) == ("sqlite:///runs.db", True)
    made = team(limits={}, resilience={"retry": {}, "circuit_breaker": {}}, token_window={"limit": 10}, delegation={})
    assert made.limits is not None
    assert made.limits.model_dump() == {
        "tool_calls": 100,
        "tool_errors": 3,
        "delegation_depth": 3,
        "messages": 50,
        "output_bytes": 1_000_000,
    }
    assert made.resilience is not None
    assert made.resilience.model_dump() == {
        "retry": {"max_attempts": 4, "base_delay": 1.0, "max_delay": 60.0},
        "circuit_breaker": {"failure_threshold": 5, "failure_rate": 0.5, "window": 30.0, "recovery_time": 10.0},
        "timeout": 60.0,
        "fallback_models": (),
    }
    assert made.token_window is not None
    assert made.token_window.strategy == "drop_oldest"
    assert made.delegation is not None
    assert made.delegation.strategy == "explicit"
    assert (made.prompts, made.stream, made.process, made.memory) == ("native", False, None, None)
    assert (agent("a").memory, agent("a").messaging, agent("a").human) == (True, False, False)
    assert task("t").context is None


def test_a_spec_is_frozen_and_closed() -> None:
    """A spec cannot be changed by accident, nor take a misspelt field."""
    with pytest.raises(ValidationError, match="frozen"):
        agent("a").role = "Other"
    with pytest.raises(ValidationError, match="backstroy"):
        agent("a", backstroy="x")


@pytest.mark.parametrize(
    "fields",
    [
        {"max_iterations": "5"},
        {"max_iterations": 5.0},
        {"max_iterations": True},
        {"max_iterations": 0},
        {"human": "yes"},
        {"human": 1},
        {"role": 5},
        {"personality": {"humour": 7}},
    ],
)
def test_types_are_strict(fields: dict[str, Any]) -> None:
    """Nothing is converted behind the user's back."""
    with pytest.raises(ValidationError, match=next(iter(fields))):
        agent("a", **fields)


def test_whole_numbers_stand_for_floats() -> None:
    """`timeout: 600` is no type error."""
    assert task("t", timeout=600).timeout == 600.0
    assert ModelSpec(model="openai/x", temperature=0).temperature == 0.0


def test_python_objects_are_taken_as_they_are() -> None:
    """Functions as tools and guardrails, classes as schemas, need no reference."""

    class Article(BaseModel):
        """An answer."""

        title: str

    def search(query: str) -> str:
        """Search."""
        return query

    assert agent("a", tools=[search, "named"]).tools == (search, "named")
    made = task("t", agent="a", output_schema=Article, guardrail=search)
    assert (made.output_schema, made.guardrail) == (Article, search)


def texts_of(value: object) -> str:
    """Everything a user may print of a value."""
    return f"{value!r} {value!s} {value:}"


@pytest.mark.parametrize(
    "spec",
    [
        ModelSpec(model="openai/x", api_key=CANARY),  # type: ignore[arg-type]  # a text is what users write
        ModelSpec(model="openai/x", extra_headers={"Authorization": CANARY}),  # type: ignore[dict-item]  # as above
        McpSpec(url="http://host", headers={"Authorization": CANARY}),  # type: ignore[dict-item]  # as above
        McpSpec(command="npx", env={"TOKEN": CANARY}),  # type: ignore[dict-item]  # as above
    ],
    ids=["api_key", "extra_headers", "mcp headers", "mcp env"],
)
def test_secrets_are_never_shown(spec: BaseModel) -> None:
    """Neither a spec nor a team that holds it shows a key, printed or dumped as JSON."""
    assert CANARY in str(
        spec.__dict__["api_key"].get_secret_value() if "api_key" in spec.model_fields_set else [v.get_secret_value() for v in secrets(spec)]
    )
    held = team(models={"default": spec}) if isinstance(spec, ModelSpec) else team(tools={"x": ToolSpec(name="x", mcp=spec)})  # type: ignore[arg-type]  # an McpSpec
    for shown in (
        texts_of(spec),
        texts_of(held),
        texts_of(held.model_dump()),
        held.model_dump_json(),
        json.dumps(held.model_dump(mode="json")),
    ):
        assert CANARY not in shown


def secrets(spec: BaseModel) -> list[Any]:
    """The secret values in the spec's mappings."""
    return [value for field in ("extra_headers", "headers", "env") for value in getattr(spec, field, {}).values()]


@pytest.mark.parametrize(
    "fields",
    [
        {"api_key": CANARY},
        {"model": "openai/x", "api_key": [CANARY]},
        {"model": "openai/x", "api_key": {"key": CANARY}},
        {"model": "openai/x", "extra_headers": CANARY},
        {"model": "openai/x", "extra_headers": {"X": [CANARY]}},
        {"extra_headers": {"X": CANARY}},
    ],
)
def test_errors_never_show_secrets(fields: dict[str, Any]) -> None:
    """A model that is written wrong in Python does not print the key that stands beside the fault."""
    with pytest.raises(ValidationError) as caught:
        team(models={"default": fields})
    assert "default" in str(caught.value)
    assert CANARY not in texts_of(caught.value)


def test_the_schema_is_a_json_schema() -> None:
    """`unified-agents schema` prints a valid JSON Schema."""
    schema = team_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema


SMALL: dict[str, Any] = {"agents": {"a": {"role": "R"}}, "tasks": {"t": {"description": "D", "agent": "a"}}}


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({}, True),
        ({"agents": [{"name": "a", "role": "R"}]}, True),
        ({"models": {"default": "openai/x"}}, True),
        ({"inputs": {"length": 1000}}, True),
        ({"memory": True, "journal": False}, True),
        ({"agents": {"a": {"role": "R", "model": ["x", "y"]}}}, True),
        ({"tasks": {"t": {"description": "D", "agent": "a", "context": []}}}, True),
        ({"tools": {"web": {"python": "m:C", "with": {"n": 1}}}}, True),
        ({"agnets": {}}, False),
        ({"process": "parallel"}, False),
        ({"agents": {"a": {"role": "R", "llm": "x"}}}, False),
        ({"agents": {"a": {"role": 5}}}, False),
        ({"tasks": {"t": {"agent": "a"}}}, False),
        ({"models": {"default": {"temperature": 1}}}, False),
        ({"tools": {"web": {"python": "m:C", "with_": {"n": 1}}}}, False),
    ],
)
def test_the_schema_says_what_the_loader_says(change: dict[str, Any], valid: bool) -> None:
    """An editor that knows the schema marks what loading would refuse, and only that."""
    data = {**SMALL, **change}
    assert jsonschema.Draft202012Validator(team_schema()).is_valid(data) is valid
    if valid:
        assert TeamSpec.model_validate(data)
    else:
        with pytest.raises(ValidationError):
            TeamSpec.model_validate(data)
