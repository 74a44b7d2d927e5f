"""Pages, the notebook's table and the figure: their structure, their numbers, and that nothing in them is taken for anything but text."""

from __future__ import annotations

import html.parser
import itertools
import os
import re
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Run
from tests.pages import EVIL, START, Story, comparison, large, large_comparison, record, refused, result, told
from tests.test_docs import blocks
from unified_agents import ScriptedModel, compare_backends, run_team
from unified_agents.comparison import METRICS, Comparison, _similarity
from unified_agents.differences import side_by_side
from unified_agents.report import _Texts, comparison_page, comparison_table, run_page, ticks, write_page
from unified_agents.sheet import metric, seconds
from unified_agents.testing import ScriptedServer
from unified_agents.timeline import timeline

ROOT = Path(__file__).parent.parent
STYLE = (ROOT / "unified_agents" / "templates" / "page.css").read_text()
VOID = {"meta", "br", "img", "link", "input", "hr"}
TEAM = """\
name: paged
models:
  default: {{model: openai/scripted, base_url: "{base_url}", api_key: k}}
agents:
  worker: {{role: Worker}}
tasks:
  one: {{description: MARK-ONE, agent: worker}}
  two: {{description: MARK-TWO, agent: worker, context: [one]}}
"""


class Page(html.parser.HTMLParser):
    """A page taken apart: its elements in order, its text, and whether every element is closed where it should be."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element that closes itself."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """See that it closes what is open."""
        assert self._open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data: str) -> None:
        """Gather the text."""
        self.text += data

    def all(self, tag: str, kind: str = "") -> list[dict[str, str | None]]:
        """The attributes of some elements."""
        return [
            attributes
            for name, attributes in self.elements
            if name == tag and (not kind or kind in (attributes.get("class") or "").split())
        ]


PAGES = {
    "run": lambda words: run_page(record(result(words), team=words), told(words)),
    "comparison": lambda words: comparison_page(comparison(words, repeat=2)),
    "interrupted": lambda words: run_page(record(None, "interrupted", words), told(words)[:9]),
    "four backends": lambda words: comparison_page(comparison(words, ("a", "b", "c", words))),
    "one backend": lambda words: comparison_page(comparison(words, ("a",))),
    "refused": lambda words: comparison_page(Comparison(words, ["crewai", "autogen"], [], [refused("crewai"), refused()])),
}


@pytest.mark.parametrize("kind", PAGES)
def test_a_page_is_whole_and_can_be_read_by_all(kind: str) -> None:
    """Every element is closed; headings in order; each header cell says for what; what refers to something finds it; one title, one main part."""
    page = Page(PAGES[kind]("plain"))
    assert len(page.all("h1")) == len(page.all("main")) == 1
    assert "title" in [tag for tag, _ in page.elements[:10]]
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))
    assert all(header.get("scope") in ("col", "row", "rowgroup") for header in page.all("th"))
    assert page.all("html")[0]["lang"] == "en"
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [str(attributes["href"])[1:] for _, attributes in page.elements if "href" in attributes]
    labels = [str(attributes["aria-labelledby"]) for _, attributes in page.elements if "aria-labelledby" in attributes]
    assert set(targets + labels) <= set(ids)
    assert all("aria-label" in one or "aria-labelledby" in one for one in page.all("div", "scroll"))
    assert all(one.get("role") == "img" and one.get("aria-label") for one in page.all("svg", "lane"))


def test_a_page_that_is_not_whole_is_found() -> None:
    """The negative control."""
    with pytest.raises(AssertionError):
        Page("<div><p></div>")
    with pytest.raises(AssertionError):
        Page("<div>")


@pytest.mark.parametrize("kind", PAGES)
def test_nothing_on_a_page_is_taken_for_anything_but_text(kind: str) -> None:
    """The same elements with the same attributes whether the words are plain or evil; and the evil words are there to be read."""
    plain, evil = Page(PAGES[kind]("plain")), Page(PAGES[kind](EVIL))
    assert [(tag, sorted(attributes)) for tag, attributes in plain.elements] == [
        (tag, sorted(attributes)) for tag, attributes in evil.elements
    ]
    assert EVIL in evil.text
    assert not {"script", "img", "iframe", "object", "form", "link", "base"} & {tag for tag, _ in evil.elements}
    for _, attributes in evil.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "src", "srcdoc")]
        assert str(attributes.get("href", "#")).startswith("#")


def test_the_policy_forbids_everything_but_the_pages_own_style() -> None:
    """Its hash is that of the style element; a browser says in test_browser.py that it agrees."""
    page = run_page(record(result()), told())
    policy = str(next(meta["content"] for meta in Page(page).all("meta") if meta.get("http-equiv") == "Content-Security-Policy"))
    assert re.fullmatch(r"default-src 'none'; style-src 'sha256-[\w+/=]+'; base-uri 'none'; form-action 'none'", policy)
    assert page.index("Content-Security-Policy") < page.index("<style>")
    assert "url(" not in STYLE.replace("url(#hatch)", "").replace("url(#dots)", "")
    assert "@import" not in STYLE
    assert "</" not in STYLE


def colours(dark: bool) -> dict[str, str]:
    """The colours of a scheme by name."""
    return dict(re.findall(r"--(\w+): (#\w{6})", STYLE.split("@media (prefers-color-scheme: dark)")[dark].split("\n}\n")[0]))


def contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it."""

    def light(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_contrast(dark: bool) -> None:
    """Text 4.5:1 on whatever it stands on, what is drawn 3:1."""
    found = colours(dark)
    for text in ("front", "muted", "link", "good", "bad"):
        assert min(contrast(found[text], found[ground]) for ground in ("back", "face")) >= 4.5, text
    assert min(contrast(found["front"], found[ground]) for ground in ("one", "its")) >= 4.5
    for drawn in ("model", "tool", "edge", "bad"):
        assert contrast(found[drawn], found["back"]) >= 3, drawn
    assert contrast("#777777", "#ffffff") < 4.5 < contrast("#767676", "#ffffff")  # the measure itself


# Numbers


def test_a_timelines_numbers_are_the_events() -> None:
    """A bar ends at its event's time and is duration_s long; a pause begins at its event and is delay_s long."""
    made = timeline(told())
    first, second = made.lines
    assert [(bar.start, bar.seconds, bar.status) for bar in first.bars] == [(0.5, 2.5, "completed")]
    assert [(bar.start, bar.seconds, bar.status, bar.error) for bar in second.bars] == [(3.0, 1.0, "failed", "ToolError")]
    assert [(call.kind, call.start, call.seconds) for call in first.calls] == [
        ("model", 0.75, 0.25), ("retry", 1.0, 0.5), ("wait", 1.5, 0.25), ("model", 1.75, 0.25), ("tool", 2.0, 0.5),
    ]  # fmt: skip
    assert made.seconds == 4.0


def test_what_is_drawn_is_the_timeline() -> None:
    """Places and widths on the page, times the scale, are the events' numbers; the table beside them says the same."""
    page = Page(run_page(record(result()), told()))
    drawn = [
        (kind, round(float(str(one["x"]).rstrip("%")) * 4 / 100, 3), round(float(str(one["width"]).rstrip("%")) * 4 / 100, 3))
        for kind in ("bar", "model", "retry", "wait", "tool")
        for one in page.all("rect", kind)
        if str(one.get("x", "")).endswith("%")
    ]
    assert drawn == [
        ("bar", 0.5, 2.5), ("bar", 3.0, 1.0), ("model", 0.75, 0.25), ("model", 1.75, 0.25), ("retry", 1.0, 0.5), ("wait", 1.5, 0.25), ("tool", 2.0, 0.5),
    ]  # fmt: skip
    assert "begins at 0.500 s, 2 model calls, 1 tool call, 1 retry, 1 wait" in [one["aria-label"] for one in page.all("svg", "lane")]


def test_calls_at_the_same_time_are_stacked() -> None:
    """Three of them on three levels, the next one on the first again; never more levels than there is room for."""
    story = Story()
    story.at(0, "RunStarted", team="t", backend="b", tasks=("one",))
    story.at(0, "TaskStarted", task="one", agent="a")
    for end, took in ((1.0, 1.0), (1.5, 1.0), (1.6, 1.0), (3.0, 1.0), *[(9.0, 5.0)] * 9):
        story.at(end, "ToolCalled", task="one", agent="a", tool="t", duration_s=took)
    line = timeline(story.events).lines[0]
    assert [call.level for call in line.calls[:4]] == [0, 1, 2, 0]
    assert line.levels == 6


def test_the_time_between_sessions_is_left_out() -> None:
    """A run that was resumed after an hour: the second session follows the first; what was under way ends with its session."""
    story = Story()
    story.at(0, "RunStarted", team="t", backend="b", tasks=("one", "two"))
    story.at(1, "TaskStarted", task="one", agent="a")
    story.at(3, "TaskCompleted", task="one", agent="a", output="x", truncated=False, duration_s=2.0)
    story.at(3, "TaskStarted", task="two", agent="a")
    story.at(4, "ModelCalled", task="two", agent="a", model="m", turn=1, duration_s=1.0)
    story.at(3604, "RunResumed", team="t", backend="b", completed=("one",), tasks=("two",))
    story.at(3605, "TaskStarted", task="two", agent="a")
    story.at(3607, "TaskCompleted", task="two", agent="a", output="x", truncated=False, duration_s=2.0)
    made = timeline(story.events)
    assert made.resumed == (4.0,)
    assert [(bar.start, bar.seconds, bar.status) for bar in made.lines[1].bars] == [(3.0, 1.0, "unfinished"), (5.0, 2.0, "completed")]
    assert made.seconds == 7.0
    assert "resumed" in run_page(record(None, "completed"), story.events)


def test_a_wait_for_the_budget_is_told_when_it_is_over() -> None:
    """It ends at its event, others begin there."""
    story = Story()
    story.at(0, "RunStarted", team="t", backend="b", tasks=("one",))
    reason = "may take what is left of the budget beside the calls under way"
    story.at(5, "CallWaited", task="one", agent="a", model="m", delay_s=2.0, reason=reason)
    assert [(call.start, call.seconds) for call in timeline(story.events).lines[0].calls] == [(3.0, 2.0)]
    assert reason in (ROOT / "unified_agents" / "middleware" / "budget.py").read_text()


@pytest.mark.parametrize("one", ["", "a b c", "a b c\n\nd e", "[system]\nYou are A.\n", "x " * 3000])
@pytest.mark.parametrize("other", ["", "a B c", "a b c\nnew line\nd e", "[system]\nYou are B, really.\n"])
def test_sides_are_the_texts(one: str, other: str) -> None:
    """Joined, the pieces are the texts; what is not marked is the same on both sides."""
    left, right = side_by_side(one, other)
    assert ("".join(piece.text for piece in left), "".join(piece.text for piece in right)) == (one, other)
    if one == other:
        assert not any(piece.differs for piece in [*left, *right])


def test_a_difference_is_marked_and_nothing_else() -> None:
    """One word."""
    left, right = side_by_side("You are a dull boy.", "You are a bright boy.")
    assert [piece.text for piece in left if piece.differs] == ["dull"]
    assert [piece.text for piece in right if piece.differs] == ["bright"]
    page = Page(comparison_page(comparison()))
    assert (len(page.all("del")), len(page.all("ins"))) == (
        2,
        3,
    )  # the backend's name, the sample in the explanation; what one's output has more


def test_every_row_has_its_prompts_and_outputs() -> None:
    """The first repeat of each row of inputs; outputs that differ stand side by side, what differs marked."""
    runs = [replace(run, row=row, inputs={"topic": f"topic {row}"}, prompts={"plain": [{"role": "user", "content": f"On {run.backend}: topic {row}"}]})
            for row in range(2) for run in comparison(repeat=2).runs]  # fmt: skip
    made = Comparison("plain", ["crewai", "autogen"], ["plain", "second"], sorted(runs, key=lambda run: (run.repeat, run.row)))
    page = comparison_page(made)
    prompts, outputs = (page.split(f'id="{name}"')[1].split("</section>")[0] for name in ("prompts", "outputs"))
    for row in range(2):
        assert prompts.count(f"<h3>row {row + 1}: topic = topic {row}") == 1
        assert f"On <del>crewai</del>: topic {row}" in prompts
        assert f"On <ins>autogen</ins>: topic {row}" in prompts
    assert outputs.count("plain<ins> from autogen</ins>") == 4
    assert "ToolError" in outputs  # of the task that failed


def test_a_notebook_shows_prompts_side_by_side() -> None:
    """What differs is marked, markup in it is text; as text they are a diff."""
    found = comparison(EVIL).prompts(EVIL)
    page = Page(found._repr_html_())
    assert re.findall(r"<mark[^>]*>(.*?)</mark>", found._repr_html_()) == ["crewai", "autogen"]
    assert not page.all("script")
    assert EVIL in page.text
    assert "-You are plain on crewai.\n+You are plain on autogen." in str(comparison().prompts("plain"))
    alone = comparison(backends=["crewai"]).prompts("plain")
    assert "Asked on crewai only" in alone._repr_html_()


def test_a_misspelt_name_is_an_error() -> None:
    """Not something that is not known; the message says what there is."""
    made = comparison()
    with pytest.raises(ValueError, match="found 'plane', expected a task of the comparison: plain, second"):
        made.prompts("plane")
    with pytest.raises(ValueError, match="expected a backend of the comparison: crewai, autogen"):
        made.difference("autogn", "plain", "duration_s")
    with pytest.raises(ValueError, match="expected a metric of the comparison: requests, "):
        made.values("autogen", None, "duration")


def test_texts_with_little_in_common_are_compared_soon() -> None:
    """The texts that took difflib half a minute: what separates words stands everywhere, and nothing else is the same. Compared, not timed: they would time out."""
    for separator in (",", " a ", "\n"):
        one, other = (separator.join(f"{name}{number}" for number in range(5000)) for name in "xy")
        left, right = side_by_side(one, other)
        assert ("".join(piece.text for piece in left), "".join(piece.text for piece in right)) == (one, other)
        assert 0 <= _similarity(one, other) <= 0.5
    words = ("the tide is low and the crab walks over the sand " * 70).split()
    assert _similarity(" ".join(words), " ".join(["once", *words[1:]])) == pytest.approx(1 - 1 / len(words))


def test_the_comparisons_numbers_are_on_the_page_and_in_the_table() -> None:
    """The mean of the paired differences and its interval, as `difference` has them; what is not known is a dash."""
    made = comparison(repeat=5)
    found = made.difference("autogen", "plain", "duration_s")
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.mean == pytest.approx(1.2)
    said = f"+{found.mean:.2f} [+{found.low:.2f}, +{found.high:.2f}]"
    for shown in (comparison_page(made), comparison_table(made), made._repr_html_()):
        text = Page(shown).text
        assert said in text
        assert "✱" in text
    assert "0 [0, 0]" in Page(comparison_page(made)).text
    assert "cost USD" not in comparison_page(made).split('id="differences"')[1].split("</table>")[0]
    single = comparison()
    assert "[" not in Page(comparison_table(single)).text.replace("[95%", "")


def test_the_table_is_escaped() -> None:
    """A notebook shows it inside its own page."""
    assert [tag for tag, _ in Page(comparison_table(comparison(EVIL))).elements] == [
        tag for tag, _ in Page(comparison_table(comparison())).elements
    ]


@pytest.mark.parametrize(
    ("value", "name", "shown"),
    [(None, "duration_s", "–"), (0.0, "duration_s", "0"), (-0.0001, "duration_s", "0"), (0.1234, "duration_s", "0.123"), (12.345, "duration_s", "12.35"),
     (1234567.0, "input_tokens", "1,234,567"), (2.5, "requests", "2.5"), (0.000012, "cost_usd", "0.000012"), (-3.0, "input_tokens", "−3")],
)  # fmt: skip
def test_numbers(value: float | None, name: str, shown: str) -> None:
    """As many places as they need; a dash is not known."""
    assert metric(value, name) == shown


def test_axes_have_round_numbers() -> None:
    """From nothing to days."""
    assert ticks(0) == [0.0]
    assert ticks(4) == [0, 1, 2, 3, 4]
    for total in (1e-6, 0.13, 7, 59, 12345.6, 1e7):
        found = ticks(total)
        assert 3 <= len(found) <= 11
        assert found[-1] <= total
    assert seconds(100.04) == "100.0"


# Size


def test_a_run_of_200_tasks_stays_below_5_mb() -> None:
    """With answers of 5,000 characters that are mostly markup, and what is left out is said."""
    page = run_page(*large())
    assert 1_000_000 < len(page.encode()) < 5_000_000
    assert "further characters are not shown" in page
    assert page.count('class="task"') == 200


@pytest.mark.parametrize("text", ["<\"&'>é" * 20_000, "x"])
def test_whatever_it_holds_a_page_stays_below_5_mb(text: str) -> None:
    """Characters that take six times their room once escaped; sixty calls a task."""
    page = run_page(*large(calls=60 if text == "x" else 4, text=text))
    assert len(page.encode()) < 5_000_000
    assert ("further calls are not shown" in page) == (text == "x")


def test_a_large_comparison_stays_below_5_mb() -> None:
    """Two backends, 120 tasks, prompts of 900 words that differ in every third; several repeats, of which the first are drawn."""
    page = comparison_page(large_comparison(120, repeat=6))
    assert len(page.encode()) < 5_000_000
    assert "further rows and repeats stand in the table of runs only" in page


def test_the_longest_texts_are_cut_first() -> None:
    """Short ones stay whole."""
    texts = _Texts()
    short, *long = [texts.add("s" * 100), *[texts.add("<" * 20_000) for _ in range(100)]]
    assert short is not None
    assert (short.shown, short.left_out) == ("s" * 100, 0)
    cut = long[0]
    assert cut is not None
    assert cut.left_out > 0
    assert len(cut.shown) * 4 * 100 <= 1_500_000


# Writing, and the command line


def test_a_page_replaces_a_file_whole(tmp_path: Path) -> None:
    """Nothing is left beside it, folders are made, and what cannot be encoded is replaced."""
    path = tmp_path / "new" / "page.html"
    write_page("first", path)
    write_page("second \ud800", path)
    assert path.read_text() == "second ?"
    assert [one.name for one in path.parent.iterdir()] == ["page.html"]
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.fixture
def file(tmp_path: Path, server: ScriptedServer) -> Path:
    """A team file on the scripted server."""
    path = tmp_path / "team.yaml"
    path.write_text(TEAM.format(base_url=server.base_url))
    return path


def test_compare_writes_a_page(cli: Run, file: Path, server: ScriptedServer, tmp_path: Path) -> None:
    """Beside the table; with --json beside the document, and stdout holds nothing else."""
    server.reply("MARK-ONE", EVIL, forever=True).reply("MARK-TWO", "done", forever=True)
    code, out, _ = cli("compare", str(file), "-b", "autogen,autogen_classic", "--html", "sub/page.html", "--repeat", "2")
    assert code == 0
    assert "All outputs are equal." in out
    page = Page((tmp_path / "sub" / "page.html").read_text())
    assert EVIL in page.text
    assert not page.all("script")
    code, out, _ = cli("compare", str(file), "-b", "autogen", "--html", "again.html", "--json")
    assert (code, out[0]) == (0, "{")
    assert "paged" in Page((tmp_path / "again.html").read_text()).text


def test_compare_says_that_a_page_cannot_be_written_before_anything_runs(
    cli: Run, file: Path, server: ScriptedServer, tmp_path: Path
) -> None:
    """A folder, and a place below a file: exit 2, one sentence, no request."""
    for place in (str(tmp_path), str(file / "page.html")):
        code, out, err = cli("compare", str(file), "-b", "autogen", "--html", place)
        assert (code, out) == (2, "")
        assert f"--html: {place} cannot be written: " in err
        assert "Traceback" not in err
    assert server.requests == []


def test_results_are_not_lost_when_the_page_fails_afterwards(
    cli: Run, file: Path, server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The document is on stdout, the error on stderr, exit 2."""
    server.reply("MARK-ONE", "one").reply("MARK-TWO", "two")

    def full(source: Any, target: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unified_agents.files.os.replace", full)
    code, out, err = cli("compare", str(file), "-b", "autogen", "--html", "page.html", "--json")
    assert code == 2
    assert '"equal": true' in out
    assert "page.html cannot be written: No space left on device" in err
    assert sorted(one.name for one in tmp_path.iterdir() if "page" in one.name) == []


def test_runs_show_writes_a_page(cli: Run, file: Path, server: ScriptedServer, tmp_path: Path) -> None:
    """Of a stored run: its answers, its calls; and an error where the file cannot be written or the run is not there."""
    server.reply("MARK-ONE", "ANSWER ONE", forever=True).reply("MARK-TWO", EVIL, forever=True)
    assert cli("run", str(file), "-b", "autogen", "--run-id", "r1", "--quiet")[0] == 0
    code, out, _ = cli("runs", "show", "r1", "--html", "run.html")
    assert code == 0
    assert "ANSWER ONE" in out
    page = Page((tmp_path / "run.html").read_text())
    assert EVIL.strip() in page.text
    assert len(page.all("rect", "model")) == 2 + 2  # two calls, and two in the legend
    assert "ModelAnswered" in page.text
    assert cli("runs", "show", "r1", "--html", str(tmp_path))[0] == 2
    assert cli("runs", "show", "nobody", "--html", "x.html")[0] == 2
    assert not (tmp_path / "x.html").exists()


def test_the_wheel_holds_the_templates(tmp_path: Path) -> None:
    """What the package loads while it runs is in it."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    folder = ROOT / "unified_agents" / "templates"
    assert {f"unified_agents/templates/{path.name}" for path in folder.iterdir()} <= set(names)


# The notebook


@pytest.mark.parametrize("backends", [1, 2, 3, 4])
def test_the_figure(backends: int, tmp_path: Path) -> None:
    """A timeline for each backend on one scale, tokens and seconds below; labels of 7 points and more that do not overlap; not kept by pyplot."""
    made = comparison("a $ and a very long name of a task_1", [f"backend_{number}" for number in range(backends)], repeat=3)
    figure = made.plot()
    figure.savefig(tmp_path / "figure.png")
    assert len(figure.axes) == backends + 2
    assert len({axes.get_xlim() for axes in figure.axes[:backends]}) == 1
    texts = [label for axes in figure.axes for label in [*axes.get_yticklabels(), *axes.get_xticklabels()]]
    assert min(float(label.get_fontsize()) for label in texts) >= 7
    bars = [(bar.get_x(), bar.get_width()) for bar in figure.axes[0].patches]  # type: ignore[attr-defined]
    assert (0.5, 2.5) in bars
    assert (1.0, 0.5) in bars
    assert figure._repr_png_()[:4] == b"\x89PNG"  # type: ignore[attr-defined]


def test_thirty_tasks_are_legible() -> None:
    """The names of neighbours do not overlap."""
    figure = large_comparison(30, repeat=1).plot()
    figure.draw_without_rendering()
    for axes in figure.axes[:3]:
        boxes = sorted((label.get_window_extent() for label in axes.get_yticklabels()), key=lambda box: box.y0)
        assert len(boxes) == 30
        assert all(lower.y1 <= upper.y0 for lower, upper in itertools.pairwise(boxes))


def test_the_figure_of_runs_that_never_began() -> None:
    """Nothing to draw is no error."""
    assert Comparison("", ["crewai", "autogen"], [], [refused("crewai"), refused()]).plot().axes


def test_without_matplotlib_the_error_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the extra is not installed."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=re.escape("pip install 'unified-agents[notebook]'")):
        comparison().plot()


def test_nothing_heavy_is_imported_early() -> None:
    """`import unified_agents.compare` and a page need no matplotlib and no pandas."""
    code = (
        "import sys; from tests.pages import comparison; from unified_agents.report import comparison_page; comparison_page(comparison()); "
        "print({'matplotlib', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()"


def test_a_notebook_shows_table_and_figure_once(tmp_path: Path) -> None:
    """In a real kernel: the comparison as HTML, its plot as one image, also where pyplot was imported."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    cells = ["from tests.pages import comparison; c = comparison(repeat=2)", "c", "c.plot()", "import matplotlib.pyplot", "c.plot()"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(book, timeout=100, resources={"metadata": {"path": str(ROOT)}}).execute()
    outputs = [[output.data for output in cell.outputs] for cell in book.cells]
    assert "<table>" in outputs[1][0]["text/html"]
    assert [len(outputs[place]) for place in (2, 4)] == [1, 1]
    assert all("image/png" in outputs[place][0] for place in (2, 4))


# The documentation


def test_the_compare_pages_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: ScriptedServer
) -> None:
    """As it stands: compared, drawn, written; recorded on one backend and replayed on both without a request; grouped as a table."""
    doc = blocks((ROOT / "docs" / "compare.md").read_text(), "python")
    text = TEAM.replace("name: paged", "name: paged\ninputs:\n  topic: {{}}").replace("two:", "write:")
    (tmp_path / "team.yaml").write_text(text.format(base_url=server.base_url))
    server.reply("MARK-ONE", "facts", forever=True).reply("MARK-TWO", "An article. Source: me", forever=True)
    space: dict[str, Any] = {"__name__": "page"}
    exec(compile(doc[0], "page", "exec"), space)
    assert capsys.readouterr().out.startswith("True\n1.0\nDifference(mean=")
    assert (tmp_path / "comparison.png").read_bytes()[:4] == b"\x89PNG"
    assert "An article" in Page((tmp_path / "comparison.html").read_text()).text
    exec(compile(doc[2], "page", "exec"), space)
    assert "score_cites_a_source" in capsys.readouterr().out
    asked = len(server.requests)
    exec(compile(doc[1], "page", "exec"), space)
    assert capsys.readouterr().out == "True\n"
    assert len(server.requests) == asked + 2


def test_the_compare_page_names_every_column() -> None:
    """Each column of `to_pandas()` stands in its table, and those of `to_pandas("runs")` in their paragraph."""
    text = (ROOT / "docs" / "compare.md").read_text()
    made = comparison(repeat=2)
    rows = {name for row in made.rows() for name in row} - {
        "backend",
        "task",
        "runs",
        "duration_s_min",
        "duration_s_max",
    }
    assert not [name for name in rows if f"`{name}`" not in text and not name.endswith("_diff")]
    assert {name for name in rows if name.endswith("_diff")} == {f"{metric}_diff" for metric in METRICS}
    assert "`METRIC_diff`" in text
    columns = set(made.to_pandas("runs").columns) - {"score_plain", "notes", "input_tokens", "output_tokens"}
    assert not [name for name in columns if f"`{name}`" not in text]


def test_a_page_of_real_runs_is_made_quickly(tmp_path: Path) -> None:
    """Real runs on a scripted model: each task once, its bar as long as the result says; and the page takes less than half a second."""
    from unified_agents import AgentSpec, TaskSpec, TeamSpec

    agent = AgentSpec(name="a", role="R")
    team = TeamSpec(name="real", models={"default": "openai/x"}, tasks=[TaskSpec(name="t", description="D", agent=agent)])
    model = ScriptedModel({"t": ["x", "y", "z"]})
    assert str(run_team(team, backend="autogen", models={"default": model})) == "x"
    made = compare_backends(team, ["autogen", "autogen_classic"], models={"default": model})
    began = time.monotonic()
    comparison_page(made)
    assert time.monotonic() - began < 2
    for run in made.runs:
        (line,) = timeline(run.events).lines
        assert run.result is not None
        task = run.result.tasks["t"]
        assert line.bars[0].seconds == task.duration_s
        assert task.started_at is not None
        began_at = next(event.time for event in run.events if event.time)
        assert line.bars[0].start == pytest.approx((task.started_at - began_at) / timedelta(seconds=1), abs=0.05)
    assert START.tzinfo is not None
