"""What a run is made of, as the journal keeps it: enough to resume it, and nothing secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from unified_agents.answers import json_schema, structure
from unified_agents.errors import Problem, SpecError
from unified_agents.journal import RunRecord
from unified_agents.plan import Plan, Step
from unified_agents.preparation import Options, Prepared
from unified_agents.reading import ReadError, read_text
from unified_agents.recorded import digest
from unified_agents.result import RunResult, TaskResult
from unified_agents.spec import AgentSpec, TeamSpec, ToolSpec
from unified_agents.texts import as_text


def definitions(plan: Plan) -> dict[str, str]:
    """A digest of each task as it would run: its own fields, what it waits for and sees, all who may work on it, and their tools."""
    return {step.name: digest(_made_of(plan, step)) for step in plan.steps}


def _made_of(plan: Plan, step: Step) -> list[Any]:
    people = _people(plan, step)
    named = {tool for agent in people for tool in agent.tools if isinstance(tool, str) and tool in plan.team.tools}
    tools = [_tool(plan.team.tools[name]) for name in sorted(named)]
    return [_plain(step.task), step.waits, step.context, step.delegate, [_plain(agent) for agent in people], tools]


def _people(plan: Plan, step: Step) -> list[AgentSpec]:
    """Whose task it is, then all to whom it may be delegated or handed on, each once."""
    found = {member.name: member.agent for member in step.members}
    left = list(step.members)
    while left:
        member = left.pop(0)
        for name in (*step.coworkers(member), *([member.agent.fallback] if member.agent.fallback else [])):
            if name not in found and name in plan.members:
                left.append(plan.members[name])
                found[name] = plan.members[name].agent
    return list(found.values())


def _tool(tool: ToolSpec) -> list[Any]:
    """What a tool is, without `with` and what an MCP server is given: those may be secrets, which change without changing the task."""
    server = (tool.mcp.command, tool.mcp.args, tool.mcp.url) if tool.mcp else None
    return [tool.name, _named(tool.python), server, tool.description, tool.requires_confirmation, tool.side_effects]


def _plain(spec: Any) -> dict[str, Any]:
    values = {name: getattr(spec, name) for name in type(spec).model_fields if name in spec.model_fields_set}
    return {name: _named(value) for name, value in values.items()}


def _named(value: Any) -> Any:
    """A value so that two sessions write it alike: code by its name."""
    if isinstance(value, (tuple, list)):
        return [_named(item) for item in value]
    if isinstance(value, type) and hasattr(value, "model_json_schema"):
        return json_schema(value)
    if type(value).__module__ == TeamSpec.__module__:  # a part of the spec; a tool object of a framework may hold code
        return _plain(value)
    if callable(value) or not isinstance(value, (str, int, float, bool, Mapping, type(None))):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', getattr(value, 'name', type(value).__name__))}"
    return value


# The only settings that are stored: what cannot hold a secret. Everything else must be given again.
_PART = r"(\.[^.\[]+|\[\d+\])"
_STORED = re.compile(
    r"name|process|prompts|backend|fallback_backend|stream|middleware"
    rf"|models{_PART}(\.(model|temperature|top_p|seed|max_tokens|timeout|context_window|fallbacks|rate_limit(\.\w+)?))?"
    rf"|tools{_PART}\.(python|description|timeout|requires_confirmation|side_effects)"
    rf"|(agents|tasks|inputs|delegation|memory|token_window|resilience|budget|limits|journal|prices){_PART}*"
)


def _may_be_stored(path: str, text: str) -> bool:
    return all(_STORED.fullmatch(leaf) for leaf in _leaves(path, _value(text)))


def _value(text: str) -> Any:
    """A setting as the loader reads it."""
    try:
        return read_text(text)[0]
    except ReadError:
        return text


def _leaves(path: str, value: Any) -> Iterator[str]:
    """The paths of everything in a value."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(f"{path}.{name}", item)
    else:
        yield path


def definition(prepared: Prepared) -> dict[str, Any]:
    """What a run is made of. What may hold a secret, and what was given in Python, is kept by its name alone."""
    options, source = prepared.options, prepared.plan.team._source
    stored = {path: text for path, text in options.settings.items() if _may_be_stored(path, text)}
    return {
        "source": str(Path(source).absolute()) if source else None,
        "inputs": {name: as_text(value) for name, value in (options.inputs or {}).items() if value is not None},
        "settings": stored,
        "withheld": [path for path in options.settings if path not in stored],
        "models": sorted(options.models),
        "tools": sorted(options.tools),
        "middleware": len(options.middleware),
        "strict": options.strict,
        "record": _absolute(options.record),
        "replay": _absolute(options.replay),
        "allow_imports": list(options.allow_imports),
        "tasks": definitions(prepared.plan),
    }


def _absolute(path: Any) -> str | None:
    return None if path is None else str(Path(path).absolute())


def recalled_options(options: Options, record: RunRecord, *, accept_changes: bool, strict: bool | None) -> Options:
    """What was said when the run began, and what is said now.

    Raises:
        SpecError: something that was given then, and is not stored, is not given now.
    """
    made = record.definition
    lacking = [*_not_set_again(options, made), *(() if accept_changes else _not_given_again(options, made))]
    if lacking:
        raise SpecError(lacking, f"what run {record.run_id!r} needs again")
    return replace(
        options,
        inputs=made["inputs"],
        settings={**made["settings"], **options.settings},
        allow_imports=[*made["allow_imports"], *options.allow_imports],
        strict=made.get("strict", True) if strict is None else strict,
        record=made.get("record"),
        replay=made.get("replay"),
        resumed=True,
    )


def _not_set_again(options: Options, made: Mapping[str, Any]) -> Iterator[Problem]:
    for path in made["withheld"]:
        if path not in options.settings:
            yield Problem(
                path, f"was given with --set when the run began and is not stored, since it may be secret: give it again: --set {path}=…"
            )


def _not_given_again(options: Options, made: Mapping[str, Any]) -> Iterator[Problem]:
    """What cannot be stored at all: without it another model would be asked, and a layer that takes out names would be gone."""
    for kind, given in (("models", options.models), ("tools", options.tools)):
        for name in made.get(kind, ()):
            if name not in given:
                yield Problem(
                    f"{kind}.{name}", f"was given in Python when the run began: give it again: resume_run(…, {kind}={{{name!r}: …}})"
                )
    before = made.get("middleware", 0)
    if len(options.middleware) < before:
        yield Problem(
            "middleware", f"{before} of them were given in Python when the run began: give them again: resume_run(…, middleware=[…])"
        )


def source_of(record: RunRecord) -> str:
    """The file of a run's team.

    Raises:
        SpecError: there is none, or it is gone.
    """
    source = record.definition["source"]
    if source is None:
        raise SpecError([Problem("", f"the team of run {record.run_id!r} was built in Python: resume_run({record.run_id!r}, team=…)")])
    if not Path(source).is_file():
        raise SpecError(
            [Problem("", f"the team file of run {record.run_id!r} is not there any more: {source}; say where it is: --file FILE")]
        )
    return str(source)


def stored_result(record: RunRecord, team: Any) -> RunResult:
    """The result of a run that has ended; structured answers are instances again where a class is given with the team."""
    result = RunResult.model_validate(record.result)
    if not isinstance(team, TeamSpec):
        return result
    tasks = {name: _instance(task, team.tasks[name].output_schema) if name in team.tasks else task for name, task in result.tasks.items()}
    final = tasks.get(Plan(team, ()).final)
    return result.model_copy(update={"tasks": tasks, "structured": final.structured if final else result.structured})


def _instance(task: TaskResult, schema: Any) -> TaskResult:
    if task.structured is None or not isinstance(schema, type):
        return task
    return task.model_copy(update={"structured": structure(task.output or "", schema)[0]})


def check_changes(before: Mapping[str, str], plan: Plan) -> None:
    """Compare the tasks of a run with those of a plan.

    Raises:
        SpecError: they are not the same.
    """
    now = definitions(plan)
    said = {
        **{name: "is not in the team any more" for name in before if name not in now},
        **{name: "was not in the team" for name in now if name not in before},
        **{name: "is not what it was" for name in now if name in before and now[name] != before[name]},
    }
    if said:
        hint = "when the run began: resume with --accept-changes (accept_changes=True) to go on with the team as it is now; what was completed keeps its output"
        raise SpecError([Problem(f"tasks.{name}", f"{what} {hint}") for name, what in said.items()])
