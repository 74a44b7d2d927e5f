"""Made-up runs and comparisons for the tests of pages and figures, with times that are known to the millisecond."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from unified_agents import events as happened
from unified_agents.comparison import ComparedRun, Comparison, TaskRun
from unified_agents.events import Event
from unified_agents.journal import RunRecord
from unified_agents.result import ErrorResult, MessageResult, RunResult, RunUsage, TaskResult, UsageResult

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
EVIL = "</title></style></pre><script>document.title='pwned';alert(1)</script><img src='http://127.0.0.1:9/x' onerror=alert(2)>\" onclick=\"alert(3) & <b>"


class Story:
    """Events with the times that are given, in seconds since the beginning."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def at(self, seconds: float, kind: str, **fields: Any) -> None:
        """One event."""
        made = getattr(happened, kind)(seq=len(self.events) + 1, time=START + timedelta(seconds=seconds), run_id="r1", **fields)
        self.events.append(made)


def told(words: str = "plain") -> list[Event]:
    """A run of two tasks in which something of everything happens; `words` stands wherever somebody else's text can."""
    story, who = Story(), {"task": words, "agent": words}
    story.at(0, "RunStarted", team=words, backend="crewai", tasks=(words, "second"))
    story.at(0.5, "TaskStarted", **who)
    story.at(1.0, "ModelCalled", **who, model=words, turn=1, duration_s=0.25, error=words, key="k1")
    story.at(1.0, "CallRetried", **who, model=words, attempt=1, delay_s=0.5, error=words)
    story.at(1.5, "CallWaited", **who, model=words, delay_s=0.25, reason=words)
    story.at(2.0, "ModelCalled", **who, model=words, turn=1, duration_s=0.25, attempt=2, input_tokens=10, output_tokens=5, key="k1")
    story.at(
        2.0, "ModelAnswered", **who, key="k1", fingerprint="f", model=words, text=words, tool_calls=({"name": words, "arguments": words},)
    )
    story.at(2.0, "ToolStarted", **who, tool=words, key="k2", arguments={words: words})
    story.at(2.5, "ToolCalled", **who, tool=words, duration_s=0.5, key="k2", result=words)
    story.at(2.75, "MessageSent", task=words, sender=words, recipient=words, message_type="direct", content=words, timestamp=START)
    story.at(3.0, "TaskCompleted", **who, output=words, truncated=False, duration_s=2.5)
    story.at(3.0, "TaskStarted", task="second", agent=words)
    story.at(4.0, "TaskFailed", task="second", agent=words, error="ToolError", message=words, duration_s=1.0)
    story.at(4.0, "RunFailed", status="failed", error="ToolError", message=words, duration_s=4.0)
    return story.events


def result(words: str = "plain", backend: str = "crewai", output: str | None = None) -> RunResult:
    """The result of that run."""
    usage = UsageResult(model_calls=2, input_tokens=10, output_tokens=5, cost_usd=None)
    said = words if output is None else output
    tasks = {
        words: TaskResult(status="completed", agent=words, backend=backend, models=[words], output=said, attempts=1, notes=[words], duration_s=2.5, usage=usage),
        "second": TaskResult(status="failed", agent=words, backend=backend, attempts=1, duration_s=1.0, usage=usage, error=ErrorResult(type="ToolError", message=words)),
    }  # fmt: skip
    sent = [MessageResult(sender=words, recipient=words, message_type="direct", content=words, timestamp=START, undelivered=[words])]
    error = ErrorResult(type="ToolError", message=words, task="second")
    return RunResult(
        run_id="r1", team=words, backend=backend, framework_version=words, status="failed", output=None, tasks=tasks, messages=sent,
        usage=RunUsage(**usage.model_dump()), duration_s=4.0, error=error,
    )  # fmt: skip


def record(made: RunResult | None, status: str = "failed", team: str = "plain") -> RunRecord:
    """A run as the journal knows it."""
    ended = START + timedelta(seconds=4)
    return RunRecord("r1", team, "crewai", status, START, ended, 4.0, {}, made.model_dump(mode="json") if made else None)


def compared(backend: str, repeat: int = 0, words: str = "plain", *, output: str | None = None, seconds: float = 2.5) -> ComparedRun:
    """That run as a run of a comparison."""
    made = result(words, backend, output)
    tasks = {
        name: TaskRun(name, task.status, task.output, None, seconds if task.status == "completed" else 1.0, 0.5, 1, 1, task.usage, 7)
        for name, task in made.tasks.items()
    }
    opening = [{"role": "system", "content": f"You are {words} on {backend}."}, {"role": "user", "content": f"Do this: {words}"}]
    return ComparedRun(
        backend,
        0,
        repeat,
        {"topic": words},
        "failed",
        f"ToolError: {words}",
        made,
        tasks,
        {words: opening},
        told(words),
        {words: 1.0},
        [words],
    )


def comparison(words: str = "plain", backends: Sequence[str] = ("crewai", "autogen"), repeat: int = 1) -> Comparison:
    """A comparison of such runs: the second backend answers otherwise, and is slower by a second and a little more each time."""
    runs = [
        compared(backend, turn, words, output=f"{words} from {backend}" if place else None, seconds=2.5 + place * (1 + turn / 10))
        for turn in range(repeat)
        for place, backend in enumerate(backends)
    ]
    return Comparison(words, backends, [words, "second"], runs)


def refused(backend: str = "autogen") -> ComparedRun:
    """A backend that could not begin."""
    return ComparedRun(backend, 0, 0, {}, "refused", "backend 'autogen' is not installed", None, {}, {}, ())


def large(
    tasks: int = 200, calls: int = 6, text: str = "Low water at 6:12, <b>high</b> water at noon. " * 100
) -> tuple[RunRecord, list[Event]]:
    """A stored run of many tasks with long answers."""
    story, done = Story(), {}
    names = [f"task_{number}" for number in range(tasks)]
    story.at(0, "RunStarted", team="large", backend="crewai", tasks=tuple(names))
    for number, name in enumerate(names):
        begin = number * 0.5
        story.at(begin, "TaskStarted", task=name, agent="worker")
        for turn in range(calls):
            at = begin + (turn + 1) * 0.9 / calls
            key = f"{name}:{turn}"
            story.at(
                at,
                "ModelCalled",
                task=name,
                agent="worker",
                model="openai/m",
                turn=turn + 1,
                duration_s=0.1,
                input_tokens=9,
                output_tokens=9,
                key=key,
            )
            story.at(at, "ModelAnswered", task=name, agent="worker", key=key, fingerprint="f", model="openai/m", text=f"{turn} {text}")
        story.at(begin + 1, "TaskCompleted", task=name, agent="worker", output=text, truncated=False, duration_s=1.0)
        story.at(
            begin + 1, "MessageSent", task=name, sender="worker", recipient="worker", message_type="handover", content=text, timestamp=START
        )
        done[name] = TaskResult(status="completed", agent="worker", backend="crewai", output=text, attempts=1, duration_s=1.0)
    sent = [MessageResult(sender="worker", recipient="worker", message_type="handover", content=text, timestamp=START) for _ in names]
    made = RunResult(
        run_id="r1", team="large", backend="crewai", framework_version="1", status="completed", output=text, tasks=done, messages=sent,
        usage=RunUsage(), duration_s=tasks * 0.5,
    )  # fmt: skip
    return record(made, "completed", "large"), story.events


def large_comparison(tasks: int = 200, repeat: int = 2) -> Comparison:
    """Two backends with many tasks, long prompts that differ in many places, and long answers."""
    runs = []
    for turn in range(repeat):
        for backend in ("crewai", "autogen"):
            stored, story = large(tasks)
            made = RunResult.model_validate(stored.result).model_copy(update={"backend": backend})
            words = " ".join(f"{backend if number % 3 == 0 else 'word'}{number}" for number in range(900))
            prompts = {name: [{"role": "user", "content": words}] for name in made.tasks}
            done = {
                name: TaskRun(name, "completed", f"{task.output}{backend}", None, 1.0, 0.1, 0, 0, task.usage, 7)
                for name, task in made.tasks.items()
            }
            runs.append(ComparedRun(backend, 0, turn, {}, "completed", None, made, done, prompts, story))
    return Comparison("large", ["crewai", "autogen"], list(runs[0].tasks), runs)
