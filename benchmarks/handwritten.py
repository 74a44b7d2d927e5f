"""The same work as a competent user writes it on each framework, with the framework's own OpenAI client.

Fair to them: telemetry, tracing and chatter are off, nothing is retried or cached, clients are made once and used by all agents, and no
agent is shared between tasks that run at once. What a framework does by default beyond that (CrewAI's log of task outputs, AutoGen's
broadcast) stays on: it is what one gets.
"""

# ruff: noqa: TID251  # the frameworks are what is measured here; imported in functions, so that a process loads only its own

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from benchmarks.jobs import EXPECTED, Job, levels

T = TypeVar("T")
MODEL = "gpt-4o-mini"
SYSTEM = "You are Writer. You write.\nYour goal: Write well"


# CrewAI


@functools.cache
def _crewai_llm(base_url: str) -> Any:
    os.environ.update(
        CREWAI_DISABLE_TELEMETRY="true", CREWAI_TRACING_ENABLED="false", CREWAI_TESTING="true", CREWAI_DISABLE_VERSION_CHECK="true"
    )
    os.environ["CREWAI_STORAGE_DIR"] = tempfile.mkdtemp(prefix="benchmarks-crewai-")
    atexit.register(shutil.rmtree, os.environ["CREWAI_STORAGE_DIR"], ignore_errors=True)
    from crewai import LLM

    return LLM(model=MODEL, base_url=base_url, api_key="k", max_retries=0)


def _crewai_agent(llm: Any) -> Any:
    from crewai import Agent

    return Agent(role="Writer", goal="Write well", backstory="You write.", llm=llm, cache=False, max_retry_limit=0)


def _crewai_task(job: Job, tasks: dict[str, Any], llm: Any, at_once: bool = False) -> Any:
    from crewai import Task

    context = [tasks[name] for name in job.context]
    return Task(description=job.prompt, expected_output=EXPECTED, agent=_crewai_agent(llm), context=context, async_execution=at_once)


def _crewai_kickoff(tasks: Sequence[Any]) -> None:
    from crewai import Crew, Process

    Crew(agents=[task.agent for task in tasks], tasks=list(tasks), process=Process.sequential, cache=False, tracing=False).kickoff()


def crewai_sequential(base_url: str, jobs: Sequence[Job]) -> str:
    """A sequential Crew."""
    llm, tasks = _crewai_llm(base_url), dict[str, Any]()
    for job in jobs:
        tasks[job.name] = _crewai_task(job, tasks, llm)
    _crewai_kickoff(list(tasks.values()))
    return str(tasks[jobs[-1].name].output.raw)


def crewai_levels(base_url: str, jobs: Sequence[Job]) -> str:
    """A Crew whose tasks of one level have `async_execution`; a ConditionalTask that never runs ends each such level."""
    llm, tasks, ordered = _crewai_llm(base_url), dict[str, Any](), list[Any]()
    for level in levels(jobs):
        tasks.update({job.name: _crewai_task(job, tasks, llm, at_once=len(level) > 1) for job in level})
        ordered += [tasks[job.name] for job in level] + ([_crewai_barrier(llm)] if len(level) > 1 else [])
    _crewai_kickoff(ordered)
    return str(tasks[jobs[-1].name].output.raw)


def _crewai_barrier(llm: Any) -> Any:
    from crewai.tasks.conditional_task import ConditionalTask

    return ConditionalTask(description="Wait.", expected_output="Nothing.", agent=_crewai_agent(llm), condition=lambda _output: False)


def crewai_teams(base_url: str, teams: Sequence[Sequence[Job]]) -> list[str]:
    """A Crew a thread: `kickoff_async` would share the default executor's six threads."""
    _crewai_llm(base_url)
    with ThreadPoolExecutor(len(teams)) as pool:
        return list(pool.map(lambda jobs: crewai_sequential(base_url, jobs), teams))


# AutoGen AgentChat


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _run(work: Awaitable[T]) -> T:
    """On one loop for good, so that the client and its connections outlive a run."""
    return _loop().run_until_complete(work)


@functools.cache
def _autogen_client(base_url: str) -> Any:
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    return OpenAIChatCompletionClient(model=MODEL, base_url=base_url, api_key="k", max_retries=0)


def _autogen_agent(base_url: str, job: Job) -> Any:
    from autogen_agentchat.agents import AssistantAgent

    text = f"{SYSTEM}\n\n{job.prompt}\nExpected output: {EXPECTED}"
    return AssistantAgent(f"agent_{job.name}", model_client=_autogen_client(base_url), system_message=text)


def _autogen_flow(base_url: str, jobs: Sequence[Job]) -> Any:
    from autogen_agentchat.teams import DiGraphBuilder, GraphFlow

    agents, builder = {job.name: _autogen_agent(base_url, job) for job in jobs}, DiGraphBuilder()
    for job in jobs:
        builder.add_node(agents[job.name])
        for name in job.context:
            builder.add_edge(agents[name], agents[job.name])
    return GraphFlow(list(agents.values()), graph=builder.build())


def _autogen_round(base_url: str, jobs: Sequence[Job]) -> Any:
    from autogen_agentchat.conditions import MaxMessageTermination
    from autogen_agentchat.teams import RoundRobinGroupChat

    return RoundRobinGroupChat([_autogen_agent(base_url, job) for job in jobs], termination_condition=MaxMessageTermination(len(jobs) + 1))


async def _autogen_said(chat: Any) -> str:
    result = await chat.run(task="Begin.")
    return str(result.messages[-1].content)


def autogen_graphflow(base_url: str, jobs: Sequence[Job]) -> str:
    """A GraphFlow."""
    return _run(_autogen_said(_autogen_flow(base_url, jobs)))


def autogen_roundrobin(base_url: str, jobs: Sequence[Job]) -> str:
    """A RoundRobinGroupChat that ends after one round."""
    return _run(_autogen_said(_autogen_round(base_url, jobs)))


def autogen_agents(base_url: str, jobs: Sequence[Job]) -> str:
    """No team at all: agents under asyncio.gather, for tasks that wait for nothing."""

    async def together() -> str:
        return (await asyncio.gather(*(_autogen_said(_autogen_agent(base_url, job)) for job in jobs)))[-1]

    return _run(together())


def autogen_teams(base_url: str, teams: Sequence[Sequence[Job]]) -> list[str]:
    """A RoundRobinGroupChat a team, under asyncio.gather."""

    async def together() -> list[str]:
        return await asyncio.gather(*(_autogen_said(_autogen_round(base_url, jobs)) for jobs in teams))

    return _run(together())


# Classic AutoGen


@functools.cache
def _classic() -> Any:
    import logging

    import autogen

    logging.getLogger("autogen.oai.client").setLevel(logging.ERROR)
    return autogen


def _classic_agent(base_url: str, job: Job) -> Any:
    model = {"model": MODEL, "base_url": base_url, "api_key": "k", "max_retries": 0, "price": [0, 0]}
    return _classic().ConversableAgent(
        f"agent_{job.name}", system_message=f"{SYSTEM}\n\n{job.prompt}\nExpected output: {EXPECTED}", human_input_mode="NEVER",
        code_execution_config=False, llm_config={"config_list": [model], "cache_seed": None},
    )  # fmt: skip


def autogen_classic_groupchat(base_url: str, jobs: Sequence[Job]) -> str:
    """A GroupChat, round robin."""
    autogen = _classic()
    agents = [_classic_agent(base_url, job) for job in jobs]
    user = autogen.ConversableAgent("user", llm_config=False, human_input_mode="NEVER", code_execution_config=False)
    chat = autogen.GroupChat(agents, messages=[], max_round=len(jobs) + 1, speaker_selection_method="round_robin")
    manager = autogen.GroupChatManager(chat, llm_config=False, human_input_mode="NEVER", silent=True)
    user.initiate_chat(manager, message="Begin.", silent=True)
    return str(chat.messages[-1]["content"])


def autogen_classic_teams(base_url: str, teams: Sequence[Sequence[Job]]) -> list[str]:
    """A GroupChat a thread."""
    _classic()
    with ThreadPoolExecutor(len(teams)) as pool:
        return list(pool.map(lambda jobs: autogen_classic_groupchat(base_url, jobs), teams))
