"""The pages in a real browser: headless Chromium, from a file, at the width of a phone, dark, by keyboard, with evil words in every place."""

from __future__ import annotations

import html
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import NoAlertPresentException, UnexpectedAlertPresentException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.pages import EVIL, comparison, large, large_comparison, record, result, told
from unified_agents.report import comparison_page, run_page

pytestmark = pytest.mark.xdist_group("browser")
LONG = "an_unbroken_word_" * 30
OPEN_ALL = "document.querySelectorAll('details').forEach(one => one.open = true)"


def found(*names: str) -> str:
    """A program; without it the tests are skipped, but fail in CI, which installs it."""
    path = next((path for name in names if (path := shutil.which(name))), None)
    if path is None:
        missing = f"{names[0]} is not installed (Debian: apt-get install chromium chromium-driver)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return path


class Browser:
    """Chromium, and a folder for the pages that it opens."""

    def __init__(self, folder: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = found("chromium", "chromium-browser", "google-chrome")
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            f"--user-data-dir={folder / 'profile'}",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        options.unhandled_prompt_behavior = "ignore"
        self.driver = webdriver.Chrome(options=options, service=Service(found("chromedriver")))
        self._folder, self._width = folder, 0

    def open(self, page: str, width: int = 1280, **media: str) -> float:
        """Open a page; the seconds until it was loaded and drawn."""
        path = self._folder / "page.html"
        path.write_text(page, encoding="utf-8")
        self._width = width
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get("about:blank")
        self.console()
        self.requests()
        began = time.monotonic()
        self.driver.get(path.as_uri())
        with suppress(UnexpectedAlertPresentException):
            self.driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
        return time.monotonic() - began

    def run(self, script: str) -> Any:
        """What a script says."""
        return self.driver.execute_script(script)

    def console(self) -> list[str]:
        """What the console said since."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def requests(self) -> list[str]:
        """What was asked for since, the page itself apart, and what a policy stopped before it left."""
        entries = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]  # type: ignore[no-untyped-call]
        stopped = {
            entry["params"]["requestId"]
            for entry in entries
            if entry["method"] == "Network.loadingFailed" and entry["params"].get("blockedReason") == "csp"
        }
        sent = [entry["params"] for entry in entries if entry["method"] == "Network.requestWillBeSent"]
        asked = [one["request"]["url"] for one in sent if one["requestId"] not in stopped]
        return [url for url in asked if not url.startswith(self._folder.as_uri()) and url != "about:blank"]

    def alerts(self, expected: int = 0) -> list[str]:
        """The alerts that are shown, one after the other; each is closed. So many are waited for."""
        seen: list[str] = []
        deadline = time.monotonic() + 10
        while True:
            try:
                seen.append(self.driver.switch_to.alert.text)
                self.driver.switch_to.alert.accept()
            except NoAlertPresentException:
                if len(seen) >= expected or time.monotonic() > deadline:
                    return seen
                time.sleep(0.05)

    def sideways(self) -> bool:
        """Whether the page as a whole scrolls sideways."""
        return int(self.run("return document.documentElement.scrollWidth")) > self._width


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests here."""
    made = Browser(tmp_path_factory.mktemp("browser"))
    yield made
    made.driver.quit()


PAGES = {
    "run": lambda words: run_page(record(result(words), team=words), told(words)),
    "comparison": lambda words: comparison_page(comparison(words, repeat=3)),
}


@pytest.mark.parametrize("kind", PAGES)
def test_words_are_words(browser: Browser, kind: str) -> None:
    """No script of a model's answer, prompt, task name, tool argument or error runs; nothing is asked for; the console stays empty."""
    browser.open(PAGES[kind](EVIL))
    assert browser.alerts() == []
    browser.run(OPEN_ALL)
    assert browser.run("return document.title").startswith("</title>")
    assert browser.run("return document.querySelectorAll('script, img, [onclick], [onerror]').length") == 0
    assert EVIL in browser.run("return document.body.textContent")
    assert browser.requests() == []
    assert browser.console() == []


def test_the_same_words_do_run_elsewhere(browser: Browser) -> None:
    """The negative control: on a page without a policy they change the title, raise an alert and ask for an image."""
    browser.open(f"<title>plain</title><p>{EVIL}</p>".replace("</title></style></pre>", ""))
    assert browser.alerts(2) == ["1", "2"]
    assert browser.run("return document.title") == "pwned"
    assert browser.requests() == ["http://127.0.0.1:9/x"]


def test_the_policy_alone_would_hold(browser: Browser) -> None:
    """The second wall: the page with the words as markup, as if nothing had been escaped; the policy stops the script and the image, and says so."""
    page = PAGES["run"]("MARK")
    browser.open(page.replace("<main", f"{html.unescape(EVIL)}<main", 1))
    assert browser.alerts() == []
    assert browser.run("return document.title").startswith("MARK")
    assert browser.requests() == []
    assert any("Content Security Policy" in line for line in browser.console())


@pytest.mark.parametrize("kind", PAGES)
@pytest.mark.parametrize("words", ["plain", EVIL, LONG])
def test_a_phone_needs_no_sideways_scrolling(browser: Browser, kind: str, words: str) -> None:
    """At 390 pixels, closed and with everything open, also with words that cannot be broken."""
    browser.open(PAGES[kind](words), width=390)
    assert not browser.sideways()
    browser.run(OPEN_ALL)
    assert not browser.sideways()
    widths = browser.run("return [...document.querySelectorAll('.lane')].map(one => one.getBoundingClientRect().width)")
    assert min(widths) > 280


def test_sideways_scrolling_is_seen(browser: Browser) -> None:
    """The negative control."""
    browser.open(PAGES["run"]("plain").replace("<main", "<table><tr><td><svg width='700'></svg></td></tr></table><main", 1), width=390)
    assert browser.sideways()


def test_dark_where_the_system_is_dark(browser: Browser) -> None:
    """The background, the text and what is drawn change; light otherwise."""
    seen = {}
    for scheme in ("light", "dark"):
        browser.open(PAGES["run"]("plain"), prefers_color_scheme=scheme)
        colours = "const style = getComputedStyle(document.documentElement); return [style.backgroundColor, style.color]"
        seen[scheme] = [sum(map(int, colour[4:-1].split(","))) / 765 for colour in browser.run(colours)]
    assert seen["light"][0] > 0.95
    assert seen["light"][1] < 0.2
    assert seen["dark"][0] < 0.15
    assert seen["dark"][1] > 0.8


def test_motion_only_where_it_is_wanted(browser: Browser) -> None:
    """Links jump where less motion is asked for; nothing else moves at all."""
    behaviour = "return getComputedStyle(document.documentElement).scrollBehavior"
    browser.open(PAGES["run"]("plain"), prefers_reduced_motion="reduce")
    assert browser.run(behaviour) == "auto"
    browser.open(PAGES["run"]("plain"), prefers_reduced_motion="no-preference")
    assert browser.run(behaviour) == "smooth"
    moving = """const moves = style => style.transitionDuration !== '0s' || style.animationName !== 'none';
    return [...document.querySelectorAll('*')].filter(one => moves(getComputedStyle(one))).length"""
    assert browser.run(moving) == 0


def test_a_click_opens_a_task(browser: Browser) -> None:
    """Its calls are hidden before and shown after, with what a tool was asked."""
    browser.open(PAGES["run"]("plain"))
    task = browser.driver.find_element(By.CSS_SELECTOR, "details.task")
    table = task.find_element(By.TAG_NAME, "table")
    assert not table.is_displayed()
    task.find_element(By.TAG_NAME, "summary").click()
    assert table.is_displayed()
    assert '{"plain": "plain"}' in table.text
    task.find_element(By.TAG_NAME, "summary").click()
    assert not table.is_displayed()


def test_the_keyboard_reaches_everything(browser: Browser) -> None:
    """Tab goes from the skip link through every link and line in their order, each with a visible outline; Enter opens a line, and follows the skip link."""
    browser.open(PAGES["comparison"]("plain"))
    names, focused = (
        [],
        "return [document.activeElement.tagName, getComputedStyle(document.activeElement).outlineStyle, document.activeElement.textContent.trim()]",
    )
    for _ in range(200):
        webdriver.ActionChains(browser.driver).send_keys(Keys.TAB).perform()
        tag, outline, text = browser.run(focused)
        if tag == "BODY":
            break
        names.append((tag, text))
        assert outline != "none" or text == "Skip to the content", (tag, text)
    assert names[0] == ("A", "Skip to the content")
    visible = browser.run("return [...document.querySelectorAll('a, summary')].filter(one => one.checkVisibility()).length")
    assert sum(tag in ("A", "SUMMARY") for tag, _ in names) == visible > 10
    summary = browser.driver.find_element(By.CSS_SELECTOR, "details.task > summary")
    summary.send_keys(Keys.ENTER)
    assert browser.run("return document.querySelector('details.task').open")
    browser.driver.find_element(By.CLASS_NAME, "skip").send_keys(Keys.ENTER)
    assert browser.run("return document.activeElement.id") == "main"


def test_what_is_drawn_stands_where_the_numbers_say(browser: Browser) -> None:
    """A bar's pixels are its share of the scale: the browser draws what the events say."""
    browser.open(PAGES["run"]("plain"))
    place = """const lane = document.querySelector('.lane').getBoundingClientRect(), bar = document.querySelector('.lane .bar'), box = bar.getBBox();
    return [lane.width, box.x, box.width]"""
    width, left, wide = browser.run(place)
    assert width > 600
    assert left == pytest.approx(width * 0.5 / 4, abs=0.5)
    assert wide == pytest.approx(width * 2.5 / 4, abs=0.5)
    assert browser.run("return getComputedStyle(document.querySelector('.lane .retry')).fill").startswith('url("#hatch")')


def test_a_run_of_200_tasks_opens_in_two_seconds(browser: Browser) -> None:
    """Loaded and drawn, the best of three on whatever machine this is; and it scrolls to its end."""
    page = run_page(*large())
    assert min(browser.open(page) for _ in range(3)) < 2
    assert browser.run("return document.querySelectorAll('details.task').length") == 200
    assert browser.console() == []


def test_a_comparison_of_200_tasks_opens_in_two_seconds(browser: Browser) -> None:
    """As above, with two backends and long prompts."""
    page = comparison_page(large_comparison(200, repeat=1))
    assert len(page.encode()) < 5_000_000
    assert min(browser.open(page) for _ in range(3)) < 2


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_without_a_browser_ci_fails(monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]) -> None:
    """Elsewhere the tests here are skipped, with what to install."""
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(outcome, match="apt-get install chromium"):
        found("chromium")
