"""`unified-agents backends`: what is registered, and what can run here."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from unified_agents.cli.output import print_json
from unified_agents.registry import backends


def list_backends(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """List the registered backends, available or not."""
    found = backends().values()
    if as_json:
        rows = [
            {
                "name": b.name, "available": b.available, "framework_version": b.framework_version, "supported": b.supported,
                "install": b.install, "capabilities": dict(b.adapter.capabilities),
            }
            for b in found
        ]  # fmt: skip
        print_json({"backends": rows})
        return
    table = Table("backend", "available", "version", "supported", box=None)
    for b in found:
        table.add_row(b.name, "yes" if b.available else "no", b.framework_version or "–", b.supported)
    console = Console(highlight=False)
    console.print(table)
    for b in found:
        if b.lacking:
            console.print(f"\n{b.name}: {b.lacking}. Install it with: {b.install}", markup=False)
