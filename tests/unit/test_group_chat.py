"""Who speaks next in a group chat: the name in a model's answer, and what a function is given. No framework is needed for either."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from unified_agents import ScriptedModel, TeamSpec
from unified_agents.chat_models.providers import ModelConfig
from unified_agents.checks import check_team
from unified_agents.engine import engine
from unified_agents.group_chat import named
from unified_agents.messages import Message
from unified_agents.plan import make_plan
from unified_agents.walk import Seam, TaskOutcome

NAMES = ["ann", "Bob", "data-analyst", "Dr. Wu", "Mary Jane"]


@pytest.mark.parametrize("around", ["{}", " {}\n", '"{}"', "'{}'", "`{}`", "**{}**", "{}.", "{}:", "**{}**.", '"{}."'])
@pytest.mark.parametrize("name", NAMES)
def test_a_name_alone_is_that_name(name: str, around: str) -> None:
    """However it is quoted, marked, ended or written in capitals; it comes back as it stands in the list."""
    for written in (name, name.upper(), name.lower()):
        assert named(around.format(written), NAMES) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("I think ann should go next.", "ann"),
        ("Next: BOB!", "Bob"),
        ("Bob, because Bob knows it.", "Bob"),
        ("Let the data analyst look at it", "data-analyst"),
        ("The data_analyst, please", "data-analyst"),
        ("dr. wu should speak", "Dr. Wu"),
        ("1. Mary Jane", "Mary Jane"),
        ("(ann)", "ann"),
        ("Speaker:\n\nMary\nJane\n", "Mary Jane"),
        ("ann's turn", "ann"),
    ],
)
def test_the_only_name_in_a_sentence_is_that_name(text: str, name: str) -> None:
    """As whole words, whatever stands around or between them."""
    assert named(text, NAMES) == name


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("ann or Bob", "ann"),
        ("not ann but Bob", "ann"),
        ("Bob\nann", "Bob"),
        ("Bob said that Mary Jane is next", "Bob"),
        ("ann, Bob, data-analyst, Dr. Wu, Mary Jane", "ann"),
    ],
)
def test_several_names_are_none(text: str, first: str) -> None:
    """Which of them is meant, nobody can say; were only one of them in the chat, it would be that one."""
    assert named(text, NAMES) is None
    assert named(text, [first, "eve"]) == first


@pytest.mark.parametrize(
    "text", ["", " \n", "...", "nobody", "anna", "joann", "bobby", "analyst", "data", "Wu", "Mary", "Jane", "MaryJane", "Jane Mary"]
)
def test_a_text_without_a_name_names_nobody(text: str) -> None:
    """A part of a name is no name, and neither is a word that holds one."""
    assert named(text, NAMES) is None


@pytest.mark.parametrize(
    ("names", "text"), [(["Mary", "Mary Jane"], "Mary Jane"), (["ann", "Ann Lee"], '"ann lee".'), (["C", "C++"], "C++")]
)
def test_a_whole_answer_goes_before_a_part_of_it(names: list[str], text: str) -> None:
    """The longer name alone is meant when it is all that was said; so is the shorter one."""
    assert named(text, names) == names[1]
    assert named(names[0], names) == names[0]


def test_names_that_differ_in_capitals_alone_are_never_told_apart() -> None:
    """An answer that fits both names none of them; beside another name each is known."""
    assert named("ann", ["ann", "Ann"]) is None
    assert named("Ann", ["ann", "bob"]) == "ann"


def test_nobody_takes_part_and_nobody_is_named() -> None:
    """Without names there is none to find."""
    assert named("ann", []) is None


def held(selector: Callable[..., Any], rounds: int = 2) -> TaskOutcome:
    """The outcome of a chat of ann and bob whose speakers a function picks; each says its own name."""
    team = TeamSpec.model_validate(
        {
            "agents": {"ann": {"role": "A"}, "bob": {"role": "B"}},
            "tasks": {"talk": {"description": "D", "participants": ["ann", "bob"], "speaker_selection": selector, "max_rounds": rounds}},
        }
    )
    assert check_team(team) == []
    config = ModelConfig(alias="default", provider="vllm", name="x", base_url="http://localhost:8000/v1")
    model = ScriptedModel(lambda request: f"{request.agent} says {request.turn}")
    seam = Seam(make_plan(team, {}, {"ann": [config], "bob": [config]}), {"default": model}, selectors={"talk": selector})
    walk = seam.start()
    (step,) = walk.ready()
    while (conversation := walk.next_turn_blocking(step)) is not None:
        engine().run(conversation.answer_alone())
    return walk.finish(step)


GIVEN: list[tuple[Any, ...]] = []
"""What the function of a test was called with, call by call."""


@pytest.fixture(autouse=True)
def _nothing_given() -> None:
    GIVEN.clear()


def picked(*arguments: Any) -> str:
    """Note the arguments; pick bob."""
    GIVEN.append(arguments)
    return "bob"


def one(messages: Sequence[Message]) -> str:
    """Wants the turns."""
    return picked(messages)


def two(messages: Sequence[Message], participants: Sequence[str]) -> str:
    """Wants the names too."""
    return picked(messages, participants)


def positional(messages: Sequence[Message], participants: Sequence[str], /) -> str:
    """Takes them by position alone."""
    return picked(messages, participants)


def apart(messages: Sequence[Message], *, seed: int = 0) -> str:
    """Has an option of its own that is given by name alone."""
    return picked(messages)


def options(messages: Sequence[Message], **_: Any) -> str:
    """Takes any option."""
    return picked(messages)


def all_of_it(*arguments: Any) -> str:
    """Takes whatever there is."""
    return picked(*arguments)


async def later(messages: Sequence[Message], participants: Sequence[str]) -> str:
    """An async one."""
    return picked(messages, participants)


def seeded(seed: int, messages: Sequence[Message], participants: Sequence[str]) -> str:
    """Half of it is bound by `functools.partial`."""
    return picked(messages, participants)


class Picker:
    """An object that picks, called itself or by its methods."""

    def __call__(self, messages: Sequence[Message]) -> str:
        """One argument beside itself."""
        return picked(messages)

    def pick(self, messages: Sequence[Message], participants: Sequence[str]) -> str:
        """Two arguments beside itself."""
        return picked(messages, participants)

    @staticmethod
    def alone(messages: Sequence[Message]) -> str:
        """One argument, no self."""
        return picked(messages)


@pytest.mark.parametrize(
    ("selector", "count"),
    [
        (one, 1),
        (two, 2),
        (positional, 2),
        (apart, 1),
        (options, 1),
        (all_of_it, 2),
        (later, 2),
        (functools.partial(seeded, 7), 2),
        (functools.partial(apart, seed=7), 1),
        (Picker(), 1),
        (Picker().pick, 2),
        (Picker.alone, 1),
        (lambda messages: one(messages), 1),
        (lambda messages, names: two(messages, names), 2),
    ],
)
def test_a_function_is_given_what_it_takes(selector: Callable[..., Any], count: int) -> None:
    """The turns so far, and the names in the order of the file when it takes a second argument; what it returns speaks."""
    outcome = held(selector)
    assert (outcome.status, outcome.output) == ("completed", "bob says 1")
    assert [len(arguments) for arguments in GIVEN] == [count] * 2
    assert [[(turn.sender, turn.content) for turn in arguments[0]] for arguments in GIVEN] == [[], [("bob", "bob says 1")]]
    assert [arguments[1:] for arguments in GIVEN] == [(("ann", "bob"),) if count == 2 else ()] * 2


class NoSignature:
    """Something whose signature cannot be read, as of some functions written in C."""

    __signature__ = "none"

    def __call__(self, *arguments: Any) -> str:
        """Takes whatever there is."""
        return picked(*arguments)


def test_a_function_that_cannot_be_looked_at_gets_both() -> None:
    """Nothing is known of its parameters."""
    assert held(NoSignature()).status == "completed"
    assert [len(arguments) for arguments in GIVEN] == [2, 2]


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        (lambda messages: "bbo", "speaker_selection returned 'bbo', did you mean 'bob'?; allowed: ann, bob, or None to end"),
        (lambda messages: 5, "speaker_selection returned 5; allowed: ann, bob, or None to end"),
        (lambda messages: "", "speaker_selection returned ''; allowed: ann, bob, or None to end"),
        (lambda messages: "Bob", "speaker_selection returned 'Bob', did you mean 'bob'?; allowed: ann, bob, or None to end"),
        (lambda messages: 1 / 0, "speaker_selection failed: ZeroDivisionError: division by zero"),
        (lambda: "bob", "speaker_selection failed: TypeError: "),
        (lambda messages: None, "the group chat ended before anyone spoke"),
    ],
)
def test_a_function_that_picks_nobody_fails_the_task(selector: Callable[..., Any], said: str) -> None:
    """A stranger, something else than a name, an error of its own, or an end before the first turn."""
    outcome = held(selector)
    assert outcome.status == "failed"
    assert str(outcome.error).startswith(said)


def test_a_function_ends_the_chat_with_none() -> None:
    """After the turns that there were; without it the last round would end it."""
    turns: list[str | None] = ["ann", "bob", None]
    outcome = held(lambda messages: turns[len(messages)], rounds=5)
    assert (outcome.output, outcome.speaker) == ("bob says 1", "bob")
    assert held(lambda messages: "ann", rounds=5).output == "ann says 1"
