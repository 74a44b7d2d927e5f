"""Placeholders in texts: what is one, what is not, and how values are put in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unified_agents.spec import AgentSpec, TaskSpec
from unified_agents.texts import as_text, fill, filled, placeholders, texts_of


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("about {topic}", ["topic"]),
        ("{a}{b} and {a}", ["a", "b", "a"]),
        ("{_private} {with_2}", ["_private", "with_2"]),
        ("({topic})", ["topic"]),
    ],
)
def test_a_letter_or_underscore_first_is_a_placeholder(text: str, names: list[str]) -> None:
    """`{name}` is found wherever it stands in a text."""
    assert placeholders(text) == names


PLAIN = [
    '{"title": "x", "n": 1}',
    "{}",
    "{ }",
    "{1}",
    "{0} and {1}",
    "{ topic }",
    "{a-b}",
    "{a.b}",
    "{a b}",
    "{topic",
    "topic}",
    "{a:>5}",
    "{a!r}",
    "{x: 1}",
    "[{}]",
    "{ü}",
    "100%",
]


@pytest.mark.parametrize("text", PLAIN)
def test_all_other_braces_are_text(text: str) -> None:
    """JSON, numbers and format marks stay what they are."""
    assert placeholders(text) == []
    assert fill(text, {"topic": "wrong", "a": "wrong", "x": "wrong"}) == text


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{{topic}}", "{topic}"),
        ("{{topic}} is {topic}", "{topic} is AI"),
        ('{"key": "{topic}"}', '{"key": "AI"}'),
        ('{"a": {"b": "{{topic}}"}}', '{"a": {"b": "{topic}"}}'),
        ("{topic}{topic}", "AIAI"),
        ("{{other}}", "{other}"),
        ("{{}} {{1}} {{a b}}", "{{}} {{1}} {{a b}}"),
    ],
)
def test_double_braces_are_a_literal_name(text: str, result: str) -> None:
    """`{{name}}` becomes `{name}`, and needs no value."""
    assert fill(text, {"topic": "AI"}) == result


def test_a_literal_is_no_placeholder() -> None:
    """`{{name}}` asks for no input."""
    assert placeholders("{{topic}} and {{other}}") == []


@pytest.mark.parametrize("value", ["{other}", "{topic}", "{{other}}", "${HOME}", "\\1 \\g<0>", "%s", "{", "a\nb", ""])
def test_values_are_never_scanned_again(value: str) -> None:
    """What a user gives as input is put in as it stands."""
    assert fill("[{topic}|{other}]", {"topic": value, "other": "secret"}) == f"[{value}|secret]"


@given(value=st.text(), other=st.text())
def test_any_value_is_put_in_whole(value: str, other: str) -> None:
    """No text whatsoever changes on its way into a prompt."""
    assert fill("<{a}> <{b}> {{a}}", {"a": value, "b": other}) == f"<{value}> <{other}> {{a}}"


@pytest.mark.parametrize(
    ("value", "text"),
    [("text", "text"), (1000, "1000"), (0.5, "0.5"), (True, "true"), (["ä", 1], '["ä", 1]'), ({"k": None}, '{"k": null}'), ("", "")],
)
def test_inputs_that_are_no_text_read_as_json(value: object, text: str) -> None:
    """A number, list or mapping reads in a prompt as its JSON."""
    assert as_text(value) == text


AGENT = AgentSpec(
    name="{x}",
    role="r {x}",
    goal="g {x}",
    backstory="b {x}",
    instructions="i {x}",
    expertise=("e {x}",),
    responsibilities=("one", "s {x}"),
    personality={"tone": "t {x}"},
)
TASK = TaskSpec(name="{x}", description="d {x}", expected_output="o {x}", agent="{x}", expertise=("e {x}",))


FILLED_AGENT, FILLED_TASK = filled(AGENT, {"x": "AI"}), filled(TASK, {"x": "AI"})


@pytest.mark.parametrize(
    ("spec", "done", "where"),
    [
        (AGENT, FILLED_AGENT, {"role", "goal", "backstory", "instructions", "expertise[0]", "responsibilities[1]", "personality.tone"}),
        (TASK, FILLED_TASK, {"description", "expected_output", "expertise[0]"}),
    ],
)
def test_every_text_of_agents_and_tasks_takes_placeholders(spec: AgentSpec | TaskSpec, done: AgentSpec | TaskSpec, where: set[str]) -> None:
    """Each text is found under its path and filled; names are not texts."""
    assert {path for path, text in texts_of(spec) if placeholders(text)} == where
    assert {text for _, text in texts_of(done) if "AI" in text} == {
        text.replace("{x}", "AI") for _, text in texts_of(spec) if "{x}" in text
    }
    assert not any(placeholders(text) for _, text in texts_of(done))
    assert done.name == "{x}"


def test_filling_leaves_the_spec_alone() -> None:
    """A spec can be run again with other inputs."""
    assert filled(AGENT, {"x": "AI"}).role == "r AI"
    assert AGENT.role == "r {x}"
    assert filled(AGENT, {"x": "ML"}).role == "r ML"
