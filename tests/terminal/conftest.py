"""Recorded runs for the terminal's tests, made by a real Watch."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from rlwatch import Watch

Record = Callable[..., Path]


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Records `rows` rows, from `nan_at` on with a NaN loss; left open with `close=False`, as by a run that goes on."""
    kept: list[Watch] = []

    def make(
        name: str = "run", rows: int = 40, nan_at: int | None = None, *, close: bool = True, **given: object
    ) -> Path:
        watch = Watch(console=False, stall=False, runs_dir=tmp_path / "runs", run_id=name, **given)  # type: ignore[arg-type]
        for row in range(rows):
            loss = math.nan if nan_at is not None and row >= nan_at else 0.5 + row % 3 / 10
            watch.log(step=row, loss=loss, kl=0.02 + row % 5 / 1000, reward_mean=row / rows)
        folder = watch.run_dir
        assert folder is not None
        if close:
            watch.close()
        else:
            _settle(folder, rows)
            kept.append(watch)
        return folder

    yield make  # type: ignore[misc]
    for watch in kept:
        watch.close()


def _settle(folder: Path, rows: int) -> None:
    """Waits for the writer: its rows are on the disk within a quarter of a second."""
    import time

    until = time.monotonic() + 10
    while time.monotonic() < until:
        if (folder / "steps.jsonl").exists() and (folder / "steps.jsonl").read_bytes().count(b"\n") >= rows:
            return
        time.sleep(0.02)
    raise AssertionError("the rows were not written")
