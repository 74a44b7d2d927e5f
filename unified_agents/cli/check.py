"""`unified-agents check`: validates a team file and says what would happen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from unified_agents.cli.output import print_json
from unified_agents.cli.run import Backend, File
from unified_agents.errors import SpecError, UnsupportedFeatureError
from unified_agents.outlook import Checked, check_file
from unified_agents.terminal import clean


def check(
    file: File = Path("team.yaml"),
    backend: Backend = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> int:
    """Validate a team file; print the plan and what becomes of each field on every backend."""
    checked = check_file(file, backend)
    if as_json:
        print_json(document(checked))
    elif checked.problems:
        raise SpecError(checked.problems, str(file))
    else:
        _print(checked)
        if checked.refused:
            raise UnsupportedFeatureError(checked.backend, [row.to_problem() for row in checked.refused])
    return checked.exit_code


def document(checked: Checked) -> dict[str, Any]:
    """What `check --json` prints."""
    problems = [*checked.problems, *(row.to_problem() for row in checked.refused)]
    return {
        "ok": not problems,
        "problems": [problem.to_dict() for problem in problems],
        "plan": checked.plan,
        "fidelity": [row.to_dict() for row in checked.rows],
        "unused": [problem.to_dict() for problem in checked.unused],
    }


def _print(checked: Checked) -> None:
    console = Console(highlight=False)
    plan = Table("task", "agent", "why", "sees", title="Plan", title_justify="left", box=None)
    for row in checked.plan:
        plan.add_row(
            *(escape(clean(text)) for text in (row["task"], row["agent"], row["reason"], ", ".join(row["context"]) or "no other output"))
        )
    console.print(plan)
    names = list(dict.fromkeys(row.backend for row in checked.rows))
    table = Table("field", *names, title="\nFidelity", title_justify="left", box=None)
    levels = {(row.path, row.backend): row for row in checked.rows}
    for path in dict.fromkeys(row.path for row in checked.rows):
        table.add_row(escape(clean(path)), *(_cell(levels[path, name].level) for name in names))
    console.print(table)
    for problem in checked.unused:
        console.print(f"[yellow]{escape(clean(problem.path))} {escape(problem.message)}; nothing reads it here.[/]")
    if not checked.refused:
        console.print(f"\nOK on {checked.backend}.")


def _cell(level: str) -> str:
    return f"[red]{level}[/]" if level == "refused" else level
