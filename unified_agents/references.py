"""`module:name` in a team file: code from the file's own folder, or from packages that the caller allows; never chosen by the file."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unified_agents.errors import did_you_mean


class BadReferenceError(Exception):
    """A reference names nothing that may be used; the message says why."""


def resolve_reference(text: str, folder: Path, allowed: Sequence[str] = ()) -> Any:
    """What `module:name` names.

    Args:
        text: the reference; `name` is one attribute, nothing dotted.
        folder: where modules of the team's own lie.
        allowed: packages outside it that the caller allows.

    Raises:
        BadReferenceError: not allowed (then nothing was imported), not there, or its import failed.
    """
    module_name, _, name = text.partition(":")
    path = _file(folder, module_name)
    if path is None and not any(module_name == package or module_name.startswith(f"{package}.") for package in allowed):
        where = f"{folder} holds no {module_name.replace('.', '/')}.py, and {module_name.split('.')[0]!r} is not among the allowed packages"
        raise BadReferenceError(
            f"{where}: put it beside the team file, or allow it with --allow-import {module_name.split('.')[0]} (load_team(allow_imports=[…]))"
        )
    try:
        module = _load(path, folder, module_name) if path else importlib.import_module(module_name)
    except Exception as error:
        raise BadReferenceError(f"importing {module_name} failed: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise BadReferenceError(f"{module_name} has no {name!r}{did_you_mean(name, [n for n in vars(module) if not n.startswith('_')])}")
    return getattr(module, name)


def _file(folder: Path, module_name: str) -> Path | None:
    base = folder.joinpath(*module_name.split("."))
    for path in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
        if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            return path
    return None


def _load(path: Path, folder: Path, module_name: str) -> types.ModuleType:
    """Import a file under a name of its folder's own: two teams may each have a `my_tools`. A changed file is loaded anew."""
    stamp = hashlib.sha256(f"{path.resolve()}:{path.stat().st_mtime_ns}".encode()).hexdigest()[:12]
    unique = f"unified_agents_team_{stamp}_{module_name.replace('.', '_')}"
    if unique in sys.modules:
        return sys.modules[unique]
    spec = importlib.util.spec_from_file_location(unique, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[unique] = module  # pydantic and pickle look classes up by their module
    sys.path.insert(0, str(folder))  # so that the team's modules may import each other
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[unique]
        raise
    finally:
        sys.path.remove(str(folder))
    return module
