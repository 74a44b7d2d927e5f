"""Many tasks at once: one team of independent tasks, and many teams side by side."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.common import Lab, Result, Row, Sample, Settings, Teams, framework, paired, spread
from benchmarks.jobs import independent, pairs

# Ours, then what it is compared with; the first of those is the base of the ratio. Classic AutoGen has one speaker at a time in a team.
TASKS = (
    ("unified.crewai", "handwritten.crewai_levels"),
    ("unified.autogen", "handwritten.autogen_graphflow", "handwritten.autogen_agents"),
)
TEAMS = (
    ("unified.crewai_teams", "handwritten.crewai_teams"),
    ("unified.autogen_teams", "handwritten.autogen_teams"),
    ("unified.autogen_classic_teams", "handwritten.autogen_classic_teams"),
)


def run(lab: Lab, settings: Settings) -> Result:
    """The benchmark."""
    tasks, teams, ms = settings.size(200, 3), settings.size(50, 2), settings.size(200, 0)
    result = Result("fanout", f"Fan-out at {ms / 1000:g} s a request", "wall, ratio to hand-written", settings.repeats(3))
    for group in TASKS:
        result.rows += _rows(
            lab, f"{framework(group[0])}, {tasks} tasks of one team", group, [independent(tasks, ms)], result.repeat, [independent(3, 0)]
        )
    for group in TEAMS:
        result.rows += _rows(lab, f"{framework(group[0])}, {teams} teams of 2 tasks", group, pairs(teams, ms), result.repeat, pairs(2, 0))
    return result


def _rows(lab: Lab, case: str, group: Sequence[str], teams: Teams, repeat: int, warm: Teams) -> list[Row]:
    samples, base = lab.compare(group, teams, repeat, warm), group[1]
    walls = {call: [sample.wall for sample in taken] for call, taken in samples.items()}
    return [
        Row(case, call, None if call == base else paired(walls[call], walls[base]), _cells(taken, samples[base], teams))
        for call, taken in samples.items()
    ]


def _cells(samples: Sequence[Sample], base: Sequence[Sample], teams: Teams) -> dict[str, str]:
    calls = sum(len(team) for team in teams)
    return {
        "wall s": spread([sample.wall for sample in samples]),
        "peak in flight": str(max(sample.peak for sample in samples)),
        "CPU ms a call": spread([sample.cpu * 1000 / calls for sample in samples], 1),
        "CPU, ratio": f"{paired([s.cpu for s in samples], [s.cpu for s in base]):.2f}",
    }
