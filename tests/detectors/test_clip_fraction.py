"""PPO is braking."""

from __future__ import annotations

import numpy as np
import pytest
from faults import Array, Signals, around, braking
from rows import alerts_of, assert_nan_changes_nothing, assert_state_survives, false_alarms, first

NAME = "clip_fraction"
ROWS = 300


def saw_tooth(passes: int, peak: float, rows: int = ROWS) -> Array:
    """The clip fraction of each of several passes over the same samples: 0 on the first, `peak` on the last."""
    return np.arange(rows) % passes * peak / (passes - 1)


def test_a_lasting_rise_warns() -> None:
    """The share of the last rows is in the words of the alert, with what is usual."""
    alert = first(NAME, braking(), onset=100, delay=18, severity="warning")
    assert alert.message.startswith("PPO is braking: 4")
    assert alert.evidence["mean_of_10"] >= 0.4
    assert len(alerts_of(NAME, braking())) == 1


def test_far_in_spite_of_the_clip_is_critical() -> None:
    """A policy that moves by .3 nats an update although most samples are clipped, and earns nothing by it."""
    alert = first(NAME, braking(kl=0.3), onset=100, delay=35, severity="critical")
    assert "0.3" in alert.message
    assert alert.evidence["approx_kl"] == pytest.approx(0.3)


def test_nothing_is_critical_before_the_reward_can_answer() -> None:
    """Far in spite of the clip from the first row on: a warning at once, a critical from row 24 on."""
    run = {"clip_fraction": np.full(60, 0.9), "approx_kl": np.full(60, 1.0), "reward_mean": np.zeros(60)}
    assert [(a.step, a.severity.value) for a in alerts_of(NAME, run)] == [(5, "warning"), (23, "critical")]


def test_a_rising_reward_keeps_it_a_warning() -> None:
    """While the reward climbs, even a hard brake is for a person to judge."""
    run = {**braking(kl=0.3), "reward_mean": np.linspace(0.0, 3.0, ROWS)}
    assert [alert.severity.value for alert in alerts_of(NAME, run)] == ["warning"]


def test_a_policy_that_dies_in_its_first_rows() -> None:
    """Recorded (PPO, rate 2e-2): .3 to .66 in eight rows, then no gradient any more: told while it lives."""
    clipped = [0.3, 0.31, 0.26, 0.38, 0.42, 0.64, 0.45, 0.66] + [0.0] * 40
    assert alerts_of(NAME, {"clip_fraction": np.array(clipped)})[0].step == 7


@pytest.mark.parametrize("passes", [2, 3, 4, 8])
def test_a_saw_tooth_is_judged_by_its_mean(passes: int) -> None:
    """Zeros on each first pass neither hide a brake nor does one high last pass make one."""
    assert alerts_of(NAME, {"clip_fraction": saw_tooth(passes, 0.5)}) == []
    high = np.where(np.arange(ROWS) < 100, saw_tooth(passes, 0.1), saw_tooth(passes, 1.0))
    first(NAME, {"clip_fraction": high}, onset=100, delay=25, severity="warning")


@pytest.mark.parametrize("level", [0.0, 0.1, 0.3])
def test_usual_levels_are_silent(level: float) -> None:
    """0 (one update a batch), the usual 10 %, and what field reports call bad but the guardrail lets pass."""
    assert alerts_of(NAME, {"clip_fraction": np.full(ROWS, level)}) == []


def test_single_rows_are_silent() -> None:
    """A row in which everything is clipped, now and then, is no brake."""
    clipped = np.where(np.arange(ROWS) % 12 == 5, 1.0, 0.05)
    assert alerts_of(NAME, {"clip_fraction": clipped}) == []


@pytest.mark.parametrize("value", [-1.0, 2.0, 62.0, 1e300])
def test_what_is_no_share_is_left_out(value: float) -> None:
    """Counts and percentages are not taken for shares."""
    assert alerts_of(NAME, {"clip_fraction": np.full(ROWS, value)}) == []


@pytest.mark.parametrize("sigma", [0.3, 0.6])
def test_healthy_noise_is_silent(sigma: float) -> None:
    """Log-normal, strongly autocorrelated noise around the usual 5 %."""

    def make(rng: np.random.Generator) -> Signals:
        clipped = np.minimum(1.0, around(0.05, rng, 1000, sigma, 0.9))
        return {"clip_fraction": clipped, "approx_kl": around(0.01, rng, 1000)}

    assert false_alarms(NAME, make) == (0, 0)


def test_the_guardrail_is_a_setting() -> None:
    """A stricter guardrail speaks earlier."""
    run = {"clip_fraction": np.full(50, 0.25)}
    assert alerts_of(NAME, run, warning_level=0.2)[0].step == 5


def test_state_and_nan() -> None:
    """A resumed run goes on as it was, and NaN rows change nothing."""
    assert_state_survives(NAME, braking(kl=0.3))
    assert_nan_changes_nothing(NAME, braking(kl=0.3))
