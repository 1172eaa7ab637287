"""The PPO loop, in processes of its own, as a person starts it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

Example = Callable[..., CompletedProcess[str]]


def test_help_documents_every_argument(example: Example) -> None:
    """--help says what each argument means, and shows examples."""
    run = example("ppo_pytorch.py", "--help", timeout=30)
    assert run.returncode == 0
    for text in ("--gae-lambda", "--entropy-coef", "examples:", "exit code", "What a step is"):
        assert text in run.stdout


def test_nothing_breaks_and_no_alert_comes(example: Example, tmp_path: Path) -> None:
    """It learns, every detector sees its signal, and rlwatch keeps quiet."""
    run = example("ppo_pytorch.py", "--fault", "none", "--steps", "16", "--runs-dir", "runs")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "As it should be: nothing broke, and no alert came." in run.stdout
    returns = [float(value) for value in re.findall(r"return +([\d.]+)", run.stdout)]
    assert returns[-1] > 1.5 * returns[0] > 15
    assert "16 of 17 detectors see their signal" in run.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    rows = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 17))
    assert {"approx_kl", "clip_fraction", "entropy", "explained_variance", "reward_mean"} <= rows[-1].keys()
    assert not (folder / "alerts.jsonl").exists() or not (folder / "alerts.jsonl").read_text()


def test_a_nan_in_one_minibatch_never_reaches_the_weights(example: Example) -> None:
    """Of the 32 updates of its iteration one is withheld; the others are made, and training goes on."""
    run = example("ppo_pytorch.py", "--fault", "nan", "--steps", "12", "--on-critical", "continue")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "loss_nonfinite (critical) at step 8\n" in run.stdout
    assert "withheld 1 update; the run went on to step 12; the weights are finite" in run.stdout


def test_a_learning_rate_that_breaks_halts_the_run(example: Example) -> None:
    """The updates leave the old policy far behind: a critical, and the run stops."""
    run = example("ppo_pytorch.py", "--steps", "40", "--fault-step", "20")
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"said .*\(critical\) at step 2\d", run.stdout)
    assert re.search(r"halted the run at step 2\d", run.stdout)
    assert "rlwatch CRITICAL" in run.stderr
