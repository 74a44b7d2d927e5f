"""Our layers in crews and teams that were written by hand: one changed line, and N attempts are N requests."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import pytest
from pydantic import BaseModel

from tests.faults.server import Behaviour, FaultServer, drip, failing, good, hang, late, refusing, reply, reset
from unified_agents import ModelSpec, SpecError, errors
from unified_agents.clock import Clock, use_clock
from unified_agents.events import Event
from unified_agents.managed import ManagedModel
from unified_agents.testing import call, completion

# isort: off
from unified_agents_crewai import ManagedLLM
from unified_agents_crewai.managed import ManagedCallError
from unified_agents_autogen import ManagedChatCompletionClient
from autogen_agentchat.agents import AssistantAgent  # noqa: TID251  # these tests are about code that is written for the frameworks
from autogen_agentchat.conditions import MaxMessageTermination  # noqa: TID251
from autogen_agentchat.teams import RoundRobinGroupChat  # noqa: TID251
from autogen_core import CancellationToken  # noqa: TID251
from autogen_core.models import SystemMessage, UserMessage  # noqa: TID251
from crewai import LLM, Agent, Crew, Task  # noqa: TID251
from crewai.tools import tool  # noqa: TID251

# isort: on

pytestmark = pytest.mark.xdist_group("managed")

KINDS = pytest.mark.parametrize("kind", ["crewai", "autogen"])


class City(BaseModel):
    """What is asked for as structured output."""

    name: str
    people: int


def wants(name: str, **arguments: Any) -> Behaviour:
    """An answer that calls a tool."""
    return reply(
        {
            **completion(None, tool_calls=[call(name, arguments, "c1")]),
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        }
    )


def add(a: int, b: int) -> str:
    """Add two numbers."""
    return f"the sum is {a + b}"


def crew(llm: Any, tools: list[Any] | None = None, **task: Any) -> Any:
    """A crew of one, as its users write it."""
    agent = Agent(role="Worker", goal="Work", backstory="-", llm=llm, tools=tools or [], verbose=False)
    return Crew(agents=[agent], tasks=[Task(description="Answer.", expected_output="An answer", agent=agent, **task)], verbose=False)


def kickoff(llm: Any, tools: list[Any] | None = None, **task: Any) -> Any:
    """What a crew of one gives."""
    return crew(llm, tools, **task).kickoff()


async def chat(client: Any, **fields: Any) -> str:
    """What an AutoGen team of one says."""
    agent = AssistantAgent("worker", model_client=client, **fields)
    result = await RoundRobinGroupChat([agent], termination_condition=MaxMessageTermination(2)).run(task="Answer.")
    return str(result.messages[-1].content)


def options(server: FaultServer, **further: Any) -> dict[str, Any]:
    """What a model needs to ask this server."""
    return {"base_url": server.base_url, "api_key": server.key, **further}


def answer(kind: str, model: str = "openai/scripted", **fields: Any) -> str:
    """The answer of a hand-written crew or team."""
    if kind == "crewai":
        return str(kickoff(ManagedLLM(model, **fields)).raw)
    return asyncio.run(chat(ManagedChatCompletionClient(model, **fields)))


def failure(kind: str, **fields: Any) -> tuple[str, BaseException]:
    """Everything that is said of a run that fails, and the model error at its root or the framework's own around it."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011  # whichever the framework makes of it
        answer(kind, **fields)
    said, error = "", caught.value
    cause: BaseException | None = error
    while cause is not None:
        said += f"{type(cause).__name__}: {cause!r} {cause}\n"
        cause = cause.__cause__ or cause.__context__
    return said, error


# The one loop.


@KINDS
def test_a_good_answer_is_one_request(kind: str, waits: list[float]) -> None:
    """The negative control of all below."""
    with FaultServer(good("fine")) as server:
        assert answer(kind, **options(server)) == "fine"
    assert (len(server.requests), waits) == (1, [])


@KINDS
@pytest.mark.parametrize(
    ("play", "asked", "error"),
    [
        (failing(429), 4, "RateLimitError"), (failing(500), 4, "InternalServerError"), (reset(), 4, "APIConnectionError"),
        (failing(401), 1, "AuthenticationError"), (failing(404), 1, "NotFoundError"), (failing(400), 1, "BadRequestError"),
        (failing(429, "insufficient_quota"), 1, "QuotaExceededError"), (reply({}), 3, "BadResponseError"), (good(""), 2, "EmptyAnswerError"),
        (failing(400, "context_length_exceeded", "maximum context length is 5 tokens"), 1, "ContextOverflowError"),
    ],
    ids=["429", "500", "reset", "401", "404", "400", "quota", "empty-object", "empty", "overflow"],
)  # fmt: skip
def test_a_lasting_fault_takes_as_many_requests_as_its_kind_allows(kind: str, play: Behaviour, asked: int, error: str) -> None:
    """Neither framework asks again on its own account, and the error that its user meets names ours."""
    with FaultServer(play, forever=True) as server:
        said, _ = failure(kind, **options(server, extra_headers={"X-Secret": "X-CANARY"}))
    assert len(server.requests) == asked
    assert error in said
    assert server.key not in said
    assert "CANARY" not in said


def test_the_error_of_a_crew_holds_ours() -> None:
    """`ManagedCallError.error` is the ModelError, with its status."""
    with FaultServer(failing(403), forever=True) as server, pytest.raises(ManagedCallError) as caught:
        kickoff(ManagedLLM("openai/scripted", **options(server)))
    assert type(caught.value.error) is errors.PermissionDeniedError
    assert caught.value.error.status == 403


def test_crewais_own_model_asks_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the four above: after six 429s the stock model asks a seventh time; it would go on to 27, which takes ten seconds."""
    real = time.sleep
    monkeypatch.setattr(time, "sleep", lambda _: real(0))  # the SDK's waits; CrewAI's own cannot be skipped
    with FaultServer(*[failing(429)] * 6, good("fine")) as server:
        assert kickoff(LLM(model="openai/gpt-4o-mini", **options(server))).raw == "fine"
    assert len(server.requests) == 7


@KINDS
def test_a_fault_that_passes_is_not_seen_by_the_framework(kind: str, waits: list[float]) -> None:
    """Three different faults in one call: four requests, three waits, the answer."""
    with FaultServer(failing(503), reset(), failing(429, headers={"Retry-After": "2"}), good("fine")) as server:
        assert answer(kind, **options(server)) == "fine"
    assert len(server.requests) == 4
    assert len(waits) == 3
    assert 2 <= waits[2] <= 2.2


@KINDS
def test_resilience_is_taken(kind: str) -> None:
    """Two attempts where two are asked for; a mapping will do."""
    with FaultServer(failing(500), forever=True) as server:
        failure(kind, **options(server, resilience={"retry": {"max_attempts": 2}}))
    assert len(server.requests) == 2


@KINDS
def test_fallback_models_are_asked(kind: str) -> None:
    """The second model answers when the first is down; with a wrong key it is not asked."""
    with FaultServer(failing(500), forever=True) as first, FaultServer(good("second")) as second:
        others = [second.model(model="openai/second")]
        assert answer(kind, **options(first), fallbacks=others) == "second"
    assert (len(first.requests), len(second.requests)) == (4, 1)
    assert second.requests[0]["model"] == "second"
    with FaultServer(failing(401), forever=True) as first, FaultServer() as second:
        failure(kind, **options(first), fallbacks=[{"model": "openai/second", **options(second)}])
    assert (len(first.requests), len(second.requests)) == (1, 0)


@KINDS
def test_two_agents_share_one_breaker(kind: str, waits: list[float]) -> None:
    """The circuit that one object's calls opened is open for another's with the same model and key."""
    settings = {"resilience": {"retry": {"max_attempts": 1}, "circuit_breaker": {"failure_threshold": 2, "recovery_time": 50.0}}}
    with FaultServer(failing(500), failing(500), good("fine")) as server:
        for _ in range(2):
            failure(kind, **options(server, **settings))
        assert waits == []
        assert answer(kind, **options(server, **settings)) == "fine"
    assert len(waits) == 1
    assert 30 <= waits[0] <= 55  # 45 at least, less what passed meanwhile


@KINDS
def test_a_calls_whole_time_is_bounded(kind: str) -> None:
    """`timeout` is for one call with all of its attempts: a model that hangs, or drips, ends it when it is over."""
    for play in (hang(), drip(every=0.2)):
        with FaultServer(play, forever=True) as server:
            began = time.monotonic()
            failure(kind, **options(server, timeout=0.5, resilience={"timeout": 4.0}))
            assert time.monotonic() - began < 3


@KINDS
def test_without_the_time_a_wait_is_not_begun(kind: str, waits: list[float]) -> None:
    """Retry-After 30 within a call of ten seconds: one request, no wait."""
    with FaultServer(failing(429, headers={"Retry-After": "30"}), forever=True) as server:
        failure(kind, **options(server, timeout=10.0))
    assert (len(server.requests), waits) == (1, [])


# What the frameworks do with it.


def test_a_crews_tool_round_trip() -> None:
    """CrewAI offers the tool, runs it with what the model asked for, and sends its result: two requests."""
    with FaultServer(wants("add", a=1, b=2), good("three")) as server:
        result = kickoff(ManagedLLM("openai/scripted", **options(server)), [tool("add")(add)])
    assert result.raw == "three"
    first, second = server.requests
    assert [offered["function"]["name"] for offered in first["tools"]] == ["add"]
    assert [message["content"] for message in second["messages"] if message["role"] == "tool"] == ["the sum is 3"]
    assert "tools" in second


def test_an_autogen_agents_tool_round_trip() -> None:
    """AgentChat offers the tool, runs it, and lets the model reflect on the result: two requests."""
    with FaultServer(wants("add", a=1, b=2), good("three")) as server:
        client = ManagedChatCompletionClient("openai/scripted", **options(server))
        assert asyncio.run(chat(client, tools=[add], reflect_on_tool_use=True)) == "three"
    first, second = server.requests
    assert [offered["function"]["name"] for offered in first["tools"]] == ["add"]
    assert [(message["tool_call_id"], message["content"]) for message in second["messages"] if message["role"] == "tool"] == [
        ("c1", "the sum is 3")
    ]


@KINDS
def test_a_fault_in_the_middle_of_a_tool_round_trip(kind: str) -> None:
    """The second call is made again, the tool is not: it ran once."""
    ran: list[int] = []

    def count(a: int) -> str:
        """Count."""
        ran.append(a)
        return "counted"

    with FaultServer(wants("count", a=5), failing(500), good("fine")) as server:
        if kind == "crewai":
            assert kickoff(ManagedLLM("openai/scripted", **options(server)), [tool("count")(count)]).raw == "fine"
        else:
            client = ManagedChatCompletionClient("openai/scripted", **options(server))
            assert asyncio.run(chat(client, tools=[count], reflect_on_tool_use=True)) == "fine"
    assert ran == [5]
    assert len(server.requests) == 3


def test_a_crews_structured_output() -> None:
    """A task with `output_pydantic` gets its instance."""
    with FaultServer(good('{"name": "Rome", "people": 5}'), forever=True) as server:
        result = kickoff(ManagedLLM("openai/scripted", **options(server)), output_pydantic=City)
    assert result.pydantic == City(name="Rome", people=5)
    assert 1 <= len(server.requests) <= 2


def test_a_crewai_models_structured_output() -> None:
    """`call(…, response_model=…)` sends the schema and gives an instance; without it the text."""
    with FaultServer(good('{"name": "Rome", "people": 5}'), forever=True) as server:
        llm = ManagedLLM("openai/scripted", **options(server))
        assert llm.call("Where?", response_model=City) == City(name="Rome", people=5)
        assert llm.call("Where?") == '{"name": "Rome", "people": 5}'
    wanted, plain = server.requests
    assert wanted["response_format"]["json_schema"]["name"] == "City"
    assert "people" in wanted["response_format"]["json_schema"]["schema"]["properties"]
    assert "response_format" not in plain


@pytest.mark.parametrize(("asked", "sent"), [(True, "json_object"), (City, "json_schema"), (False, None), (None, None)])
def test_an_autogen_clients_structured_output(asked: Any, sent: str | None) -> None:
    """`json_output` as AutoGen's clients take it."""
    with FaultServer(good('{"name": "Rome", "people": 5}')) as server:
        client = ManagedChatCompletionClient("openai/scripted", **options(server))
        result = asyncio.run(client.create([UserMessage(content="Where?", source="user")], json_output=asked))
    assert City.model_validate_json(result.content) == City(name="Rome", people=5)
    assert server.requests[0].get("response_format", {}).get("type") == sent


def test_an_autogen_agents_structured_output() -> None:
    """An AssistantAgent with `output_content_type` says an instance of it."""
    with FaultServer(good('{"name": "Rome", "people": 5}')) as server:
        client = ManagedChatCompletionClient("openai/scripted", **options(server))
        agent = AssistantAgent("worker", model_client=client, output_content_type=City)
        message: Any = asyncio.run(agent.run(task="Where?")).messages[-1]
    assert message.content == City(name="Rome", people=5)


def test_usage_is_counted_by_both() -> None:
    """Tokens of all answers, those of tool calls too; requests that failed have none."""
    with FaultServer(failing(500), wants("add", a=1, b=2), good("three")) as server:
        result = kickoff(ManagedLLM("openai/scripted", **options(server)), [tool("add")(add)])
    assert (result.token_usage.prompt_tokens, result.token_usage.completion_tokens) == (14, 6)
    with FaultServer(failing(500), good("1"), good("2", usage=None)) as server:
        client = ManagedChatCompletionClient("openai/scripted", **options(server))
        spent = [asyncio.run(client.create([UserMessage(content="x", source="user")])).usage for _ in range(2)]
    assert [(one.prompt_tokens, one.completion_tokens) for one in spent] == [(7, 3), (0, 0)]
    assert (client.total_usage().prompt_tokens, client.actual_usage().completion_tokens) == (7, 3)


def test_an_answer_cut_off_is_said_to_be() -> None:
    """AutoGen's finish reason is `length`; else `stop`."""
    with FaultServer(good("half", "length"), good("whole")) as server:
        client = ManagedChatCompletionClient("openai/scripted", **options(server))
        reasons = [asyncio.run(client.create([SystemMessage(content="x")])).finish_reason for _ in range(2)]
    assert reasons == ["length", "stop"]


def test_the_fields_of_a_model_are_sent() -> None:
    """Temperature, seed, limit and extra headers, the same on both."""
    for kind in ("crewai", "autogen"):
        with FaultServer(good("fine")) as server:
            answer(kind, **options(server, temperature=0.5, seed=7, max_tokens=9, extra_body={"top_k": 3}))
        body = server.requests[0]
        assert (body["temperature"], body["seed"], body["max_tokens"], body["top_k"], body["model"]) == (0.5, 7, 9, 3, "scripted")


# Wrong settings.


@KINDS
@pytest.mark.parametrize(
    ("model", "fields", "said"),
    [
        ("opnai/gpt-4o-mini", {}, "did you mean 'openai'"), ("gpt-4o-mini", {}, "expected PROVIDER/NAME"), ("openai/gpt-4o-mini", {}, "OPENAI_API_KEY"),
        ("openai/x", {"base_url": "ftp://x"}, "base_url"), ("openai/x", {"api_key": "k", "fallbacks": ["groq/y"]}, "GROQ_API_KEY"),
    ],
)  # fmt: skip
def test_a_wrong_model_is_refused_when_it_is_made(kind: str, model: str, fields: dict[str, Any], said: str) -> None:
    """Before the first call, as in a team file; a good one is taken."""
    made: Any = {"crewai": ManagedLLM, "autogen": ManagedChatCompletionClient}[kind]
    with pytest.raises(SpecError, match=said):
        made(model, **fields)
    assert made("openai/gpt-4o-mini", api_key="k")


@KINDS
def test_a_key_is_not_shown(kind: str) -> None:
    """Neither by the object nor by its attributes' reprs, which loggers print."""
    made: Any = {"crewai": ManagedLLM, "autogen": ManagedChatCompletionClient}[kind]
    model = made("openai/x", api_key="sk-CANARY", extra_headers={"X": "sk-CANARY"})
    assert "CANARY" not in f"{model!r}{model}{vars(model)!r}"
    if kind == "crewai":
        assert "CANARY" not in f"{model.model_dump()}{Agent(role='r', goal='g', backstory='b', llm=model)!r}"


# Cancellation and events.


def test_a_cancelled_autogen_call_ends_at_once() -> None:
    """By AutoGen's token, and by the task itself: within a moment, and nothing more is sent (fault 38)."""

    async def cancelled(client: Any, by: str) -> float:
        token = CancellationToken()
        work = asyncio.ensure_future(client.create([UserMessage(content="x", source="user")], cancellation_token=token))
        while not server.requests:
            await asyncio.sleep(0.01)
        began = time.monotonic()
        token.cancel() if by == "token" else work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        return time.monotonic() - began

    for by in ("token", "task"):
        with FaultServer(hang(), forever=True) as server:
            client = ManagedChatCompletionClient("openai/scripted", **options(server))
            assert asyncio.run(cancelled(client, by)) < 0.5
            time.sleep(0.1)
            assert len(server.requests) == 1


def test_a_cancelled_wait_ends_at_once_and_sends_nothing_more() -> None:
    """Between two attempts, on the real clock."""

    async def cancelled() -> float:
        client = ManagedChatCompletionClient("openai/scripted", **options(server))
        team = RoundRobinGroupChat([AssistantAgent("worker", model_client=client)], termination_condition=MaxMessageTermination(2))
        token = CancellationToken()
        work = asyncio.ensure_future(team.run(task="Answer.", cancellation_token=token))
        while not server.requests:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        began = time.monotonic()
        token.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        return time.monotonic() - began

    with use_clock(Clock()), FaultServer(failing(429, headers={"Retry-After": "60"}), forever=True) as server:
        assert asyncio.run(cancelled()) < 1
        assert len(server.requests) == 1


@KINDS
def test_events_are_heard(kind: str) -> None:
    """`on_event` hears of each attempt and retry, with the model's name."""
    heard: list[Event] = []
    with FaultServer(failing(500), good("fine")) as server:
        answer(kind, **options(server, on_event=heard.append))
    assert [event.type for event in heard] == ["ModelCalled", "CallRetried", "ModelCalled"]
    assert {event.model for event in heard} == {"openai/scripted"}  # type: ignore[attr-defined]


@KINDS
def test_a_listener_that_fails_breaks_nothing(kind: str) -> None:
    """As in a team's run: who listens badly does not break the call."""

    def listener(event: Event) -> None:
        raise RuntimeError(f"cannot hear {event.type}")

    with FaultServer(good("fine"), forever=True) as server:
        assert answer(kind, **options(server, on_event=listener)) == "fine"
    assert len(server.requests) == 1


def test_a_listener_may_be_any_callable() -> None:
    """Also one that cannot be hashed, such as an object that is compared by value."""

    class Listener(BaseModel):
        heard: list[str] = []

        def __call__(self, event: Event) -> None:
            self.heard.append(event.type)

    listener = Listener()
    with FaultServer(good("fine")) as server:
        model = ManagedModel(server.model(), on_event=listener)
        assert model.ask_blocking([{"role": "user", "content": "x"}]).text == "fine"
    assert listener.heard == ["ModelCalled"]


@KINDS
def test_layers_of_the_users_own(kind: str) -> None:
    """`middleware` sees the call once, however many attempts it takes."""
    seen: list[str] = []

    async def layer(request: Any, call_next: Any) -> Any:
        seen.append(request.model.name)
        return await call_next(request)

    with FaultServer(failing(500), good("fine")) as server:
        assert answer(kind, **options(server, middleware=[layer])) == "fine"
    assert (seen, len(server.requests)) == (["scripted"], 2)


@KINDS
def test_a_refused_connection(kind: str) -> None:
    """The error names the address."""
    with refusing() as url:
        said, _ = failure(kind, base_url=url)
    assert "APIConnectionError" in said
    assert url in said


def test_many_calls_at_once_share_one_model_object() -> None:
    """Thirty tasks on a loop and eight threads with the same object get their own answers."""
    with FaultServer(late("fine", 0.05), forever=True) as server:
        client = ManagedChatCompletionClient("openai/scripted", **options(server))
        llm = ManagedLLM("openai/scripted", **options(server))

        async def many() -> list[Any]:
            return await asyncio.gather(*(client.create([UserMessage(content=str(n), source="user")]) for n in range(30)))

        assert {result.content for result in asyncio.run(many())} == {"fine"}
        found: list[Any] = []
        threads = [threading.Thread(target=lambda n=n: found.append(llm.call(str(n)))) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert found == ["fine"] * 8
    assert sorted(int(request["messages"][-1]["content"]) for request in server.requests) == sorted([*range(30), *range(8)])
    assert client.total_usage().prompt_tokens == 30 * 7


def test_a_model_spec_is_taken_as_it_is() -> None:
    """`ManagedModel` without a framework: a ModelSpec, and the answer as ours."""
    with FaultServer(good("fine")) as server:
        response = ManagedModel(server.model()).ask_blocking([{"role": "user", "content": "x"}])
    assert (response.text, response.model, response.usage.input_tokens) == ("fine", "openai/scripted", 7)
    assert json.dumps(server.requests[0]["messages"]) == '[{"role": "user", "content": "x"}]'
    with pytest.raises(SpecError):
        ManagedModel(ModelSpec(model="nobody/x"))
