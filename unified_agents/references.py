"""`module:name` in a team file: code from the file's own folder, or from packages that the caller allows; never chosen by the file."""

from __future__ import annotations

import builtins
import functools
import hashlib
import importlib
import importlib.abc
import importlib.util
import itertools
import sys
import threading
import traceback
import types
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from typing import Any

from unified_agents.errors import did_you_mean

_PREFIX = "unified_agents_team_"


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
    if not name.isidentifier() or not all(part.isidentifier() for part in module_name.split(".")):
        raise BadReferenceError(f"found {text!r}, expected MODULE:NAME, where NAME is one name without dots")
    folder = folder.resolve()
    path = _file(folder, module_name)
    if path is None and not any(module_name == package or module_name.startswith(f"{package}.") for package in allowed):
        raise BadReferenceError(_refusal(folder, module_name))
    try:
        if path is None:
            _quieten(module_name)
        module = _team_of(folder).load(module_name) if path else importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise BadReferenceError(f"importing {module_name} failed: {type(error).__name__}: {error}{_place(error, folder)}") from error
    if not hasattr(module, name):
        raise BadReferenceError(f"{module_name} has no {name!r}{did_you_mean(name, [n for n in vars(module) if not n.startswith('_')])}")
    return getattr(module, name)


def _refusal(folder: Path, module_name: str) -> str:
    file, top = f"{module_name.replace('.', '/')}.py", module_name.split(".")[0]
    why = "leads outside this folder" if (folder / file).is_file() else None
    where = f"{folder / file} {why}" if why else f"{folder} holds no {file}"
    return (
        f"{where}, and {top!r} is not among the allowed packages: put it beside the team file, or allow it with --allow-import {top} "
        "(load_team(allow_imports=[…]))"
    )


def _place(error: BaseException, folder: Path) -> str:
    """Where in the team's own files an import failed; a SyntaxError says it itself."""
    if isinstance(error, SyntaxError):
        return ""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(folder)]
    return f" ({Path(frames[-1].filename).relative_to(folder)}, line {frames[-1].lineno})" if frames else ""


def _file(folder: Path, module_name: str) -> Path | None:
    """The file of a module that lies in the folder, links followed; a package goes before a module, as in Python."""
    base = folder.joinpath(*module_name.split("."))
    for path in (base / "__init__.py", base.with_name(f"{base.name}.py")):
        if path.is_file() and path.resolve().is_relative_to(folder):
            return path
    return None


class _Team:
    """The modules of one folder, under a package of their own: two folders may each have a `my_tools`, and neither gets into the other's way.

    Their imports of one another, however late, are answered from the folder; those of everybody else never are.
    """

    def __init__(self, folder: Path) -> None:
        digest = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
        self.package = types.ModuleType(f"{_PREFIX}{digest}_{next(_numbers)}", f"The code of a team in {folder}.")
        self.package.__path__ = [str(folder)]
        self.folder = folder
        self.stamps: dict[str, tuple[int, int]] = {}
        self.builtins: Mapping[str, Any] = {**vars(builtins), "__import__": self._import}
        sys.modules[self.package.__name__] = self.package

    def load(self, module_name: str) -> types.ModuleType:
        return importlib.import_module(f"{self.package.__name__}.{module_name}")

    @property
    def current(self) -> bool:
        """Whether all files that were loaded are still as they were."""
        return all(_stamp(path) == stamp for path, stamp in self.stamps.items())

    def _import(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] = (), level: int = 0  # noqa: A002
    ) -> Any:  # fmt: skip
        """In place of `__import__`, in the team's own modules only."""
        if level or not self._holds(name.partition(".")[0]):
            if not level:
                _quieten(name)
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        if fromlist:
            return builtins.__import__(f"{self.package.__name__}.{name}", globals, locals, fromlist, 0)
        self.load(name)
        return sys.modules[f"{self.package.__name__}.{name.partition('.')[0]}"]

    def _holds(self, top: str) -> bool:
        """Whether a module lies in the folder; one that the process itself imported from there stays the one it is."""
        file = next((path for path in (self.folder / top / "__init__.py", self.folder / f"{top}.py") if path.is_file()), None)
        known = getattr(sys.modules.get(top), "__file__", None)
        return file is not None and (known is None or Path(known).resolve() != file.resolve())


class _Loader(SourceFileLoader):
    """Runs a team's file as it is now: bytecode of a file that changed within a second would be taken for current."""

    def get_code(self, fullname: str) -> types.CodeType:
        path = self.get_filename(fullname)
        code: types.CodeType = self.source_to_code(self.get_data(path), path)
        return code

    def exec_module(self, module: types.ModuleType) -> None:
        team = _packages[module.__name__.partition(".")[0]]
        team.stamps[self.path] = _stamp(self.path)
        module.__dict__["__builtins__"] = team.builtins
        super().exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of teams; looks at the disk each time, since Python's own finder remembers folders."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None) -> ModuleSpec | None:  # noqa: ARG002
        if not fullname.startswith(_PREFIX):
            return None
        for entry in path or ():
            base = Path(entry) / fullname.rpartition(".")[2]
            for file, inside in ((base / "__init__.py", [str(base)]), (base.with_name(f"{base.name}.py"), None)):
                if file.is_file():
                    loader = _Loader(fullname, str(file))
                    return importlib.util.spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=inside)
        return None


def _quieten(module_name: str) -> None:
    """Let a framework's adapter import it first, without what the import does on the side, when a team's code is the first to want it."""
    top = module_name.partition(".")[0]
    if top not in sys.modules and (guard := _guards().get(top.removesuffix("_tools"))):
        importlib.import_module(guard)


@functools.cache
def _guards() -> dict[str, str]:
    """By a framework's import name the adapter's module `quiet`."""
    from unified_agents.registry import backends  # it reads what is installed

    found: dict[str, str] = {}
    for backend in backends().values():
        module = f"{type(backend.adapter).__module__.rpartition('.')[0]}.quiet"
        if backend.available and importlib.util.find_spec(module):
            found |= {name.replace("-", "_"): module for name in backend.adapter.requirements}
    return found


_numbers = itertools.count(1)
_teams: dict[Path, _Team] = {}
_packages: dict[str, _Team] = {}
_lock = threading.Lock()
sys.meta_path.insert(0, _Finder())


def _team_of(folder: Path) -> _Team:
    """The team of a folder; a new one when one of its files changed since, so that all of them are loaded anew."""
    with _lock:
        team = _teams.get(folder)
        if team is None or not team.current:
            team = _teams[folder] = _Team(folder)
            _packages[team.package.__name__] = team
        return team


def _stamp(path: str) -> tuple[int, int]:
    try:
        status = Path(path).stat()
    except OSError:
        return (0, 0)
    return status.st_mtime_ns, status.st_size
