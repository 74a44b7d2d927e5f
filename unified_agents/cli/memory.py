"""`unified-agents memory`: looks into what teams remember, and changes it."""

from __future__ import annotations

import re
from datetime import timezone
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import typer
from rich.markup import escape
from rich.table import Table

from unified_agents.cli.output import print_json, print_table
from unified_agents.errors import SpecError
from unified_agents.memory import AgentMemory, Item, Kind, namespace, open_store, store_path
from unified_agents.terminal import clean

app = typer.Typer(no_args_is_help=True, help="What teams remember: list, search, set, forget.")

_FILE = Path("team.yaml")
_KINDS: tuple[Kind, ...] = ("short_term", "long_term", "episode")
_MOST = 10_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Team = Annotated[
    str | None, typer.Option("--team", metavar="NAME", help="Whose memory; by default the name in team.yaml here, else 'team'.")
]
Store = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="sqlite:///FILE; by default the one of team.yaml here, else sqlite:///memory.db."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=_MOST, help="How many items at most.")]


@app.callback()
def _group() -> None:
    """What teams remember: list, search, set, forget."""


@app.command("list")
def list_items(
    kind: Annotated[Literal["short_term", "long_term", "episode"] | None, typer.Option("--kind", help="Only items of this kind.")] = None,
    limit: Limit = 50,
    team: Team = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """List what is remembered, newest first; of facts what is true now."""
    memory = _Place.of(team, store).opened(make=False)
    _show([] if memory is None else _newest(memory, (kind,) if kind else _KINDS, limit), as_json, "nothing is remembered yet")


@app.command("search")
def search(
    query: Annotated[str, typer.Argument(help="What to look for, in any words.")],
    limit: Limit = 5,
    team: Team = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """List what fits a query, best first: what agents would be reminded of, and the notes of all runs."""
    memory = _Place.of(team, store).opened(make=False, searching=True)
    _show([] if memory is None else _best(memory, query, limit), as_json, "nothing fits" if memory else "nothing is remembered yet")


@app.command("set")
def set_fact(
    key: Annotated[str, typer.Argument(help="What the fact is called.")],
    text: Annotated[str, typer.Argument(help="The fact.")],
    team: Team = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Remember a fact; what it was before is kept as its history."""
    if not key.strip():
        raise typer.BadParameter("found an empty key")
    memory = _Place.of(team, store).opened(make=True)
    assert memory is not None
    item = memory.add_to_long_term(key, text)
    if as_json:
        print_json({"item": _document(item)})
    else:
        typer.echo(f"Remembered as item {item.id}: {_line(item.key or key)}")


@app.command("forget")
def forget(
    key: Annotated[str | None, typer.Argument(help="A fact, with its history.")] = None,
    item: Annotated[int | None, typer.Option("--item", metavar="ID", min=1, help="One item, by the id that list shows.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything of the team, without asking.")] = False,
    team: Team = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Forget a fact, one item or everything; what is forgotten is deleted."""
    if [key is not None, item is not None, everything].count(True) != 1:
        raise typer.BadParameter("say what to forget: exactly one of KEY, --item ID and --all")
    memory = _Place.of(team, store).opened(make=False)
    count = 0 if memory is None else memory.forget(key, item=item)
    if as_json:
        print_json({"forgotten": count})
    else:
        typer.echo(f"Forgot {count} item{'' if count == 1 else 's'}.")


class _Place(NamedTuple):
    """Whose memory, and where it is kept."""

    team: str
    url: str
    semantic: bool

    @classmethod
    def of(cls, team: str | None, store: str | None) -> _Place:
        """What was asked for, filled up from the team file of the working folder.

        Raises:
            SpecError: that file cannot be read as far as it is needed.
        """
        name, url, semantic = ("team", "sqlite:///memory.db", False) if team and store else _from_file()
        return cls(_named(name if team is None else team), url if store is None else store, semantic)

    def opened(self, *, make: bool, searching: bool = False) -> AgentMemory | None:
        """The memory; None when there is no such file and none is to be made.

        Raises:
            typer.BadParameter: the store is not one that a command can look into.
        """
        try:
            path = store_path(self.url)
        except ValueError:
            raise typer.BadParameter(f"--store: found {self.url!r}, expected sqlite:///FILE") from None
        if path is None:
            raise typer.BadParameter(f"--store: found {self.url!r}, which ends with its process, expected sqlite:///FILE")
        if not make and _missing(path):
            return None
        return AgentMemory(open_store(self.url, semantic=searching and self.semantic), team=namespace(self.team), run="cli")


def _missing(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:  # the store says what it is
        return False
    return False


def _named(team: str) -> str:
    if not team or _CONTROL.search(team):
        raise typer.BadParameter(f"--team: found {team!r}, expected a name without control characters")
    return team


def _from_file() -> tuple[str, str, bool]:
    """Name, store and ranking of the team file; what else is wrong with it is not this command's business."""
    if not _FILE.is_file():
        return "team", "sqlite:///memory.db", False
    from unified_agents.loader import read_team
    from unified_agents.spec import MemorySpec

    loaded = read_team(_FILE)
    wrong = [problem for problem in loaded.problems if loaded.team is None or re.match(r"(name|memory)\b", problem.path)]
    if wrong or loaded.team is None:
        raise SpecError(wrong, str(_FILE))
    memory = loaded.team.memory or MemorySpec()
    return loaded.team.name, memory.store, memory.semantic


def _newest(memory: AgentMemory, kinds: tuple[Kind, ...], limit: int) -> list[Item]:
    """The newest of several kinds."""
    from unified_agents.engine import engine

    found = [item for kind in kinds for item in engine().run(memory.store.items(memory.team, kind, limit, None, None))]
    return sorted(found, key=lambda item: -item.id)[:limit]


def _best(memory: AgentMemory, query: str, limit: int) -> list[Item]:
    """What fits best, with the notes of all runs."""
    from unified_agents.engine import engine

    return engine().run(memory.store.recall(memory.team, query, limit, _KINDS))


def _show(items: list[Item], as_json: bool, nothing: str) -> None:
    if as_json:
        print_json({"items": [_document(item) for item in items]})
        return
    if not items:
        typer.echo(nothing)
        return
    table = Table("id", "kind", "key", "text", "agent", "run", "when (UTC)", box=None)
    for item in items:
        when = item.created_at.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M")
        cells = (str(item.id), item.kind, item.key or "", item.text, item.agent or "", item.run or "", when)
        table.add_row(*(escape(_line(cell)) for cell in cells))
    print_table(table, "run")


def _document(item: Item) -> dict[str, Any]:
    return {
        "id": item.id, "kind": item.kind, "key": item.key, "text": item.text, "agent": item.agent, "run": item.run,
        "created_at": item.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"), "data": dict(item.data),
    }  # fmt: skip


def _line(text: str) -> str:
    """A text as one line of a terminal."""
    return " ".join(clean(text).split())
