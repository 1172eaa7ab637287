"""`rlwatch report`: a page for a run folder or a log, one sentence for what is neither."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from rlwatch.cli import main


@pytest.fixture
def log(elsewhere: Path) -> Path:
    """A log in somebody's own names, in the working directory."""
    rows = [{"step": step, "train/approx_kl": 0.01, "mine": 0.5} for step in range(40)]
    path = elsewhere / "run.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_log_gives_a_page_beside_the_caller(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The path of the page is printed; it is in the working directory, not among the logs."""
    assert main(["report", str(log)]) == 0
    assert capsys.readouterr().out == "run.jsonl.report.html\n"
    assert "approx kl" in Path("run.jsonl.report.html").read_text(encoding="utf-8")


def test_a_key_can_be_mapped_and_a_place_named(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--map` and `--out`."""
    assert main(["report", str(log), "--map", "reward_mean=mine", "-o", "out.html"]) == 0
    assert capsys.readouterr().out == "out.html\n"
    assert "reward mean" in Path("out.html").read_text(encoding="utf-8")


def test_a_run_folder_holds_its_page(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By default the page goes into the run's folder."""
    (elsewhere / "run").mkdir()
    (elsewhere / "run" / "steps.jsonl").write_text('{"step": 1, "loss": 0.5}\n', encoding="utf-8")
    assert main(["report", "run"]) == 0
    assert capsys.readouterr().out == "run/report.html\n"
    assert (elsewhere / "run" / "report.html").stat().st_size > 1000


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["nowhere.jsonl"], 3, "nowhere.jsonl"),
        (["run.jsonl", "--preset", "grop"], 64, "did you mean 'grpo'"),
        (["run.jsonl", "--map", "kl"], 64, "--map 'kl' is not SIGNAL=KEY"),
        (["run.jsonl", "-o", "no/such/folder.html"], 64, "cannot write the report no/such/folder.html: No such file"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    log: Path, argv: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each wrong command line has its exit code and one line that says why."""
    assert main(["report", *argv]) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert says in told.err
    assert told.err.count("\n") == 1


def test_a_missing_extra_is_named(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What to install is said before any work is done."""
    known = importlib.util.find_spec
    monkeypatch.setattr("rlwatch.report.write.find_spec", lambda name: None if name == "jinja2" else known(name))
    assert main(["report", str(log)]) == 64
    assert "pip install 'rlwatch[report]'" in capsys.readouterr().err
