"""The folder that holds everything a run leaves behind, `.unified_agents/` of the working folder; and how runs are named."""

from __future__ import annotations

import os
import re
import secrets
from datetime import datetime, timezone
from pathlib import Path

from unified_agents.errors import BackendError

HOME_VARIABLE = "UNIFIED_AGENTS_HOME"


def state_place() -> Path:
    """Where the state folder is, which need not be there."""
    return Path(os.path.expanduser(os.environ.get(HOME_VARIABLE) or ".unified_agents")).absolute()


def state_folder() -> Path:
    """The state folder, made if need be: private to its owner, and ignoring itself for git. UNIFIED_AGENTS_HOME names another.

    Raises:
        BackendError: it cannot be made.
    """
    named = os.environ.get(HOME_VARIABLE) or ".unified_agents"
    try:
        folder = state_place()
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise BackendError(
            f"the state folder {named} cannot be made ({error.strerror}): set {HOME_VARIABLE} to a folder that can be written"
        ) from error
    return folder


def in_state_place(name: str) -> Path:
    """The file that `sqlite:///` and a name mean: a relative one lies in the state folder, ~ is the home folder."""
    return state_place() / os.path.expanduser(name)


_RUN_ID = re.compile(r"(?!\.+$)[A-Za-z0-9._-]{1,128}")  # a folder is called so: no name of dots alone


def new_run_id() -> str:
    """A run id that sorts by time."""
    return f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def is_run_id(text: str) -> bool:
    """Whether a run may be called so."""
    return _RUN_ID.fullmatch(text) is not None
