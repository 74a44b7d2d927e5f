# %% [markdown]
# # Compare backends
#
# **What.** The same team on CrewAI and on AutoGen, several times, side by side: tokens, seconds,
# prompts, outputs.
#
# **Why.** "Which framework should I take?" becomes a measurement on your own team.
#
# A stand-in for the model answers here. It takes its time and counts tokens as a provider does.

# %%
import asyncio

from unified_agents import ChatResponse, Usage, compare_backends, count_tokens

ANSWERS = {
    "sources": "Three gauges report: Brest, Dover, Husum.",
    "numbers": "The range was 6.1 m, 5.9 m and 3.4 m.",
    "draft": "At Brest the sea rose and fell by 6.1 m, at Husum by 3.4 m.",
    "edit": "Brest: 6.1 m between low and high water. Husum: 3.4 m.",
}


async def model(request):
    text = ANSWERS[request.task]
    await asyncio.sleep(0.05 + len(text) / 1000)
    used = Usage(count_tokens(request.messages), count_tokens(text))
    return ChatResponse(text, request.model.model, usage=used)


# %% [markdown]
# ## The team
#
# Two tasks that wait for nothing, a draft of both, an edit of the draft.

# %%
from unified_agents import AgentSpec, TaskSpec, TeamSpec

analyst = AgentSpec(name="analyst", role="Data Analyst", goal="Say what {place} measured")
writer = AgentSpec(name="writer", role="Writer", backstory="You never state a number twice.")

sources = TaskSpec(name="sources", description="Which gauges are there?", agent=analyst)
numbers = TaskSpec(name="numbers", description="What is the tidal range?", agent=analyst)
draft = TaskSpec(name="draft", description="Draft it", agent=writer, context=[sources, numbers])
edit = TaskSpec(name="edit", description="Make it shorter", agent=writer, context=[draft])

team = TeamSpec(
    name="gauges",
    process="graph",
    inputs={"place": "the coast"},
    models={"default": "openai/gpt-4o-mini"},
    tasks=[sources, numbers, draft, edit],
)

# %% [markdown]
# ## Run both, four times each
#
# The backends take turns in being first. Differences are taken run by run, and each mean comes
# with a 95% interval. ✱ marks an interval that leaves 0 out. Frameworks are imported beforehand.

# %%
BACKENDS = ["crewai", "autogen"]

comparison = compare_backends(team, BACKENDS, repeat=4, models={"default": model})
comparison

# %%
comparison.plot()

# %% [markdown]
# How to read the picture:
#
# * Grey is the task, blue the model call inside it. Grey without blue is the framework's own time.
# * The tokens differ because each framework wraps your text in words of its own.
# * The line on a bar of seconds goes from the fastest to the slowest run.

# %% [markdown]
# ## What the frameworks add
#
# `added_tokens` counts the framework's own words in a task's first request.

# %%
table = comparison.to_pandas().pivot(index="task", columns="backend", values="added_tokens")
table.loc[list(comparison.tasks), list(comparison.backends)].astype(int)

# %%
comparison.prompts("edit")

# %% [markdown]
# ## Without those words
#
# `prompts="neutral"` sends the same text on every backend. What is left is the framework's time.

# %%
neutral = team.model_copy(update={"prompts": "neutral"})
same = compare_backends(neutral, BACKENDS, repeat=2, models={"default": model})

print("prompts:", same.prompts("edit"))
found = same.difference("autogen", "edit", "input_tokens")
print(f"input tokens: {found.mean:+.0f}, clear: {found.clear}")

# %% [markdown]
# ## Record once, compare for ever
#
# A live model answers differently from call to call. `record` keeps its answers, `replay` gives
# them to every backend: what still differs then is the framework's doing. A replay needs no key
# and no network, so it can run in CI.

# %%
import tempfile
from pathlib import Path

from unified_agents import run_team

with tempfile.TemporaryDirectory() as folder:
    answers = Path(folder) / "answers.json"
    run_team(team, backend="crewai", models={"default": model}, record=answers)
    replayed = compare_backends(team, BACKENDS, replay=answers)

print("all outputs equal:", replayed.equal)

# %% [markdown]
# ## Your own measure
#
# A scorer is a function of a run's inputs and result. Each is a column beside the seconds.


# %%
def names_husum(inputs, result):
    return "Husum" in result.output


def words(inputs, result):
    return len(result.output.split())


scored = compare_backends(team, BACKENDS, models={"default": model}, scorers=[names_husum, words])
scored.to_pandas("runs")[["backend", "status", "outputs", "score_names_husum", "score_words"]]

# %% [markdown]
# ## What to try next
#
# * `inputs=[{"place": "Brest"}, {"place": "Dover"}]`: each row runs on each backend.
# * Add `"autogen_classic"` to the backends. It has one speaker at a time: look at the timeline.
# * `comparison_page(comparison)` from `unified_agents.report` is all of it as one HTML file.
# * In a shell: `unified-agents compare team.yaml --repeat 5 --html comparison.html`.
# * How the intervals are made, and their limits: [docs/compare.md](../docs/compare.md).
