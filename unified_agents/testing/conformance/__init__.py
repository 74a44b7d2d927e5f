"""The conformance suite: what every backend promises, shown on the real framework against a scripted server.

It runs over every registered backend, so an adapter of your own is under test as soon as it is installed::

    pytest -p unified_agents.testing.plugin --pyargs unified_agents.testing.conformance --backend my_backend

`docs/writing-an-adapter.md` says how gaps are declared.
"""
