"""What notebooks show, by IPython's own formatter and in a kernel's real output."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rlwatch import Watch, notebook
from rlwatch.offline.replay import replay

EVIL = '<script>alert("x")</script>'


class Balanced(HTMLParser):
    """Fails on tags that are not closed in order; keeps the names that were opened, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.words = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)
        if tag != "path":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A log that turns NaN, under a name, and with a key, that would be markup."""
    path = tmp_path / "a<b>&.jsonl"
    rows = [{"step": n, "loss": 0.5 if n < 30 else math.nan, EVIL: 1.0, "kl": 0.1} for n in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_ipython_shows_a_scan(broken: Path) -> None:
    """Its formatter takes both forms: a page for notebooks, the report's lines for a terminal; all text is escaped."""
    formatter = pytest.importorskip("IPython.core.formatters").DisplayFormatter()
    data, _ = formatter.format(replay(broken))
    page = Balanced(data["text/html"])
    assert "script" not in page.seen
    assert {"table", "details", "summary"} <= page.seen
    assert EVIL in page.words
    assert "a<b>&.jsonl" in page.words
    assert "loss_nonfinite" in page.words
    assert "step 30  CRITICAL  loss_nonfinite" in data["text/plain"]


def test_ipython_shows_a_watch(elsewhere: Path) -> None:
    """A Watch before, during and after its run: verdict, sparklines of the record, coverage."""
    formatter = pytest.importorskip("IPython.core.formatters").DisplayFormatter()
    watch = Watch(console=False, stall=False)
    assert "no row yet" in formatter.format(watch)[0]["text/html"]
    for row in range(40):
        watch.log(step=row, loss=0.5, kl=0.1 + row % 3 / 100, reward_mean=math.nan if row == 30 else row / 40)
    watch.close()
    data, _ = formatter.format(watch)
    page = Balanced(data["text/html"])
    assert {"svg", "path", "table"} <= page.seen
    assert "step 39 · 40 rows" in page.words
    assert "detectors armed" in page.words
    assert data["text/plain"].startswith("rlwatch: 40 rows, clean")
    for part in (watch.coverage(), replay(watch.run_dir or "").coverage):
        assert "kl_explosion" in Balanced(formatter.format(part)[0]["text/html"]).words


def test_a_kernel_shows_it(broken: Path) -> None:
    """In a notebook that is executed the cell's output holds the HTML."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    cell = f"from rlwatch.offline.replay import replay\nreplay({str(broken)!r})"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    nbclient.NotebookClient(book, timeout=60, kernel_name="python3").execute()
    (output,) = book.cells[0].outputs
    assert output.output_type == "execute_result"
    assert "loss_nonfinite" in output.data["text/html"]
    assert "<script" not in output.data["text/html"]


def test_a_display_loads_nothing_heavy(elsewhere: Path) -> None:
    """Neither a terminal's nor a notebook's packages are imported for the page of a Watch."""
    code = """
import sys
from rlwatch import Watch
with Watch(console=False, stall=False) as watch:
    for row in range(20):
        watch.log(step=row, loss=0.5)
page = watch._repr_mimebundle_()["text/html"]
assert "<svg" in page
print(sorted({"rich", "typer", "IPython", "pandas", "matplotlib", "bokeh", "jinja2", "torch"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_a_display_that_fails_costs_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the drawing is named, and the text form is still there."""

    def fail(watch: Watch) -> str:
        raise RuntimeError("drawing")

    monkeypatch.setattr(notebook, "watch_html", fail)
    watch = Watch(record=False, console=False, stall=False)
    assert watch._repr_html_() is None
    assert watch._repr_mimebundle_() == {"text/plain": "rlwatch: 0 rows, clean"}
    assert any("drawing" in reason for reason in watch.failures.values())


def test_colours_can_be_read_on_any_page() -> None:
    """Each badge's text against its own ground has the contrast that WCAG AA asks for; nothing else sets a colour."""

    def luminance(colour: str) -> float:
        whole = colour if len(colour) == 7 else "#" + "".join(2 * digit for digit in colour[1:])
        parts = [int(whole[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colours in notebook._BADGES.values():
        text, ground = map(luminance, colours.split(";background:"))
        assert (max(text, ground) + 0.05) / (min(text, ground) + 0.05) >= 4.5
