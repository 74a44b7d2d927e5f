"""`unified-agents compare`: the same team on several backends, side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from unified_agents.cli.output import document, print_error, print_json
from unified_agents.cli.reviewer import terminal_reviewer
from unified_agents.cli.run import AllowImport, AsJson, File, HtmlFile, Quiet, Settings, Strict, apart, inputs_of, pairs
from unified_agents.errors import Problem, SpecError
from unified_agents.progress.terminal import TerminalBoard
from unified_agents.sheet import blocks, where
from unified_agents.sheet import errors as found_errors
from unified_agents.terminal import clean

if TYPE_CHECKING:
    from unified_agents.comparison import ComparedRun, Comparison


def compare(
    file: File = Path("team.yaml"),
    backends: Annotated[
        str, typer.Option("--backends", "-b", metavar="A,B", help="The backends; differences are to the first.")
    ] = "crewai,autogen",
    inputs: Annotated[list[str] | None, typer.Option("--input", "-i", metavar="KEY=VALUE", help="An input, the same for all rows.")] = None,
    inputs_file: Annotated[
        Path | None,
        typer.Option("--inputs", metavar="ROWS.jsonl", help="Rows of inputs: a JSON object a line, or one file of YAML or JSON."),
    ] = None,
    repeat: Annotated[int, typer.Option("--repeat", "-n", min=1, help="How often each row is run on each backend.")] = 1,
    record: Annotated[Path | None, typer.Option("--record", metavar="FILE", help="Keep the models' answers in a file.")] = None,
    replay: Annotated[
        Path | None, typer.Option("--replay", metavar="FILE", help="Answer from such a file: identical answers for all.")
    ] = None,
    settings: Settings = None,
    allow_import: AllowImport = None,
    as_json: AsJson = False,
    html: HtmlFile = None,
    strict: Strict = True,
    quiet: Quiet = False,
) -> None:
    """Run the same team on several backends, in turns, and put them side by side."""
    from unified_agents.compare import compare_backends, put_together
    from unified_agents.report import check_page

    given = pairs(inputs or (), "-i")
    if html is not None:
        apart("--html", html, [file, inputs_file, record, replay])
        check_page(html)
    board, names = TerminalBoard(quiet=quiet, timed=False), [name.strip() for name in backends.split(",") if name.strip()]
    ended: list[ComparedRun] = []
    try:
        made = compare_backends(
            file, names, inputs=[{**row, **given} for row in _rows(inputs_file)], repeat=repeat, record=record, replay=replay, strict=strict,
            settings=pairs(settings or (), "--set"), allow_imports=allow_import or (), reviewer=terminal_reviewer(board), progress=board,
            on_run=ended.append,
        )  # fmt: skip
    except KeyboardInterrupt:  # what was run and paid for is not lost
        _tell(put_together(names, ended), as_json=as_json, html=html)
        raise
    _tell(made, as_json=as_json, html=html)
    raise typer.Exit(_exit_code(made))


def _tell(made: Comparison, *, as_json: bool, html: Path | None) -> None:
    try:
        if as_json:
            print_json(made.to_dict())
        elif made.runs:
            show(made, document())
    finally:  # whoever reads stdout may have closed it, and still wants the page
        if html is not None:
            _write(made, html)


def _exit_code(made: Comparison) -> int:
    """3 when a backend could not begin; 1 when no run was completed; a run that failed beside others is what a comparison tells."""
    statuses = {run.status for run in made.runs}
    if "refused" in statuses:
        return 3
    return 0 if "completed" in statuses else 1


def _write(made: Comparison, html: Path) -> None:
    """Write the page; when that fails, after all that was run, the results are on stdout already and the error goes to stderr alone."""
    from unified_agents.report import comparison_page, write_page

    try:
        write_page(comparison_page(made), html)
    except SpecError as error:
        print_error(error)
        raise typer.Exit(error.exit_code) from None


def _rows(path: Path | None) -> list[Mapping[str, Any]]:
    """The rows of a file; one empty row without one.

    Raises:
        SpecError: it holds none.
    """
    if path is None or path.suffix.lower() not in (".jsonl", ".ndjson"):
        return [inputs_of(path)]
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # and nowhere else: a text may hold other ends of lines
        rows = [(number, json.loads(line)) for number, line in enumerate(lines, 1) if line.strip()]
    except (OSError, ValueError) as error:
        raise SpecError([Problem("", f"cannot be read: {error}")], str(path)) from None
    wrong = [
        Problem("", f"line {number}: found {type(row).__name__}, expected a JSON object of inputs")
        for number, row in rows
        if not isinstance(row, dict)
    ]
    if wrong or not rows:
        raise SpecError(wrong or [Problem("", "holds no rows")], str(path))
    return [row for _, row in rows]


def show(made: Comparison, console: Console) -> None:
    """The comparison as text: a block for whole runs, one for each task."""
    others = made.backends[1:]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", no_wrap=True)
    for name in [*made.backends, *(f"{other} − {made.backends[0]}" for other in others)]:
        table.add_column(escape(clean(name)), justify="right", overflow="fold")
    for block in blocks(made):
        table.add_row(f"[bold]{escape(clean(block.task if block.task is not None else 'whole run'))}[/]")
        for row in block.rows:
            table.add_row(*(escape(clean(cell)) for cell in (f"  {row.label}", *row.cells, *row.differences)))
    console.print(table)
    _explain(made, console)


def _explain(made: Comparison, console: Console) -> None:
    """What stands below the table: what went wrong, and how to read it."""
    for run, count, said in found_errors(made):
        console.print(f"[red]{escape(clean(where(run, count, made.inputs)))}[/]: {escape(clean(said))}", soft_wrap=True)
    if len(made.backends) > 1:
        pairs = len(made.runs) // len(made.backends)
        read = f"of {pairs} pairs [95% interval], ✱ leaves 0 out" if pairs > 1 else "of one pair; --repeat gives intervals"
        console.print(f"{made.verdict} Medians; differences {read}.", soft_wrap=True)
