"""Small runs for the tests of the server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def small_run(folder: Path, steps: int = 3, **info: Any) -> Path:
    """A run that still goes on, for all that its record says."""
    folder.mkdir(parents=True)
    rows = [{"step": step, "row": step, "loss": 0.5, "time": 1e9 + step} for step in range(steps)]
    (folder / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "run.json").write_text(json.dumps({"run_id": folder.name, "summary": None, **info}), encoding="utf-8")
    return folder
