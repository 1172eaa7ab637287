"""Gates both ways, and with what they ask for missing: nothing passes for want of data."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from rlwatch.cli import main


def logged(path: Path, rows: int = 60, **more: object) -> str:
    """A calm run; None leaves a metric out."""
    row = {"reward_mean": 0.5, "entropy": 1.5, "loss": 0.01, "grad_norm": 1.0, "kl": 0.02} | more
    row = {name: value for name, value in row.items() if value is not None}
    lines = (json.dumps({"step": step, **row, "reward_std": 0.1 + step % 7 / 100}) for step in range(rows))
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.mark.parametrize("command", [["scan"], ["doctor"], ["monitor", "--idle", "1"]])
@pytest.mark.parametrize(
    ("kl", "rule", "code", "says"),
    [
        (0.02, "kl > 0.35", 0, ""),
        (0.5, "kl > 0.35: warning", 1, "kl > 0.35"),
        (None, "kl > 0.35", 3, "not evaluated: rule:kl > 0.35 (no kl in 60 rows)"),
        ("n/a", "kl > 0.35", 3, "not evaluated: rule:kl > 0.35 (no kl in 60 rows)"),
        (0.02, 'kl > 0.35 and "judge/errors" > 3', 3, "no judge/errors in 60 rows"),
    ],
)
def test_a_rule_without_its_metric_does_not_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], kl: object, rule: str, code: int, says: str
) -> None:
    """The same rule passes, fails, and is not evaluated where the log lacks what it compares."""
    run = logged(tmp_path / "run.jsonl", kl=kl)
    assert main([*command, run, "--rule", rule]) == code
    said = capsys.readouterr()
    assert says in said.out + said.err


@pytest.mark.parametrize(
    ("kl", "code"), [(0.02, 0), (None, 3), ("n/a", 3), ("", 3), ([], 3), ({}, 3)], ids=["there", *"abcde"]
)
def test_a_needed_metric_without_a_number_does_not_pass(tmp_path: Path, kl: object, code: int) -> None:
    """A text, a list or nothing is no value of a metric, and never read as 0."""
    assert main(["scan", logged(tmp_path / "run.jsonl", kl=kl), "--need", "kl"]) == code


def test_tensors_without_an_element_pass_no_gate(tmp_path: Path) -> None:
    """Two checkpoints of empty tensors are the same, and prove nothing."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [0, 4], "data_offsets": [0, 0]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    for gate in ("same", "trained", "all-trained"):
        assert main(["diff-checkpoints", str(path), str(path), "--gate", gate]) == 3
