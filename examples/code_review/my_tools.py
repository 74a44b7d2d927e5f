"""What reviewers may do: look at the files in one folder, and nowhere else; and the check that they quote what is there."""

from __future__ import annotations

import json
import os
from pathlib import Path


def list_files() -> list[str]:
    """List the Python files under review."""
    folder = _folder()
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.py"))


def read_file(path: str) -> str:
    """Read a file under review, its lines numbered.

    Args:
        path: Its name in the list of files.
    """
    return "\n".join(f"{number:3} {line}" for number, line in enumerate(_lines(path), 1))


def _folder() -> Path:
    return Path(os.environ.get("REVIEW_FOLDER") or Path(__file__).parent / "sample")


def _lines(path: str) -> list[str]:
    if path not in list_files():
        raise ValueError(f"there is no file {path!r} under review; there are: {', '.join(list_files())}")
    return (_folder() / path).read_text(encoding="utf-8").splitlines()


def lines_are_quoted(answer: str) -> str | None:
    """A guardrail: the code that a finding quotes stands in that line of that file."""
    for finding in json.loads(answer)["findings"]:
        try:
            lines = _lines(finding["file"])
        except ValueError as error:
            return str(error)
        number = finding["line"]
        found = lines[number - 1].strip() if number <= len(lines) else "nothing"
        if found != finding["code"].strip():
            return f"line {number} of {finding['file']} does not hold {finding['code']!r}, but {found!r}"
    return None
