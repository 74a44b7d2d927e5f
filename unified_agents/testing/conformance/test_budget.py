"""A budget holds on every backend: what reaches the server is counted there, and nobody takes over what the budget did not cover."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from unified_agents import AgentSpec, ModelSpec, RunError, RunResult, SpecError, TaskSpec, TeamSpec, run_team
from unified_agents.errors import BudgetExceededError
from unified_agents.events import (
    BackendReplaced,
    Event,
    FieldsUnused,
    ModelCalled,
    TaskReassigned,
    TaskSkipped,
    UsageAssumed,
    WorkDelegated,
)
from unified_agents.runtime import resume_run
from unified_agents.testing import Reply, ScriptedServer, call
from unified_agents.testing.conformance.test_failure import another, breaks_after

WORKER = AgentSpec(name="worker", role="Worker", goal="Work")
OTHER = AgentSpec(name="other", role="Other", goal="Help")
PRICE = {"openai/scripted": {"input_per_million": 100_000.0, "output_per_million": 200_000.0}}
"""An answer of the scripted server (7 tokens in, 3 out) costs 1.30 USD."""


def chain_of(*names: str, agent: AgentSpec = WORKER) -> list[TaskSpec]:
    """Tasks that wait for one another."""
    before = [None, *names[:-1]]
    return [
        TaskSpec(name=name, description=f"MARK-{name}.", agent=agent, after=[one] if one else [])
        for name, one in zip(names, before, strict=True)
    ]


def team(server: ScriptedServer, tasks: list[TaskSpec], budget: Mapping[str, Any] | None, **fields: Any) -> TeamSpec:
    """A team on the server; an answer may take 20 tokens."""
    return TeamSpec(models={"default": server.model(max_tokens=20)}, tasks=tasks, budget=budget, **fields)


def fails(spec: TeamSpec, backend: str, **options: Any) -> tuple[RunError, RunResult]:
    """The error of a run and its result."""
    with pytest.raises(RunError) as caught:
        run_team(spec, backend=backend, **options)
    assert type(caught.value).__name__ == "BudgetExceededError", caught.value
    assert caught.value.result is not None
    return caught.value, caught.value.result


def states(result: RunResult) -> dict[str, str]:
    """How each task ended."""
    return {name: task.status for name, task in result.tasks.items()}


@pytest.mark.parametrize(("budget", "requests", "kind"), [({"model_calls": 3}, 3, "BudgetExceededError"), (None, 4, "InternalServerError")])
def test_attempts_count_as_calls(server: ScriptedServer, backend: str, budget: Any, requests: int, kind: str) -> None:
    """A persistent 500 is asked three times with three calls in the budget, and four times without one."""
    server.reply("MARK", Reply(status=500), forever=True)
    with pytest.raises(RunError) as caught:
        run_team(team(server, chain_of("one"), budget), backend=backend)
    assert (len(server.requests), type(caught.value).__name__) == (requests, kind)
    assert caught.value.result is not None
    assert caught.value.result.usage.model_calls == requests


def test_when_it_is_spent_the_run_ends_and_says_how(server: ScriptedServer, backend: str) -> None:
    """What was completed is kept, what was not begun is pending, and the message says what is spent, what is missing and what to type."""
    server.reply("MARK", "ok", forever=True)
    events: list[Event] = []
    error, result = fails(team(server, chain_of("one", "two", "three", "four"), {"model_calls": 2}), backend, on_event=events.append)
    assert states(result) == {"one": "completed", "two": "completed", "three": "failed", "four": "pending"}
    assert (result.status, error.task, len(server.requests)) == ("failed", "three", 2)
    assert "budget.model_calls is 2, 2 of it spent" in str(error)
    assert "budget: {model_calls: 3}" in str(error)
    assert not [event for event in events if isinstance(event, TaskSkipped)]


def beside_a_large_one() -> list[TaskSpec]:
    """`large` asks for 2,000 tokens and more; `slow` does not, nor does `late`, which waits for it alone."""
    large = TaskSpec(name="large", description="MARK-large. " + "word " * 2000, agent=WORKER)
    return [large, *chain_of("slow", "late")]


@pytest.mark.parametrize("tokens", [500, 50_000])
def test_no_task_begins_after_it(server: ScriptedServer, backend: str, tokens: int) -> None:
    """A task under way goes on while its calls fit; one that could begin after it does not. With more tokens all complete."""
    server.reply("MARK-large.", "ok").reply("MARK-slow.", Reply(text="ok", delay=0.5)).reply("MARK-late.", "ok")
    spec = team(server, beside_a_large_one(), {"tokens": tokens})
    if tokens > 500:
        assert run_team(spec, backend=backend).status == "completed"
        return
    _, result = fails(spec, backend)
    assert result.tasks["late"].status == "pending"
    assert not server.asked("MARK-late.")


def test_with_what_the_message_asks_for_the_run_completes(server: ScriptedServer, backend: str) -> None:
    """The negative control."""
    server.reply("MARK", "ok", forever=True)
    result = run_team(team(server, chain_of("one", "two", "three"), {"model_calls": 3}), backend=backend)
    assert (result.status, len(server.requests)) == ("completed", 3)


def test_tokens_are_checked_before_the_call_and_corrected_after_it(server: ScriptedServer, backend: str) -> None:
    """Room for one call at its largest is room for many that take less: 10 tokens each, of a budget that one call may nearly use up."""
    server.reply("MARK", "ok", forever=True)
    first, _ = fails(team(server, chain_of("one"), {"tokens": 20}), backend)
    assert not server.requests
    need = int(str(first).split("may take ")[1].split()[0])
    assert 20 < need < 150
    _, result = fails(team(server, chain_of("one", "two", "three", "four"), {"tokens": need + 25}), backend)
    assert len(server.requests) == 3  # 0, 10 and 20 spent before them; 30 leave less than `need`
    assert states(result) == {"one": "completed", "two": "completed", "three": "completed", "four": "failed"}


def test_the_bound_is_not_below_what_the_provider_counts(server: ScriptedServer, backend: str) -> None:
    """What the server reports beyond the bound is spent too: the next call is refused."""
    server.reply("MARK", Reply(text="ok", usage={"prompt_tokens": 4000, "completion_tokens": 1000}), forever=True)
    error, result = fails(team(server, chain_of("one", "two"), {"tokens": 4500}), backend)
    assert states(result) == {"one": "completed", "two": "failed"}
    assert "5,000 of it spent" in str(error)


@pytest.mark.parametrize("budget", [{"tokens": 4500}, {"usd": 0.01}])
def test_it_is_checked_after_the_last_call_too(server: ScriptedServer, backend: str, budget: Any) -> None:
    """A last call that takes more than the budget fails the run; its answer is kept, and with a larger budget nothing is asked again."""
    price = {"openai/scripted": {"input_per_million": 10.0, "output_per_million": 10.0}}
    server.reply("MARK", Reply(text="paid", usage={"prompt_tokens": 4000, "completion_tokens": 1000}), forever=True)
    kind, model = next(iter(budget)), server.model(max_tokens=10)

    def spec(budget: Any) -> TeamSpec:
        return TeamSpec(models={"default": model}, tasks=chain_of("one"), budget=budget, prices=price)

    with pytest.raises(BudgetExceededError) as caught:
        run_team(spec(budget), backend=backend, run_id="over")
    result = caught.value.result
    assert result is not None
    assert (result.status, states(result), result.tasks["one"].output) == ("failed", {"one": "completed"}, "paid")
    least = str(caught.value).split(f"{kind}: ")[1].split("}")[0]
    assert "a call took more than it was expected to take at most" in str(caught.value)
    with pytest.raises(BudgetExceededError):
        resume_run("over", team=spec(budget))
    after = resume_run("over", team=spec({kind: float(least) if kind == "usd" else int(least)}))
    assert (after.status, after.output, len(server.requests)) == ("completed", "paid", 1)
    assert run_team(spec({kind: 10_000}), backend=backend).status == "completed"


@pytest.mark.parametrize(("usage", "requests"), [(None, 2), ({"prompt_tokens": 7, "completion_tokens": 3}, 3)])
def test_unreported_usage_counts_as_what_it_may_have_been(server: ScriptedServer, backend: str, usage: Any, requests: int) -> None:
    """Without usage from the provider the estimate counts against the budget; with it, what was reported."""
    server.reply("MARK", Reply(text="ok", usage=usage), forever=True)
    error, _ = fails(team(server, chain_of("one"), {"tokens": 20}), backend)
    need = int(str(error).split("may take ")[1].split()[0])
    spec = team(server, chain_of("one", "two", "three"), {"tokens": need * 2 + 15})
    if usage is None:
        fails(spec, backend)
    else:
        assert run_team(spec, backend=backend).status == "completed"
    assert len(server.requests) == requests


def test_usd(server: ScriptedServer, backend: str) -> None:
    """Of 2.60 USD two calls at 1.30 take all. The result says what was spent, the error what is missing."""
    server.reply("MARK", "ok", forever=True)
    model = server.model(max_tokens=3)
    price = {"openai/scripted": {"input_per_million": 0.0, "output_per_million": 1.3e6 / 3}}
    spec = TeamSpec(models={"default": model}, tasks=chain_of("one", "two", "three", "four"), budget={"usd": 2.6}, prices=price)
    error, result = fails(spec, backend)
    assert len(server.requests) == 2
    assert result.usage.cost_usd == pytest.approx(2.6)
    assert "budget.usd is 2.6, 2.6 of it spent" in str(error)
    assert "budget: {usd: 3.9}" in str(error)


def test_usd_of_an_unknown_price_is_an_error_before_the_first_call(server: ScriptedServer, backend: str) -> None:
    """A budget that nobody can keep is refused, with the model's name and what to write; so is a known name at an address of one's own."""
    for name in ("openai/scripted", "openai/gpt-4o-mini"):
        spec = TeamSpec(models={"default": server.model(model=name)}, tasks=chain_of("one"), budget={"usd": 1.0})
        with pytest.raises(SpecError) as caught:
            run_team(spec, backend=backend)
        assert [problem.path for problem in caught.value.problems] == ["budget.usd"]
        assert f"prices: {{{name}: {{" in str(caught.value)
    assert not server.requests


def test_parallel_calls_do_not_pass_the_check_together(server: ScriptedServer, backend: str) -> None:
    """Six tasks at once and four calls in the budget: four requests, on every backend."""
    server.reply("MARK", Reply(text="ok", delay=0.1), forever=True)
    tasks = [TaskSpec(name=f"t{n}", description=f"MARK-{n}.", agent=WORKER, after=[]) for n in range(6)]
    _, result = fails(team(server, tasks, {"model_calls": 4}), backend)
    assert len(server.requests) == 4
    assert sorted(states(result).values())[:4] == ["completed"] * 4
    assert result.usage.model_calls == 4


def test_parallel_calls_that_take_less_than_they_may_wait_for_each_other(server: ScriptedServer, backend: str) -> None:
    """Six tasks at once in a budget for two calls at their largest all complete: 60 tokens are what they take."""
    server.reply("MARK", Reply(text="ok", delay=0.05), forever=True)
    error, _ = fails(team(server, chain_of("one"), {"tokens": 20}), backend)
    need = int(str(error).split("may take ")[1].split()[0])
    tasks = [TaskSpec(name=f"t{n}", description=f"MARK-{n}.", agent=WORKER, after=[]) for n in range(6)]
    result = run_team(team(server, tasks, {"tokens": need + 60}), backend=backend)
    assert (result.status, len(server.requests)) == ("completed", 6)


def test_no_fallback_model_agent_or_backend_takes_over(server: ScriptedServer, backend: str) -> None:
    """They would spend from the same budget: one request, and nothing after it."""
    server.reply("MARK", Reply(status=500), forever=True)
    agent = WORKER.model_copy(update={"fallback": "other"})
    events: list[Event] = []
    models = {"default": server.model(), "second": server.model(model="openai/second")}
    spec = TeamSpec(
        models=models, agents=[OTHER], tasks=chain_of("one", "two", agent=agent), budget={"model_calls": 1}, fallback_backend=another(backend),
        resilience={"fallback_models": ["second"]},
    )  # fmt: skip
    _, result = fails(spec, backend, on_event=events.append)
    assert [request.model for request in server.requests] == ["scripted"]
    assert not [event for event in events if isinstance(event, (TaskReassigned, BackendReplaced))]
    assert states(result) == {"one": "failed", "two": "pending"}


@pytest.mark.parametrize("budget", [{"tokens": 500}, None])
def test_a_framework_that_breaks_after_it_is_no_way_round(
    server: ScriptedServer, backend: str, monkeypatch: pytest.MonkeyPatch, budget: Any
) -> None:  # fmt: skip
    """The fallback backend takes what a broken framework left, but not once the budget is spent: then the run fails for that."""
    server.reply("MARK-large.", "ok").reply("MARK-slow.", Reply(text="ok", delay=0.5), forever=True).reply("MARK-late.", "ok")
    breaks_after("large", monkeypatch, backend)
    spec = team(server, beside_a_large_one(), budget, fallback_backend=another(backend))
    if budget is None:
        assert run_team(spec, backend=backend).tasks["late"].backend == another(backend)
        return
    _, result = fails(spec, backend)
    assert result.tasks["large"].status == "failed"
    assert result.tasks["late"].status == "pending"
    assert not server.asked("MARK-large.")
    assert not server.asked("MARK-late.")


def test_without_a_budget_they_do(server: ScriptedServer, backend: str) -> None:
    """The negative control: the fallback model is asked, then the fallback agent answers."""
    server.reply("Worker", Reply(status=400), forever=True).reply("MARK", "ok", forever=True)
    agent = WORKER.model_copy(update={"fallback": "other"})
    result = run_team(team(server, chain_of("one", agent=agent), None, agents=[OTHER]), backend=backend)
    assert (result.status, result.tasks["one"].agent) == ("completed", "other")


@pytest.mark.parametrize(("calls", "one", "two"), [(1, "failed", "pending"), (2, "failed", "pending"), (3, "completed", "failed")])
def test_a_coworkers_calls_count(server: ScriptedServer, backend: str, calls: int, one: str, two: str) -> None:
    """The run ends with the budget's own error, not with one of delegation, and no fallback answers for the coworker.

    The caller asks, the coworker answers, the caller answers: the fourth call would be the second task's.
    """
    server.reply("S-WORK", "S-ANSWER", forever=True)
    server.reply("MARK", Reply(tool_calls=[call("delegate_work_to_coworker", {"task": "S-WORK", "coworker": "other"})]))
    server.reply("MARK", "done", forever=True)
    caller = WORKER.model_copy(update={"delegates_to": ("other",)})
    coworker = OTHER.model_copy(update={"fallback": "third"})
    spec = team(server, chain_of("one", "two", agent=caller), {"model_calls": calls}, agents=[coworker, AgentSpec(name="third", role="T")])
    events: list[Event] = []
    _, result = fails(spec, backend, on_event=events.append)
    assert [event.coworker for event in events if isinstance(event, WorkDelegated)] == ["other"]
    assert states(result) == {"one": one, "two": two}
    assert len(server.requests) == calls


def test_a_group_chats_turns_and_selections_count(server: ScriptedServer, backend: str) -> None:
    """A chat of four turns, each after a selection: with five calls it fails in its third turn, and no fallback speaks."""
    server.reply("MARK", "worker", forever=True)
    speaker = WORKER.model_copy(update={"fallback": "other"})
    chat = TaskSpec(
        name="chat", description="MARK", participants=[speaker, OTHER], speaker_selection="model", max_rounds=4
    )  # fmt: skip
    _, result = fails(team(server, [chat], {"model_calls": 5}), backend)
    assert (len(server.requests), states(result)) == (5, {"chat": "failed"})
    assert not [note for note in result.tasks["chat"].notes if "fallback" in note]


def test_a_group_chat_within_its_budget_completes(server: ScriptedServer, backend: str) -> None:
    """The negative control."""
    server.reply("MARK", "worker", forever=True)
    chat = TaskSpec(name="chat", description="MARK", participants=[WORKER, OTHER], speaker_selection="model", max_rounds=4)
    assert run_team(team(server, [chat], {"model_calls": 8}), backend=backend).status == "completed"
    assert len(server.requests) == 8


SECONDS = 3
"""Within these the framework must have begun its call or tool, which on a busy machine takes longer than one: all threads of the run wait for their turn."""


@pytest.mark.parametrize("seconds", [SECONDS, 30])
def test_seconds_end_what_is_under_way(server: ScriptedServer, backend: str, seconds: float) -> None:
    """When the time is over a call under way ends with it; the control has time enough."""
    run_team(team(server.reply("MARK-warm.", "ok"), chain_of("warm"), None), backend=backend)  # the framework's import is over
    server.reply("MARK-quick.", "ok").reply("MARK-slow.", Reply(text="ok", delay=25 if seconds == SECONDS else 1.2)).reply(
        "MARK-late.", "ok"
    )
    spec = team(server, chain_of("quick", "slow", "late"), {"seconds": seconds})
    began = time.monotonic()
    if seconds == 30:
        assert run_team(spec, backend=backend).status == "completed"
        return
    error, result = fails(spec, backend)
    assert time.monotonic() - began < 20
    assert states(result) == {"quick": "completed", "slow": "failed", "late": "pending"}
    assert f"budget.seconds is {SECONDS}, and that time is over" in str(error)
    assert not server.asked("MARK-late.")


def test_seconds_end_a_tool_under_way(server: ScriptedServer, backend: str) -> None:
    """A tool that is still at work does not hold the run."""
    begun, released = threading.Event(), threading.Event()

    def slow(q: str) -> str:
        """Works until the run has ended."""
        begun.set()
        released.wait(30)
        return "late"

    run_team(team(server.reply("MARK-warm.", "ok"), chain_of("warm"), None), backend=backend)
    server.reply("MARK", Reply(tool_calls=[call("slow", {"q": "x"})]), "done")
    began = time.monotonic()
    _, result = fails(team(server, chain_of("one", agent=AgentSpec(name="a", role="A", tools=[slow])), {"seconds": SECONDS}), backend)
    released.set()
    assert begun.is_set()
    assert time.monotonic() - began < 20
    assert (states(result), len(server.requests)) == ({"one": "failed"}, 2)


def test_a_summary_counts_as_a_call(server: ScriptedServer, backend: str) -> None:
    """The token window's own calls are in the budget and in the usage."""

    def look(q: str) -> str:
        """Finds a lot."""
        return "word " * 300

    agent = AgentSpec(name="a", role="A", tools=[look])
    server.reply("Sum all of it up", "S-SUMMARY", forever=True)
    server.reply("MARK", *[Reply(tool_calls=[call("look", {"q": str(n)})]) for n in range(4)], "done")
    spec = team(server, chain_of("one", agent=agent), {"model_calls": 50}, token_window={"limit": 900, "strategy": "summarize"})
    result = run_team(spec, backend=backend)
    summaries = len(server.asked("Sum all of it up"))
    assert summaries > 0
    assert result.usage.model_calls == len(server.requests) == summaries + 5
    tight = spec.model_copy(update={"budget": spec.budget.model_copy(update={"model_calls": 4})})  # type: ignore[union-attr]
    server.reply("MARK", *[Reply(tool_calls=[call("look", {"q": str(n)})]) for n in range(4)], "done")
    asked = len(server.requests)
    fails(tight, backend)
    assert len(server.requests) - asked == 4


def test_a_resumed_run_goes_on_from_what_was_spent(server: ScriptedServer, backend: str) -> None:
    """What was spent before counts: with the same budget nothing more is asked, with one call more exactly one."""
    server.reply("MARK", "ok", forever=True)
    spent = team(server, chain_of("one", "two"), {"model_calls": 1})
    with pytest.raises(BudgetExceededError):
        run_team(spent, backend=backend, run_id="r")
    assert len(server.requests) == 1
    with pytest.raises(BudgetExceededError, match=r"budget\.model_calls is 1, 1 of it spent"):
        resume_run("r", team=spent)
    assert len(server.requests) == 1
    assert resume_run("r", team=team(server, chain_of("one", "two"), {"model_calls": 2})).status == "completed"
    assert len(server.requests) == 2


@pytest.mark.parametrize(("usage", "asked"), [(None, 1), ({"prompt_tokens": 7}, 1), ({"prompt_tokens": 7, "completion_tokens": 3}, 2)])
@pytest.mark.parametrize("kind", ["tokens", "usd"])
def test_a_resumed_run_knows_what_was_assumed(server: ScriptedServer, backend: str, kind: str, usage: Any, asked: int) -> None:
    """A call whose usage its provider did not report, or half of it, counts in the next session as it did in its own."""
    server.reply("MARK-one.", Reply(text="ok", usage=usage)).reply("MARK-two.", Reply(status=401), "ok")
    error, _ = fails(team(server, chain_of("one"), {"tokens": 20}), backend)
    need = int(str(error).split("may take ")[1].split()[0])  # of one call: 20 for its answer, the rest for its request
    price = {"openai/scripted": {"input_per_million": 1e6, "output_per_million": 1e6}}
    events: list[Event] = []
    with pytest.raises(RunError) as caught:
        run_team(team(server, chain_of("one", "two"), {kind: need * 3}, prices=price), backend=backend, run_id="r", on_event=events.append)
    assert type(caught.value).__name__ == "AuthenticationError"
    assert sum(isinstance(event, UsageAssumed) for event in events) == (asked == 1)
    server.requests.clear()
    small = team(server, chain_of("one", "two"), {kind: need + 12}, prices=price)
    if asked == 1:  # 27 of it are assumed at least
        with pytest.raises(BudgetExceededError, match="of it spent"):
            resume_run("r", team=small)
        assert not server.requests
    else:
        assert resume_run("r", team=small).status == "completed"


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(("price", "unread"), [("openai/scriptd", ["prices.openai/scriptd"]), ("openai/scripted", [])])
def test_a_price_that_nobody_reads_is_said(
    server: ScriptedServer, backend: str, monkeypatch: pytest.MonkeyPatch, named: bool, price: str, unread: list[str]
) -> None:
    """By the run itself, whether the file names the model or the environment does."""
    for name, value in (("OPENAI_MODEL", "scripted"), ("OPENAI_BASE_URL", server.base_url), ("OPENAI_API_KEY", "k")):
        monkeypatch.setenv(name, value)
    server.reply("MARK", "ok")
    prices = {price: {"input_per_million": 1.0, "output_per_million": 1.0}}
    spec = TeamSpec(models={"default": server.model()} if named else {}, tasks=chain_of("one"), prices=prices)
    events: list[Event] = []
    result = run_team(spec, backend=backend, on_event=events.append)
    assert [path for event in events if isinstance(event, FieldsUnused) for path in event.paths] == unread
    assert (result.usage.cost_usd is None) == bool(unread)


def test_cost_by_task_agent_and_model(server: ScriptedServer, backend: str) -> None:
    """Each task, agent and model has its own cost; the run's is their sum; an attempt that failed costs nothing that is known."""
    server.reply("MARK-one.", Reply(status=500), "ok").reply("MARK-two.", "ok")
    models = {"default": server.model(), "dear": server.model(model="openai/dear")}
    prices = {**PRICE, "openai/dear": {"input_per_million": 1_000_000.0, "output_per_million": 1_000_000.0}}
    dear = AgentSpec(name="dear", role="D", model="dear")
    tasks = [*chain_of("one"), *chain_of("two", agent=dear)]
    events: list[Event] = []
    result = run_team(TeamSpec(models=models, tasks=tasks, prices=prices), backend=backend, on_event=events.append)
    costs = {name: task.usage.cost_usd for name, task in result.tasks.items()}
    assert costs == {"one": pytest.approx(1.3), "two": pytest.approx(10.0)}
    assert result.usage.cost_usd == pytest.approx(11.3)
    assert result.usage.by_agent["dear"].cost_usd == result.usage.by_model["openai/dear"].cost_usd == pytest.approx(10.0)
    assert sorted(event.cost_usd or 0 for event in events if isinstance(event, ModelCalled)) == pytest.approx([0, 1.3, 10.0])


def test_a_cost_with_an_unknown_part_is_null(server: ScriptedServer, backend: str) -> None:
    """A model without a price, or an answer without usage, makes its task's cost and the run's unknown, and leaves the others' alone."""
    server.reply("MARK-one.", "ok").reply("MARK-two.", "ok").reply("MARK-three.", Reply(text="ok", usage=None))
    models: dict[str, ModelSpec] = {"default": server.model(), "other": server.model(model="openai/gpt-4o")}
    tasks = [*chain_of("one"), *chain_of("two", agent=AgentSpec(name="o", role="O", model="other")), *chain_of("three")]
    result = run_team(TeamSpec(models=models, tasks=tasks, prices=PRICE), backend=backend)
    costs = {name: task.usage.cost_usd for name, task in result.tasks.items()}
    assert costs == {"one": pytest.approx(1.3), "two": None, "three": None}
    assert (result.usage.cost_usd, result.usage.by_model["openai/gpt-4o"].cost_usd) == (None, None)
