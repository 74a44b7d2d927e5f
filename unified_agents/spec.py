"""What a user writes: a team of agents and tasks, as frozen data.

Structure and types are checked here; names, placeholders, order and environment in `checks.py`, all at once.
Objects may stand wherever a name may (`TaskSpec(agent=writer, context=[research])`); they are replaced by their names, and the
team gathers the agents it meets that way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ModelWrapValidatorHandler, PrivateAttr, SecretStr, model_validator
from typing_extensions import Self


def _names(value: Any) -> Any:
    """A list for a strict tuple field; one text is a list of one."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, (list, tuple)) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_names, json_schema_input_type=list[str] | str)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_names, json_schema_input_type=list[str] | str)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]


class _Spec(BaseModel):
    """Frozen, strict, and closed: an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True, protected_namespaces=(), hide_input_in_errors=True
    )

    _references: ClassVar[frozenset[str]] = frozenset()
    _objects: tuple[Any, ...] = PrivateAttr(default=())

    @model_validator(mode="wrap")
    @classmethod
    def _take_objects(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Replace spec objects by their names, and keep them for the team to gather."""
        if not isinstance(data, Mapping):
            return handler(data)
        found: list[Any] = []
        made = handler({key: _by_name(value, found) if key in cls._references else value for key, value in data.items()})
        if found:
            made._objects = tuple(found)
        return made


def _by_name(value: Any, found: list[Any]) -> Any:
    if isinstance(value, (AgentSpec, TaskSpec)):
        found.append(value)
        return value.name
    return [_by_name(item, found) for item in value] if isinstance(value, (list, tuple)) else value


def _entries(kind: str, shorthand: Callable[[Any], Any] | None = None, keyed: bool = True) -> Callable[[Any], Any]:
    """A validator that brings `{name: fields}` and `[{name: …, fields}]` to one mapping, with shorthand entries written out.

    `keyed`: whether an entry keeps its name as a field.
    """

    def entry(name: str, value: Any) -> Any:
        if shorthand is not None and not isinstance(value, (Mapping, BaseModel)):
            value = shorthand(value)
        if not isinstance(value, Mapping):
            if getattr(value, "name", name) != name:
                raise ValueError(f"the {kind} {name!r} also says name: {value.name!r}; leave one of them out")
            return value
        if value.get("name", name) != name:
            raise ValueError(f"the {kind} {name!r} also says name: {value['name']!r}; leave one of them out")
        return {**value, "name": name} if keyed else {key: item for key, item in value.items() if key != "name"}

    def entries(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            value = _by_their_names(value, kind)
        if value is None:
            return {}
        return {str(name): entry(str(name), item) for name, item in value.items()} if isinstance(value, Mapping) else value

    return entries


def _by_their_names(items: Sequence[Any], kind: str) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for item in items:
        name = item.get("name") if isinstance(item, Mapping) else getattr(item, "name", None)
        if not isinstance(name, str):
            raise ValueError(f"each {kind} of a list needs a name: {{name: …}}")
        if name in named and named[name] is not item:
            raise ValueError(f"two {kind}s are called {name!r}")
        named[name] = item
    return named


class InputSpec(_Spec):
    """One input of a team; without `default` it is required."""

    description: str | None = None
    default: Any = None

    @property
    def required(self) -> bool:
        """Whether a run must give it."""
        return self.default is None


class RateLimitSpec(_Spec):
    """What a provider allows one key: requests and tokens a minute, calls at once."""

    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    concurrency: Positive | None = None


class ModelSpec(_Spec):
    """A model and how to call it. `model` is PROVIDER/NAME; NAME is sent as it stands."""

    model: str
    base_url: str | None = None
    api_key: SecretStr | None = None
    api_version: str | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: int | None = None
    max_tokens: Positive | None = None
    timeout: Seconds | None = None
    extra_headers: dict[str, SecretStr] = Field(default_factory=dict)
    extra_body: dict[str, Any] = Field(default_factory=dict)
    context_window: Positive | None = None
    fallbacks: Names = ()
    rate_limit: RateLimitSpec | None = None


class AgentSpec(_Spec):
    """Who works: `role` or `instructions` is needed, the rest is optional."""

    _references = frozenset({"delegates_to", "reports_to", "fallback"})

    name: Name
    role: str | None = None
    goal: str | None = None
    backstory: str | None = None
    instructions: str | None = None
    expertise: Texts = ()
    responsibilities: Texts = ()
    personality: dict[str, str] = Field(default_factory=dict)
    tools: Annotated[tuple[Any, ...], BeforeValidator(_names, json_schema_input_type=list[str] | str)] = ()
    model: Annotated[tuple[str, ...] | None, BeforeValidator(_names, json_schema_input_type=str | list[str] | None)] = None
    max_iterations: Positive | None = None
    delegates_to: Names = ()
    reports_to: str | None = None
    fallback: str | None = None
    messaging: bool = False
    memory: bool = True
    human: bool = False

    if TYPE_CHECKING:  # what may be given is wider than what is kept: lists for tuples, objects for names

        def __init__(
            self, *, name: str, role: str | None = ..., goal: str | None = ..., backstory: str | None = ..., instructions: str | None = ...,
            expertise: Sequence[str] = ..., responsibilities: Sequence[str] = ..., personality: Mapping[str, str] = ..., tools: Sequence[Any] = ...,
            model: str | Sequence[str] | None = ..., max_iterations: int | None = ..., delegates_to: str | Sequence[str | AgentSpec] = ...,
            reports_to: str | AgentSpec | None = ..., fallback: str | AgentSpec | None = ..., messaging: bool = ..., memory: bool = ..., human: bool = ...,
        ) -> None: ...  # fmt: skip


class StopWhenSpec(_Spec):
    """What ends a group chat before its last round: a text, said by anyone or by one agent."""

    _references = frozenset({"by"})

    says: str
    by: str | None = None


class TaskSpec(_Spec):
    """What is to be done, by whom, after what."""

    _references = frozenset({"agent", "context", "after", "participants"})

    name: Name
    description: str
    expected_output: str | None = None
    agent: str | None = None
    expertise: Texts = ()
    context: Annotated[tuple[str, ...] | None, BeforeValidator(_names, json_schema_input_type=list[str] | str | None)] = None
    after: Annotated[tuple[str, ...] | None, BeforeValidator(_names, json_schema_input_type=list[str] | str | None)] = None
    output_schema: Any = None
    output_file: str | None = None
    human_review: bool = False
    guardrail: Any = None
    guardrail_retries: Count | None = None
    timeout: Seconds | None = None
    participants: Names = ()
    speaker_selection: Any = None
    max_rounds: Positive | None = None
    stop_when: StopWhenSpec | None = None
    result: Literal["last", "transcript"] | None = None

    if TYPE_CHECKING:

        def __init__(
            self, *, name: str, description: str, expected_output: str | None = ..., agent: str | AgentSpec | None = ..., expertise: Sequence[str] = ...,
            context: Sequence[str | TaskSpec] | None = ..., after: Sequence[str | TaskSpec] | None = ..., output_schema: Any = ...,
            output_file: str | None = ..., human_review: bool = ..., guardrail: Any = ..., guardrail_retries: int | None = ..., timeout: float | None = ...,
            participants: Sequence[str | AgentSpec] = ..., speaker_selection: Any = ..., max_rounds: int | None = ...,
            stop_when: StopWhenSpec | Mapping[str, Any] | None = ..., result: Literal["last", "transcript"] | None = ...,
        ) -> None: ...  # fmt: skip


class DelegationSpec(_Spec):
    """Who does a task that names no agent."""

    _references = frozenset({"agents", "manager"})

    strategy: Literal["explicit", "by_expertise", "round_robin", "least_loaded", "hierarchical"] = "explicit"
    agents: Names = ()
    manager: str | None = None


class RecallSpec(_Spec):
    """How much of memory is put into each task's prompt."""

    items: Positive = 5
    tokens: Annotated[int, Field(ge=64)] = 500  # the heading alone takes 40


_STORE_METHODS = ("add", "recall", "items", "forget", "close")


def _store(value: Any) -> Any:
    lacking = [] if isinstance(value, str) else [name for name in _STORE_METHODS if not callable(getattr(value, name, None))]
    if not lacking:
        return value
    if hasattr(value, "recall_async"):  # it has a namespace and limits of its own, which a team's would not be
        raise ValueError("found an AgentMemory, expected what it is kept in: its `store`")
    missing = f", which lacks {', '.join(lacking)}" if len(lacking) < len(_STORE_METHODS) else ""
    raise ValueError(f"found {type(value).__name__}{missing}; expected sqlite:///FILE, :memory:, or in Python a MemoryStore")


def _semantic(value: Any) -> Any:
    if isinstance(value, bool) or callable(value):
        return value
    raise ValueError(f"found {value!r}, expected true, false, or in Python a function from texts to vectors")


class MemorySpec(_Spec):
    """What agents remember across tasks and runs. In Python `store` may be a MemoryStore, `semantic` a function from texts to vectors."""

    store: Annotated[Any, BeforeValidator(_store, json_schema_input_type=str)] = "sqlite:///memory.db"
    short_term: Positive = 10
    episodes: Positive = 100
    recall: RecallSpec = RecallSpec()
    tools: bool = True
    semantic: Annotated[Any, BeforeValidator(_semantic, json_schema_input_type=bool)] = False
    required: bool = True


class TokenWindowSpec(_Spec):
    """How large a request may be, and what is done with one that is larger."""

    limit: Positive | None = None
    strategy: Literal["drop_oldest", "summarize"] = "drop_oldest"


class RetrySpec(_Spec):
    """Attempts per call and model; delays in seconds."""

    max_attempts: Positive = 4
    base_delay: Annotated[float, Field(ge=0)] = 1.0
    max_delay: Annotated[float, Field(ge=0)] = 60.0


class CircuitBreakerSpec(_Spec):
    """When a failing model is left alone, and for how long; times in seconds."""

    failure_threshold: Positive = 5
    failure_rate: Fraction = 0.5
    window: Seconds = 30.0
    recovery_time: Seconds = 10.0


class ResilienceSpec(_Spec):
    """Defaults for every model. `timeout`: seconds per attempt."""

    retry: RetrySpec | None = None
    circuit_breaker: CircuitBreakerSpec | None = None
    timeout: Seconds = 60.0
    fallback_models: Names = ()


class BudgetSpec(_Spec):
    """What a run may cost at most."""

    tokens: Positive | None = None
    usd: Annotated[float, Field(gt=0)] | None = None
    seconds: Seconds | None = None
    model_calls: Positive | None = None


class LimitsSpec(_Spec):
    """What a run may do at most."""

    tool_calls: Count = 100
    tool_errors: Count = 3
    delegation_depth: Count = 3
    messages: Count = 50
    output_bytes: Positive = 1_000_000


class JournalSpec(_Spec):
    """Where a run's events are kept."""

    store: str = "sqlite:///runs.db"
    required: bool = True


class PriceSpec(_Spec):
    """USD per million tokens."""

    input_per_million: Annotated[float, Field(ge=0)]
    output_per_million: Annotated[float, Field(ge=0)]


class McpSpec(_Spec):
    """An MCP server: a command to start, or the URL of one that runs."""

    command: str | None = None
    args: Texts = ()
    env: dict[str, SecretStr] = Field(default_factory=dict)
    url: str | None = None
    headers: dict[str, SecretStr] = Field(default_factory=dict)


class ToolSpec(_Spec):
    """A tool: a Python function or class by reference, or an MCP server."""

    name: Name
    python: str | None = None
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    mcp: McpSpec | None = None
    description: str | None = None
    timeout: Seconds | None = None
    requires_confirmation: bool = False
    side_effects: bool = False


def _switch(made: Callable[[], BaseModel], name: str) -> Callable[[Any], Any]:
    """`true` means the defaults, `false` means none; a text is the store, which has a place of its own."""

    def switched(value: Any) -> Any:
        if isinstance(value, str):
            store = value if value.startswith("sqlite:///") or (value, name) == (":memory:", "memory") else "sqlite:///FILE"
            raise ValueError(f'found {value!r}, expected {name}: {{store: "{store}"}}, or {name}: true or false')
        return made() if value is True else None if value is False else value

    return switched


def _model_shorthand(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


def _input_shorthand(value: Any) -> Any:
    return {} if value is None else {"default": value}


def _listed(entries: Callable[[Any], Any], item: Any) -> BeforeValidator:
    return BeforeValidator(entries, json_schema_input_type=dict[str, item] | list[item])


class TeamSpec(_Spec):
    """A whole team: the file of section 1 of the documentation, as one object."""

    name: Name = "team"
    backend: str | None = None
    fallback_backend: str | None = None
    process: Literal["sequential", "graph"] | None = None
    prompts: Literal["native", "neutral"] = "native"
    inputs: Annotated[dict[str, InputSpec], _listed(_entries("input", _input_shorthand, keyed=False), InputSpec | Any)] = Field(
        default_factory=dict
    )
    models: Annotated[dict[str, ModelSpec], _listed(_entries("model", _model_shorthand, keyed=False), ModelSpec | str)] = Field(
        default_factory=dict
    )
    agents: Annotated[dict[str, AgentSpec], _listed(_entries("agent"), AgentSpec)] = Field(default_factory=dict)
    tasks: Annotated[dict[str, TaskSpec], _listed(_entries("task"), TaskSpec)] = Field(default_factory=dict)
    delegation: DelegationSpec | None = None
    memory: Annotated[
        MemorySpec | None, BeforeValidator(_switch(MemorySpec, "memory"), json_schema_input_type=MemorySpec | bool | None)
    ] = None
    token_window: TokenWindowSpec | None = None
    resilience: ResilienceSpec | None = None
    budget: BudgetSpec | None = None
    limits: LimitsSpec | None = None
    journal: Annotated[
        JournalSpec | None, BeforeValidator(_switch(JournalSpec, "journal"), json_schema_input_type=JournalSpec | bool | None)
    ] = JournalSpec()
    stream: bool = False
    prices: Annotated[dict[str, PriceSpec], _listed(_entries("price", keyed=False), PriceSpec)] = Field(default_factory=dict)
    tools: Annotated[dict[str, ToolSpec], _listed(_entries("tool"), ToolSpec)] = Field(default_factory=dict)
    middleware: Annotated[tuple[Any, ...], BeforeValidator(_names, json_schema_input_type=list[str])] = ()

    if TYPE_CHECKING:

        def __init__(
            self, *, name: str = ..., backend: str | None = ..., fallback_backend: str | None = ..., process: Literal["sequential", "graph"] | None = ...,
            prompts: Literal["native", "neutral"] = ..., inputs: Mapping[str, Any] = ..., models: Mapping[str, ModelSpec | str | Mapping[str, Any]] = ...,
            agents: Mapping[str, AgentSpec | Mapping[str, Any]] | Sequence[AgentSpec] = ...,
            tasks: Mapping[str, TaskSpec | Mapping[str, Any]] | Sequence[TaskSpec] = ..., delegation: DelegationSpec | Mapping[str, Any] | None = ...,
            memory: MemorySpec | Mapping[str, Any] | bool | None = ..., token_window: TokenWindowSpec | Mapping[str, Any] | None = ...,
            resilience: ResilienceSpec | Mapping[str, Any] | None = ..., budget: BudgetSpec | Mapping[str, Any] | None = ...,
            limits: LimitsSpec | Mapping[str, Any] | None = ..., journal: JournalSpec | Mapping[str, Any] | bool | None = ..., stream: bool = ...,
            prices: Mapping[str, PriceSpec | Mapping[str, float]] = ..., tools: Mapping[str, ToolSpec | Mapping[str, Any]] | Sequence[ToolSpec] = ...,
            middleware: Sequence[Any] = ...,
        ) -> None: ...  # fmt: skip

    _folder: Path | None = PrivateAttr(default=None)
    _source: str | None = PrivateAttr(default=None)
    _allowed: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="after")
    def _gather(self) -> Self:
        """Take up the agents that tasks and agents hold as objects."""
        agents = dict(self.agents)
        queue: list[Any] = [self.delegation, *self.tasks.values(), *self.agents.values()]
        while queue:
            for held in getattr(queue.pop(0), "_objects", ()):
                if isinstance(held, AgentSpec) and agents.get(held.name) is not held:
                    if held.name in agents and agents[held.name] != held:
                        raise ValueError(f"two different agents are called {held.name!r}")
                    agents[held.name] = held
                    queue.append(held)
                elif isinstance(held, TaskSpec) and self.tasks.get(held.name, held) != held:
                    raise ValueError(f"two different tasks are called {held.name!r}")
        object.__setattr__(self, "agents", agents)  # the one place where a spec is completed after its fields are known
        return self


def team_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the team file."""
    schema = TeamSpec.model_json_schema(mode="validation", by_alias=True)
    for part in schema["$defs"].values():
        if "required" in part:  # the name of an entry is its key, or stands in it
            part["required"] = [name for name in part["required"] if name != "name"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "unified_agents team file", **schema}
