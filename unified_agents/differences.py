"""Two texts side by side, with what differs marked word by word."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_WORD = re.compile(r"\s+|\w+|[^\w\s]")
_MANY = 2_000
"""Words, or lines, that are compared one by one: the time grows with their square."""


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
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
    return [(tag == "equal", one[i:j], other[k:m]) for tag, i, j, k, m in matcher.get_opcodes()]


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
