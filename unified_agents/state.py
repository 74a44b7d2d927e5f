"""The folder that holds everything a run leaves behind: `.unified_agents/` of the working folder."""

from __future__ import annotations

import os
from pathlib import Path

HOME_VARIABLE = "UNIFIED_AGENTS_HOME"


def state_folder() -> Path:
    """The state folder, made if need be: private to its owner, and ignoring itself for git. UNIFIED_AGENTS_HOME names another."""
    folder = Path(os.environ.get(HOME_VARIABLE) or ".unified_agents").absolute()
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")
    return folder
