# %% [markdown]
# # One spec, two backends
#
# **What.** A team is data: agents, tasks, and which task sees which output. The same data becomes
# a real CrewAI crew or a real AutoGen group chat.
#
# **Why.** Choosing a framework is then one word, and you can change it later.
#
# Everything here runs offline. A small function stands in for the model.

# %%
from unified_agents import AgentSpec, TaskSpec, TeamSpec

researcher = AgentSpec(name="researcher", role="Marine Biologist", goal="Find facts about {topic}")
writer = AgentSpec(name="writer", role="Content Strategist", personality={"tone": "friendly"})

facts = TaskSpec(name="facts", description="Find two facts about {topic}", agent=researcher)
readers = TaskSpec(name="readers", description="Who reads about {topic}?", agent=researcher)
write = TaskSpec(
    name="write", description="Write one sentence", agent=writer, context=[facts, readers]
)

team = TeamSpec(
    name="tides",
    process="graph",  # a task starts as soon as what it waits for is done
    inputs={"topic": "tide pools"},
    models={"default": "openai/gpt-4o-mini"},
    tasks=[facts, readers, write],
)

# %% [markdown]
# ## A stand-in for the model
#
# Any async function from a `ChatRequest` to a `ChatResponse` is a model. This one knows three
# answers and takes 0.4 seconds for each. It also keeps what it was asked.

# %%
import asyncio

from unified_agents import ChatResponse

ANSWERS = {
    "facts": "Sea stars can regrow an arm. A pool can warm by 10 degrees between two tides.",
    "readers": "Families on holiday.",
    "write": "Look closely: the sea star in this pool may be growing a new arm.",
}
requests = []


async def model(request):
    requests.append(request)
    await asyncio.sleep(0.4)
    return ChatResponse(ANSWERS[request.task], request.model.model)


# %% [markdown]
# ## Run it on both
#
# `run_team` works in a notebook as it does in a script: a running event loop is no obstacle.

# %%
from unified_agents import run_team

results = {
    backend: run_team(team, backend=backend, models={"default": model})
    for backend in ("crewai", "autogen")
}
for backend, result in results.items():
    print(f"{backend:8} {result.framework_version:8} {result.output}")

# %% [markdown]
# These are the frameworks' own objects. `compile_team` gives them to you without running them.

# %%
from autogen_agentchat.teams import BaseGroupChat
from crewai import Crew

from unified_agents import compile_team

crew = compile_team(team, backend="crewai", models={"default": model}).native
chat = compile_team(team, backend="autogen", models={"default": model}).native
print("a Crew:", isinstance(crew, Crew))
print("a group chat:", isinstance(chat, BaseGroupChat))

# %% [markdown]
# ## The same schedule
#
# `facts` and `readers` wait for nothing, so they run at the same time. `write` starts when both
# are done. Both frameworks do as the team says.

# %%
import matplotlib.pyplot as plt

figure, rows = plt.subplots(2, 1, figsize=(7, 3), sharex=True, layout="constrained")
for axes, (backend, result) in zip(rows, results.items(), strict=True):
    began = min(task.started_at for task in result.tasks.values())
    for name, task in reversed(result.tasks.items()):
        start = (task.started_at - began).total_seconds()
        axes.barh(name, task.duration_s, left=start, color="#0072B2")
    axes.set_title(backend, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
rows[-1].set_xlabel("seconds since the first task began")
plt.show()

# %% [markdown]
# ## What reached the model
#
# `write` sees its description and exactly the two outputs in its `context`. A framework adds
# words of its own around that; `prompts="neutral"` leaves them out.

# %%
print(next(request for request in requests if request.task == "write").messages[-1]["content"])

# %%
requests.clear()
neutral = team.model_copy(update={"prompts": "neutral"})
for backend in results:
    run_team(neutral, backend=backend, models={"default": model})

one, other = (request for request in requests if request.task == "write")
print(other.messages[-1]["content"])
print("the same on both:", one.messages == other.messages)

# %% [markdown]
# ## Watch it
#
# `stream_team` gives each event as it happens.

# %%
from unified_agents import stream_team

async for event in stream_team(team, backend="autogen", models={"default": model}):
    print(f"{event.seq:2} {event.type:14} {getattr(event, 'task', '')}")

# %% [markdown]
# ## A real model, if it is here
#
# The embedded model is small (135 million parameters) and runs inside this process. It is good
# for a definition, not for prose.

# %%
from unified_agents.chat_models.embedded import NAME, lacking

subject = TaskSpec(name="define", description="Define {topic} in one sentence.", agent=researcher)
small = TeamSpec(inputs={"topic": "photosynthesis"}, prompts="neutral", tasks=[subject])

if lacking(NAME) is None:
    local = {"model": f"local/{NAME}", "temperature": 0, "max_tokens": 40}
    for backend in results:
        print(f"{backend:8} {run_team(small, backend=backend, models={'default': local})}")
else:
    print("not installed: pip install 'unified-agents[local]', then: unified-agents model install")

# %% [markdown]
# ## What to try next
#
# * Add `AgentSpec(name="editor", role="Copy Editor")` and a task with `context=[write]`.
# * Set `OPENAI_API_KEY` and leave `models=` out of `run_team`: then the model answers.
# * Put `backend="autogen"` into the `TeamSpec`, or set `UNIFIED_AGENTS_BACKEND`.
# * The same team as a file: [docs/team-file.md](../docs/team-file.md).
# * How much the two differ, measured: [02_compare_backends.ipynb](02_compare_backends.ipynb).
