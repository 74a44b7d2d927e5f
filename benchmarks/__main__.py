"""The command: `python -m benchmarks NAME…`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence

from benchmarks import fanout, faults, graph, journal, memory, overhead, startup, window
from benchmarks.common import Lab, Result, Settings

BENCHMARKS: dict[str, Callable[[Lab, Settings], Result]] = {
    "graph": graph.run,
    "overhead": overhead.run,
    "fanout": fanout.run,
    "faults": faults.run,
    "startup": startup.run,
    "window": window.run,
    "memory": memory.run,
    "journal": journal.run,
}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="unified_agents beside hand-written CrewAI and AutoGen")
    parser.add_argument("names", nargs="+", metavar="NAME", choices=[*BENCHMARKS, "all"], help=f"{', '.join(BENCHMARKS)}, or all")
    parser.add_argument("--repeat", type=int, metavar="N", help="turns of each variant (by default each benchmark's own number)")
    parser.add_argument("--quick", action="store_true", help="the smallest size, once: shows that it runs, measures nothing")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="results as JSON")
    shape.add_argument("--markdown", action="store_true", help="tables for a document")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run, and print."""
    asked = arguments(argv)
    names = list(BENCHMARKS) if "all" in asked.names else asked.names
    results = []
    with Lab() as lab:
        for name in names:
            sys.stderr.write(f"{name} …\n")
            results.append(BENCHMARKS[name](lab, Settings(asked.repeat, asked.quick)))
            if not asked.json:
                print(results[-1].markdown()) if asked.markdown else results[-1].show()
    if asked.json:
        print(json.dumps([result.to_dict() for result in results], indent=2))


if __name__ == "__main__":
    main()
