"""A team file to a team: every documented key is taken, and everything that is wrong is said at once, with its line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from unified_agents import Problem, SpecError, TeamSpec, load_team

CANARY = "sk-canary-4711"

# Every key of the documentation's section 1, with its shorthands.
FULL = """\
name: ai_trends
backend: crewai
fallback_backend: autogen
process: graph
prompts: native
inputs:
  topic: {description: What to write about, default: AI trends 2026}
  length: 1000
models:
  default:
    model: openai/gpt-4o-mini
    base_url: ${UA_BASE_URL:-https://api.openai.com/v1}
    api_key: ${UA_API_KEY}
    temperature: 0.2
    top_p: 0.9
    seed: 7
    max_tokens: 800
    timeout: 30
    api_version: 2024-10-21
    extra_headers: {X-Team: "${UA_TEAM}"}
    extra_body: {top_k: 5, metadata: {a: [1, two, null]}}
    context_window: 128000
    fallbacks: [small]
    rate_limit: {requests_per_minute: 600, tokens_per_minute: 200000, concurrency: 50}
  small: local/smollm2-135m
agents:
  researcher:
    role: Senior Research Analyst
    goal: Conduct thorough research on {topic}
    backstory: You are a seasoned researcher.
    instructions: Answer in English.
    expertise: [information retrieval, web search, data analysis]
    responsibilities: [gather information, verify facts, cite sources]
    personality: {tone: precise, style: terse}
    tools: [search_notes]
    model: default
    max_iterations: 5
    delegates_to: [writer]
    reports_to: lead
    fallback: writer
    messaging: true
    memory: true
  lead: {role: Editor in Chief, goal: Get a publishable article, model: [openai/gpt-4o, small], delegates_to: all}
  writer: {role: Content Strategist, goal: "Write about {topic}", expertise: [content creation, editing], memory: false}
  editor: {role: Human editor, human: true}
tasks:
  research:
    description: Research the latest developments in {topic}
    expected_output: Five key findings with sources
    agent: researcher
  write:
    description: Write an article of {length} words
    expected_output: An article ready to publish
    agent: writer
    context: [research]
    after: []
    output_schema: {type: object, properties: {title: {type: string}, body: {type: string}}, required: [title, body]}
    output_file: article.json
    human_review: false
    guardrail: my_tools:check_length
    guardrail_retries: 1
    timeout: 600
  polish:
    description: 'Polish it, keep {{placeholders}} and {"json": 1}'
    expertise: [content creation]
    context: [write]
  discuss:
    description: Is the article ready to publish?
    participants: [writer, lead, editor]
    speaker_selection: round_robin
    max_rounds: 6
    stop_when: {says: APPROVED, by: lead}
    result: last
    context: [write]
delegation:
  strategy: by_expertise
  agents: [researcher, writer]
  manager: lead
memory:
  store: sqlite:///memory.db
  short_term: 10
  episodes: 100
  recall: {items: 5, tokens: 500}
  tools: true
  semantic: false
  required: true
token_window: {limit: 8000, strategy: drop_oldest}
resilience:
  retry: {max_attempts: 4, base_delay: 1.0, max_delay: 60}
  circuit_breaker: {failure_threshold: 5, failure_rate: 0.5, window: 30, recovery_time: 10}
  timeout: 60
  fallback_models: [small]
budget: {tokens: 200000, usd: 1.0, seconds: 900, model_calls: 200}
limits: {tool_calls: 100, tool_errors: 3, delegation_depth: 3, messages: 50, output_bytes: 1000000}
journal: {store: sqlite:///runs.db, required: true}
stream: false
prices: {openai/gpt-4o-mini: {input_per_million: 0.15, output_per_million: 0.60}}
tools:
  search_notes:
    python: my_tools:search_notes
    description: Search the notes
    timeout: 30
    requires_confirmation: false
    side_effects: false
  web: {python: my_tools:SerperDevTool, with: {n_results: 5}}
  files: {mcp: {command: npx, args: [some-mcp-server], env: {TOKEN: "${UA_TEAM}"}}}
  remote: {mcp: {url: "http://localhost:9/mcp", headers: {Authorization: "${UA_TEAM}"}}}
middleware: [my_tools:RedactNames]
"""
MY_TOOLS = '''"""Tools of the team."""

def search_notes(query: str) -> str:
    """Search the notes."""
    return query

def check_length(text: str) -> None:
    """Fine."""

class SerperDevTool:
    """A tool."""

    def __init__(self, n_results: int) -> None:
        self.n_results = n_results

class RedactNames:
    """A layer."""
'''
NAMED = ("inputs", "models", "agents", "tasks", "tools")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The team's folder; the working folder is another one, and the environment holds none of the variables used here."""
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir()
    home.mkdir()
    monkeypatch.chdir(work)
    for name in ("UA_BASE_URL", "UA_API_KEY", "UA_TEAM", "UA_VALUE", "UA_OTHER"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As `folder`, with all that the full team needs."""
    monkeypatch.setenv("UA_API_KEY", CANARY)
    monkeypatch.setenv("UA_TEAM", f"{CANARY}-header")
    (folder / "my_tools.py").write_text(MY_TOOLS)
    return folder


def write(folder: Path, text: str, name: str = "team.yaml") -> Path:
    """A file of the team's folder."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(folder: Path, text: str, name: str = "team.yaml") -> list[Problem]:
    """Everything that loading `text` complains about."""
    with pytest.raises(SpecError) as caught:
        load_team(write(folder, text, name))
    return caught.value.problems


def rows(problems: list[Problem]) -> list[tuple[int | None, str]]:
    """Line and path of each."""
    return [(problem.line, problem.path) for problem in problems]


def with_agent(text: str, agent: str = "a: {role: R}") -> str:
    """`text` after a lawful agent and a task, which take three lines."""
    return f"agents: {{{agent}}}\ntasks:\n  t: {{description: D, agent: a}}\n{text}"


def listed(data: dict[str, Any]) -> dict[str, Any]:
    """The same team with lists instead of mappings of named things."""

    def item(section: str, name: str, value: Any) -> dict[str, Any]:
        fields = value if isinstance(value, dict) else {"model" if section == "models" else "default": value}
        return {"name": name, **fields}

    return {section: [item(section, *pair) for pair in value.items()] if section in NAMED else value for section, value in data.items()}


def plain(text: str) -> Any:
    """The data of a YAML text, read by PyYAML with nothing guessed."""
    return yaml.load(text.replace("2024-10-21", "'2024-10-21'"), Loader=yaml.SafeLoader)


def used_fields(value: Any) -> Iterator[tuple[type[BaseModel], str]]:
    """Every field that was set somewhere in a spec."""
    if isinstance(value, BaseModel):
        for name in value.model_fields_set:
            yield type(value), name
            yield from used_fields(getattr(value, name))
    elif isinstance(value, dict):
        for item in value.values():
            yield from used_fields(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from used_fields(item)


def test_every_documented_key_is_taken(full: Path) -> None:
    """The documentation's own file loads, its values arrive, and no field of a spec is missing from it."""
    team = load_team(write(full, FULL))
    used = set(used_fields(team))
    assert {(kind, name) for kind in {kind for kind, _ in used} for name in kind.model_fields} - used == set()
    default, write_task = team.models["default"], team.tasks["write"]
    assert default.api_key is not None
    assert default.api_key.get_secret_value() == CANARY
    assert default.extra_headers["X-Team"].get_secret_value() == f"{CANARY}-header"
    assert (default.base_url, default.api_version, default.timeout) == ("https://api.openai.com/v1", "2024-10-21", 30.0)
    assert default.extra_body == {"top_k": 5, "metadata": {"a": [1, "two", None]}}
    assert team.models["small"].model == "local/smollm2-135m"
    assert (team.inputs["length"].default, team.inputs["topic"].default) == (1000, "AI trends 2026")
    assert team.agents["lead"].model == ("openai/gpt-4o", "small")
    assert (write_task.after, write_task.context, team.tasks["research"].context) == ((), ("research",), None)
    assert write_task.output_schema["required"] == ["title", "body"]
    assert team.tools["web"].with_ == {"n_results": 5}
    assert list(team.tasks) == ["research", "write", "polish", "discuss"]


@pytest.mark.parametrize("form", ["json", "json with tabs", "lists", "json lists"])
def test_json_and_lists_are_the_same_team(full: Path, form: str) -> None:
    """JSON with the same keys, and lists instead of mappings, give an equal team."""
    data = plain(FULL)
    if "lists" in form:
        data = listed(data)
    text = json.dumps(data, indent="\t" if "tabs" in form else None) if "json" in form else yaml.safe_dump(data, sort_keys=False)
    other = load_team(write(full, text, "other.json" if "json" in form else "other.yaml"))
    team = load_team(write(full, FULL))
    assert other.model_dump() == team.model_dump()
    assert list(other.tasks) == list(team.tasks)
    changed = load_team(write(full, FULL.replace("terse", "long"), "changed.yaml"))
    assert changed.model_dump() != team.model_dump()


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("backend: crewai", "bakend"),
        ("process: graph", "proces"),
        ("prompts: native", "promts"),
        ("fallback_backend: autogen", "fallback_bakend"),
        ("temperature: 0.2", "models.default.temperatur"),
        ("context_window: 128000", "models.default.context_windo"),
        ("top_p: 0.9", "models.default.topp"),
        ("requests_per_minute: 600", "models.default.rate_limit.request_per_minute"),
        ("backstory: You", "agents.researcher.backstroy"),
        ("max_iterations: 5", "agents.researcher.max_iteration"),
        ("expected_output: Five", "tasks.research.expected_outputs"),
        ("output_schema: {", "tasks.write.output_shema"),
        ("guardrail_retries: 1", "tasks.write.guardrail_retry"),
        ("stop_when: {", "tasks.discuss.stop_wen"),
        ("says: APPROVED", "tasks.discuss.stop_when.say"),
        ("manager: lead", "delegation.manger"),
        ("semantic: false", "memory.semantics"),
        ("items: 5", "memory.recall.item"),
        ("strategy: drop_oldest", "token_window.strategie"),
        ("max_attempts: 4", "resilience.retry.max_attempt"),
        ("failure_rate: 0.5", "resilience.circuit_breaker.failur_rate"),
        ("usd: 1.0", "budget.usdd"),
        ("tool_calls: 100", "limits.tool_call"),
        ("store: sqlite:///runs.db", "journal.stor"),
        ("side_effects: false", "tools.search_notes.side_effect"),
        ("with: {", "tools.web.wit"),
        ("input_per_million: 0.15", "prices.openai/gpt-4o-mini.input_per_milion"),
        ("args: [", "tools.files.mcp.arg"),
        ("description: What", "inputs.topic.descripton"),
    ],
)
def test_a_misspelt_key_is_found_in_every_section(full: Path, key: str, path: str) -> None:
    """An unknown key is an error on its line, under its path, with the right spelling."""
    right = key.partition(":")[0]
    wrong = path.rpartition(".")[2]
    assert FULL.count(key) == 1
    found = problems_of(full, FULL.replace(key, key.replace(right, wrong, 1)))
    line = FULL[: FULL.index(key)].count("\n") + 1
    problem = next(problem for problem in found if problem.path == path)
    assert problem.line == line
    assert f"did you mean {right!r}" in problem.message


BROKEN = """\
name: broken
proces: graph
inputs:
  topic: AI
models:
  default:
    model: opnai/gpt-4o-mini
    temperature: hot
    max_tokens: 0
agents:
  researcher:
    role: Analyst
    llm: default
    tools: [serch]
  writer:
    role: Writer of {topc} and {lenght}
    model: defalt
tasks:
  research:
    expected_output: Facts
    agent: researcher
    context: [write]
  write:
    description: Write
    agent: writr
    context: [research, reserch]
    output_file: ../out.txt
    result: first
tools:
  search: {python: my_tools:search}
"""


def test_everything_wrong_is_said_at_once(folder: Path) -> None:
    """A file with fifteen different faults reports all of them, in file order, each with line, path and what to write."""
    found = problems_of(folder, BROKEN)
    assert rows(found) == [
        (2, "proces"),
        (7, "models.default.model"),
        (8, "models.default.temperature"),
        (9, "models.default.max_tokens"),
        (13, "agents.researcher.llm"),
        (14, "agents.researcher.tools[0]"),
        (16, "agents.writer.role"),
        (16, "agents.writer.role"),
        (17, "agents.writer.model"),
        (19, "tasks.research.description"),
        (22, "tasks.research.context[0]"),
        (25, "tasks.write.agent"),
        (26, "tasks.write.context[1]"),
        (27, "tasks.write.output_file"),
        (28, "tasks.write.result"),
    ]
    said = [problem.message for problem in found]
    meant = ["process", "openai", "search", "topic", "default", "writer", "research"]
    assert [word for word in meant if not any(f"did you mean {word!r}" in message for message in said)] == []
    assert "'hot'" in said[2]
    assert "'model'" in said[4]
    assert "last | transcript" in said[-1]


def test_the_error_reads_as_a_list_of_places(folder: Path) -> None:
    """The text of the error names file and line of every problem; its JSON form holds the same."""
    path = write(folder, BROKEN)
    with pytest.raises(SpecError) as caught:
        load_team(path)
    error = caught.value
    assert all(f"{path}:{problem.line}: {problem.path}: {problem.message}" in str(error) for problem in error.problems)
    assert error.to_dict()["type"] == "SpecError"
    assert error.to_dict()["problems"] == [{"path": p.path, "line": p.line, "message": p.message} for p in error.problems]
    assert error.exit_code == 2


def test_json_and_lists_have_lines_and_paths_too(folder: Path) -> None:
    """In a list, the path holds the name of the thing, and the line is that of the item's own key."""
    yaml_text = "agents:\n  - name: one\n    role: R\n  - name: two\n    rol: S\n    role: S\n"
    yaml_text += "tasks:\n  - name: t\n    description: D\n    agent: twoo\n"
    assert rows(problems_of(folder, yaml_text)) == [(5, "agents.two.rol"), (10, "tasks.t.agent")]
    json_text = (
        '{"agents": {"one": {"role": "R"}},\n\t"tasks": {\n\t"t": {"description": "D",\n\t"agent": "onne",\n\t"expcted_output": "x"}}}'
    )
    assert rows(problems_of(folder, json_text, "team.json")) == [(4, "tasks.t.agent"), (5, "tasks.t.expcted_output")]


@pytest.mark.parametrize(
    ("text", "path", "ours"),
    [
        (with_agent("", "a: {role: R, llm: x}"), "agents.a.llm", "model"),
        (with_agent("", "a: {role: R, max_iter: 5}"), "agents.a.max_iter", "max_iterations"),
        (with_agent("", "a: {role: R, system_message: x}"), "agents.a.system_message", "instructions"),
        (with_agent("", "a: {role: R, allow_delegation: true}"), "agents.a.allow_delegation", "delegates_to"),
        (with_agent("", "a: {role: R, verbose: true}"), "agents.a.verbose", "progress is always shown"),
        (with_agent("verbose: true"), "verbose", "progress is always shown"),
        (with_agent("config_list: [{model: x}]"), "config_list", "models"),
        ("agents: {a: {role: R}}\ntasks: {t: {description: D, agent: a, dependencies: []}}", "tasks.t.dependencies", "context"),
        ("agents: {a: {role: R}}\ntasks: {t: {description: D, agent: a, human_input: true}}", "tasks.t.human_input", "human_review"),
        ("agents: {a: {role: R}}\ntasks: {t: {description: D, agent: a, output_pydantic: X}}", "tasks.t.output_pydantic", "output_schema"),
        (
            "agents: {a: {role: R}, b: {role: S}}\ntasks: {t: {description: D, participants: [a, b], max_round: 3}}",
            "tasks.t.max_round",
            "max_rounds",
        ),
    ],
)
def test_keys_of_other_tools_get_their_name_here(folder: Path, text: str, path: str, ours: str) -> None:
    """Who comes from CrewAI or AutoGen is told what the key is called here."""
    found = problems_of(folder, text)
    assert [problem.path for problem in found] == [path]
    assert ours in found[0].message


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (with_agent("process: parallel"), "process", ["'parallel'", "sequential", "graph"]),
        (with_agent("prompts: natve"), "prompts", ["native", "neutral", "did you mean"]),
        (with_agent("name: 5"), "name", ["5", "text"]),
        (with_agent("stream: yes"), "stream", ["'yes'", "true or false"]),
        (with_agent("budget: {tokens: many}"), "budget.tokens", ["'many'", "number"]),
        (with_agent("budget: {tokens: 1.5}"), "budget.tokens", ["1.5", "whole number"]),
        (with_agent("budget: {tokens: 0}"), "budget.tokens", ["0", "1"]),
        (with_agent("budget: 5"), "budget", ["5", "keys"]),
        (with_agent("limits: {tool_calls: -1}"), "limits.tool_calls", ["-1", "0"]),
        (with_agent("memory: {recall: {items: '5'}}"), "memory.recall.items", ["'5'", "whole number"]),
        (with_agent("memory: maybe"), "memory", ["'maybe'"]),
        (with_agent("token_window: {strategy: drop}"), "token_window.strategy", ["drop_oldest", "summarize"]),
        (with_agent("delegation: {strategy: by_expertize}"), "delegation.strategy", ["did you mean 'by_expertise'"]),
        (with_agent("resilience: {circuit_breaker: {failure_rate: 2}}"), "resilience.circuit_breaker.failure_rate", ["2", "1"]),
        (with_agent("models: {default: {temperature: 1}}"), "models.default.model", ["missing"]),
        (with_agent("models: {default: {model: openai/x, seed: 1.5}}"), "models.default.seed", ["1.5", "whole number"]),
        (with_agent("models: {default: {model: openai/x, top_p: 2}}"), "models.default.top_p", ["2"]),
        (with_agent("models: {default: [openai/x]}"), "models.default", ["list"]),
        (with_agent("prices: {x: {input_per_million: 1}}"), "prices.x.output_per_million", ["missing"]),
        (with_agent("", "a: {role: [R]}"), "agents.a.role", ["list", "text"]),
        (with_agent("", "a: {role: R, expertise: {x: y}}"), "agents.a.expertise", ["list"]),
        (with_agent("", "a: {role: R, human: 1}"), "agents.a.human", ["true or false"]),
        (with_agent("", "a: {role: R, personality: {n: 7}}"), "agents.a.personality.n", ["7", "text"]),
        ("agents: {a: {role: R}}\ntasks: {t: {agent: a}}", "tasks.t.description", ["missing"]),
        ("agents: {a: {role: R}}\ntasks: {t: {description: D, agent: a, timeout: soon}}", "tasks.t.timeout", ["'soon'", "number"]),
        ("agents: {a: {role: R}}\ntasks: {t: {description: D, agent: a, context: 5}}", "tasks.t.context", ["5", "list"]),
        (
            "agents: {a: {role: R}}\ntasks: {t: {description: D, participants: [a], stop_when: {by: a}}}",
            "tasks.t.stop_when.says",
            ["missing"],
        ),
        ("agents: {a: {role: R}}", "tasks", ["task"]),
        ("tasks: {t: {description: D, agent: a}}", "tasks.t.agent", ["'a'"]),
    ],
)
def test_wrong_types_and_missing_keys(folder: Path, text: str, path: str, words: list[str]) -> None:
    """What was found and what is allowed is said, once, on a line of the file."""
    found = problems_of(folder, text)
    assert [problem.path for problem in found] == [path]
    assert [word for word in words if word not in found[0].message] == []
    assert found[0].line is not None or path == "tasks"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("agents: {a: {role: R}}\ntasks:\n  t: do it\n  u: {description: D, agent: a, context: [t]}", [(3, "tasks.t")]),
        ("agents:\n  a:\ntasks:\n  t: {description: D, agent: a}", [(2, "agents.a")]),
        ("agents: none\ntasks:\n  t: {description: D, agent: a}", [(1, "agents")]),
        ("agents: {a: {role: R, rol: S}}\ntasks: [x]\nproces: graph", [(1, "agents.a.rol"), (2, "tasks"), (3, "proces")]),
        (
            "agents: {a: {role: R}}\ntasks: {t: {description: D, agent: a}}\nmodels:\n  default:\n    model: 5\n    temperature: 1",
            [(5, "models.default.model")],
        ),
    ],
    ids=["text as task", "empty agent", "no agents", "list of texts", "number as model"],
)
def test_a_fault_causes_no_others(folder: Path, text: str, expected: list[tuple[int, str]]) -> None:
    """What only follows from another fault is not reported beside it."""
    found = [(line, path.partition("[")[0]) for line, path in rows(problems_of(folder, text))]
    assert found == expected


@pytest.mark.parametrize(
    "item", ["{name: a, role: S}", "{role: S}", "a", "{name: 5, role: S}"], ids=["one name twice", "no name", "a text", "a number as name"]
)
def test_a_bad_item_of_a_list_has_its_line_and_hides_nothing(folder: Path, item: str) -> None:
    """A list names things by `name`: an item that cannot be told apart is reported where it stands, beside all other faults."""
    text = f"agents:\n  - {{name: a, role: R, fallback: nobody}}\n  - {item}\n"
    text += "tasks: {t: {description: D, agent: a}}\nmodels: {default: x}\n"
    found = problems_of(folder, text)
    assert [problem.line for problem in found] == [2, 3, 5]
    assert found[1].path.startswith("agents")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "tasks:\n  a: {description: D, agent: x, context: [b]}\n  b: {description: D, agent: x, after: [a]}\nagents: {x: {role: R}}",
            (2, "tasks.a.context[0]"),
        ),
        ("tasks:\n  a:\n    description: D\n    agent: x\n    after:\n      - a\nagents: {x: {role: R}}", (6, "tasks.a.after[0]")),
        (
            "process: sequential\ntasks:\n  a:\n    description: D\n    agent: x\n    context: [b]\n  b: {description: D, agent: x}\n"
            "agents: {x: {role: R}}",
            (6, "tasks.a.context[0]"),
        ),
        (
            "tasks:\n  a: {description: D, agent: x}\nagents:\n  x:\n    role: R\n    reports_to: y\n  y: {role: S, reports_to: x}",
            (6, "agents.x.reports_to"),
        ),
        (
            "tasks:\n  a: {description: D, agent: x}\nagents:\n  x:\n    role: R\n    fallback: y\n  y: {role: S, fallback: x}",
            (6, "agents.x.fallback"),
        ),
        ("tasks:\n  a: {description: D, agent: x}\nagents:\n  x:\n    role: R\n    fallback: x\n", (6, "agents.x.fallback")),
        ("tasks:\n  a: {description: D, agent: x}\nagents:\n  x:\n    role: R\n    reports_to: z\n", (6, "agents.x.reports_to")),
    ],
    ids=["context and after", "itself", "sequential", "reports_to", "fallback", "own fallback", "unknown"],
)
def test_rings_and_unknown_names_have_their_line(folder: Path, text: str, expected: tuple[int, str]) -> None:
    """A cycle, a self reference and an unknown name are each one problem, on the line that makes them."""
    assert rows(problems_of(folder, text)) == [expected]


TWO = "agents: {a: {role: R}}\ntasks:\n  t: {description: D, agent: a}\n  u: {description: E, agent: a%s}\n%s"


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        (TWO % ("", ""), False),
        (TWO % (", context: []", ""), True),
        (TWO % (", after: []", ""), True),
        (TWO % (", context: [t]", ""), True),
        (TWO % ("", "process: sequential"), True),
        (TWO % ("", "process: graph"), True),
        (with_agent(""), True),
    ],
)
def test_two_tasks_need_an_order(folder: Path, text: str, fine: bool) -> None:
    """Without process, context or after, both choices are shown; an empty list counts, and one task needs nothing."""
    if fine:
        assert load_team(write(folder, text)).tasks
    else:
        found = problems_of(folder, text)
        assert [problem.path for problem in found] == ["process"]
        assert "process: sequential" in found[0].message
        assert "process: graph" in found[0].message


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n", "just text", "5", "null", "[]"])
def test_a_file_that_is_no_team(folder: Path, text: str) -> None:
    """What holds no keys is refused with the keys a team has."""
    found = problems_of(folder, text)
    assert len(found) == 1
    assert "tasks" in found[0].message


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"name: \xff\xfe\n", "UTF-8"),
        (None, "cannot be read"),
        (b"a: 1\na: 2\n", "twice"),
        (b"x: &a 1\ny: *a\n", "alias"),
        (b"a: 'open\n", "YAML"),
        (b"x" * 1_000_001, "bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_spec_error(folder: Path, content: bytes | None, word: str) -> None:
    """Whatever stands in a file, or if there is none, loading raises SpecError and nothing else."""
    path = folder / "team.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        load_team(path)
    assert len(caught.value.problems) == 1
    assert word in caught.value.problems[0].message


def test_a_byte_order_mark_is_no_fault(folder: Path) -> None:
    """Editors on Windows write one, in YAML and in JSON."""
    assert load_team(write(folder, "\ufeff" + with_agent(""))).tasks
    text = json.dumps({"agents": {"a": {"role": "R"}}, "tasks": {"t": {"description": "D", "agent": "a"}}})
    assert load_team(write(folder, "\ufeff" + text, "team.json")).tasks


def test_a_team_is_called_after_its_file(folder: Path) -> None:
    """Without `name` the file's name is the team's."""
    assert load_team(write(folder, with_agent(""), "trends.yaml")).name == "trends"
    assert load_team(write(folder, with_agent("name: mine"), "trends.yaml")).name == "mine"


def test_loading_imports_nothing_from_elsewhere(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference to a module outside the team's folder is not imported, even when Python could find it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "ua_foreign_module.py").write_text("def search(query: str) -> str:\n    return query\n")
    monkeypatch.syspath_prepend(str(elsewhere))
    path = write(folder, with_agent("tools: {s: {python: 'ua_foreign_module:search'}}\nmiddleware: ['ua_foreign_module:search']"))
    try:
        load_team(path)
    except SpecError as error:
        assert "ua_foreign_module" in str(error)  # noqa: PT017  to refuse it is as good as to leave it alone
    assert "ua_foreign_module" not in sys.modules


# Environment variables


MODEL = "models:\n  default:\n    model: openai/x\n    %s\n  spare:\n    model: openai/y\n    %s\n"


@pytest.mark.parametrize(
    ("variables", "written", "value"),
    [
        ({"UA_VALUE": "http://one/v1"}, "${UA_VALUE}", "http://one/v1"),
        ({"UA_VALUE": "http://one/v1"}, "${UA_VALUE:-http://two/v1}", "http://one/v1"),
        ({}, "${UA_VALUE:-http://two/v1}", "http://two/v1"),
        ({"UA_VALUE": ""}, "${UA_VALUE:-http://two/v1}", "http://two/v1"),
        ({"UA_VALUE": "one"}, "http://${UA_VALUE}/v1", "http://one/v1"),
        ({"UA_VALUE": "${UA_OTHER}", "UA_OTHER": "x"}, "http://h/${UA_VALUE}", "http://h/${UA_OTHER}"),
    ],
)
def test_variables_in_models(folder: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], written: str, value: str) -> None:
    """`${VAR}` and `${VAR:-default}` are looked up once."""
    for name, found in variables.items():
        monkeypatch.setenv(name, found)
    team = load_team(write(folder, with_agent(MODEL % (f"base_url: {written}", "seed: 1"))))
    assert team.models["default"].base_url == value


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("temperature", "0.5", 0.5),
        ("temperature", "1", 1.0),
        ("max_tokens", "800", 800),
        ("seed", "7", 7),
        ("timeout", "2.5", 2.5),
        ("base_url", "http://h", "http://h"),
        ("api_version", "2024", "2024"),
        ("api_version", "true", "true"),
        ("model", "openai/12", "openai/12"),
    ],
)
def test_numbers_from_variables(folder: Path, monkeypatch: pytest.MonkeyPatch, field: str, text: str, value: object) -> None:
    """`temperature: ${T}` is a number, a text field stays text, and a default is read the same way."""
    monkeypatch.setenv("UA_VALUE", text)
    template = (MODEL if field != "model" else MODEL.replace("    model: openai/x\n", "", 1)) % (f"{field}: %s", "seed: 1")
    for written in ("${UA_VALUE}", f"${{UA_OTHER:-{text}}}"):
        found = getattr(load_team(write(folder, with_agent(template % written))).models["default"], field)
        assert found == value
        assert type(found) is type(value)


def test_a_key_of_digits_stays_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret from a variable is text, even where it looks like a number."""
    monkeypatch.setenv("UA_VALUE", "0012")
    team = load_team(write(folder, with_agent(MODEL % ("api_key: ${UA_VALUE}", "extra_headers: {X: '${UA_VALUE}'}"))))
    key = team.models["default"].api_key
    assert key is not None
    assert key.get_secret_value() == "0012"
    assert team.models["spare"].extra_headers["X"].get_secret_value() == "0012"


def test_a_word_where_a_number_belongs_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of the wrong type is a type error on the line that uses it."""
    monkeypatch.setenv("UA_VALUE", "warm")
    assert rows(problems_of(folder, with_agent(MODEL % ("temperature: ${UA_VALUE}", "seed: 1")))) == [(7, "models.default.temperature")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (with_agent(MODEL % ("api_key: ${UA_VALUE}", "seed: 1")), [(7, "models.default.api_key")]),
        (with_agent(MODEL % ("api_key: ${UA_VALUE}", "api_key: ${UA_OTHER}")), [(7, "models.default.api_key")]),
        (with_agent(MODEL % ("seed: 1", "api_key: ${UA_OTHER}")), []),
        (with_agent(MODEL % ("fallbacks: [spare]", "api_key: ${UA_OTHER}")), [(10, "models.spare.api_key")]),
        (
            with_agent(MODEL % ("seed: 1", "api_key: ${UA_OTHER}") + "resilience: {fallback_models: [spare]}"),
            [(10, "models.spare.api_key")],
        ),
        (
            with_agent(MODEL % ("api_key: ${UA_VALUE}", "api_key: ${UA_OTHER}"), "a: {role: R, model: spare}"),
            [(10, "models.spare.api_key")],
        ),
        (with_agent(MODEL % ("api_key: ${UA_VALUE}", "seed: 1"), "a: {role: R, model: openai/z}"), []),
        (with_agent(MODEL % ("seed: 1", "api_key: ${UA_OTHER}"), "a: {role: R}, unused: {role: S, model: spare}"), []),
        (with_agent("models: {default: openai/x, spare: '${UA_OTHER}'}"), []),
        (with_agent("models: {default: '${UA_VALUE}'}"), [(4, "models.default")]),
        (
            with_agent("models:\n- name: default\n  model: openai/x\n  api_key: ${UA_VALUE}\n- name: spare\n  model: ${UA_OTHER}\n"),
            [(7, "models.default.api_key")],
        ),
        (with_agent("tools: {s: {mcp: {url: '${UA_VALUE}'}}}"), [(4, "tools.s.mcp.url")]),
        (with_agent("memory: {store: '${UA_VALUE}'}"), [(4, "memory.store")]),
        (with_agent("journal: {store: '${UA_VALUE}'}"), [(4, "journal.store")]),
        (
            "agents: {a: {role: R, model: openai/z}, e: {human: true}}\ntasks:\n  t: {description: D, participants: [a, e]}\n"
            + MODEL % ("api_key: ${UA_VALUE}", "seed: 1"),
            [],
        ),
    ],
    ids=[
        "used",
        "one of two",
        "unused",
        "fallback",
        "fallback for all",
        "named",
        "inline",
        "unused agent",
        "shorthand",
        "used shorthand",
        "list",
        "tool",
        "memory",
        "journal",
        "human",
    ],
)
def test_only_models_in_use_need_their_variables(folder: Path, text: str, expected: list[tuple[int, str]]) -> None:
    """A missing variable is an error on its line where a run would need it, and none where it would not."""
    if expected:
        found = problems_of(folder, text)
        assert rows(found) == expected
        assert "UA_" in found[0].message
    else:
        assert load_team(write(folder, text)).tasks


def test_missing_variables_come_with_all_other_problems(folder: Path) -> None:
    """The environment is checked together with the rest of the file."""
    text = with_agent(MODEL % ("api_key: ${UA_VALUE}", "seed: x"), "a: {role: R, rol: S, fallback: b}")
    assert {path for _, path in rows(problems_of(folder, text))} >= {
        "models.default.api_key",
        "models.spare.seed",
        "agents.a.rol",
        "agents.a.fallback",
    }


@pytest.mark.parametrize(
    ("beside", "working", "real", "found"),
    [
        ("b", "w", "r", "r"),
        ("b", "w", None, "b"),
        (None, "w", None, "w"),
        (None, "w", "r", "r"),
        ("b", None, None, "b"),
        ("b", "w", "", "none"),
    ],
)
def test_dotenv_is_read_and_never_overrides(
    folder: Path, monkeypatch: pytest.MonkeyPatch, beside: str | None, working: str | None, real: str | None, found: str
) -> None:
    """`.env` beside the file and in the working folder fill up what the environment does not have."""
    for place, value in ((folder, beside), (Path.cwd(), working)):
        if value is not None:
            write(place, f"UA_VALUE={value}\n", ".env")
    if real is not None:
        monkeypatch.setenv("UA_VALUE", real)
    team = load_team(write(folder, with_agent(MODEL % ("base_url: http://${UA_VALUE:-none}", "seed: 1"))))
    assert team.models["default"].base_url == f"http://{found}"


def test_variables_elsewhere_are_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In prompts, names and other sections `${VAR}` is never looked up, set or not."""
    monkeypatch.setenv("UA_VALUE", CANARY)
    text = (
        "name: ${UA_VALUE}\ninputs: {UA_VALUE: x, UA_OTHER: '${UA_VALUE}'}\n"
        "agents: {a: {role: 'R ${UA_VALUE} ${{UA_OTHER}}', goal: '${UA_OTHER:-x}'}}\n"
        "tasks: {t: {description: 'D ${UA_VALUE}', agent: a}}\n"
    )
    team = load_team(write(folder, text))
    assert CANARY not in repr(team)
    assert (team.name, team.agents["a"].role, team.agents["a"].goal) == ("${UA_VALUE}", "R ${UA_VALUE} ${{UA_OTHER}}", "${UA_OTHER:-x}")
    assert (team.tasks["t"].description, team.inputs["UA_OTHER"].default) == ("D ${UA_VALUE}", "${UA_VALUE}")


# Secrets


def test_a_loaded_team_shows_no_secret(full: Path) -> None:
    """Printing a team, or dumping it, shows no key, header or token, although it holds them."""
    team = load_team(write(full, FULL))
    assert team.models["default"].api_key is not None
    for shown in (repr(team), str(team), f"{team.models}", repr(team.model_dump()), team.model_dump_json()):
        assert CANARY not in shown
        assert "gpt-4o-mini" in shown


@pytest.mark.parametrize(
    "model",
    [
        f"{{model: openai/x, api_key: {CANARY}, temprature: 1}}",
        f"{{api_key: {CANARY}}}",
        f"{{model: openai/x, apikey: {CANARY}}}",
        f"{{model: openai/x, api_key: [{CANARY}]}}",
        f"{{model: openai/x, api_key: {{value: {CANARY}}}}}",
        "{model: openai/x, api_key: 471147114711}",
        f"{{model: openai/x, extra_headers: {CANARY}}}",
        f"{{model: openai/x, extra_headers: 'Authorization: Bearer {CANARY}'}}",
        "{model: openai/x, extra_headers: {X: 471147114711}}",
        f"{{model: openai/x, extra_headers: {{X: [{CANARY}]}}}}",
        f"{{model: openai/x, base_url: 'https://user:{CANARY}@host/v1'}}",
        f"{{model: openai/x, base_url: 'https://user:p@{CANARY}@host/v1'}}",
        "{model: openai/x, base_url: '${UA_VALUE}', temprature: 1}",
        "{model: openai/x, api_key: '${UA_VALUE}', max_tokens: x}",
        "{model: openai/x, extra_headers: '${UA_VALUE}'}",
    ],
)
def test_errors_never_hold_a_secret(folder: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    """However wrong a model is written, the error names the place and not the key."""
    monkeypatch.setenv("UA_VALUE", CANARY)
    with pytest.raises(SpecError) as caught:
        load_team(write(folder, with_agent(f"models: {{default: {model}}}")))
    error = caught.value
    assert error.problems[0].path.startswith("models.default")
    for shown in (str(error), repr(error), json.dumps(error.to_dict()), repr(error.problems)):
        assert CANARY not in shown
        assert "471147114711" not in shown


# Placeholders


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("About {topic}", None),
        ('Keep {{other}} and {"json": {"a": 1}} and {} and {0}', None),
        ("About {topc}", "did you mean 'topic'"),
        ("About {_x}", "{_x}"),
        ('{"a": {topc}}', "{topc}"),
    ],
)
def test_undeclared_placeholders(folder: Path, text: str, expected: str | None) -> None:
    """`{name}` must be a declared input; `{{name}}` and JSON are text."""
    content = f"inputs: {{topic: AI}}\nagents: {{a: {{role: R}}}}\ntasks:\n  t:\n    agent: a\n    description: {json.dumps(text)}\n"
    if expected is None:
        assert load_team(write(folder, content)).tasks["t"].description == text
    else:
        found = problems_of(folder, content)
        assert rows(found) == [(6, "tasks.t.description")]
        assert expected in found[0].message


def test_a_file_without_inputs_declares_none(folder: Path) -> None:
    """Unlike in Python, a file's placeholders must be declared, and each of a text's is reported."""
    found = problems_of(folder, "agents: {a: {role: R}}\ntasks:\n  t: {description: 'On {topic} for {reader}', agent: a}\n")
    assert rows(found) == [(3, "tasks.t.description")] * 2
    assert "{topic}" in found[0].message + found[1].message
    assert "{reader}" in found[0].message + found[1].message


def test_a_loaded_team_can_be_loaded_again_as_data(full: Path) -> None:
    """What a file says is what a Python team of the same fields says."""
    data = plain(
        FULL.replace("${UA_API_KEY}", CANARY)
        .replace("${UA_TEAM}", f"{CANARY}-header")
        .replace("${UA_BASE_URL:-https://api.openai.com/v1}", "https://api.openai.com/v1")
    )
    assert TeamSpec.model_validate(data).model_dump() == load_team(write(full, FULL)).model_dump()
