"""The main job, in processes of its own, as a person starts it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

Example = Callable[..., CompletedProcess[str]]


def records(run: CompletedProcess[str]) -> Path:
    """The run folder that the summary names."""
    found = re.search(r"^  record +(\S+)$", run.stdout, re.MULTILINE)
    assert found, run.stdout + run.stderr
    return Path(found[1])


def lines(path: Path) -> list[dict[str, object]]:
    """A JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_help_is_quick_and_shows_examples(example: Example) -> None:
    """--help explains the faults, the exit code and how to call it."""
    run = example("grpo_trl.py", "--help", timeout=10)
    assert run.returncode == 0
    for text in ("--fault {lr,nan,reward-hack,none}", "examples:", "exit code", "--on-critical"):
        assert text in run.stdout


def test_a_learning_rate_that_breaks_halts_the_run(example: Example, tmp_path: Path) -> None:
    """The policy collapses, a critical comes after the fault, and the run stops there with its record."""
    run = example("grpo_trl.py", "--steps", "70", "--fault-step", "20", "--runs-dir", "runs")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "THE FAULT: the learning rate is multiplied by 100" in run.stdout
    assert re.search(r"said .*\(critical\) at step \d+", run.stdout)
    assert re.search(r"halted the run at step \d\d; the weights are finite", run.stdout)
    assert "rlwatch CRITICAL" in run.stderr
    assert "more: rlwatch playbook" in run.stderr
    folder = tmp_path / records(run)
    alerts = lines(folder / "alerts.jsonl")
    assert alerts[-1]["severity"] == "critical"
    assert lines(folder / "steps.jsonl")[-1]["step"] == alerts[-1]["step"]


def test_a_nan_is_withheld_and_the_run_goes_on(example: Example, tmp_path: Path) -> None:
    """With --on-critical skip the poisoned update is dropped, and training ends with finite weights."""
    run = example("grpo_trl.py", "--fault", "nan", "--on-critical", "skip", "--steps", "14")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "loss_nonfinite (critical) at step 9\n" in run.stdout
    assert "withheld the update of step 9; the run went on to step 14; the weights are finite" in run.stdout
    folder = tmp_path / records(run)
    assert [alert["step"] for alert in lines(folder / "alerts.jsonl")] == [9]
    assert len(lines(folder / "steps.jsonl")) == 14


def test_a_fault_without_an_alert_is_told_as_missed(example: Example) -> None:
    """A hole in the reward that opens in the last steps cannot be seen yet: the exit code says so."""
    run = example("grpo_trl.py", "--fault", "reward-hack", "--steps", "6", "--fault-step", "5")
    assert run.returncode == 1, run.stdout + run.stderr
    assert "said nothing" in run.stdout
    assert "MISSED: no alert came." in run.stdout
