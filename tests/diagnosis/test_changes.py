"""What was changed in mid-run, and where one is told of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlwatch import Watch
from rlwatch.diagnosis.changes import BEFORE, FIRST, Changes
from rlwatch.report.folder import read_folder


def found(values: list[Any], name: str = "learning_rate") -> list[tuple[int, float, float]]:
    """Step, before, after of what is told of; None is a row without the signal."""
    changes = Changes()
    for row, value in enumerate(values):
        changes.push(10 * row, row, {} if value is None else {name: value})
    return [(one.step, one.before, one.after) for one in changes]


def cosine(row: int, rows: int, peak: float = 1e-5, warmup: int = 8) -> float:
    """Linear warm-up, then a cosine to 0, as trainers have it."""
    if row < warmup:
        return peak * row / warmup
    return 0.5 * peak * (1.0 + math.cos(math.pi * (row - warmup) / (rows - warmup)))


def test_a_rate_that_jumps_is_told_once() -> None:
    """Over all that it was; a row without it in between does not hide the jump, and falling back is none."""
    assert found([1e-5] * 20 + [None, 1e-3, 1e-3, 1e-5, 1e-3]) == [(210, 1e-5, 1e-3)]


@pytest.mark.parametrize("warmup", [0, 1, 8, 50])
def test_schedules_are_no_changes(warmup: int) -> None:
    """Warm-up, decay to 0, restarts at the same peak."""
    cycle = [cosine(row, 100, warmup=warmup) for row in range(100)]
    assert found(cycle + cycle) == []


def test_weights_may_change_either_way() -> None:
    """Also from and to 0; a controller's steps of a fifth are none."""
    assert found([0.04] * 5 + [0.0] * 5 + [0.1], "kl_coef") == [(50, 0.04, 0.0), (100, 0.0, 0.1)]
    assert found([0.04 * 1.2**row for row in range(40)], "kl_coef") == []


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(FINITE | st.none(), max_size=60), st.sampled_from(["kl_coef", "learning_rate"]))
def test_any_finite_values_do(values: list[float | None], name: str) -> None:
    """Nothing raises, each change is between two values that were there, and its text is one line."""
    changes = Changes()
    for row, value in enumerate(values):
        changes.push(row, row, {} if value is None else {name: value})
    for one in changes:
        assert one.before in values
        assert one.after in values
        assert "\n" not in str(one)


@pytest.mark.parametrize(("at", "told"), [(40, True), (FIRST - 1, False), (60, True)])
def test_an_incident_names_what_was_changed_before_it(tmp_path: Path, at: int, told: bool) -> None:
    """In the diagnosis, in its file beside the run, and in the report's reading of the folder."""
    with Watch(console=False, stall=False, report=False, runs_dir=tmp_path, run_id="run") as watch:
        for step in range(70):
            rate = 1e-3 if step >= at else 1e-5
            watch.log(step=step, loss=math.nan if step >= 60 else 0.1, learning_rate=rate)
        (incident,) = watch.diagnosis()
    text = f"Changed shortly before: learning_rate 1e-05 -> 0.001 (100x) at step {at}"
    assert (text in incident.lines()) is told
    (file,) = (tmp_path / "run").glob("incidents/*/diagnosis.json")
    said = json.loads(file.read_text())
    assert (text in said["diagnosis"]) is told
    assert [one["step"] for one in said["changed"]] == [at] * told
    (again,) = read_folder(tmp_path / "run").incidents
    assert again.changed == incident.changed


def test_what_was_changed_long_before_is_not_told() -> None:
    """More than 64 rows before the first alert."""
    watch = Watch(record=False, console=False, stall=False)
    for step in range(100 + BEFORE):
        rate = 1e-3 if step >= 50 else 1e-5
        watch.log(step=step, loss=math.nan if step == 99 + BEFORE else 0.1, learning_rate=rate)
    assert watch.diagnosis()[0].changed == ()
    watch.close()
