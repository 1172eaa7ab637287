"""The rollouts come from a policy many updates old."""

from __future__ import annotations

import numpy as np
import pytest
from faults import Signals, around, queue
from rows import alerts_of, assert_nan_changes_nothing, assert_state_survives, false_alarms, first

NAME = "staleness"
ROWS = 300


def test_rollouts_grow_old() -> None:
    """Ten times the age that the run had at its start."""
    alert = first(NAME, queue(), onset=100, delay=35, severity="warning")
    assert alert.message.startswith("Rollouts are ")
    assert alert.evidence["opening"] < 3.0


def test_old_rollouts_of_another_policy() -> None:
    """Ten times the age, and log-probabilities that had agreed differ by .15: critical; by .05, or always so: not."""
    t = np.arange(ROWS)
    apart = np.where(t < 100, 1e-3, 0.15) * around(1.0, np.random.default_rng(2), ROWS, 0.1)
    alert = first(NAME, {**queue(), "rollout_logprob_diff": apart}, onset=100, delay=35, severity="critical")
    assert alert.message.endswith("differ by more than 0.1 nats")
    for other in (apart / 3.0, np.full(ROWS, 0.15)):
        severities = {alert.severity.value for alert in alerts_of(NAME, {**queue(), "rollout_logprob_diff": other})}
        assert severities == {"warning"}


@pytest.mark.parametrize("onset", [0, 100])
def test_nobody_renews_them(onset: int) -> None:
    """One version older at every row: a warning after 30, critical after 100, also from the first row on."""
    run = {"staleness": np.maximum(0.0, np.arange(ROWS) - onset) + 1.0}
    alert = first(NAME, run, onset=onset, delay=33, severity="warning")
    assert alert.message.endswith("nobody renews them")
    first(NAME, run, onset=onset, delay=102, severity="critical")


def test_a_limit() -> None:
    """With a limit the age itself is judged, from the start, and three times of it is critical."""
    run = {"staleness": np.full(ROWS, 10.0)}
    assert alerts_of(NAME, run) == []
    assert first(NAME, run, onset=0, delay=10, severity="warning", limit=8).evidence["limit"] == 8
    first(NAME, run, onset=0, delay=10, severity="critical", limit=3)


def test_the_largest_age_stands_in_for_the_mean() -> None:
    """Where only the largest is logged it is judged; a mean that comes later starts afresh."""
    ages = queue()["staleness"]
    alert = first(NAME, {"staleness_max": ages}, onset=100, delay=35, severity="warning")
    assert alert.evidence["signal"] == "staleness_max"
    both = {"staleness_max": ages, "staleness": [None] * 50 + [2.0] * 250}
    assert alerts_of(NAME, both) == []


@pytest.mark.parametrize("ramp", [10, 40, 100])
def test_a_queue_that_fills_is_silent(ramp: int) -> None:
    """0 at first, 8 in the end, in any time."""
    assert alerts_of(NAME, {"staleness": np.minimum(8.0, np.arange(ROWS) * 8.0 / ramp)}) == []


def test_a_saw_tooth_is_silent() -> None:
    """Several updates on the same rollouts: the age is 0, 1, .. 15 and 0 again."""
    assert alerts_of(NAME, {"staleness": np.arange(ROWS) % 16}) == []


def test_minibatch_updates_are_silent() -> None:
    """RLlib counts minibatches: hundreds, and always the same."""
    rng = np.random.default_rng(0)
    assert alerts_of(NAME, {"staleness": 240.0 + rng.integers(-10, 10, ROWS)}) == []


@pytest.mark.parametrize("sigma", [0.3, 0.6])
def test_healthy_noise_is_silent(sigma: float) -> None:
    """Log-normal, strongly autocorrelated noise around 2 versions."""

    def make(rng: np.random.Generator) -> Signals:
        return {"staleness": around(2.0, rng, 1000, sigma, 0.9)}

    with_critical, with_any = false_alarms(NAME, make)
    assert with_critical == 0
    assert with_any <= 1


def test_state_and_nan() -> None:
    """A resumed run goes on as it was, and NaN rows change nothing."""
    for run in (queue(), {"staleness": np.arange(ROWS) + 1.0}):
        assert_state_survives(NAME, run)
        assert_nan_changes_nothing(NAME, run)
