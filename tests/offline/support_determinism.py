"""Small trainings and how a check of them is run."""

from __future__ import annotations

import json
import shlex
import sys
from typing import Any

import pytest

from rlwatch.cli import main

PYTHON = shlex.quote(sys.executable)

CHAOS = """
import json, os, sys
x, replica = 0.3, int(os.environ["RLWATCH_REPLICA"])
with open(os.path.join(sys.argv[1], "log.jsonl"), "w") as log:
    for step in range(80):
        x = 3.7 * x * (1 - x)
        row = {"step": step, "kl": x, "reward_mean": step / 7, "entropy": 1 + x / 3}
        CHANGE
        log.write(json.dumps(row) + "\\n")
"""

TORCH = """
import json, os, sys, torch
replica, noisy = int(os.environ["RLWATCH_REPLICA"]), sys.argv[2] == "noisy"
torch.manual_seed(5)
torch.use_deterministic_algorithms(True)
policy = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 6))
optimizer = torch.optim.Adam(policy.parameters(), lr=0.02)
with open(os.path.join(sys.argv[1], "log.jsonl"), "w") as log:
    for step in range(40):
        if noisy and replica == 1 and step == 12:
            with torch.no_grad():
                policy[0].weight[0, 0] += 1e-6
        choice = torch.distributions.Categorical(logits=policy(torch.randn(32, 4)))
        action = choice.sample()
        reward = (action == 2).float()
        loss = -(choice.log_prob(action) * (reward - reward.mean())).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        entropy = choice.entropy().mean().item()
        row = {"step": step, "loss": loss.item(), "entropy": entropy, "reward_mean": reward.mean().item()}
        log.write(json.dumps(row) + "\\n")
"""

ORPHAN = "import os, subprocess, sys, time; subprocess.Popen(['sleep', '987'], start_new_session=True); time.sleep(600)"


def check(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON report."""
    code = main(["check-determinism", "--format", "json", *args])
    out = capsys.readouterr().out
    return code, json.loads(out) if out else {}
