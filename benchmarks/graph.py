"""How close a run comes to its critical path: the diamond and an uneven graph, wall time over the time the model alone needs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.common import Lab, Result, Row, Sample, Settings, spread
from benchmarks.jobs import Job, critical_path, diamond, uneven

VARIANTS = {
    "unified.crewai": 1.15,
    "handwritten.crewai_sequential": None,
    "handwritten.crewai_levels": None,
    "unified.autogen": 1.15,
    "handwritten.autogen_graphflow": None,
    "unified.autogen_classic": None,  # one speaker at a time
}
SERIAL = ("handwritten.crewai_sequential", "unified.autogen_classic")  # one task at a time: known after the short latency


def run(lab: Lab, settings: Settings) -> Result:
    """The benchmark."""
    result = Result("graph", "Graphs: wall time over critical path", "wall ÷ critical path", settings.repeats(4))
    for ms in [20] if settings.quick else [200, 500]:
        repeat = result.repeat if ms < 500 else max(1, result.repeat // 2)
        calls = [call for call in VARIANTS if ms < 500 or call not in SERIAL]
        for name, shape in (("diamond", diamond), ("uneven", uneven)):
            samples = lab.compare(calls, [shape(ms)], repeat, warm=[shape(0)])
            result.rows += [_row(f"{name}, {ms / 1000:g} s", call, shape(ms), taken) for call, taken in samples.items()]
    return result


def _row(case: str, call: str, jobs: Sequence[Job], samples: Sequence[Sample]) -> Row:
    ratios = [sample.wall / critical_path(jobs) for sample in samples]
    cells = {
        "range": f"{min(ratios):.2f}–{max(ratios):.2f}",
        "wall s": spread([s.wall for s in samples]),
        "peak in flight": str(samples[0].peak),
    }
    return Row(case, call, statistics.median(ratios), cells, VARIANTS[call])
