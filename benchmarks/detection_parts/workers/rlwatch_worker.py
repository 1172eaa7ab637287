"""rlwatch 0.5.1 of PyPI: `log_step` row by row; the alerts that its own cool-down and budget let through."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import rlwatch

sys.path.append(str(Path(__file__).parent))
from serving import Alert, renamed, serve

NAMES = {
    "entropy": ("entropy",),
    "kl_divergence": ("kl", "approx_kl"),
    "reward_mean": ("reward_mean",),
    "reward_std": ("reward_std",),
    "advantage_std": ("advantage_std",),
    "loss": ("loss", "policy_loss"),
    "learning_rate": ("learning_rate",),
    "clip_fraction": ("clip_fraction",),
    "grad_norm": ("grad_norm",),
}


def judge(run: dict[str, Any], _way: str) -> Iterator[Alert]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        monitor = rlwatch.attach(framework="manual", run_id="run", storage={"log_dir": folder})
        try:
            for row in run["rows"]:
                rewards = {"rewards": np.array(row["rewards"])} if "rewards" in row else {}
                for alert in monitor.log_step(row["step"], **renamed(row["signals"], NAMES), **rewards):
                    yield row["step"], alert.severity, alert.detector
        finally:
            monitor.stop()


if __name__ == "__main__":
    serve(judge, "rlwatch", "0.5.1")
