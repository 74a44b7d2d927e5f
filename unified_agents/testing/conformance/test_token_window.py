"""No request is larger than its model's window: what is left out, summed up and kept, and what happens when a window is not known."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from unified_agents import AgentSpec, RunError, RunResult, TaskSpec, TeamSpec, run_team
from unified_agents.chat_models.providers import ANSWER_TOKENS
from unified_agents.events import ContextTrimmed, Event
from unified_agents.testing import Reply, Request, ScriptedServer, call
from unified_agents.tokens import count_tokens, family, tools_tokens

MODEL = "openai/scripted"
LIMIT = 1500
TURNS = 30
TOO_LARGE = Reply(status=400, body={"error": {"message": "x", "code": "context_length_exceeded"}})
SUMMING = "Sum all of it up"
SUMMARY = "A summary of the earlier conversation"
WORD = re.compile(r"word-\d+-end")


def word(number: int) -> str:
    """What only the result of this call says."""
    return f"word-{number}-end"


def read(n: int) -> str:
    """Read a page."""
    return f"{word(n)} " + "tide " * 40


def team(server: ScriptedServer, model: Mapping[str, Any] | None = None, **fields: Any) -> TeamSpec:
    """One task, MARK, of an agent with a tool."""
    agent = AgentSpec(name="a", role="R", goal="G", tools=[read], max_iterations=40)
    models = {"default": server.model(**(model or {}))}
    return TeamSpec(tasks=[TaskSpec(name="t", description="MARK", agent=agent)], models=models, **fields)


def reading(turns: int, *last: str | Reply, each: int = 1) -> list[str | Reply]:
    """Answers that call the tool so many times, then the last ones."""
    calls = [[call("read", {"n": turn * each + n}) for n in range(each)] for turn in range(turns)]
    return [*(Reply(tool_calls=some) for some in calls), *last]


def size(request: Request) -> int:
    """Tokens of a request: messages and tools."""
    return count_tokens(request.messages, MODEL) + tools_tokens(request.body.get("tools") or [], family(MODEL))


def opening(request: Request) -> list[Mapping[str, Any]]:
    """System messages and instruction."""
    count = next(n for n, message in enumerate(request.messages) if message["role"] != "system")
    return request.messages[: count + 1]


def pairs_whole(request: Request) -> bool:
    """Whether each call is followed by its results, and no result stands without its call."""
    due: list[str] = []
    for message in request.messages:
        if message["role"] == "tool":
            if not due or due.pop(0) != message["tool_call_id"]:
                return False
        elif due:
            return False
        else:
            due = [asked["id"] for asked in message.get("tool_calls") or ()]
    return not due


def words(text: str) -> list[str]:
    """The results that a text holds."""
    return WORD.findall(text)


def failed(run: Callable[[], RunResult]) -> RunError:
    """The error of a run that fails."""
    with pytest.raises(RunError) as caught:
        run()
    return caught.value


LIMITED = {
    "limit": ({}, {"token_window": {"limit": LIMIT}}),
    "window": ({"context_window": LIMIT}, {}),
    "the smaller of both": ({"context_window": LIMIT}, {"token_window": {"limit": 100_000}}),
    "the smaller of both, turned": ({"context_window": 100_000}, {"token_window": {"limit": LIMIT}}),
}


@pytest.mark.parametrize("each", [1, 2], ids=["one call", "two calls"])
@pytest.mark.parametrize(("model", "fields"), LIMITED.values(), ids=LIMITED)
def test_no_request_is_larger_than_the_limit(server: ScriptedServer, backend: str, model: Any, fields: Any, each: int) -> None:
    """In thirty turns of tools the oldest go: opening and newest result stay, calls and results stay together, order is kept."""
    server.reply("MARK", *reading(TURNS, "done", each=each))
    result = run_team(team(server, model, **fields), backend=backend)
    assert result.output == "done"
    assert len(server.requests) == TURNS + 1
    for turn, request in enumerate(server.requests):
        assert size(request) <= LIMIT - ANSWER_TOKENS
        assert opening(request) == opening(server.requests[0])
        assert pairs_whole(request)
        kept = words(request.text)
        assert kept == [word(n) for n in range(turn * each - len(kept), turn * each)]
        assert len(kept) >= min(turn, 1) * each
    assert len(words(server.requests[-1].text)) < TURNS * each
    assert all(size(request) > (LIMIT - ANSWER_TOKENS) / 2 for request in server.requests[10:])


def test_without_a_limit_requests_grow_beyond_it(server: ScriptedServer, backend: str) -> None:
    """The negative control: the model's window is not known, so each request holds all that was said."""
    server.reply("MARK", *reading(TURNS, "done"))
    events: list[Event] = []
    run_team(team(server), backend=backend, on_event=events.append)
    assert size(server.requests[-1]) > LIMIT
    assert words(server.requests[-1].text) == [word(n) for n in range(TURNS)]
    assert not [event for event in events if isinstance(event, ContextTrimmed)]


def test_an_answers_tokens_are_kept_free(server: ScriptedServer, backend: str) -> None:
    """`max_tokens` says how many; a shorter answer leaves more room for what was said."""
    server.reply("MARK", *reading(TURNS, "done"))
    run_team(team(server, {"max_tokens": 300}, token_window={"limit": LIMIT}), backend=backend)
    sizes = [size(request) for request in server.requests]
    assert LIMIT - ANSWER_TOKENS < max(sizes) <= LIMIT - 300


def test_each_trimmed_request_is_told(server: ScriptedServer, backend: str) -> None:
    """One event a request that something was left out of, with how much; none before."""
    server.reply("MARK", *reading(TURNS, "done"))
    events: list[Event] = []
    run_team(team(server, token_window={"limit": LIMIT}), backend=backend, on_event=events.append)
    trimmed = [event for event in events if isinstance(event, ContextTrimmed)]
    left_out = [turn - len(words(request.text)) for turn, request in enumerate(server.requests)]
    assert [event.dropped for event in trimmed] == [2 * count for count in left_out if count]
    assert 0 < len(trimmed) < len(server.requests)
    for event in trimmed:
        assert (event.task, event.agent, event.model, event.shortened, event.budget) == ("t", "a", MODEL, 0, LIMIT - ANSWER_TOKENS)
        assert event.dropped_tokens > 40 * event.dropped / 2
        assert 0 < event.tokens <= event.budget


def test_a_result_that_is_too_large_alone_is_shortened(server: ScriptedServer, backend: str) -> None:
    """Its beginning and end are sent, with a mark between; the event says that one was shortened."""

    def long(n: int) -> str:
        """Read a book."""
        return "FIRST " + "tide " * 2000 + "LAST"

    server.reply("MARK", Reply(tool_calls=[call("long", {"n": 1})]), "done")
    agent = AgentSpec(name="a", role="R", goal="G", tools=[long])
    tasks, events = [TaskSpec(name="t", description="MARK", agent=agent)], list[Event]()
    spec = TeamSpec(tasks=tasks, models={"default": server.model()}, token_window={"limit": LIMIT})
    run_team(spec, backend=backend, on_event=events.append)
    sent = server.requests[1].messages[-1]["content"]
    assert re.fullmatch(r"FIRST (tide )+t?i?d?e?\n\[… about [\d,]+ tokens left out …\]\n.*( tide)+ LAST", sent)
    assert size(server.requests[1]) <= LIMIT - ANSWER_TOKENS
    assert [event.shortened for event in events if isinstance(event, ContextTrimmed)] == [1]


def summarized(server: ScriptedServer, backend: str) -> list[Request]:
    """The requests of thirty turns with summaries, each of which says its number."""
    server.reply(SUMMING, *(f"summary-{n}-end" for n in range(TURNS)))
    server.reply("MARK", *reading(TURNS, "done"))
    spec = team(server, token_window={"limit": LIMIT, "strategy": "summarize"})
    result = run_team(spec, backend=backend)
    assert result.output == "done"
    return server.requests


def test_a_summary_takes_the_place_of_what_is_left_out(server: ScriptedServer, backend: str) -> None:
    """It is asked for when trimming begins, not before; each later request carries the newest one, and none is over the limit."""
    requests = summarized(server, backend)
    first = next(n for n, request in enumerate(requests) if SUMMING in request.text)
    assert [SUMMARY in request.text for request in requests[:first]] == [False] * first
    assert [words(request.text) for request in requests[:first]] == [[word(n) for n in range(turn)] for turn in range(first)]
    newest = ""
    for number, request in enumerate(requests):
        assert size(request) <= LIMIT - ANSWER_TOKENS
        if SUMMING in request.text:
            assert (newest in request.text, "MARK" in request.text, "tools" in request.body) == (True, False, False)
            newest = f"summary-{sum(SUMMING in earlier.text for earlier in requests[:number])}-end"
        elif number > first:
            head = len(opening(request))
            assert opening(request) == opening(requests[0])
            assert request.messages[head]["role"] == "user"
            assert request.messages[head]["content"].startswith(SUMMARY)
            assert newest in request.messages[head]["content"]
            assert pairs_whole(request)


def test_nothing_is_summed_up_twice(server: ScriptedServer, backend: str) -> None:
    """Each result that is no longer sent stands in exactly one request for a summary, and was there before it went missing."""
    requests = summarized(server, backend)
    summed: list[str] = []
    asked = 0
    for request in requests:
        if SUMMING in request.text:
            summed += words(request.text)
        else:
            assert [*summed, *words(request.text)] == [word(n) for n in range(asked)]
            asked += 1
    assert len(summed) == len(set(summed)) > TURNS / 2
    assert asked == TURNS + 1


def test_dropping_asks_for_no_summary(server: ScriptedServer, backend: str) -> None:
    """The negative control: the same conversation without the strategy."""
    server.reply("MARK", *reading(TURNS, "done"))
    run_team(team(server, token_window={"limit": LIMIT, "strategy": "drop_oldest"}), backend=backend)
    assert not server.asked(SUMMING)
    assert not server.asked(SUMMARY)


def test_a_conversation_that_fits_is_not_summed_up(server: ScriptedServer, backend: str) -> None:
    """Nor is anything asked for when nothing is left out."""
    server.reply("MARK", *reading(TURNS, "done"))
    run_team(team(server, token_window={"limit": 20_000, "strategy": "summarize"}), backend=backend)
    assert len(server.requests) == TURNS + 1
    assert words(server.requests[-1].text) == [word(n) for n in range(TURNS)]


def test_an_overflow_of_an_unknown_window_is_halved_once(server: ScriptedServer, backend: str) -> None:
    """The provider says that it is too much: one more request, at most half as large, and its answer counts."""
    server.reply("MARK", *reading(12, TOO_LARGE, "done"))
    events: list[Event] = []
    result = run_team(team(server), backend=backend, on_event=events.append)
    assert result.output == "done"
    assert len(server.requests) == 12 + 2
    large, small = server.requests[-2:]
    assert 0 < size(small) <= size(large) / 2 + size(server.requests[0])
    assert count_tokens(small.messages, MODEL) <= count_tokens(large.messages, MODEL) / 2
    assert opening(small) == opening(large)
    assert pairs_whole(small)
    kept = words(small.text)
    assert kept == words(large.text)[-len(kept) :]
    assert len(kept) >= 3
    assert len([event for event in events if isinstance(event, ContextTrimmed)]) == 1


def test_a_second_overflow_fails_the_task(server: ScriptedServer, backend: str) -> None:
    """Halved once, not again and again."""
    server.reply("MARK", *reading(12, TOO_LARGE), TOO_LARGE, forever=True)
    error = failed(lambda: run_team(team(server), backend=backend))
    assert (type(error).__name__, error.task) == ("ContextOverflowError", "t")
    assert "context window" in str(error)
    assert len(server.requests) == 12 + 2


def test_a_short_conversation_is_not_sent_again(server: ScriptedServer, backend: str) -> None:
    """Nothing could be left out, so the provider's own error is the task's, after one request."""
    server.reply("MARK", TOO_LARGE, forever=True)
    error = failed(lambda: run_team(team(server), backend=backend))
    assert type(error).__name__ == "ContextOverflowError"
    assert "the request does not fit into the model's context window" in str(error)
    assert len(server.requests) == 1


def test_another_bad_request_is_not_halved(server: ScriptedServer, backend: str) -> None:
    """The negative control: only an overflow is answered by a smaller request."""
    server.reply("MARK", *reading(12, Reply(status=400, body={"error": {"message": "x", "code": "else"}})), forever=True)
    error = failed(lambda: run_team(team(server), backend=backend))
    assert type(error).__name__ == "BadRequestError"
    assert len(server.requests) == 12 + 1


def test_what_cannot_fit_is_never_sent(server: ScriptedServer, backend: str) -> None:
    """Opening and tools alone are larger than the window: the error has the numbers, and the server hears nothing."""
    server.reply("MARK", "done", forever=True)
    limit = ANSWER_TOKENS + 60
    error = failed(lambda: run_team(team(server, token_window={"limit": limit}), backend=backend))
    assert type(error).__name__ == "ContextOverflowError"
    numbers = r"the request needs [\d,]+ tokens and has -?\d+: .* cannot be shortened below [\d,]+ beside \d+ of tools"
    assert re.search(rf"{MODEL}: {numbers}", str(error))
    assert server.requests == []


CHATTERS = {name: AgentSpec(name=name, role=f"R-{name}", goal="G") for name in ("ann", "bob")}


def chat(server: ScriptedServer, backend: str, **fields: Any) -> Sequence[Request]:
    """The requests of a chat of twelve long turns."""
    server.reply("MARK", *(f"{word(n)} " + "tide " * 60 for n in range(12)))
    task = TaskSpec(name="t", description="MARK", participants=list(CHATTERS), max_rounds=12)
    run_team(TeamSpec(agents=CHATTERS, tasks=[task], models={"default": server.model()}, **fields), backend=backend)
    return server.requests


def test_a_group_chat_forgets_its_oldest_turns(server: ScriptedServer, backend: str) -> None:
    """The newest turns stay in order; the instruction and the message that gives the word to a speaker stand in every request."""
    requests = chat(server, backend, token_window={"limit": LIMIT})
    assert len(requests) == 12
    for turn, request in enumerate(requests):
        assert size(request) <= LIMIT - ANSWER_TOKENS
        kept = words(request.text)
        assert kept == [word(n) for n in range(turn - len(kept), turn)]
        assert len(kept) >= min(turn, 2)
        assert "MARK" in opening(request)[-1]["content"]
        speaker, other = ("ann", "bob") if turn % 2 == 0 else ("bob", "ann")
        assert request.messages[-1]["content"].startswith(f"You are {speaker}, in a group chat about this task with {other}.")
    assert len(words(requests[-1].text)) < 11


def test_a_group_chat_without_a_limit_forgets_nothing(server: ScriptedServer, backend: str) -> None:
    """The negative control."""
    requests = chat(server, backend)
    assert [words(request.text) for request in requests] == [[word(n) for n in range(turn)] for turn in range(12)]
    assert size(requests[-1]) > LIMIT - ANSWER_TOKENS
