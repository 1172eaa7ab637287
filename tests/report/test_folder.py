"""A run folder is read whatever state it is in."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from support_report import broken_run, write_run

from rlwatch.report.data import ReportError
from rlwatch.report.folder import read_folder
from rlwatch.report.page import render
from rlwatch.report.verdict import verdict_of
from rlwatch.report.write import read_run


def test_what_a_watch_recorded_is_read_back(tmp_path: Path) -> None:
    """Signals, samples, alerts, events, coverage and settings of a real run folder."""
    run = read_folder(broken_run(tmp_path))
    assert list(run.steps) == list(range(90))
    assert math.isclose(run.signals["kl"][-1], 3.0)
    assert run.nonfinite["loss"] == [(88, "NaN")]
    assert {alert.detector for alert in run.alerts} >= {"kl_explosion", "loss_nonfinite"}
    assert run.given_up == [(60, 86)]
    assert run.coverage is not None
    assert run.coverage["kl_explosion"].state == "armed"
    assert run.incidents[0].link == "policy"
    assert run.setting("preset") == "grpo"
    assert {sample["pick"] for sample in run.samples} == {"best", "worst", "random", "group"}
    assert run.summary is not None


def test_samples_come_from_a_healthy_run_too(tmp_path: Path) -> None:
    """Rows 1, 2, 4, ... and the last leave samples, with the whole of one group."""
    run = read_folder(broken_run(tmp_path, steps=30))
    steps = {sample["step"] for sample in run.samples}
    assert steps >= {0, 1, 3, 7, 15, 29}
    group = [sample for sample in run.samples if sample["pick"] == "group" and sample["step"] == 0]
    assert len(group) == 4
    assert len({sample["group_id"] for sample in group}) == 1


def test_a_log_of_another_tool_is_replayed(tmp_path: Path) -> None:
    """Any log that `scan` reads: the detectors run over it, and the report has their alerts."""
    log = tmp_path / "log.jsonl"
    rows = [{"step": step, "objective/kl": 0.05, "train/loss": 0.1} for step in range(60)]
    rows += [{"step": 60, "objective/kl": 0.05, "train/loss": float("nan")}]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = read_run(log)
    assert [alert.detector for alert in run.alerts] == ["loss_nonfinite"]
    assert len(run.steps) == 61
    assert not run.live
    assert "loss_nonfinite" in render(run)


def test_truncated_and_foreign_lines_are_left_out_and_said(tmp_path: Path) -> None:
    """A torn last line is silent, any other line that is no record is counted; unknown keys do no harm."""
    home = write_run(tmp_path / "run", [{"step": step, "loss": 0.5, "who": "knows"} for step in range(5)])
    with (home / "steps.jsonl").open("ab") as stream:
        stream.write(b'\xff\xfe not json\n[1, 2]\n{"step": "seven"}\n{"step": 5, "lo')
    (home / "alerts.jsonl").write_bytes(b'{"step": 3, "detector": 7}\n{"step": 4, "detector": "gone", "evidence": 3}\n')
    (home / "run.json").write_bytes(b'{"coverage": {"x": 3, "y": {"state": "nonsense"}}, "summary": 7, "settings": []')
    run = read_folder(home)
    assert list(run.steps) == [0, 1, 2, 3, 4]
    assert [alert.detector for alert in run.alerts] == ["gone"]
    assert run.remarks == ["2 lines are no JSON object in steps.jsonl and left out"]
    page = render(run)
    assert "2 lines are no JSON object" in page
    assert "gone" in page


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        ([], "Nothing yet"),
        ([{"step": 0}], "Not evaluated"),
        ([{"step": 7, "loss": 0.25, "reward_mean": 1e300}], "Not evaluated"),
        ([{"step": step, "loss": "NaN", "kl": "Infinity"} for step in range(9)], "Not evaluated"),
        ([{"step": step, "loss": 1e308 * (-1) ** step} for step in range(30)], "Not evaluated"),
        ([{"step": 2**53, "loss": 1}, {"step": -(2**53), "loss": 10**400}], "Not evaluated"),
    ],
    ids=["empty", "no signal", "one step", "only NaN", "huge", "far steps"],
)
def test_thin_records_make_a_page(tmp_path: Path, rows: list[dict[str, object]], word: str) -> None:
    """An empty run, one step, nothing finite: a whole page, and a verdict that claims nothing."""
    run = read_folder(write_run(tmp_path / "run", rows))
    page = render(run)
    assert verdict_of(run).word == word
    assert page.rstrip().endswith("</html>")
    assert f'<h1 id="verdict">{word}' in page


def test_the_later_line_of_a_step_counts(tmp_path: Path) -> None:
    """After a resume the steps go back."""
    rows = [{"step": step, "loss": 1.0} for step in (0, 1, 2, 3)] + [{"step": step, "loss": 2.0} for step in (2, 3, 4)]
    run = read_folder(write_run(tmp_path / "run", rows))
    assert list(run.steps) == [0, 1, 2, 3, 4]
    assert list(run.signals["loss"]) == [1.0, 1.0, 2.0, 2.0, 2.0]


def test_what_is_no_run_says_so(tmp_path: Path) -> None:
    """The message names the folder and what to give."""
    with pytest.raises(ReportError, match=r"no run\.json and no steps\.jsonl: give a folder as"):
        read_folder(tmp_path)
    with pytest.raises(ReportError, match=r"missing\.jsonl"):
        read_run(tmp_path / "missing.jsonl")
