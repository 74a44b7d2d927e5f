"""Keys, fingerprints and what is answered from the record of earlier sessions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_agents.chat_models import ChatRequest, Message, ToolCall
from unified_agents.chat_models.providers import ModelConfig
from unified_agents.errors import JournalError, ToolError
from unified_agents.events import (
    CallReplayed,
    Event,
    MessageSent,
    MessagesRead,
    ModelAnswered,
    ReplayDiverged,
    ReviewDecided,
    ToolCalled,
    ToolStarted,
)
from unified_agents.post import Post
from unified_agents.recorded import Recorded, canonical, confirmation_key, digest, review_key, tool_keys
from unified_agents.review import Review
from unified_agents.spec import LimitsSpec
from unified_agents.tools import Tool
from unified_agents.tools.desk import Record, Tally, ToolDesk

TEXT = st.text(max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT, lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXT, v, max_size=3), max_leaves=8
)
ARGUMENTS = st.dictionaries(TEXT, JSON, max_size=3)
CALLS = st.lists(st.tuples(st.sampled_from(["lookup", "wipe"]), ARGUMENTS), max_size=6)
ROLES = st.sampled_from(["system", "user", "assistant"])
MESSAGES = st.lists(st.fixed_dictionaries({"role": ROLES, "content": TEXT}), min_size=1, max_size=5)
MODEL = ModelConfig(alias="default", provider="openai", name="m", base_url="http://127.0.0.1:1/v1")


def request(messages: Sequence[Message], turn: int = 1, conversation: str = "t.1/ann", **fields: Any) -> ChatRequest:
    """A call of a conversation."""
    return ChatRequest(model=MODEL, messages=messages, task="t", agent="ann", conversation=conversation, turn=turn, **fields)


def fingerprint(asked: ChatRequest) -> str:
    """What a fresh session calls it."""
    return Recorded().answer(asked)[1]


def answered(asked: ChatRequest, text: str = "A") -> ModelAnswered:
    """The record of a call."""
    key, made, _ = Recorded().answer(asked)
    return ModelAnswered(task="t", agent="ann", key=key, fingerprint=made, model="openai/m", text=text)


def say(*texts: str) -> list[Message]:
    """Messages."""
    return [{"role": "user", "content": text} for text in texts]


def reordered(value: Any) -> Any:
    """The same JSON with its keys in another order."""
    if isinstance(value, Mapping):
        return {key: reordered(value[key]) for key in reversed(list(value))}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@given(JSON, JSON)
def test_a_digest_is_of_the_value_alone(one: Any, two: Any) -> None:
    """Not of the order of keys; different values have different ones (1 and True are different in JSON)."""
    assert digest(one) == digest(reordered(one))
    assert (canonical(one) == canonical(two)) == (json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True))


@given(CALLS, st.randoms(use_true_random=False))
def test_tool_keys_name_calls_and_not_positions(calls: list[tuple[str, dict[str, Any]]], dice: Any) -> None:
    """All different; in any order the same set, and each call has the same key but for which of several equal ones it is."""
    keys = tool_keys("t.1/ann", 3, calls)
    assert len(set(keys)) == len(calls)
    shuffled = list(calls)
    dice.shuffle(shuffled)
    assert set(tool_keys("t.1/ann", 3, shuffled)) == set(keys)
    assert not set(keys) & set(tool_keys("t.1/ann", 4, calls))
    assert not set(keys) & set(tool_keys("t.2/ann", 3, calls))
    assert len({confirmation_key(key) for key in keys}) == len(keys)


@given(MESSAGES, MESSAGES)
def test_fingerprints_are_of_what_is_asked(one: list[Message], two: list[Message]) -> None:
    """Equal for equal requests, different for others; tools, format and model are part of it, and the order of messages."""
    assert fingerprint(request(one)) == fingerprint(request([dict(reversed(list(message.items()))) for message in one]))
    assert (fingerprint(request(one)) == fingerprint(request(two))) == (one == two)
    tool = {"type": "function", "function": {"name": "lookup"}}
    changes: list[dict[str, Any]] = [
        {"tools": [tool]},
        {"response_format": {"type": "json_object"}},
        {"model": replace(MODEL, name="n")},
    ]
    made = [fingerprint(replace(request(one), **change)) for change in changes]
    assert len({fingerprint(request(one)), *made}) == 4


@settings(max_examples=50)
@given(MESSAGES, st.lists(MESSAGES, max_size=4))
def test_a_growing_conversation_has_the_fingerprints_of_its_requests(first: list[Message], more: list[list[Message]]) -> None:
    """What is kept of earlier turns is never stale: also when a request is repeated, or holds a last message that the next one does not."""
    book, messages = Recorded(), list(first)
    for turn, grown in enumerate([[], *more], 1):
        messages = [*messages, *grown]
        for asked in (request(messages, turn), request([*messages, *say("last call")], turn), request(messages, turn)):
            assert book.answer(asked)[1] == fingerprint(asked)
    other = request(say("another conversation of the same key"))
    assert book.answer(other)[1] == fingerprint(other)


def test_an_answer_is_given_while_the_conversation_is_the_same() -> None:
    """From the first difference on nothing is, which is said once; other conversations go on."""
    asked = [request(say("1")), request(say("1", "2"), 2), request(say("1", "2", "3"), 3)]
    elsewhere = request(say("1"), conversation="u.1/ann")
    events: list[Event] = []
    book = Recorded([*(answered(one, f"A{one.turn}") for one in asked), answered(elsewhere, "B")], events.append)
    first = book.answer(asked[0])[2]
    assert first is not None
    assert first.text == "A1"
    assert book.answer(request(say("1", "X"), 2))[2] is None
    assert book.answer(asked[2])[2] is None
    second = book.answer(elsewhere)[2]
    assert second is not None
    assert second.text == "B"
    assert [event.type for event in events] == ["CallReplayed", "ReplayDiverged", "CallReplayed"]


def test_what_followed_a_replaced_answer_is_no_record_any_more() -> None:
    """A second session that went another way and stopped leaves no answers of the first behind its own."""
    first = [answered(request(say("1")), "A1"), answered(request(say("1", "2"), 2), "A2"), answered(request(say("1", "2", "3"), 3), "A3")]
    events: list[Event] = []
    book = Recorded([*first, answered(request(say("1", "X"), 2), "X2")], events.append)
    assert [book.answer(request(texts, n))[2] is not None for n, texts in ((1, say("1")), (2, say("1", "X")), (3, say("1", "X", "Y")))] == [
        True, True, False,
    ]  # fmt: skip
    assert [type(event) for event in events] == [CallReplayed, CallReplayed]


def tool_called(key: str, result: str | None = "R") -> ToolCalled:
    """The record of a tool call."""
    return ToolCalled(task="t", agent="ann", tool="lookup", duration_s=0.1, key=key, result=result)


def test_a_tools_result_answers_its_call_once() -> None:
    """By its key; in a live conversation the same call of any turn, in another conversation never."""
    (key,) = tool_keys("t.1/ann", 2, [("lookup", {"q": "x"})])
    (later,) = tool_keys("t.1/ann", 5, [("lookup", {"q": "x"})])
    (other,) = tool_keys("t.1/ann", 5, [("lookup", {"q": "y"})])
    events = [answered(request(say("1"))), tool_called(key)]
    book = Recorded(events)
    assert book.tool("t", "ann", later) is None
    assert book.tool("t", "ann", key) is not None
    assert book.tool("t", "ann", key) is None
    live = Recorded(events)
    live.answer(request(say("X")))
    assert live.tool("t", "ann", other) is None
    assert live.tool("t", "ann", later) is not None
    assert live.tool("t", "ann", key) is None
    assert Recorded([tool_called(key, None)]).tool("t", "ann", key) is None


@pytest.mark.parametrize(("ends", "unfinished"), [([], True), (["R"], False), ([None], True), (["R", "begun"], True)])
def test_unfinished_calls(ends: list[str | None], unfinished: bool) -> None:
    """Begun, and without a result; begun again after one counts; without side effects nobody minds."""
    for side_effects in (True, False):
        begun = ToolStarted(task="t", agent="ann", tool="lookup", key="k:1/lookup.x", arguments={}, side_effects=side_effects)
        events = [begun, *(begun if end == "begun" else tool_called("k:1/lookup.x", end) for end in ends)]
        assert bool(Recorded(events).unfinished) == (unfinished and side_effects)


def test_a_decision_is_of_its_question() -> None:
    """Another answer to review, or another turn, is another question; of two equal calls each has its own decision."""
    asked = Review("answer", "t", "ann", "DRAFT")
    decided = ReviewDecided(task="t", agent="ann", kind="answer", key=review_key("t.1/ann", 2, asked), approved=False, comment="no")
    book = Recorded([decided])
    assert book.decision(review_key("t.1/ann", 2, replace(asked, content="OTHER")), asked) is None
    assert book.decision(review_key("t.1/ann", 3, asked), asked) is None
    known = book.decision(review_key("t.1/ann", 2, asked), asked)
    assert known is not None
    assert (known.approved, known.comment) == (False, "no")
    one, two = (confirmation_key(key) for key in tool_keys("t.1/ann", 2, [("wipe", {}), ("wipe", {})]))
    book = Recorded([replace(decided, key=one, approved=True), replace(decided, key=two, approved=False)])
    assert [getattr(book.decision(key, asked), "approved", None) for key in (one, two)] == [True, False]


class Mail:
    """An earlier session in which ann wrote to bob, who read it in the second call of task u."""

    def __init__(self, *, answered_too: bool = True, turns: int = 2) -> None:
        told: list[Event] = []
        post = Post(["ann", "bob"], told.append)
        post.begin("t")
        post.send("t", "ann", "bob", "HELLO", "direct", carried=True)
        post.begin("u")
        post.receive("bob", "u", "u.1/bob:2")
        assert [type(event) for event in told] == [MessageSent, MessagesRead]
        asked = [request(say(*"12345"[:n]), n, "u.1/bob") for n in range(1, turns + 1)]
        self.asked = asked
        self.events = [*told, *(answered(one) for one in asked[: None if answered_too else 1])]

    def resumed(self) -> tuple[Recorded, Post, list[Event]]:
        """The next session."""
        said: list[Event] = []
        book = Recorded(self.events, said.append)
        post = Post(["ann", "bob"], said.append, book)
        post.restore(self.events, {"t"}, set())
        return book, post, said


def test_a_message_is_read_where_it_was_read() -> None:
    """In the same call, and in no other; nothing is said of it again."""
    _, post, said = Mail().resumed()
    assert [[m.content for m in post.receive("bob", "u", f"u.1/bob:{n}")] for n in (1, 2, 3)] == [[], ["HELLO"], []]
    assert post.receive("bob", "v", "v.1/bob:1") == []
    post.close()
    assert said == []


def test_a_message_whose_call_had_no_answer_waits_for_a_call_that_is_made() -> None:
    """Not for one that is answered from the record, whose request would be another with it."""
    _, post, _ = Mail(answered_too=False).resumed()
    assert [[m.content for m in post.receive("bob", "u", f"u.1/bob:{n}")] for n in (1, 2, 3)] == [[], ["HELLO"], []]


@pytest.mark.parametrize("where", ["u.1/bob:2", "v.1/bob:1"])
def test_a_message_is_not_lost_with_a_conversation_that_goes_another_way(where: str) -> None:
    """It waits for the next call of its reader, in this task or another, or is said to be unread."""
    book, post, said = Mail().resumed()
    post.receive("bob", "u", "u.1/bob:1")
    assert book.answer(request(say("X"), 1, "u.1/bob"))[2] is None
    assert [m.content for m in post.receive("bob", where[0], where)] == ["HELLO"]
    assert post.receive("bob", "w", "w.1/bob:1") == []
    assert [type(event) for event in said] == [ReplayDiverged, MessagesRead]


def test_a_call_that_ended_is_recorded_although_its_task_failed() -> None:
    """Another call of the same turn stops the conversation while it runs: what it did is known, and nobody needs to look."""
    told: list[Event] = []

    async def wipe(_arguments: Mapping[str, Any]) -> str:
        await asyncio.sleep(0.05)
        return "WIPED"

    async def fetch(_arguments: Mapping[str, Any]) -> str:
        raise LookupError

    async def work() -> None:
        schema = {"type": "object"}
        tools = [Tool("wipe", "", schema, wipe, side_effects=True), Tool("fetch", "", schema, fetch)]
        desk = ToolDesk(tools, LimitsSpec(tool_errors=0), Tally(), None, told.append, "t", "ann", "t.1/ann")
        desk.accept([ToolCall("1", "wipe", "{}"), ToolCall("2", "fetch", "{}")], 1)
        with pytest.raises(ToolError):
            await desk.results()

    asyncio.run(work())
    assert {event.tool: event.result for event in told if isinstance(event, ToolCalled)} == {
        "wipe": "WIPED",
        "fetch": "Error: fetch failed: LookupError: ",
    }
    assert Recorded(told).unfinished == []


def test_a_side_effect_whose_beginning_cannot_be_written_down_does_not_begin() -> None:
    """The journal failed: the tool is not called."""
    called: list[str] = []

    async def wipe(_arguments: Mapping[str, Any]) -> str:
        called.append("wipe")
        return "WIPED"

    async def full() -> None:
        raise JournalError("disk full")

    async def work() -> None:
        tools = [Tool("wipe", "", {"type": "object"}, wipe, side_effects=True)]
        desk = ToolDesk(tools, LimitsSpec(), Tally(), None, lambda _: None, "t", "ann", "t.1/ann", Record(written=full))
        desk.accept([ToolCall("1", "wipe", "{}")], 1)
        with pytest.raises(JournalError, match="disk full"):
            await desk.results()

    asyncio.run(work())
    assert called == []
