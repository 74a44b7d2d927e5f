"""The work that every variant does, framework-free: jobs, and the shapes they come in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

MARK = re.compile(r"\[(\w+) (\d+)ms\]")
EXPECTED = "One sentence."


class Job(NamedTuple):
    """One task with one request: what it sees, and how long the model takes over it."""

    name: str
    context: tuple[str, ...] = ()
    ms: int = 0

    @property
    def prompt(self) -> str:
        """The task's text; the model reads the name and its own latency from the mark."""
        return f"Write one sentence about {self.name}. [{self.name} {self.ms}ms]"


def diamond(ms: int) -> list[Job]:
    """One task, two that see it, one that sees both."""
    return [Job("a", (), ms), Job("b", ("a",), ms), Job("c", ("a",), ms), Job("d", ("b", "c"), ms)]


def uneven(ms: int) -> list[Job]:
    """t4 after t2 and t3, t5 after t2 alone; t3 and t5 are slow, so whoever waits for whole levels waits for both."""
    return [
        Job("t1", (), ms), Job("t2", ("t1",), ms), Job("t3", ("t1",), 3 * ms), Job("t4", ("t2", "t3"), ms), Job("t5", ("t2",), 3 * ms),
    ]  # fmt: skip


def chain(length: int) -> list[Job]:
    """Each task sees the one before, and the model answers at once."""
    return [Job(f"t{i}", (f"t{i - 1}",) if i else ()) for i in range(length)]


def independent(count: int, ms: int) -> list[Job]:
    """Tasks that wait for nothing."""
    return [Job(f"t{i}", (), ms) for i in range(count)]


def pairs(count: int, ms: int) -> list[list[Job]]:
    """Teams of two tasks, the second after the first."""
    return [[Job(f"team{i}_a", (), ms), Job(f"team{i}_b", (f"team{i}_a",), ms)] for i in range(count)]


def critical_path(jobs: Sequence[Job]) -> float:
    """Seconds that the longest way through the jobs takes when nothing but the model does."""
    ends: dict[str, int] = {}
    for job in jobs:
        ends[job.name] = job.ms + max((ends[name] for name in job.context), default=0)
    return max(ends.values()) / 1000


def levels(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs by their distance from the start."""
    depth: dict[str, int] = {}
    for job in jobs:
        depth[job.name] = 1 + max((depth[name] for name in job.context), default=0)
    return [[job for job in jobs if depth[job.name] == level] for level in range(1, max(depth.values()) + 1)]
