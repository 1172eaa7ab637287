"""`rlwatch reward-health`: the card, the JSON, the pictures, and the gate with every exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rollouts_made import Row, rollouts, written

from rlwatch.cli import main

pytest.importorskip("typer")
pytest.importorskip("scipy")

COMPLETE = ["--check", "saturation", "--check", "length"]


@pytest.fixture
def healthy(tmp_path: Path) -> Path:
    """A run with nothing wrong."""
    return written(tmp_path / "healthy.jsonl", rollouts(difficulty=1.0))


@pytest.fixture
def hacked(tmp_path: Path) -> Path:
    """A run whose reward is mostly length."""
    return written(tmp_path / "hacked.jsonl", rollouts(hack=0.8))


def call(*args: Any) -> int:
    """Runs the command."""
    return main(["reward-health", *map(str, args)])


def test_the_gate_passes_a_healthy_run(healthy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All ten checks, with a reference: exit code 0, and the limits stated."""
    assert call("--run", healthy, "--reference", healthy, "--gate") == 0
    out = capsys.readouterr().out
    assert "gate: passes; exit code 0" in out
    assert "length 0.6" in out
    assert "verdict: pass (10 pass)" in out


def test_the_gate_stops_a_hacked_run(hacked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and the checks named; a failure wins over what could not be evaluated."""
    assert call("--run", hacked, "--gate") == 2
    out = capsys.readouterr().out
    assert "gate: does not pass: fail: length" in out
    assert "not evaluated  shift" in out


def test_without_gate_the_report_is_all(hacked: Path) -> None:
    """Exit code 0 says that a report was made."""
    assert call("--run", hacked) == 0


def test_the_gate_does_not_pass_what_it_could_not_see(healthy: Path, tmp_path: Path) -> None:
    """No reference, then no gold, no reward, too few rows: exit code 3."""
    assert call("--run", healthy, "--gate") == 3
    rows = rollouts(difficulty=1.0)
    for row in rows:
        del row["gold"]
    bare = written(tmp_path / "bare.jsonl", rows)
    assert call("--run", bare, "--reference", healthy, "--gate") == 3
    assert call("--run", bare, "--gate", *COMPLETE) == 0
    assert call("--run", bare, "--gate", *COMPLETE, "--map", "reward=nope") == 3
    assert call("--run", written(tmp_path / "few.jsonl", rows[:12]), "--gate", *COMPLETE) == 3
    unpaid = written(tmp_path / "nan.jsonl", [{**row, "reward": None} for row in rows])
    assert call("--run", unpaid, "--gate", *COMPLETE) == 3


def test_a_warning_has_its_code(tmp_path: Path) -> None:
    """A template that pays, without gold to say whether it should: exit code 1."""
    rows = rollouts(change=lambda row, rng: row.update(reward=1.0 if rng.random() < 0.97 else 0.0))
    run = written(tmp_path / "run.jsonl", rows)
    assert call("--run", run, "--gate", "--check", "saturation") == 1


@pytest.mark.parametrize("option", ["--run", "--reference", "--gold"])
def test_a_file_that_cannot_be_read_fails_with_and_without_gate(
    healthy: Path, tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence that names the file; exit code 3."""
    bad = tmp_path / "bad.jsonl"
    bad.write_text("not a row\n")
    files = {"--run": healthy, option: bad}
    args = [part for pair in files.items() for part in pair]
    assert call(*args) == call(*args, "--gate") == 3
    assert f"rlwatch: {bad}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [("--map", "rewrd=x"), ("--check", "nothing"), ("--limit", "lenth=1"), ("--weight", "a"), ("--nope",)],
)
def test_a_wrong_command_line(healthy: Path, wrong: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 64 and one sentence."""
    assert call("--run", healthy, *wrong) == 64
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_the_json_is_strict_and_whole(hacked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Verdicts, figures with intervals, limits, samples."""
    assert call("--run", hacked, "--format", "json", "--samples", "3", "--gate") == 2
    made = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    assert made["verdict"] == "fail"
    assert made["gate"] == {"exit_code": 2, "passes": False}
    checks = {check["check"]: check for check in made["checks"]}
    assert checks["length"]["figures"]["within_prompt"]["pearson"]["low"] > 0.6
    assert checks["shift"]["verdict"] == "not evaluated"
    assert len(made["suspicious_samples"]) == 3
    assert made["limits"]["length"] == 0.6
    assert made["columns"]["reward"] == "reward"


def test_gold_of_a_file_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--gold` joins by the texts, and calibration is evaluated."""
    rows = rollouts()
    scores = [{"prompt": row["prompt"], "completion": row["completion"], "score": row.pop("gold")} for row in rows]
    run, gold = written(tmp_path / "run.jsonl", rows), written(tmp_path / "gold.jsonl", scores)
    assert call("--run", run, "--gate", "--check", "calibration") == 3
    assert call("--run", run, "--gate", "--check", "calibration", "--gold", gold) == 0
    assert "joined by prompt and completion" in capsys.readouterr().out


def test_pictures(healthy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four PNG files where there are data for them; a picture without data is not drawn."""
    pytest.importorskip("matplotlib")
    assert call("--run", healthy, "--reference", healthy, "--pictures", tmp_path / "p") == 0
    names = {"rewards.png", "length.png", "training.png", "calibration.png"}
    assert {file.name for file in (tmp_path / "p").iterdir()} == names
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in (tmp_path / "p").iterdir())
    bare = written(tmp_path / "bare.jsonl", [{"reward": float(at)} for at in range(40)])
    assert call("--run", bare, "--pictures", tmp_path / "q") == 0
    assert {file.name for file in (tmp_path / "q").iterdir()} == {"rewards.png"}
    assert "q/rewards.png" in capsys.readouterr().out


@pytest.mark.parametrize(("package", "extra"), [("scipy", "stats"), ("matplotlib", "plots")])
def test_a_missing_package_is_one_sentence(
    healthy: Path, tmp_path: Path, package: str, extra: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """What to install, exit code 64."""
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert call("--run", healthy, "--pictures", tmp_path / "p") == 64
    assert f"pip install 'rlwatch[{extra}]'" in capsys.readouterr().err


def test_texts_of_a_stranger_cannot_control_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences in completions and column names are not printed."""

    def hostile(row: Row, rng: np.random.Generator) -> None:
        row |= {"completion": "\x1b[2J" + "loop and loop and loop and " * 20, "rewards/\x1b[31mred": rng.normal()}

    rows = rollouts(change=hostile)
    call("--run", written(tmp_path / "run.jsonl", rows))
    out = capsys.readouterr().out
    assert "loop and loop" in out
    assert "\x1b" not in out


def test_help_has_examples_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """What a user reads first."""
    assert main(["reward-health", "--help"]) == 0
    out = capsys.readouterr().out
    for words in ("--gate", "Examples:", "Exit codes:", "log_completions=True", "rollout_data_dir"):
        assert words in out
