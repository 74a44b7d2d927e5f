"""`module:name`: the team's own folder, what the caller allows, and nothing else; every refusal in words."""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from unified_agents.references import BadReferenceError, resolve_reference


def write(folder: Path, **files: str) -> Path:
    """Python files in a folder; `a__b` is a/b.py."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def refusal(text: str, folder: Path, allowed: Sequence[str] = ()) -> str:
    """Why a reference is refused."""
    with pytest.raises(BadReferenceError) as caught:
        resolve_reference(text, folder, allowed)
    return str(caught.value)


def package(folder: Path, **files: str) -> Path:
    """As `write`, with an empty __init__ for `pkg`."""
    write(folder, **files)
    (folder / "pkg" / "__init__.py").touch()
    return folder


def test_a_module_of_the_own_folder(tmp_path: Path) -> None:
    """A module, a package's own name, a module in a package, and one in a plain folder."""
    package(tmp_path, my_tools="X = 1\ndef f(): return X", pkg__deep="Y = 2", plain__part="Z = 3")
    (tmp_path / "pkg" / "__init__.py").write_text(
        "from .deep import Y\nfrom pkg import deep\nfrom pkg.deep import Y as again\nW = (Y, deep.Y, again)"
    )
    assert resolve_reference("my_tools:f", tmp_path)() == 1
    assert resolve_reference("pkg:W", tmp_path) == (2, 2, 2)
    assert resolve_reference("pkg.deep:Y", tmp_path) == 2
    assert resolve_reference("plain.part:Z", tmp_path) == 3


def test_a_folder_given_relatively_and_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the folder is written, it is the same folder, and its modules are loaded once."""
    write(tmp_path / "real", my_tools="THING = object()")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path / "real")
    found = {id(resolve_reference("my_tools:THING", folder)) for folder in (Path(), tmp_path / "real", tmp_path / "link")}
    assert len(found) == 1


def test_siblings_import_each_other(tmp_path: Path) -> None:
    """At import and later in a function, whole or in part, in circles; each module exists once."""
    package(
        tmp_path,
        my_tools="import helpers\nfrom helpers import LIST\nimport pkg.deep\nfrom pkg import deep as d\ndef f():\n"
        "    import late\n    return LIST is helpers.LIST, late.V, pkg.deep.V, d.V, late.my_tools.f is f",
        helpers="import my_tools\nLIST = []",
        late="import my_tools\nV = 'late'",
        pkg__deep="from helpers import LIST\nV = 'deep'\nLIST.append(V)",
    )
    assert resolve_reference("my_tools:f", tmp_path)() == (True, "late", "deep", "deep", True)
    assert resolve_reference("helpers:LIST", tmp_path) == ["deep"]


def test_two_folders_with_the_same_module_names(tmp_path: Path) -> None:
    """Each team has its own `my_tools` and its own `helpers`, at import and later; `import helpers` elsewhere finds neither."""
    for name in ("one", "two"):
        write(tmp_path / name, my_tools="from helpers import V\ndef f():\n    import helpers, late\n    return V, helpers.V, late.V",
              helpers=f"V = '{name}'", late=f"V = 'late {name}'")  # fmt: skip
    first, second = (resolve_reference("my_tools:f", tmp_path / name) for name in ("one", "two"))
    assert first() == ("one", "one", "late one")
    assert second() == ("two", "two", "late two")
    assert first() == ("one", "one", "late one")
    with pytest.raises(ModuleNotFoundError):
        __import__("helpers")
    assert not {"my_tools", "helpers", "late"} & set(sys.modules)
    assert str(tmp_path / "one") not in sys.path


def test_a_changed_file_is_loaded_anew(tmp_path: Path) -> None:
    """The file itself or one that it imports, even within a second and of the same length; what did not change is not run again."""
    write(tmp_path, my_tools="from helpers import V\nW = [1]", helpers="V = 'a'")
    first = resolve_reference("my_tools:W", tmp_path)
    assert resolve_reference("my_tools:W", tmp_path) is first
    write(tmp_path, helpers="V = 'b'")
    assert resolve_reference("my_tools:V", tmp_path) == "b"
    write(tmp_path, my_tools="from helpers import V\nW = [2]")
    assert (resolve_reference("my_tools:W", tmp_path), first) == ([2], [1])
    write(tmp_path, fresh="U = 3")
    assert resolve_reference("fresh:U", tmp_path) == 3
    assert not list(tmp_path.rglob("__pycache__"))


@pytest.mark.parametrize("text", ["os:system", "subprocess:run", "antigravity:fly", "unified_agents.engine:engine", "pkg.os:system"])
def test_what_nobody_allowed_is_refused_and_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """The message names the folder, the module and the two ways out; nothing was imported to find that out."""
    write(tmp_path, my_tools="X = 1")
    imported: list[str] = []
    monkeypatch.setattr("importlib.import_module", lambda name, *_: imported.append(name))
    said = refusal(text, tmp_path, ["json"])
    top = text.split(":")[0].split(".")[0]
    assert f"{top!r} is not among the allowed packages" in said
    assert f"--allow-import {top}" in said
    assert str(tmp_path) in said
    assert imported == []
    assert "antigravity" not in sys.modules


def test_what_the_caller_allows(tmp_path: Path) -> None:
    """A package and all in it; a part of it alone; never one whose name only begins so."""
    assert resolve_reference("os:getcwd", tmp_path, ["os"]) is __import__("os").getcwd
    assert resolve_reference("os.path:join", tmp_path, ["os"])("a", "b") == "a/b"
    assert resolve_reference("json.decoder:JSONDecoder", tmp_path, ["json.decoder"])
    assert "is not among" in refusal("json:loads", tmp_path, ["json.decoder"])
    assert "is not among" in refusal("os2:x", tmp_path, ["os"])
    assert "is not among" in refusal("osx.y:z", tmp_path, ["os"])
    assert "is not among" in refusal("os:getcwd", tmp_path, [""])


def test_a_missing_attribute(tmp_path: Path) -> None:
    """What was meant is proposed; private names are not."""
    write(tmp_path, my_tools="def search_notes(): ...\n_secret = 1")
    assert refusal("my_tools:serch_notes", tmp_path) == "my_tools has no 'serch_notes', did you mean 'search_notes'?"
    assert refusal("my_tools:_secre", tmp_path) == "my_tools has no '_secre'"


WRONG = [
    "my_tools:a.b",
    "my_tools:",
    ":f",
    "my_tools",
    "",
    "..my_tools:f",
    "../my_tools:f",
    "/etc/my_tools:f",
    "pkg/my_tools:f",
    "my_tools:f()",
    "a b:c",
]


@pytest.mark.parametrize("text", WRONG)
def test_anything_but_module_and_name_is_refused(tmp_path: Path, text: str) -> None:
    """No path, no dotted attribute, no expression: nothing is looked up, let alone run."""
    write(tmp_path / "in", my_tools="raise AssertionError")
    write(tmp_path, my_tools="raise AssertionError")
    assert refusal(text, tmp_path / "in").startswith(f"found {text!r}, expected MODULE:NAME")


RAISING = {
    "1 / 0": "ZeroDivisionError: division by zero (my_tools.py, line 2)",
    "import no_such_module": "ModuleNotFoundError: No module named 'no_such_module' (my_tools.py, line 2)",
    "def f(:": "SyntaxError: ",
    "import sys; sys.exit(3)": "SystemExit: 3 (my_tools.py, line 2)",
    "import helpers": "RuntimeError: deep (helpers.py, line 1)",
    "raise StopIteration": "StopIteration: ",
}


@pytest.mark.parametrize("line", RAISING)
def test_an_import_that_raises(tmp_path: Path, line: str) -> None:
    """Error, file and line are told; the process goes on, and a repaired file works."""
    write(tmp_path, my_tools=f"\n{line}", helpers="raise RuntimeError('deep')")
    assert f"importing my_tools failed: {RAISING[line]}" in refusal("my_tools:f", tmp_path)
    assert "importing my_tools failed" in refusal("my_tools:f", tmp_path)
    write(tmp_path, my_tools="f = 'repaired'")
    assert resolve_reference("my_tools:f", tmp_path) == "repaired"


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    """A linked file or package elsewhere is not the team's own; a link within the folder is."""
    folder = write(tmp_path / "team", real="X = 1")
    package(tmp_path / "else", evil="raise AssertionError", pkg__deep="raise AssertionError")
    (folder / "evil.py").symlink_to(tmp_path / "else" / "evil.py")
    (folder / "pkg").symlink_to(tmp_path / "else" / "pkg")
    (folder / "good.py").symlink_to(folder / "real.py")
    assert "leads outside this folder" in refusal("evil:X", folder)
    for text in ("pkg:X", "pkg.deep:X"):
        assert "is not among the allowed packages" in refusal(text, folder)
    assert resolve_reference("good:X", folder) == 1


def test_a_module_named_as_one_of_the_standard_library(tmp_path: Path) -> None:
    """The team's `random` is the team's alone: it means itself there, and the real one to everybody else."""
    write(
        tmp_path,
        random="def choice(): return 4",
        my_tools="import random\nimport tempfile\ndef f(): return random.choice()",
        colorsys="X = 1",
    )
    assert resolve_reference("random:choice", tmp_path)() == 4
    assert resolve_reference("my_tools:f", tmp_path)() == 4
    assert sys.modules["random"] is random
    assert random.choice([5]) == 5
    assert resolve_reference("colorsys:X", tmp_path) == 1
    assert hasattr(__import__("colorsys"), "rgb_to_hsv")


def test_a_module_that_the_process_imported_itself_is_not_doubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a script imported from the same folder keeps its classes, so that instances are known on both sides."""
    write(tmp_path, shared_kinds="class Article: ...", my_tools="from shared_kinds import Article\nf = Article")
    monkeypatch.syspath_prepend(tmp_path)
    own: Any = __import__("shared_kinds")
    try:
        assert resolve_reference("my_tools:f", tmp_path) is own.Article
    finally:
        del sys.modules["shared_kinds"]


def test_classes_of_a_team_are_known_by_their_module(tmp_path: Path) -> None:
    """Pydantic models with late annotations, dataclasses and pickle find the module a class names."""
    write(
        tmp_path,
        my_tools="from __future__ import annotations\nfrom dataclasses import dataclass\nfrom pydantic import BaseModel\n"
        "class Part(BaseModel):\n    n: int\nclass Whole(BaseModel):\n    parts: list[Part]\n@dataclass\nclass Point:\n    x: int\n",
    )
    whole = resolve_reference("my_tools:Whole", tmp_path)(parts=[{"n": 1}])
    point = resolve_reference("my_tools:Point", tmp_path)(x=1)
    assert whole.parts[0].n == 1
    assert pickle.loads(pickle.dumps((whole, point))) == (whole, point)


def test_imports_of_others_are_left_alone(tmp_path: Path) -> None:
    """The folder never stands on sys.path, not even while its modules are imported; other packages are imported as always."""
    write(
        tmp_path,
        my_tools="import sys\nimport json.decoder\nfrom os import path\nfrom xml import sax\nPATH = list(sys.path)\nOUT = (json.decoder, path, sax)",
    )
    assert str(tmp_path) not in resolve_reference("my_tools:PATH", tmp_path)
    assert resolve_reference("my_tools:OUT", tmp_path) == (sys.modules["json.decoder"], sys.modules["os"].path, sys.modules["xml.sax"])
