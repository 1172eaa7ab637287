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
    run = example("grpo_trl.py", "--help", timeout=30)
    assert run.returncode == 0
    for text in ("--fault {lr,nan,reward-hack,none}", "examples:", "exit code", "--on-critical", "--picture"):
        assert text in run.stdout


def test_a_learning_rate_that_breaks_is_rolled_back_and_healed(example: Example, tmp_path: Path) -> None:
    """As the main job does it, in fewer steps: the policy collapses, goes back, gets a remedy and ends healthy."""
    arguments = ("--steps", "105", "--fault-step", "65", "--runs-dir", "runs", "--picture", "run.svg")
    run = example("grpo_trl.py", *arguments, timeout=250)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "THE FAULT: the learning rate is multiplied by 100" in run.stdout
    assert re.search(r"^  critical  \w+ at step \d+", run.stdout, re.MULTILINE)
    found = re.search(r"action    step (\d+): went back to the state of step (\d+), then (.+)", run.stdout)
    assert found, run.stdout
    assert int(found[2]) < 65 < int(found[1])
    assert "action    the run went on to step 105" in run.stdout
    before, worst, end = map(int, re.findall(r"(\d+)% (?:before|at the)", run.stdout))
    assert before > 80
    assert worst < 0.5 * before < 0.9 * before <= end
    assert re.search(r"Caught \d+ steps after the fault, healed; exit code 0", run.stdout)
    folder = tmp_path / records(run)
    assert [row["step"] for row in lines(folder / "steps.jsonl")] == list(range(1, 106))
    (event,) = lines(folder / "events.jsonl")
    assert (event["event"], event["step"], event["to_step"]) == ("rollback", int(found[1]), int(found[2]))
    assert "<svg" in (tmp_path / "run.svg").read_text()


def test_a_learning_rate_that_breaks_halts_the_run(example: Example, tmp_path: Path) -> None:
    """With --on-critical halt a critical after the fault stops the run there, with its record."""
    arguments = ("--steps", "70", "--fault-step", "20", "--runs-dir", "runs", "--on-critical", "halt")
    run = example("grpo_trl.py", *arguments)
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"^  critical  \w+ at step \d+", run.stdout, re.MULTILINE)
    assert re.search(r"action    halted the run at step \d\d\n", run.stdout)
    assert "weights   finite" in run.stdout
    assert "rlwatch CRITICAL" in run.stderr
    assert "more: rlwatch playbook" in run.stderr
    folder = tmp_path / records(run)
    alerts = lines(folder / "alerts.jsonl")
    assert alerts[-1]["severity"] == "critical"
    assert lines(folder / "steps.jsonl")[-1]["step"] == alerts[-1]["step"]


def test_a_nan_is_withheld_and_the_run_goes_on(example: Example, tmp_path: Path) -> None:
    """The poisoned update is dropped, nothing needs to go back, and training ends with finite weights."""
    run = example("grpo_trl.py", "--fault", "nan", "--steps", "14")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "critical  loss_nonfinite at step 9\n" in run.stdout
    assert "action    withheld the update of step 9\n" in run.stdout
    assert "action    the run went on to step 14\n  solved" in run.stdout
    assert "weights   finite" in run.stdout
    folder = tmp_path / records(run)
    assert [alert["step"] for alert in lines(folder / "alerts.jsonl")] == [9]
    assert len(lines(folder / "steps.jsonl")) == 14


def test_a_fault_without_an_alert_is_told_as_missed(example: Example) -> None:
    """A hole in the reward that opens in the last steps cannot be seen yet: the exit code says so."""
    run = example("grpo_trl.py", "--fault", "reward-hack", "--steps", "6", "--fault-step", "5")
    assert run.returncode == 1, run.stdout + run.stderr
    assert "critical  none" in run.stdout
    assert "MISSED: no alert came; exit code 1." in run.stdout
