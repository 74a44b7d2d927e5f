"""Two texts side by side, with what differs marked word by word; and the requests of several backends."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rapidfuzz.distance import Indel

if TYPE_CHECKING:
    from unified_agents.chat_models import Message

_WORD = re.compile(r"\s+|\w+|[^\w\s]")
_MANY = 2_000
"""Words, or lines, that are compared one by one."""


@dataclass(frozen=True)
class Piece:
    """A stretch of one text; `differs`: the other text has it otherwise, or not at all."""

    text: str
    differs: bool


def side_by_side(one: str, other: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts in pieces; joined, they are the texts."""
    left: list[Piece] = []
    right: list[Piece] = []
    ours, theirs = one.splitlines(keepends=True), other.splitlines(keepends=True)
    for same, mine, its in _aligned(ours, theirs):
        if same or not mine or not its:
            left.append(Piece("".join(mine), not same))
            right.append(Piece("".join(its), not same))
            continue
        for equal, my_words, its_words in _aligned(_WORD.findall("".join(mine)), _WORD.findall("".join(its))):
            left.append(Piece("".join(my_words), not equal))
            right.append(Piece("".join(its_words), not equal))
    return _joined(left), _joined(right)


def _aligned(one: Sequence[str], other: Sequence[str]) -> Iterable[tuple[bool, Sequence[str], Sequence[str]]]:
    """Stretches that are the same in both, or not."""
    if max(len(one), len(other)) > _MANY:
        return [(one == other, one, other)]
    found = []
    for same, run in itertools.groupby(Indel.opcodes(one, other), key=lambda code: code.tag == "equal"):
        codes = list(run)
        first, last = codes[0], codes[-1]
        found.append((same, one[first.src_start : last.src_end], other[first.dest_start : last.dest_end]))
    return found


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Neighbours of one kind as one, nothing empty; a space between two words that differ belongs to them."""
    made: list[Piece] = []
    for index, piece in enumerate(pieces):
        between = not piece.differs and not piece.text.strip() and "\n" not in piece.text and 0 < index < len(pieces) - 1
        differs = piece.differs or (between and pieces[index - 1].differs and pieces[index + 1].differs)
        if made and made[-1].differs == differs:
            made[-1] = Piece(made[-1].text + piece.text, differs)
        elif piece.text:
            made.append(Piece(piece.text, differs))
    return made


def request_text(messages: Sequence[Message]) -> str:
    """A request as text: each message under its role."""
    return "\n\n".join(f"[{message['role']}]\n{message.get('content') or ''}" for message in messages)


class Prompts(Mapping[str, "Sequence[Message]"]):
    """The messages of one request by backend. As text they are a unified diff, each against the first; in a notebook they stand side by side."""

    def __init__(self, requests: Mapping[str, Sequence[Message]]) -> None:
        self._requests = dict(requests)

    def __getitem__(self, backend: str) -> Sequence[Message]:
        return self._requests[backend]

    def __iter__(self) -> Iterator[str]:
        return iter(self._requests)

    def __len__(self) -> int:
        return len(self._requests)

    def __str__(self) -> str:
        shown = {backend: request_text(messages).splitlines() for backend, messages in self.items()}
        names = list(shown)
        parts = ["\n".join(difflib.unified_diff(shown[names[0]], shown[name], names[0], name, lineterm="", n=2)) for name in names[1:]]
        return "\n\n".join(part or "the same" for part in parts)

    def __repr__(self) -> str:
        return f"Prompts({self._requests!r})"

    def _repr_html_(self) -> str:
        from unified_agents.report import prompts_beside

        return prompts_beside(self)
