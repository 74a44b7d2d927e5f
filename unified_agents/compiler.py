"""A team and a backend to the framework's own objects."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unified_agents.adapter import NativeTeam
from unified_agents.chat_models import ChatModel, embedded
from unified_agents.chat_models.providers import ModelConfig, check_model, resolve_model
from unified_agents.checks import agents_in_use, check_team
from unified_agents.conversation import Seam
from unified_agents.environment import read_environment
from unified_agents.errors import Problem, UnsupportedFeatureError
from unified_agents.fidelity import Row, fidelity
from unified_agents.loader import Loaded, read_team
from unified_agents.middleware import Middleware, default_middleware
from unified_agents.plan import Plan, bind_inputs, make_plan
from unified_agents.registry import Backend, backends, default_backend, get_backend, registered
from unified_agents.spec import ModelSpec, TeamSpec

BACKEND_VARIABLE = "UNIFIED_AGENTS_BACKEND"
Team = TeamSpec | str | os.PathLike[str]
Models = Mapping[str, Any]


@dataclass(frozen=True)
class Prepared:
    """A checked team with its inputs and models: everything but the framework's objects."""

    plan: Plan
    backend: Backend
    models: Mapping[str, ChatModel]
    layers: Sequence[Middleware]
    rows: Sequence[Row]

    @property
    def lost(self) -> list[Row]:
        """What `strict=False` leaves out."""
        return [row for row in self.rows if row.level == "refused"]


@dataclass(frozen=True)
class CompiledTeam:
    """A team on one backend: `native` is the framework's own object, `fidelity` what becomes of each field used."""

    backend: str
    native: Any
    plan: Plan
    fidelity: Sequence[Row] = field(repr=False)
    team: NativeTeam = field(repr=False)


def compile_team(
    team: Team, backend: str | None = None, inputs: Mapping[str, Any] | None = None, *,
    models: Models | None = None, middleware: Sequence[Middleware] = (), strict: bool = True,
) -> CompiledTeam:  # fmt: skip
    """Build a team's native objects without running it.

    Args:
        team: a TeamSpec, or the path of a team file.
        backend: the backend's name; absent: UNIFIED_AGENTS_BACKEND, the team's own, or the first that is installed.
        inputs: values for the team's inputs.
        models: replaces models by name: PROVIDER/NAME, a ModelSpec, its fields, or a ChatModel.
        middleware: extra layers around each model call, outermost first.
        strict: False runs without fields that the backend refuses, where that is allowed.

    Raises:
        SpecError: the team or its inputs are wrong.
        BackendUnavailableError: unknown or not installed.
        UnsupportedFeatureError: the backend refuses a field that the team uses.
    """
    prepared = prepare(team, backend, inputs, models=models, middleware=middleware, strict=strict)
    built = prepared.backend.adapter.build(prepared.plan, Seam(prepared.plan, prepared.models, prepared.layers))
    return CompiledTeam(prepared.backend.name, built.native, prepared.plan, prepared.rows, built)


def prepare(
    team: Team, backend: str | None = None, inputs: Mapping[str, Any] | None = None, *,
    models: Models | None = None, middleware: Sequence[Middleware] = (), strict: bool = True, settings: Mapping[str, str] | None = None,
) -> Prepared:  # fmt: skip
    """Check everything that can be checked before the framework is imported; arguments and errors as `compile_team`."""
    loaded = _load(team, models or {}, settings or {})
    plan, configs = _bind(loaded, inputs, models or {})
    chosen = choose_backend(plan.team, backend)
    rows = fidelity(plan.team, chosen.adapter)
    refused = [row for row in rows if row.level == "refused" and (strict or not row.droppable)]
    if refused:
        raise UnsupportedFeatureError(chosen.name, [row.to_problem() for row in refused])
    return Prepared(plan, chosen, chat_models(configs, models or {}), default_middleware(extra=middleware), rows)


def choose_backend(team: TeamSpec, asked: str | None) -> Backend:
    """The backend that was asked for, in the order argument, environment, file, first installed.

    Raises:
        BackendUnavailableError: unknown or not installed.
    """
    name = asked_backend(team, asked)
    return get_backend(name) if name else default_backend()


def asked_backend(team: TeamSpec, asked: str | None) -> str | None:
    """The name that argument, environment or file give, in this order."""
    return asked or read_environment(team._folder).get(BACKEND_VARIABLE) or team.backend


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


def _load(team: Team, models: Models, settings: Mapping[str, str]) -> Loaded:
    if not isinstance(team, TeamSpec):
        return read_team(Path(team), settings=settings, provided=set(models))
    loaded = Loaded(team._source or "the team", team=team)
    loaded.add(check_team(team))
    return loaded


def _bind(loaded: Loaded, inputs: Mapping[str, Any] | None, models: Models) -> tuple[Plan, dict[str, ModelConfig]]:
    """The plan and the models by alias; inputs and environment are checked even when the file is already known to be wrong."""
    values: dict[str, str] = {}
    configs: dict[str, ModelConfig] = {}
    if loaded.team is not None:
        values, problems = bind_inputs(loaded.team, inputs)
        loaded.add(problems)
        if not any(p.path.startswith("models") for p in loaded.problems):
            configs, problems = resolve_models(loaded.team, models)
            loaded.add(problems)
    checked = loaded.raise_if_wrong()
    return make_plan(checked, values, {name: configs[_alias(checked, name)] for name in agents_in_use(checked)}), configs


def _alias(team: TeamSpec, agent: str) -> str:
    return (team.agents[agent].model or ("default",))[0]


def resolve_models(team: TeamSpec, replaced: Models) -> tuple[dict[str, ModelConfig], list[Problem]]:
    """The models in use by alias (a name in `models`, or an inline PROVIDER/NAME), and what is missing for them."""
    env = read_environment(team._folder)
    timeout = team.resilience.timeout if team.resilience else 60.0
    configs: dict[str, ModelConfig] = {}
    problems = [
        Problem(f"models.{name}", f"no agent uses a model of this name; in use: {_in_use_text(team)}") for name in _unused(team, replaced)
    ]
    for alias in dict.fromkeys(_alias(team, agent) for agent in agents_in_use(team)):
        try:
            config, found = _resolve(team, alias, replaced.get(alias), env, timeout)
        except ValueError as error:
            config, found = None, [Problem(f"models.{alias}", str(error))]
        problems += found
        if config is not None:
            configs[alias] = config
    return configs, problems


def _in_use_text(team: TeamSpec) -> str:
    return ", ".join(dict.fromkeys(_alias(team, agent) for agent in agents_in_use(team)))


def _unused(team: TeamSpec, replaced: Models) -> list[str]:
    used = {_alias(team, agent) for agent in agents_in_use(team)}
    return [name for name in replaced if name not in used and name not in team.models]


def _resolve(team: TeamSpec, alias: str, given: Any, env: Mapping[str, str], timeout: float) -> tuple[ModelConfig | None, list[Problem]]:
    path = f"models.{alias}"
    if _is_chat_model(given):
        spec = team.models.get(alias, ModelSpec(model=f"custom/{alias}"))
        provider, _, name = spec.model.partition("/")
        return ModelConfig(alias, provider, name, base_url="", timeout=spec.timeout or timeout), []
    spec = _model_spec(given) if given is not None else _declared(team, alias, env)
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
