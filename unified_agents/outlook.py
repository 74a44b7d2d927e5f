"""What is known of a team file without running it: its problems, its plan, and what becomes of its fields on every backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unified_agents.assignment import Assignment
from unified_agents.checks import assignments, depends_on_inputs
from unified_agents.errors import Problem
from unified_agents.fidelity import Row, fidelity, unused_fields
from unified_agents.loader import read_team
from unified_agents.model_choice import resolve_models
from unified_agents.preparation import asked_backend
from unified_agents.registry import backends, default_backend, registered
from unified_agents.spec import TeamSpec


@dataclass(frozen=True)
class Checked:
    """What is known of a team file without running it. `plan`: rows of task, agent, reason, context; `rows`: fidelity on every backend."""

    backend: str
    problems: Sequence[Problem]
    plan: Sequence[Mapping[str, Any]]
    rows: Sequence[Row]
    unused: Sequence[Problem] = ()

    @property
    def refused(self) -> list[Row]:
        """What the chosen backend refuses."""
        return [row for row in self.rows if row.level == "refused" and row.backend == self.backend]

    @property
    def exit_code(self) -> int:
        """2 for a wrong file, 3 for a refused field, else 0."""
        return 2 if self.problems else 3 if self.refused else 0


def check_file(path: Path, backend: str | None = None) -> Checked:
    """Check a team file as a run would, but for its inputs, which are given when it runs, and its code, which is imported only then.

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
    return Checked(chosen.name, loaded.problems, outline(loaded.team), rows, unused_fields(loaded.team))


def outline(team: TeamSpec) -> list[dict[str, Any]]:
    """Who does what, why, and what they see, as a plan would say; in file order."""
    rows: list[dict[str, Any]] = []
    made = assignments(team)[0]
    for name, task in team.tasks.items():
        unset = [row["task"] for row in rows] if team.process == "sequential" else []
        open_yet = task.agent is None and not task.participants and depends_on_inputs(team)
        assigned = Assignment(name, "(depends on the inputs)", "expertise holds an input") if open_yet else made.get(name)
        who = assigned.agent if assigned else ", ".join(task.participants)
        rows.append(
            {
                "task": name,
                "agent": who,
                "reason": assigned.reason if assigned else "group chat",
                "context": list(task.context if task.context is not None else unset),
            }
        )
    return rows
