"""Memory alone: what is kept, found, forgotten and shared, in a file and in memory, without any framework."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from unified_agents.errors import MemoryStoreError
from unified_agents.memory import AgentMemory, Item, open_store

WRITER = """
import sys
from unified_agents.memory import AgentMemory
memory = AgentMemory("sqlite:///" + sys.argv[1], team="shared", run=sys.argv[2])
for number in range(int(sys.argv[3])):
    memory.add_to_long_term(f"{sys.argv[2]}-{number}", f"text {number} of {sys.argv[2]} " + "x" * 200)
    print(number, flush=True)
"""


@pytest.fixture(params=["file", "memory"])
def memory(request: pytest.FixtureRequest, tmp_path: Path) -> AgentMemory:
    """A memory of each sort."""
    return AgentMemory(f"sqlite:///{tmp_path / 'm.db'}" if request.param == "file" else ":memory:", short_term=3, episodes=2, team="a")


def texts(items: Sequence[Item]) -> list[str]:
    """What the items say."""
    return [item.text for item in items]


def test_short_term_keeps_the_newest_of_its_run(memory: AgentMemory) -> None:
    """Three of five are left, newest first; another run's items are not counted and not seen."""
    other = AgentMemory(memory.store, short_term=3, team="a", run="other")
    other.add_to_short_term("of another run")
    for number in range(5):
        memory.add_to_short_term(f"note {number}", agent="ann")
    assert texts(memory.short_term()) == ["note 4", "note 3", "note 2"]
    assert memory.short_term()[0].agent == "ann"
    assert texts(other.short_term()) == ["of another run"]


def test_a_fact_has_a_history(memory: AgentMemory) -> None:
    """The newest text of a key counts and is found; the older one is kept with who said it, and is not found."""
    memory.add_to_long_term("low water", "6:12", agent="ann")
    memory.add_to_long_term("low water", "18:40", agent="bob")
    fact = memory.get("low water")
    assert fact is not None
    assert (fact.text, fact.agent, fact.key) == ("18:40", "bob", "low water")
    assert texts(memory.history("low water")) == ["18:40", "6:12"]
    assert texts(memory.recall("low water")) == ["18:40"]
    assert memory.get("high water") is None


def test_episodes_keep_the_newest_with_their_data(memory: AgentMemory) -> None:
    """Two of three are left, with what was stored beside them."""
    for number in range(3):
        memory.store_episode("research", f"outcome {number}", agent="ann", score=number)
    assert [(item.text, item.key, item.data) for item in memory.episodes()] == [
        ("outcome 2", "research", {"score": 2}),
        ("outcome 1", "research", {"score": 1}),
    ]
    assert memory.recall("outcome 0") == memory.recall("outcome")  # what was dropped is not in the index either


def test_what_fits_best_comes_first(memory: AgentMemory) -> None:
    """More of the words, and rarer ones, rank higher; case and accents make no difference; nothing fits: nothing comes."""
    memory.add_to_long_term("1", "Tides in the harbour")
    memory.add_to_long_term("2", "Tide tables of the HARBOUR at low water, café")
    memory.add_to_long_term("3", "Something else")
    assert texts(memory.recall("harbour low water"))[0] == "Tide tables of the HARBOUR at low water, café"
    assert texts(memory.recall("CAFE")) == ["Tide tables of the HARBOUR at low water, café"]
    assert memory.recall("zebra xylophone") == memory.recall("") == []
    assert len(memory.recall("harbour", limit=1)) == 1


@pytest.mark.parametrize(
    "query", ['"', "*", "NEAR(", "a AND", "--", "text:x", "'; DROP TABLE items; --", "OR OR", "space : nope", "\0", "\ud800", "(((", "^x"]
)
def test_a_query_is_text(memory: AgentMemory, query: str) -> None:
    """Whatever means something to SQL or FTS5 does nothing, and words beside it are found all the same."""
    memory.add_to_long_term("k", "harbour")
    memory.recall(query)
    assert texts(memory.recall(f"{query} harbour")) == ["harbour"]
    assert memory.get("k") is not None


def test_no_team_reads_another(memory: AgentMemory) -> None:
    """Neither by key nor by words, nor by a namespace that looks like a query; forgetting stays within the team."""
    other = AgentMemory(memory.store, team="b")
    other.add_to_long_term("k", "SECRET harbour")
    memory.add_to_long_term("k", "mine")
    assert memory.recall("SECRET harbour") == []
    assert [item.text for item in memory.history("k")] == ["mine"]
    assert memory.forget() == 1
    assert texts(other.recall("harbour")) == ["SECRET harbour"]
    with pytest.raises(ValueError, match="as a namespace"):
        AgentMemory(memory.store, team='b" OR space : "')


def test_forget(memory: AgentMemory) -> None:
    """A key with its history, one item, or everything; how many items that were, and none of them is found again."""
    memory.add_to_long_term("k", "one")
    memory.add_to_long_term("k", "two")
    note = memory.add_to_short_term("three")
    assert memory.forget("k") == 2
    assert memory.recall("one two") == []
    assert memory.forget(item=note.id) == 1
    assert memory.forget(item=note.id) == 0


def test_every_method_has_an_async_twin(memory: AgentMemory) -> None:
    """On any loop, beside each other."""

    async def together() -> list[str]:
        await asyncio.gather(*(memory.add_to_long_term_async(str(number), f"harbour {number}") for number in range(20)))
        return texts(await memory.recall_async("harbour", limit=50))

    assert sorted(asyncio.run(together())) == sorted(f"harbour {number}" for number in range(20))


def test_a_file_is_for_its_owner(tmp_path: Path) -> None:
    """0600, and its folder 0700, whatever the umask says; what was written is there for the next process."""
    path = tmp_path / "deep" / "m.db"
    AgentMemory(f"sqlite:///{path}").add_to_long_term("k", "kept")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    found = AgentMemory(f"sqlite:///{path}").get("k")
    assert found is not None
    assert found.text == "kept"


def test_many_processes_write_at_once(tmp_path: Path) -> None:
    """Four processes of a hundred writes each: all rows are there, none torn."""
    path = tmp_path / "m.db"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), f"p{n}", "100"], stdout=subprocess.DEVNULL) for n in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    memory = AgentMemory(f"sqlite:///{path}", team="shared")
    for n in range(4):
        for number in (0, 50, 99):
            found = memory.get(f"p{n}-{number}")
            assert found is not None
            assert found.text == f"text {number} of p{n} " + "x" * 200
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT COUNT(*) FROM items").fetchone() == (400,)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_killed_writer_loses_nothing_committed(tmp_path: Path) -> None:
    """Kill -9 in the middle of writing: everything that it had reported is there, and the next one writes on."""
    path = tmp_path / "m.db"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), "p", "100000"], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    reported = -1
    end = time.monotonic() + 20
    while reported < 50 and time.monotonic() < end:
        reported = int(writer.stdout.readline())
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait(10)
    memory = AgentMemory(f"sqlite:///{path}", team="shared")
    assert reported >= 50
    assert all(memory.get(f"p-{number}") is not None for number in range(reported + 1))
    memory.add_to_long_term("after", "fine")
    writer.stdout.close()


def test_a_store_that_fails_says_what_and_where(tmp_path: Path) -> None:
    """A file that is no database, one of a newer version, a folder that is a file: one kind of error with the path."""
    (tmp_path / "corrupt.db").write_bytes(b"no database at all, but long enough to be read as one" * 20)
    with sqlite3.connect(tmp_path / "newer.db") as db:
        db.execute("PRAGMA user_version = 99")
    (tmp_path / "file").write_text("x")
    for name, words in (("corrupt.db", "not a database"), ("newer.db", "newer version"), ("file/m.db", "File exists")):
        with pytest.raises(MemoryStoreError, match=words) as caught:
            AgentMemory(f"sqlite:///{tmp_path / name}").add_to_short_term("x")
        assert name in str(caught.value)


def test_a_store_is_named_by_a_url() -> None:
    """Anything else says what is expected; a relative file lies in the state folder."""
    for wrong in ("memory.db", "sqlite:///", "postgresql://x"):
        with pytest.raises(ValueError, match="expected sqlite:///FILE or :memory:"):
            open_store(wrong)
    AgentMemory("sqlite:///here.db").add_to_short_term("x")
    assert Path(".unified_agents/here.db").is_file()
