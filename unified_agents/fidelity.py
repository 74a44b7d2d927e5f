"""For every field of a spec and every backend: native, emulated, or refused with a reason.

*native*: the framework's own feature carries it. *emulated*: ours, equal in effect. *refused*: a run that uses it stops before any call.
Adapters declare what differs from the core's table below. Only fields that a team uses make rows: set, to something other than the default.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from unified_agents.adapter import Adapter, Level
from unified_agents.checks import agents_in_use, models_in_use
from unified_agents.errors import Problem, did_you_mean
from unified_agents.spec import TeamSpec, ToolSpec

_NOT_YET = "`{name}` is not supported yet: no backend would honour it; leave it out"

_EMULATED = (
    "name", "backend", "fallback_backend", "process", "prompts", "inputs.*",
    "models.*.model", "models.*.base_url", "models.*.api_key", "models.*.api_version", "models.*.temperature", "models.*.top_p", "models.*.seed",
    "models.*.max_tokens", "models.*.timeout", "models.*.extra_headers", "models.*.extra_body",
    "agents.*.name", "agents.*.role", "agents.*.goal", "agents.*.backstory", "agents.*.instructions", "agents.*.expertise",
    "agents.*.responsibilities", "agents.*.personality", "agents.*.model",
    "tasks.*.name", "tasks.*.description", "tasks.*.expected_output", "tasks.*.agent", "tasks.*.context", "tasks.*.after",
    "resilience.retry", "resilience.circuit_breaker", "models.*.rate_limit", "models.*.context_window",
    "token_window.limit", "token_window.strategy", "resilience.timeout", "resilience.fallback_models", "models.*.fallbacks",
    "agents.*.model[]", "agents.*.tools", "agents.*.max_iterations",
    "tasks.*.output_schema", "tasks.*.output_file", "tasks.*.human_review", "tasks.*.guardrail", "tasks.*.guardrail_retries", "tasks.*.timeout",
    "agents.*.delegates_to", "agents.*.reports_to", "agents.*.fallback", "agents.*.messaging", "agents.*.human",
    "tasks.*.expertise", "tasks.*.participants", "tasks.*.speaker_selection", "tasks.*.max_rounds", "tasks.*.stop_when", "tasks.*.result",
    "delegation.strategy", "delegation.agents", "delegation.manager", "limits.delegation_depth", "limits.messages",
    "limits.tool_calls", "limits.tool_errors", "limits.output_bytes", "middleware",
    "budget.tokens", "budget.usd", "budget.seconds", "budget.model_calls", "prices.*",
    "agents.*.memory", "memory", "memory.store", "memory.short_term", "memory.episodes", "memory.recall.items", "memory.recall.tokens", "memory.tools",
    "memory.semantic", "memory.required", "stream", "journal", "journal.store", "journal.required",
)  # fmt: skip

_REFUSED: tuple[str, ...] = ()  # fmt: skip

# What protects people, or decides who works at all, is never dropped by `strict=False`.
_NEVER_DROPPED = frozenset(
    {
        "agents.*.human",
        "tasks.*.human_review",
        "tasks.*.participants",
        "tasks.*.expertise",
        "tasks.*.guardrail",
        "delegation.strategy",
        "delegation.agents",
        "delegation.manager",
        "limits.delegation_depth",
        "limits.messages",
        "budget.tokens",
        "budget.usd",
        "budget.seconds",
        "budget.model_calls",
    }
)

_TOOL_FIELDS = tuple(f"tools.*.{info.alias or name}" for name, info in ToolSpec.model_fields.items())

CORE: Mapping[str, tuple[Level, str]] = {
    **dict.fromkeys((*_EMULATED, *_TOOL_FIELDS), ("emulated", "by the core, the same on every backend")),
    **{field: ("refused", _NOT_YET.format(name=field.rsplit(".", 1)[-1].removesuffix("[]"))) for field in _REFUSED},
}


@dataclass(frozen=True)
class Row:
    """One field of a team on one backend."""

    path: str
    field: str
    backend: str
    level: Level
    reason: str

    @property
    def droppable(self) -> bool:
        """Whether `strict=False` may run without it."""
        return self.field not in _NEVER_DROPPED

    def to_dict(self) -> dict[str, str]:
        """The row as it stands in `check --json`."""
        return {"path": self.path, "backend": self.backend, "level": self.level, "reason": self.reason}

    def to_problem(self) -> Problem:
        """The row as a reason not to run."""
        return Problem(self.path, self.reason)


def fidelity(team: TeamSpec, adapter: Adapter) -> list[Row]:
    """A row for every field that the team uses, in file order."""
    table = {**CORE, **adapter.fidelity}
    return [Row(path, field, adapter.name, *table[field]) for path, field in used_fields(team, table)]


def used_fields(team: TeamSpec, table: Mapping[str, Any] = CORE) -> Iterator[tuple[str, str]]:
    """Path and pattern of every field that a run of the team would use."""
    agents = agents_in_use(team)
    unused = {problem.path for problem in unused_fields(team)}
    named = {tool for agent in agents for tool in team.agents[agent].tools if isinstance(tool, str)}
    in_use = {"agents": set(agents), "models": models_in_use(team), "tools": named}
    for path, field in _walk(team, "", "", table):
        section, _, rest = path.partition(".")
        if path in unused:
            continue
        if section in in_use and not any(rest == name or rest.startswith((f"{name}.", f"{name}[")) for name in in_use[section]):
            continue
        yield path, field


def unused_fields(team: TeamSpec, asked: Collection[str] = ()) -> list[Problem]:
    """Fields that are set and that nothing reads in this team, each with what would. `asked`: its models' names, where a run knows them all."""
    strategy = team.delegation.strategy if team.delegation else "explicit"
    found: list[Problem] = []
    if strategy != "hierarchical":
        superiors = [f"agents.{name}.reports_to" for name, agent in team.agents.items() if agent.reports_to]
        found += [Problem(path, "is read by delegation: {strategy: hierarchical} alone") for path in superiors]
    for name, task in team.tasks.items():
        if task.expertise and (task.agent or strategy not in ("by_expertise", "hierarchical")):
            found.append(Problem(f"tasks.{name}.expertise", "is read when a task names no agent, by_expertise or in a hierarchy"))
    if team.delegation and team.delegation.manager and strategy not in ("by_expertise", "hierarchical"):
        found.append(Problem("delegation.manager", f"has no part in strategy: {strategy}"))
    if team.delegation and team.delegation.agents and strategy == "explicit":
        found.append(Problem("delegation.agents", "has no part in strategy: explicit"))
    found += _unused_prices(team, asked)
    if team.memory is None:
        found += [
            Problem(f"agents.{name}.memory", "says who has part in `memory`, which this team does not use")
            for name, agent in team.agents.items()
            if not agent.memory
        ]
    return found


def _unused_prices(team: TeamSpec, known: Collection[str]) -> list[Problem]:
    """Prices of models that nobody asks: most of them are typing errors, and the model meant would go without."""
    aliases = models_in_use(team)
    if "default" in aliases - set(team.models) and not known:
        return []  # the environment says which model that is
    asked = {*known, *(team.models[name].model if name in team.models else name for name in aliases)}
    return [
        Problem(f"prices.{name}", f"no agent asks a model of this name{did_you_mean(name, asked)}")
        for name in team.prices
        if name not in asked
    ]


def _walk(spec: BaseModel, path: str, pattern: str, table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, info in type(spec).model_fields.items():
        value = getattr(spec, name)
        if (name not in spec.model_fields_set and not isinstance(value, dict)) or value == info.get_default(call_default_factory=True):
            continue
        key = info.alias or name
        yield from _entry(value, f"{path}{key}", f"{pattern}{key}", table)


def _entry(value: Any, path: str, pattern: str, table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if isinstance(value, tuple) and len(value) > 1 and f"{pattern}[]" in table:
        yield path, f"{pattern}[]"
    elif pattern in table:
        yield path, pattern
        if isinstance(value, BaseModel) and any(field.startswith(f"{pattern}.") for field in table):
            yield from _walk(value, f"{path}.", f"{pattern}.", table)
    elif isinstance(value, BaseModel):
        yield from _walk(value, f"{path}.", f"{pattern}.", table)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _entry(item, f"{path}.{name}", f"{pattern}.*", table)
    else:
        raise AssertionError(f"the fidelity table has no row for {pattern}")


def support_matrix(adapters: Sequence[Adapter]) -> str:
    """docs/support-matrix.md: every field of the format on every backend, from the same tables that runs go by."""
    names = [adapter.name for adapter in adapters]
    tables = [{**CORE, **adapter.fidelity} for adapter in adapters]
    rows = [
        f"| `{field}` | {' | '.join(table[field][0] for table in tables)} | {_reason(field, names, tables)} |" for field in sorted(CORE)
    ]
    facts = [
        f"| {name} | {' | '.join('yes' if a.capabilities.get(name) else 'no' for a in adapters)} |" for name in _capabilities(adapters)
    ]
    return "\n".join([_MATRIX_HEAD, f"| field | {' | '.join(names)} | how |", "|---" * (len(names) + 2) + "|", *rows, "", "## Capabilities", "",
                      f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|", *facts, ""])  # fmt: skip


_MATRIX_HEAD = """\
# Support matrix

Made by `make docs` from the tables that `unified-agents check` prints and runs go by; the tests compare it and show every cell.
`*` stands for a name; `agents.*.model[]` is a list of models. *native*: the framework's own feature. *emulated*: ours, equal in effect. *refused*: a run
that uses it stops before any call, by name.
"""


def _reason(field: str, names: Sequence[str], tables: Sequence[Mapping[str, tuple[Level, str]]]) -> str:
    own = [f"{name}: {table[field][1]}" for name, table in zip(names, tables, strict=True) if table[field] != CORE[field]]
    return "; ".join(own) or CORE[field][1]


def _capabilities(adapters: Sequence[Adapter]) -> list[str]:
    return sorted({name for adapter in adapters for name in adapter.capabilities})


if __name__ == "__main__":
    from unified_agents.registry import backends

    print(support_matrix([found.adapter for _, found in sorted(backends().items())]), end="")  # noqa: T201  # `make docs` takes it
