"""The terminal of the person who runs things: the console on stderr, and text that may be shown there."""

from __future__ import annotations

import re

from rich.console import Console

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def errors() -> Console:
    """The console on stderr."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def clean(text: str) -> str:
    """`text` without control characters but for line ends and tabs."""
    return _CONTROL.sub("", text)
