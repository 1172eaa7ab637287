"""Every trap of real healthy runs against every detector: none may speak."""

from __future__ import annotations

import pytest
from harness import alerts_of, told
from traps import POSITIVE, TRAPS, spiked

from rlwatch.detectors.registry import detector_classes

IDS = list(detector_classes())


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("name", IDS)
def test_silent_in_the_trap(name: str, trap: str) -> None:
    """A healthy run with a trap in it raises nothing, on 5 seeds."""
    for seed in range(5):
        assert told(alerts_of(name, TRAPS[trap](seed))) == [], f"seed {seed}"


@pytest.mark.parametrize("stride", [5, 10, 20])
@pytest.mark.parametrize("name", IDS)
def test_silent_at_any_log_stride(name: str, stride: int) -> None:
    """Healthy runs stay healthy when only one row in 5, 10 or 20 is logged."""
    for trap in ("learns", "converges", "kl_from_nothing"):
        assert told(alerts_of(name, TRAPS[trap](1).every(stride))) == [], trap


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("times", [10.0, 100.0, 1000.0])
@pytest.mark.parametrize("signal", POSITIVE)
@pytest.mark.parametrize("name", IDS)
def test_silent_on_a_spike_that_recovers(name: str, signal: str, times: float, rows: int) -> None:
    """One row, or two, at 10-1,000 times the level, which then recover, are normal; early in the run, too."""
    for at in (15, 150):
        assert told(alerts_of(name, spiked(signal, times, rows, seed=1, at=at))) == [], f"at row {at}"


@pytest.mark.parametrize("name", IDS)
def test_silent_on_spikes_that_keep_coming(name: str) -> None:
    """Single spikes of 10-200 times the level, one in 25 rows, in four signals at once."""
    for signal in ("grad_norm", "reward_std", "advantage_std", "approx_kl"):
        run = spiked(signal, 1.0, 1, seed=2)
        values = run.signals[signal].copy()
        values[20::25] *= 10.0 + 190.0 * (values[20::25] / values.max())
        assert told(alerts_of(name, run.having(**{signal: values}))) == [], signal
