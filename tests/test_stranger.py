"""An adapter of somebody else's, installed as its own distribution: found, and passing the suite, without a change to the core."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = [
    "-m",
    "pytest",
    "-p",
    "unified_agents.testing.plugin",
    "--pyargs",
    "unified_agents.testing.conformance",
    "--backend",
    "plain_loop",
    "-q",
]
STRANGER = Path(__file__).parent / "stranger"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process in which the stranger's distribution is installed."""
    place = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "plain_loop_adapter.py"):
        (source / name).write_text((STRANGER / name).read_text())
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--target",
        str(place),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return {**os.environ, "PYTHONPATH": str(place)}


def python(installed: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the stranger's distribution installed."""
    return subprocess.run([sys.executable, *arguments], env=installed, capture_output=True, text=True, check=False)


@pytest.mark.xdist_group("stranger")
def test_it_is_listed(installed: dict[str, str]) -> None:
    """`unified-agents backends` shows it as available; without the distribution it is unknown."""
    assert '"name": "plain_loop"' in python(installed, "-m", "unified_agents", "backends", "--json").stdout
    assert "plain_loop" not in python({**os.environ}, "-m", "unified_agents", "backends", "--json").stdout


@pytest.mark.timeout(900)
@pytest.mark.xdist_group("stranger")
def test_it_passes_the_conformance_suite(installed: dict[str, str], tmp_path: Path) -> None:
    """The command of the documentation, in a process of its own: no test fails, and hundreds ran on it; all of it in `make test-long`."""
    shorter = (
        []
        if os.environ.get("UNIFIED_AGENTS_LONG")
        else [
            "-k",
            "not test_resume and not test_teamwork and not token_window and not test_compare and not test_budget and not test_robust"
            " and not test_tracing and not test_memory and not test_answers",
        ]
    )
    done = python(installed, *SUITE, f"--rootdir={tmp_path}", *shorter)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert int(done.stdout.splitlines()[-1].split(" passed")[0].split()[-1]) > 200


@pytest.mark.xdist_group("stranger")
def test_a_backend_that_ignores_a_feature_fails_the_suite(installed: dict[str, str], tmp_path: Path) -> None:
    """The negative control: the same adapter, without the context in its prompts, fails the tests of `context`."""
    place = Path(installed["PYTHONPATH"]) / "plain_loop_adapter.py"
    good = place.read_text()
    place.write_text(good.replace("conversation.task_text", "step.task.description"))
    try:
        done = python(installed, *SUITE, f"--rootdir={tmp_path}", "-k", "exactly_its_context", "--tb=native")
    finally:
        place.write_text(good)
    assert done.returncode == 1
    assert "test_a_task_sees_exactly_its_context" in done.stdout
