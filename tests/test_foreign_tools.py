"""Tools of CrewAI, AutoGen and LangChain, taken as they are: as objects, by reference, as classes built with `with`, on every backend."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from unified_agents import AgentSpec, SpecError, TaskSpec, TeamSpec, run_team
from unified_agents.engine import engine
from unified_agents.references import resolve_reference
from unified_agents.registry import names
from unified_agents.testing import Reply, ScriptedServer, call
from unified_agents.tools import ToolDefinitionError
from unified_agents.tools.foreign import foreign_tool, is_foreign, wire_name
from unified_agents.tools.loading import make_tool

BACKENDS = pytest.mark.parametrize("backend", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in names()])

CODE = {
    "crewai": '''
from crewai.tools import BaseTool, tool
from crewai.tools.tool_failure import ToolFailure
from pydantic import BaseModel, Field

CALLS = []

class Arguments(BaseModel):
    q: str = Field(description="What to look for")
    n: int = 2

class Search(BaseTool):
    name: str = "Search my notes"
    description: str = "Search the notes."
    args_schema: type[BaseModel] = Arguments
    prefix: str = "note"

    def _run(self, q: str, n: int = 2) -> list[str]:
        CALLS.append((q, n))
        return [f"{self.prefix} {q}"] * n

@tool("Search my notes")
def decorated(q: str, n: int = 2) -> list[str]:
    """Search the notes."""
    CALLS.append((q, n))
    return [f"note {q}"] * n

class Bad(Search):
    def _run(self, q: str, n: int = 2) -> object:
        return ToolFailure(message="no luck", code="c1")

class Later(Search):
    async def _run(self, q: str, n: int = 2) -> list[str]:
        CALLS.append((q, n))
        return [f"later {q}"] * n

search, bad, later = Search(), Bad(), Later()
''',
    "autogen": """
from autogen_core.tools import BaseTool, FunctionTool
from pydantic import BaseModel, Field

CALLS = []

class Arguments(BaseModel):
    q: str = Field(description="What to look for")
    n: int = 2

class Search(BaseTool[Arguments, list[str]]):
    def __init__(self, prefix: str = "note") -> None:
        super().__init__(Arguments, list, "search_my_notes", "Search the notes.")
        self.prefix = prefix

    async def run(self, args, cancellation_token):
        CALLS.append((args.q, args.n))
        return [f"{self.prefix} {args.q}"] * args.n

    def return_value_as_string(self, value):
        import json
        return json.dumps(value)

def plain(q: str, n: int = 2) -> str:
    CALLS.append((q, n))
    return '["' + '", "'.join([f"note {q}"] * n) + '"]'

def fails(q: str) -> str:
    raise ValueError("no luck")

search, decorated = Search(), FunctionTool(plain, name="search_my_notes", description="Search the notes.")
bad = FunctionTool(fails, description="Fails")
""",
    "langchain": '''
from langchain_core.tools import BaseTool, StructuredTool, ToolException, tool
from pydantic import BaseModel, Field

CALLS = []

class Arguments(BaseModel):
    q: str = Field(description="What to look for")
    n: int = 2

class Search(BaseTool):
    name: str = "search_my_notes"
    description: str = "Search the notes."
    args_schema: type[BaseModel] = Arguments
    prefix: str = "note"

    def _run(self, q: str, n: int = 2) -> list[str]:
        CALLS.append((q, n))
        return [f"{self.prefix} {q}"] * n

search = StructuredTool.from_function(
    lambda q, n=2: CALLS.append((q, n)) or [f"note {q}"] * n, name="search_my_notes", description="Search the notes.", args_schema=Arguments
)

@tool("search_my_notes")
async def decorated(q: str, n: int = 2) -> list[str]:
    """Search the notes."""
    CALLS.append((q, n))
    return [f"note {q}"] * n

def fails(q: str) -> str:
    """Fails."""
    raise ToolException("no luck")

bad = StructuredTool.from_function(fails)
''',
}
FRAMEWORKS = pytest.mark.parametrize("framework", CODE)


@pytest.fixture
def folder(tmp_path: Path, framework: str) -> Path:
    """A folder with the framework's tools in my_tools.py."""
    (tmp_path / "my_tools.py").write_text(CODE[framework])
    return tmp_path


def given(folder: Path, name: str) -> Any:
    """What my_tools.py calls by this name."""
    return resolve_reference(f"my_tools:{name}", folder)


def team(server: ScriptedServer, *tools: Any) -> TeamSpec:
    """One task, MARK, of an agent with tools."""
    agent = AgentSpec(name="a", role="R", goal="G", tools=list(tools))
    return TeamSpec(tasks=[TaskSpec(name="t", description="MARK", agent=agent)], models={"default": server.model()})


def write_team(folder: Path, server: ScriptedServer, tool: str) -> Path:
    """The same as a file whose tool `search_my_notes` is as given."""
    path = folder / "team.yaml"
    path.write_text(
        f'models: {{default: {{model: openai/scripted, base_url: "{server.base_url}", api_key: k}}}}\n'
        f"tools: {{search_my_notes: {tool}}}\n"
        "agents: {a: {role: R, goal: G, tools: [search_my_notes]}}\n"
        "tasks: {t: {description: MARK, agent: a}}\n"
    )
    return path


def without_titles(value: Any) -> Any:
    """A schema without the titles and descriptions of fields, in which the frameworks differ."""
    if isinstance(value, dict):
        return {key: without_titles(item) for key, item in value.items() if key not in ("title", "description", "additionalProperties")}
    return value


def check_wire(server: ScriptedServer, name: str = "search_my_notes", said: str = "Search the notes.", prefix: str = "note") -> None:
    """The tool was offered with its name, words and schema, called once with what the model said, and its result went back."""
    first, second = server.requests
    (tool,) = first.body["tools"]
    assert (tool["function"]["name"], tool["function"]["description"]) == (name, said)
    parameters = tool["function"]["parameters"]
    assert not {"title", "description"} & set(parameters)
    assert without_titles(parameters) == {
        "type": "object", "properties": {"q": {"type": "string"}, "n": {"type": "integer", "default": 2}}, "required": ["q"],
    }  # fmt: skip
    assert second.messages[-1]["role"] == "tool"
    assert second.messages[-1]["content"] == f'["{prefix} x", "{prefix} x", "{prefix} x"]'


def script(server: ScriptedServer, name: str = "search_my_notes") -> None:
    """The model calls the tool once, then answers."""
    server.reply("MARK", Reply(tool_calls=[call(name, {"q": "x", "n": 3})]), "done")


@BACKENDS
@FRAMEWORKS
@pytest.mark.parametrize("name", ["search", "decorated"])
def test_as_an_object(server: ScriptedServer, folder: Path, framework: str, name: str, backend: str) -> None:
    """An instance, or what the framework's decorator makes, stands in AgentSpec(tools=[…]) as a function would."""
    script(server)
    assert run_team(team(server, given(folder, name)), backend=backend).output == "done"
    check_wire(server)
    assert given(folder, "CALLS") == [("x", 3)]


@BACKENDS
@FRAMEWORKS
@pytest.mark.parametrize("name", ["search", "decorated"])
def test_by_reference(server: ScriptedServer, folder: Path, framework: str, name: str, backend: str) -> None:
    """A team file names the object in the module beside it; its own description wins."""
    script(server)
    path = write_team(folder, server, f"{{python: 'my_tools:{name}', description: Look it up}}")
    assert run_team(path, backend=backend).output == "done"
    check_wire(server, said="Look it up")
    assert given(folder, "CALLS") == [("x", 3)]


@BACKENDS
@FRAMEWORKS
def test_a_class_is_built_with_what_the_file_says(server: ScriptedServer, folder: Path, framework: str, backend: str) -> None:
    """`with` reaches the constructor, and the tool has the name of its entry."""
    script(server)
    path = write_team(folder, server, "{python: 'my_tools:Search', with: {prefix: memo}}")
    assert run_team(path, backend=backend).output == "done"
    check_wire(server, prefix="memo")
    assert given(folder, "CALLS") == [("x", 3)]


@BACKENDS
@FRAMEWORKS
def test_an_error_of_the_tool_is_told_to_the_model(server: ScriptedServer, folder: Path, framework: str, backend: str) -> None:
    """Whatever way a framework's tool fails in, the model reads the reason as an error and goes on."""
    bad = given(folder, "bad")
    server.reply("MARK", Reply(tool_calls=[call(wire_name(bad.name), {"q": "x"})]), "done")
    assert run_team(team(server, bad), backend=backend).output == "done"
    said = server.requests[1].messages[-1]["content"]
    assert said.startswith("Error: ")
    assert "no luck" in said


def call_now(tool: Any, **arguments: Any) -> Any:
    """A tool's result, without a run."""

    async def run() -> Any:
        return await asyncio.wait_for(_awaited(tool.run(arguments)), 20)

    return engine().run(run())


async def _awaited(work: Any) -> Any:
    return await work


@FRAMEWORKS
def test_a_class_without_arguments_and_one_that_cannot_be_built(folder: Path, framework: str, server: ScriptedServer) -> None:
    """A class alone is built as it is; a wrong `with` is an error that names class, key and reason before any request."""
    assert call_now(make_tool(given(folder, "Search")), q="x", n=1) in (["note x"], '["note x"]')
    with pytest.raises(SpecError, match=r"tools\.search_my_notes\.python: Search\(prefix\) failed"):
        run_team(write_team(folder, server, "{python: 'my_tools:Search', with: {prefix: {a: []}}}") if framework != "autogen" else
                 _unbuildable(folder, server), backend="autogen")  # fmt: skip
    with pytest.raises(SpecError, match="`with` builds a class, and my_tools:search is none"):
        run_team(write_team(folder, server, "{python: 'my_tools:search', with: {prefix: x}}"), backend="autogen")
    assert server.requests == []


def _unbuildable(folder: Path, server: ScriptedServer) -> Path:
    code = (folder / "my_tools.py").read_text()
    (folder / "my_tools.py").write_text(code.replace("        self.prefix = prefix", "        self.prefix = prefix + ''"))
    return write_team(folder, server, "{python: 'my_tools:Search', with: {prefix: {a: []}}}")


@pytest.mark.parametrize("framework", ["crewai"])
def test_an_async_tool_of_crewai(folder: Path, framework: str) -> None:
    """CrewAI runs a coroutine that `_run` gives back; so does the run here."""
    assert call_now(foreign_tool(given(folder, "later")), q="x", n=1) == ["later x"]


@pytest.mark.parametrize("framework", ["crewai"])
def test_a_usage_limit_of_crewai_holds(folder: Path, framework: str) -> None:
    """The tool's own `max_usage_count` is kept: the call beyond it is an error."""
    tool = make_tool(given(folder, "Search")(max_usage_count=1))
    assert call_now(tool, q="x") == ["note x", "note x"]
    with pytest.raises(RuntimeError, match="usage limit of 1"):
        call_now(tool, q="x")


def test_a_single_input_tool_of_langchain() -> None:
    """LangChain's oldest kind of tool has one text and no schema; the model is offered that text alone."""
    core: Any = pytest.importorskip("langchain_core.tools")
    tool = make_tool(core.Tool(name="shout", func=lambda text: text.upper(), description="Shout"))
    assert tool.parameters == {"type": "object", "properties": {"tool_input": {"type": "string"}}, "required": ["tool_input"]}
    assert call_now(tool, tool_input="hey") == "HEY"


def test_what_langchain_injects_is_not_offered() -> None:
    """An InjectedToolArg is filled in by the caller of the tool, never by the model."""
    core: Any = pytest.importorskip("langchain_core.tools")
    scope: dict[str, Any] = {}
    exec(
        "from typing import Annotated\nfrom langchain_core.tools import InjectedToolArg, tool\n@tool\n"
        'def f(q: str, user: Annotated[str, InjectedToolArg] = "nobody") -> str:\n    """F."""\n    return f"{q} of {user}"\n',
        scope,
    )
    assert core.BaseTool in type(scope["f"]).__mro__
    tool = make_tool(scope["f"])
    assert list(tool.parameters["properties"]) == ["q"]
    assert call_now(tool, q="x") == "x of nobody"


NAMES = {
    "search": "search", "Read a website's content": "read_a_website_s_content", "notes.search": "notes_search", "Été": "t", "!": "tool",
    "keepMe": "keepMe", "x" * 80: "x" * 64,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_for_people_becomes_one_that_models_take(name: str) -> None:
    """CrewAI's tools are often named by a sentence; a name that will do is left alone."""
    assert wire_name(name) == NAMES[name]


class Stranger:
    """Something with a name that is no tool."""

    name = "x"


class Odd:
    """Looks like a tool, with arguments that nothing can describe."""

    name, description, args_schema = "odd", "Odd", 3

    def run(self) -> None:
        """Nothing."""

    _run = run


def test_what_is_no_tool_is_refused_in_words(server: ScriptedServer) -> None:
    """Neither function nor tool: the type is named, and the kinds that are known; nothing is sent."""
    assert not is_foreign(Stranger())
    assert not is_foreign(print)
    with pytest.raises(ToolDefinitionError, match="Stranger is neither a function nor a tool of CrewAI, AutoGen or LangChain"):
        make_tool(Stranger())
    with pytest.raises(ToolDefinitionError, match="Stranger is neither"):
        foreign_tool(Stranger())
    with pytest.raises(ToolDefinitionError, match="the arguments of 'odd' have no JSON Schema: its args_schema is 3"):
        make_tool(Odd())
    with pytest.raises(SpecError, match=r"agents\.a\.tools\[0\]: Stranger is neither"):
        run_team(team(server, Stranger()), backend="autogen")
    assert server.requests == []


def test_a_name_bound_in_python_that_will_not_do(server: ScriptedServer) -> None:
    """A name that no model takes is an error of the team, before any request, not a crash."""
    with pytest.raises(SpecError, match=r"tools\.bad name!|agents\.a\.tools"):
        run_team(team(server, "bad name!"), backend="autogen", tools={"bad name!": wire_name})
    assert server.requests == []
