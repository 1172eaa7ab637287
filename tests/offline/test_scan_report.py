"""What a scan prints: a report that reads in a plain log, colours and progress on a terminal."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlwatch import Watch
from rlwatch.offline import ticker as ticker_module
from rlwatch.offline.render import report
from rlwatch.offline.replay import replay
from rlwatch.offline.scan import Progress, scan
from rlwatch.offline.ticker import Ticker

Write = Callable[..., Path]
Rows = list[dict[str, Any]]


def test_the_text_report_reads_in_a_plain_log(
    write: Write, capsys: pytest.CaptureFixture[str], healthy: Rows, broken: Rows
) -> None:
    """A table of runs, the alerts with their first fix, a closing count, and no colour codes."""
    scan([write("clean.jsonl", *healthy), write("bad.jsonl", *broken)])
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].split() == ["HEALTH", "ROWS", "ALERTS", "BROKE", "FIRST", "STEP", "DETECTOR", "ARMED", "RUN"]
    assert lines[1].startswith("critical  60")
    assert "policy update  36" in lines[1]
    assert lines[2].startswith("clean     60")
    assert any(line.startswith("  step 51  CRITICAL  loss_nonfinite: ") for line in lines)
    assert "(rlwatch playbook kl_explosion)" in out
    assert lines[-1] == "2 runs: 1 critical, 1 clean"
    assert "\x1b" not in out


def test_a_rule_has_no_page_to_look_up(
    write: Write, capsys: pytest.CaptureFixture[str], broken: Rows, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is told as any alert, without a command that finds nothing."""
    monkeypatch.setenv("RLWATCH_RULES", '["loss < 1e9 for 5"]')
    scan([write("bad.jsonl", *broken)])
    out = capsys.readouterr().out
    assert "CRITICAL  rule:loss < 1e9 for 5" in out
    assert "playbook rule" not in out
    assert "first fix for rule" not in out


def test_the_report_of_one_run_shows_its_coverage(
    write: Write, capsys: pytest.CaptureFixture[str], healthy: Rows
) -> None:
    """What was blind is said with the fix."""
    scan([write("clean.jsonl", *healthy)])
    out = capsys.readouterr().out
    assert "coverage after 60 rows" in out
    assert "read as JSON lines\nsignals: entropy <- entropy, " in out


def test_names_from_a_log_cannot_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], healthy: Rows
) -> None:
    """Control characters in a file's name or content are shown, not obeyed."""
    run = tmp_path / "a\x1b[2Jb.jsonl"
    run.write_text("\x1b[2J\n" + "".join(json.dumps(row) + "\n" for row in healthy))
    scan([run])
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Always."""
        return True


def test_a_terminal_gets_colours(write: Write, monkeypatch: pytest.MonkeyPatch, healthy: Rows, broken: Rows) -> None:
    """On a terminal the same lines are coloured, with nothing in them taken for markup."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    results = [replay(write("[red]clean.jsonl", *healthy)), replay(write("bad.jsonl", *broken))]
    plain, coloured = io.StringIO(), Terminal()
    report(results, plain)
    report(results, coloured)
    assert "\x1b[" in coloured.getvalue()
    assert "[red]clean.jsonl" in coloured.getvalue()
    assert "\x1b" not in plain.getvalue()


@pytest.mark.parametrize(("stream", "shown"), [(Terminal(), "\r\x1b[K"), (io.StringIO(), "")])
def test_long_work_shows_progress(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, shown: str) -> None:
    """After two seconds a line says which run is being read: in place on a terminal, rarely in a log file."""
    now = [0.0]
    monkeypatch.setattr(ticker_module.time, "monotonic", lambda: now[0])
    ticker = Ticker(stream)
    progress = Progress(2, ticker)
    tell = progress.at(0, "run.jsonl")
    for now[0] in (1.0, 2.5, 2.6, 5.0):
        tell(1024)
    line = "scanning run 1 of 2: 1,024 rows of run.jsonl"
    assert stream.getvalue() == (f"{shown}{line}" * 2 if shown else f"{line}\n")
    ticker.clear()
    assert stream.getvalue().endswith("\r\x1b[K" if shown else "\n")


@pytest.mark.usefixtures("elsewhere")
def test_a_run_folder_is_judged_with_its_own_preset() -> None:
    """As it was while it went on; a preset that is named wins, and a record without a known one changes nothing."""
    with Watch(preset="classic", console=False, runs_dir="runs") as watch:
        for step in range(30):
            watch.log(step=step, loss=0.5, grad_norm=1.0)
    (folder,) = Path("runs").iterdir()
    said = "judged with the run's own preset, classic; --preset names another"
    assert said in replay(folder).recognised
    assert said not in replay(folder, preset="grpo").recognised
    info = json.loads((folder / "run.json").read_text())
    for other in ("none such", None, ["classic"]):
        info["settings"]["preset"] = other
        (folder / "run.json").write_text(json.dumps(info))
        assert not any("own preset" in line for line in replay(folder).recognised)
