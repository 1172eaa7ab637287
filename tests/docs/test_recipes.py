"""The recipes that are shell: run by a shell, with what they call stood in for where it is a cluster's."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASH = shutil.which("bash")

pytestmark = pytest.mark.skipif(BASH is None, reason="no bash")


def script() -> str:
    """The batch script of the recipe for Slurm."""
    found = re.search(r"```bash\n(#!/bin/bash\n#SBATCH.*?)```", (ROOT / "docs" / "recipes.md").read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def program(folder: Path, name: str, text: str) -> None:
    """A program of this name, first on the path."""
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


@pytest.mark.parametrize(
    ("code", "restarts", "requeued"), [(0, 0, False), (70, 0, False), (1, 0, True), (137, 2, True), (1, 3, False)]
)
def test_the_batch_script(tmp_path: Path, code: int, restarts: int, requeued: bool) -> None:
    """It resumes from the checkpoint that rlwatch names, starts again after a crash, never after a halt or for ever."""
    programs = tmp_path / "bin"
    programs.mkdir()
    program(programs, "rlwatch", f'exec "{sys.executable}" -m rlwatch "$@"')
    program(programs, "python", f'echo "$@" "$RLWATCH_ON_CRITICAL" "$RLWATCH_RUN_ID" > called; exit {code}')
    program(programs, "scontrol", 'echo "$@" > requeued')
    saved = tmp_path / "outputs" / "grpo" / "checkpoint-100"
    saved.mkdir(parents=True)
    tags = {"checkpoints": {saved.name: {"step": 100, "health": "healthy", "reason": "quiet since"}}}
    (saved.parent / "rlwatch_health.json").write_text(json.dumps(tags))
    env = {
        **os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT)),
        "SLURM_JOB_ID": "4711", "SLURM_RESTART_COUNT": str(restarts),
    }  # fmt: skip
    done = subprocess.run(
        [BASH or "bash", "-c", script()], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (code, "")
    assert (tmp_path / "called").read_text() == "train.py --resume outputs/grpo/checkpoint-100 rollback grpo-4711\n"
    assert (tmp_path / "requeued").exists() == requeued
    if requeued:
        assert (tmp_path / "requeued").read_text() == "requeue 4711\n"
