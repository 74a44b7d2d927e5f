"""What trimming costs: a conversation that has grown to so many messages is brought down to 8,000 tokens, again after each message more.

Ours counts each message once, when it is new. LangChain's `trim_messages`, beside it, gets the same counter, tokenizer and all, over the same texts;
it keeps nothing between calls. Both must keep the same messages, else there is no measurement.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any

from benchmarks.common import Lab, Result, Row, Settings, in_turns
from unified_agents.tokens import PER_MESSAGE, PER_REPLY, family
from unified_agents.window import Ledger

BUDGET = 8000
MODEL = "openai/gpt-4o"
WORDS = ["tide", "pools", "hold", "crabs", "and", "anemones,", "and", "the", "sea", "gives", "both", "back", "twice", "a", "day;"]
Step = Callable[[], Sequence[str]]
"""Appends one message and trims; what is kept, as texts."""


def text(number: int) -> str:
    """About 92 tokens, no two alike; 95 with the frame of a message."""
    return " ".join([f"{number}:", *(WORDS[(number + n * n) % len(WORDS)] for n in range(76))])


def ours(length: int) -> Step:
    """The ledger as TokenWindow keeps it, which was shown the conversation up to here."""
    ledger, numbers = Ledger(family(MODEL)), count(length)
    messages: list[dict[str, Any]] = [{"role": "system", "content": "You are a guide."}, {"role": "user", "content": "MARK"}]
    messages += [{"role": _role(n), "content": text(n)} for n in range(length)]
    ledger.fit(messages, BUDGET)

    def step() -> Sequence[str]:
        number = next(numbers)
        messages.append({"role": _role(number), "content": text(number)})
        return [str(message["content"]) for message in ledger.fit(messages, BUDGET).messages[2:]]

    return step


def langchain(length: int) -> Step:
    """`trim_messages` on LangChain's own message objects; it keeps no instruction, so its budget is less by that."""
    from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, trim_messages

    counter, numbers = family(MODEL), count(length)

    def tokens(messages: Sequence[BaseMessage]) -> int:
        return PER_REPLY + sum(PER_MESSAGE + counter.count(str(message.content)) for message in messages)

    def message(number: int) -> BaseMessage:
        return HumanMessage(text(number)) if _role(number) == "user" else AIMessage(text(number))

    messages: list[BaseMessage] = [SystemMessage("You are a guide."), *(message(n) for n in range(length))]
    room = BUDGET - PER_MESSAGE - counter.count("MARK")

    def step() -> Sequence[str]:
        messages.append(message(next(numbers)))
        kept = trim_messages(messages, max_tokens=room, token_counter=tokens, strategy="last", include_system=True, start_on="human")
        return [str(one.content) for one in kept[1:]]

    return step


def _role(number: int) -> str:
    return "user" if number % 2 == 0 else "assistant"


def run(_lab: Lab, settings: Settings) -> Result:
    """The benchmark."""
    repeat = settings.repeats(15)
    result = Result("window", f"Trimming to {BUDGET:,} tokens after one message more", "times ours", repeat)
    for length in (1000, 10_000, 100_000) if not settings.quick else (200, 400):
        times = _measured({"unified.Ledger.fit": ours(length), "handwritten.trim_messages (LangChain)": langchain(length)}, repeat)
        base = statistics.median(next(iter(times.values())))
        for name, taken in times.items():
            middle = statistics.median(taken)
            cells = {"ms a call": f"{middle:.3f} ({min(taken):.3f}–{max(taken):.3f})"}
            result.rows.append(Row(f"{length:,} messages", name, None if name.startswith("unified") else middle / base, cells))
    return result


def _measured(steps: dict[str, Step], repeat: int) -> dict[str, list[float]]:
    """Milliseconds of each step, in turns.

    Raises:
        AssertionError: the variants did not keep the same.
    """
    kept: dict[str, Sequence[str]] = {}

    def timed(name: str) -> float:
        began = time.perf_counter()
        kept[name] = steps[name]()
        return (time.perf_counter() - began) * 1000

    runs = {name: partial(timed, name) for name in steps}
    in_turns(runs, 1)  # warm
    gc.collect()
    samples = in_turns(runs, repeat)
    one, other = kept.values()
    assert abs(len(one) - len(other)) <= 1, "the variants keep differently much"  # LangChain's begins with a human message
    assert list(one)[-min(len(one), len(other)) :] == list(other)[-min(len(one), len(other)) :], "the variants keep different messages"
    return samples
