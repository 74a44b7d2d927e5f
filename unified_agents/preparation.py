"""From a team and what a caller says beside it to everything that a run needs, checked: all but the framework's objects."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified_agents.chat_models import ChatModel
from unified_agents.chat_models.providers import ModelConfig
from unified_agents.checks import agents_in_use, assignments, check_team, depends_on_inputs, is_inside
from unified_agents.circuit_breaker import CircuitBreaker
from unified_agents.environment import read_environment
from unified_agents.errors import Problem, SpecError, UnsupportedFeatureError
from unified_agents.events import Event, ignore
from unified_agents.fidelity import Row, fidelity
from unified_agents.loader import Loaded, read_team
from unified_agents.memory.team import TeamMemory
from unified_agents.middleware import Middleware, default_middleware
from unified_agents.middleware.recall import Recall
from unified_agents.middleware.replay import Replay
from unified_agents.middleware.trace import Trace
from unified_agents.model_choice import Models, chat_models, model_names, models_asked, put_in_place, resolve_models
from unified_agents.plan import Plan, bind_inputs, filled_team, make_plan
from unified_agents.post import Post
from unified_agents.pricing import Prices, unpriced
from unified_agents.recorded import Recorded
from unified_agents.recording import Recording
from unified_agents.references import BadReferenceError, resolve_reference
from unified_agents.registry import Backend, default_backend, get_backend
from unified_agents.review import ReviewDesk, Reviewer
from unified_agents.spec import LimitsSpec, TeamSpec
from unified_agents.spending import Spending, Spent
from unified_agents.tools import Tool
from unified_agents.tools.loading import Toolbox, load_tools
from unified_agents.walk import Seam, at_once

if TYPE_CHECKING:
    from unified_agents.tracing.run import RunSpans

BACKEND_VARIABLE = "UNIFIED_AGENTS_BACKEND"
Team = TeamSpec | str | os.PathLike[str]


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
    record: str | os.PathLike[str] | None = None
    replay: str | os.PathLike[str] | None = None
    resumed: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    allow_imports: Sequence[str] = ()


@dataclass(frozen=True)
class Shared:
    """What all native teams of one run have in common. `recorded` None: calls are neither replayed nor recorded; `traced`: each attempt is an event."""

    emit: Callable[[Event], None] = ignore
    post: Post | None = None
    memory: TeamMemory | None = None
    spending: Spending | None = None
    recorded: Recorded | None = None
    written: Callable[[], Awaitable[None]] = at_once
    spans: RunSpans | None = None
    traced: bool = False


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
    selectors: Mapping[str, Any]
    reviewer: Reviewer | None
    fallback: Backend | None = None
    """Where the rest of a run goes when the framework itself fails."""
    options: Options = field(default_factory=Options)
    recording: Recording | None = None
    """Where the models' answers are kept, when they are."""
    values: Mapping[str, str] = field(default_factory=dict)
    """The inputs as text."""
    breakers: dict[Any, CircuitBreaker] | None = None
    """The run's own circuit breakers; None: the process's."""

    @property
    def lost(self) -> list[Row]:
        """What `strict=False` leaves out."""
        return [row for row in self.rows if row.level == "refused"]

    def seam(self, tools: Mapping[str, Sequence[Tool]], shared: Shared, plan: Plan | None = None) -> Seam:
        """The seam of one native team, for the whole plan or a remainder."""
        team, spending = self.plan.team, shared.spending or self.spending()
        return Seam(
            plan=plan or self.plan,
            models=self.models,
            layers=self._layers(shared, spending),
            emit=shared.emit,
            tools=tools,
            guardrails=self.guardrails,
            selectors=self.selectors,
            post=shared.post,
            memory=shared.memory,
            recorded=shared.recorded or Recorded(),
            written=shared.written,
            scope=shared.spans.scope if shared.spans else nullcontext,
            review=ReviewDesk(self.reviewer) if self.reviewer else None,
            limits=team.limits or LimitsSpec(),
            spending=spending,
        )

    def _layers(self, shared: Shared, spending: Spending) -> list[Middleware]:
        """All layers, outermost first; `unified_agents.middleware` says why in this order."""
        team, emit = self.plan.team, shared.emit
        return [
            *([Replay(shared.recorded, emit)] if shared.recorded is not None else []),
            *([self._recall(shared.memory, emit)] if shared.memory else []),
            *default_middleware(
                resilience=team.resilience,
                token_window=team.token_window,
                spending=spending,
                extra=self.layers,
                emit=emit,
                around_attempt=[shared.spans.layer] if shared.spans else [],
                breakers=self.breakers,
            ),
            *([Trace(emit, self.prices, team.stream)] if shared.traced else []),
        ]

    @property
    def prices(self) -> Prices:
        """What the team's models cost."""
        return Prices(self.plan.team.prices)

    def spending(self, before: Spent | None = None) -> Spending:
        """A new meter for the team's budget; `before` is what a run that is resumed has spent already."""
        return Spending(self.plan.team.budget, self.prices, before)

    def _recall(self, memory: TeamMemory, emit: Callable[[Event], None]) -> Recall:
        asked = {step.name: f"{step.task.description}\n{step.task.expected_output or ''}" for step in self.plan.steps}
        return Recall(memory, asked, {name for name, agent in self.plan.team.agents.items() if agent.memory}, emit)


def prepare(team: Team, options: Options) -> Prepared:
    """Check everything that can be checked before the framework is imported; errors as `compile_team`."""
    loaded = put_in_place(load(team, options), options.models)
    bound = _bind(loaded, options)
    checked = loaded.raise_if_wrong()
    chosen = choose_backend(checked, options.backend)
    rows = accepted_fields(checked, chosen, strict=options.strict)
    fallback = get_backend(checked.fallback_backend) if checked.fallback_backend not in (None, chosen.name) else None
    if fallback is not None:
        accepted_fields(checked, fallback, strict=options.strict)
    if depends_on_inputs(checked):
        loaded.add(assignments(filled_team(checked, bound.values))[1])
        loaded.raise_if_wrong()
    speaking = [name for name in agents_in_use(checked) if not checked.agents[name].human]
    plan = make_plan(checked, bound.values, {name: [bound.configs[alias] for alias in model_names(checked, name)] for name in speaking})
    loaded.add(_outside(plan))
    if checked.budget is not None and checked.budget.usd is not None:
        loaded.add(unpriced(Prices(checked.prices), bound.configs.values()))
    loaded.raise_if_wrong()
    code = load_code(checked, options)
    layers = [*options.middleware, *code.middleware]
    return Prepared(
        plan,
        chosen,
        bound.models,
        layers,
        rows,
        code.toolbox,
        code.guardrails,
        code.selectors,
        options.reviewer,
        fallback,
        options,
        bound.recording,
        bound.values,
    )


def input_problems(team: TeamSpec, inputs: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the inputs of a team that is right otherwise."""
    values, problems = bind_inputs(team, inputs)
    if not problems and depends_on_inputs(team):
        problems = assignments(filled_team(team, values))[1]
    return problems or _outside(make_plan(team, values, {}))


def accepted_fields(team: TeamSpec, backend: Backend, *, strict: bool) -> list[Row]:
    """What becomes of the team's fields on a backend.

    Raises:
        UnsupportedFeatureError: it refuses one that may not be left out.
    """
    rows = fidelity(team, backend.adapter)
    refused = [row for row in rows if row.level == "refused" and (strict or not row.droppable)]
    if refused:
        raise UnsupportedFeatureError(backend.name, [row.to_problem() for row in refused])
    return rows


@dataclass(frozen=True)
class Code:
    """What a team's references name."""

    toolbox: Toolbox
    guardrails: Mapping[str, Any]
    selectors: Mapping[str, Any]
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
    selectors = {
        name: _found(f"tasks.{name}.speaker_selection", task.speaker_selection, team, allowed, problems)
        for name, task in team.tasks.items()
        if task.speaker_selection not in (None, "round_robin", "model")
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
    return Code(toolbox, guardrails, selectors, layers)


def _reviewed(team: TeamSpec, toolbox: Toolbox) -> list[str]:
    """Where a team asks for a person."""
    tasks = [f"tasks.{name}.human_review" for name, task in team.tasks.items() if task.human_review]
    made = dict.fromkeys(
        tool.name for tools in toolbox.tools.values() for tool in tools if isinstance(tool, Tool) and tool.requires_confirmation
    )
    servers = [name for name, spec in toolbox.servers.items() if spec.requires_confirmation]
    people = [f"agents.{name}.human" for name in agents_in_use(team) if team.agents[name].human]
    return [*tasks, *people, *(f"tools.{name}.requires_confirmation" for name in [*made, *servers])]


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


def load(team: Team, options: Options) -> Loaded:
    """A team as it is read or was made, with what is wrong with it."""
    if not isinstance(team, TeamSpec):
        provided = set(options.models) if options.replay is None else None  # recorded answers stand for all models
        return read_team(Path(team), settings=options.settings, provided=provided, given_tools=set(options.tools))
    loaded = Loaded(team._source or "the team", team=team)
    loaded.add(check_team(team, options.tools))
    return loaded


@dataclass
class _Bound:
    """A team's inputs as text, its models by alias, what answers for each, and the recording that is made of their answers."""

    values: dict[str, str] = field(default_factory=dict)
    configs: dict[str, ModelConfig] = field(default_factory=dict)
    models: Mapping[str, ChatModel] = field(default_factory=dict)
    recording: Recording | None = None


def _bind(loaded: Loaded, options: Options) -> _Bound:
    """Looked at even when the file is already known to be wrong, to tell everything at once."""
    bound = _Bound()
    if loaded.team is None:
        return bound
    bound.values, problems = bind_inputs(loaded.team, options.inputs)
    loaded.add(problems)
    if not any(p.path.startswith("models") for p in loaded.problems):
        given = _played(loaded.team, options, bound.values) if options.replay is not None else options.models
        bound.configs, problems = resolve_models(loaded.team, given)
        loaded.add(problems)
        bound.models = chat_models(bound.configs, given)
    if options.record is not None:
        bound.recording = Recording.opened(Path(options.record))
        tape = bound.recording.recorded(bound.values, afresh=not options.resumed)
        bound.models = {alias: tape.recorder(model) for alias, model in bound.models.items()}
    return bound


def _played(team: TeamSpec, options: Options, values: Mapping[str, str]) -> dict[str, ChatModel]:
    """Models that give recorded answers, for all that a run may ask.

    Raises:
        SpecError: there are none, or something else was to answer too.
    """
    beside = [name for name in ("record", "models") if getattr(options, name)]
    if beside:
        raise SpecError(
            [Problem(name, "stands beside replay, which answers every call from its file; leave one of them out") for name in beside]
        )
    assert options.replay is not None
    player = Recording.load(Path(options.replay)).played(values).player()
    return dict.fromkeys(models_asked(team), player)


def _outside(plan: Plan) -> list[Problem]:
    """Output files that lie outside the working folder once the inputs are filled in."""
    files = {f"tasks.{step.name}.output_file": step.task.output_file for step in plan.steps}
    return [
        Problem(path, f"becomes {file!r}: it must lie inside the working folder")
        for path, file in files.items()
        if file and not is_inside(file)
    ]
