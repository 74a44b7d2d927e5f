"""Makes the recorded answers of the examples: each `NAME/answers.json` from the texts in `NAME/script.yaml`.

    python examples/record.py              # all of them
    python examples/record.py debate       # one

A script is a list of runs. Each has its `inputs` (the defaults where there are none) and what is said in it: `TASK/AGENT` to a list of answers, in
their order. An answer is a text, `json:` with data, or `calls:` with the tools that are called. The team is really run, so its tools, schemas and guardrails are
asked, and a script that does not fit them is an error. Tokens are counted with `count_tokens`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from unified_agents import ChatRequest, ChatResponse, ScriptedModel, ToolCall, Usage, count_tokens, load_team, run_team

EXAMPLES = Path(__file__).parent
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/script.yaml"))


class Script:
    """What is said in one run: a function that a ScriptedModel asks."""

    def __init__(self, says: Mapping[str, Sequence[Any]]) -> None:
        self.left = {speaker: list(answers) for speaker, answers in says.items()}
        self._calls: Counter[str] = Counter()

    def __call__(self, request: ChatRequest) -> ChatResponse:
        """The next answer of whoever is asked.

        Raises:
            LookupError: it has none left.
        """
        speaker = f"{request.task}/{request.agent}"
        if not self.left.get(speaker):
            raise LookupError(f"script.yaml holds no further answer of {speaker}; the request ends: {request.messages[-1]['content']}")
        said = self.left[speaker].pop(0)
        calls = [self._call(speaker, *one) for entry in said.get("calls", ()) for one in entry.items()] if isinstance(said, dict) else []
        text = said if isinstance(said, str) else json.dumps(said["json"], ensure_ascii=False) if "json" in said else ""
        finish = "tool_calls" if calls else "stop"
        return ChatResponse(text.strip(), request.model.model, tuple(calls), finish, usage_of(request, text.strip(), calls))

    def _call(self, speaker: str, tool: str, arguments: Mapping[str, Any]) -> ToolCall:
        self._calls[speaker] += 1
        return ToolCall(f"call_{self._calls[speaker]}", tool, json.dumps(arguments, ensure_ascii=False))


def usage_of(request: ChatRequest, text: str, calls: Sequence[ToolCall]) -> Usage:
    """The tokens of a call: its messages, tools and schema; the answer's text and tool calls."""
    model = request.model.model
    asked = count_tokens(request.messages, model)
    extras = [*request.tools, *([request.response_format] if request.response_format else [])]
    asked += sum(count_tokens(json.dumps(extra), model) for extra in extras)
    said = count_tokens(text, model) + sum(count_tokens(f"{call.name} {call.arguments}", model) for call in calls)
    return Usage(asked, said)


def record(name: str, into: Path) -> None:
    """Run an example on its script, in a copy, and keep the answers.

    Raises:
        ValueError: the script holds answers that nobody asked for.
    """
    runs = yaml.safe_load((EXAMPLES / name / "script.yaml").read_text(encoding="utf-8"))
    into.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        team = Path(shutil.copytree(EXAMPLES / name, Path(folder, name))) / "team.yaml"
        for run in runs:
            script = Script(run["says"])
            models = dict.fromkeys(load_team(team).models, ScriptedModel(script))
            run_team(team, run.get("inputs"), models=models, record=into)
            if left := [speaker for speaker, answers in script.left.items() if answers]:
                raise ValueError(f"{name}/script.yaml holds answers that nobody asked for, of {', '.join(left)}")
    into.chmod(0o644)


def main(names: Sequence[str]) -> int:
    """Make some recordings, or all."""
    with tempfile.TemporaryDirectory() as state:
        os.environ["UNIFIED_AGENTS_HOME"] = state
        for name in names or NAMES:
            record(name, EXAMPLES / name / "answers.json")
            print(f"{name}/answers.json")  # noqa: T201  # it is a command
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
