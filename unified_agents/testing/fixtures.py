"""Pytest fixtures: a scripted server, and an environment in which nothing of the machine reaches a test.

Take them into a conftest.py: `from unified_agents.testing.fixtures import clean_environment, server, waits  # noqa: F401`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from unified_agents.chat_models.providers import PROVIDERS
from unified_agents.clock import SkippingClock, use_clock
from unified_agents.engine import forget_shared
from unified_agents.testing import ScriptedServer


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key, backend or address of the machine reaches a test, and what a run leaves behind stays in its folder."""
    for provider in PROVIDERS.values():
        for name in (provider.key_variable, provider.url_variable):
            if name:
                monkeypatch.delenv(name, raising=False)
    for name in ("OPENAI_MODEL", "UNIFIED_AGENTS_BACKEND", "UNIFIED_AGENTS_HOME", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def waits() -> Iterator[list[float]]:
    """The seconds that layers waited: they take no time in tests. No test sees another's open circuits."""
    forget_shared()
    with use_clock(SkippingClock()) as clock:
        yield clock.slept


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A scripted server; a request without a rule fails the test."""
    with ScriptedServer() as running:
        yield running
