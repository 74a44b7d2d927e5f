"""`unified-agents run`: runs a team file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from unified_agents.cli.output import print_json, print_output
from unified_agents.cli.progress import RunProgress
from unified_agents.cli.reviewer import terminal_reviewer
from unified_agents.errors import Problem, SpecError

File = Annotated[Path, typer.Argument(help="The team file, YAML or JSON.")]
Backend = Annotated[str | None, typer.Option("--backend", "-b", help="The backend to run on; see: unified-agents backends.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Replace a part of the file, such as models.default.temperature=0.5."),
]


def run(
    file: File = Path("team.yaml"),
    backend: Backend = None,
    inputs: Annotated[list[str] | None, typer.Option("--input", "-i", metavar="KEY=VALUE", help="An input of the team.")] = None,
    inputs_file: Annotated[Path | None, typer.Option("--inputs", metavar="FILE", help="Inputs from a YAML or JSON file; -i wins.")] = None,
    settings: Settings = None,
    allow_import: Annotated[
        list[str] | None, typer.Option("--allow-import", metavar="PKG", help="A package that references in the file may name.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole result as one JSON document.")] = False,
    run_id: Annotated[str | None, typer.Option("--run-id", help="A name for this run.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict/--no-strict", help="Refuse a team that uses what the backend cannot do, or run without it.")
    ] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
) -> None:
    """Run a team; its output goes to stdout."""
    from unified_agents.engine import engine
    from unified_agents.preparation import Options, prepare
    from unified_agents.result import RunResult
    from unified_agents.runtime import execute

    given = {**_from_file(inputs_file), **pairs(inputs or (), "-i")}
    progress = RunProgress(quiet=quiet)
    options = Options(
        backend=backend,
        inputs=given,
        reviewer=terminal_reviewer(progress),
        strict=strict,
        settings=pairs(settings or (), "--set"),
        allow_imports=allow_import or (),
    )
    prepared = prepare(file, options)
    cancelled: list[RunResult] = []
    try:
        with progress:
            result = engine().run(execute(prepared, progress.listen, run_id, cancelled.append))
    except KeyboardInterrupt:
        if as_json and cancelled:
            print_json(cancelled[0].model_dump(mode="json"))
        raise
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        print_output(str(result))


def pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """`KEY=VALUE` texts as a mapping.

    Raises:
        SpecError: one holds no `=`.
    """
    wrong = [Problem("", f"{option} {text}: expected KEY=VALUE") for text in texts if "=" not in text or text.startswith("=")]
    if wrong:
        raise SpecError(wrong, "the arguments")
    return {key: value for key, _, value in (text.partition("=") for text in texts)}


def _from_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    from unified_agents.reading import ReadError, read_text

    try:
        data, _ = read_text(path.read_text(encoding="utf-8"), is_json=path.suffix == ".json")
    except ReadError as error:
        raise SpecError(error.problems, str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError([Problem("", f"cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}")], str(path)) from None
    if not isinstance(data, dict):
        raise SpecError([Problem("", "expected inputs as key: value")], str(path))
    return data
