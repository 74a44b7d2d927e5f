"""Memory alone: what is kept, found, forgotten and shared, in a file and in memory, without any framework."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

import pytest

from unified_agents.errors import MemoryStoreError
from unified_agents.memory import AgentMemory, Item, namespace, open_store, schema, words
from unified_agents.memory.sqlite import SQLiteStore
from unified_agents.memory.team import _within
from unified_agents.tokens import family

# The tables as version 1 made them.
FIRST_SCHEMA = """
CREATE TABLE items (
  id INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, kind TEXT NOT NULL, key TEXT, text TEXT NOT NULL, agent TEXT, run TEXT,
  created_at TEXT NOT NULL, data TEXT NOT NULL, current INTEGER NOT NULL DEFAULT 1
);
CREATE INDEX by_kind ON items (namespace, kind, key, id);
CREATE VIRTUAL TABLE words USING fts5 (space, text, key, tokenize = 'unicode61 remove_diacritics 2');
CREATE VIRTUAL TABLE vocabulary USING fts5vocab (words, 'row');
PRAGMA user_version = 1;
"""

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


def url(path: Path) -> str:
    """A file as a store."""
    return f"sqlite:///{path}"


def sound(path: Path) -> bool:
    """Whether SQLite finds nothing wrong with a file and its index."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO words (words) VALUES ('integrity-check')")
        return bool(db.execute("PRAGMA integrity_check").fetchone() == ("ok",))


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
    "query",
    [
        '"', "*", "NEAR(", "a AND", "--", "text:x", "'; DROP TABLE items; --", "OR OR", "space : nope", "\0", "\ud800", "(((", "^x",
        '"harbour" NOT', "harb*", "{text} :", "+", "NEAR(x y, 3)", "words MATCH", "%", "a" * 10_000, "x " * 1000, "1x", "\u202e", "日本語", "🦀",
    ],
)  # fmt: skip
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
    assert memory.recall("one two") == memory.history("k") == []
    assert memory.forget(item=note.id) == 1
    assert memory.forget(item=note.id) == memory.forget(item=10**30) == 0
    memory.add_to_short_term("four")
    assert memory.forget() == 1
    assert memory.recall("four") == []


def test_forgetting_a_fact_leaves_an_episode_of_the_same_name(memory: AgentMemory) -> None:
    """The key of an episode is its task; it goes by its own id."""
    memory.add_to_long_term("research", "a fact")
    episode = memory.store_episode("research", "what came of it")
    assert memory.forget("research") == 1
    assert texts(memory.episodes()) == texts(memory.recall("research")) == ["what came of it"]
    assert memory.forget(item=episode.id) == 1
    assert memory.episodes() == []


def test_what_was_true_before_does_not_become_true_again(memory: AgentMemory) -> None:
    """When the item that is true now is forgotten, the fact is unknown, and its history says so; the next one counts."""
    memory.add_to_long_term("price", "ten")
    twelve = memory.add_to_long_term("price", "twelve")
    assert memory.forget(item=twelve.id) == 1
    assert memory.get("price") is None
    assert memory.recall("price ten") == []
    assert [(item.text, item.current) for item in memory.history("price")] == [("ten", False)]
    memory.add_to_long_term("price", "eleven")
    assert [(item.text, item.current) for item in memory.history("price")] == [("eleven", True), ("ten", False)]


def test_every_method_has_an_async_twin(memory: AgentMemory) -> None:
    """On any loop, beside each other."""

    async def together() -> list[str]:
        await asyncio.gather(*(memory.add_to_long_term_async(str(number), f"harbour {number}") for number in range(20)))
        return texts(await memory.recall_async("harbour", limit=50))

    assert sorted(asyncio.run(together())) == sorted(f"harbour {number}" for number in range(20))


def test_a_file_is_for_its_owner(tmp_path: Path) -> None:
    """0600, and its folder 0700, whatever the umask says; what was written is there for the next process."""
    path = tmp_path / "deep" / "m.db"
    memory = AgentMemory(f"sqlite:///{path}")
    memory.add_to_long_term("k", "kept")
    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == dict.fromkeys(
        ("m.db", "m.db-wal", "m.db-shm"), 0o600
    )
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    found = AgentMemory(f"sqlite:///{path}").get("k")
    assert found is not None
    assert found.text == "kept"


def test_many_processes_write_at_once(tmp_path: Path) -> None:
    """Eight processes of 500 writes each, on a file that none of them finds: all rows are there, none torn."""
    path = tmp_path / "m.db"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), f"p{n}", "500"], stdout=subprocess.DEVNULL) for n in range(8)]
    assert [writer.wait(120) for writer in writers] == [0] * 8
    with contextlib.closing(sqlite3.connect(path)) as db:
        found = dict(db.execute("SELECT key, text FROM items WHERE namespace = 'shared' AND current = 1").fetchall())
    assert found == {f"p{n}-{number}": f"text {number} of p{n} " + "x" * 200 for n in range(8) for number in range(500)}
    assert sound(path)
    assert texts(AgentMemory(url(path), team="shared").recall("p7-499"))[0].startswith("text 499 of p7 ")


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
    assert sound(path)


def test_a_store_that_fails_says_what_and_where(tmp_path: Path) -> None:
    """What is no database, newer, another program's, a folder, or below a file: one kind of error with the path, and nothing is changed."""
    (tmp_path / "corrupt.db").write_bytes(b"no database at all, but long enough to be read as one" * 20)
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "file").write_text("x")
    for name, version in (("newer.db", 99), ("other.db", 0), ("another.db", 2)):
        with contextlib.closing(sqlite3.connect(tmp_path / name)) as db:
            db.execute("CREATE TABLE runs (id)")
            db.execute(f"PRAGMA user_version = {version}")
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for name, said in (
        ("corrupt.db", "it is not a database"),
        ("newer.db", "newer version"),
        ("other.db", "something else"),
        ("another.db", "something else"),
        ("folder.db", "Is a directory"),
        ("file/m.db", "its folder is a file"),
    ):
        for use in (AgentMemory.episodes, lambda memory: memory.add_to_short_term("x")):
            with pytest.raises(MemoryStoreError, match=said) as caught:
                use(AgentMemory(url(tmp_path / name)))
            assert str(tmp_path / name) in str(caught.value)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


def test_a_damaged_file_is_told_and_a_copy_in_its_place_is_read(tmp_path: Path) -> None:
    """Pages that were overwritten: an error and no answer; the same object reads the copy that replaces the file."""
    path, copy = tmp_path / "m.db", tmp_path / "copy.db"
    memory = AgentMemory(url(path))
    for number in range(200):
        memory.add_to_long_term(f"k{number}", "harbour " * 20)
    memory.close()
    shutil.copy(path, copy)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(MemoryStoreError, match="damaged") as caught:
        memory.recall("harbour")
    assert str(path) in str(caught.value)
    for extra in tmp_path.glob("m.db-*"):
        extra.unlink()
    shutil.copy(copy, path)
    assert len(memory.recall("harbour")) == 5


def test_a_file_that_was_deleted_under_it_is_made_anew(tmp_path: Path) -> None:
    """What is written then is in the file that others see, not in the one that is gone; the control: an untouched file stays open."""
    path = tmp_path / "m.db"
    store = SQLiteStore(path)
    memory = AgentMemory(store)
    memory.add_to_long_term("k", "old")
    connection = store._connection
    memory.add_to_long_term("k", "newer")
    assert store._connection is connection
    for file in list(tmp_path.iterdir()):
        file.unlink()
    assert memory.get("k") is None
    memory.add_to_long_term("k", "new")
    assert texts(AgentMemory(url(path)).history("k")) == ["new"]
    assert sound(path)


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of our own, seen by somebody whom permissions bind: root gives up being root meanwhile."""
    folder = Path(tempfile.mkdtemp(prefix="unified-agents-"))
    root = os.geteuid() == 0
    if root:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)
        shutil.rmtree(folder)


@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_cannot_be_written_is_told(unprivileged: Path, what: str) -> None:
    """A folder or a file without the right to write: an error with path and reason, and what is in it stays; with the right all is well."""
    path = unprivileged / "m.db"
    memory = AgentMemory(url(path))
    if what == "file":
        memory.add_to_long_term("k", "kept")
        memory.close()
        path.chmod(0o400)
    else:
        unprivileged.chmod(0o500)
    with pytest.raises(MemoryStoreError, match="Permission denied") as caught:
        memory.add_to_long_term("k", "lost")
    assert str(path) in str(caught.value)
    unprivileged.chmod(0o700)
    if what == "file":
        path.chmod(0o600)
        assert texts(memory.history("k")) == ["kept"]
    memory.add_to_long_term("k", "new")
    assert sound(path)


def test_a_full_disk_loses_nothing_committed(tmp_path: Path) -> None:
    """The write that finds no room fails as a whole; everything before it is there, also for the next process, and room lets it go on."""
    path = tmp_path / "m.db"
    store = SQLiteStore(path)
    memory = AgentMemory(store)
    memory.add_to_long_term("first", "harbour")
    store._do(lambda db: db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0] + 2}"))
    with pytest.raises(MemoryStoreError, match="no room left") as caught:
        memory.add_to_long_term("first", "harbour " * 20_000)
    assert str(path) in str(caught.value)
    assert texts(memory.history("first")) == texts(AgentMemory(url(path)).recall("harbour")) == ["harbour"]
    assert sound(path)
    memory.add_to_long_term("first", "harbour " * 20_000)
    assert len(memory.history("first")) == 2


LIMITED = """
import resource, sys
from unified_agents.errors import MemoryStoreError
from unified_agents.memory import AgentMemory
memory = AgentMemory("sqlite:///" + sys.argv[1])
memory.add_to_long_term("first", "kept")
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
written = 0
try:
    for number in range(1000):
        memory.add_to_long_term(f"k{number}", "x" * 5000)
        written += 1
except MemoryStoreError as error:
    print(written, error)
"""


def test_a_file_that_may_not_grow_loses_nothing_committed(tmp_path: Path) -> None:
    """The system refuses the bytes in the middle of a write: what was reported as written is there, and no half of the rest."""
    path = tmp_path / "m.db"
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, timeout=60, check=True)
    written, said = done.stdout.split(" ", 1)
    assert 0 < int(written) < 1000
    assert str(path) in said
    memory = AgentMemory(url(path))
    assert memory.get("first") is not None
    assert all(memory.get(f"k{number}") is not None for number in range(int(written)))
    assert memory.get(f"k{written}") is None
    assert sound(path)


def test_a_locked_store_is_waited_for_and_then_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading goes on while another process writes; writing waits its time, fails with the reason, and works once the other has ended."""
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.2)
    path = tmp_path / "m.db"
    AgentMemory(url(path)).add_to_long_term("k", "kept")
    memory = AgentMemory(url(path))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM items")
        assert texts(memory.recall("kept")) == ["kept"]
        with pytest.raises(MemoryStoreError, match="another process has been writing") as caught:
            memory.add_to_long_term("k", "lost")
        assert str(path) in str(caught.value)
        other.execute("ROLLBACK")
    memory.add_to_long_term("k", "new")
    assert texts(memory.history("k")) == ["new", "kept"]


def test_a_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    """What version 1 wrote is found as before: facts with their history, notes and episodes, each in its namespace; and a version 1 can no longer open it."""
    path = tmp_path / "m.db"
    rows = [
        ("a", "long_term", "low water", "6:12 at the harbour", 0),
        ("a", "long_term", "low water", "18:40 at the harbour", 1),
        ("a", "episode", "research", "asked at the harbour", 1),
        ("b", "short_term", None, "SECRET harbour", 1),
    ]
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(FIRST_SCHEMA)
        for number, (space, kind, key, text, current) in enumerate(rows, 1):
            db.execute(
                "INSERT INTO items VALUES (?, ?, ?, ?, ?, 'ann', 'run', '2026-01-02T03:04:05+00:00', '{}', ?)",
                (number, space, kind, key, text, current),
            )
            db.execute("INSERT INTO words (rowid, space, text, key) VALUES (?, 'n1', ?, ?)", (number, text, key or ""))
        db.commit()
    memory = AgentMemory(url(path), team="a")
    assert texts(memory.recall("harbour water")) == ["18:40 at the harbour", "asked at the harbour"]
    assert texts(memory.history("low water")) == ["18:40 at the harbour", "6:12 at the harbour"]
    assert texts(AgentMemory(url(path), team="b").recall("harbour")) == ["SECRET harbour"]
    assert memory.add_to_long_term("low water", "7:00").id == 5
    assert sound(path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
        assert {row[0] for row in db.execute("SELECT item FROM vectors")} == set()


def test_many_open_a_file_at_once(tmp_path: Path) -> None:
    """Four that make the tables, or bring them up to date, at the same moment: all of them get a store, and it is whole."""
    start = threading.Barrier(4)

    def opened(number: int) -> None:
        for count in range(20):
            start.wait(20)
            schema.connect(tmp_path / f"{count}.db").close()

    for count in range(0, 20, 2):
        with contextlib.closing(sqlite3.connect(tmp_path / f"{count}.db")) as db:
            db.executescript(FIRST_SCHEMA)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(opened, range(4))) == [None] * 4
    assert all(sound(tmp_path / f"{count}.db") for count in range(20))


def test_a_migration_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that fails leaves version 1 as it was, and the next one succeeds."""
    path = tmp_path / "m.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(FIRST_SCHEMA)
        db.execute("INSERT INTO items VALUES (1, 'team', 'long_term', 'k', 'harbour', NULL, 'run', '2026-01-02T03:04:05+00:00', '{}', 1)")
        db.commit()

    def fails(space: int, key: str | None, text: str) -> str:
        raise OSError("in the middle")

    with monkeypatch.context() as patched:
        patched.setattr(schema, "indexed", fails)
        with pytest.raises(MemoryStoreError, match="in the middle"):
            AgentMemory(url(path)).recall("harbour")
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert db.execute("SELECT COUNT(*) FROM vocabulary").fetchone() == (0,)
    assert texts(AgentMemory(url(path)).recall("harbour")) == ["harbour"]


def test_words_are_letters_digits_and_marks() -> None:
    """Case, accents and signs make no difference, in any script; the word before a sign is the word without it."""
    assert words.words("The CAFÉ's low-water_mark: 6:12!") == ["the", "cafe", "s", "low", "water", "mark", "6", "12"]
    assert words.words("Straße STRASSE ﬁsh") == ["strasse", "strasse", "fish"]
    assert words.words("हिन्दी में") == ["हिन्दी", "में"]
    assert words.words("… -- !") == []
    memory = AgentMemory(":memory:")
    for text in ("Straße am Hafen", "हिन्दी में", "snake_case"):
        memory.add_to_long_term(text, text)
    for query, found in (("STRASSE", "Straße am Hafen"), ("हिन्दी", "हिन्दी में"), ("case", "snake_case")):
        assert texts(memory.recall(query)) == [found]


def test_a_word_that_stands_everywhere_counts_little_and_is_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the number of items that a query ranks: rare words decide, and what common words alone find is filled up with the newest."""
    monkeypatch.setattr(words, "MOST_ITEMS", 20)
    memory = AgentMemory(":memory:")
    for number in range(60):
        memory.add_to_long_term(str(number), f"note about the harbour{' crab' if number == 7 else ''}")
    few = AgentMemory(memory.store, team="few")
    few.add_to_long_term("k", "the harbour of another")
    assert [item.key for item in memory.recall("the harbour crab")] == ["7", "59", "58", "57", "56"]
    assert [item.key for item in memory.recall("the harbour", limit=3)] == ["59", "58", "57"]
    assert texts(few.recall("the harbour")) == ["the harbour of another"]
    monkeypatch.setattr(words, "MOST_ITEMS", 1000)
    assert [item.key for item in memory.recall("the harbour crab", limit=60)][:2] == ["7", "59"]


def test_recall_of_some_kinds(memory: AgentMemory) -> None:
    """Only items of the kinds that were asked for, however many others fit."""
    for number in range(10):
        memory.add_to_long_term(str(number), "harbour")
    memory.store_episode("task", "harbour seen")
    assert texts(memory.recall("harbour", 5, ("episode",))) == ["harbour seen"]
    assert len(memory.recall("harbour", 20, ("episode", "long_term"))) == 11
    assert memory.recall("harbour", 5, ()) == []


def test_a_note_is_recalled_in_its_run(memory: AgentMemory) -> None:
    """Short-term items of other runs are not, however well they fit; facts and episodes are, whichever run they come from."""
    other = AgentMemory(memory.store, team="a", run="other")
    other.add_to_short_term("harbour of the other run")
    other.add_to_long_term("k", "harbour fact")
    memory.add_to_short_term("harbour of this run")
    assert sorted(texts(memory.recall("harbour"))) == ["harbour fact", "harbour of this run"]
    assert sorted(texts(other.recall("harbour"))) == ["harbour fact", "harbour of the other run"]
    assert texts(memory.recall("harbour", 5, ("short_term",))) == ["harbour of this run"]


def test_any_text_is_kept_that_utf_8_can_hold(memory: AgentMemory) -> None:
    """What it cannot is replaced, in text, key, agent and data alike; such a key still names its fact."""
    memory.add_to_long_term("k\ud800\0", "t\ud800\0", agent="a\ud800")
    found = memory.get("k\ud800\0")
    assert found is not None
    assert (found.key, found.text, found.agent) == ("k?", "t?", "a?")
    assert memory.store_episode("t", "o", note="d\ud800").data == memory.episodes()[0].data == {"note": "d?"}
    assert memory.forget("k\ud800") == 1


def test_every_team_has_a_namespace_of_its_own() -> None:
    """Plain names stay as they are; others become one that may be used, and no two the same one."""
    names = [
        "team",
        "A b.c_d-1",
        "a/b",
        "a%2Fb",
        "ü",
        "🦀",
        '"; DROP TABLE',
        "~",
        "x" * 128,
        "x" * 129,
        "x" * 130,
        "é" * 200,
        "é" * 199,
        "\ud800",
    ]
    made = [namespace(name) for name in names]
    assert made[:4] == ["team", "A b.c_d-1", "a%2Fb", "a%252Fb"]
    assert len(set(made)) == len(names)
    assert all(len(name) <= 128 for name in made)
    memory = AgentMemory(":memory:")
    for name, text in zip(made, names, strict=True):
        AgentMemory(memory.store, team=name).add_to_long_term("k", text.replace("\ud800", "?"))
    for name, text in zip(made, names, strict=True):
        assert texts(AgentMemory(memory.store, team=name).history("k")) == [text.replace("\ud800", "?")]
    with pytest.raises(ValueError, match="an empty name"):
        namespace("")
    for wrong in ("a/b", "", "x" * 129, "ü", "a\nb"):
        with pytest.raises(ValueError, match="as a namespace"):
            AgentMemory(memory.store, team=wrong)
        with pytest.raises(ValueError, match="as a run"):
            AgentMemory(memory.store, run=wrong)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_has_a_connection_of_its_own(tmp_path: Path) -> None:
    """It writes although its parent's lock was held when it was made, and the parent reads what it wrote."""
    path = tmp_path / "m.db"
    store = SQLiteStore(path)
    memory = AgentMemory(store)
    memory.add_to_long_term("k", "of the parent")
    with store._own_lock():
        child = os.fork()
        if child == 0:
            try:
                memory.add_to_long_term("k", "of the child")
                os._exit(0)
            finally:
                os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert texts(memory.history("k")) == ["of the child", "of the parent"]


def test_a_store_is_named_by_a_url() -> None:
    """Anything else says what is expected; a relative file lies in the state folder."""
    for wrong in ("memory.db", "sqlite:///", "postgresql://x"):
        with pytest.raises(ValueError, match="expected sqlite:///FILE or :memory:"):
            open_store(wrong)
    AgentMemory("sqlite:///here.db").add_to_short_term("x")
    assert Path(".unified_agents/here.db").is_file()


def test_the_memory_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Every example of docs/memory.md on memory alone runs as it stands and prints what stands beside it."""
    page = (Path(__file__).parent.parent.parent / "docs" / "memory.md").read_text(encoding="utf-8")
    for section in ("## Alone", "## Ranking by meaning"):
        blocks = re.findall(r"```python\n(.*?)```", page.split(f"\n{section}\n")[1].split("\n## ")[0], flags=re.DOTALL)
        assert len(blocks) >= 2
        for block in blocks:
            exec(compile(block, "memory.md", "exec"), {"__name__": "page"})
            promised = [line.split("# ")[-1].strip() for line in block.splitlines() if line.startswith("print(")]
            assert capsys.readouterr().out.splitlines() == promised


def test_one_item_that_cannot_fit_hides_no_other() -> None:
    """An item whose key alone is too long is left out, wherever it stands; those after it are shown, as far as there is room."""
    now = datetime.now(timezone.utc)
    large = Item(1, "long_term", "low water", now, key="k" * 2000)
    small = Item(2, "short_term", "low water at 6:12", now, agent="ann")
    counter = family("openai/gpt-4o")
    for items in ([large, small], [small, large]):
        shown = _within(items, 64, counter)
        assert (shown.items, "6:12" in shown.text, shown.tokens <= 64) == (1, True, True)
    assert _within([large], 64, counter).text == ""
