"""How long until something happens: fresh processes, from their start to their end, and to the first request at the model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.common import ROOT, Lab, Result, Row, Settings, in_turns, paired, quiet_environment, spread
from benchmarks.jobs import diamond

IMPORTS = {
    "python -c pass": ("-c", "pass"),
    "import unified_agents": ("-c", "import unified_agents"),
    "unified-agents --version": ("-m", "unified_agents", "--version"),
    "import crewai": ("-c", "import crewai"),
    "import autogen_agentchat, autogen_ext.models.openai": (
        "-c",
        "import autogen_agentchat.agents, autogen_agentchat.teams, autogen_ext.models.openai",
    ),
    "import autogen": ("-c", "import autogen"),
}
FIRST = {
    "crewai": ("unified.crewai", "handwritten.crewai_sequential"),
    "autogen": ("unified.autogen", "handwritten.autogen_graphflow"),
    "autogen_classic": ("unified.autogen_classic", "handwritten.autogen_classic_groupchat"),
}  # fmt: skip


@dataclass(frozen=True)
class Life:
    """A process: seconds until the first request (if it made one) or until its end, and its CPU seconds with all its children's."""

    wall: float
    cpu: float


def run(lab: Lab, settings: Settings) -> Result:
    """The benchmark."""
    result = Result("startup", "Start-up: fresh processes", "wall, ratio to the base of its case", settings.repeats(3))
    runs: dict[str, Callable[[], Life]] = {name: partial(_live, arguments) for name, arguments in IMPORTS.items()}
    runs |= {call: partial(_first, lab, call) for group in FIRST.values() for call in group}
    if not settings.quick:
        in_turns({name: runs[name] for name in IMPORTS}, 1)  # files into the cache
    lives = in_turns(runs, result.repeat)
    result.rows += _rows("import", list(IMPORTS), "import crewai", lives)
    for name, group in FIRST.items():
        result.rows += _rows(f"first request, {name}", group, group[1], lives)
    return result


def _rows(case: str, names: Sequence[str], base: str, lives: dict[str, list[Life]]) -> list[Row]:
    walls = {name: [life.wall for life in lives[name]] for name in names}
    return [
        Row(
            case, name, None if name == base else paired(walls[name], walls[base]),
            {"wall s": spread(walls[name]), "CPU s, whole process": spread([life.cpu for life in lives[name]])},
        )
        for name in names
    ]  # fmt: skip


def _live(arguments: Sequence[str]) -> Life:
    """A Python process from its start to its end."""
    began = time.monotonic()
    process = subprocess.Popen(  # noqa: S603  # our own commands
        [sys.executable, *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=quiet_environment(),
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{arguments} ended with {process.returncode}"
    return Life(time.monotonic() - began, usage.ru_utime + usage.ru_stime)


def _first(lab: Lab, call: str) -> Life:
    """A process that runs a team, from its start to the first request at the server; the clock is the machine's, the same in both."""
    lab.stats()
    began = time.monotonic()
    life = _live(["-m", "benchmarks.worker", json.dumps(lab.order(call, [diamond(0)]))])
    return Life(lab.stats()["first"] - began, life.cpu)
