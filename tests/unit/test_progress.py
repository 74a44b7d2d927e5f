"""What a person reads of a run's events."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from unified_agents.events import (
    BackendReplaced,
    CallRetried,
    CallWaited,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    Event,
    FieldsUnused,
    JournalUnavailable,
    MemoryUnavailable,
    MessageUndelivered,
    ModelReplaced,
    ReplayDiverged,
    RunResumed,
    TaskReassigned,
    TaskStarted,
    TextStreamed,
    WorkDelegated,
)  # fmt: skip
from unified_agents.messages import Message
from unified_agents.progress import RunProgress
from unified_agents.progress.terminal import TerminalBoard

CALL: dict[str, Any] = {"task": "t", "agent": "a", "model": "openai/gpt-4o-mini"}
LETTER = Message("ann", "bob", "hello")

WORDS: list[tuple[Event, str]] = [
    (CallRetried(**CALL, attempt=1, delay_s=12.2, error="RateLimitError"), "openai/gpt-4o-mini is rate limited, waiting 12 s"),
    (
        CallRetried(**CALL, attempt=1, delay_s=0.4, error="InternalServerError"),
        "openai/gpt-4o-mini failed (InternalServerError), waiting 0.4 s",
    ),
    (CallWaited(**CALL, delay_s=9.6, reason="keeps failing"), "openai/gpt-4o-mini keeps failing, waiting 10 s"),
    (ModelReplaced(**CALL, replacement="groq/x", error="NotFoundError"), "openai/gpt-4o-mini failed (NotFoundError), groq/x is asked"),
    (CircuitOpened(model="m", seconds=10.0), "m keeps failing and is left alone for 10 s"),
    (CircuitHalfOpened(model="m"), "m is tried again"),
    (CircuitClosed(model="m"), "m answers again"),
    (TaskReassigned(task="t", agent="b", failed="a", error="ToolError"), "a failed (ToolError), b takes it"),
    (WorkDelegated(task="t", agent="a", coworker="b", tool="x"), "a asks b"),
    (
        RunResumed(team="x", backend="crewai", completed=("a",), tasks=("b", "c"), run_id="r"),
        "x on crewai (run r, resumed: 1 of 3 tasks are done)",
    ),
    (
        ReplayDiverged(task="t", agent="a", key="t.1/a:2", reason="it asks something else than before"),
        "a asks again: it asks something else",
    ),
]

ALWAYS: list[tuple[Event, str]] = [
    (
        BackendReplaced(backend="crewai", replacement="autogen", error="broken", tasks=("u",)),
        "crewai failed (broken); autogen goes on with u.",
    ),
    (
        MemoryUnavailable(error="memory.db failed: disk full"),
        "Without memory, as memory.required: false allows: memory.db failed: disk full",
    ),
    (
        JournalUnavailable(error="runs.db failed: disk full"),
        "cannot be resumed, as journal.required: false allows: runs.db failed: disk full",
    ),
    (FieldsUnused(paths=("agents.a.reports_to",)), "Nothing reads agents.a.reports_to in this team"),
    (
        MessageUndelivered(sender="ann", recipient="bob", content="hello", timestamp=LETTER.timestamp, missed=("bob",)),
        "A message of ann was never read by bob.",
    ),
]


def shown(event: Event, *, terminal: bool) -> str:
    """What one event puts on the console."""
    out = io.StringIO()
    with TerminalBoard(console=Console(file=out, force_terminal=terminal, width=160, color_system=None)) as board:
        RunProgress(board).listen(event)
    return out.getvalue()


@pytest.mark.parametrize(("event", "words"), WORDS, ids=[type(event).__name__ + words[-6:] for event, words in WORDS])
def test_an_event_is_said_in_words_on_a_terminal(event: Event, words: str) -> None:
    """Retries, waits, breaker transitions and fallbacks; and nothing of it where there is no terminal."""
    assert words in shown(event, terminal=True)
    assert shown(event, terminal=False) == ""


@pytest.mark.parametrize(("event", "words"), ALWAYS, ids=[type(event).__name__ for event, _ in ALWAYS])
def test_a_loss_is_said_everywhere(event: Event, words: str) -> None:
    """What a user wrote or an agent sent that has no effect is said without a terminal too."""
    assert words in shown(event, terminal=False)


def test_a_text_that_grows_is_counted() -> None:
    """The task's line says how much there is; a new attempt begins at nothing."""
    out = io.StringIO()
    with TerminalBoard(console=Console(file=out, force_terminal=True, width=160, color_system=None)) as board:
        progress = RunProgress(board)
        progress.listen(TaskStarted(task="t", agent="ann"))
        for attempt, text in ((1, "x" * 900), (1, "y" * 600), (2, "z" * 7)):
            progress.listen(TextStreamed(task="t", agent="ann", key="t.1/ann:1", model="m", attempt=attempt, text=text))
            board._progress.refresh()
    shown = out.getvalue()
    assert shown.index("ann is writing, 900 characters") < shown.index("1,500 characters") < shown.index("ann is writing, 7 characters")
