"""Environment variables: where they are read from, and `${VAR}` in text."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

from unified_agents.errors import Problem, SpecError

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def read_environment(folder: Path | None = None) -> dict[str, str]:
    """The process environment, filled up from `.env` beside the team file, then from `.env` in the working folder.

    Nothing is overridden and `os.environ` is not changed.

    Raises:
        SpecError: a `.env` that cannot be read.
    """
    merged: dict[str, str] = {}
    for path in dict.fromkeys([*_working_folder(), *([folder / ".env"] if folder else [])]):
        if path.is_file():
            merged.update(_read(path))
    return {**merged, **os.environ}


def _working_folder() -> list[Path]:
    try:
        return [Path.cwd() / ".env"]
    except FileNotFoundError:  # it was deleted
        return []


def _read(path: Path) -> dict[str, str]:
    try:
        return {name: value for name, value in dotenv_values(path, interpolate=False).items() if value is not None}
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SpecError([Problem("", f"cannot be read: {said}")], str(path)) from None


def expand(text: str, env: Mapping[str, str]) -> tuple[str, list[str]]:
    """`text` with `${VAR}` and `${VAR:-default}` replaced, and the names of variables that are missing.

    As in a shell, the default stands in for an unset or empty variable. Values are put in once and not scanned again.
    """
    missing: list[str] = []

    def value(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        found = env.get(name, "")
        if found or (default is None and name in env):
            return found
        if default is None:
            missing.append(name)
            return match.group(0)
        return default

    return _REFERENCE.sub(value, text), missing


def malformed(text: str) -> bool:
    """Whether a `${` is left that is no `${VAR}` or `${VAR:-default}`."""
    return "${" in _REFERENCE.sub("", text)
