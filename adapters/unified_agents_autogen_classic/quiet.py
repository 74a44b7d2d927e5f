"""Imports classic AutoGen without what it does on the side. Import this before anything of `autogen`.

Unhindered two of its loggers write to stdout: a line for every agent with a model client of its own. Whole conversations are printed there too.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

_PRINTING = ("autogen.oai.client", "autogen.oai.cohere")


def _import() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses what jsonschema deprecates
        import autogen  # noqa: F401
    for name in _PRINTING:
        logger = logging.getLogger(name)
        for handler in [handler for handler in logger.handlers if type(handler) is logging.StreamHandler]:
            logger.removeHandler(handler)
    logging.getLogger("autogen").addHandler(logging.NullHandler())
    logging.getLogger("autogen").propagate = False


_import()

from autogen.io import IOStream  # noqa: E402  # after the quiet import


class Silence(IOStream):
    """In place of the console: prints nothing, and has nobody to ask."""

    def print(self, *objects: Any, **_options: Any) -> None:
        """Nothing."""

    def send(self, message: Any) -> None:
        """Nothing."""

    def input(self, prompt: str = "", *, password: bool = False) -> str:
        """Refused: stdin is read only for the reviewer.

        Raises:
            EOFError: always.
        """
        raise EOFError("a compiled team does not read from the terminal")


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Print nothing of a chat on the console; a stream that the caller set goes on receiving its events."""
    current = IOStream.get_default()
    with IOStream.set_default(Silence() if current is IOStream.get_global_default() else current):
        yield
