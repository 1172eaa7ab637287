"""Steps become slower, and memory climbs."""

from __future__ import annotations

import numpy as np
import pytest
from faults import Signals, around, slow_steps
from rows import alerts_of, assert_nan_changes_nothing, assert_state_survives, false_alarms, first

NAME = "throughput"
ROWS = 400


@pytest.mark.parametrize("times", [2.5, 4.0, 100.0])
def test_steps_become_slower(times: float) -> None:
    """Told after two blocks of five rows, and only as a warning."""
    alert = first(NAME, slow_steps(times=times), onset=200, delay=15, severity="warning")
    assert alert.message.startswith("Steps became ")
    assert alert.evidence["reference"] == pytest.approx(10.0, rel=0.1)
    assert {alert.severity.value for alert in alerts_of(NAME, slow_steps(times=times))} == {"warning"}


def test_a_user_may_let_it_halt() -> None:
    """With `severity` set, ten times slower is critical."""
    alerts = alerts_of(NAME, slow_steps(times=30.0), severity="critical")
    assert "critical" in {alert.severity.value for alert in alerts}


def test_tokens_per_second_stand_in() -> None:
    """Throughput that falls to a quarter is a step four times slower; a step's own time is preferred."""
    run = {"tokens_per_second": 1000.0 / slow_steps()["step_time"]}
    assert first(NAME, run, onset=200, delay=15, severity="warning").evidence["signal"] == "tokens_per_second"
    assert alerts_of(NAME, {**run, "step_time": np.full(ROWS, 10.0)}) == []


def test_a_slow_growth_that_the_baseline_follows() -> None:
    """1 % a row: four times the first rows after 140."""
    run = {"step_time": slow_steps(times=1.0)["step_time"] * 1.01 ** np.arange(ROWS)}
    alert = first(NAME, run, onset=140, delay=120, severity="warning", warning_times=20.0)
    assert alert.message.endswith("against that of the first steps")


@pytest.mark.parametrize("period", [2, 3, 4, 8])
def test_steps_that_are_slow_in_turn_are_silent(period: int) -> None:
    """One generation for several updates: every n-th step takes twelve times as long (measured)."""
    rng = np.random.default_rng(period)
    time = np.where(np.arange(ROWS) % period == 0, 3.5, 0.28) * around(1.0, rng, ROWS, 0.1)
    assert alerts_of(NAME, {"step_time": time}) == []


def test_slow_rows_that_pass_are_silent() -> None:
    """Compilation at first, an evaluation every 50 rows, a checkpoint of three rows."""
    time = slow_steps(times=1.0)["step_time"]
    time[:2] *= 20.0
    time[::50] *= 8.0
    time[300:303] *= 30.0
    assert alerts_of(NAME, {"step_time": time}) == []


def test_longer_responses_take_longer() -> None:
    """Five times the tokens in five times the time is no slowness; the same without the tokens would be."""
    growth = np.clip((np.arange(ROWS) - 100) / 50.0, 1.0, 5.0)
    run = {"step_time": 10.0 * growth}
    assert alerts_of(NAME, run) != []
    assert alerts_of(NAME, {**run, "response_length_mean": 200.0 * growth}) == []
    assert alerts_of(NAME, {**run, "step_tokens": 2e5 * growth}) == []


def test_shorter_responses_hide_nothing_and_alarm_nobody() -> None:
    """Responses that collapse make a step no slower, though each token then costs more."""
    length = np.where(np.arange(ROWS) < 200, 200.0, 4.0)
    assert alerts_of(NAME, {**slow_steps(times=0.7), "response_length_mean": length}) == []
    assert alerts_of(NAME, {**slow_steps(times=4.0), "response_length_mean": length}) != []


def test_memory_that_climbs() -> None:
    """Half a percent of the start a row, without a pause."""
    memory = 40.0 + 0.2 * np.arange(ROWS)
    alert = first(NAME, {"memory_allocated": memory}, onset=0, delay=ROWS, severity="warning")
    assert alert.message.startswith("Memory climbs: memory_allocated went from 4")
    assert alert.evidence["last"] > 1.3 * alert.evidence["first"]


def test_peaks_that_settle_are_silent() -> None:
    """Peak memory only ever rises: by 2 % as in healthy runs, by half while caches fill, by half with the responses."""
    rng = np.random.default_rng(0)
    peaks = 60.0 + np.maximum.accumulate(rng.exponential(0.3, ROWS))
    assert alerts_of(NAME, {"memory_allocated": peaks}) == []
    filling = 60.0 - 20.0 * np.exp(-np.arange(ROWS) / 20.0)
    assert alerts_of(NAME, {"memory_allocated": filling}) == []
    longer = np.linspace(1.0, 1.6, ROWS)
    assert alerts_of(NAME, {"memory_allocated": 60.0 * longer, "response_length_mean": 200.0 * longer}) == []


def test_reserved_memory_stands_in_and_host_memory_does_not() -> None:
    """The allocator's own figure is judged without the other; the machine's is not."""
    memory = 40.0 + 0.2 * np.arange(ROWS)
    assert alerts_of(NAME, {"memory_reserved": memory}) != []
    assert alerts_of(NAME, {"memory_reserved": memory, "memory_allocated": np.full(ROWS, 40.0)}) == []
    assert alerts_of(NAME, {"memory_host": memory}) == []


@pytest.mark.parametrize("value", [0.0, 1e-300, 1e300])
def test_odd_times_are_survived(value: float) -> None:
    """A clock that stands still, and one that does not."""
    run = slow_steps()["step_time"].copy()
    run[::3] = value
    alerts_of(NAME, {"step_time": run})
    alerts_of(NAME, {"tokens_per_second": run})
    assert alerts_of(NAME, {"step_time": np.full(ROWS, value)}) == []


@pytest.mark.parametrize("sigma", [0.3, 0.6])
def test_healthy_noise_is_silent(sigma: float) -> None:
    """Log-normal, strongly autocorrelated noise."""

    def make(rng: np.random.Generator) -> Signals:
        return {"step_time": around(10.0, rng, 1000, sigma, 0.9), "response_length_mean": around(200.0, rng, 1000, 0.1)}

    with_critical, with_any = false_alarms(NAME, make)
    assert with_critical == 0
    assert with_any <= 1


def test_state_and_nan() -> None:
    """A resumed run goes on as it was, and NaN rows change nothing."""
    run = {**slow_steps(), "memory_allocated": 40.0 + 0.2 * np.arange(ROWS)}
    assert_state_survives(NAME, run)
    assert_nan_changes_nothing(NAME, run)
