"""The command line: one file a command, errors and exit codes here.

Exit codes: 0 completed; 1 the run failed; 2 the file or the arguments are wrong; 3 the backend is not installed or refuses a field;
130 interrupted.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
from collections.abc import Sequence
from typing import Any

import typer

from unified_agents._version import __version__
from unified_agents.cli import backends, check, compare, init, memory, model, resume, run, runs, schema
from unified_agents.cli.output import print_error, print_json
from unified_agents.errors import RunError, UnifiedAgentsError

# The root of click's errors, by way of a public name: typer carries a click of its own in newer versions.
UsageProblem: type[Exception] = typer.BadParameter.__mro__[2]

INTERRUPTED = 130

app = typer.Typer(
    name="unified-agents",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Write a team of AI agents once, run it on CrewAI or on AutoGen.",
)
app.command("init")(init.init)
app.command("check")(check.check)
app.command("run")(run.run)
app.command("resume")(resume.resume)
app.add_typer(runs.app, name="runs")
app.command("compare")(compare.compare)
app.command("backends")(backends.list_backends)
app.command("schema")(schema.schema)
app.add_typer(memory.app, name="memory")
app.add_typer(model.app, name="model")


def _version(value: bool) -> None:
    if value:
        typer.echo(f"unified-agents {__version__}")
        raise typer.Exit


@app.callback()
def options(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version.")) -> None:
    """Write a team of AI agents once, run it on CrewAI or on AutoGen."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; SIGTERM ends a run as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = run_command(list(sys.argv[1:] if arguments is None else arguments))
    gc.freeze()  # else the interpreter walks a framework's 300,000 objects once more before it ends, for most of a second
    sys.exit(code)


def run_command(arguments: Sequence[str]) -> int:
    """Run the command line; the exit code."""
    as_json = "--json" in arguments
    try:
        code = app(args=list(arguments), prog_name="unified-agents", standalone_mode=False)
        if code == INTERRUPTED:  # typer turns Ctrl-C into this code
            typer.echo("Interrupted.", err=True)
        return code if isinstance(code, int) else 0
    except UsageProblem as error:
        _say_usage(error, as_json)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("Interrupted.", err=True)
        return INTERRUPTED
    except UnifiedAgentsError as error:
        _say(error, as_json)
        return error.exit_code
    except OSError as error:  # a full disk, a closed pipe
        typer.echo(f"Error: the output could not be written: {error.strerror or error}", err=True)
        return 1


def _say(error: UnifiedAgentsError, as_json: bool) -> None:
    """Print an error once: the result or the error document as JSON, else text on stderr."""
    if not as_json:
        print_error(error)
    elif isinstance(error, RunError) and error.result is not None:
        print_json(error.result.model_dump(mode="json"))
    else:
        print_json({"error": error.to_dict()})


def _say_usage(error: Any, as_json: bool) -> None:
    if as_json:
        document = {"error": {"type": "UsageError", "message": error.format_message(), "problems": []}}
        typer.echo(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        error.show()
