"""A folder with a thousand runs: only what has changed is read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support_server import small_run

from rlwatch.report.server import catalogue as module
from rlwatch.report.server.catalogue import Catalogue
from rlwatch.report.server.pages import Pages


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The runs that were read, in their order; the folder is looked at on every call."""
    read: list[Path] = []
    real = module.read_run
    monkeypatch.setattr(module, "read_run", lambda folder: (read.append(folder), real(folder))[1])
    monkeypatch.setattr(module, "FRESH", 0.0)
    return read


def test_a_thousand_runs_are_read_once(tmp_path: Path, counted: list[Path]) -> None:
    """The second look reads nothing of those that have ended, and of the others only the one that grew."""
    for number in range(1000):
        small_run(tmp_path / f"run-{number:04}", summary={"rows": 3, "step": 2, "alerts": {}}, started=number)
    pages = Pages(tmp_path)
    text = pages.index()
    assert text.count('href="/run/run-') == 1000
    assert text.index("run-0999") < text.index("run-0000")
    assert len(counted) == 1000
    with (tmp_path / "run-0500" / "alerts.jsonl").open("w", encoding="utf-8") as stream:
        stream.write(json.dumps({"step": 2, "detector": "x", "severity": "critical"}) + "\n")
    before = pages.index_state()
    assert [folder.name for folder in counted[1000:]] == ["run-0500"]
    assert pages.index_state() == before


@pytest.mark.parametrize(
    ("events", "alerts", "word"),
    [
        ([], [], "clean"),
        ([], ["critical"], "critical"),
        ([], ["warning"], "warning"),
        ([{"event": "rollback", "step": 5, "to_step": 1}], ["critical"], "recovered"),
        ([{"event": "rollback", "step": 1, "to_step": 0}], ["critical"], "critical"),
        ([{"event": "halt", "step": 5}], ["critical"], "halted"),
        ([{"event": "rollback"}, {"event": 7, "step": "x"}], ["critical"], "critical"),
    ],
)
def test_the_word_for_a_run(tmp_path: Path, events: list[dict[str, object]], alerts: list[str], word: str) -> None:
    """What was done after the last critical alert decides."""
    run = small_run(tmp_path / "run")
    lines = [{"step": 3, "detector": "x", "severity": severity} for severity in alerts]
    for name, records in (("alerts", lines), ("events", events)):
        (run / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    assert Catalogue(tmp_path).entries()["run"].word == word


def test_a_broken_record_is_a_line_of_its_own(tmp_path: Path) -> None:
    """It is listed as unreadable with the reason, and the others are there."""
    small_run(tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_text("{", encoding="utf-8")
    text = Pages(tmp_path).index()
    assert "unreadable" in text
    assert "is no JSON" in text
    assert 'href="/run/good"' in text


def test_an_empty_folder_is_a_page(tmp_path: Path) -> None:
    """Before the first run there is nothing to say, and it is said."""
    assert "No run yet" in Pages(tmp_path).index()
