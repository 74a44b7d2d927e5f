"""What a task costs beside the model: a chain of tasks on a model that answers at once."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.common import Lab, Result, Row, Sample, Settings, paired, spread
from benchmarks.jobs import chain

# Ours, then what it is compared with; the first of those is the base of the ratio.
GROUPS = {
    "crewai": ("unified.crewai", "handwritten.crewai_sequential"),
    "autogen": ("unified.autogen", "handwritten.autogen_roundrobin", "handwritten.autogen_graphflow"),
    "autogen_classic": ("unified.autogen_classic", "handwritten.autogen_classic_groupchat"),
}


def run(lab: Lab, settings: Settings) -> Result:
    """The benchmark."""
    length = settings.size(20, 3)
    result = Result("overhead", f"Overhead: a chain of {length} tasks, no latency", "ratio to hand-written", settings.repeats(8))
    calls = [call for group in GROUPS.values() for call in group]
    samples = lab.compare(calls, [chain(length)], result.repeat)
    for name, group in GROUPS.items():
        for kind in ("wall", "cpu"):
            result.rows += _rows(f"{name}, {kind}", kind, group, {call: samples[call] for call in group}, length)
    return result


def _rows(case: str, kind: str, group: Sequence[str], samples: dict[str, list[Sample]], length: int) -> list[Row]:
    costs = {call: [getattr(sample, kind) * 1000 / length for sample in taken] for call, taken in samples.items()}
    base = costs[group[1]]
    return [
        Row(
            case,
            call,
            None if values is base else paired(values, base),
            {"ms a task": spread(values, 1)},
            1.0 if call == group[0] else None,
        )
        for call, values in costs.items()
    ]
