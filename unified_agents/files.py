"""Files that are written whole or not at all: into a new one in the same folder, which then takes their place."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text as UTF-8; what UTF-8 has no bytes for becomes a question mark. A link at `path` is replaced, not followed.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    with beside(path) as made:
        made.write_bytes(text.encode("utf-8", "replace"))
        os.replace(made, path)


@contextlib.contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A new, empty file in the folder of `path`, with the rights that a new file gets; it is gone afterwards.

    Raises:
        OSError: it cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.parent / f".{path.name[:200]}.{uuid.uuid4().hex[:8]}"
    try:
        made.touch(exist_ok=False)
        yield made
    finally:
        made.unlink(missing_ok=True)
