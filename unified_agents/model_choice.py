"""Which model answers whom: the team's own, those that a caller puts in their place, and what is missing for them."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Mapping
from typing import Any

from unified_agents.chat_models import ChatModel, embedded
from unified_agents.chat_models.providers import PROVIDERS, ModelConfig, check_model, resolve_model, sampling
from unified_agents.checks import agents_in_use, check_models
from unified_agents.environment import read_environment
from unified_agents.errors import Problem
from unified_agents.loader import Loaded
from unified_agents.spec import ModelSpec, TeamSpec

Models = Mapping[str, Any]
"""Models by name: PROVIDER/NAME, a ModelSpec, its fields, or a ChatModel."""


def put_in_place(loaded: Loaded, given: Models) -> Loaded:
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
    for alias in models_asked(team):
        try:
            config, found = _resolve(team, alias, replaced.get(alias), env, timeout)
        except ValueError as error:
            config, found = None, [Problem(f"models.{alias}", str(error))]
        problems += found
        if config is not None:
            configs[alias] = config
    return configs, problems


def models_asked(team: TeamSpec) -> list[str]:
    """The aliases of all models that a run may ask."""
    speaking = [agent for agent in agents_in_use(team) if not team.agents[agent].human]
    return list(dict.fromkeys(alias for agent in speaking for alias in model_names(team, agent)))


def _in_use_text(team: TeamSpec) -> str:
    return ", ".join(models_asked(team))


def _unused(team: TeamSpec, replaced: Models) -> list[str]:
    return [name for name in replaced if name not in models_asked(team) and name not in team.models]


def _resolve(team: TeamSpec, alias: str, given: Any, env: Mapping[str, str], timeout: float) -> tuple[ModelConfig | None, list[Problem]]:
    path = f"models.{alias}"
    if _is_chat_model(given):
        return _answered_by(given, alias, team.models.get(alias), timeout), []
    spec = _declared(team, alias, env)
    wrong = check_model(spec.model)
    if wrong is None and spec.model.startswith("local/"):
        wrong = embedded.lacking(spec.model.removeprefix("local/"))
    return (None, [Problem(f"{path}.model", wrong)]) if wrong else resolve_model(alias, spec, env, timeout, path)


def _answered_by(given: Any, alias: str, declared: ModelSpec | None, timeout: float) -> ModelConfig:
    """A model that an object answers for: no address and no key, else as it is declared."""
    spec = declared or ModelSpec(model=alias if "/" in alias else f"custom/{alias}")
    provider, _, name = spec.model.partition("/")
    known = PROVIDERS.get(provider)
    replays = getattr(given, "recorded", False)
    return ModelConfig(
        alias, provider, name, base_url=(spec.base_url or (known.base_url if known else "") if replays else "") or _place(given),
        timeout=spec.timeout or timeout, sampling=sampling(spec), rate_limit=None if replays else spec.rate_limit, context_window=spec.context_window,
        json_schema=known.json_schema if known and replays else True,
    )  # fmt: skip


def _place(model: Any) -> str:
    """What stands for the address of a ChatModel: each object has a health and a limit of its own."""
    try:
        return f"object:{_objects.setdefault(model, next(_numbers))}"
    except TypeError:  # not to be hashed or referred to weakly
        return f"object:{id(model)}"


_objects: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
_numbers = itertools.count(1)


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
