"""What a schedule made of its base rate, at checkpoints."""

from __future__ import annotations

import json

from rlwatch.responses.pace import KEPT, Pace


def pace_of(*factors: float | None) -> Pace:
    """A checkpoint at every tenth row."""
    pace = Pace()
    for index, factor in enumerate(factors):
        pace.push(10 * index, factor)
    return pace


def test_a_jump_is_told_by_its_size() -> None:
    """Against the highest before, so that a warm-up is none; against nothing where nothing is known."""
    pace = pace_of(0.1, 1.0, None, 30.0)
    assert pace.risen(30.0, row=20) == 30.0
    assert pace.risen(30.0, row=30) == 1.0
    assert pace.risen(0.5, row=20) == 1.0
    assert pace.risen(30.0, row=-1) == pace.risen(None, row=20) == 1.0


def test_what_the_run_went_back_from_is_forgotten() -> None:
    """A schedule that jumps again has jumped again."""
    pace = pace_of(1.0, 30.0)
    pace.forget(lambda row: row < 10)
    assert pace.risen(30.0, row=40) == 30.0


def test_it_survives_a_resume() -> None:
    """As JSON."""
    again = Pace()
    again.put_back(json.loads(json.dumps(pace_of(0.5, None).values())))
    assert again.values() == pace_of(0.5, None).values()
    assert again.risen(1.0, row=10) == 2.0


def test_memory_is_bounded() -> None:
    """The last ones are kept."""
    kept = pace_of(*[1.0] * (KEPT + 5)).values()
    assert (len(kept), kept[0].row) == (KEPT, 50)
