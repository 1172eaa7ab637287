"""The documentation's site: it builds without a warning, is whole, needs no network, and opens in a browser."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlwatch import playbook, reference
from rlwatch.cli.catalogue import commands, parameters
from rlwatch.detectors.registry import detector_classes
from rlwatch.signals import SIGNALS

pytest.importorskip("sphinx")
pytest.importorskip("myst_parser")
pytest.importorskip("furo")

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as CI does, with every warning an error."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", str(out / "trees"), "docs", str(out / "html")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return out / "html"


def text_of(page: Path) -> str:
    """The words of a page."""
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_every_detector_has_its_page_and_settings(site: Path) -> None:
    """The playbook's text, and each setting with its default and description."""
    for name in detector_classes():
        text = " ".join(text_of(site / "generated" / "detectors" / f"{name}.html").split())
        for fix in playbook.remedies(name):
            assert fix in text, (name, fix)
        for entry in reference.of_detector(name):
            assert (
                f"{entry.name} {entry.default_text} {entry.kind} {' '.join(entry.description.split())}".replace("`", "")
                in text
            )


def test_the_references_are_whole(site: Path) -> None:
    """Every setting, signal and command is in its page."""
    settings = text_of(site / "generated" / "settings.html")
    assert all(entry.name in settings for entry in reference.general())
    assert all(name in settings for name in reference.detectors())
    signals = text_of(site / "generated" / "signals.html")
    assert all(name in signals for name in SIGNALS)
    text = text_of(site / "generated" / "commands.html")
    for name, callback in commands().items():
        assert f"rlwatch {name}" in text
        assert (callback.__doc__ or "").splitlines()[0] in text, name
        assert all(option in text for one in parameters(callback) for option in one.names), name


def test_the_face_is_documented(site: Path) -> None:
    """What `import rlwatch` offers is in the Python interface, but for what brings its framework."""
    text = text_of(site / "api.html")
    for name in ("Watch", "Verdict", "Alert", "Severity", "Action", "Detector", "Observation", "ConfigError"):
        assert re.search(rf"class rlwatch\.[\w.]+\.{name}\b|exception rlwatch\.[\w.]+\.{name}\b", text), name
    assert "EXIT_HALTED" in text_of(site / "recipes.html")


def test_nothing_is_fetched(site: Path) -> None:
    """No page, style or script loads anything from elsewhere."""
    outside = re.compile(r"""(?:src=|url\(|@import |<link[^>]*href=)["']?(?:https?:)?//""")
    for page in [*site.rglob("*.html"), *site.rglob("*.css")]:
        found = outside.search(page.read_text(encoding="utf-8"))
        assert found is None, (page, found)


def test_links_lead_somewhere(site: Path) -> None:
    """Each link within the site has its page, and the page its anchor."""
    pages = {page: page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    anchors = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in pages.items()}
    for page, text in pages.items():
        for target in re.findall(r'<a [^>]*href="([^"]+)"', text):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = html.unescape(target).partition("#")
            there = (page.parent / path).resolve() if path else page
            assert there.exists(), (page, target)
            assert not anchor or there not in anchors or anchor in anchors[there], (page, target)


@pytest.fixture
def rewrite() -> Iterator[Any]:
    """The function that turns the repository's links into the site's."""
    sys.path.insert(0, str(ROOT / "docs" / "_ext"))
    from rlwatch_pages import links  # type: ignore[import-not-found]

    yield lambda name, text: _rewritten(links, name, text)
    sys.path.remove(str(ROOT / "docs" / "_ext"))


def _rewritten(links: Any, name: str, text: str) -> str:
    source = [text]
    links.rewrite(None, name, source)
    return source[0]


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("faq", "[a](offline.md#x)", "[a](/offline.md#x)"),
        ("ray", "[a](../README.md)", "[a](/index.md)"),
        ("faq", "[a](../benchmarks/README.md)", "[a](/generated/benchmarks/README.md)"),
        ("faq", "[a](../playbook/kl_explosion.md)", "[a](/generated/detectors/kl_explosion.md)"),
        ("openrlhf", "[`a`](../examples/openrlhf_grpo.sh)", "[`a`](/generated/examples/openrlhf_grpo.md)"),
        ("openrlhf", "[b](../tests/conftest.py)", "b (`tests/conftest.py`)"),
        ("generated/detectors/kl_explosion", "[a](index.md#b)", "[a](/generated/detectors/index.md#b)"),
        ("generated/benchmarks/gym/RESULTS", "[a](../README.md)", "[a](/generated/benchmarks/README.md)"),
        ("faq", "[a](https://example.org/x.md)", "[a](https://example.org/x.md)"),
        ("faq", "```\n[a](offline.md)\n```", "```\n[a](offline.md)\n```"),
        ("faq", "[a](no_such.md)", "[a](/no_such.md)"),
    ],
)
def test_a_link_of_the_repository_works_in_the_site(rewrite: Any, page: str, link: str, expected: str) -> None:
    """Pages that the site has are linked, other files are named, code is left alone; a broken one stays one."""
    assert rewrite(page, link) == expected


def test_a_page_that_nobody_listed_is_listed(rewrite: Any) -> None:
    """A new page of docs/ is in the contents without a word from its author; where there is none, no empty caption."""
    from rlwatch_pages.links import _contents

    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^[\w/]+$", text, re.MULTILINE))
    assert ":caption: More" not in _contents(text, named)
    assert ":caption: More\n:hidden:\n\nnew_page\n```" in _contents(text, {*named, "new_page", "index"})
    assert "all others" not in _contents(text, named) + _contents(text, {*named, "new_page"})


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_open_in_a_browser(site: Path, scheme: str) -> None:
    """No console error, no request beyond the disk, no page wider than a phone; light and dark differ."""
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
        trouble: list[str] = []
        page.on("console", lambda said: trouble.append(said.text) if said.type == "error" else None)
        page.on("request", lambda asked: trouble.append(asked.url) if asked.url.startswith("http") else None)
        for name in ("index", "quickstart", "generated/settings", "generated/detectors/kl_explosion", "api"):
            page.goto((site / f"{name}.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
            assert page.locator("h1").count() == 1
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        light = sum(map(int, re.findall(r"\d+", ground)[:3])) > 3 * 128
        assert light == (scheme == "light")
        assert trouble == []
        browser.close()
