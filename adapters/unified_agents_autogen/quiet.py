"""Imports AutoGen without what it does on the side. Import this before anything of `autogen_core` or `autogen_agentchat`."""

from __future__ import annotations

import logging
import os

# The runtime's own spans carry whole messages and cost 0.3 ms a turn; read when a runtime is made.
os.environ.setdefault("AUTOGEN_DISABLE_RUNTIME_TRACING", "true")

# They log whole messages at INFO, and on failure to stderr; errors are kept and raised by the core.
for _name in ("autogen_core", "autogen_core.events", "autogen_agentchat", "autogen_agentchat.events"):
    logging.getLogger(_name).addHandler(logging.NullHandler())
    logging.getLogger(_name).propagate = False
