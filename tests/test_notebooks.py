"""The notebooks run, their cells are those of their sources, and what is kept of them is fit to be kept."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="the extra `notebook`")
pytest.importorskip("nbclient", reason="the extra `notebook`")
pytest.importorskip("ipykernel", reason="the extra `notebook`")
pytest.importorskip("matplotlib", reason="the extra `notebook`")
pytest.importorskip("pandas", reason="the extra `notebook`")

pytestmark = pytest.mark.xdist_group("notebooks")  # one at a time: each starts a kernel that imports two frameworks

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
EACH = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem[:2])

# Runs in the kernel before the first cell: nothing but this machine is reached, and what was tried is remembered, since frameworks swallow such errors.
GUARD = """
import socket as _socket

_tried, _resolve, _connect = [], _socket.getaddrinfo, _socket.socket.connect


def _is_here(host):
    return host in (None, "", "localhost") or str(host).startswith(("127.", "::1"))


def _refuse(host):
    _tried.append(host)
    raise OSError(f"the test allows no network, not even {host}")


def _guarded_resolve(host, *rest, **options):
    return _resolve(host, *rest, **options) if _is_here(host) else _refuse(host)


def _guarded_connect(self, address):
    return _connect(self, address) if isinstance(address, (str, bytes)) or _is_here(address[0]) else _refuse(address[0])


_socket.getaddrinfo, _socket.socket.connect = _guarded_resolve, _guarded_connect
"""
AFTERWARDS = "assert not _tried, _tried"


def _maker() -> Any:
    spec = importlib.util.spec_from_file_location("notebooks_make", FOLDER / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = _maker()


@pytest.fixture
def private() -> Iterator[Path]:
    """A folder with a short name: a kernel's files are there."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def run(notebook: Any, folder: Path, private: Path) -> Any:
    """A notebook executed in a folder, without a network."""
    cell = nbformat.v4.new_code_cell
    guarded = nbformat.from_dict({**notebook, "cells": [cell(GUARD), *notebook.cells, cell(AFTERWARDS)]})
    return make.executed(guarded, folder, private)


def notebook_of(*cells: str) -> Any:
    """A notebook of some code cells."""
    made = [nbformat.v4.new_code_cell(text) for text in cells]
    return nbformat.v4.new_notebook(cells=made)


def test_there_are_five() -> None:
    """One of each source, and nothing else."""
    assert [path.stem for path in NOTEBOOKS] == [path.stem for path in make.sources()]
    assert len(NOTEBOOKS) == 5


SAID = {
    "01": ("a Crew: True", "a group chat: True"),
    "02": ("all outputs equal: True",),
    "03": (
        "LLM        27 requests, then RateLimitError",
        "ManagedLLM  4 requests",
        "Maximum number of messages 25 reached",
        "budget.model_calls is 4",
    ),
    "04": ("the same requests: True", "718 -> 88 tokens"),
    "05": ("The moon pulls the sea twice a day.", "senior: The books are in order."),
}


def text_of(notebook: Any) -> str:
    """What its cells said."""
    outputs = (output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


@EACH
def test_a_notebook_runs(path: Path, tmp_path: Path, private: Path) -> None:
    """From a copy in an empty folder, in a kernel's running loop, without a network; it says what the kept one says, and brings nothing that may not be kept."""
    copied = shutil.copy(path, tmp_path)
    kept = nbformat.read(copied, 4)
    done = run(kept, tmp_path, private)
    assert [said for said in SAID[path.stem[:2]] if said not in text_of(kept) or said not in text_of(done)] == []
    assert make.complaints(done) == []
    assert not [left.name for left in tmp_path.iterdir() if left.name not in (path.name, ".unified_agents")]


@pytest.mark.parametrize("cells", [("x = 1", "raise ValueError('it broke')"), ("import asyncio", "await asyncio.sleep(0)\nx.y")])
def test_a_cell_that_raises_is_noticed(cells: tuple[str, ...], tmp_path: Path, private: Path) -> None:
    """The negative control of the test above."""
    with pytest.raises(Exception, match=r"it broke|name 'x' is not defined"):
        run(notebook_of(*cells), tmp_path, private)


def test_a_call_to_the_network_is_noticed(tmp_path: Path, private: Path) -> None:
    """The guard's negative control: also where the error is swallowed."""
    swallowed = "import urllib.request\ntry:\n    urllib.request.urlopen('http://example.invalid')\nexcept OSError:\n    pass"
    with pytest.raises(Exception, match=r"example\.invalid"):
        run(notebook_of(swallowed), tmp_path, private)


@EACH
def test_a_kept_notebook_is_that_of_its_source(path: Path) -> None:
    """`python notebooks/make.py` makes it anew; a changed cell is noticed."""
    source = FOLDER / "src" / f"{path.stem}.py"
    assert not make.differs(source)
    kept = nbformat.read(path, 4)
    kept.cells[1].source += " "
    assert make.cells_of(kept) != make.cells_of(make.built(source))


def test_the_check_on_the_command_line() -> None:
    """It says so, and its exit code does."""
    done = subprocess.run([sys.executable, str(FOLDER / "make.py"), "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "as in src\n")


@EACH
def test_a_kept_notebook_has_its_outputs(path: Path) -> None:
    """Every code cell was run, in order, without an error; what shows something has its output; nothing is this machine's."""
    kept = nbformat.read(path, 4)
    nbformat.validate(kept)
    code = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert make.complaints(kept) == []
    for cell in code:
        shows = re.search(r"^\s*(print\(|plt\.show\(|draw\(|comparison)|\.plot\(\)$|^table\.loc", cell.source, re.MULTILINE)
        assert cell.outputs or not shows or "def " in cell.source, cell.source
    assert any("image/png" in output.get("data", {}) for cell in code for output in cell.outputs)
    assert path.stat().st_size < 250_000


@EACH
def test_a_lesson_is_cut_like_the_others(path: Path) -> None:
    """What and why at the beginning, what to try next at the end, short cells, links that lead somewhere."""
    cells = nbformat.read(path, 4).cells
    assert cells[0].source.startswith("# ")
    assert "**What.**" in cells[0].source
    assert "**Why.**" in cells[0].source
    assert cells[-1].source.startswith("## What to try next")
    assert all(cell.source.count("\n") < 40 for cell in cells)
    links = re.findall(r"\]\(([^)#]+)\)", "\n".join(cell.source for cell in cells))
    assert links
    assert not [link for link in links if not (FOLDER / link).exists()]


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ({"output_type": "stream", "name": "stdout", "text": f"in {tempfile.gettempdir()}/x"}, tempfile.gettempdir()),
        ({"output_type": "stream", "name": "stderr", "text": "careful"}, "careful"),
        ({"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}, "ValueError"),
        (
            {"output_type": "execute_result", "data": {"text/html": f"<b>{sys.prefix}</b>"}, "metadata": {}, "execution_count": 1},
            sys.prefix,
        ),
        ({"output_type": "execute_result", "data": {"text/plain": "<X at 0x7f00>"}, "metadata": {}, "execution_count": 1}, "0x7f00"),
    ],
)
def test_what_may_not_be_kept_is_noticed(output: dict[str, Any], said: str) -> None:
    """The control of the tests above: each kind of output that a reader elsewhere should not see."""
    cell = nbformat.v4.new_code_cell("x", outputs=[nbformat.from_dict(output)])
    (found,) = make.complaints(nbformat.v4.new_notebook(cells=[cell]))
    assert said in found
