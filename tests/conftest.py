"""What all tests share: a clean environment, a private working folder, a scripted server, and the command line in process."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

from unified_agents.cli import run_command
from unified_agents.testing.fixtures import clean_environment, server, waits  # noqa: F401  # pytest finds fixtures by name

settings.register_profile(
    "busy", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # the machine may be, and no example is to blame
settings.load_profile("busy")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line; exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = run_command(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return run
