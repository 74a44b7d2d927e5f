"""The pytest option of the conformance suite; pytest takes options from plugins only, so name it: `pytest -p unified_agents.testing.plugin`."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--backend NAME`: this backend alone; may be given more than once."""
    parser.addoption("--backend", action="append", default=[], help="run the conformance suite on this backend alone")
