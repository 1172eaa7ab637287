"""The page in a real browser: it draws without an error or a network, and obeys mouse, keyboard and theme."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support_report import broken_run

from rlwatch.report.folder import incident_folders, read_folder
from rlwatch.report.incident_page import write_incident_report
from rlwatch.report.write import write_run_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")

VISIBLE = (
    "[...document.querySelectorAll('[data-panel], [data-events], [data-heat], [data-scatter]')]"
    ".filter((figure) => figure.checkVisibility())"
)
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless browser."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that broke, with its report and those of its incidents."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLWATCH_REPORT", "off")
        home = broken_run(tmp_path_factory.mktemp("runs"))
    for incident in incident_folders(home):
        write_incident_report(incident)
    write_run_report(read_folder(home), home / "report.html")
    return home


class Opened:
    """A page with what it complained about and what it asked for."""

    def __init__(self, browser: Any, file: Path, **context: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **context})
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.errors.append(said.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())

    def drawings(self) -> int:
        """Waits until all that can be seen is drawn, without scrolling; how many signals there are then."""
        self.until(f"{VISIBLE}.every((figure) => figure.querySelector('.plot > *'))")
        self.page.wait_for_timeout(100)
        return len(self.page.query_selector_all("#panels .plot > *"))

    def until(self, expression: str) -> None:
        """Waits until it holds. (The browser's own way of waiting needs `eval`, which the page forbids.)"""
        end = time.monotonic() + 60.0
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, expression
            self.page.wait_for_timeout(50)

    def colour(self, query: str, of: str) -> str:
        """A colour as it is shown."""
        return str(self.page.evaluate(f"getComputedStyle(document.querySelector('{query}'))['{of}']"))


def test_it_draws_without_an_error_and_without_a_network(browser: Any, folder: Path) -> None:
    """Every signal is drawn, nothing is said on the console, nothing but the file is asked for, no script of others."""
    opened = Opened(browser, folder / "report.html")
    assert opened.drawings() >= 8
    opened.page.wait_for_timeout(300)
    assert opened.errors == []
    assert opened.requests == [(folder / "report.html").as_uri()]
    assert opened.page.evaluate("window.hacked === undefined")
    assert opened.page.inner_text("h1") == "Critical"


def test_what_is_below_the_window_is_drawn_without_scrolling(browser: Any, folder: Path) -> None:
    """A picture of the whole page, or a jump, finds every drawing there; on paper each is a light one that fits."""
    opened = Opened(browser, folder / "report.html", color_scheme="dark")
    assert opened.drawings() >= 8
    assert opened.page.evaluate("scrollY") == 0
    opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    opened.page.emulate_media(media="print")
    assert opened.page.evaluate(f"{VISIBLE}.every((figure) => figure.querySelector('.printed').offsetWidth > 0)")
    assert opened.colour("body", "backgroundColor") == "rgb(255, 255, 255)"
    opened.page.emulate_media(media="screen")
    opened.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert opened.page.query_selector(".printed") is None
    assert opened.colour("body", "backgroundColor") != "rgb(255, 255, 255)"
    assert opened.errors == []


def test_the_report_leads_to_the_incidents_pages_and_back(browser: Any, folder: Path) -> None:
    """By links that hold wherever the run's folder is copied to."""
    opened = Opened(browser, folder / "report.html")
    opened.page.click("#incidents a[href^='incidents/']")
    assert opened.page.url == (incident_folders(folder)[0] / "report.html").as_uri()
    opened.page.click("a[href='../../report.html']")
    assert opened.page.url == (folder / "report.html").as_uri()


def test_the_values_at_a_step_are_read_by_keyboard(browser: Any, folder: Path) -> None:
    """A step that is typed shows the value of every signal there; a NaN is called NaN."""
    opened = Opened(browser, folder / "report.html")
    opened.drawings()
    opened.page.focus("#cursor")
    opened.page.keyboard.type("88")
    opened.until("document.querySelector('#panels').innerText.includes('NaN at 88')")
    opened.page.keyboard.press("ArrowDown")
    opened.until("document.querySelector('#panels').innerText.includes(' at 87')")
    assert opened.errors == []


def test_zoom_moves_all_drawings(browser: Any, folder: Path) -> None:
    """The buttons, by keyboard, show fewer steps in every drawing, and all again."""
    opened = Opened(browser, folder / "report.html")
    opened.drawings()
    ranges = "Bokeh.documents.filter((d) => !d.get_model_by_name('early')).map((d) => d.roots()[0].x_range)"
    ranges += ".map((r) => r.end - r.start)"  # all but lengths over rewards
    whole = opened.page.evaluate(ranges)
    opened.page.focus('[data-zoom="in"]')
    opened.page.keyboard.press("Enter")
    opened.until("document.querySelector('#where').textContent.startsWith('steps')")
    half = opened.page.evaluate(ranges)
    assert all(abs(now - before / 2) < 1e-6 for now, before in zip(half, whole, strict=True))
    opened.page.focus('[data-zoom="all"]')
    opened.page.keyboard.press("Enter")
    opened.until("document.querySelector('#where').textContent === ''")
    assert opened.page.evaluate(ranges) == whole


def test_a_mouse_over_a_drawing_reads_all(browser: Any, folder: Path) -> None:
    """Hovering over one drawing shows that step's values beside all."""
    opened = Opened(browser, folder / "report.html")
    opened.drawings()
    box = opened.page.query_selector("#panels .signal .plot").bounding_box()
    opened.page.query_selector("#panels .signal .plot").scroll_into_view_if_needed()
    box = opened.page.query_selector("#panels .signal .plot").bounding_box()
    opened.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    opened.until("document.querySelector('#cursor').value !== ''")
    step = int(opened.page.input_value("#cursor"))
    assert 35 <= step <= 55
    readings = opened.page.eval_on_selector_all("#panels [data-reading]", "all => all.map(one => one.textContent)")
    assert sum(f"at {step}" in reading for reading in readings) >= 8


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(browser: Any, folder: Path, scheme: str) -> None:
    """The system's choice holds, the button turns it, text and line stand out from the ground by WCAG AA."""
    opened = Opened(browser, folder / "report.html", color_scheme=scheme)
    opened.drawings()
    before = opened.colour("body", "backgroundColor")
    assert (before == "rgb(255, 255, 255)") == (scheme == "light")
    for _ in range(2):
        ground = _light(opened.colour("body", "backgroundColor"))
        for query in ("body", ".soft", "nav a", ".badge.critical", ".badge.warning", ".badge"):
            assert _contrast(_light(opened.colour(query, "color")), ground) >= 4.5
        tinted = _light(opened.colour(".verdict", "backgroundColor"))
        assert _contrast(_light(opened.colour(".verdict p", "color")), tinted) >= 4.5
        opened.page.click("#theme")
    opened.page.click("#theme")
    assert opened.colour("body", "backgroundColor") != before
    line = "Bokeh.documents[1].roots()[0].references()"
    drawn = opened.page.evaluate(f"[...{line}].find((m) => m.tags.includes('line')).line_color.value")
    assert drawn == opened.page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--line').trim()")
    assert opened.errors == []


def _light(colour: str) -> float:
    """Relative luminance (WCAG 2.1) of `rgb(r, g, b)`."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


@pytest.mark.parametrize("which", ["run", "incident"])
def test_a_phone_shows_it_without_sideways_scrolling(browser: Any, folder: Path, which: str) -> None:
    """At a width of 390 pixels nothing sticks out, with all details open."""
    file = folder / "report.html" if which == "run" else incident_folders(folder)[0] / "report.html"
    opened = Opened(browser, file, viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    opened.page.evaluate("document.querySelectorAll('details').forEach((detail) => { detail.open = true; })")
    opened.page.wait_for_timeout(500)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert opened.errors == []


def test_an_incident_page_needs_no_script(browser: Any, folder: Path) -> None:
    """With scripts off it says what broke and draws it."""
    file = incident_folders(folder)[0] / "report.html"
    opened = Opened(browser, file, java_script_enabled=False)
    assert len(opened.page.query_selector_all("svg.sketch")) >= 5
    assert "kl_explosion" in opened.page.inner_text("#incident")
    assert opened.requests == [file.as_uri()]


def test_every_control_has_a_name_and_can_be_reached(browser: Any, folder: Path) -> None:
    """Buttons, inputs and drawings are labelled; the first stops of the tab key are the skip link and the theme."""
    opened = Opened(browser, folder / "report.html")
    opened.drawings()
    named = "(one) => (one.getAttribute('aria-label') || one.textContent || '').trim() || one.closest('label')"
    for query in ("button", "input", "[role=img]", "summary", "a"):
        assert opened.page.eval_on_selector_all(query, f"all => all.length && all.every({named})")
    stops = []
    for _ in range(2):
        opened.page.keyboard.press("Tab")
        stops.append(opened.page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert stops == ["skip", "theme"]
