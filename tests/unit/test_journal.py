"""The journal by itself: order, several writers, failures, deletion, and that every event comes back as it was."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_memory import unprivileged  # noqa: F401  # pytest finds fixtures by name
from unified_agents import journal as journals
from unified_agents.engine import engine
from unified_agents.errors import JournalError, RunBusyError, UnknownRunError, UnrecordedRunError
from unified_agents.events import Event, RunStarted, TaskStarted, ToolStarted, event_of
from unified_agents.journal import Journal, RunJournal, open_journal
from unified_agents.memory import AgentMemory, store_path
from unified_agents.sqlite import keep_private
from unified_agents.state import state_folder

DEFINITION = {"source": None, "tasks": {"t": "digest"}}


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """A journal of its own."""
    return Journal(tmp_path / "state" / "runs.db")


def numbered(count: int, start: int = 1, text: str = "") -> list[Event]:
    """So many events of a run."""
    return [
        TaskStarted(seq=n, time=datetime.now(timezone.utc), run_id="r", task=f"t{n}{text}", agent="a") for n in range(start, start + count)
    ]


def write(
    journal: Journal, run_id: str, *events: Event, end: str | None = "completed", failures: list[JournalError] | None = None
) -> RunJournal:
    """Write a run's journal as a run does."""

    async def written() -> RunJournal:
        book = RunJournal(journal.writing(), run_id, (failures if failures is not None else []).append)
        await book.begin("team", "autogen", DEFINITION)
        for event in events:
            book.put(event)
        if end is not None:
            await book.end(end, 1.5, '{"output": "done"}')
        await book.flush()
        await asyncio.sleep(0)
        return book

    return engine().run(written())


def test_a_run_is_read_as_it_was_written(journal: Journal) -> None:
    """Its record, and its events in order, in another connection."""
    events = numbered(500)
    write(journal, "r", *events)
    other = Journal(journal.path)
    record = other.run("r")
    assert (record.team, record.backend, record.status, record.duration_s) == ("team", "autogen", "completed", 1.5)
    assert (record.definition, record.result) == (DEFINITION, {"output": "done"})
    assert other.events("r") == events
    assert other.has("r")
    assert not other.has("s")


def test_nothing_is_made_by_looking(journal: Journal) -> None:
    """Where there is no file, there are no runs, and there is no file afterwards either."""
    assert (journal.runs(), journal.has("r"), journal.events("r")) == ([], False, [])
    with pytest.raises(UnknownRunError, match="there is no run 'r'"):
        journal.run("r")
    assert not journal.path.exists()


def test_many_events_take_few_transactions(journal: Journal) -> None:
    """What comes fast is committed together, in order; a thousand events cost well under a second."""
    began = time.monotonic()
    write(journal, "r", *numbered(1000))
    assert time.monotonic() - began < 2
    assert [event.seq for event in journal.events("r")] == list(range(1, 1001))


WRITER = """
import asyncio, sys
from pathlib import Path
from tests.unit.test_journal import numbered, write
from unified_agents.journal import Journal
write(Journal(Path(sys.argv[1])), sys.argv[2], *numbered(300))
"""


def test_two_processes_write_at_once(journal: Journal) -> None:
    """Neither loses an event, and neither fails; the file is made by whoever comes first."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", WRITER, str(journal.path)]
    processes = [subprocess.Popen([*command, name], cwd=root, stderr=subprocess.PIPE, text=True) for name in ("one", "two")]
    for process in processes:
        assert process.communicate(timeout=60)[1] == ""
    assert {record.run_id: record.status for record in journal.runs()} == {"one": "completed", "two": "completed"}
    assert [[event.seq for event in journal.events(name)] for name in ("one", "two")] == [list(range(1, 301))] * 2


def test_one_runs_trouble_is_not_anothers(journal: Journal) -> None:
    """In the same transaction a doubled event fails its own run, once; nothing of that run is written after the gap."""
    failures: dict[str, list[JournalError]] = {"good": [], "bad": []}

    async def both() -> None:
        books = {name: RunJournal(journal.writing(), name, failures[name].append) for name in failures}
        for book in books.values():
            await book.begin("team", "autogen", DEFINITION)
        for n, event in enumerate(numbered(50)):
            books["good"].put(event)
            books["bad"].put(event)
            if n == 9:
                books["bad"].put(event)
        for book in books.values():
            await book.flush()
        await asyncio.sleep(0)
        books["bad"].put(numbered(1, 99)[0])
        await books["bad"].flush()

    engine().run(both())
    assert (len(failures["good"]), len(failures["bad"])) == (0, 1)
    assert str(journal.path) in str(failures["bad"][0])
    assert isinstance(failures["bad"][0].__cause__, sqlite3.IntegrityError)
    assert [event.seq for event in journal.events("good")] == list(range(1, 51))
    assert [event.seq for event in journal.events("bad")] == list(range(1, 11))


def test_what_cannot_be_written_takes_nothing_before_it_along(journal: Journal) -> None:
    """An event that no JSON holds fails its run in its turn: what was said before is there, nothing after it is, and other runs go on."""
    failures: list[JournalError] = []
    deep: Any = []
    for _ in range(3000):
        deep = [deep]

    class Odd:
        def __str__(self) -> str:
            raise KeyError("odd")

    for run_id, arguments in (("r", {"deep": deep}), ("s", {"odd": Odd()})):
        bad = ToolStarted(seq=4, run_id=run_id, task="t", agent="a", tool="x", key="k", arguments=arguments)
        write(journal, run_id, *numbered(3), bad, *numbered(2, 5), end=None, failures=failures)
        assert [event.seq for event in journal.events(run_id)] == [1, 2, 3]
    assert len(failures) == 2
    write(journal, "other", *numbered(2))
    assert len(journal.events("other")) == 2


def test_a_lock_is_waited_for_once(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for each of several runs whose batch failed for another reason, nor for a run that has stopped."""
    monkeypatch.setattr(journals, "_BUSY_SECONDS", 0.4)
    monkeypatch.setattr(journals, "_GATHER_SECONDS", 5)
    commit, failures = journals.Writer._commit, list[JournalError]()

    def fails_then_finds_a_lock(self: journals.Writer, statements: Sequence[journals.Statement]) -> None:
        if sum(len(values) // 4 for _, values in statements) > 1:
            holder.execute("BEGIN IMMEDIATE")
            raise sqlite3.IntegrityError("UNIQUE constraint failed")
        commit(self, statements)

    books = [write(journal, f"r{n}", end=None, failures=failures) for n in range(5)]
    holder = sqlite3.connect(journal.path, isolation_level=None, check_same_thread=False)
    monkeypatch.setattr(journals.Writer, "_commit", fails_then_finds_a_lock)

    async def more() -> float:
        began = time.monotonic()
        for book in books:
            book.put(numbered(1)[0])
        await books[0].flush()
        for book in books:  # they have stopped: nothing is left to write
            book._put(("never", ()))
        await books[0].flush()
        return time.monotonic() - began

    took = engine().run(more())
    holder.execute("ROLLBACK")
    holder.close()
    assert len(failures) == 5
    assert took < 1.2


def test_a_locked_file_fails_all_that_wait_at_once(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """After one wait, not after one for each event; what was committed before stays."""
    monkeypatch.setattr(journals, "_BUSY_SECONDS", 0.3)
    failures: list[JournalError] = []
    book = write(journal, "r", *numbered(3), end=None, failures=failures)
    holder = sqlite3.connect(journal.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    async def more() -> float:
        began = time.monotonic()
        for event in numbered(40, 4):
            book.put(event)
        await book.flush()
        await asyncio.sleep(0)
        return time.monotonic() - began

    took = engine().run(more())
    holder.execute("ROLLBACK")
    holder.close()
    assert took < 1.5
    assert len(failures) == 1
    assert "another process has been writing to it for longer than" in str(failures[0])
    assert [event.seq for event in journal.events("r")] == [1, 2, 3]
    write(journal, "s", *numbered(2))  # the writer lives
    assert len(journal.events("s")) == 2


def test_nothing_is_written_after_the_end(journal: Journal) -> None:
    """What a tool that was left to itself says later would take the number of the next session's event."""
    book = write(journal, "r", *numbered(2))
    book.close()
    book.put(numbered(1, 3)[0])
    engine().run(book.flush())
    assert len(journal.events("r")) == 2


def test_a_lock_is_held_by_one(journal: Journal) -> None:
    """Also within a process; it ends with its holder, and a run in work is `running`, one without `interrupted`."""
    write(journal, "r", *numbered(1), end=None)
    with journal.locked("r"):
        assert Journal(journal.path).run("r").status == "running"
        with pytest.raises(RunBusyError, match="run 'r' is being worked on"), Journal(journal.path).locked("r"):
            pass
        with Journal(journal.path).locked("other"):
            pass
        with pytest.raises(RunBusyError):
            journal.delete("r")
        assert journal.prune(timedelta(seconds=-1)) == []
    assert journal.run("r").status == "interrupted"
    with journal.locked("r"):
        pass


def test_who_only_looks_keeps_nobody_out(journal: Journal) -> None:
    """A list of runs takes a run's lock for a moment; whoever resumes it then is not told that it is busy."""
    write(journal, "r", *numbered(1), end=None)
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            Journal(journal.path).run("r")

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(200):
            with journal.locked("r"):
                pass
    finally:
        done.set()
        looking.join()


def test_a_lock_ends_with_its_process(journal: Journal) -> None:
    """Killed, it leaves nothing locked."""
    write(journal, "r", *numbered(1), end=None)
    code = "import sys, time\nfrom pathlib import Path\nfrom unified_agents.journal import Journal\n"
    code += "with Journal(Path(sys.argv[1])).locked('r'):\n    print('held', flush=True)\n    time.sleep(60)\n"
    process = subprocess.Popen([sys.executable, "-c", code, str(journal.path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert journal.run("r").status == "running"
    process.kill()
    process.communicate()
    with journal.locked("r"):
        pass


def test_a_deleted_folder_is_made_anew(journal: Journal) -> None:
    """A process that lives on, as a notebook does, writes into the file that is there and not into one that is gone."""
    write(journal, "r", *numbered(1))
    shutil.rmtree(journal.path.parent)
    write(journal, "s", *numbered(1))
    assert [record.run_id for record in Journal(journal.path).runs()] == ["s"]


def test_delete_and_prune(journal: Journal, tmp_path: Path) -> None:
    """A run goes with its events and folder, and others stay; prune goes by when they began."""
    for name in ("old", "new"):
        write(journal, name, *numbered(3))
        with journal.locked(name):
            pass
    with sqlite3.connect(journal.path) as db:
        db.execute("UPDATE runs SET started_at = '2020-01-01T00:00:00+00:00' WHERE run_id = 'old'")
    assert journal.prune(timedelta(days=30)) == ["old"]
    assert journal.prune(timedelta.max) == []
    assert [record.run_id for record in journal.runs()] == ["new"]
    assert journal.events("old") == []
    assert [path.name for path in (journal.path.parent / "runs").iterdir()] == ["new"]
    journal.delete("new")
    with pytest.raises(UnknownRunError):
        journal.delete("new")
    for name in ("..", "/etc", "a/../.."):
        with pytest.raises(UnknownRunError):
            journal.delete(name)


def test_a_newer_schema_is_refused(journal: Journal) -> None:
    """By its number, for reading and writing alike, and it is left as it is."""
    write(journal, "r", *numbered(1))
    with sqlite3.connect(journal.path) as db:
        db.execute("PRAGMA user_version = 2")
    other = Journal(journal.path)
    for look in (other.runs, other.writing, lambda: other.delete("r")):
        with pytest.raises(JournalError, match=r"newer version of unified_agents \(schema 2, known here: 1\)"):
            look()
    with sqlite3.connect(journal.path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)


def test_what_another_version_wrote_is_read_as_far_as_it_is_known(journal: Journal) -> None:
    """Unknown events and fields are left out."""
    write(journal, "r", *numbered(1))
    rows = [{"seq": 2, "type": "SomethingNew", "run_id": "r"}, {**numbered(1, 3)[0].to_dict(), "colour": "red"}]
    with sqlite3.connect(journal.path) as db:
        db.executemany("INSERT INTO events VALUES ('r', ?, ?, ?)", [(row["seq"], row["type"], json.dumps(row)) for row in rows])
    assert [event.seq for event in journal.events("r")] == [1, 3]


def broken(journal: Journal, run_id: str, *, required: bool, end: str | None = "completed") -> None:
    """A run whose journal fails in its midst, and that goes on to its end."""

    async def went() -> None:
        book = RunJournal(journal.writing(), run_id, lambda _: None, required=required)
        await book.begin("team", "autogen", DEFINITION)
        for event in [*numbered(2), *numbered(2)]:
            book.put(event)
        await book.flush()
        await asyncio.sleep(0)
        if end is not None:
            await book.end(end, 1.5, '{"output": "done"}')
        book.close()

    with journal.locked(run_id):
        engine().run(went())


def test_a_run_that_went_on_without_its_journal_is_marked(journal: Journal) -> None:
    """Whether or not its end could be written; one that had to be written down ended there, and may be resumed."""
    broken(journal, "killed", required=False, end=None)
    broken(journal, "ended", required=False)
    broken(journal, "stopped", required=True, end="failed")
    other = Journal(journal.path)
    assert {record.run_id: record.status for record in other.runs()} == {"killed": "unrecorded", "ended": "unrecorded", "stopped": "failed"}
    assert other.run("ended").result == {"output": "done"}
    for name in ("killed", "ended"):
        with pytest.raises(UnrecordedRunError, match=f"run '{name}' went on after its journal had failed"):
            other.recorded(name)
    assert other.recorded("stopped").status == "failed"
    other.delete("killed")
    write(journal, "killed", *numbered(1))
    assert other.run("killed").status == "completed"


def test_the_mark_needs_no_room(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a second name of a file that is there, since a full disk may not hold another file."""

    def full(*_arguments: Any, **_named: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "touch", full)
    broken(journal, "r", required=False, end=None)
    assert journal.run("r").status == "unrecorded"


def test_a_run_of_the_same_name_begins_without_the_mark(journal: Journal) -> None:
    """The first one never got into the file."""
    with journal.locked("r"):
        journal.mark_unrecorded("r")
    write(journal, "r", *numbered(1))
    assert journal.run("r").status == "completed"


def test_a_resumed_run_has_no_old_end(journal: Journal) -> None:
    """No duration and no result while it runs, and the team's present name."""
    write(journal, "r", *numbered(1), end="failed")

    async def resumed() -> None:
        book = RunJournal(journal.writing(), "r", lambda _: None)
        await book.resume("renamed", "crewai", DEFINITION)
        book.close()

    with journal.locked("r"):
        engine().run(resumed())
        record = journal.run("r")
    assert (record.team, record.backend, record.status) == ("renamed", "crewai", "running")
    assert (record.ended_at, record.duration_s, record.result) == (None, None, None)


def writers(journal: Journal) -> int:
    """Threads that write this journal."""
    return [thread.name for thread in threading.enumerate()].count(f"unified-agents-journal {journal.path}")


def opened(journal: Journal) -> int:
    """Descriptors that this process has in the journal's folder."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # another thread has closed it since
            found += str(journal.path) in os.readlink(f"/proc/self/fd/{name}")
    return found


def ended(condition: Callable[[], bool]) -> bool:
    """Whether something is so soon."""
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_a_writer_ends_after_its_last_run(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its thread and its descriptors, but not while a run is silent; the next run has another one. So does one whose file was deleted."""
    monkeypatch.setattr(journals, "_IDLE_SECONDS", 0.1)
    write(Journal(journal.path.with_name("neighbour.db")), "n", *numbered(1)).close()  # whose writer ends meanwhile
    first, second = write(journal, "a", *numbered(1)), write(journal, "b", *numbered(1))
    first.close()
    first.close()
    time.sleep(0.4)
    assert (writers(journal), opened(journal) > 0) == (1, True)
    second.close()
    assert ended(lambda: writers(journal) == 0)
    assert ended(lambda: opened(journal) == 0)
    third = write(journal, "c", *numbered(1))
    shutil.rmtree(journal.path.parent)
    fourth = write(journal, "d", *numbered(1))
    for book in (third, fourth):
        book.close()
    assert ended(lambda: writers(journal) == 0)
    assert ended(lambda: opened(journal) == 0)
    assert [record.run_id for record in journal.runs()] == ["d"]


def test_what_cannot_be_opened_is_closed(journal: Journal) -> None:
    """A file of a newer version leaves no descriptor behind."""
    write(journal, "r", *numbered(1)).close()
    with sqlite3.connect(journal.path) as db:
        db.execute("PRAGMA user_version = 2")
    db.close()
    before, other = opened(journal), Journal(journal.path)
    for _ in range(5):
        with pytest.raises(JournalError):
            other.writing()
    assert opened(journal) == before


def test_a_folder_deleted_during_a_run_fails_it(journal: Journal) -> None:
    """As a full disk does: what would be written is nowhere."""
    failures: list[JournalError] = []
    book = write(journal, "r", *numbered(2), end=None, failures=failures)
    shutil.rmtree(journal.path.parent)

    async def more() -> None:
        book.put(numbered(1, 3)[0])
        await book.flush()
        await asyncio.sleep(0)

    engine().run(more())
    assert "it was deleted or replaced while it was written to" in str(failures[0])
    assert not journal.path.exists()


@pytest.mark.parametrize("how", ["memory", "other", "same names"])
def test_another_programs_database_is_left_alone(tmp_path: Path, how: str) -> None:
    """Nothing is written into it, and it is said what to name."""
    path = tmp_path / "x.db"
    if how == "memory":
        memory = AgentMemory(f"sqlite:///{path}")
        memory.add_to_long_term("k", "v")
        memory.close()
    else:
        with sqlite3.connect(path) as db:
            db.executescript("CREATE TABLE runs (id); CREATE TABLE events (id);" if how == "same names" else "CREATE TABLE t (id)")
        db.close()
    before = path.read_bytes()
    for look in (Journal(path).writing, Journal(path).runs):
        with pytest.raises(JournalError, match="is a memory store" if how == "memory" else "a database of something else"):
            look()
    assert path.read_bytes() == before


@pytest.mark.parametrize("what", ["folder", "file"])
def test_no_right_to_write_says_what_to_type(unprivileged: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:  # noqa: F811  # the fixture
    """And what is there can still be looked at, without a folder or a file being made for it."""
    monkeypatch.setattr(journals, "_IDLE_SECONDS", 0.1)
    journal = Journal(unprivileged / "runs.db")
    write(journal, "r", *numbered(2), end=None).close()
    journal.writing()._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert ended(lambda: not Path(f"{journal.path}-wal").exists())
    if what == "file":
        journal.path.chmod(0o400)
    else:
        unprivileged.chmod(0o500)
    names = sorted(path.name for path in unprivileged.rglob("*"))
    other = Journal(journal.path if what == "file" else unprivileged / "new.db")
    with pytest.raises(JournalError, match=r"set UNIFIED_AGENTS_HOME to a folder .* journal: false") as caught:
        other.writing()
    assert str(other.path) in str(caught.value)
    assert [record.status for record in Journal(journal.path).runs()] == ["interrupted"]
    assert len(Journal(journal.path).events("r")) == 2
    if what == "folder":
        assert sorted(path.name for path in unprivileged.rglob("*")) == names


def test_looking_makes_no_folder(tmp_path: Path) -> None:
    """Not even the state folder."""
    journal = open_journal("sqlite:///runs.db")
    assert (journal.runs(), journal.has("r")) == ([], False)
    assert not (tmp_path / ".unified_agents").exists()


def test_the_home_folder_is_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a store and in UNIFIED_AGENTS_HOME, for both stores."""
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert open_journal("sqlite:///~/x.db").path == tmp_path / "me" / "x.db"
    assert store_path("sqlite:///~/x.db") == tmp_path / "me" / "x.db"
    monkeypatch.setenv("UNIFIED_AGENTS_HOME", "~/state")
    assert open_journal("sqlite:///x.db").path == store_path("sqlite:///x.db") == tmp_path / "me" / "state" / "x.db"
    assert state_folder() == tmp_path / "me" / "state"


def test_deleting_leaves_other_journals_locks(journal: Journal) -> None:
    """Of a run of the same name in the same folder; and what is deleted is deleted while it is held."""
    other = Journal(journal.path.with_name("other.db"))
    for book in (journal, other):
        write(book, "r", *numbered(1))
    with other.locked("r"):
        journal.delete("r")
        with pytest.raises(RunBusyError), Journal(other.path).locked("r"):
            pass


def test_a_lock_that_was_deleted_is_held_by_nobody(journal: Journal) -> None:
    """Whoever had its file open takes the new one."""
    write(journal, "r", *numbered(1))
    with journal.locked("r"):
        shutil.rmtree(journal.path.parent / "runs" / "r")
        with journal.locked("r"), pytest.raises(RunBusyError), Journal(journal.path).locked("r"):
            pass


def test_waiting_for_a_lock_holds_up_no_loop(journal: Journal) -> None:
    """Others' tasks go on meanwhile."""

    async def turns() -> int:
        count, running = 0, asyncio.ensure_future(journal.lock("r"))
        while not running.done():
            await asyncio.sleep(0)
            count += 1
        with pytest.raises(RunBusyError):
            await running
        return count

    with Journal(journal.path).locked("r"):
        assert engine().run(turns()) > 20


def test_every_process_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One journal a file and process; after a fork the child makes another, since a connection must not be shared."""
    first = open_journal("sqlite:///a.db")
    assert open_journal("sqlite:///a.db") is first
    assert open_journal("sqlite:///b.db") is not first
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert open_journal("sqlite:///a.db") is not first
    assert first.path == tmp_path / ".unified_agents" / "a.db"


TEXT = st.text(max_size=20)
MAPPING = st.dictionaries(TEXT, TEXT, max_size=3)
JSON = st.dictionaries(
    TEXT, st.recursive(st.none() | st.booleans() | st.integers() | TEXT, lambda v: st.lists(v, max_size=3), max_leaves=5), max_size=3
)
MADE: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: st.integers(),
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    datetime: st.datetimes(timezones=st.just(timezone.utc)),
    tuple[str, ...]: st.lists(TEXT, max_size=3).map(tuple),
    tuple[Mapping[str, str], ...]: st.lists(MAPPING, max_size=3).map(tuple),
    Mapping[str, Any]: JSON,
}


def made(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field."""
    options = [option for option in typing.get_args(kind) if option is not type(None)]
    if kind not in MADE and type(None) in typing.get_args(kind):
        return st.none() | st.one_of([MADE[option] for option in options])
    return MADE[kind]


def kinds() -> list[type[Event]]:
    """All that are written down."""
    return [kind for kind in Event.__subclasses__() if kind.__module__ == "unified_agents.events" and kind.__name__ != "TextStreamed"]


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_event_comes_back_as_it_was(kind: type[Event], data: st.DataObject) -> None:
    """Through JSON and back, with every field."""
    hints = typing.get_type_hints(kind, localns={"RunResult": Any})
    fields = [name for name in kind.__dataclass_fields__ if name != "result" or kind.__name__ != "RunCompleted"]
    event = kind(**{name: data.draw(made(hints[name])) for name in fields})
    assert event_of(json.loads(json.dumps(event.to_dict()))) == event


def test_all_kinds_are_looked_at() -> None:
    """The control: the list above holds what is said of every run."""
    assert {RunStarted, TaskStarted} <= set(kinds())
    assert len(kinds()) > 25


def test_a_file_that_others_could_read_is_theirs_no_more(journal: Journal) -> None:
    """Whoever made it so, with what lies beside it; one that may not be written is not made writable."""
    write(journal, "r", *numbered(1))
    files = [Path(f"{journal.path}{end}") for end in ("", "-wal", "-shm")]
    for file in files:
        file.chmod(0o664)
    write(Journal(journal.path), "s", *numbered(1))
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600] * 3
    journal.path.chmod(0o444)
    keep_private(journal.path)
    assert journal.path.stat().st_mode & 0o777 == 0o400


def test_what_is_committed_survives_the_loss_of_power(journal: Journal) -> None:
    """As far as SQLite can: each commit is synced."""
    db = journals._connect(journal.path)
    assert (db.execute("PRAGMA journal_mode").fetchone()[0], db.execute("PRAGMA synchronous").fetchone()[0]) == ("wal", 2)
    db.close()
