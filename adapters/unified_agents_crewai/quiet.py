"""Imports CrewAI without what its import does on the side. Import this before anything of `crewai`.

Unhindered it reads `.env` into the process, replaces `warnings.warn`, writes a key file into the home folder, and starts telemetry
that holds the exit for ten seconds when it finds no network. Private names are used here and nowhere else; `tests/unit` pins them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from unified_agents.state import state_folder

_SETTINGS = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "CREWAI_TESTING": "true",  # no prompt on a terminal, no listener for first-time traces
    "CREWAI_DISABLE_VERSION_CHECK": "true",
}

_LOGIN_FOLDER = "_get_secure_storage_path"


@contextlib.contextmanager
def _quiet_import(storage: Path) -> Iterator[None]:
    from crewai_core.token_manager import TokenManager

    original_warn, original_dotenv, original_path = (
        warnings.warn,
        os.environ.get("PYTHON_DOTENV_DISABLED"),
        TokenManager._get_secure_storage_path,
    )
    os.environ["PYTHON_DOTENV_DISABLED"] = "1"

    def inside_state_folder() -> Path:
        storage.mkdir(parents=True, exist_ok=True)
        return storage

    setattr(TokenManager, _LOGIN_FOLDER, staticmethod(inside_state_folder))  # the import looks for a login, and makes a key to do so
    try:
        yield
    finally:
        warnings.warn = original_warn
        setattr(TokenManager, _LOGIN_FOLDER, staticmethod(original_path))
        if original_dotenv is None:
            del os.environ["PYTHON_DOTENV_DISABLED"]
        else:
            os.environ["PYTHON_DOTENV_DISABLED"] = original_dotenv


def _import() -> None:
    storage = state_folder() / "crewai"
    os.environ.update({name: os.environ.get(name, value) for name, value in _SETTINGS.items()})
    os.environ.setdefault("CREWAI_STORAGE_DIR", str(storage))
    with _quiet_import(storage), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import warns of its own dependencies, which is nobody's business here
        import crewai  # noqa: F401
    logging.getLogger("crewai").addHandler(logging.NullHandler())
    logging.getLogger("crewai").propagate = False


_import()

from crewai.events.event_context import EventContextConfig, MismatchBehavior, _event_context_config  # noqa: E402  # after the quiet import


@contextlib.contextmanager
def silent_events() -> Iterator[None]:
    """Keep the event bus from printing about its own scopes."""
    variable: ContextVar[object] = _event_context_config
    token = variable.set(EventContextConfig(mismatch_behavior=MismatchBehavior.SILENT, empty_pop_behavior=MismatchBehavior.SILENT))
    try:
        yield
    finally:
        variable.reset(token)


def _made_once() -> None:
    """Make ahead what CrewAI makes at first use, by tasks on several threads at once: they would walk a class while one of them changes it.

    The class of the executors' state, made anew for each, takes a fifth of a task, too.
    """
    from crewai.agents.agent_executor import AgentExecutor, AgentExecutorState
    from crewai.events.types.agent_events import AgentExecutionCompletedEvent, AgentExecutionErrorEvent, AgentExecutionStartedEvent
    from crewai.flow.runtime import FlowState

    class ExecutorState(FlowState, AgentExecutorState):
        """What CrewAI's own `StateWithId` is, made once."""

    AgentExecutor._initial_state_t = ExecutorState
    AgentExecutor.flow_definition()
    for event in (AgentExecutionStartedEvent, AgentExecutionCompletedEvent, AgentExecutionErrorEvent):
        event.model_rebuild()


_made_once()
