"""`backend` is every registered backend; gaps are marks with reasons, strict: a gap that closed fails until its mark is gone."""

from __future__ import annotations

import pytest

from unified_agents.registry import backends, names

GAPS = ("notimpl", "notyet", "never")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a backend; on xdist workers the tests of one backend stay together, since importing it is what costs."""
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in names()])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Turn a gap's mark into a strict xfail for the backends it names."""
    for item in items:
        backend = getattr(item, "callspec", None) and item.callspec.params.get("backend")  # type: ignore[attr-defined]
        for gap in GAPS:
            for mark in item.iter_markers(gap):
                if backend in mark.args:
                    item.add_marker(pytest.mark.xfail(strict=True, reason=f"{gap}: {mark.kwargs['reason']}"))


@pytest.fixture(autouse=True)
def _available(request: pytest.FixtureRequest) -> None:
    """A backend that is not installed fails its tests: a skip would hide it."""
    if "backend" in request.fixturenames:
        found = backends()[request.getfixturevalue("backend")]
        assert found.available, found.lacking
