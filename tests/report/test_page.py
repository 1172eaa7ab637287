"""The page says what the record says, and nothing in the record can be more than text."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support_report import HOSTILE, broken_run, write_run

from rlwatch.report import page as page_module
from rlwatch.report.folder import read_folder
from rlwatch.report.incident_page import render_incident
from rlwatch.report.page import LIMIT, render
from rlwatch.report.text import shown
from rlwatch.report.verdict import verdict_of


class Elements(HTMLParser):
    """Counts elements, and keeps the text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.count: dict[str, int] = {}
        self.ids: list[str] = []
        self.words = ""
        self._silent = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self._silent = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self._silent = ""

    def handle_data(self, data: str) -> None:
        self.words += data if not self._silent else ""


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that broke."""
    import os

    before = os.environ.get("RLWATCH_REPORT")
    os.environ["RLWATCH_REPORT"] = "off"
    try:
        return broken_run(tmp_path_factory.mktemp("runs"))
    finally:
        os.environ.pop("RLWATCH_REPORT") if before is None else os.environ.update(RLWATCH_REPORT=before)


@pytest.fixture(scope="module")
def html(broken: Path) -> str:
    """Its report."""
    return render(read_folder(broken))


def test_all_parts_are_there(html: str) -> None:
    """Verdict, loop, signals, time line, incidents, coverage, rewards, samples, settings; every id once."""
    found = Elements(html)
    wanted = {"verdict", "loop", "signals", "timeline", "incidents", "coverage", "rewards", "samples", "settings"}
    assert wanted <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))
    for words in ("Critical", "broke first", "Fixes, in this order", "Playbook: kl_explosion", "NaN in 1 step"):
        assert words in found.words
    assert found.count["svg"] == 2
    assert len(html.encode()) < LIMIT


def test_no_address_is_loaded(html: str) -> None:
    """Nothing is fetched: no link, image or script with an address, and a policy that forbids all of it."""
    outside = re.sub(r"<script[^>]*>.*?</script>", "", html, flags=re.DOTALL)
    assert not re.search(r'(?:src|href)="(?!#|data:,)', outside)
    assert "url(" not in outside.replace("url(#", "")
    policy = unescape(re.findall(r'Content-Security-Policy" content="([^"]*)"', html)[0])
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:;")
    assert "connect-src 'none'" in policy
    assert re.search(r"script-src( 'sha256-[\w+/=]{44}'){2};", policy)


def test_hostile_completions_are_text(broken: Path, html: str) -> None:
    """Tags, templates, control and bidirectional characters appear as what they are, in both kinds of page."""
    small = render_incident(next((broken / "incidents").iterdir()))
    for text in (html, small):
        found = Elements(text)
        assert "window.hacked" in found.words
        assert found.count.get("img", 0) == 0
        assert "<b>bold <i>unclosed" in found.words
        assert "{{ 7 * 7 }}" in found.words
        assert "[U+202E]txt.exe" in found.words
        assert "escape[U+001B][31mred" in found.words
        assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text.replace("\r", ""))
    assert Elements(html).count["script"] == 3
    assert Elements(small).count["style"] == 1


def test_data_in_the_page_is_strict_json_that_ends_no_element(html: str) -> None:
    """The data element holds JSON without a `<`; its values are those of the record."""
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert text is not None
    assert "<" not in text[1]
    data = json.loads(text[1], parse_constant=_refuse)
    assert [panel["name"] for panel in data["panels"]][:2] == ["reward_mean", "reward_std"]
    assert data["marks"]["gone"] == [[60, 86]]
    assert [panel["name"] for panel in data["panels"] if panel["bad"]] == ["loss"]


def _refuse(constant: str) -> Any:
    raise AssertionError(constant)


def test_secrets_are_masked(tmp_path: Path) -> None:
    """Keys, tokens and the passwords of addresses in command and settings are not shown."""
    home = write_run(tmp_path / "run", [{"step": 0, "loss": 1.0}])
    info = {
        "command": ["train.py", "--api-key", "abcd1234efgh", "--lr", "1e-5"],
        "settings": {"preset": "grpo", "hub_token": "hf_abcdefghijklmnop", "runs_dir": "s3://me:pw123456@host/runs"},
        "trainer": "https://hooks.slack.com/services/T0/B0/verysecret",
    }
    (home / "run.json").write_text(json.dumps(info), encoding="utf-8")
    text = render(read_folder(home))
    assert "1e-5" in text
    for secret in ("abcd1234efgh", "hf_abcdefghijklmnop", "pw123456", "verysecret"):
        assert secret not in text


def test_the_page_stays_small_whatever_the_run_holds(tmp_path: Path) -> None:
    """Many signals, thousands of steps, long messages, long samples: still below 2 MB, and it says what is left out."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(3000, 60))
    rows = [{"step": i, "extra": {f"signal/{k}": float(v) for k, v in enumerate(row)}} for i, row in enumerate(table)]
    alerts = [
        {"step": 10 * i, "detector": f"mine_{i % 9}", "severity": "critical", "message": "<" * 900,
         "evidence": {f"key {k}": "&" * 400 for k in range(20)}}
        for i in range(290)
    ]  # fmt: skip
    samples = [{"step": i, "pick": "best", "index": i, "completion": "<>" * 2000} for i in range(400)]
    home = write_run(tmp_path / "run", rows, alerts=alerts, samples=samples)
    text = render(read_folder(home))
    assert len(text.encode()) < LIMIT
    assert "Recorded, not drawn" in text
    assert "more, in the run" in text


def test_extremes_reach_the_page(tmp_path: Path) -> None:
    """One spike in ten thousand steps is in the data that is drawn, and in the words for those who do not see it."""
    rows = [{"step": step, "loss": 0.1 if step != 6789 else 77.5} for step in range(10_000)]
    text = render(read_folder(write_run(tmp_path / "run", rows)))
    assert "highest 77.5 at step 6,789" in text
    assert "the smallest and the largest value are drawn" in text


def test_without_bokeh_the_drawings_are_plain(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page says what is missing, and draws each signal all the same."""
    monkeypatch.setattr(page_module, "_bokeh", lambda: None)
    text = render(read_folder(broken))
    assert "pip install" in text
    assert len(text) < 400_000
    assert Elements(text).count["svg"] > 8


def test_a_missing_template_engine_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is said."""
    page_module.environment.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rlwatch\[report\]'"):
        page_module.environment()


@pytest.fixture(autouse=True)
def _fresh_environment() -> Iterator[None]:
    yield
    page_module.environment.cache_clear()


def _run_with(folder: Path, **files: Any) -> str:
    rows = [{"step": step, "loss": 0.5} for step in range(40)]
    return verdict_of(read_folder(write_run(folder, rows, **files))).word


def test_the_verdict_follows_what_was_done_last(tmp_path: Path) -> None:
    """A rollback that held is not a critical run; one that did not hold is; a halt is a halt."""
    critical = {"step": 20, "detector": "kl_explosion", "severity": "critical", "message": "m"}
    back = {"event": "rollback", "step": 21, "to_step": 10, "message": "m"}
    assert _run_with(tmp_path / "a", alerts=[critical]) == "Critical"
    assert _run_with(tmp_path / "b", alerts=[critical | {"severity": "warning"}]) == "Warning"
    assert _run_with(tmp_path / "c", alerts=[critical], events=[back]) == "Recovered"
    assert _run_with(tmp_path / "d", alerts=[critical, critical | {"step": 30}], events=[back]) == "Critical"
    assert _run_with(tmp_path / "e", alerts=[critical], events=[{"event": "halt", "step": 22}]) == "Halted"


@pytest.mark.parametrize("events", [[], [{"event": "rollback", "step": 21, "to_step": 10, "message": "went back"}]])
def test_an_incident_that_a_rollback_ended_says_what_was_done(tmp_path: Path, events: list[dict[str, Any]]) -> None:
    """In place of `Stop now` and a cost that nobody had."""
    rows = [{"step": step, "loss": 0.5} for step in range(40)]
    critical = {"step": 20, "detector": "kl_explosion", "severity": "critical", "message": "m"}
    text = render(read_folder(write_run(tmp_path / "run", rows, alerts=[critical], events=events)))
    assert ("<strong>Done:</strong> went back" in text) is bool(events)
    assert ("<strong>Stop now:</strong>" in text) is not bool(events)


def test_what_cannot_be_seen_is_shown() -> None:
    """Each hostile text is visible from end to end."""
    assert all(char.isprintable() or char in "\n\t" for text in HOSTILE for char in shown(text))
    assert shown("x" * 10, limit=4) == "xxxx... [6 more characters]"
