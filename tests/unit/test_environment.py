"""`${VAR}` and `.env`: the real environment always wins, and what is missing is named."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from unified_agents.environment import expand, read_environment

ENV = {"KEY": "value", "EMPTY": "", "URL": "http://host:1/v1", "NESTED": "${KEY}", "_x1": "under"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("${KEY}", "value"),
        ("a ${KEY} b ${_x1}", "a value b under"),
        ("${KEY:-other}", "value"),
        ("${NONE:-other}", "other"),
        ("${NONE:-https://api.openai.com/v1}", "https://api.openai.com/v1"),
        ("${NONE:-}", ""),
        ("${EMPTY:-other}", "other"),
        ("${EMPTY}", ""),
        ("${URL}/chat", "http://host:1/v1/chat"),
    ],
)
def test_variables_are_put_in_as_in_a_shell(text: str, expanded: str) -> None:
    """A set variable gives its value; the default stands in for an unset or empty one."""
    assert expand(text, ENV) == (expanded, [])


@pytest.mark.parametrize("text", ["$KEY", "{KEY}", "${}", "${1KEY}", "${KEY", "$ {KEY}", "%KEY%", "price: $5"])
def test_anything_else_stays_as_it_is(text: str) -> None:
    """Only the two documented forms mean a variable."""
    assert expand(text, ENV) == (text, [])


def test_values_are_put_in_once() -> None:
    """A value that looks like a variable is not looked up again."""
    assert expand("${NESTED} ${KEY}", ENV) == ("${KEY} value", [])


def test_missing_variables_are_all_named() -> None:
    """Every variable without value and default is reported, in order."""
    assert expand("${FIRST}:${KEY}:${SECOND}", ENV)[1] == ["FIRST", "SECOND"]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A team's folder, and another one to work in."""
    beside, working = tmp_path / "team", tmp_path / "work"
    beside.mkdir()
    working.mkdir()
    monkeypatch.chdir(working)
    monkeypatch.delenv("UA_TEST_KEY", raising=False)
    return beside, working


@pytest.mark.parametrize(
    ("beside", "working", "real", "found"),
    [
        ("beside", None, None, "beside"),
        (None, "working", None, "working"),
        ("beside", "working", None, "beside"),
        ("beside", "working", "real", "real"),
        (None, "working", "real", "real"),
        ("beside", "working", "", ""),
        (None, None, None, None),
    ],
)
def test_dotenv_fills_up_and_never_overrides(
    folders: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    beside: str | None,
    working: str | None,
    real: str | None,
    found: str | None,
) -> None:
    """The environment wins over `.env` beside the file, which wins over `.env` in the working folder."""
    for folder, value in zip(folders, (beside, working), strict=True):
        if value is not None:
            (folder / ".env").write_text(f"UA_TEST_KEY={value}\n")
    if real is not None:
        monkeypatch.setenv("UA_TEST_KEY", real)
    assert read_environment(folders[0]).get("UA_TEST_KEY") == found


def test_both_files_are_read(folders: tuple[Path, Path]) -> None:
    """A variable that stands in one of the two files only is found."""
    (folders[0] / ".env").write_text("UA_TEST_ONE=1\n")
    (folders[1] / ".env").write_text("UA_TEST_TWO=2\n")
    env = read_environment(folders[0])
    assert (env["UA_TEST_ONE"], env["UA_TEST_TWO"]) == ("1", "2")


def test_a_foreign_folder_is_not_read(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Neither the parent folder nor, without a file, any team's folder counts."""
    (tmp_path / ".env").write_text("UA_TEST_KEY=parent\n")
    (folders[0] / ".env").write_text("UA_TEST_OTHER=team\n")
    env = read_environment()
    assert "UA_TEST_KEY" not in env
    assert "UA_TEST_OTHER" not in env


def test_the_process_is_not_changed(folders: tuple[Path, Path]) -> None:
    """Reading `.env` does not export it to this process or its children."""
    (folders[0] / ".env").write_text("UA_TEST_KEY=beside\n")
    before = dict(os.environ)
    assert read_environment(folders[0])["UA_TEST_KEY"] == "beside"
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("UA_TEST_KEY='a b'\n", {"UA_TEST_KEY": "a b"}),
        ('export UA_TEST_KEY="x"\n', {"UA_TEST_KEY": "x"}),
        ("# UA_TEST_KEY=x\n\nUA_TEST_OTHER=y # note\n", {"UA_TEST_OTHER": "y"}),
        ("UA_TEST_KEY\n", {}),
    ],
)
def test_dotenv_is_written_as_usual(folders: tuple[Path, Path], text: str, expected: Mapping[str, str]) -> None:
    """Quotes, `export` and comments mean what they mean in every `.env`."""
    (folders[0] / ".env").write_text(text)
    found = {name: value for name, value in read_environment(folders[0]).items() if name.startswith("UA_TEST_")}
    assert found == expected
