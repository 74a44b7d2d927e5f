"""What all tests share: a clean environment, a private working folder, a scripted server, and the command line in process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from unified_agents.cli import run_command
from unified_agents.testing.fixtures import clean_environment, server, waits  # noqa: F401  # pytest finds fixtures by name

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line; exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = run_command(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return run
