"""Pytest fixtures: recorded answers, a scripted server, and an environment in which nothing of the machine reaches a test.

Take what you want into a conftest.py: `from unified_agents.testing.fixtures import answers  # noqa: F401`. `clean_environment` and `waits` are in force for
every test once they are there.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from unified_agents.chat_models.providers import PROVIDERS
from unified_agents.clock import SkippingClock, use_clock
from unified_agents.engine import forget_shared
from unified_agents.state import HOME_VARIABLE
from unified_agents.testing import ScriptedServer

RECORD_VARIABLE = "UNIFIED_AGENTS_RECORD"
_USED = pytest.StashKey[dict[Path, str]]()


@pytest.fixture
def answers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Path]]:
    """What makes a run answer from the test's own recording: `run_team("team.yaml", **answers)`, or `compare_backends`.

    The recording is `answers/NAME-OF-THE-TEST.json` beside the test. With UNIFIED_AGENTS_RECORD=1 the models are asked, and it is made anew. What a run leaves
    behind stays in the test's temporary folder.
    """
    path = _recording_of(request)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / ".unified_agents"))
    if not _recording():
        if not path.is_file():
            again = f"{RECORD_VARIABLE}=1 pytest {shlex.quote(request.node.nodeid)}"
            pytest.fail(f"{path} is not there. Record it once, with a model and its key: {again}", pytrace=False)
        yield {"replay": path}
        return
    before = path.read_bytes() if path.is_file() else None
    path.unlink(missing_ok=True)  # no answer stays that no run asks for any more
    yield {"record": path}
    if before is not None and not path.exists():
        path.write_bytes(before)  # no run got as far as asking


def _recording() -> bool:
    return os.environ.get(RECORD_VARIABLE, "") not in ("", "0")


def _recording_of(request: pytest.FixtureRequest) -> Path:
    """The file of a test's recording; two tests that would share one are told apart by nobody, so that is a failure."""
    names = [request.cls.__name__] if request.cls is not None else []
    name = ".".join([*names, re.sub(r"[^\w.-]+", "_", request.node.name).strip("_")])
    path = request.path.parent / "answers" / f"{name}.json"
    used = request.config.stash.setdefault(_USED, {})
    other = used.setdefault(path, request.node.nodeid)
    if other != request.node.nodeid:
        pytest.fail(f"{other} and {request.node.nodeid} would both be recorded in {path}: give one of them another name", pytrace=False)
    return path


@pytest.fixture(autouse=True)
def clean_environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key, backend or address of the machine reaches a test, and what a run leaves behind stays in its folder. A test that is recorded keeps its keys."""
    if not _asks_models(request):
        for provider in PROVIDERS.values():
            for name in (provider.key_variable, provider.url_variable):
                if name:
                    monkeypatch.delenv(name, raising=False)
        for name in ("OPENAI_MODEL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
    for name in ("UNIFIED_AGENTS_BACKEND", HOME_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def waits(request: pytest.FixtureRequest) -> Iterator[list[float]]:
    """The seconds that layers waited: they take no time in tests, unless real models are asked. No test sees another's open circuits."""
    forget_shared()
    if _asks_models(request):
        yield []
        return
    with use_clock(SkippingClock()) as clock:
        yield clock.slept


def _asks_models(request: pytest.FixtureRequest) -> bool:
    """Whether the test's answers are being recorded."""
    return _recording() and "answers" in request.fixturenames


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A scripted server; a request without a rule fails the test."""
    with ScriptedServer() as running:
        yield running
