# %% [markdown]
# # When models fail
#
# **What.** Retries, a circuit breaker and fallback models stand around every model call. They are
# on by default and the same on every backend.
#
# **Why.** Providers refuse, drop connections and run out of quota. One framework by itself answers a
# single refusal with 27 requests, as the end of this lesson shows.
#
# `ScriptedServer` is a small server on this machine that speaks OpenAI's protocol and fails on
# demand. Delays are set short so that the lesson is, too.

# %%
from unified_agents import AgentSpec, TaskSpec, TeamSpec, run_team, stream_team
from unified_agents.testing import Reply, ScriptedServer

SHORT = {"retry": {"base_delay": 0.2}}


def team(server, names=("report",), **fields):
    clerk = AgentSpec(name="clerk", role="Clerk")
    tasks = [TaskSpec(name=name, description=f"Say {name}", agent=clerk) for name in names]
    fields = {"resilience": SHORT, "models": {"default": server.model()}, **fields}
    return TeamSpec(tasks=tasks, process="graph", **fields)


# %% [markdown]
# ## Three faults, one answer
#
# The server is overloaded, then hangs up, then asks for a pause. The fourth request is answered.

# %%
FAULTS = [
    Reply(status=503),
    Reply(drop=True),
    Reply(status=429, headers={"Retry-After": "0.3"}),
    Reply("Low water is at 6:12.", delay=0.1),
]
SHOWN = ("ModelCalled", "CallRetried", "CallWaited", "TaskCompleted")
events = []

with ScriptedServer() as server:
    server.reply("report", *FAULTS)
    async for event in stream_team(team(server), backend="autogen"):
        events.append(event)
        if event.type in SHOWN:
            attempt = getattr(event, "attempt", "")
            print(f"{event.type:14} {attempt:2} {getattr(event, 'error', '') or ''}")

# %%
import matplotlib.pyplot as plt

_, axes = plt.subplots(figsize=(7, 2), layout="constrained")
began = next(event.time for event in events if event.type == "AgentStarted")
for event in events:
    at = (event.time - began).total_seconds()
    if event.type == "ModelCalled":
        colour = "#D55E00" if event.error else "#009E73"
        width = max(event.duration_s, 0.012)
        name = f"{event.attempt} {event.error or 'answered'}"
        axes.barh(name, width, left=at - event.duration_s, color=colour)
    if event.type == "CallRetried":
        axes.barh(name, event.delay_s, left=at, color="#DDE1E5")
axes.invert_yaxis()
axes.set(xlabel="seconds (grey: the pause before the next attempt)", xlim=0)
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# The pauses are random up to a limit that doubles each time, so that many clients do not come
# back at the same moment. `Retry-After` is obeyed.

# %% [markdown]
# ## The circuit breaker
#
# Six tasks at once meet a server that fails seven times. After the first failures the circuit
# **opens**: nobody asks. After a cool-down exactly **one** call probes. When it succeeds, all go on.

# %%
NAMES = ("one", "two", "three", "four", "five", "six")
BREAKER = {
    "retry": {"base_delay": 0.1, "max_delay": 0.3},
    "circuit_breaker": {"failure_threshold": 5, "recovery_time": 0.5},
}
events = []

with ScriptedServer() as server:
    faults = [Reply(status=500, delay=0.05)] * 7
    server.reply("Say", *faults, Reply("Done.", delay=0.1), forever=True)
    result = run_team(
        team(server, NAMES, resilience=BREAKER), backend="autogen", on_event=events.append
    )
    print(f"{result.status}, {len(server.requests)} requests for {len(NAMES)} tasks")

for event in events:
    if event.type.startswith("Circuit"):
        print(event.type, f"for {event.seconds:.1f} s" if event.state == "open" else "")

# %%
_, axes = plt.subplots(figsize=(7, 2.6), layout="constrained")
axes.set_yticks(range(len(NAMES)), NAMES)
began = next(event.time for event in events if event.type == "AgentStarted")
for event in events:
    at = (event.time - began).total_seconds()
    if event.type == "ModelCalled":
        style = {"marker": "x", "color": "#D55E00"} if event.error else {"color": "#009E73"}
        axes.scatter(at, NAMES.index(event.task), zorder=3, **style)
    if event.type == "CircuitOpened":
        opened = at
    if event.type == "CircuitHalfOpened":
        axes.axvspan(opened, at, color="#E8EBEE")
axes.set(xlabel="seconds (× failed, ● answered, grey: the circuit is open)", xlim=0)
axes.invert_yaxis()
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ## The next model
#
# A model that fails for good hands over to the next one. Here the account of the first is empty:
# waiting would not help, so it is asked once.

# %%
EMPTY = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}

with ScriptedServer() as first, ScriptedServer() as second:
    first.reply("report", Reply(status=429, body=EMPTY), forever=True)
    second.reply("report", "Low water is at 6:12.")
    models = {"default": first.model(fallbacks=["spare"]), "spare": second.model()}
    result = run_team(team(first, models=models), backend="autogen")
    print(result)
    print(f"requests: {len(first.requests)} to the first, {len(second.requests)} to the second")

# %% [markdown]
# ## Beside it: CrewAI by itself
#
# A crew written by hand, and a provider that answers 429 and nothing else. The OpenAI client asks
# 3 times, CrewAI's own retry does that 3 times, and the agent does that 3 times: 27.
# `ManagedLLM` is the same crew with one changed line.

# %%
import logging

from IPython.utils.capture import capture_output

from unified_agents_crewai import ManagedLLM  # before crewai, which it imports without telemetry

from crewai import LLM, Agent, Crew, Task  # isort: skip
from crewai.llms import retry

retry._LLM_RATE_LIMIT_INITIAL_DELAY_SECONDS = 0.01  # it is 1.0, nine seconds in all
logging.disable(logging.ERROR)  # CrewAI logs each failure


async def requests_of(make):
    with ScriptedServer() as server:
        server.reply("", Reply(status=429, headers={"Retry-After": "0.02"}), forever=True)
        llm = make(model="openai/gpt-4o-mini", base_url=server.base_url, api_key="none")
        agent = Agent(role="Analyst", goal="Find facts", backstory="Careful.", llm=llm)
        task = Task(description="Find one fact.", expected_output="A fact.", agent=agent)
        crew = Crew(agents=[agent], tasks=[task])
        try:
            with capture_output():
                await crew.kickoff_async()  # kickoff() refuses in a notebook's running loop
        except Exception as error:
            asked = len(server.requests)
            print(f"{make.__name__:10} {asked:2} requests, then {type(error).__name__}")
        return asked


counts = {"crewai.LLM": await requests_of(LLM), "ManagedLLM": await requests_of(ManagedLLM)}

# %% [markdown]
# ## Beside it: an AutoGen group chat by itself
#
# This chat ends when somebody says APPROVED. The model never does. AutoGen goes on until its
# message limit, and without one it does not end. 25 is ours, so that this cell does.

# %%
from unified_agents_autogen import ManagedChatCompletionClient

from autogen_agentchat.agents import AssistantAgent  # isort: skip
from autogen_agentchat.conditions import MaxMessageTermination, TextMentionTermination
from autogen_agentchat.teams import RoundRobinGroupChat

with ScriptedServer() as server:
    server.reply("", "I would change one word.", forever=True)
    client = ManagedChatCompletionClient(
        "openai/gpt-4o-mini", base_url=server.base_url, api_key="none"
    )
    people = [AssistantAgent(name, client, system_message="Talk.") for name in ("ann", "bob")]
    chat = RoundRobinGroupChat(
        people, termination_condition=TextMentionTermination("APPROVED") | MaxMessageTermination(25)
    )
    said = await chat.run(task="Agree on a title.")
    counts["AutoGen chat,\nlimit of 25"] = len(server.requests)
    print(said.stop_reason)

# %% [markdown]
# The same chat as a task: `max_rounds` is 10 unless you say otherwise, and a `budget` ends any run
# before the call that it does not cover.

# %%
from unified_agents import RunError

ann, bob = AgentSpec(name="ann", role="Author"), AgentSpec(name="bob", role="Editor")
talk = TaskSpec(
    name="talk",
    description="Agree on a title",
    participants=[ann, bob],
    stop_when={"says": "APPROVED"},
)

with ScriptedServer() as server:
    server.reply("", "I would change one word.", forever=True)
    models = {"default": server.model()}
    run_team(TeamSpec(tasks=[talk], models=models), backend="autogen")
    counts["chat task"] = len(server.requests)
    try:
        run_team(
            TeamSpec(tasks=[talk], models=models, budget={"model_calls": 4}), backend="autogen"
        )
    except RunError as error:
        print(f"{type(error).__name__}: {error}")
    counts["chat task,\nbudget of 4"] = len(server.requests) - counts["chat task"]

# %%
_, axes = plt.subplots(figsize=(7, 2.8), layout="constrained")
bare = ("crewai.LLM", "AutoGen chat,\nlimit of 25")
colours = ["#D55E00" if name in bare else "#0072B2" for name in counts]
axes.bar_label(axes.barh(list(counts), list(counts.values()), color=colours), padding=3)
axes.invert_yaxis()
axes.set_xlabel("requests (orange: the framework by itself)")
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ## What to try next
#
# * Put `Reply(status=401)` first into `FAULTS`: a wrong key is not tried again, and the run fails.
# * Set `"max_attempts": 2` in `SHORT`: the run fails, and `error.result` says what was completed.
# * Give the clerk a `fallback` agent, or the team a `fallback_backend`.
# * All rules in one table: [docs/fault-tolerance.md](../docs/fault-tolerance.md).
