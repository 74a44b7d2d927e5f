"""`unified-agents model`: the embedded model."""

from __future__ import annotations

import typer

from unified_agents.chat_models import embedded

app = typer.Typer(no_args_is_help=True, help="The embedded model: no key, no network.")


@app.callback()
def _group() -> None:
    """The embedded model: no key, no network."""


@app.command("install")
def install() -> None:
    """Fetch the embedded model's weights (93 MB) and check them."""
    path = embedded.install()
    typer.echo(f"local/{embedded.NAME}: {path}")
    lacking = embedded.lacking(embedded.NAME)
    if lacking:
        typer.echo(f"Still missing: {lacking}", err=True)
        raise typer.Exit(1)
