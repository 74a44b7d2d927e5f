"""The quiet import comes first, whatever a tool does to the order of imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent / "adapters"
FILES = [path for path in sorted(ROOT.glob("*/*.py")) if path.name in ("team.py", "model.py")]
FRAMEWORKS = ("crewai", "autogen")


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_quiet_module_is_imported_before_the_framework(path: Path) -> None:
    """Importing a framework directly, it would do what `quiet.py` keeps it from."""
    order = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            order += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            order += [f"{node.module}.{alias.name}" for alias in node.names]
    quiet = next(index for index, name in enumerate(order) if name.endswith(".quiet"))
    framework = next(index for index, name in enumerate(order) if name.startswith(FRAMEWORKS))
    assert quiet < framework
