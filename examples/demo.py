"""What `make demo` runs: one team file on two backends, on the embedded model, side by side."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from unified_agents import RunResult, run_team
from unified_agents.chat_models.embedded import EmbeddedModel
from unified_agents.engine import engine
from unified_agents.terminal import clean

TEAM = Path(__file__).with_name("quickstart.yaml")
BACKENDS = ("crewai", "autogen")


def main() -> int:
    """Run the team on each backend and print both results."""
    engine().run(EmbeddedModel().load())  # now, so that the first backend's time does not hold it
    results: dict[str, RunResult] = {}
    for backend in BACKENDS:
        results[backend] = run_team(TEAM, backend=backend, progress=True)
    Console().print(side_by_side(results))
    return 0


def side_by_side(results: dict[str, RunResult]) -> Table:
    """A row a task, a column a backend."""
    table = Table(
        "task",
        *(f"{name} {result.framework_version}" for name, result in results.items()),
        title=f"{TEAM.name} on two backends",
        show_lines=True,
    )
    first = next(iter(results.values()))
    for task in first.tasks:
        cells = [f"{clean(result.tasks[task].output or '')}\n[dim]{result.tasks[task].duration_s:.2f} s[/]" for result in results.values()]
        table.add_row(f"[bold]{task}[/]", *cells)
    table.add_row(
        "[dim]whole run, with\nthe framework's import[/]",
        *(f"{result.duration_s:.2f} s, {result.usage.model_calls} model calls" for result in results.values()),
    )
    return table


if __name__ == "__main__":
    sys.exit(main())
