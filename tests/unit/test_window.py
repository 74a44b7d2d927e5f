"""Fitting a conversation: never over, nothing torn apart, as much kept as there is room for, and a growing list counted once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from unified_agents.errors import ContextOverflowError
from unified_agents.tokens import Family, count_tokens, family
from unified_agents.window import LEAST, Fitted, Ledger, fit_messages, shorten

MODEL = "openai/gpt-4o"
COUNTER = family(MODEL)
MARK = re.compile(r"\n\[… about ([\d,]+) tokens left out …\]\n")
Conversation = list[dict[str, Any]]
PATIENT = settings(deadline=None)
"""The first count loads a vocabulary, and the machine may be busy."""

WORDS = st.sampled_from(["tide", "crab", "пляж", "潮だまり", "🦀", "x = 1\n", '{"n": 1}', "…"])
TEXTS = st.one_of(st.text(max_size=20), st.builds(lambda word, times: f"{word} " * times, WORDS, st.integers(0, 70)))


def said(role: str) -> st.SearchStrategy[Conversation]:
    """One message."""
    return st.builds(lambda text: [{"role": role, "content": text}], TEXTS)


def called(text: str | None, results: Sequence[str]) -> Conversation:
    """An assistant's calls and their results."""
    calls = [{"id": f"c{n}", "type": "function", "function": {"name": "search", "arguments": f'{{"q": {n}}}'}} for n in range(len(results))]
    return [
        {"role": "assistant", "content": text, "tool_calls": calls},
        *({"role": "tool", "tool_call_id": f"c{n}", "content": result} for n, result in enumerate(results)),
    ]


CALLED = st.builds(called, st.none() | TEXTS, st.lists(TEXTS, min_size=1, max_size=3))


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """A system message or none, a task, then what was said and called."""
    opening = [*draw(st.one_of(st.just([]), said("system"))), *draw(said("user"))]
    units = draw(st.lists(st.one_of(said("user"), said("assistant"), CALLED), max_size=12))
    return [*opening, *(message for unit in units for message in unit)]


BUDGETS = st.integers(0, 1200)


def opening_size(messages: Conversation) -> int:
    """How many messages are system message and instruction."""
    return 2 if messages[0]["role"] == "system" else 1


def last_unit(messages: Conversation) -> int:
    """Where the last unit begins: the last message, or the calls that it answers; the opening's end when there is nothing else."""
    starts = [n for n, message in enumerate(messages) if message["role"] != "tool" and n >= opening_size(messages)]
    return starts[-1] if starts else len(messages)


def expected(messages: Conversation, budget: int) -> Conversation | None:
    """By trying: the opening and the longest end that fits and begins with no tool's result; None when something must be shortened."""
    head = opening_size(messages)
    if count_tokens(messages, MODEL) <= budget:
        return messages
    for cut in range(head, last_unit(messages) + 1):
        kept = [*messages[:head], *messages[cut:]]
        if cut < len(messages) and messages[cut]["role"] != "tool" and count_tokens(kept, MODEL) <= budget:
            return kept
    return None


def stands_for(sent: Mapping[str, Any], message: Mapping[str, Any]) -> bool:
    """Whether what is sent is the message itself, or the message with the middle of its text left out."""
    if sent is message:
        return True
    mark = MARK.search(sent["content"])
    if mark is None or {**sent, "content": message["content"]} != message:
        return False
    whole, beginning, end = str(message["content"]), sent["content"][: mark.start()], sent["content"][mark.end() :]
    return whole.startswith(beginning) and whole.endswith(end)


def units_whole(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether each call has its results behind it, in their order, and no result stands alone."""
    due: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            if not due or due.pop(0) != message["tool_call_id"]:
                return False
        else:
            if due:
                return False
            due = [call["id"] for call in message.get("tool_calls") or ()]
    return not due


@PATIENT
@given(conversations(), BUDGETS)
def test_what_is_sent_is_never_over_the_budget(messages: Conversation, budget: int) -> None:
    """It fits as counted from outside and as the ledger says, or it is an error; both happen."""
    try:
        fitted = Ledger(COUNTER).fit(messages, budget)
    except ContextOverflowError:
        return
    assert count_tokens(fitted.messages, MODEL) == fitted.tokens <= budget


@PATIENT
@given(conversations(), BUDGETS)
def test_as_much_as_there_is_room_for_is_kept(messages: Conversation, budget: int) -> None:
    """The result is the one found by trying every cut; nothing is dropped where all fits, and nothing shortened where dropping is enough."""
    kept = expected(messages, budget)
    assume(kept is not None)
    assert kept is not None
    fitted = Ledger(COUNTER).fit(messages, budget)
    assert [id(message) for message in fitted.messages] == [id(message) for message in kept]
    assert (fitted.dropped, fitted.shortened) == (len(messages) - len(kept), 0)
    left_out = messages[fitted.cut[0] : fitted.cut[1]]
    assert fitted.dropped_tokens == count_tokens(left_out, MODEL) - 3
    assert [*messages[: fitted.cut[0]], *messages[fitted.cut[1] :]] == fitted.messages


@PATIENT
@given(conversations(), BUDGETS)
def test_what_must_stay_stays_in_order_and_nothing_is_torn_apart(messages: Conversation, budget: int) -> None:
    """The opening first, the last unit last, each whole or shortened with the mark; between them an unbroken end of the conversation."""
    try:
        sent = fit_messages(messages, budget, MODEL)
    except ContextOverflowError:
        return
    head, ending = opening_size(messages), messages[last_unit(messages) :]
    assert len(sent) >= head + len(ending)
    assert all(stands_for(a, b) for a, b in zip(sent[:head], messages[:head], strict=True))
    assert all(stands_for(a, b) for a, b in zip(sent[len(sent) - len(ending) :], ending, strict=True))
    rest = sent[head:]
    assert all(stands_for(a, b) for a, b in zip(rest, messages[len(messages) - len(rest) :], strict=True))
    assert units_whole(sent)


def test_a_torn_conversation_is_told_from_a_whole_one() -> None:
    """The negative control of the check above: a result too few, too many, or in the wrong place."""
    whole = [{"role": "user", "content": "task"}, *called(None, ["one", "two"])]
    assert units_whole(whole)
    assert not units_whole(whole[:-1])
    assert not units_whole([whole[0], *whole[2:]])
    assert not units_whole([*whole[:2], whole[3], whole[2]])


@PATIENT
@given(conversations(), BUDGETS)
def test_an_error_is_raised_only_where_shortening_cannot_help(messages: Conversation, budget: int) -> None:
    """With every text of opening and last unit cut to the least, it would still be too large."""
    kept = [*messages[: opening_size(messages)], *messages[last_unit(messages) :]]
    sizes = [COUNTER.count(message["content"] or "") for message in kept]
    least = count_tokens(kept, MODEL) - sum(max(0, size - LEAST) for size in sizes)
    if budget >= least:
        fit_messages(messages, budget, MODEL)
    elif expected(messages, budget) is None:
        with pytest.raises(ContextOverflowError, match=f"has {budget:,}: .* cannot be shortened below {least:,}"):
            fit_messages(messages, budget, MODEL)


@PATIENT
@given(conversations(), BUDGETS, st.integers(0, 300))
def test_a_larger_budget_never_keeps_less(messages: Conversation, budget: int, more: int) -> None:
    """Nor fewer messages, nor fewer whole ones, nor does it fail where a smaller one did not."""
    try:
        small = Ledger(COUNTER).fit(messages, budget)
    except ContextOverflowError:
        return
    large = Ledger(COUNTER).fit(messages, budget + more)
    assert len(large.messages) >= len(small.messages)
    assert len(large.messages) - large.shortened >= len(small.messages) - small.shortened


@PATIENT
@given(conversations(), st.integers(150, 900))
def test_a_ledger_that_grew_says_the_same_as_a_fresh_one(messages: Conversation, budget: int) -> None:
    """Message by message, as a run does it: also after an error, and the conversation itself is never changed."""
    before = [dict(message) for message in messages]
    grown = Ledger(COUNTER)
    for count in range(1, len(messages) + 1):
        part = messages[:count]
        assert outcome(grown, part, budget) == outcome(Ledger(COUNTER), part, budget)
        assert grown.total == count_tokens(part, MODEL)
    assert messages == before


def outcome(ledger: Ledger, messages: Conversation, budget: int) -> Fitted | str:
    """What the ledger says, or its error."""
    try:
        return ledger.fit(messages, budget)
    except ContextOverflowError as error:
        return str(error)


@PATIENT
@given(conversations(), conversations(), st.integers(150, 900), st.integers(0, 40))
def test_a_list_that_does_not_go_on_is_counted_anew(first: Conversation, other: Conversation, budget: int, kept: int) -> None:
    """Another conversation, one whose first message was replaced, a shorter one, and one whose last message was replaced."""
    ledger, changed = Ledger(COUNTER), [{"role": "user", "content": "instead " * 9}, *other[1:]]
    replaced = [*first[:-1], {"role": "user", "content": "instead"}]
    for messages in (first, other, changed, changed[: kept + 1], replaced, [*other, *first[1:]]):
        assert outcome(ledger, messages, budget) == outcome(Ledger(COUNTER), messages, budget)


def test_a_message_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation of 400 messages that grows by one a call is counted in 400 steps; a ledger that is made for each call takes 80,200."""
    counted = 0
    plain = Family.count

    def count(self: Family, text: str) -> int:
        nonlocal counted
        counted += 1
        return plain(self, text)

    monkeypatch.setattr(Family, "count", count)
    messages = [{"role": "user" if n % 2 == 0 else "assistant", "content": f"{n} " + "tide " * 20} for n in range(400)]
    ledger = Ledger(COUNTER)
    for length in range(1, 401):
        ledger.fit(messages[:length], 1000)
    assert counted == 400
    counted = 0
    for length in range(1, 401):
        Ledger(COUNTER).fit(messages[:length], 1000)
    assert counted == 400 * 401 // 2


@PATIENT
@given(conversations())
def test_a_conversation_of_exactly_the_budget_is_sent_whole(messages: Conversation) -> None:
    """Not a message more goes than must: with a token less something does."""
    size = count_tokens(messages, MODEL)
    assert Ledger(COUNTER).fit(messages, size, [{"role": "user", "content": "SUMMARY"}]) == Fitted([*messages], size)
    assert outcome(Ledger(COUNTER), messages, size - 1) != Fitted([*messages], size)


@PATIENT
@given(conversations(), st.integers(150, 900), TEXTS)
def test_extra_messages_follow_the_opening_only_when_something_is_dropped(messages: Conversation, budget: int, text: str) -> None:
    """They count too; where all fits they are left away."""
    extra = [{"role": "user", "content": f"SUMMARY {text}"}]
    try:
        fitted = Ledger(COUNTER).fit(messages, budget, extra)
    except ContextOverflowError:
        return
    head = opening_size(messages)
    assert count_tokens(fitted.messages, MODEL) == fitted.tokens <= budget
    if count_tokens(messages, MODEL) <= budget:
        assert fitted.messages == messages
    else:
        assert stands_for(fitted.messages[head], extra[0])


@PATIENT
@given(st.text(max_size=400) | st.builds(lambda word, times: f"{word} " * times, WORDS, st.integers(0, 400)), st.integers(LEAST, 300))
def test_a_shortened_text_keeps_its_ends_and_says_what_is_missing(text: str, tokens: int) -> None:
    """At most so many tokens, by every way of counting; its beginning and end with the mark between; whole where it fits."""
    for name in ("openai/gpt-4o", "openai/gpt-4", "anthropic/claude-x", "local/qwen3"):
        counter = family(name)
        short = shorten(text, tokens, counter)
        total = counter.count(text)
        assert counter.count(short) <= tokens
        assert (short == text) == (total <= tokens)
        if short != text:
            assert stands_for({"content": short}, {"content": text})
            mark = next(mark for mark in MARK.finditer(short) if int(mark[1].replace(",", "")) == total - tokens)
            assert abs(mark.start() - (len(short) - mark.end())) <= 1


def test_a_shortened_text_uses_its_room() -> None:
    """Of 1,000 words 100 tokens are kept, mark included, not a few."""
    text = " ".join(f"word{n}" for n in range(1000))
    assert 95 <= COUNTER.count(shorten(text, 100, COUNTER)) <= 100


def test_the_longest_texts_are_lowered_first() -> None:
    """A long task and a long last message come down to one level; the short system message is left whole."""
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "task " * 900},
        {"role": "assistant", "content": "dropped"},
        {"role": "user", "content": "last " * 500},
    ]
    fitted = Ledger(COUNTER).fit(messages, 300)
    assert fitted.messages[0] is messages[0]
    sizes = [COUNTER.count(str(message["content"])) for message in fitted.messages[1:]]
    assert fitted.shortened == len(sizes) == 2
    assert abs(sizes[0] - sizes[1]) <= 3
    assert 290 <= fitted.tokens <= 300


def test_an_overflow_says_its_numbers() -> None:
    """What is needed, what there is, and below what it cannot be brought."""
    messages = [{"role": "user", "content": "task " * 2000}, {"role": "assistant", "content": "x"}, {"role": "user", "content": "short"}]
    with pytest.raises(ContextOverflowError, match=r"needs 2,\d\d\d tokens and has 20: .* cannot be shortened below 34"):
        fit_messages(messages, 20, MODEL)
    assert count_tokens(fit_messages(messages, 34, MODEL), MODEL) <= 34


@pytest.mark.parametrize("messages", [[], [{"role": "assistant", "content": "hello"}], [{"role": "system", "content": "hello"}]])
def test_a_conversation_without_a_task_is_fitted_too(messages: Conversation) -> None:
    """Empty, begun by the assistant, or a system message alone."""
    assert fit_messages(messages, 100, MODEL) == messages
    with pytest.raises(ContextOverflowError):
        fit_messages(messages, 2, MODEL)
