"""`make test-versions`: the conformance suite on the lowest and the highest supported version of every framework.

Each set gets a virtual environment of its own beside `.venv`. The ranges in pyproject.toml are those that passed here.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from packaging.specifiers import SpecifierSet

from unified_agents.registry import backends

ROOT = Path(__file__).parent.parent
SUITE = ["-m", "pytest", "-q", "-n", "2", "--dist", "loadgroup", str(ROOT / "unified_agents" / "testing" / "conformance")]


def pins(which: str) -> list[str]:
    """What to install of each framework: exactly the lower bound of its range, or the newest within it."""
    wanted = {name: versions for found in backends().values() for name, versions in found.adapter.requirements.items()}
    if which == "highest":
        return [f"{name}{versions}" for name, versions in wanted.items()]
    return [f"{name}=={_lower(versions)}" for name, versions in wanted.items()]


def _lower(versions: str) -> str:
    return next(part.version for part in SpecifierSet(versions) if part.operator == ">=")


def run(which: str) -> bool:
    """Install one set and run the suite on it."""
    folder = ROOT / f".venv-{which}"
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--upgrade", "--editable", f"{ROOT}[all,dev]", *pins(which)], check=True)
    print(f"{which}: {', '.join(pins(which))}", flush=True)
    return subprocess.run([python, *SUITE], cwd=ROOT, check=False).returncode == 0


if __name__ == "__main__":
    passed = {which: run(which) for which in ("lowest", "highest")}
    print(passed)
    sys.exit(not all(passed.values()))
