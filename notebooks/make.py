"""Makes the notebooks from `src/`: Python in the percent format, executed, with outputs.

python notebooks/make.py            # all, or the names of some
python notebooks/make.py --check    # whether the kept notebooks have the cells of src
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode, v4

HERE = Path(__file__).parent
SECONDS = 120
_MARK = re.compile(r"^# %%(?P<markdown> \[markdown\])?$", re.MULTILINE)


def sources() -> list[Path]:
    """The sources, in the order of their numbers."""
    return sorted((HERE / "src").glob("*.py"))


def built(source: Path) -> NotebookNode:
    """The notebook of a source, without outputs.

    Raises:
        ValueError: something stands before the first cell.
    """
    before, *parts = _MARK.split(source.read_text(encoding="utf-8"))
    if before.strip():
        raise ValueError(f"{source.name}: found text before the first cell, expected '# %%'")
    cells = []
    for number, (markdown, text) in enumerate(zip(parts[::2], parts[1::2], strict=True), 1):
        make = v4.new_markdown_cell if markdown else v4.new_code_cell
        cells.append(make(_prose(text) if markdown else text.strip("\n"), id=f"cell-{number}"))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return v4.new_notebook(
        cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}}
    )


def _prose(text: str) -> str:
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in text.strip().splitlines())


def executed(notebook: NotebookNode, folder: Path, private: Path) -> NotebookNode:
    """The notebook, run in a folder; what Jupyter leaves behind goes to the `private` one.

    Raises:
        CellExecutionError: a cell failed.
    """
    places = {"IPYTHONDIR": "ipython", "JUPYTER_RUNTIME_DIR": "runtime"}
    environment = os.environ | {name: str(private / part) for name, part in places.items()}
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        shutdown_kernel="immediate",
        extra_arguments=["--log-level=ERROR"],
    )
    client.execute(env=environment)
    return notebook


def tidied(notebook: NotebookNode) -> NotebookNode:
    """The notebook with nothing in its metadata but kernel and language, and texts in one piece."""
    notebook.metadata = NotebookNode(
        kernelspec=notebook.metadata.kernelspec, language_info={"name": "python"}
    )
    for cell in notebook.cells:
        cell.metadata = NotebookNode()
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    return notebook


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """One output for each stream: where a text was cut depends on the moment."""
    made: list[NotebookNode] = []
    for output in outputs:
        output.pop("metadata", None) if output.output_type == "stream" else None
        last = made[-1] if made else NotebookNode(output_type="")
        if output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            made.append(output)
    return made


def complaints(notebook: NotebookNode) -> list[str]:
    """What must not be kept: errors, warnings, this machine's paths, objects' addresses."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "error":
                found.append(f"{cell.id}: {output.ename}: {output.evalue}")
            if output.get("name") == "stderr":
                found.append(f"{cell.id}: stderr: {output.text[:200]}")
            said = json.dumps({k: v for k, v in output.get("data", {}).items() if "image" not in k})
            said += output.get("text", "")
            found += [f"{cell.id}: {text}" for text in _OF_THIS_MACHINE.findall(said)]
    return found


_PLACES = {str(Path.home()), tempfile.gettempdir(), sys.prefix, str(HERE.parent)} - {"/"}
_OF_THIS_MACHINE = re.compile(
    "|".join([*map(re.escape, sorted(_PLACES, key=len, reverse=True)), r" at 0x[0-9a-f]+"])
)


def differs(source: Path) -> bool:
    """Whether the kept notebook has other cells than its source, or is not there."""
    kept = HERE / f"{source.stem}.ipynb"
    return not kept.exists() or cells_of(nbformat.read(kept, 4)) != cells_of(built(source))


def cells_of(notebook: NotebookNode) -> list[tuple[str, str, str]]:
    """What a notebook consists of, without outputs."""
    return [(cell.id, cell.cell_type, cell.source) for cell in notebook.cells]


def remake(source: Path) -> list[str]:
    """Make a notebook anew; what is wrong with it, and then it is not written."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as private:
        notebook = tidied(executed(built(source), Path(folder), Path(private)))
    if not (found := complaints(notebook)):
        nbformat.validate(notebook)
        text = nbformat.writes(notebook)
        (HERE / f"{source.stem}.ipynb").write_text(text + "\n", encoding="utf-8")
    return found


def main(arguments: list[str]) -> int:
    """The command."""
    if arguments == ["--check"]:
        stale = [source.stem for source in sources() if differs(source)]
        print(
            f"not as in src: {', '.join(stale)}; python notebooks/make.py" if stale else "as in src"
        )
        return 1 if stale else 0
    wrong = 0
    for source in sources():
        if not arguments or source.stem in arguments:
            found = remake(source)
            print(source.stem, *(found or ["made"]), sep="\n  ")
            wrong += len(found)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
