"""`rlwatch reward-drift`: the card, the JSON, and the gate with every exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rollouts_made import Row, written

from rlwatch.cli import main

pytest.importorskip("typer")
pytest.importorskip("scipy")


def call(*args: Any) -> int:
    """Runs the command."""
    return main(["reward-drift", *map(str, args)])


@pytest.fixture
def rows() -> list[Row]:
    """Answers with scores."""
    rng = np.random.default_rng(0)
    return [{"prompt": f"q{p}", "completion": f"{p} {k} " + "x" * int(rng.integers(99)), "score": float(rng.normal())}
            for p in range(80) for k in range(3)]  # fmt: skip


@pytest.fixture
def files(tmp_path: Path, rows: list[Row]) -> dict[str, Path]:
    """Scores of a model, of the same rescaled, of one that has drifted."""
    rng = np.random.default_rng(1)
    changed = {
        "a": [row["score"] for row in rows],
        "rescaled": [3 * row["score"] + 1 for row in rows],
        "drifted": [row["score"] + 2 * rng.normal() for row in rows],
    }
    made = {}
    for name, scores in changed.items():
        scored = [{**row, "score": score} for row, score in zip(rows, scores, strict=True)]
        made[name] = written(tmp_path / f"{name}.jsonl", scored)
    return made


@pytest.mark.parametrize(
    ("other", "code", "says"),
    [("a", 0, "verdict: the same"), ("rescaled", 1, "verdict: rescaled"), ("drifted", 2, "verdict: drifted")],
)
def test_the_gate(files: dict[str, Path], other: str, code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same, rescaled and drifted each have their code; without `--gate` a report is all."""
    assert call("--scores-a", files["a"], "--scores-b", files[other], "--gate") == code
    out = capsys.readouterr().out
    assert says in out
    assert f"exit code {code}" in out
    assert "limits: rows 30" in out
    assert call("--scores-a", files["a"], "--scores-b", files[other]) == 0


def test_the_gate_does_not_pass_what_it_could_not_see(tmp_path: Path, rows: list[Row]) -> None:
    """Too few rows, one answer a prompt, a constant: not evaluated is 3, a dead model 2."""
    few = written(tmp_path / "few.jsonl", rows[:12])
    assert call("--scores-a", few, "--scores-b", few, "--gate") == 3
    single = written(tmp_path / "single.jsonl", rows[::3])
    assert call("--scores-a", single, "--scores-b", single, "--gate") == 3
    assert call("--scores-a", single, "--scores-b", single, "--gate", "--check", "rank") == 0
    dead = written(tmp_path / "dead.jsonl", [{**row, "score": 1.0} for row in rows])
    assert call("--scores-a", dead, "--scores-b", dead, "--gate") == 2
    assert call("--scores-a", dead, "--scores-b", dead, "--gate", "--check", "rank") == 3


def test_the_json_is_strict_and_whole(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Figures with intervals, slices, limits."""
    assert call("--scores-a", files["a"], "--scores-b", files["drifted"], "--format", "json", "--gate") == 2
    made = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    assert made["says"] == "drifted"
    assert made["rows"] == 240
    checks = {check["check"]: check for check in made["checks"]}
    assert checks["rank"]["figures"]["kendall"]["low"] < checks["rank"]["figures"]["kendall"]["high"]
    assert len(checks["slices"]["figures"]["slices"]) == 4
    assert made["gate"] == {"exit_code": 2, "passes": False}


def test_callables_on_prompts(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two functions; one that fails is exit code 3, gate or not."""
    (tmp_path / "two_rewards.py").write_text(
        "def length(completions): return [len(c) for c in completions]\n"
        "def short(completions): return [-len(c) for c in completions]\n"
        "def fails(completions): return 1 / 0\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    prompts = ["--prompts", files["a"]]
    assert call("two_rewards:length", "two_rewards:length", *prompts, "--gate") == 0
    assert call("two_rewards:length", "two_rewards:short", *prompts, "--gate") == 2
    for gate in ([], ["--gate"]):
        assert call("two_rewards:length", "two_rewards:fails", *prompts, *gate) == 3
    assert "two_rewards:fails failed on rows 0 to 15: ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [[], ["a"], ["a", "b"], ["--scores-a", "x"], ["a", "b", "--prompts", "p", "--scores-a", "x"]],
)
def test_a_wrong_command_line(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Neither two models with prompts nor two files: exit code 64."""
    assert call(*wrong) == 64
    assert "name two reward models and --prompts FILE, or --scores-a FILE" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [("--limit", "rnk=1"), ("--limit", "rank=2"), ("--check", "x"), ("--map", "x=y")])
def test_a_wrong_option(files: dict[str, Path], wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 64 and one sentence."""
    assert call("--scores-a", files["a"], "--scores-b", files["a"], *wrong) == 64
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_files_that_cannot_be_read(files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 3, with and without `--gate`."""
    assert call("--scores-a", files["a"], "--scores-b", tmp_path / "nowhere", "--gate") == 3
    assert call("x:y", "x:z", "--prompts", tmp_path / "nowhere") == 3
    assert "there is no such file or folder" in capsys.readouterr().err


def test_scipy_missing(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What to install, exit code 64."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "scipy"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "scipy", None)
    assert call("--scores-a", files["a"], "--scores-b", files["a"]) == 64
    assert "pip install 'rlwatch[stats]'" in capsys.readouterr().err


def test_help_has_examples_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """What a user reads first."""
    assert main(["reward-drift", "--help"]) == 0
    out = capsys.readouterr().out
    for words in ("--scores-a", "Examples:", "Exit codes:", "rescaled"):
        assert words in out
