"""Which backends there are: registered through entry points, available when their framework is installed in a tested version."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version

from packaging.specifiers import SpecifierSet

from unified_agents.adapter import Adapter
from unified_agents.errors import BackendUnavailableError, did_you_mean

Installation = tuple[tuple[str, int], ...]
GROUP = "unified_agents.adapters"


@dataclass(frozen=True)
class Backend:
    """A registered backend. `lacking` says what keeps it from running, None when nothing does."""

    adapter: Adapter
    framework_version: str | None
    lacking: str | None

    @property
    def name(self) -> str:
        """The backend's name."""
        return self.adapter.name

    @property
    def available(self) -> bool:
        """Whether it can run here."""
        return self.lacking is None

    @property
    def supported(self) -> str:
        """The tested versions of the framework."""
        return _supported(self.adapter)

    @property
    def install(self) -> str:
        """What to type to get it."""
        return install_command(self.adapter)


def backends() -> dict[str, Backend]:
    """Every registered backend by name, available or not."""
    return {entry.name: _backend(_load(entry)) for entry in sorted(_entries(), key=lambda e: e.name)}


def names() -> list[str]:
    """The names of all registered backends, without loading any."""
    return sorted({entry.name for entry in _entries()})


def registered(name: str) -> Backend:
    """A registered backend, available or not.

    Raises:
        BackendUnavailableError: unknown.
    """
    entry = next((entry for entry in _entries() if entry.name == name), None)
    if entry is None:
        raise BackendUnavailableError(
            f"unknown backend {name!r}{did_you_mean(name, names())}; registered: {', '.join(names())}. See: unified-agents backends"
        )
    return _backend(_load(entry))


def get_backend(name: str) -> Backend:
    """A backend that can run.

    Raises:
        BackendUnavailableError: unknown, not installed, or of a version that was never tested; the message says what to type.
    """
    backend = registered(name)
    if backend.lacking:
        raise BackendUnavailableError(f"backend {name!r} cannot run: {backend.lacking}. Install it with: {backend.install}")
    return backend


def default_backend() -> Backend:
    """The available backend with the lowest rank.

    Raises:
        BackendUnavailableError: none is installed.
    """
    ranked = sorted((b for b in backends().values() if b.adapter.rank is not None), key=lambda b: b.adapter.rank or 0)
    for backend in ranked:
        if backend.available:
            return backend
    choices = " or ".join(b.install for b in ranked)
    raise BackendUnavailableError(f"no backend is installed. Install one with: {choices}")


def install_command(adapter: Adapter) -> str:
    """The pip command that brings the adapter's framework."""
    return f"pip install '{adapter.extra}'"


def _entries() -> list[EntryPoint]:
    return _entries_of(_installation())


@lru_cache(maxsize=1)
def _entries_of(_place: Installation) -> list[EntryPoint]:
    return list(entry_points(group=GROUP))


def _installation() -> Installation:
    """What tells one set of installed distributions from another: reading all their metadata takes longer than the rest of a small run."""
    return tuple((folder, os.stat(folder).st_mtime_ns if os.path.exists(folder) else 0) for folder in sys.path if folder)


@cache
def _load(entry: EntryPoint) -> Adapter:
    try:
        adapter = entry.load()
    except Exception as error:
        raise BackendUnavailableError(
            f"backend {entry.name!r} is registered as {entry.value!r}, which cannot be loaded: {error}"
        ) from error
    if not isinstance(adapter, Adapter):
        raise BackendUnavailableError(f"backend {entry.name!r} is registered as {entry.value!r}, which is no unified_agents Adapter")
    return adapter


def _backend(adapter: Adapter) -> Backend:
    framework = next(iter(adapter.requirements))
    return Backend(adapter, _installed(framework), _lacking(adapter))


def _lacking(adapter: Adapter) -> str | None:
    for distribution, wanted in adapter.requirements.items():
        found = _installed(distribution)
        if found is None:
            return f"{distribution} is not installed"
        if not SpecifierSet(wanted).contains(found, prereleases=True):
            return f"{distribution} {found} is installed, and {wanted} is what was tested"
    return None


def _supported(adapter: Adapter) -> str:
    return ", ".join(f"{name}{wanted}" for name, wanted in adapter.requirements.items())


def _installed(distribution: str) -> str | None:
    return _version_of(distribution, _installation())


@lru_cache(maxsize=64)
def _version_of(distribution: str, _place: Installation) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
