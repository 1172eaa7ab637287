"""What an incident has cost so far."""

from __future__ import annotations

import pytest
from support_diagnosis import alert

from rlwatch.diagnosis import Cost, Course, diagnose
from rlwatch.observation import Observation


def test_the_field_guides_example() -> None:
    """Step 3,847 unseen until 15,000, 7.5 s a step, 32 GPUs at $2: 23 hours and about $1,487."""
    (incident,) = diagnose([alert("kl_explosion", 3847)], step=15_000, seconds_per_step=7.5, gpus=32, gpu_price=2.0)
    cost = incident.cost
    assert cost.steps == 11_153
    assert cost.hours == pytest.approx(23.235, abs=0.001)
    assert cost.money == pytest.approx(1487.07, abs=0.01)
    line = "Cost so far, if nothing since step 3847 is kept: 11,153 steps, 23.2 h, 744 GPU-hours, about $1,487"
    assert line in incident.lines()


@pytest.mark.parametrize(
    ("known", "text"),
    [
        ({}, "1 step"),
        ({"seconds_per_step": 3600.0}, "1 step, 1.0 h"),
        ({"seconds_per_step": 3600.0, "gpus": 8}, "1 step, 1.0 h, 8.0 GPU-hours"),
        ({"seconds_per_step": 3600.0, "gpu_price": 2.0}, "1 step, 1.0 h"),
        ({"gpus": 8, "gpu_price": 2.0}, "1 step"),
        ({"seconds_per_step": 360.0, "gpus": 1, "gpu_price": 2.0}, "1 step, 0.1 h, 0.1 GPU-hours, about $0.20"),
    ],
)
def test_what_is_not_known_is_left_out(known: dict[str, float], text: str) -> None:
    """Steps always; hours with a step's time; money with GPUs and a price as well."""
    cost = Cost.of(1, **known)  # type: ignore[arg-type]
    assert str(cost) == text
    assert set(cost.as_dict()) == {name for name in ("steps", "hours", "gpu_hours", "money") if getattr(cost, name)}


def course(*rows: tuple[int, float], **signals: float) -> Course:
    """A course of (step, time) rows."""
    made = Course()
    for row, (step, time) in enumerate(rows):
        observation = Observation(step, row, time)
        observation.signals.update(signals)
        made.push(observation)
    return made


def test_the_pace_is_a_median() -> None:
    """A pause, a repeated step and a step back do not count."""
    made = course((0, 0.0), (10, 75.0), (20, 150.0), (20, 151.0), (30, 9000.0), (10, 9001.0), (20, 9076.0))
    assert (made.furthest, made.stride, made.seconds_per_step()) == (30, 10.0, 7.5)


def test_a_replay_goes_by_the_logged_step_time() -> None:
    """Rows come as fast as they are read: the clock says nothing, the log may."""
    assert course((0, 0.0), (1, 1e-5), step_time=7.5).seconds_per_step(clock=False) == 7.5
    assert course((0, 0.0), (1, 1e-5)).seconds_per_step(clock=False) is None
    assert course((0, 5.0), (1, 5.0), step_time=2.0).seconds_per_step() == 2.0


def test_a_run_without_rows_has_no_pace() -> None:
    """Nothing is known before the first two rows."""
    assert (course().furthest, course().stride, course().seconds_per_step()) == (-1, 1.0, None)
    assert course((5, 1.0)).stride == 1.0


def test_memory_stays_flat() -> None:
    """Only the last rows are kept."""
    made = course(*((row, float(row)) for row in range(1000)))
    assert len(made._steps) == len(made._times) == 65
