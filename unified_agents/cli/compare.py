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

from unified_agents.cli.output import clean, errors, print_error, print_json
from unified_agents.cli.run import AllowImport, AsJson, File, HtmlFile, Quiet, Settings, Strict, inputs_of, pairs
from unified_agents.errors import Problem, SpecError

if TYPE_CHECKING:
    from unified_agents.compare import ComparedRun, Comparison


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
    from unified_agents.compare import compare_backends
    from unified_agents.report import check_page

    given = pairs(inputs or (), "-i")
    if html is not None:
        check_page(html)
    console = errors()

    def said(run: ComparedRun) -> None:
        if not quiet and console.is_terminal:
            row = f", row {run.row + 1}" if run.row else ""
            console.print(escape(clean(f"{run.backend}{row}, repeat {run.repeat + 1}: {run.error or run.status}".splitlines()[0])))

    made = compare_backends(
        file, [name.strip() for name in backends.split(",") if name.strip()], inputs=[{**row, **given} for row in _rows(inputs_file)], repeat=repeat,
        record=record, replay=replay, strict=strict, on_run=said, settings=pairs(settings or (), "--set"), allow_imports=allow_import or (),
    )  # fmt: skip
    if as_json:
        print_json(made.to_dict())
    else:
        show(made, Console(highlight=False))
    if html is not None:
        _write(made, html)


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
    if path is None or path.suffix != ".jsonl":
        return [inputs_of(path)]
    try:
        rows = [(number, json.loads(line)) for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if line.strip()]
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
    """The comparison as text."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (
        "task",
        "backend",
        "ok",
        "requests",
        "tokens in",
        "out",
        "added",
        "cost USD",
        "seconds",
        "outside",
        "retries",
        "tools",
        "same output",
    ):
        table.add_column(name, justify="left" if name in ("task", "backend") else "right")
    for task in made.tasks:
        for row in (one for one in made.rows() if one["task"] == task):
            table.add_row(*(escape(clean(cell)) for cell in _cells(row)))
    console.print(table)
    for run in made.runs:
        for said in [*([run.error] if run.error else []), *run.notes]:
            console.print(f"[red]{escape(clean(run.backend))}[/], repeat {run.repeat + 1}: {escape(clean(said))}", soft_wrap=True)
    if len(made.backends) > 1:
        console.print("All outputs are equal." if made.equal else "The outputs differ.")


def _cells(row: Mapping[str, Any]) -> list[str]:
    spread = f" ({row['duration_s_min']:.2f}–{row['duration_s_max']:.2f})" if row["runs"] > 1 and row["duration_s"] is not None else ""
    same = "" if row.get("outputs_equal") is None else f"{row['outputs_equal']:.0%} ({row['similarity']:.2f} alike)"
    return [
        row["task"], row["backend"], f"{row['success_rate']:.0%}", _number(row["requests"]), _number(row["input_tokens"]), _number(row["output_tokens"]),
        _number(row["added_tokens"]), _number(row["cost_usd"], 6), f"{_number(row['duration_s'], 2)}{spread}", _number(row["outside_s"], 2),
        _number(row["retries"]), _number(row["tool_calls"]), same,
    ]  # fmt: skip


def _number(value: float | None, places: int = 0) -> str:
    """What is not known is a dash, never 0."""
    return "–" if value is None else f"{value:,.{places}f}"
