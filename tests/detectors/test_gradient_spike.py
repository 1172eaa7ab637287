"""gradient_spike: told when the norm stays up or grows, not for the spikes that every run has."""

from __future__ import annotations

import numpy as np
import pytest
from faults import Run, gradient_explosion, gradient_growth, gradient_to_zero, healthy, noise
from harness import alerts_of, assert_quiet, assert_told_in_time, criticals, noise_alarms, told

NAME = "gradient_spike"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("strength", "delay"), [(10.0, 8), (1.0, 10), (0.3, 15)])
def test_a_norm_that_stays_up(strength: float, delay: int, seed: int) -> None:
    """1,000, 100 or 30 times the level for good is told within 8-15 rows."""
    assert_told_in_time(NAME, gradient_explosion(strength, seed), delay)


@pytest.mark.parametrize("seed", range(4))
def test_a_hundredfold_norm_is_critical(seed: int) -> None:
    """100 times the level for good is critical within 12 rows."""
    assert_told_in_time(NAME, gradient_explosion(1.0, seed), 12, "critical")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("strength", "delay"), [(5.0, 20), (2.0, 50), (1.0, 100), (0.5, 200)])
def test_growth(strength: float, delay: int, seed: int) -> None:
    """A norm that doubles every 2, 5, 10 or 20 rows is told before it is 1,000 times what it was."""
    assert_told_in_time(NAME, gradient_growth(strength, seed), delay)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("onset", [8, 12, 18])
def test_explosion_within_the_first_20_rows(onset: int, seed: int) -> None:
    """An explosion to 100 times that begins at row 8, 12 or 18 is told within 15 rows."""
    assert_told_in_time(NAME, gradient_explosion(1.0, seed, onset=onset, rows=80), 15)


@pytest.mark.parametrize(("loss_times", "severity"), [(1.0, "critical"), (2.0, "critical"), (1e4, "warning")])
def test_returns_that_grow_explain_a_gradient(loss_times: float, severity: str) -> None:
    """In classical control a hundredfold norm is critical unless the value loss has grown by its square."""
    run = gradient_explosion(1.0, 0)
    rng = np.random.default_rng(3)
    late = np.arange(len(run)) >= run.onset
    run.signals["value_loss"] = np.where(late, loss_times, 1.0) * noise(rng, len(run), 0.3)
    alerts = assert_told_in_time(NAME, run, 12, value_loss_explains=True)
    assert max((alert.severity.value for alert in alerts), key=["warning", "critical"].index) == severity
    if severity == "critical":
        assert alerts[-1].evidence["value_loss_times"] < 5.0


def test_without_a_value_loss_nothing_can_deny_it() -> None:
    """The same norm only warns there."""
    assert not criticals(alerts_of(NAME, gradient_explosion(1.0, 0), value_loss_explains=True))


@pytest.mark.parametrize("seed", range(3))
def test_a_gradient_that_is_gone(seed: int) -> None:
    """Exactly 0 for good is told within 110 rows: healthy runs have up to 25 such rows on end."""
    alerts = assert_told_in_time(NAME, gradient_to_zero(1.0, seed), 110)
    assert alerts[0].step >= 100 + 25
    assert not criticals(alerts)


def test_log_stride() -> None:
    """Logged one row in 10, an explosion is told within 8 logged rows."""
    assert_told_in_time(NAME, gradient_explosion(1.0, 1, onset=300, rows=900).every(10), 8)


@pytest.mark.parametrize("seed", range(20))
def test_heavy_tails_are_silent(seed: int) -> None:
    """Log-normal(.6) with 1 % spikes of 10-1,000 times the level that recover at once."""
    rng = np.random.default_rng(seed)
    values = 0.5 * noise(rng, 1000, 0.6)
    at = np.flatnonzero(rng.random(1000) < 0.01)
    at = at[np.diff(at, prepend=-10) > 5]
    values[at] *= 10.0 ** rng.uniform(1.0, 3.0, at.size)
    assert_quiet(NAME, Run({"grad_norm": values}))


def test_tied_groups_are_silent() -> None:
    """Exactly 0 for 25 rows at a time, over and over."""
    values = np.where(np.arange(500) % 50 < 25, 0.0, 0.4) * noise(np.random.default_rng(0), 500, 0.3)
    assert_quiet(NAME, Run({"grad_norm": values}))


def test_always_zero_is_silent() -> None:
    """A norm that is 0 from the start (not computed) never spikes."""
    assert_quiet(NAME, Run({"grad_norm": np.zeros(300)}))


def test_drift_of_the_level_is_silent() -> None:
    """A norm that falls to a tenth, or rises threefold, over 400 rows is learning."""
    rng = np.random.default_rng(0)
    for end in (0.1, 3.0):
        assert_quiet(NAME, Run({"grad_norm": np.geomspace(1.0, end, 400) * noise(rng, 400, 0.3)}))


def test_stationary_noise() -> None:
    """Over 200 runs of 1,000 rows of 30 % noise: no critical, a warning in under 2 %."""
    with_critical, with_any = noise_alarms(NAME, "grad_norm", 0.5)
    assert with_critical == 0
    assert with_any < 4


def test_message_and_evidence() -> None:
    """'Gradient norm = X, Y sigma above baseline', and X is the row's own value."""
    run = gradient_explosion()
    alert = alerts_of(NAME, run)[0]
    value, rest = alert.message.removeprefix("Gradient norm = ").split(", ", 1)
    assert alert.message.startswith("Gradient norm = ")
    assert float(value) == pytest.approx(run.signals["grad_norm"][alert.step], rel=0.01)
    sigma, words = rest.split(" ", 1)
    assert words.startswith("sigma above baseline")
    assert f"{alert.evidence['sigma']:.1f}" == sigma


def test_healthy_run_with_every_seed() -> None:
    """Thirty healthy runs of 300 rows, single spikes of 5-50 times among them, raise nothing."""
    for seed in range(30):
        assert told(alerts_of(NAME, healthy(300, seed))) == []
