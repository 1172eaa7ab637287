"""Reports are written by another process: at an alert, at the end, and never at the cost of the run."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support_report import broken_run

from rlwatch import Watch
from rlwatch.report import background
from rlwatch.sinks import pages


def wait_for(file: Path, seconds: float = 60.0) -> str:
    """The file's text, once it is there."""
    end = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < end, f"{file} did not come"
        time.sleep(0.05)
    return file.read_text(encoding="utf-8")


def test_a_watched_run_leaves_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both come without being asked for: the run's report, and that of the incident, which is written at the alert."""
    monkeypatch.delenv("RLWATCH_REPORT")
    home = broken_run(tmp_path)
    incident = next((home / "incidents").iterdir())
    assert "kl_explosion" in wait_for(incident / "report.html")
    assert '<h1 id="verdict">Critical' in wait_for(home / "report.html")
    assert not list(home.rglob("report-failed.txt"))
    assert not list(home.rglob("*.tmp"))


def test_it_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`report=False` starts no process."""
    monkeypatch.delenv("RLWATCH_REPORT")
    monkeypatch.setattr(subprocess, "Popen", None)
    watch = Watch(runs_dir=tmp_path, console=False, stall=False, report=False, strict=True)
    watch.log(step=0, loss=float("nan"))
    watch.close()
    assert watch.failures == {}


def test_closing_does_not_wait_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that takes for ever costs the run nothing: `close` returns, and the record is whole."""
    monkeypatch.delenv("RLWATCH_REPORT")
    monkeypatch.setattr(pages, "_CODE", "import time; time.sleep(30)")
    watch = Watch(runs_dir=tmp_path, console=False, stall=False)
    watch.log(step=0, loss=float("nan"))
    watch.close()
    assert watch.run_dir is not None
    assert (watch.run_dir / "alerts.jsonl").read_bytes().count(b"\n") == 1
    slow = [child for child in pages._LAST if child.poll() is None]
    assert slow  # it still sleeps
    for child in slow:
        child.kill()
        child.wait()


def test_a_missing_extra_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without Jinja2 the log says once what to install, and the record is written."""
    monkeypatch.delenv("RLWATCH_REPORT")
    monkeypatch.setattr(pages, "find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING, "rlwatch"):
        home = broken_run(tmp_path)
    lines = [record.getMessage() for record in caplog.records if "report.html" in record.getMessage()]
    assert lines == ["rlwatch: report.html is not written: pip install 'rlwatch[report]', or Watch(report=False)"]
    assert (home / "alerts.jsonl").stat().st_size > 0


def test_what_fails_is_told_beside_the_record(tmp_path: Path) -> None:
    """The process has no terminal: its error is in a file, and the folders after it get their page."""
    home = broken_run(tmp_path)
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "alert.json").write_text("{}", encoding="utf-8")
    background.main([str(bad), str(home)])
    assert "holds no alert" in (bad / "report-failed.txt").read_text(encoding="utf-8")
    assert (home / "report.html").exists()


def test_a_training_process_that_ends_leaves_a_report(tmp_path: Path) -> None:
    """Without `close`, after an uncaught exception: the report comes all the same."""
    code = f"""
import rlwatch
watch = rlwatch.Watch(runs_dir={str(tmp_path)!r}, run_id="ended", console=False)
for step in range(30):
    watch.log(step=step, loss=0.1)
raise RuntimeError("the loop failed")
"""
    root = str(Path(pages.__file__).parent.parent.parent)
    environment = {"PYTHONPATH": root, "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert "the loop failed" in done.stderr
    assert "ResourceWarning" not in done.stderr
    assert "30 steps" in wait_for(tmp_path / "ended" / "report.html").replace("<b>30</b>", "30")
