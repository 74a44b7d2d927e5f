"""The cut of the code, tested rather than promised."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import unified_agents
from unified_agents.adapter import Adapter
from unified_agents.fidelity import CORE
from unified_agents.registry import GROUP, backends
from unified_agents.spec import TeamSpec

tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")  # pytest brings tomli where it is needed
ROOT = Path(__file__).parent.parent
FRAMEWORKS = {"crewai", "crewai_core", "autogen_agentchat", "autogen_core", "autogen_ext", "autogen"}
CORE_FILES = sorted((ROOT / "unified_agents").rglob("*.py"))
ADAPTER_FOLDERS = sorted(
    path for path in (ROOT / "adapters").iterdir() if path.name.startswith("unified_agents_") and (path / "adapter.py").exists()
)
SOURCES = [*CORE_FILES, *(path for folder in ADAPTER_FOLDERS for path in sorted(folder.rglob("*.py")))]


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def top(names: Iterator[str]) -> set[str]:
    """The top-level packages of some modules."""
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", CORE_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_imports_no_framework_and_no_adapter(path: Path) -> None:
    """No file of the core imports a framework or an adapter."""
    found = top(imports(path))
    assert not found & FRAMEWORKS
    assert not {name for name in found if name.startswith("unified_agents_")}


def test_the_test_above_can_fail() -> None:
    """The negative control: the adapters do import their frameworks, in more than one file each."""
    for folder in ADAPTER_FOLDERS:
        assert sum(bool(top(imports(path)) & FRAMEWORKS) for path in folder.glob("*.py")) >= 2


@pytest.mark.parametrize("folder", ADAPTER_FOLDERS, ids=lambda path: path.name)
def test_an_adapter_is_cut_like_the_others(folder: Path) -> None:
    """The same file names in each; adapter.py imports no framework, and no adapter imports another or a private name of the core."""
    names = {path.name for path in folder.glob("*.py")}
    assert {"adapter.py", "team.py", "model.py", "tools.py", "quiet.py", "__init__.py"} <= names
    assert not top(imports(folder / "adapter.py")) & FRAMEWORKS
    for path in folder.glob("*.py"):
        assert not {name for name in top(imports(path)) if name.startswith("unified_agents_")} - {folder.name}
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unified_agents."):
                assert not [alias.name for alias in node.names if alias.name.startswith("_")]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_code_is_made_of_data(path: Path) -> None:
    """No pickle, marshal, eval, exec or unsafe YAML anywhere."""
    tree = ast.parse(path.read_text())
    assert not top(imports(path)) & {"pickle", "marshal", "shelve", "dill"}
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & {"eval", "exec", "compile", "__import__"}
    loads = {
        f"{node.func.value.id}.{node.func.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)
    }
    assert not loads & {"yaml.load", "yaml.full_load", "yaml.unsafe_load"}


def test_public_names_are_sorted_exact_and_loadable() -> None:
    """`__all__` is sorted, complete, and each name is there with a docstring."""
    assert unified_agents.__all__ == sorted(unified_agents.__all__)
    assert set(unified_agents.__all__) == {*unified_agents._HOME, "__version__"}
    for name in unified_agents.__all__:
        assert getattr(unified_agents, name) is not None
        assert name == "__version__" or getattr(unified_agents, name).__doc__
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = unified_agents.no_such_name


def test_entry_points_load() -> None:
    """Our backends come through the same door as a stranger's."""
    found = {entry.name: entry.load() for entry in entry_points(group=GROUP)}
    assert {"autogen", "crewai"} <= set(found)
    assert all(isinstance(adapter, Adapter) and adapter.name == name for name, adapter in found.items())


def test_version_ranges_stand_once() -> None:
    """An extra in pyproject.toml holds the versions that its adapter declares."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for backend in backends().values():
        match = re.fullmatch(r"unified-agents\[(.+)\]", backend.adapter.extra)
        assert match
        declared = {f"{name}{wanted}" for name, wanted in backend.adapter.requirements.items()}
        assert declared <= set(extras[match.group(1)])


def test_every_field_of_the_format_has_a_fidelity_row() -> None:
    """A field that the table does not know would be accepted and ignored."""
    assert not [pattern for pattern in patterns(TeamSpec, "") if not known(pattern)]


def known(pattern: str) -> bool:
    """Whether a field, or a section it belongs to, stands in the table; names of entries are the section's own."""
    parts = pattern.split(".")
    return any(".".join(parts[: n + 1]) in CORE for n in range(len(parts)))


def patterns(model: type, prefix: str) -> Iterator[str]:
    """Every field of the file format, `*` for names."""
    from unified_agents.loader import _inner, _leaves

    for name, field in model.model_fields.items():  # type: ignore[attr-defined]
        pattern = f"{prefix}{field.alias or name}"
        inner = [leaf for leaf in _leaves(field.annotation) if isinstance(leaf, type) and hasattr(leaf, "model_fields")]
        entry = _inner(field.annotation, "*")
        if isinstance(entry, type) and hasattr(entry, "model_fields"):
            yield from patterns(entry, f"{pattern}.*.")
        elif inner and f"{pattern}" not in CORE:
            yield from patterns(inner[0], f"{pattern}.")
        else:
            yield pattern if not str(field.annotation).startswith("dict[") or pattern in CORE else f"{pattern}.*"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_public_name_is_described(path: Path) -> None:
    """Every module, and every public class and function at its top, has a docstring."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module"
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


def test_modules_import() -> None:
    """Every module of the core can be imported on its own terms (the embedded model's runtime is imported when it is used)."""
    for path in CORE_FILES:
        if path.name != "__main__.py":
            importlib.import_module(str(path.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__"))
