"""`unified-agents init`: a starter team that runs as it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from unified_agents.chat_models import embedded
from unified_agents.chat_models.providers import PROVIDERS
from unified_agents.environment import read_environment
from unified_agents.errors import Problem, SpecError

_MODELS = {
    "openai": "openai/gpt-4o-mini",
    "anthropic": "anthropic/claude-sonnet-4-5",
    "gemini": "gemini/gemini-2.5-flash",
    "groq": "groq/llama-3.3-70b-versatile",
    "mistral": "mistral/mistral-small-latest",
    "deepseek": "deepseek/deepseek-chat",
    "openrouter": "openrouter/openai/gpt-4o-mini",
}

_TEAM = """\
# A team of two. Run it:  unified-agents run -i topic="tide pools"
name: starter

inputs:
  topic: {{description: What to write about, default: tide pools}}

models:
  default:
    model: {model}
    temperature: 0
    max_tokens: 300

agents:
  researcher:
    role: Research Analyst
    goal: Explain {{topic}} correctly and briefly
    {comment}tools: [today]             # what it may call; see tools: below
  writer:
    role: Writer
    goal: Write clear sentences about {{topic}}

tasks:
  define:
    description: Define {{topic}} in one sentence.
    expected_output: One sentence
    agent: researcher
  write:
    description: Rewrite the definition for a child.
    expected_output: One or two short sentences
    agent: writer
    context: [define]          # sees exactly this output
    guardrail: my_tools:short_enough

tools:
  today: {{python: my_tools:today}}
"""

_TOOLS = '''\
"""What team.yaml calls: tools are typed functions with a docstring, guardrails look at answers."""

from datetime import date


def today() -> str:
    """Today's date, as YYYY-MM-DD."""
    return date.today().isoformat()


def short_enough(text: str) -> str | None:
    """Nothing when the answer is fine, else what is wrong with it: the agent is asked again."""
    return None if len(text) <= 2000 else f"it has {len(text)} characters, at most 2000 are allowed"
'''

_ENV = """\
# Copy this file to .env beside team.yaml; variables that are already set win.
{lines}
# UNIFIED_AGENTS_BACKEND=autogen
"""


def init(folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to put the files.")] = Path()) -> None:
    """Write a starter team that runs as it is: with a key found in the environment, else on the embedded model."""
    model = _model()
    lines = "\n".join(f"# {provider.key_variable}=" for provider in PROVIDERS.values() if provider.key_variable)
    comment = "# " if model.startswith("local/") else ""  # the small model is better without
    files = {"team.yaml": _TEAM.format(model=model, comment=comment), "my_tools.py": _TOOLS, ".env.example": _ENV.format(lines=lines)}
    there = [name for name in files if os.path.lexists(folder / name)]
    if there:
        raise SpecError([Problem("", f"{folder / name} exists already and is left as it is") for name in there], "init")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SpecError([Problem("", f"{folder}: {error.strerror}")], "init") from None
    _say(folder, model)


def _model() -> str:
    env = read_environment()
    keyed = (name for name in _MODELS if env.get(PROVIDERS[name].key_variable or ""))
    return next((_MODELS[name] for name in keyed), f"local/{embedded.NAME}")


def _say(folder: Path, model: str) -> None:
    typer.echo(f"Wrote team.yaml, my_tools.py and .env.example (model: {model}).", err=True)
    lacking = embedded.lacking(embedded.NAME) if model.startswith("local/") else None
    if lacking:
        typer.echo(f"First: {lacking}", err=True)
    place = "" if folder == Path() else f" {folder / 'team.yaml'}"
    typer.echo(f"Next: unified-agents run{place}", err=True)
