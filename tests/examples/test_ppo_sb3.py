"""The Stable-Baselines3 example, in processes of its own, as a person starts it."""

from __future__ import annotations

from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

pytest.importorskip("stable_baselines3", reason="needs stable-baselines3: pip install 'rlwatch[sb3]'")

Example = Callable[..., CompletedProcess[str]]


def test_nothing_breaks_and_no_alert_comes(example: Example) -> None:
    """It learns, and rlwatch keeps quiet."""
    run = example("ppo_sb3.py", "--fault", "none", "--steps", "8192", timeout=280)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "As it should be: nothing broke, and no alert came." in run.stdout


def test_nan_rewards_never_reach_the_weights(example: Example) -> None:
    """The updates on them are withheld, the alert comes with them, and the policy is none the worse."""
    run = example("ppo_sb3.py", "--fault", "nan", "--fault-step", "10240", "--steps", "14336", timeout=280)
    assert "loss_nonfinite (critical) at step 11264" in run.stdout, run.stdout + run.stderr
    assert "withheld 48 updates" in run.stdout
    assert "Caught 1024 steps after the fault." in run.stdout
