"""What all tests share: a clean environment, a private working folder, and a scripted server."""

from unified_agents.testing.fixtures import clean_environment, server  # noqa: F401  # pytest finds fixtures by name
