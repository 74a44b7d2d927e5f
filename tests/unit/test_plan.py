"""A plan: inputs bound, order and context settled, and what is left of it after a part has run."""

from __future__ import annotations

from typing import Any

import pytest

from unified_agents.chat_models.providers import ModelConfig
from unified_agents.checks import agents_in_use, check_team
from unified_agents.plan import Plan, bind_inputs, make_plan
from unified_agents.prompts import Earlier
from unified_agents.spec import TeamSpec

MODEL = ModelConfig(alias="default", provider="vllm", name="x", base_url="http://localhost:8000/v1")


def team(process: str | None = "graph", **tasks: dict[str, Any]) -> TeamSpec:
    """A checked team of one agent with these tasks."""
    written = {name: {"description": f"Do {name}", "agent": "a", **fields} for name, fields in tasks.items()}
    made = TeamSpec.model_validate({"agents": {"a": {"role": "R"}}, "tasks": written, "process": process})
    assert check_team(made) == []
    return made


def plan_of(made: TeamSpec, inputs: dict[str, Any] | None = None) -> Plan:
    """The plan of a team whose inputs are right."""
    values, problems = bind_inputs(made, inputs)
    assert problems == []
    return make_plan(made, values, {name: [MODEL] for name in agents_in_use(made)})


@pytest.mark.parametrize(
    ("made", "waits", "context"),
    [
        (team("graph", a={}, b={}), {"a": (), "b": ()}, {"a": (), "b": ()}),
        (team("graph", a={}, b={"context": ["a"]}), {"a": (), "b": ("a",)}, {"a": (), "b": ("a",)}),
        (team("graph", a={}, b={"after": ["a"]}), {"a": (), "b": ("a",)}, {"a": (), "b": ()}),
        (team("graph", a={}, b={"context": []}), {"a": (), "b": ()}, {"a": (), "b": ()}),
        (team(None, a={}, b={"context": []}), {"a": (), "b": ()}, {"a": (), "b": ()}),
        (team(None, a={}, b={"after": ["a"]}, c={}), {"a": (), "b": ("a",), "c": ()}, {"a": (), "b": (), "c": ()}),
        (team(None, a={}), {"a": ()}, {"a": ()}),
        (team("sequential", a={}, b={}, c={}), {"a": (), "b": ("a",), "c": ("b",)}, {"a": (), "b": ("a",), "c": ("a", "b")}),
        (team("sequential", a={}, b={}, c={"context": []}), {"a": (), "b": ("a",), "c": ("b",)}, {"a": (), "b": ("a",), "c": ()}),
        (
            team("sequential", a={}, b={}, c={"context": ["a"]}),
            {"a": (), "b": ("a",), "c": ("b", "a")},
            {"a": (), "b": ("a",), "c": ("a",)},
        ),
        (
            team("sequential", a={}, b={}, c={"after": ["a"]}),
            {"a": (), "b": ("a",), "c": ("b", "a")},
            {"a": (), "b": ("a",), "c": ("a", "b")},
        ),
    ],
)
def test_what_a_task_waits_for_and_sees(made: TeamSpec, waits: dict[str, tuple[str, ...]], context: dict[str, tuple[str, ...]]) -> None:
    """Absent context is nothing in a graph, everything earlier in a sequence; an empty one is nothing; `after` waits without seeing."""
    plan = plan_of(made)
    assert {step.name: step.waits for step in plan.steps} == waits
    assert {step.name: step.context for step in plan.steps} == context


@pytest.mark.parametrize(
    ("made", "final"),
    [
        (team(None, a={}), "a"),
        (team("graph", a={}, b={}), "b"),
        (team("graph", a={}, b={"context": ["a"]}), "b"),
        (team("graph", a={"context": ["b"]}, b={}), "a"),
        (team("graph", a={"after": ["b"]}, b={}), "a"),
        (team("graph", a={}, b={"context": ["a"]}, c={"context": ["a"]}, d={"context": ["c"]}, e={"after": []}), "e"),
        (team("graph", report={"context": ["x", "y"]}, x={}, y={}), "report"),
        (team("sequential", a={}, b={}, c={"context": []}), "c"),
    ],
)
def test_whose_output_the_run_has(made: TeamSpec, final: str) -> None:
    """The output is that of the last task in file order among those nothing depends on."""
    assert plan_of(made).final == final


DIAMOND = team("graph", end={"context": ["left", "right"]}, left={"context": ["start"]}, right={"after": ["start"]}, start={}, alone={})


def names(plan: Plan) -> list[str]:
    """The tasks of a plan in file order."""
    return [step.name for step in plan.steps]


def outputs(**texts: str) -> dict[str, Earlier]:
    """Outputs of tasks that ended."""
    return {name: Earlier(name, "somebody", text) for name, text in texts.items()}


def test_steps_stand_in_file_order_and_can_be_ordered() -> None:
    """`ordered` puts each task after what it waits for, and keeps file order otherwise."""
    plan = plan_of(DIAMOND)
    assert names(plan) == ["end", "left", "right", "start", "alone"]
    ordered = [step.name for step in plan.ordered]
    assert sorted(ordered) == sorted(names(plan))
    assert ordered.index("start") < ordered.index("left") < ordered.index("right") < ordered.index("end")
    assert [step.name for step in plan_of(team("graph", c={}, b={}, a={})).ordered] == ["c", "b", "a"]


def test_the_remainder_is_a_smaller_plan() -> None:
    """Completed tasks become given outputs; the rest can still be ordered, and the run's output stays the same one."""
    plan = plan_of(DIAMOND)
    rest = plan.remainder(outputs(start="S", right="R"))
    assert names(rest) == ["end", "left", "alone"]
    assert rest.given == outputs(start="S", right="R")
    assert [step.name for step in rest.ordered][-1] == "end"
    assert rest.step("end").context == ("left", "right")
    assert rest.final == plan.final == "alone"
    assert names(plan) == ["end", "left", "right", "start", "alone"]
    assert plan.given == {}


def test_remainders_add_up() -> None:
    """A remainder of a remainder knows all given outputs, down to the empty plan."""
    rest = plan_of(DIAMOND).remainder(outputs(start="S")).remainder(outputs(left="L", right="R"))
    assert names(rest) == ["end", "alone"]
    assert rest.given == outputs(start="S", left="L", right="R")
    empty = rest.remainder(outputs(end="E", alone="A"))
    assert (empty.steps, empty.ordered) == ((), ())
    assert plan_of(DIAMOND).remainder({}).steps == plan_of(DIAMOND).steps


@pytest.mark.parametrize(
    ("failed", "skipped"),
    [
        (["start"], {"left": "start", "right": "start", "end": "start"}),
        (["left"], {"end": "left"}),
        (["end"], {}),
        (["alone"], {}),
        ([], {}),
    ],
)
def test_what_hangs_on_a_failed_task(failed: list[str], skipped: dict[str, str]) -> None:
    """Everything downstream is found with its cause, through `context` and `after` alike, and nothing else."""
    assert plan_of(DIAMOND).downstream(failed) == skipped


def test_a_failed_task_is_not_its_own_victim() -> None:
    """A task that failed and hangs on another failed one is failed, not skipped."""
    assert plan_of(DIAMOND).downstream(["start", "left"]) == {"right": "start", "end": "left"}


def test_downstream_of_a_sequence_is_the_rest() -> None:
    """In a sequence all later tasks hang on the failed one, whatever they see."""
    plan = plan_of(team("sequential", a={}, b={}, c={"context": []}))
    assert plan.downstream(["a"]) == {"b": "a", "c": "a"}
    assert plan.downstream(["b"]) == {"c": "b"}


def test_an_unknown_step_is_a_key_error() -> None:
    """Looking up a step that is not there, or no longer, says so."""
    plan = plan_of(DIAMOND)
    assert plan.step("left").name == "left"
    with pytest.raises(KeyError):
        plan.step("lft")


WITH_INPUTS: dict[str, Any] = {
    "agents": {"a": {"role": "Expert in {topic}"}},
    "tasks": {"t": {"description": "Write {length} words", "agent": "a"}},
    "inputs": {"topic": {"description": "What about"}, "length": 1000},
}


def test_inputs_are_put_into_agents_and_tasks() -> None:
    """A step holds filled texts; the team keeps its placeholders."""
    made = TeamSpec(**WITH_INPUTS)
    step = plan_of(made, {"topic": "{length} {{x}}"}).step("t")
    assert (step.agent.role, step.task.description) == ("Expert in {length} {{x}}", "Write 1000 words")
    assert made.agents["a"].role == "Expert in {topic}"
    assert plan_of(made, {"topic": "AI", "length": 5}).step("t").task.description == "Write 5 words"


@pytest.mark.parametrize(
    ("inputs", "path", "words"),
    [
        (None, "inputs.topic", ["topic", "What about"]),
        ({}, "inputs.topic", ["topic"]),
        ({"topic": None}, "inputs.topic", ["topic"]),
        ({"topic": "AI", "lenght": 5}, "inputs.lenght", ["did you mean 'length'", "topic"]),
        ({"topic": "AI", "zzz": 5}, "inputs.zzz", ["length", "topic"]),
    ],
)
def test_missing_and_unknown_inputs_are_problems(inputs: dict[str, Any] | None, path: str, words: list[str]) -> None:
    """An input without default must be given, and a misspelt one is not ignored."""
    _, problems = bind_inputs(TeamSpec(**WITH_INPUTS), inputs)
    assert [problem.path for problem in problems] == [path]
    assert all(word in problems[0].message for word in words)


def test_all_input_problems_come_at_once() -> None:
    """A misspelt required input is both missing and unknown."""
    _, problems = bind_inputs(TeamSpec(**WITH_INPUTS), {"topc": "AI", "lenght": 1})
    assert sorted(problem.path for problem in problems) == ["inputs.lenght", "inputs.topc", "inputs.topic"]
    assert "did you mean 'topic'" in next(problem.message for problem in problems if problem.path == "inputs.topc")


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (False, "false"), ("", ""), ([1], "[1]"), ("é", "é")])
def test_falsy_values_and_defaults_count(value: object, text: str) -> None:
    """Zero, false and empty text are values, given or as defaults."""
    made = TeamSpec(**{**WITH_INPUTS, "inputs": {"topic": {"default": value}, "length": 1}})
    assert bind_inputs(made, {}) == ({"topic": text, "length": "1"}, [])
    assert bind_inputs(TeamSpec(**WITH_INPUTS), {"topic": value})[0]["topic"] == text


def test_a_python_team_without_inputs_infers_them() -> None:
    """What its texts ask for must be given, and nothing else may be."""
    made = TeamSpec(**{name: value for name, value in WITH_INPUTS.items() if name != "inputs"})
    assert bind_inputs(made, {"topic": "AI", "length": 5}) == ({"topic": "AI", "length": "5"}, [])
    assert [problem.path for problem in bind_inputs(made, {"topic": "AI"})[1]] == ["inputs.length"]
    assert [problem.path for problem in bind_inputs(made, {"topic": "AI", "length": 5, "tpic": 1})[1]] == ["inputs.tpic"]
