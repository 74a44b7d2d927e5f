"""What the journal keeps of how a run was made: enough to resume it, and nothing that may be secret."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from pydantic import BaseModel

from unified_agents import AgentSpec, ModelError, ScriptedModel, SpecError, TaskSpec, TeamSpec, resume_run, run_team
from unified_agents.definition import _may_be_stored
from unified_agents.errors import UnfinishedCallError
from unified_agents.testing import Reply, ScriptedServer, call

STORED = [
    "models.default.max_tokens=5", "models.default.rate_limit.tokens_per_minute=5", "token_window.limit=5", "budget.tokens=5",
    "budget={tokens: 50000}", "agents.ann.role=Keeper of secrets", "agents[0].role=R", "tasks.key.description=D", "agents.env.role=R",
    "models.default.temperature=0.5", "models.default={model: openai/x, max_tokens: 33}", "models[0].seed=1", "tools.web.timeout=5",
    "memory.store=sqlite:///m.db", "inputs.topic=x",
]  # fmt: skip
WITHHELD = [
    "models.default.api_key=x", "models.default.extra_headers.X=y", "models.default.extra_body.accessToken=x", "models.default.extra_body.pwd=x",
    "models.default.base_url=https://h/?key=x", 'models.default={"api_key": "x"}', "models={default: {model: openai/x, api_key: y}}",
    "tools.web.with.api_token=x", "tools.web.mcp.env.A=b", "tools.f.mcp.args=[--pat, x]", "tools.f.mcp={command: x, args: [--pat, x]}",
    "tools.f.mcp.url=https://h/?token=x", "tools.f={python: m:n, with: {dsn: x}}", "unknown=x", "models.default.extra_body={a: [",
]  # fmt: skip


@pytest.mark.parametrize("setting", [*STORED, *WITHHELD])
def test_which_settings_are_stored(setting: str) -> None:
    """Those alone that cannot hold a secret, also inside of a mapping that is given whole."""
    path, _, value = setting.partition("=")
    assert _may_be_stored(path, value) is (setting in STORED)


def team(model: Any, **fields: Any) -> TeamSpec:
    """One task of an agent that may pay."""
    agent = AgentSpec(name="a", role="R", **fields)
    return TeamSpec(name="t", tasks=[TaskSpec(name="x", description="MARK", agent=agent)], models={"default": model})


class Layer:
    """A layer of one's own."""

    async def __call__(self, request: Any, call_next: Any) -> Any:
        """Hands on."""
        return await call_next(request)


def test_what_was_given_in_python_must_be_given_again(server: ScriptedServer) -> None:
    """Models, tools and layers: else another model would be asked, and a layer that takes out names would be gone."""

    def look(q: str) -> str:
        """Looks."""
        return q

    model = ScriptedModel(lambda _: ModelError("down"))
    spec = team(server.model(), tools=["look"])
    with pytest.raises(ModelError):
        run_team(spec, backend="autogen", run_id="r", models={"default": model}, tools={"look": look}, middleware=[Layer()])
    with pytest.raises(SpecError) as caught:
        resume_run("r", team=spec, tools={"look": look})
    assert [problem.path for problem in caught.value.problems] == ["middleware", "models.default"]
    assert not server.requests
    good = ScriptedModel({"x": "done"})
    assert resume_run("r", team=spec, models={"default": good}, tools={"look": look}, middleware=[Layer()]).output == "done"


class Answer(BaseModel):
    """A structured answer."""

    n: int


def test_a_stored_result_is_structured_again(server: ScriptedServer) -> None:
    """An instance where the class is given with the team; plain data where nothing is."""
    agent = AgentSpec(name="a", role="R")
    spec = TeamSpec(tasks=[TaskSpec(name="x", description="MARK", agent=agent, output_schema=Answer)], models={"default": server.model()})
    server.reply("MARK", '{"n": 1}')
    first = run_team(spec, backend="autogen", run_id="r")
    again = resume_run("r", team=spec)
    assert first.structured == again.structured == again.tasks["x"].structured == Answer(n=1)
    assert resume_run("r").structured == {"n": 1}


def unfinished(server: ScriptedServer, paid: list[int]) -> TeamSpec:
    """A team whose run stopped while a payment was under way."""

    def pay(amount: int) -> str:
        """Pays."""
        paid.append(amount)
        return "paid"

    spec = team(server.model(), tools=[pay]).model_copy(update={"tools": {}})
    spec = TeamSpec.model_validate(
        {**spec.model_dump(exclude={"tools"}, exclude_unset=True), "tools": {"pay": {"side_effects": True}}, "agents": spec.agents}
    )
    server.reply("MARK", Reply(tool_calls=[call("pay", {"amount": 5})]), Reply(status=401), "done")
    with pytest.raises(ModelError):
        run_team(spec, backend="autogen", run_id="r")
    with closing(sqlite3.connect(".unified_agents/runs.db")) as db, db:
        db.execute("DELETE FROM events WHERE type = 'ToolCalled'")  # as if it was killed before
    return spec


def test_a_call_that_may_have_happened(server: ScriptedServer) -> None:
    """Is named with its key; a person says that it did, with its result, or that it did not; a wrong key is told with the right ones."""
    paid: list[int] = []
    spec = unfinished(server, paid)
    with pytest.raises(UnfinishedCallError, match=r"pay\(amount=5\) in task 'x', call (\S+)") as caught:
        resume_run("r", team=spec)
    key = str(caught.value).split(", call ")[1].split()[0]
    with pytest.raises(SpecError, match="unfinished calls of tools with side effects"):
        resume_run("r", team=spec, finished={"nope": "x"})
    assert resume_run("r", team=spec, finished={key: "paid by hand"}).output == "done"
    assert paid == [5]
    assert "paid by hand" in server.requests[-1].text


def test_a_call_that_did_not_happen_is_repeated(server: ScriptedServer) -> None:
    """Only when that is said."""
    paid: list[int] = []
    spec = unfinished(server, paid)
    assert resume_run("r", team=spec, repeat_unfinished=True).output == "done"
    assert paid == [5, 5]
