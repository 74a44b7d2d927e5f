"""`unified-agents model`: the embedded model."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from unified_agents.chat_models import embedded
from unified_agents.errors import ModelError

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


@app.command("serve")
def serve(
    port: Annotated[
        int, typer.Option("--port", "-p", min=0, max=65535, help="Where to listen on 127.0.0.1; 0 takes any free port.")
    ] = 8000,
) -> None:
    """Serve the embedded model as an OpenAI-compatible server on loopback, until Ctrl-C; its base_url goes to stdout."""
    from unified_agents.chat_models import serving
    from unified_agents.engine import engine

    lacking = embedded.lacking(embedded.NAME)
    if lacking:
        raise ModelError(lacking)
    engine().run(serving.serve(port, _ready))


def _ready(base_url: str) -> None:
    typer.echo(base_url)
    sys.stdout.flush()  # whoever started us reads it from a pipe
    typer.echo(f"Serving local/{embedded.NAME} (any key will do); Ctrl-C ends it.", err=True)
