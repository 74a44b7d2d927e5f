"""`backend` is every registered backend; gaps are declared with reasons, strict: a gap that closed fails until its mark is gone."""

from __future__ import annotations

import pytest

from unified_agents.registry import backends, names
from unified_agents.testing.fixtures import clean_environment, server, waits  # noqa: F401  # pytest finds fixtures by name

GAPS = {
    "notimpl": "we could build it for these backends, not yet",
    "notyet": "the framework must change first",
    "never": "it cannot be had on these backends",
}


def pytest_configure(config: pytest.Config) -> None:
    """Say what the marks mean."""
    for name, meaning in GAPS.items():
        config.addinivalue_line("markers", f"{name}(*backends, reason): {meaning}")
    config.addinivalue_line("markers", "needs(capability): for backends that declare it; the others must fail")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a backend; with pytest-xdist the tests of one backend stay together, since importing it is what costs."""
    if "backend" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--backend", default=[]) or names()
        metafunc.parametrize("backend", [pytest.param(name, marks=_group(metafunc.config, name)) for name in chosen])


def _group(config: pytest.Config, name: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.xdist_group(name)] if config.pluginmanager.hasplugin("xdist") else []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Turn a gap into a strict xfail for the backends that have it."""
    for item in items:
        backend = item.callspec.params.get("backend") if hasattr(item, "callspec") else None
        for reason in _gaps(item, backend) if backend else ():
            item.add_marker(pytest.mark.xfail(strict=True, reason=reason))


def _gaps(item: pytest.Item, backend: str) -> list[str]:
    named = [f"{gap}: {mark.kwargs['reason']}" for gap in GAPS for mark in item.iter_markers(gap) if backend in mark.args]
    found = backends()
    capabilities = found[backend].adapter.capabilities if backend in found else {}
    return named + [f"{backend} declares no {mark.args[0]}" for mark in item.iter_markers("needs") if not capabilities.get(mark.args[0])]


@pytest.fixture(autouse=True)
def _available(request: pytest.FixtureRequest) -> None:
    """A backend that is unknown or not installed fails its tests: a skip would hide it."""
    if "backend" in request.fixturenames:
        name = request.getfixturevalue("backend")
        found = backends()
        assert name in found, f"no backend {name!r} is registered: {', '.join(found)}"
        assert found[name].available, found[name].lacking
