"""A team file and the environment to a TeamSpec, or all that is wrong with them at once."""

from __future__ import annotations

import copy
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from unified_agents.checks import check_team, models_in_use
from unified_agents.environment import expand, malformed, read_environment
from unified_agents.errors import Problem, SpecError, did_you_mean
from unified_agents.reading import MAX_BYTES, Marks, ReadError, plain_scalar, read_text
from unified_agents.spec import ModelSpec, TeamSpec

# What other tools call it: their key to ours.
FOREIGN_KEYS = {
    "llm": "model",
    "llm_config": "model",
    "model_client": "model",
    "max_iter": "max_iterations",
    "max_consecutive_auto_reply": "max_iterations",
    "system_message": "instructions",
    "system_prompt": "instructions",
    "dependencies": "context",
    "depends_on": "context",
    "human_input": "human_review",
    "output_pydantic": "output_schema",
    "output_json": "output_schema",
    "response_format": "output_schema",
    "allow_delegation": "delegates_to",
    "config_list": "models",
    "max_round": "max_rounds",
    "max_turns": "max_rounds",
}
_SPOKEN = {"verbose": "progress is always shown; leave it out"}
_EXPANDED = ("models", "tools", "memory", "journal")
_SECTIONS = ("inputs", "models", "agents", "tasks", "tools")
# What stands in for a required text while the rest of a broken file is checked.
_DUMMIES = {"description": "?", "model": "openai/unset", "name": "unset", "says": "?", "input_per_million": 0, "output_per_million": 0}

_ENTRIES: Mapping[str, Mapping[str, Any]] = {
    "agents": {"role": "?"},
    "tasks": {"description": "?"},
    "models": {"model": "openai/unset"},
    "inputs": {},
    "tools": {"python": "unset:unset"},
}
_SECRET = frozenset({"api_key", "extra_headers", "headers", "env"})

Path_ = Sequence[Any]


@dataclass
class Loaded:
    """What reading a file gave: the team (None when it is too broken to look further) and its problems, with their lines."""

    source: str
    team: TeamSpec | None = None
    problems: list[Problem] = field(default_factory=list)
    marks: Marks = field(default_factory=lambda: Marks(1))
    data: Any = None

    def add(self, problems: Sequence[Problem]) -> None:
        """Take up problems, each with the line of its path."""
        self.problems += [p if p.line is not None else Problem(p.path, p.message, self._line(p.path)) for p in problems]

    def _line(self, path: str) -> int | None:
        """The line of the longest part of `path` that stands in the file."""
        marks, data = self.marks, self.data
        if not path:
            return None
        rest = path
        while rest:
            step = _next_key(rest, data)
            if step is None:
                break
            key, rest = step
            index = _index(data, key)
            if index is None or index not in marks.children:
                break
            marks, data = marks.children[index], data[index]
        return marks.line if marks is not self.marks else None

    def raise_if_wrong(self) -> TeamSpec:
        """The team.

        Raises:
            SpecError: when there is any problem.
        """
        if self.problems or self.team is None:
            raise SpecError(self.problems, self.source)
        return self.team


def load_team(path: str | Path, *, allow_imports: Sequence[str] = ()) -> TeamSpec:
    """Read a team file (YAML, or JSON when its name ends in .json).

    Args:
        path: the file.
        allow_imports: packages outside the file's folder that its Python references may name.

    Raises:
        SpecError: with every problem found, each with line, path and what to write instead.
    """
    team = read_team(path).raise_if_wrong()
    team._allowed = tuple(allow_imports)
    return team


def read_team(
    path: str | Path, *, settings: Mapping[str, str] | None = None, provided: Collection[str] | None = (), given_tools: Collection[str] = ()
) -> Loaded:
    """As `load_team`, with the problems returned instead of raised.

    `settings` (`path: text`) replace parts of the file first; models named in `provided` (None: all) come from elsewhere and need no environment,
    tools named in `given_tools` no entry.
    """
    loaded = Loaded(str(path))
    try:
        if Path(path).stat().st_size > MAX_BYTES:
            raise ReadError(Problem("", f"the file is larger than {MAX_BYTES:,} bytes"))
        text = Path(path).read_text(encoding="utf-8-sig")
        loaded.data, loaded.marks = read_text(text, is_json=str(path).lower().endswith(".json"))
    except ReadError as error:
        loaded.problems += error.problems
        return loaded
    except UnicodeDecodeError as error:
        loaded.problems.append(Problem("", f"not UTF-8 text (byte {error.start})"))
        return loaded
    except OSError as error:
        loaded.problems.append(Problem("", f"cannot be read: {error.strerror or error}"))
        return loaded
    if not isinstance(loaded.data, dict):
        loaded.problems.append(Problem("", f"expected keys such as agents: and tasks:, found {_shown(loaded.data)}"))
        return loaded
    _apply(loaded, settings or {})
    _validate(loaded, Path(path).resolve(), provided, given_tools)
    return loaded


def _apply(loaded: Loaded, settings: Mapping[str, str]) -> None:
    loaded.data = copy.deepcopy(loaded.data)
    for path, text in settings.items():
        try:
            value = read_text(text)[0]
        except ReadError as error:
            loaded.problems.append(Problem(path, f"--set {path}: {error}"))
            continue
        if not _set(loaded.data, path, value):
            loaded.problems.append(Problem(path, f"--set {path}: there is no such place in the file"))


def _set(data: Any, path: str, value: Any) -> bool:
    """Put a value where a written path leads, making mappings on the way; False when there is no such place."""
    rest, depth = path, 0
    while True:
        step = _next_key(rest, data)
        if step is None or not isinstance(data, (dict, list)):
            return False
        key, rest = step
        index = _index(data, key)
        if index is None:
            if not isinstance(data, dict) or not isinstance(key, str):
                return False
            index = key
        if not rest:
            data[index] = value
            return True
        if isinstance(data, dict) and data.get(index) is None:
            data[index] = {}
        elif isinstance(data[index], str) and depth == 1 and path.startswith("models"):
            data[index] = {"model": data[index]}  # `models.default.temperature` where models.default is the shorthand
        data, depth = data[index], depth + 1


def _validate(loaded: Loaded, path: Path, provided: Collection[str] | None, given_tools: Collection[str]) -> None:
    env = read_environment(path.parent)
    missing: dict[str, tuple[Problem, str | None]] = {}
    data, unnamed = _without_unnamed(loaded.data)
    for section in _EXPANDED:
        if section in data:
            data[section] = _expanded(data[section], (section,), env, missing)
    data.setdefault("name", path.stem)
    data.setdefault("inputs", {})  # a file declares its inputs; only Python may leave them to be seen from the texts
    team, faults = _parse(data)
    structural = unnamed + [fault for fault in faults if fault.path not in missing]
    named: list[Problem] = []
    if team is not None:
        team._folder, team._source = path.parent, loaded.source
        loaded.team = team
        named = _named_problems(team, given_tools, [*missing, *(problem.path for problem in structural)])
    in_use = None if team is None else models_in_use(team)

    def is_needed(model: str | None) -> bool:
        return model is None or (provided is not None and model not in provided and (in_use is None or model in in_use))

    lacking = [problem for problem, model in missing.values() if is_needed(model)]
    loaded.add([*structural, *lacking, *named])


def _without_unnamed(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The data without items of a list section that have no name or another's, and what is wrong with those."""
    kept, problems = dict(data), list[Problem]()
    for section in (name for name in _SECTIONS if isinstance(data.get(name), list)):
        good: dict[str, Any] = {}
        for index, item in enumerate(data[section]):
            name = item.get("name") if isinstance(item, dict) else None
            if not isinstance(name, str):
                problems.append(Problem(f"{section}[{index}]", "an item of this list needs a name: {name: …}"))
            elif name in good:
                problems.append(Problem(f"{section}[{index}]", f"{name!r} stands twice in {section}"))
            else:
                good[name] = item
        kept[section] = list(good.values())
    return kept, problems


def _named_problems(team: TeamSpec, given_tools: Collection[str], told: Collection[str]) -> list[Problem]:
    """What is wrong with names, order and the like; nothing when a whole section could not be read, since all would follow from that."""
    if set(told) & {*_SECTIONS}:
        return []
    emptied = {path.partition("[")[0] for path in told} & {*_SECTIONS}
    return [problem for problem in _without_echoes(check_team(team, given_tools), told) if problem.path not in emptied]


def _without_echoes(problems: Sequence[Problem], told: Collection[str]) -> list[Problem]:
    """`problems` without those at or below a place of which something was told already: they follow from what stands in for it."""
    return [p for p in problems if not any(p.path == path or p.path.startswith((f"{path}.", f"{path}[")) for path in told if path)]


def _expanded(value: Any, path: tuple[Any, ...], env: Mapping[str, str], missing: dict[str, tuple[Problem, str | None]]) -> Any:
    """`value` with `${VAR}` replaced everywhere below; text whose variable is missing stays as it is, and is noted by its path."""
    if isinstance(value, dict):
        return {key: _expanded(item, (*path, key), env, missing) for key, item in value.items()}
    if isinstance(value, list):
        return [_expanded(item, (*path, _entry_name(item, index)), env, missing) for index, item in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value
    text, lacking = expand(value, env)
    if malformed(value):
        missing[_path_text(path)] = (Problem(_path_text(path), "holds a ${ that is neither ${VAR} nor ${VAR:-default}"), None)
        return value
    if not lacking:
        return _typed(text, path)
    said = f"{' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not set: export it, put it into .env, or write ${{{lacking[0]}:-default}}"
    where = _path_text(path)
    missing[where] = (Problem(where, said), str(path[1]) if path[0] == "models" and len(path) > 1 else None)
    return value


def _entry_name(item: Any, index: int) -> Any:
    return item["name"] if isinstance(item, dict) and isinstance(item.get("name"), str) else index


def _typed(text: str, path: tuple[Any, ...]) -> Any:
    """A substituted value is text where the field takes text, and read as an unquoted scalar elsewhere (`temperature: ${T}`)."""
    model: Any = TeamSpec
    for key in path:
        model = _inner(model, key)
    kinds = set(_leaves(model))
    return text if str in kinds or not kinds & {int, float, bool} else plain_scalar(text)


def _parse(data: dict[str, Any]) -> tuple[TeamSpec | None, list[Problem]]:
    """The team and what is wrong with its structure; wrong parts are replaced by harmless ones, so that the rest can be looked at too."""
    problems: dict[str, Problem] = {}
    data = copy.deepcopy(data)
    for _ in range(5):
        try:
            return TeamSpec.model_validate(data), list(problems.values())
        except ValidationError as error:
            for fault in error.errors():
                problem = _translate(fault)
                problems.setdefault(problem.path, problem)
                _mend(data, _loc(fault), fault["type"])
    return None, list(problems.values())


def _loc(fault: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(part for part in fault["loc"] if part != "[key]")


def _mend(data: Any, loc: tuple[Any, ...], kind: str) -> None:
    """Put something harmless in the place of a fault, or take it out."""
    for depth, key in enumerate(loc):
        index = _index(data, key)
        if depth == len(loc) - 1 or index is None or not isinstance(data[index], (dict, list)):
            if isinstance(data, dict) and (kind in ("missing", "string_type") or key in _DUMMIES):
                data[key] = _DUMMIES.get(key, "?")
            elif isinstance(data, dict) and depth == 1 and loc[0] in _ENTRIES:
                data[key] = dict(_ENTRIES[loc[0]])
            elif isinstance(data, (dict, list)) and index is not None:
                del data[index]
            return
        data = data[index]


def _translate(fault: Mapping[str, Any]) -> Problem:
    loc = _loc(fault)
    path = _path_text(loc)
    found = "a value" if _SECRET & set(loc) else _shown(fault["input"])
    kind = fault["type"]
    if kind == "extra_forbidden":
        return Problem(path, _unknown_key(str(loc[-1]), _model_at(loc[:-1])))
    if kind == "missing":
        return Problem(path, "is missing")
    if kind == "literal_error":
        allowed = fault["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        return Problem(path, f"found {found}, allowed: {' | '.join(allowed)}{did_you_mean(str(fault['input']), allowed)}")
    if kind == "value_error":
        return Problem(path, str(fault["ctx"]["error"]))
    expected = (
        fault["msg"].removeprefix("Input should be ").replace("a valid string", "text").replace("a valid ", "a ").replace("valid ", "")
    )
    return Problem(path, f"found {found}, expected {_EXPECTED.get(kind, expected)}")


_EXPECTED = {
    "dict_type": "keys with values",
    "model_type": "keys with values",
    "tuple_type": "a list",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "string_pattern_mismatch": "text without control characters",
}


def _unknown_key(key: str, model: type[BaseModel] | None) -> str:
    allowed = [field.alias or name for name, field in model.model_fields.items()] if model else []
    if key in _SPOKEN:
        return f"unknown key {key!r}: {_SPOKEN[key]}"
    ours = FOREIGN_KEYS.get(key)
    if ours in allowed:
        return f"unknown key {key!r}: here it is called {ours!r}"
    return f"unknown key {key!r}{did_you_mean(key, allowed)}; allowed: {', '.join(allowed)}"


def _model_at(loc: Path_) -> type[BaseModel] | None:
    kind: Any = TeamSpec
    for key in loc:
        kind = _inner(kind, key)
    return next((leaf for leaf in _leaves(kind) if isinstance(leaf, type) and issubclass(leaf, BaseModel)), None)


def _inner(kind: Any, key: Any) -> Any:
    """The annotation one step further: a field of a model, the values of a mapping, the items of a tuple."""
    for leaf in _leaves(kind, keep_containers=True):
        if isinstance(leaf, type) and issubclass(leaf, BaseModel):
            found = next((f for name, f in leaf.model_fields.items() if key in (name, f.alias)), None)
            return found.annotation if found else None
        origin, args = get_origin(leaf), get_args(leaf)
        if origin is dict:
            if args[1] is ModelSpec and key is None:
                return ModelSpec
            return args[1]
        if origin is tuple:
            return args[0]
    return None


def _leaves(kind: Any, keep_containers: bool = False) -> Iterator[Any]:
    origin = get_origin(kind)
    if origin is Union or origin is types.UnionType:
        for part in get_args(kind):
            yield from _leaves(part, keep_containers)
    elif hasattr(kind, "__metadata__"):
        yield from _leaves(get_args(kind)[0], keep_containers)
    elif origin is None or keep_containers:
        yield kind


def _path_text(loc: Path_) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")


def _shown(value: Any) -> str:
    """A value as an error shows it: short, and never a secret."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "keys with values" if value else "{}"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = (
        repr(value)
        if isinstance(value, str)
        else {True: "true", False: "false"}.get(value, str(value))
        if isinstance(value, bool)
        else str(value)
    )
    return text if len(text) <= 60 else text[:57] + "…'"


def _index(data: Any, key: Any) -> Any:
    """The key or index of `key` in a mapping, or in a list of named things; None when it is not there."""
    if isinstance(data, dict):
        return key if key in data else None
    if isinstance(data, list):
        if isinstance(key, int):
            return key if key < len(data) else None
        return next((i for i, item in enumerate(data) if isinstance(item, dict) and item.get("name") == key), None)
    return None


def _next_key(path: str, data: Any) -> tuple[Any, str] | None:
    """The first key of a written path and the rest; names that hold dots are matched against the data first."""
    path = path.removeprefix(".")
    if path.startswith("["):
        number, _, rest = path[1:].partition("]")
        return (int(number), rest) if number.isascii() and number.isdigit() else None
    names = (
        data if isinstance(data, dict) else [item.get("name") for item in data if isinstance(item, dict)] if isinstance(data, list) else []
    )
    for name in sorted((n for n in names if isinstance(n, str)), key=len, reverse=True):
        if path == name or path.startswith((f"{name}.", f"{name}[")):
            return name, path[len(name) :]
    cut = min((i for i in (path.find("."), path.find("[")) if i >= 0), default=len(path))
    return (path[:cut], path[cut:]) if cut else None
