"""A comparison as a matplotlib figure: a timeline of each backend, tokens and seconds of each task. The extra `notebook` brings matplotlib."""

from __future__ import annotations

import io
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from unified_agents.timeline import TaskLine, Timeline, timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from unified_agents.comparison import Comparison

INSTALL = "pip install 'unified-agents[notebook]'"
# Okabe and Ito's colours, which people who see colours differently tell apart; the hatches say it once more.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")
HATCHES = ("", "///", "...", "xxx")
_CALLS = {"model": "#0072B2", "tool": "#E69F00", "retry": "#FFFFFF", "wait": "#FFFFFF"}
_EDGE = "#444444"


def comparison_figure(made: Comparison) -> Figure:
    """Timelines above, one run a backend; tokens and seconds below, with the shortest and longest run.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; the message says what to type.
    """
    figure = _new_figure()
    shown = [(backend, found) for backend in made.backends if (found := _run_of(made, backend)) is not None]
    tasks = list(made.tasks)
    heights = [_timeline_height(len(found.lines)) for _, found in shown]
    bars = 0.9 + max(len(tasks), 1) * max(0.22 * len(made.backends), 0.3)
    figure.set_size_inches(11, 0.6 + sum(heights) + bars)
    grid = figure.add_gridspec(len(shown) + 1, 2, height_ratios=[*heights, bars])
    longest = max((found.seconds for _, found in shown), default=0.0) or 1.0
    for row, (backend, found) in enumerate(shown):
        _draw_timeline(figure.add_subplot(grid[row, :]), backend, found, longest)
    left = figure.add_subplot(grid[len(shown), 0])
    _draw_tokens(left, made, tasks)
    right = figure.add_subplot(grid[len(shown), 1], sharey=left)
    _draw_seconds(right, made, tasks)
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncol=4, fontsize=8, frameon=False)
    figure.suptitle(f"{made.team or 'Comparison'}: {', '.join(made.backends)}", x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def _new_figure() -> Figure:
    """A figure apart from pyplot, which would keep it and show it twice; a notebook shows it by itself."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"plot() needs matplotlib, which is not installed: {INSTALL}", name=error.name) from None

    class ComparisonFigure(Figure):
        def _repr_png_(self) -> bytes:
            image = io.BytesIO()
            self.savefig(image, format="png", dpi=110)
            return image.getvalue()

    return ComparisonFigure(layout="constrained")


def _run_of(made: Comparison, backend: str) -> Timeline | None:
    """The run of median length of a backend, of those that completed where any did."""
    runs = [(run, run.result) for run in made.of(backend) if run.result is not None]
    some = [one for one in runs if one[0].status == "completed"] or runs
    some.sort(key=lambda one: one[1].duration_s)
    return timeline(some[(len(some) - 1) // 2][0].events) if some else None


def _timeline_height(tasks: int) -> float:
    return 0.75 + 0.24 * max(tasks, 1)


def _draw_timeline(axes: Axes, backend: str, found: Timeline, longest: float) -> None:
    for row, line in enumerate(found.lines):
        _draw_line(axes, row, line)
    axes.set_title(f"{backend}, the run of median length: {found.seconds:.2f} s", loc="left", fontsize=9)
    axes.set_xlim(0, longest * 1.02)
    axes.set_xlabel("seconds", fontsize=8)
    _label_tasks(axes, [line.task for line in found.lines])
    if found.lines:
        _legend_of_calls(axes)


def _draw_line(axes: Axes, row: int, line: TaskLine) -> None:
    for bar in line.bars:
        style: Any = "--" if bar.status == "unfinished" else "-"
        axes.barh(row, bar.seconds, left=bar.start, height=0.78, color="#E8EBEE", edgecolor=_EDGE, linewidth=0.7, linestyle=style)
        if bar.status == "failed":
            _cross(axes, bar.start + bar.seconds, row)
    for call in line.calls:
        hatch = "/////" if call.kind == "retry" else None
        edge = "#B3261E" if call.error and call.kind in ("model", "tool") else _EDGE
        axes.barh(row, call.seconds, left=call.start, height=0.4, color=_CALLS[call.kind], edgecolor=edge, linewidth=0.5, hatch=hatch)
        if edge != _EDGE:
            _cross(axes, call.start + call.seconds, row)


def _cross(axes: Axes, at: float, row: int) -> None:
    axes.plot(at, row, marker="x", color="#B3261E", markersize=5, markeredgewidth=1.5, zorder=5)


def _legend_of_calls(axes: Axes) -> None:
    from matplotlib.patches import Patch

    kinds = [("model", "model call", None), ("tool", "tool call", None), ("retry", "pause before a retry", "/////"), ("wait", "wait", None)]
    patches = [Patch(facecolor=_CALLS[kind], edgecolor=_EDGE, linewidth=0.5, hatch=hatch, label=label) for kind, label, hatch in kinds]
    place: Any = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "ncol": 4}
    axes.legend(handles=patches, fontsize=7, frameon=False, borderaxespad=0.1, handlelength=1.6, **place)


def _draw_tokens(axes: Axes, made: Comparison, tasks: Sequence[str]) -> None:
    """Input and output tokens of each task, the medians, one after the other."""
    for index, backend in enumerate(made.backends):
        places, thick = _places(tasks, index, len(made.backends))
        into, out = (_medians(made, backend, tasks, name) for name in ("input_tokens", "output_tokens"))
        style: Any = {"height": thick, "color": COLOURS[index % 4], "edgecolor": _EDGE, "linewidth": 0.5, "hatch": HATCHES[index % 4]}
        axes.barh(places, into, **style)
        axes.barh(places, out, left=into, alpha=0.45, **style)
    axes.set_title("tokens a task: input, then output in a lighter tone", loc="left", fontsize=9)
    if not any(made.values(backend, task, "input_tokens") for backend in made.backends for task in tasks):
        axes.text(0.5, 0.5, "not reported by the provider", transform=axes.transAxes, ha="center", va="center", fontsize=9)
    axes.set_xlabel("tokens", fontsize=8)
    _label_tasks(axes, tasks)


def _draw_seconds(axes: Axes, made: Comparison, tasks: Sequence[str]) -> None:
    """Seconds of each task: the median as a bar, a line from the shortest to the longest run."""
    for index, backend in enumerate(made.backends):
        places, thick = _places(tasks, index, len(made.backends))
        found = [made.values(backend, task, "duration_s") for task in tasks]
        middle = [statistics.median(values) if values else 0.0 for values in found]
        spread = [
            [value - min(values, default=value) for value, values in zip(middle, found, strict=True)],
            [max(values, default=value) - value for value, values in zip(middle, found, strict=True)],
        ]
        bars: Any = {"error_kw": {"linewidth": 1.0}, "capsize": 2, "ecolor": "#111111"} if any(map(any, spread)) else {}
        style: Any = {"height": thick, "color": COLOURS[index % 4], "edgecolor": _EDGE, "linewidth": 0.5, "hatch": HATCHES[index % 4]}
        axes.barh(places, middle, label=backend, xerr=spread if bars else None, **bars, **style)
    axes.set_title("seconds a task: median, shortest to longest", loc="left", fontsize=9)
    axes.set_xlabel("seconds", fontsize=8)
    _label_tasks(axes, tasks)
    axes.tick_params(labelleft=False)


def _places(tasks: Sequence[str], index: int, backends: int) -> tuple[list[float], float]:
    """Where a backend's bars are, and how thick."""
    thick = 0.8 / backends
    return [row - 0.4 + thick * (index + 0.5) for row in range(len(tasks))], thick


def _medians(made: Comparison, backend: str, tasks: Sequence[str], name: str) -> list[float]:
    return [statistics.median(values) if (values := made.values(backend, task, name)) else 0.0 for task in tasks]


def _label_tasks(axes: Axes, tasks: Sequence[str]) -> None:
    axes.set_yticks(range(len(tasks)), [_plain(task) for task in tasks], fontsize=8)
    axes.set_ylim(max(len(tasks), 1) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(left=0)


def _plain(task: str) -> str:
    """A name as matplotlib shows it: no mathematics between dollar signs, not longer than there is room for."""
    return (task if len(task) <= 28 else f"{task[:27]}…").replace("$", r"\$")
