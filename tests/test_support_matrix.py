"""docs/support-matrix.md is made from the tables that runs go by; the conformance suite shows each of its cells."""

from __future__ import annotations

from pathlib import Path

from unified_agents.fidelity import support_matrix
from unified_agents.registry import backends


def test_the_matrix_in_the_docs_is_the_tables() -> None:
    """It is what `make docs` would write, with no empty cell."""
    ours = [found.adapter for name, found in sorted(backends().items()) if found.adapter.extra.startswith("unified-agents[")]
    told = (Path(__file__).parent.parent / "docs" / "support-matrix.md").read_text()
    assert told == support_matrix(ours)
    assert "|  |" not in told
