"""Finds and makes the tools that a team names."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unified_agents.checks import agents_in_use, assignments, coworkers, object_name
from unified_agents.errors import Problem, SpecError, ToolError
from unified_agents.references import BadReferenceError, resolve_reference
from unified_agents.spec import TeamSpec, ToolSpec
from unified_agents.tools import Tool, ToolDefinitionError
from unified_agents.tools.foreign import foreign_tool, is_foreign
from unified_agents.tools.functions import function_tool
from unified_agents.tools.memory import MEMORY_TOOLS, uses_memory_tools
from unified_agents.tools.teamwork import teamwork_tools


@dataclass
class Toolbox:
    """The tools of each agent; MCP servers are started by `open` and ended by `close`. Used on the engine's loop."""

    tools: dict[str, list[Tool | str]] = field(default_factory=dict)  # a text names an MCP server
    servers: dict[str, ToolSpec] = field(default_factory=dict)
    folder: Path = field(default_factory=Path.cwd)
    taken: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The names of each agent's tools for teamwork and memory, which no other tool may have."""
    _running: list[Any] = field(default_factory=list)

    async def open(self) -> dict[str, tuple[Tool, ...]]:
        """Every agent's tools, those of the MCP servers included.

        Raises:
            ToolError: a server did not start.
            SpecError: two tools of one agent have one name.
        """
        offered = await self._start() if self.servers else {}
        made = {
            agent: tuple(tool for item in items for tool in (offered[item] if isinstance(item, str) else [item]))
            for agent, items in self.tools.items()
        }
        problems = [problem for agent, tools in made.items() for problem in _clashes(agent, tools, self.taken.get(agent, ()))]
        if problems:
            await self.close()
            raise SpecError(problems)
        return made

    async def _start(self) -> dict[str, list[Tool]]:
        from unified_agents.tools.mcp import McpServer  # its library takes most of a second to import

        servers = {name: McpServer(spec, self.folder) for name, spec in self.servers.items()}
        self._running = list(servers.values())
        started = await asyncio.gather(*(server.start() for server in servers.values()), return_exceptions=True)
        failed = next((error for error in started if isinstance(error, BaseException)), None)
        if failed is not None:
            await self.close()
            raise failed if isinstance(failed, ToolError) else ToolError(str(failed))
        return {name: tools for name, tools in zip(servers, started, strict=True) if not isinstance(tools, BaseException)}

    async def close(self) -> None:
        """End all servers."""
        await asyncio.gather(*(server.stop() for server in self._running), return_exceptions=True)
        self._running = []


def _clashes(agent: str, tools: Sequence[Tool], taken: Sequence[str]) -> list[Problem]:
    names = [tool.name for tool in tools]
    doubles = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    return [
        *(Problem(f"agents.{agent}.tools", f"two tools are called {name!r}") for name in doubles),
        *(
            Problem(f"agents.{agent}.tools", f"{name!r} is the name of a tool that delegates_to, messaging or memory gives")
            for name in names
            if name in taken
        ),
    ]


def load_tools(team: TeamSpec, given: Mapping[str, Any], allowed: Sequence[str]) -> tuple[Toolbox, list[Problem]]:
    """The tools of all agents in use, and what is wrong with them. `given` are tools bound in Python, by name."""
    box = Toolbox(folder=team._folder or Path.cwd())
    problems = [Problem(f"tools.{name}", "no agent names this tool") for name in _unused(team, given)]
    made: dict[str, Tool | str] = {}
    edges, made_of_tasks = coworkers(team), assignments(team)[0].values()
    for agent in agents_in_use(team):
        box.tools[agent] = []
        for index, item in enumerate(team.agents[agent].tools):
            try:
                box.tools[agent].append(
                    _named(item, team, given, allowed, box, made)
                    if isinstance(item, str)
                    else make_tool(item, team.tools.get(object_name(item)))
                )
            except (ToolDefinitionError, BadReferenceError) as error:
                place = f"tools.{item}" if isinstance(item, str) else f"agents.{agent}.tools[{index}]"
                problems.append(Problem(_place(place, item, team), str(error)))
        handed = [one.delegate for one in made_of_tasks if one.agent == agent and one.delegate]
        people = [team.agents[name] for name in (*edges[agent], *handed)]
        together = teamwork_tools(people, ["all"] if team.agents[agent].messaging else [])
        box.taken[agent] = (*(tool.name for tool in together), *(MEMORY_TOOLS if uses_memory_tools(team, agent) else ()))
        problems += _clashes(agent, [tool for tool in box.tools[agent] if isinstance(tool, Tool)], box.taken[agent])
    return box, list(dict.fromkeys(problems))


def _place(place: str, item: Any, team: TeamSpec) -> str:
    return f"{place}.python" if isinstance(item, str) and item in team.tools and team.tools[item].python else place


def _unused(team: TeamSpec, given: Mapping[str, Any]) -> Collection[str]:
    named = {item for agent in team.agents.values() for item in agent.tools if isinstance(item, str)}
    return [name for name in given if name not in named and name not in team.tools]


def _named(
    name: str, team: TeamSpec, given: Mapping[str, Any], allowed: Sequence[str], box: Toolbox, made: dict[str, Tool | str]
) -> Tool | str:
    """The tool of this name, made once: bound in Python, or as the file says; an MCP server is named by its text."""
    if name not in made:
        spec = team.tools.get(name) or _given_spec(name)
        if spec.mcp is not None and name not in given:
            box.servers[name] = spec
            made[name] = name
        else:
            value = given[name] if name in given else resolve_reference(spec.python or "", box.folder, allowed)
            made[name] = make_tool(value, spec)
    return made[name]


def _given_spec(name: str) -> ToolSpec:
    try:
        return ToolSpec(name=name, python="given:given")
    except ValidationError as error:
        raise ToolDefinitionError(f"the name {name!r} will not do: {error.errors()[0]['msg']}") from None


def make_tool(value: Any, spec: ToolSpec | None = None) -> Tool:
    """A tool of whatever people have: a function, a tool object of a framework, a class of one (built with `with`).

    Raises:
        ToolDefinitionError: it is none of these, or cannot be built.
    """
    options: dict[str, Any] = {}
    if spec is not None:
        options = {"name": spec.name, "description": spec.description, "timeout": spec.timeout}
        options |= {"requires_confirmation": spec.requires_confirmation, "side_effects": spec.side_effects}
    if isinstance(value, Tool):
        return replace(value, **{key: option for key, option in options.items() if option})
    if inspect.isclass(value):
        value = _built(value, spec.with_ if spec else {})
    elif spec is not None and spec.with_:
        raise ToolDefinitionError(f"`with` builds a class, and {spec.python} is none")
    if is_foreign(value):
        return foreign_tool(value, **options)
    if not callable(value):
        raise ToolDefinitionError(f"{type(value).__name__} is neither a function nor a tool of CrewAI, AutoGen or LangChain")
    return function_tool(value, **options)


def _built(kind: type, options: Mapping[str, Any]) -> Any:
    try:
        return kind(**options)
    except Exception as error:
        raise ToolDefinitionError(f"{kind.__name__}({', '.join(options)}) failed: {type(error).__name__}: {error}") from error
