# %% [markdown]
# # Memory and the token window
#
# **What.** Memory keeps what a team knows beyond one task, whichever framework learnt it. The
# token window keeps every request within its model's limit.
#
# **Why.** One is about knowing more, the other about sending less. You need both: what is left out
# of a long conversation must be found again.

# %% [markdown]
# ## Memory alone
#
# No team, no model, no framework: one SQLite file (here in memory) and a search.

# %%
from unified_agents import AgentMemory

memory = AgentMemory(":memory:", team="harbour")
memory.add_to_long_term("low water", "6:12 at Brest", agent="pilot")
memory.add_to_long_term("low water", "6:40 at Brest", agent="pilot")  # true from now on
memory.add_to_long_term("draught", "The ferry needs 4 metres", agent="captain")
memory.add_to_short_term("The captain prefers metric units")
memory.store_episode("plan", "Left at 9:00, arrived on time", agent="pilot")

for item in memory.recall("When is low water?", limit=2):
    print(f"{item.kind:10} {item.key}: {item.text}")

# %% [markdown]
# A fact that was replaced is not recalled, and not lost.

# %%
print([item.text for item in memory.history("low water")])

# %% [markdown]
# ## A team that remembers
#
# A run on CrewAI calls the tool `remember`. The next run is on AutoGen and finds the fact in its
# prompt. `ScriptedModel` answers from a list and keeps each request.

# %%
from unified_agents import AgentSpec, ScriptedModel, TaskSpec, TeamSpec, run_team
from unified_agents.memory import open_store

store = open_store(":memory:")  # a file in real life: "sqlite:///memory.db", the default
pilot = AgentSpec(name="pilot", role="Harbour Pilot")


def ask(question, backend, *answers):
    task = TaskSpec(name="answer", description=question, agent=pilot)
    team = TeamSpec(name="harbour", tasks=[task], memory={"store": store})
    model = ScriptedModel(answers)
    run_team(team, backend=backend, models={"default": model})
    return model.requests


# %%
from unified_agents import ChatResponse, ToolCall

note = ToolCall("1", "remember", '{"key": "low water", "text": "6:40 at Brest"}')
learnt = ChatResponse("", "openai/gpt-4o-mini", tool_calls=(note,))
ask("Look up low water.", "crewai", learnt, "Noted.")

# %%
(request,) = ask("When is low water at Brest?", "autogen", "At 6:40.")
print(request.messages[-1]["content"])

# %% [markdown]
# What is recalled is fenced and labelled with its source. `recall: {items: 5, tokens: 500}` bounds
# it, and `memory=False` on an agent keeps it out.

# %% [markdown]
# ## The token window
#
# An agent reads 24 pages with a tool. Each call sends everything that was read before, so the
# requests grow, until the model refuses.

# %%
import json

from unified_agents import count_tokens


def read_page(number: int) -> str:
    """Read a page of the pilot book."""
    return f"Page {number}. " + "The channel is marked by buoys; keep to the north. " * 12


# %% [markdown]
# The model's stand-in asks for one page after the other, notes how large each request is, and
# answers after the last page.


# %%
def sizes_of(token_window, backend="autogen"):
    sizes, trimmed = [], []

    async def model(request):
        if request.conversation.endswith("/summary"):
            return ChatResponse("The channel is marked by buoys.", request.model.model)
        sizes.append(count_tokens(request.messages))
        if request.turn > 24:
            return ChatResponse("Keep to the north.", request.model.model)
        call = ToolCall(f"c{request.turn}", "read_page", json.dumps({"number": request.turn}))
        return ChatResponse("", request.model.model, tool_calls=(call,))

    reader = AgentSpec(name="reader", role="Reader", tools=[read_page])
    task = TaskSpec(name="read", description="Read the pilot book", agent=reader)
    team = TeamSpec(
        tasks=[task],
        models={"default": {"model": "openai/gpt-4o-mini", "max_tokens": 200}},
        token_window=token_window,
        prompts="neutral",
    )
    run_team(
        team,
        backend=backend,
        models={"default": model},
        on_event=lambda event: trimmed.append(event) if event.type == "ContextTrimmed" else None,
    )
    return sizes, trimmed


LIMIT = 1500
found = {
    "no limit": sizes_of(None),
    "drop_oldest": sizes_of({"limit": LIMIT}),
    "summarize": sizes_of({"limit": LIMIT, "strategy": "summarize"}),
}

# %%
import matplotlib.pyplot as plt

_, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for (name, (sizes, _)), mark in zip(found.items(), "os^", strict=True):
    axes.plot(range(1, len(sizes) + 1), sizes, marker=mark, markersize=4, label=name)
axes.axhline(LIMIT - 200, color="black", linestyle="--", linewidth=0.8)
axes.text(25, LIMIT - 110, "the limit, less 200 tokens for the answer", ha="right", fontsize=8)
axes.set(xlabel="request", ylabel="tokens", ylim=0)
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# `drop_oldest` leaves the oldest messages out each time. `summarize` has the model sum them up and
# goes on from there: fewer cuts, one request more for each summary. The system message, the task
# and the last message always stay, and a tool call never loses its result.

# %%
for event in found["drop_oldest"][1][:3]:
    print(f"{event.dropped} messages dropped: {event.tokens} of {event.budget} tokens")

# %% [markdown]
# The window stands around the model call, where no framework sees it. So it cuts alike on both:

# %%
on_crewai, _ = sizes_of({"limit": LIMIT}, "crewai")
print("the same requests:", on_crewai == found["drop_oldest"][0])

# %% [markdown]
# ## Alone
#
# `count_tokens` and `fit_messages` work on any messages, without a team.

# %%
from unified_agents import fit_messages

messages = [
    {"role": "system", "content": "You are a pilot."},
    {"role": "user", "content": "Read the log."},
    *({"role": "assistant", "content": f"Entry {n}: wind west, {n} knots."} for n in range(50)),
]
kept = fit_messages(messages, 100)
print(count_tokens(messages), "->", count_tokens(kept), "tokens")
print([message["content"] for message in kept][:4])

# %% [markdown]
# ## What to try next
#
# * Ask `memory.recall("kilometres or miles")`: no word fits. With `AgentMemory(..., semantic=True)`
#   the meaning does (`pip install 'unified-agents[semantic]'`).
# * Leave `store` out: the file is `.unified_agents/memory.db`, and the next process knows it, too.
# * Lower `LIMIT` to 400 and see what is shortened, not only dropped.
# * More: [docs/memory.md](../docs/memory.md), [docs/team-file.md](../docs/team-file.md).
