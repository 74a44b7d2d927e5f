"""A warm process that has imported a backend's framework and forks a child for each command line: `python -m tests.zygote BACKEND`.

It reads commands from stdin, one JSON object a line, and answers in the same way: `{"folder": …, "arguments": […]}` starts a child and gives
`{"pid": …}`; `{"wait": PID}` gives `{"code": …}`, negative for the signal that ended it. What a child prints is in `out` and `err` of the folder.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any


def main(backend: str) -> None:
    """Import what a run imports, then fork on demand. No engine exists here, so a child begins as a process of its own would."""
    for module in (
        "unified_agents.runtime",
        "unified_agents.cli",
        "unified_agents.chat_models.openai_compatible",
        f"unified_agents_{backend}.team",
    ):
        importlib.import_module(module)
    print(json.dumps({"threads": [thread.name for thread in threading.enumerate()]}), flush=True)
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)


def _answer(command: dict[str, Any]) -> dict[str, int]:
    if "wait" in command:
        _, status = os.waitpid(command["wait"], 0)
        return {"code": os.waitstatus_to_exitcode(status)}
    pid = os.fork()
    if pid == 0:
        _be_child(Path(command["folder"]), command["arguments"])
    return {"pid": pid}


def _be_child(folder: Path, arguments: list[str]) -> None:
    """The command line, in a folder."""
    code = 70
    try:
        os.chdir(folder)
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        from unified_agents.cli import run_command

        code = run_command(arguments)
        sys.stdout.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1])
