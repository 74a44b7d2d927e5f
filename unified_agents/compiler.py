"""A team and a backend to the framework's own objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from typing_extensions import Self

from unified_agents.engine import engine
from unified_agents.fidelity import Row
from unified_agents.memory.team import TeamMemory
from unified_agents.middleware import Middleware
from unified_agents.model_choice import Models
from unified_agents.plan import Plan
from unified_agents.preparation import Options, Shared, Team, prepare
from unified_agents.review import Reviewer
from unified_agents.state import new_run_id
from unified_agents.tools.loading import Toolbox


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
        built = prepared.backend.adapter.build(
            prepared.plan, prepared.seam(offered, Shared(memory=TeamMemory.of(prepared.plan.team, new_run_id())))
        )
    except BaseException:
        engine().run(prepared.toolbox.close())
        raise
    return CompiledTeam(
        prepared.backend.name, built.native, prepared.plan, prepared.rows, getattr(built, "initiator", None), prepared.toolbox
    )
