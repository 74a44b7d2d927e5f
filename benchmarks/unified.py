"""The work on unified_agents: one TeamSpec, run on each backend."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pydantic import SecretStr

from benchmarks.jobs import EXPECTED, Job
from unified_agents import AgentSpec, ModelSpec, TaskSpec, TeamSpec, run_team, run_team_async


def team(base_url: str, jobs: Sequence[Job]) -> TeamSpec:
    """The jobs as a team with an agent a task."""
    tasks = [
        TaskSpec(
            name=job.name, description=job.prompt, expected_output=EXPECTED, context=list(job.context),
            agent=AgentSpec(name=f"agent_{job.name}", role="Writer", goal="Write well", backstory="You write."),
        )
        for job in jobs
    ]  # fmt: skip
    model = ModelSpec(model="openai/gpt-4o-mini", base_url=base_url, api_key=SecretStr("k"))
    return TeamSpec(name="bench", tasks=tasks, models={"default": model})


def _run(base_url: str, jobs: Sequence[Job], backend: str) -> str:
    return str(run_team(team(base_url, jobs), backend=backend))


def _run_teams(base_url: str, teams: Sequence[Sequence[Job]], backend: str) -> list[str]:
    async def together() -> list[str]:
        runs = (run_team_async(team(base_url, jobs), backend=backend) for jobs in teams)
        return [str(result) for result in await asyncio.gather(*runs)]

    return asyncio.run(together())


def crewai(base_url: str, jobs: Sequence[Job]) -> str:
    """One team on CrewAI."""
    return _run(base_url, jobs, "crewai")


def autogen(base_url: str, jobs: Sequence[Job]) -> str:
    """One team on AutoGen."""
    return _run(base_url, jobs, "autogen")


def autogen_classic(base_url: str, jobs: Sequence[Job]) -> str:
    """One team on classic AutoGen."""
    return _run(base_url, jobs, "autogen_classic")


def crewai_teams(base_url: str, teams: Sequence[Sequence[Job]]) -> list[str]:
    """Many teams at once on CrewAI."""
    return _run_teams(base_url, teams, "crewai")


def autogen_teams(base_url: str, teams: Sequence[Sequence[Job]]) -> list[str]:
    """Many teams at once on AutoGen."""
    return _run_teams(base_url, teams, "autogen")


def autogen_classic_teams(base_url: str, teams: Sequence[Sequence[Job]]) -> list[str]:
    """Many teams at once on classic AutoGen."""
    return _run_teams(base_url, teams, "autogen_classic")
