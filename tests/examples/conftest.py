"""Starting the examples."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def example(tmp_path: Path) -> Callable[..., CompletedProcess[str]]:
    """Runs an example to its end in an empty folder; plain text of both streams."""
    clean = {name: value for name, value in os.environ.items() if not name.upper().startswith("RLWATCH_")}
    path = os.pathsep.join(filter(None, [str(REPO), clean.get("PYTHONPATH")]))

    def run(script: str, *arguments: str, timeout: float = 120) -> CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(REPO / "examples" / script), *arguments],
            cwd=tmp_path,
            env={**clean, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )

    return run
