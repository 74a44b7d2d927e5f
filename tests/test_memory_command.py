"""`unified-agents memory`: what it prints, what it changes, and how it says what is wrong."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import time
from pathlib import Path

import pytest

from tests.conftest import Run
from unified_agents.memory import AgentMemory, namespace, schema

DATABASE = Path(".unified_agents/memory.db")


@pytest.fixture
def memory() -> AgentMemory:
    """The memory that the commands look into by default, with an item of each kind."""
    memory = AgentMemory(run="r1")
    memory.add_to_long_term("low water", "6:12", agent="ann")
    memory.add_to_long_term("low water", "18:40", agent="bob")
    memory.add_to_short_term("The user prefers metric units")
    memory.store_episode("research", "Asked at the harbour", score=3)
    return memory


def said(cli: Run, *arguments: str) -> list[str]:
    """The texts of a document of items."""
    code, out, err = cli("memory", *arguments, "--json")
    assert (code, err) == (0, "")
    return [item["text"] for item in json.loads(out)["items"]]


def test_list_json_is_the_documented_shape(cli: Run, memory: AgentMemory) -> None:
    """Newest first, every field, of facts what is true now."""
    code, out, err = cli("memory", "list", "--json")
    items = json.loads(out)["items"]
    assert (code, err) == (0, "")
    assert [item["id"] for item in items] == [4, 3, 2]
    assert list(items[0]) == ["id", "kind", "key", "text", "agent", "run", "created_at", "data"]
    assert items[0] | {"created_at": ""} == {
        "id": 4, "kind": "episode", "key": "research", "text": "Asked at the harbour", "agent": None, "run": "r1", "created_at": "", "data": {"score": 3},
    }  # fmt: skip
    assert items[0]["created_at"].endswith("Z")
    assert (items[2]["text"], items[2]["agent"]) == ("18:40", "bob")


def test_list_by_kind_and_number(cli: Run, memory: AgentMemory) -> None:
    """One kind, or so many of all."""
    assert said(cli, "list", "--kind", "short_term") == ["The user prefers metric units"]
    assert said(cli, "list", "--kind", "long_term") == ["18:40"]
    assert said(cli, "list", "--limit", "2") == ["Asked at the harbour", "The user prefers metric units"]


def test_list_for_a_person(cli: Run, memory: AgentMemory) -> None:
    """A line for each with its id, and no markup or control character of a text reaches the terminal."""
    memory.add_to_long_term("k", "\x1b[31mred\x07\n[bold]two[/bold] lines")
    code, out, _ = cli("memory", "list")
    assert code == 0
    assert "\x1b" not in out
    assert "\x07" not in out
    for shown in ("long_term", "18:40", "bob", "[bold]two[/bold]", "red", "5"):
        assert shown in out


def test_search_finds_what_agents_would_be_reminded_of(cli: Run, memory: AgentMemory) -> None:
    """Best first; a query is text; nothing fits: it says so."""
    assert said(cli, "search", "metric harbour", "--limit", "1") in (["Asked at the harbour"], ["The user prefers metric units"])
    assert said(cli, "search", 'low AND "water') == ["18:40"]
    assert said(cli, "search", "zebra") == []
    assert cli("memory", "search", "zebra") == (0, "nothing fits\n", "")


def test_set_is_what_the_team_remembers(cli: Run, memory: AgentMemory) -> None:
    """A fact with its history, for a person and as a document."""
    assert cli("memory", "set", "low water", "7:00") == (0, "Remembered as item 5: low water\n", "")
    assert [item.text for item in memory.history("low water")] == ["7:00", "18:40", "6:12"]
    code, out, _ = cli("memory", "set", "k", "t", "--json")
    assert code == 0
    assert json.loads(out)["item"]["id"] == 6
    assert memory.get("k") is not None


def test_forget_one_fact_one_item_or_everything(cli: Run, memory: AgentMemory) -> None:
    """It says how many, leaves what was not named, and another team's in any case."""
    other = AgentMemory(memory.store, team="other")
    other.add_to_long_term("k", "kept")
    assert cli("memory", "forget", "low water") == (0, "Forgot 2 items.\n", "")
    assert cli("memory", "forget", "--item", "3") == (0, "Forgot 1 item.\n", "")
    assert cli("memory", "forget", "research") == (0, "Forgot 0 items.\n", "")
    assert said(cli, "list") == ["Asked at the harbour"]
    code, out, _ = cli("memory", "forget", "--all", "--json")
    assert (code, json.loads(out)) == (0, {"forgotten": 1})
    assert said(cli, "list") == []
    assert other.get("k") is not None


def test_looking_does_not_make_a_store(cli: Run, tmp_path: Path) -> None:
    """Not the file and not its folder; `set` does."""
    assert cli("memory", "list") == (0, "nothing is remembered yet\n", "")
    assert cli("memory", "search", "x") == (0, "nothing is remembered yet\n", "")
    assert cli("memory", "forget", "--all") == (0, "Forgot 0 items.\n", "")
    assert said(cli, "list", "--store", f"sqlite:///{tmp_path}/deep/m.db") == []
    assert list(tmp_path.iterdir()) == []
    assert cli("memory", "set", "k", "t")[0] == 0
    assert DATABASE.is_file()
    assert (DATABASE.parent / ".gitignore").read_text() == "*\n"


def test_team_and_store_are_those_of_the_team_file(cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name, whatever signs it holds, and its store with the environment put in; what else is wrong with it is no matter. Options win."""
    monkeypatch.setenv("WHERE", "other")
    Path("team.yaml").write_text('name: "tides/ü"\nmemory: {store: "sqlite:///${WHERE}.db"}\nagents: {a: {role: R, modle: x}}\n')
    assert cli("memory", "set", "k", "from the file")[0] == 0
    assert [item.text for item in AgentMemory("sqlite:///other.db", team=namespace("tides/ü")).history("k")] == ["from the file"]
    assert said(cli, "list") == ["from the file"]
    assert said(cli, "list", "--team", "team") == []
    assert said(cli, "list", "--store", "sqlite:///memory.db") == []
    Path("team.yaml").write_text("agents: {}\n")
    AgentMemory(team="team").add_to_long_term("k", "by default")
    assert said(cli, "list") == ["by default"]


@pytest.mark.parametrize(
    "text", ["a: [", "name: 7\n", 'memory: {store: "sqlite:///${UNSET_HERE}.db"}\n', "memory: {stoer: x}\n", "just text\n"]
)
def test_a_team_file_that_says_neither_is_told(cli: Run, text: str) -> None:
    """Exit code 2 with the file's name; with both options the file is not read."""
    Path("team.yaml").write_text(text)
    code, out, err = cli("memory", "list")
    assert (code, out) == (2, "")
    assert "team.yaml" in err
    assert said(cli, "list", "--team", "team", "--store", "sqlite:///memory.db") == []


def test_a_team_that_ranks_by_meaning_is_searched_so(cli: Run) -> None:
    """`semantic: true` in the file: found without a word in common; the control: not without it."""
    Path("team.yaml").write_text("memory: {semantic: true}\n")
    cli("memory", "set", "pet", "The cat sat on the mat")
    assert said(cli, "search", "kitten") == ["The cat sat on the mat"]
    Path("team.yaml").write_text("memory: true\n")
    assert said(cli, "search", "kitten") == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["forget"], "exactly one of"),
        (["forget", "k", "--all"], "exactly one of"),
        (["forget", "--item", "1", "--all"], "exactly one of"),
        (["forget", "--item", "0"], "--item"),
        (["list", "--kind", "nope"], "--kind"),
        (["list", "--limit", "0"], "--limit"),
        (["list", "--limit", "99999999999999999999"], "--limit"),
        (["list", "--store", "memory.db"], "found 'memory.db', expected sqlite:///FILE\n"),
        (["list", "--store", ":memory:"], "ends with its process"),
        (["list", "--team", ""], "--team"),
        (["list", "--team", "a\nb"], "--team"),
        (["set", " ", "x"], "empty key"),
        (["set", "k"], "text"),
        (["search"], "query"),
        (["nope"], "nope"),
    ],
)
def test_wrong_arguments_are_told(cli: Run, arguments: list[str], told: str) -> None:
    """Exit code 2 and one sentence, as text and as a document; nothing is made."""
    code, out, err = cli("memory", *arguments)
    assert (code, out) == (2, "")
    assert told.lower() in err.lower()
    code, out, _ = cli("memory", *arguments, "--json")
    assert (code, json.loads(out)["error"]["type"]) == (2, "UsageError")
    assert not DATABASE.parent.exists()


@pytest.mark.parametrize("command", [["list"], ["search", "x"], ["set", "k", "t"], ["forget", "k"]])
@pytest.mark.parametrize("kind", ["corrupt", "newer", "below a file", "a folder"])
def test_a_store_that_fails_is_told(cli: Run, tmp_path: Path, command: list[str], kind: str) -> None:
    """Exit code 1 with the file and the reason, as text and as a document, from every command."""
    path = tmp_path / "m.db"
    if kind == "corrupt":
        path.write_bytes(b"no database, but as long as one" * 100)
    elif kind == "newer":
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA user_version = 99")
    elif kind == "below a file":
        path.write_text("x")
        path = path / "m.db"
    else:
        path.mkdir()
    code, out, err = cli("memory", *command, "--store", f"sqlite:///{path}")
    assert (code, out) == (1, "")
    assert str(path) in err.replace("\n", "")
    assert "Traceback" not in err
    code, out, _ = cli("memory", *command, "--store", f"sqlite:///{path}", "--json")
    assert (code, json.loads(out)["error"]["type"]) == (1, "MemoryStoreError")


def test_a_locked_store_is_told(cli: Run, memory: AgentMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing fails with the reason once its time is over; looking does not wait."""
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.2)
    with contextlib.closing(sqlite3.connect(DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        code, _, err = cli("memory", "set", "k", "t")
        assert code == 1
        assert "another process has been writing" in err
        assert said(cli, "list", "--kind", "long_term") == ["18:40"]


def test_text_that_is_no_utf_8_is_printed(cli: Run) -> None:
    """What came over the command line in another encoding is kept with replacements, and neither command fails."""
    assert cli("memory", "set", "k\udce4", "caf\udce9")[0] == 0
    assert said(cli, "list") == ["caf?"]
    assert cli("memory", "list")[0] == 0


def test_a_run_is_never_cut_and_times_are_utc(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pipe nothing is cut or wrapped; on a narrow terminal the run's id stays whole."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    run = "a-run-with-a-name-of-sixty-characters-" + "x" * 22
    memory = AgentMemory(team="team", run=run)
    item = memory.add_to_long_term("key", "a text of some length, " * 10, agent="ann")
    memory.close()
    when = item.created_at.strftime("%Y-%m-%d %H:%M")
    monkeypatch.setenv("COLUMNS", "80")
    assert re.search(rf"^ *1 +long_term +key +(a text of some length, ?)+ +ann +{run} +{when} *$", cli("memory", "list")[1], re.MULTILINE)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    assert run in cli("memory", "list")[1]
    monkeypatch.delenv("TZ")
    time.tzset()
