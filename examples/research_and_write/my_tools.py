"""The researcher's tools, and the checks of what the team writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

SOURCES = Path(__file__).parent / "sources"


def list_sources() -> list[dict[str, str]]:
    """List all sources, each with its title."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(SOURCES.glob("*.md"))}
    return [{"name": name, "title": text.splitlines()[0].lstrip("# ")} for name, text in texts.items()]


def read_source(name: str) -> str:
    """Read a source.

    Args:
        name: Its name in the list of sources.
    """
    known = {path.stem: path for path in sorted(SOURCES.glob("*.md"))}
    if name not in known:
        raise ValueError(f"there is no source {name!r}; there are: {', '.join(known)}")
    return known[name].read_text(encoding="utf-8")


def quotes_are_real(answer: str) -> str | None:
    """A guardrail: each quote stands in the source that it names."""
    for fact in json.loads(answer)["facts"]:
        try:
            text = read_source(fact["source"])
        except ValueError as error:
            return str(error)
        if " ".join(fact["quote"].split()) not in " ".join(text.split()):
            return f"the source {fact['source']!r} does not say {fact['quote']!r}"
    return None


def numbers_are_sourced(answer: str) -> str | None:
    """A guardrail: each number of the text stands in a source."""
    known = {number for path in SOURCES.glob("*.md") for number in _numbers(path.read_text(encoding="utf-8"))}
    unknown = sorted(_numbers(answer) - known)
    return f"no source holds these numbers: {', '.join(unknown)}. Leave them out" if unknown else None


def _numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:[.,]\d+)*", text))
