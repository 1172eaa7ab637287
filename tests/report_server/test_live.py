"""The live page in a browser: it follows the run without being loaded again."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Server
from support_server import small_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def until(page: Any, expression: str) -> None:
    """Waits until it holds. (The browser's own way of waiting needs `eval`, which the page forbids.)"""
    end = time.monotonic() + 60.0
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(50)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_page_follows_the_run(served: Callable[..., Server], tmp_path: Path) -> None:
    """New rows move the drawings and the verdict; the page, its zoom and what was opened stay; no error comes."""
    sync_api = pytest.importorskip("playwright.sync_api")
    run = small_run(tmp_path / "run", steps=40)
    server = served(tmp_path)
    errors: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.on("console", lambda said: said.type in ("error", "warning") and errors.append(said.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"http://localhost:{server.port}/")
        page.click('a[href="/run/run"]')
        page.wait_for_selector("#panels .plot > *", timeout=60_000)
        until(page, "document.querySelector('#pulse').textContent === 'live'")
        page.evaluate("window.kept = true; document.querySelector('details.tables').open = true")
        page.click('[data-zoom="in"]')
        with (run / "steps.jsonl").open("a", encoding="utf-8") as stream:
            rows = [{"step": step, "row": step, "loss": 5.5, "time": 1e9 + step} for step in range(40, 50)]
            stream.write("".join(json.dumps(row) + "\n" for row in rows))
        until(page, "document.querySelector('.facts').innerText.includes('50')")
        assert page.evaluate("window.kept")
        assert page.evaluate("document.querySelector('details.tables').open")
        last = "Bokeh.documents[0].get_model_by_name('line').data.x.at(-1)"
        assert page.evaluate(last) == 49
        assert page.evaluate("Bokeh.documents[0].roots()[0].x_range.end") < 40
        browser.close()
    assert errors == []
