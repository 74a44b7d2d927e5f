"""Recorded answers serve every backend, and a comparison says what was: its numbers are those that the server counted."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from unified_agents import AgentSpec, RunResult, ScriptedModel, SpecError, TaskSpec, TeamSpec, compare_backends, run_team
from unified_agents.comparison import ComparedRun
from unified_agents.errors import MissingRecordError, ModelError
from unified_agents.events import TextStreamed
from unified_agents.registry import get_backend, names
from unified_agents.testing import Reply, Request, ScriptedServer, call

FILE = "answers.json"


def look(q: str) -> str:
    """Looks."""
    return f"FOUND {q}"


def team(model: Any, tool: Callable[[str], str] = look, **fields: Any) -> TeamSpec:
    """Two tasks: a tool, then a delegation."""
    ann = AgentSpec(name="ann", role="Worker", tools=[tool])
    boss = AgentSpec(name="boss", role="Boss", delegates_to=["ann"])
    one = TaskSpec(name="one", description="ONE {x}", agent=ann)
    two = TaskSpec(name="two", description="TWO {x}", agent=boss, context=["one"])
    return TeamSpec(**{"name": "pair", "inputs": {"x": "a"}, "tasks": [one, two], "models": {"default": model}, **fields})


def script(server: ScriptedServer, times: int = 1) -> None:
    """Five answers for each run of the team, told apart by the words that only one of its conversations holds."""
    server.reply("HANDED", "helped", forever=True)
    for _ in range(times):
        server.reply("TWO", Reply(tool_calls=[call("delegate_work_to_coworker", {"task": "HANDED", "coworker": "ann"}, "d")]), "second")
        server.reply("ONE", Reply(tool_calls=[call("look", {"q": "x"}, "l")]), "first")


def recorded(server: ScriptedServer, backend: str) -> RunResult:
    """A run whose answers are kept."""
    script(server)
    return run_team(team(server.model(model="openai/gpt-4o-mini")), backend=backend, record=FILE)


def test_what_was_recorded_on_one_backend_serves_all(server: ScriptedServer, backend: str) -> None:
    """Without key or network: the same output, requests, tokens and tool calls; prices are the real model's."""
    before = recorded(server, another(backend))
    asked = len(server.requests)
    after = run_team(team("openai/gpt-4o-mini"), backend=backend, replay=FILE)
    assert (after.output, after.usage.model_calls) == (before.output, before.usage.model_calls) == ("second", 5)
    assert (after.usage.input_tokens, after.usage.output_tokens) == (35, 15)
    assert after.usage.cost_usd == pytest.approx((35 * 0.15 + 15 * 0.6) / 1e6)
    assert len(server.requests) == asked


def another(backend: str) -> str:
    """A backend that is not this one."""
    return next(name for name in names() if name != backend)


def test_a_missing_answer_is_an_error(server: ScriptedServer, backend: str) -> None:
    """It names call and file; nothing is asked live, and no other model or attempt is tried."""
    recorded(server, backend)
    document = json.loads(Path(FILE).read_text())
    (calls,) = document["answers"].values()
    del calls["two.1/boss:2"]
    Path(FILE).write_text(json.dumps(document))
    asked = len(server.requests)
    spec = team(server.model(model="openai/gpt-4o-mini", fallbacks=["other"]))
    spec = spec.model_copy(update={"models": {**spec.models, "other": server.model()}})
    with pytest.raises(MissingRecordError, match=r"answers\.json holds no answer for call two\.1/boss:2") as caught:
        run_team(spec, backend=backend, replay=FILE)
    assert caught.value.result is not None
    assert caught.value.result.tasks["one"].status == "completed"
    assert len(server.requests) == asked


def test_answers_belong_to_their_inputs(server: ScriptedServer, backend: str) -> None:
    """A file holds the runs of several inputs; recording one again replaces its own answers alone."""
    recorded(server, backend)
    script(server)
    run_team(team(server.model()), {"x": "b"}, backend=backend, record=FILE)
    script(server)
    run_team(team(server.model()), {"x": "b"}, backend=backend, record=FILE)
    assert len(json.loads(Path(FILE).read_text())["answers"]) == 2
    for inputs in ({"x": "a"}, {"x": "b"}, {}):
        assert run_team(team("openai/gpt-4o-mini"), inputs, backend=backend, replay=FILE).output == "second"
    with pytest.raises(MissingRecordError, match="nothing for these inputs"):
        run_team(team("openai/gpt-4o-mini"), {"x": "c"}, backend=backend, replay=FILE)


def test_a_failed_run_keeps_what_it_got(server: ScriptedServer, backend: str) -> None:
    """Failed attempts are not recorded; the answers before the failure are."""
    server.reply("ONE", Reply(status=500), "first").reply("TWO", Reply(status=401))
    with pytest.raises(ModelError):
        run_team(team(server.model()), backend=backend, record=FILE)
    (calls,) = json.loads(Path(FILE).read_text())["answers"].values()
    assert {key: [answer["text"] for answer in kept] for key, kept in calls.items()} == {"one.1/ann:1": ["first"]}


@pytest.mark.parametrize(
    ("options", "content", "said"),
    [
        ({"replay": FILE}, None, "record it first"),
        ({"replay": FILE}, "[]", "holds no recorded answers"),
        ({"replay": FILE}, '{"version": 9, "answers": {}}', "version: Input should be 1"),
        ({"replay": FILE, "record": "x.json"}, '{"version": 1, "answers": {}}', "stands beside replay"),
        ({"record": FILE}, "no json", "holds no recorded answers"),
        ({"record": "/dev/null/x.json"}, None, "cannot be written"),
    ],
)
def test_a_file_that_will_not_do(server: ScriptedServer, backend: str, options: Mapping[str, Any], content: str | None, said: str) -> None:
    """It is said what is wrong with it and what to type; a file of something else is not overwritten."""
    if content is not None:
        Path(FILE).write_text(content)
    if "cannot" in said:
        script(server)
    with pytest.raises(SpecError, match=said):
        run_team(team(server.model()), backend=backend, **options)
    assert content is None or Path(FILE).read_text() == content


def test_a_replay_streams_its_text(server: ScriptedServer, backend: str) -> None:
    """With `stream: true` recorded answers come as text deltas too."""
    recorded(server, backend)
    events: list[Any] = []
    run_team(team("openai/gpt-4o-mini", stream=True), backend=backend, replay=FILE, on_event=events.append)
    assert [event.text for event in events if isinstance(event, TextStreamed)] == ["first", "helped", "second"]


def test_the_numbers_are_the_servers(server: ScriptedServer, backend: str) -> None:
    """Each number of each backend's task is what the server counted while that backend ran; failed attempts are requests without tokens."""
    both, asked = [another(backend), backend], [0]
    usage = {"ONE": (100, 10), "TWO": (1000, 7), "HANDED": (10_000, 3)}
    said = {word: {"prompt_tokens": taken, "completion_tokens": given, "total_tokens": 0} for word, (taken, given) in usage.items()}
    helped = [call("delegate_work_to_coworker", {"task": "HANDED", "coworker": "ann"}, "d")]
    looked = [call("look", {"q": "x"}, "l")]
    server.reply("HANDED", Reply(text="helped", usage=said["HANDED"]), forever=True)
    server.reply("TWO", Reply(status=500), Reply(text="second", usage=said["TWO"]))
    server.reply("TWO", Reply(tool_calls=helped, usage=said["TWO"]), Reply(text="second", usage=said["TWO"]))
    server.reply("ONE", Reply(text="first", usage=said["ONE"]))
    server.reply("ONE", Reply(tool_calls=looked, usage=said["ONE"]), Reply(text="first", usage=said["ONE"]))
    spec = team(server.model(), prices={"openai/scripted": {"input_per_million": 0.15, "output_per_million": 0.6}})
    made = compare_backends(spec, both, on_run=lambda _run: asked.append(len(server.requests)))
    seen = {name: server.requests[asked[n] : asked[n + 1]] for n, name in enumerate(both)}
    assert (asked[-1], [len(seen[name]) for name in both]) == (len(server.requests), [3, 5])
    for name in both:
        for task, words in (("one", ("ONE",)), ("two", ("TWO", "HANDED"))):
            own = [(word, request) for request in seen[name] for word in words if _opened(request, word)]
            paid = [usage[word] for word, request in own if request.status == 200]
            taken, given = sum(one for one, _ in paid), sum(one for _, one in paid)
            cost = (taken * 0.15 + given * 0.6) / 1e6
            found = [made.values(name, task, metric) for metric in ("requests", "input_tokens", "output_tokens", "retries", "tool_calls")]
            assert found == [[len(own)], [taken], [given], [len(own) - len(paid)], [float(name == both[1])]], (name, task)
            assert made.values(name, task, "cost_usd") == [pytest.approx(cost)]
    assert [len(made.values(name, None, "requests")) for name in both] == [1, 1]


def _opened(request: Request, word: str) -> bool:
    """Whether a request is of the conversation that began with a word."""
    return word in next(str(message["content"]) for message in request.messages if message["role"] == "user")


def test_the_backends_take_turns(server: ScriptedServer, backend: str) -> None:
    """Row by row, another one first each time."""
    both, seen = [another(backend), backend], list[tuple[int, int, str]]()
    server.reply("ONE", "first", forever=True).reply("TWO", "second", forever=True)
    rows = [{"x": "a"}, {"x": "b"}, {"x": "c"}]
    compare_backends(team(server.model()), both, inputs=rows, repeat=2, on_run=lambda run: seen.append((run.repeat, run.row, run.backend)))
    turns = [both, both[::-1]] * 3
    assert seen == [(n // 3, n % 3, name) for n, turn in enumerate(turns) for name in turn]


def test_seconds_outside_of_models(server: ScriptedServer, backend: str) -> None:
    """What a tool takes counts as outside, what a model takes does not; from and to are the shortest and the longest run."""

    def slow(q: str) -> str:
        """Takes its time."""
        time.sleep(0.3)
        return q

    for _ in range(4):
        server.reply("ONE", Reply(tool_calls=[call("slow", {"q": "x"}, "l")], delay=0.4), "first")
    server.reply("TWO", "second", forever=True)
    made = compare_backends(team(server.model(), slow), [another(backend), backend], repeat=2)
    for row in made.rows()[::2]:
        runs = [run.tasks["one"].duration_s or 0.0 for run in made.of(row["backend"])]
        assert 0.3 <= row["outside_s"] <= row["duration_s"] - 0.4
        assert (row["duration_s_min"], row["duration_s_max"]) == (min(runs), max(runs))


def test_structured_outputs_are_compared_by_what_they_say(server: ScriptedServer, backend: str) -> None:
    """The same structure in other words is the same; another one is not."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    agent = AgentSpec(name="a", role="R")
    spec = TeamSpec(
        name="s", models={"default": server.model()}, tasks=[TaskSpec(name="t", description="DO", agent=agent, output_schema=schema)]
    )
    server.reply("DO", '{"n": 1}', '{ "n" : 1 }', '{"n": 1}', '{"n": 2}')
    made = compare_backends(spec, [another(backend), backend], repeat=2)
    row = made.rows()[1]
    assert (row["outputs_equal"], row["structured_equal"], made.equal) == (0.0, 0.5, False)


def test_backends_on_identical_answers(server: ScriptedServer, backend: str) -> None:
    """Outputs are equal and the comparison says so; a scorer sees each result; rows and repeats are paired."""
    both = [another(backend), backend]
    script(server, 8)
    kept = compare_backends(team(server.model()), both, inputs=[{"x": "a"}, {"x": "b"}], repeat=2, record=FILE)
    assert kept.equal
    asked = len(server.requests)

    def has_words(inputs: Mapping[str, Any], result: RunResult) -> bool:
        return bool(result.output) and inputs["x"] in "ab"

    def broken(_inputs: Mapping[str, Any], _result: RunResult) -> float:
        raise ZeroDivisionError("oh")

    made = compare_backends(
        team("openai/gpt-4o-mini"), both, inputs=[{"x": "a"}, {"x": "b"}], repeat=2, replay=FILE, scorers=[has_words, broken]
    )
    assert made.equal
    assert len(server.requests) == asked
    assert [(run.repeat, run.row, run.backend) for run in made.runs] == [
        (n, row, name) for n in range(2) for row in range(2) for name in both
    ]
    assert {run.scores["has_words"] for run in made.runs} == {1.0}
    assert {(run.scores["broken"], *run.notes) for run in made.runs} == {(None, "broken failed: ZeroDivisionError: oh")}
    tokens = made.difference(backend, "one", "input_tokens")
    assert tokens is not None
    assert (tokens.mean, tokens.low, tokens.high, tokens.pairs, tokens.clear) == (0, 0, 0, 4, False)


def test_outputs_that_differ_are_said_to(server: ScriptedServer, backend: str) -> None:
    """The negative control of equality, with how alike they are."""
    server.reply("HANDED", "helped", forever=True).reply("ONE", "same", forever=True).reply("TWO", "the tide is out", "the tide is in")
    made = compare_backends(team(server.model()), [another(backend), backend])
    agreement = made.agreement(backend, "two")
    assert not made.equal
    assert agreement is not None
    assert (agreement.pairs, agreement.equal, agreement.similarity) == (1, 0, 0.75)
    assert made.agreement(backend, "one").equal == 1  # type: ignore[union-attr]  # there is a pair


def test_prompts_side_by_side(server: ScriptedServer, backend: str) -> None:
    """What each backend sent first; with neutral prompts there is no difference and no token is added."""
    script(server, 4)
    native = compare_backends(team(server.model()), ["crewai", backend] if backend != "crewai" else ["autogen", "crewai"])
    one = native.prompts("one")
    assert set(one) == set(native.backends)
    assert all("ONE a" in str(messages[-1]["content"]) for messages in one.values())
    assert "Current Task" in native.prompt_diff("one")
    assert min(native.values("crewai", "one", "added_tokens")) > 0
    same = compare_backends(team(server.model(), prompts="neutral"), [another(backend), backend])
    assert same.prompt_diff("one") == "the same"
    assert [same.values(name, "one", "added_tokens") for name in same.backends] == [[0.0], [0.0]]


def test_a_backend_that_fails_is_a_row(server: ScriptedServer, backend: str) -> None:
    """Unknown ones, and runs that fail, with their reasons; the others' numbers stand."""
    server.reply("ONE", Reply(status=401), forever=True)
    seen: list[ComparedRun] = []
    made = compare_backends(team(server.model()), [backend, "nope"], on_run=seen.append)
    assert [(run.backend, run.status) for run in made.runs] == [(backend, "failed"), ("nope", "refused")]
    assert [run.backend for run in seen] == [backend, "nope"]
    assert "AuthenticationError" in str(made.runs[0].error)
    assert "unknown backend 'nope'" in str(made.runs[1].error)
    assert (made.success_rate(backend, "one"), made.success_rate("nope", "one"), made.equal) == (0.0, 0.0, False)


def test_runs_begin_from_a_clean_state(server: ScriptedServer, backend: str) -> None:
    """No memory goes from one run to the next, and none of the team's own is touched; nothing is journalled."""
    remember: list[str | Reply] = [Reply(tool_calls=[call("remember", {"text": "ONE is known", "key": "one"})]), "first"]
    server.reply("TWO", "second", forever=True).reply("ONE", *(remember * 4))
    compare_backends(team(server.model(), memory=True), [another(backend), backend], repeat=2)
    assert not server.asked("What the team remembers")
    assert not Path(".unified_agents").exists()


def test_no_run_meets_what_another_one_left_of_the_models(server: ScriptedServer, backend: str) -> None:
    """Neither an open circuit nor a rate limit that is used up: the second run waits for nothing."""
    used = {"prompt_tokens": 1100, "completion_tokens": 300, "total_tokens": 1400}
    server.reply("ONE bad", Reply(status=500), forever=True)
    server.reply("ONE", Reply(text="first", usage=used), forever=True).reply("TWO", "second", forever=True)
    model = server.model(rate_limit={"tokens_per_minute": 3000})
    opens = {"circuit_breaker": {"failure_threshold": 1, "failure_rate": 0.1, "recovery_time": 300}, "retry": {"max_attempts": 1}}
    made = compare_backends(team(model, resilience=opens), [another(backend), backend], inputs={"x": "bad"})
    assert [run.error is not None and "HTTP 500" in run.error for run in made.runs] == [True, True]
    made = compare_backends(team(model), [another(backend), backend], repeat=2)
    assert [event for run in made.runs for event in run.events if event.type == "CallWaited"] == []


def test_no_other_backend_takes_over(server: ScriptedServer, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken backend is a row that failed, whatever the file says of a fallback."""

    def broken(*_: Any) -> Any:
        raise RuntimeError("broken framework")

    monkeypatch.setattr(type(get_backend(backend).adapter), "build", broken)
    made = compare_backends(team(server.model(), fallback_backend=another(backend)), [backend])
    assert [(run.status, server.requests) for run in made.runs] == [("failed", [])]
    assert "broken framework" in str(made.runs[0].error)


def test_a_row_that_leads_outside_is_told_before_the_first_run(server: ScriptedServer, backend: str) -> None:
    """What only the inputs make wrong, in any row."""
    task = TaskSpec(name="one", description="ONE", agent=AgentSpec(name="a", role="R"), output_file="{x}.txt")
    spec = TeamSpec(name="files", inputs={"x": "a"}, tasks=[task], models={"default": server.model()})
    with pytest.raises(SpecError, match=r"inputs\[1\]: tasks.one.output_file becomes '../evil.txt'"):
        compare_backends(spec, [backend], inputs=[{"x": "fine"}, {"x": "../evil"}])
    assert server.requests == []


def test_runs_are_kept_when_the_team_goes_wrong_meanwhile(server: ScriptedServer, backend: str) -> None:
    """Somebody damages the file between two runs: those are failures, and what was run stands."""
    path = Path("team.yaml")
    models = f"{{default: {{model: openai/x, base_url: '{server.base_url}', api_key: k}}}}"
    text = f"name: x\nmodels: {models}\nagents: {{a: {{role: R}}}}\ntasks: {{t: {{description: DO, agent: a}}}}\n"
    path.write_text(text)
    server.reply("DO", "done", forever=True)
    made = compare_backends(path, [backend], repeat=2, on_run=lambda _run: path.write_text("tasks: 5"))  # type: ignore[arg-type]
    assert [run.status for run in made.runs] == ["completed", "failed"]
    assert str(made.runs[1].error).startswith("SpecError: ")


def test_a_row_that_is_not_there(server: ScriptedServer, backend: str) -> None:
    """Prompts of a row that was never run are an error, not nothing."""
    server.reply("ONE", "first", forever=True).reply("TWO", "second", forever=True)
    made = compare_backends(team(server.model()), [backend])
    assert made.prompts("one", 0)
    with pytest.raises(ValueError, match="found row 1, expected one of the 1 rows"):
        made.prompts("one", 1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"backends": []}, "backends: found none, expected names"),
        ({"backends": ["autogen", "autogen"]}, "expected names, each once"),
        ({"repeat": 0}, "repeat: found 0"),
        ({"repeat": "2"}, "repeat: found '2'"),
        ({"inputs": 5}, r"inputs\[0\]: found int, expected a mapping"),
        ({"inputs": {1: "x"}}, "found 1 as an input's name"),
        ({"inputs": [{"x": "a"}, {"y": "b"}]}, r"inputs\[1\].y: no such input"),
        ({"inputs": []}, "found no rows"),
        ({"scorers": [lambda *_: 1.0, lambda *_: 0.0]}, "two are called '<lambda>'"),
        ({"on_run": 3}, "on_run: found int"),
        ({"progress": 1}, "progress: found 1"),
        ({"record": "/dev/null/x.json"}, "record: /dev/null/x.json cannot be written"),
        ({"record": FILE, "replay": FILE}, "stands beside replay"),
    ],
)
def test_what_cannot_be_compared(server: ScriptedServer, wrong: dict[str, Any], said: str) -> None:
    """It is told before the first run: all rows are looked at, nothing is paid for."""
    with pytest.raises(SpecError, match=said):
        compare_backends(team(server.model()), **{"backends": ["autogen"], **wrong})
    assert server.requests == []


def test_nothing_that_ran_is_not_equal(server: ScriptedServer) -> None:
    """A name instead of a list is that backend; where none could begin nothing is equal."""
    made = compare_backends(team(server.model()), "nobody", repeat=2)
    assert (made.backends, made.equal, made.verdict) == (["nobody"], False, "")
    assert compare_backends(team(server.model()), ["nobody", "none"]).verdict == "Some outputs are missing."


def test_a_scorer_changes_nothing(server: ScriptedServer, backend: str) -> None:
    """Neither the inputs of later runs nor what the comparison says of them; what is no number is not known."""
    script(server, 2)

    def pops(inputs: Any, _result: RunResult) -> float:
        inputs.pop("x")
        return float("nan")

    made = compare_backends(team(server.model()), [another(backend), backend], inputs={"x": "b"}, scorers=[pops])
    assert [run.inputs for run in made.runs] == [{"x": "b"}, {"x": "b"}]
    assert len(server.asked("ONE b")) == 4
    assert made.runs[0].notes == ["pops failed: ValueError: found nan, expected a finite number, True or False"]
    assert made.values(backend, None, "score_pops") == made.values(backend, "one", "score_pops") == []
    assert json.loads(json.dumps(made.to_dict(), allow_nan=False))["totals"][0]["score_pops"] is None


def test_answers_are_kept_when_a_comparison_is_stopped(server: ScriptedServer, backend: str) -> None:
    """What was paid for is in the file; a recording that fails keeps what the file held."""
    script(server)
    server.reply("ONE", Reply(status=401))

    def stop(_run: ComparedRun) -> None:
        raise RuntimeError("a listener that fails")  # is logged, and ends nothing

    compare_backends(team(server.model()), [backend], repeat=2, record=FILE, on_run=stop)
    kept = Path(FILE).read_text()
    assert len(next(iter(json.loads(kept)["answers"].values()))) == 5
    with pytest.raises(ModelError):
        run_team(team(server.model(base_url="http://127.0.0.1:9/v1")), backend=backend, record=FILE)
    assert Path(FILE).read_text() == kept


def test_two_that_record_at_once_lose_nothing(server: ScriptedServer, backend: str) -> None:
    """Each adds to the file as it is when it is done."""
    server.reply("HANDED", "helped", forever=True).reply("TWO", "second", forever=True).reply("ONE", "first", forever=True)
    threads = [
        threading.Thread(target=run_team, args=(team(server.model()), {"x": str(n)}), kwargs={"backend": backend, "record": FILE})
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads(Path(FILE).read_text())["answers"]) == 4
    assert [path.name for path in Path().iterdir() if path.name.startswith(f".{FILE}")] == []


def test_an_answer_that_utf8_cannot_hold_is_kept(backend: str) -> None:
    """A lone surrogate is a question mark in the file, as in a request."""
    models = {"default": ScriptedModel(lambda _: "odd \ud800")}
    assert run_team(team("openai/gpt-4o-mini"), backend=backend, models=models, record=FILE).output == "odd ?"
    assert run_team(team("openai/gpt-4o-mini"), backend=backend, replay=FILE).output == "odd ?"


@pytest.mark.parametrize(
    "answer", [{"text": "x"}, {"text": "x", "model": "m", "finish_reason": None, "tool_calls": None, "input_tokens": 1, "output_tokens": 1}]
)
def test_a_damaged_answer_is_told_before_the_run(server: ScriptedServer, backend: str, answer: dict[str, Any]) -> None:
    """By its place in the file."""
    Path(FILE).write_text(json.dumps({"version": 1, "answers": {"s": {"one.1/ann:1": [answer]}}}))
    with pytest.raises(SpecError, match=r"holds no recorded answers: answers\.s\.one\.1/ann:1\.0\."):
        run_team(team(server.model()), backend=backend, replay=FILE)


def test_a_recorded_comparison_adds_to_its_file(server: ScriptedServer, backend: str) -> None:
    """Answers of other inputs stay, those of the same are made anew and served to all backends; a file of something else is not overwritten."""
    both = [another(backend), backend]
    server.reply("HANDED", "helped", forever=True).reply("ONE", "first", forever=True).reply("TWO a", "old", "new", "newer").reply(
        "TWO b", "other", "other"
    )
    run_team(team(server.model()), {"x": "a"}, backend=backend, record=FILE)
    compare_backends(team(server.model()), both, inputs={"x": "b"}, record=FILE)
    compare_backends(team(server.model()), both, inputs={"x": "a"}, record=FILE)
    for inputs, said in (({"x": "a"}, "new"), ({"x": "b"}, "other")):
        assert run_team(team("openai/gpt-4o-mini"), inputs, backend=backend, replay=FILE).output == said
    Path("mine.json").write_text("[]")
    with pytest.raises(SpecError, match="holds no recorded answers"):
        compare_backends(team(server.model()), both, record="mine.json")
    assert Path("mine.json").read_text() == "[]"
