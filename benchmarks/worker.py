"""A process for one variant: reads orders from stdin, one JSON document a line, does the work and answers with wall and CPU seconds.

`python -m benchmarks.worker ORDER` does one order and ends, for the startup benchmark. Imports nothing heavy: the variant's own imports are
part of what is measured there.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from typing import Any

from benchmarks.jobs import Job


def work(order: dict[str, Any]) -> dict[str, float]:
    """Call `order["call"]` (`unified.crewai`) on the order's teams; seconds by the clock and of CPU, all threads of this process."""
    module, name = order["call"].split(".")
    function = getattr(importlib.import_module(f"benchmarks.{module}"), name)
    teams = [[Job(name, tuple(context), ms) for name, context, ms in team] for team in order["teams"]]
    gc.collect()  # what a run before this one left behind
    wall, cpu = time.perf_counter(), time.process_time()
    said = function(order["base_url"], teams if name.endswith("_teams") else teams[0])
    sample = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    assert said, "a run ended without output"
    return sample


def main() -> None:
    """Do orders until stdin ends."""
    if len(sys.argv) > 1:
        work(json.loads(sys.argv[1]))
        return
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # frameworks print; the answers have stdout for themselves
    for line in sys.stdin:
        out.write(json.dumps(work(json.loads(line))) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
