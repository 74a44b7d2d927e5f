"""A team and a backend to the framework's own objects."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from unified_agents.chat_models import ChatModel, embedded
from unified_agents.chat_models.providers import ModelConfig, check_model, resolve_model, sampling
from unified_agents.checks import agents_in_use, check_models, check_team, is_inside
from unified_agents.engine import engine
from unified_agents.environment import read_environment
from unified_agents.errors import Problem, SpecError, UnsupportedFeatureError
from unified_agents.events import Event
from unified_agents.fidelity import Row, fidelity
from unified_agents.loader import Loaded, read_team
from unified_agents.middleware import Middleware, default_middleware
from unified_agents.plan import Plan, bind_inputs, make_plan
from unified_agents.references import BadReferenceError, resolve_reference
from unified_agents.registry import Backend, backends, default_backend, get_backend, registered
from unified_agents.review import ReviewDesk, Reviewer
from unified_agents.spec import LimitsSpec, ModelSpec, TeamSpec
from unified_agents.tools import Tool
from unified_agents.tools.loading import Toolbox, load_tools
from unified_agents.walk import Seam

BACKEND_VARIABLE = "UNIFIED_AGENTS_BACKEND"
Team = TeamSpec | str | os.PathLike[str]
Models = Mapping[str, Any]


@dataclass(frozen=True)
class Options:
    """What a caller says beside the team; see `run_team` for what each means."""

    backend: str | None = None
    inputs: Mapping[str, Any] | None = None
    models: Models = field(default_factory=dict)
    tools: Mapping[str, Any] = field(default_factory=dict)
    reviewer: Reviewer | None = None
    middleware: Sequence[Middleware] = ()
    strict: bool = True
    settings: Mapping[str, str] = field(default_factory=dict)
    allow_imports: Sequence[str] = ()


@dataclass(frozen=True)
class Prepared:
    """A checked team with its inputs, models, tools and checks: everything but the framework's objects."""

    plan: Plan
    backend: Backend
    models: Mapping[str, ChatModel]
    layers: Sequence[Middleware]
    rows: Sequence[Row]
    toolbox: Toolbox
    guardrails: Mapping[str, Any]
    reviewer: Reviewer | None

    @property
    def lost(self) -> list[Row]:
        """What `strict=False` leaves out."""
        return [row for row in self.rows if row.level == "refused"]

    def seam(
        self, tools: Mapping[str, Sequence[Tool]], layers: Sequence[Middleware] = (), emit: Callable[[Event], None] = lambda _: None
    ) -> Seam:
        """The seam of one compiled team; `layers` go innermost."""
        return Seam(
            plan=self.plan,
            models=self.models,
            layers=[*self.layers, *layers],
            emit=emit,
            tools=tools,
            guardrails=self.guardrails,
            review=ReviewDesk(self.reviewer) if self.reviewer else None,
            limits=self.plan.team.limits or LimitsSpec(),
        )


@dataclass(frozen=True)
class CompiledTeam:
    """A team on one backend: `native` is the framework's own object, `fidelity` what becomes of each field used.

    `initiator` is the agent that starts the chat, where the framework needs one. `close` ends the team's MCP servers; a `with` block does it too.
    """

    backend: str
    native: Any
    plan: Plan
    fidelity: Sequence[Row] = field(repr=False)
    initiator: Any = field(default=None, repr=False)
    _toolbox: Toolbox = field(default_factory=Toolbox, repr=False)

    def close(self) -> None:
        """End what was started for the native object: MCP servers."""
        engine().run(self._toolbox.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def compile_team(
    team: Team, backend: str | None = None, inputs: Mapping[str, Any] | None = None, *,
    models: Models | None = None, tools: Mapping[str, Any] | None = None, reviewer: Reviewer | None = None,
    middleware: Sequence[Middleware] = (), strict: bool = True,
) -> CompiledTeam:  # fmt: skip
    """Build a team's native objects without running it.

    Args:
        team: a TeamSpec, or the path of a team file.
        backend: the backend's name; absent: UNIFIED_AGENTS_BACKEND, the team's own, or the first that is installed.
        inputs: values for the team's inputs.
        models: replaces models by name: PROVIDER/NAME, a ModelSpec, its fields, or a ChatModel.
        tools: tools by name, for agents that name them: functions, or tools of CrewAI, AutoGen or LangChain.
        reviewer: is asked for `human_review` and `requires_confirmation`.
        middleware: extra layers around each model call, outermost first.
        strict: False runs without fields that the backend refuses, where that is allowed.

    Raises:
        SpecError: the team or its inputs are wrong.
        BackendUnavailableError: unknown or not installed.
        UnsupportedFeatureError: the backend refuses a field that the team uses.
        ToolError: an MCP server did not start.
    """
    options = Options(backend, inputs, models or {}, tools or {}, reviewer, middleware, strict)
    prepared = prepare(team, options)
    offered = engine().run(prepared.toolbox.open())
    try:
        built = prepared.backend.adapter.build(prepared.plan, prepared.seam(offered))
    except BaseException:
        engine().run(prepared.toolbox.close())
        raise
    return CompiledTeam(
        prepared.backend.name, built.native, prepared.plan, prepared.rows, getattr(built, "initiator", None), prepared.toolbox
    )


def prepare(team: Team, options: Options) -> Prepared:
    """Check everything that can be checked before the framework is imported; errors as `compile_team`."""
    loaded = _with_models(_load(team, options), options.models)
    values, configs = _bind(loaded, options)
    checked = loaded.raise_if_wrong()
    chosen = choose_backend(checked, options.backend)
    rows = fidelity(checked, chosen.adapter)
    refused = [row for row in rows if row.level == "refused" and (options.strict or not row.droppable)]
    if refused:
        raise UnsupportedFeatureError(chosen.name, [row.to_problem() for row in refused])
    plan = make_plan(checked, values, {name: [configs[alias] for alias in model_names(checked, name)] for name in agents_in_use(checked)})
    loaded.add(_outside(plan))
    loaded.raise_if_wrong()
    code = load_code(checked, options)
    layers = default_middleware(extra=[*options.middleware, *code.middleware])
    return Prepared(plan, chosen, chat_models(configs, options.models), layers, rows, code.toolbox, code.guardrails, options.reviewer)


@dataclass(frozen=True)
class Code:
    """What a team's references name."""

    toolbox: Toolbox
    guardrails: Mapping[str, Any]
    middleware: Sequence[Middleware]


def load_code(team: TeamSpec, options: Options) -> Code:
    """Import what the team names; only now, when everything else is known to be right.

    Raises:
        SpecError: a reference names nothing usable, or nobody is there to be asked for a review.
    """
    allowed = (*team._allowed, *options.allow_imports)
    toolbox, problems = load_tools(team, options.tools, allowed)
    guardrails = {
        name: _found(f"tasks.{name}.guardrail", task.guardrail, team, allowed, problems)
        for name, task in team.tasks.items()
        if task.guardrail
    }
    layers = [_layer(f"middleware[{index}]", item, team, allowed, problems) for index, item in enumerate(team.middleware)]
    if options.reviewer is None:
        problems += [
            Problem(path, "needs a reviewer: run_team(reviewer=…), or a terminal for the command line") for path in _reviewed(team, toolbox)
        ]
    if problems:
        loaded = read_team(team._source, settings=options.settings) if team._source else Loaded("the team")
        loaded.problems = []
        loaded.add(problems)
        raise SpecError(loaded.problems, loaded.source)
    return Code(toolbox, guardrails, layers)


def _reviewed(team: TeamSpec, toolbox: Toolbox) -> list[str]:
    """Where a team asks for a person."""
    tasks = [f"tasks.{name}.human_review" for name, task in team.tasks.items() if task.human_review]
    made = dict.fromkeys(
        tool.name for tools in toolbox.tools.values() for tool in tools if isinstance(tool, Tool) and tool.requires_confirmation
    )
    servers = [name for name, spec in toolbox.servers.items() if spec.requires_confirmation]
    return [*tasks, *(f"tools.{name}.requires_confirmation" for name in [*made, *servers])]


def _found(path: str, value: Any, team: TeamSpec, allowed: Sequence[str], problems: list[Problem]) -> Any:
    """What a reference names, or the value itself where it is no text."""
    try:
        found = resolve_reference(value, team._folder or Path.cwd(), allowed) if isinstance(value, str) else value
    except BadReferenceError as error:
        problems.append(Problem(path, str(error)))
        return None
    if not callable(found):
        problems.append(Problem(path, f"{value!r} names a {type(found).__name__}, expected a function"))
    return found


def _layer(path: str, value: Any, team: TeamSpec, allowed: Sequence[str], problems: list[Problem]) -> Any:
    """A layer as named: a class is built without arguments."""
    found = _found(path, value, team, allowed, problems)
    if not isinstance(found, type):
        return found
    try:
        return found()
    except Exception as error:  # noqa: BLE001  # a user's class
        problems.append(Problem(path, f"{found.__name__}() failed: {type(error).__name__}: {error}"))
        return None


def choose_backend(team: TeamSpec, asked: str | None) -> Backend:
    """The backend that was asked for, in the order argument, environment, file, first installed.

    Raises:
        BackendUnavailableError: unknown or not installed.
    """
    name = asked_backend(team, asked)
    return get_backend(name) if name is not None else default_backend()


def asked_backend(team: TeamSpec, asked: str | None) -> str | None:
    """The name that argument, environment or file give, in this order."""
    return asked if asked is not None else read_environment(team._folder).get(BACKEND_VARIABLE) or team.backend


@dataclass(frozen=True)
class Checked:
    """What is known of a team file without running it. `plan`: rows of task, agent, reason, context; `rows`: fidelity on every backend."""

    backend: str
    problems: Sequence[Problem]
    plan: Sequence[Mapping[str, Any]]
    rows: Sequence[Row]

    @property
    def refused(self) -> list[Row]:
        """What the chosen backend refuses."""
        return [row for row in self.rows if row.level == "refused" and row.backend == self.backend]

    @property
    def exit_code(self) -> int:
        """2 for a wrong file, 3 for a refused field, else 0."""
        return 2 if self.problems else 3 if self.refused else 0


def check_file(path: Path, backend: str | None = None) -> Checked:
    """Check a team file as a run would, but for its inputs, which are given when it runs.

    Raises:
        BackendUnavailableError: an unknown backend was asked for.
    """
    loaded = read_team(path)
    if loaded.team is None or loaded.problems:
        return Checked(backend or "", sorted(loaded.problems), [], [])
    _, problems = resolve_models(loaded.team, {})
    loaded.add(problems)
    name = asked_backend(loaded.team, backend)
    chosen = registered(name) if name else default_backend()
    rows = [row for found in backends().values() for row in fidelity(loaded.team, found.adapter)]
    return Checked(chosen.name, loaded.problems, outline(loaded.team), rows)


def outline(team: TeamSpec) -> list[dict[str, Any]]:
    """Who does what, why, and what they see, as a plan would say; in file order."""
    rows: list[dict[str, Any]] = []
    for name, task in team.tasks.items():
        unset = [row["task"] for row in rows] if team.process == "sequential" else []
        who = task.agent or ", ".join(task.participants) or "(not supported yet)"
        rows.append(
            {
                "task": name,
                "agent": who,
                "reason": "named by the task",
                "context": list(task.context if task.context is not None else unset),
            }
        )
    return rows


def _with_models(loaded: Loaded, given: Models) -> Loaded:
    """The team with replaced models in it, so that they are checked like its own; a ChatModel only answers for one."""
    specs: dict[str, ModelSpec] = {}
    for name, value in given.items():
        if not _is_chat_model(value):
            try:
                specs[name] = _model_spec(value)
            except ValueError as error:
                loaded.add([Problem(f"models.{name}", _first_line(error))])
    if loaded.team is not None and specs:
        private = (loaded.team._folder, loaded.team._source, loaded.team._allowed)
        loaded.team = loaded.team.model_copy(update={"models": {**loaded.team.models, **specs}})
        loaded.team._folder, loaded.team._source, loaded.team._allowed = private
        loaded.add(list(check_models(specs)))
    return loaded


def _first_line(error: ValueError) -> str:
    found = getattr(error, "errors", None)
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in found()) if found else str(error)


def _load(team: Team, options: Options) -> Loaded:
    if not isinstance(team, TeamSpec):
        return read_team(Path(team), settings=options.settings, provided=set(options.models), given_tools=set(options.tools))
    loaded = Loaded(team._source or "the team", team=team)
    loaded.add(check_team(team, options.tools))
    return loaded


def _bind(loaded: Loaded, options: Options) -> tuple[dict[str, str], dict[str, ModelConfig]]:
    """The inputs and the models by alias; looked at even when the file is already known to be wrong, to tell everything at once."""
    values: dict[str, str] = {}
    configs: dict[str, ModelConfig] = {}
    if loaded.team is not None:
        values, problems = bind_inputs(loaded.team, options.inputs)
        loaded.add(problems)
        if not any(p.path.startswith("models") for p in loaded.problems):
            configs, problems = resolve_models(loaded.team, options.models)
            loaded.add(problems)
    return values, configs


def _outside(plan: Plan) -> list[Problem]:
    """Output files that lie outside the working folder once the inputs are filled in."""
    files = {f"tasks.{step.name}.output_file": step.task.output_file for step in plan.steps}
    return [
        Problem(path, f"becomes {file!r}: it must lie inside the working folder")
        for path, file in files.items()
        if file and not is_inside(file)
    ]


def model_names(team: TeamSpec, agent: str) -> list[str]:
    """The models of an agent in the order they are asked: its own list, then what its first falls back to, then the team's fallbacks."""
    own = team.agents[agent].model or ("default",)
    further = team.models[own[0]].fallbacks if own[0] in team.models else ()
    return list(dict.fromkeys([*own, *further, *(team.resilience.fallback_models if team.resilience else ())]))


def resolve_models(team: TeamSpec, replaced: Models) -> tuple[dict[str, ModelConfig], list[Problem]]:
    """The models in use by alias (a name in `models`, or an inline PROVIDER/NAME), and what is missing for them."""
    env = read_environment(team._folder)
    timeout = team.resilience.timeout if team.resilience else 60.0
    configs: dict[str, ModelConfig] = {}
    problems = [
        Problem(f"models.{name}", f"no agent uses a model of this name; in use: {_in_use_text(team)}") for name in _unused(team, replaced)
    ]
    for alias in _aliases(team):
        try:
            config, found = _resolve(team, alias, replaced.get(alias), env, timeout)
        except ValueError as error:
            config, found = None, [Problem(f"models.{alias}", str(error))]
        problems += found
        if config is not None:
            configs[alias] = config
    return configs, problems


def _aliases(team: TeamSpec) -> list[str]:
    return list(dict.fromkeys(alias for agent in agents_in_use(team) for alias in model_names(team, agent)))


def _in_use_text(team: TeamSpec) -> str:
    return ", ".join(_aliases(team))


def _unused(team: TeamSpec, replaced: Models) -> list[str]:
    return [name for name in replaced if name not in _aliases(team) and name not in team.models]


def _resolve(team: TeamSpec, alias: str, given: Any, env: Mapping[str, str], timeout: float) -> tuple[ModelConfig | None, list[Problem]]:
    path = f"models.{alias}"
    if _is_chat_model(given):
        spec = team.models.get(alias) or ModelSpec(model=alias if "/" in alias else f"custom/{alias}")
        provider, _, name = spec.model.partition("/")
        return ModelConfig(alias, provider, name, base_url="", timeout=spec.timeout or timeout, sampling=sampling(spec)), []
    spec = _declared(team, alias, env)
    wrong = check_model(spec.model)
    if wrong is None and spec.model.startswith("local/"):
        wrong = embedded.lacking(spec.model.removeprefix("local/"))
    return (None, [Problem(f"{path}.model", wrong)]) if wrong else resolve_model(alias, spec, env, timeout, path)


def _declared(team: TeamSpec, alias: str, env: Mapping[str, str]) -> ModelSpec:
    """The model of this name in the file; an inline PROVIDER/NAME; or, with no models at all, the one that OPENAI_* describe."""
    if alias in team.models:
        return team.models[alias]
    return ModelSpec(model=alias if "/" in alias else f"openai/{env.get('OPENAI_MODEL') or 'gpt-4o-mini'}")


def _model_spec(given: Any) -> ModelSpec:
    if isinstance(given, ModelSpec):
        return given
    if isinstance(given, str):
        return ModelSpec(model=given)
    if isinstance(given, Mapping):
        return ModelSpec.model_validate(dict(given))
    raise ValueError(f"found {type(given).__name__}, expected PROVIDER/NAME, a ModelSpec, its fields, or a ChatModel")


def _is_chat_model(given: Any) -> bool:
    return not isinstance(given, (str, ModelSpec, Mapping)) and isinstance(given, ChatModel)


def chat_models(configs: Mapping[str, ModelConfig], replaced: Models) -> dict[str, ChatModel]:
    """What answers each alias: the given ChatModel, the embedded model, or the provider's endpoint."""
    return {alias: replaced[alias] if _is_chat_model(replaced.get(alias)) else _chat_model(config) for alias, config in configs.items()}


def _chat_model(config: ModelConfig) -> ChatModel:
    """Imported here: the OpenAI SDK takes most of a second to load, and a scripted run needs none of it."""
    if config.provider == "local":
        return embedded.EmbeddedModel()
    from unified_agents.chat_models.openai_compatible import OpenAICompatibleModel

    return OpenAICompatibleModel()
