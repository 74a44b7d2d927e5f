"""The shared suite's fixtures and options, for the tests that know how each framework's own objects are run."""

from unified_agents.testing.conformance.conftest import (  # noqa: F401  # pytest finds hooks and fixtures by name
    _available,
    pytest_collection_modifyitems,
    pytest_generate_tests,
)
