# %% [markdown]
# # Delegation
#
# **What.** Who does a task that names no agent, how one agent hands work to another, and how a
# hierarchy passes it down.
#
# **Why.** In CrewAI's own delegation an unknown coworker, or one that failed, comes back as ordinary
# text, and the task counts as done. Here the edges are declared and checked before the run, and
# every exchange is kept.

# %% [markdown]
# ## Who does what
#
# Four strategies. None of them asks a model, so the plan is the same every time. In the picture
# eve is the manager of the hierarchy.

# %%
from unified_agents import AgentSpec, TaskSpec, assign_tasks

agents = [
    AgentSpec(name="ann", role="Analyst", expertise=["data", "tides"]),
    AgentSpec(name="bob", role="Writer", expertise=["writing"]),
    AgentSpec(name="eve", role="Editor", expertise=["writing", "facts"]),
]
WANTED = {
    "collect": [],
    "forecast": ["data", "tides"],
    "draft": ["writing"],
    "check": ["facts"],
    "edit": ["writing", "facts"],
}
tasks = [TaskSpec(name=name, description=name, expertise=wants) for name, wants in WANTED.items()]
tasks[0] = TaskSpec(name="collect", description="collect", agent="ann")  # this one names its agent

for made in assign_tasks(tasks, agents, "by_expertise").values():
    print(f"{made.task:9} {made.agent}   {made.reason}")

# %%
import matplotlib.pyplot as plt

strategies = ("by_expertise", "round_robin", "least_loaded", "hierarchical")
_, axes = plt.subplots(figsize=(7, 2.6), layout="constrained")
colours = {"ann": "#0072B2", "bob": "#E69F00", "eve": "#009E73"}
for row, strategy in enumerate(strategies):
    manager = "eve" if strategy == "hierarchical" else None
    plan = assign_tasks(tasks, agents, strategy, manager=manager)
    for column, made in enumerate(plan.values()):
        axes.scatter(column, row, s=700, color=colours[made.agent])
        axes.text(column, row, made.agent, ha="center", va="center", color="white", fontsize=9)
axes.set_xticks(range(len(tasks)), [task.name for task in tasks])
axes.set_yticks(range(4), strategies)
axes.set(xlim=(-0.5, 4.5), ylim=(3.6, -0.6))
axes.spines[:].set_visible(False)
axes.tick_params(length=0)
plt.show()

# %% [markdown]
# ## Handing work on
#
# `delegates_to` declares the edges. The lead's model calls a tool, the coworker gets a fresh
# conversation with that piece of work alone, and its answer is the tool's result. A function
# stands in for the models.

# %%
import json

from unified_agents import ChatResponse, ScriptedModel, TeamSpec, ToolCall, run_team


def calls(tool, **arguments):
    made = ToolCall(f"call-{tool}", tool, json.dumps(arguments))
    return ChatResponse("", "openai/gpt-4o-mini", tool_calls=(made,))


def answers(request):
    turns = {
        ("lead", 1): calls(
            "delegate_work_to_coworker", task="Find one fact on tides", expertise=["tides"]
        ),
        ("ann", 1): "The moon pulls twice a day.",
        ("lead", 2): calls("ask_question_to_coworker", question="Is it short?", coworker="bob"),
        ("bob", 1): "Yes.",
        ("lead", 3): "The moon pulls the sea twice a day.",
    }
    return turns[request.agent, request.turn]


lead = AgentSpec(name="lead", role="Editor in Chief", delegates_to=["ann", "bob"])
article = TaskSpec(name="article", description="Write a line on the sea", agent=lead)
team = TeamSpec(name="desk", agents=[lead, *agents[:2]], tasks=[article])

results = {
    backend: run_team(team, backend=backend, models={"default": ScriptedModel(answers)})
    for backend in ("crewai", "autogen")
}
for backend, result in results.items():
    used = {name: usage.model_calls for name, usage in result.usage.by_agent.items()}
    print(f"{backend:8} {result}  {used}")

# %% [markdown]
# Every exchange stands in the result. It is easier to see as a picture: time runs down.


# %%
def draw(messages):
    names = list(dict.fromkeys(n for m in messages for n in (m.sender, m.recipient)))
    _, axes = plt.subplots(figsize=(7, 0.6 + 0.5 * len(messages)), layout="constrained")
    for column, name in enumerate(names):
        axes.axvline(column, color="#BBBBBB", linewidth=0.8)
        axes.text(column, -0.9, name, ha="center", weight="bold")
    for row, message in enumerate(messages):
        start, end = names.index(message.sender), names.index(message.recipient)
        axes.annotate("", (end, row), (start, row), arrowprops={"arrowstyle": "->", "lw": 1.4})
        said = f"{message.message_type}: {message.content}"
        shown = said if len(said) < 48 else f"{said[:47]}…"
        axes.text((start + end) / 2, row - 0.1, shown, ha="center", fontsize=8)
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(messages) - 0.4, -1.3))
    axes.axis("off")
    plt.show()


draw(results["autogen"].messages)

# %% [markdown]
# ## A hierarchy
#
# The task names nobody. It goes to the manager, who may hand work to its direct reports, and they
# to theirs. Nobody passes a level over.


# %%
def down_and_up(request):
    turns = {
        ("director", 1): calls("delegate_work_to_coworker", task="Report", coworker="head"),
        ("head", 1): calls("delegate_work_to_coworker", task="Count the buoys", coworker="clerk"),
        ("clerk", 1): "There are 14.",
        ("head", 2): "14 buoys.",
        ("director", 2): "The harbour has 14 buoys.",
    }
    return turns[request.agent, request.turn]


office = TeamSpec(
    name="office",
    delegation={"strategy": "hierarchical", "manager": "director"},
    agents=[
        AgentSpec(name="director", role="Director"),
        AgentSpec(name="head", role="Head of Office", reports_to="director"),
        AgentSpec(name="clerk", role="Clerk", reports_to="head"),
    ],
    tasks=[TaskSpec(name="report", description="How many buoys are there?")],
)
result = run_team(office, backend="crewai", models={"default": ScriptedModel(down_and_up)})
draw(result.messages)

# %% [markdown]
# ## When the coworker fails
#
# The junior's model is gone. Its `fallback` takes the task over, and a note says why.

# %%
from unified_agents.errors import NotFoundError


def junior_is_gone(request):
    if request.agent == "junior":
        return NotFoundError("the model is gone", model=request.model.model)
    return "The books are in order."


audit = TeamSpec(
    name="audit",
    agents=[
        AgentSpec(name="junior", role="Junior Auditor", fallback="senior"),
        AgentSpec(name="senior", role="Senior Auditor"),
    ],
    tasks=[TaskSpec(name="books", description="Audit the books", agent="junior")],
)
for backend in ("crewai", "autogen"):
    done = run_team(audit, backend=backend, models={"default": ScriptedModel(junior_is_gone)})
    print(f"{backend:8} {done.tasks['books'].agent}: {done}  {done.tasks['books'].notes}")

# %% [markdown]
# ## Mistakes are told before the run
#
# An edge to nobody costs no request.

# %%
from unified_agents import SpecError

wrong = AgentSpec(name="lead", role="Editor", delegates_to=["anne"])
try:
    bad = TeamSpec(agents=agents, tasks=[TaskSpec(name="edit", description="Edit", agent=wrong)])
    run_team(bad, models={"default": ScriptedModel([])})
except SpecError as error:
    print(error)

# %% [markdown]
# ## What to try next
#
# * Give the lead `messaging=True`: it can then write to anybody, without waiting for an answer.
# * Add a task with `participants=[...]`: a group chat, led in turn, by a model or by a function.
# * `unified-agents check team.yaml` shows who does what and why, and runs nothing.
# * Every pattern as a short file: [docs/patterns.md](../docs/patterns.md).
