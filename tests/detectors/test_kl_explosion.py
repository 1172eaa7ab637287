"""kl_explosion: told when the policy runs away, not when KL starts from nothing or spikes once."""

from __future__ import annotations

import numpy as np
import pytest
from faults import Run, healthy, kl_explosion, kl_exponential, kl_linear, noise
from harness import alerts_of, assert_quiet, assert_told_in_time, criticals, detector, noise_alarms, told

from rlwatch.observation import Observation

NAME = "kl_explosion"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("strength", "delay"), [(3.0, 6), (1.0, 8), (0.4, 12)])
def test_jump(strength: float, delay: int, seed: int) -> None:
    """A jump of 9, 3 or 1.2 nats that stays is told within 6-12 rows, and is critical."""
    alerts = assert_told_in_time(NAME, kl_explosion(strength, seed), delay)
    assert criticals(alerts)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("onset", [2, 5, 10, 18])
def test_explosion_within_the_first_20_rows(onset: int, seed: int) -> None:
    """An explosion to 3 nats that begins at row 2, 5, 10 or 18 is told within 25 rows."""
    assert_told_in_time(NAME, kl_explosion(1.0, seed, onset=onset, rows=80), 25)


@pytest.mark.parametrize("seed", range(3))
def test_exponential_rise(seed: int) -> None:
    """KL doubling every 20 rows from .001 is told before it passes 1.5 nats (row 211); a critical follows."""
    run = kl_exponential(1.0, seed, rows=500)
    alerts = assert_told_in_time(NAME, run, 211)
    flat = run.having(reward_mean=np.full(500, 0.5))
    assert criticals(alerts_of(NAME, flat))
    assert len(alerts) >= 1


def test_fast_exponential_rise_is_critical_early() -> None:
    """Doubling every 4 rows: critical before 20 nats."""
    run = kl_exponential(5.0, 0, rows=120)
    twenty = int(np.flatnonzero(run.signals["kl"] > 20.0)[0])
    alerts = alerts_of(NAME, run)
    assert criticals(alerts), told(alerts)
    assert criticals(alerts)[0].step <= twenty


@pytest.mark.parametrize("seed", range(3))
def test_slow_linear_rise(seed: int) -> None:
    """.01 to 1 nat in a straight line over 2,000 rows is told before the end, but not while KL is healthy."""
    alerts = assert_told_in_time(NAME, kl_linear(1.0, seed), 1900)
    assert alerts[0].step > 300  # .15 nats: what healthy runs reach


@pytest.mark.parametrize("stride", [5, 10])
def test_log_stride(stride: int) -> None:
    """Logged one row in 5 or 10, an explosion is told within 8 logged rows."""
    run = kl_explosion(1.0, 1, onset=300, rows=900)
    assert_told_in_time(NAME, run.every(stride), 8)


@pytest.mark.parametrize("seed", range(10))
def test_rise_from_nothing_is_silent(seed: int) -> None:
    """From exactly 0 through five decades to .1 nats, with 30 % noise: healthy."""
    rng = np.random.default_rng(seed)
    t = np.arange(300)
    kl = np.minimum(0.1, 1e-6 * 2.0 ** (t / (1.0 + seed))) * noise(rng, 300, 0.3) * (t > 2)
    assert_quiet(NAME, Run({"kl": kl}))


@pytest.mark.parametrize("signal", ["kl", "approx_kl", "rollout_kl"])
def test_exact_zeros_are_silent(signal: str) -> None:
    """Always exactly 0, or 0 for 100 rows and then .02, is silent."""
    late = np.where(np.arange(200) < 100, 0.0, 0.02)
    assert_quiet(NAME, Run({signal: np.zeros(200)}))
    assert_quiet(NAME, Run({signal: late}))


def test_tiny_spread_is_silent() -> None:
    """A KL of .05 that never moves, and then moves by a third, is not thousands of sigma."""
    kl = np.full(200, 0.05)
    kl[120:] = 0.067
    assert_quiet(NAME, Run({"kl": kl}))


def test_measured_healthy_peaks_are_silent() -> None:
    """Single rows of up to .92 nats over a median of .07, as healthy TRL runs have them."""
    rng = np.random.default_rng(0)
    kl = 0.07 * noise(rng, 400, 0.4)
    for at, peak in ((30, 0.3), (90, 0.67), (200, 0.92), (203, 0.5), (350, 0.67)):
        kl[at] = peak
    assert_quiet(NAME, Run({"kl": kl}))


def test_k1_below_zero_is_silent() -> None:
    """The k1 estimate is below 0 in some rows: noise around .01 is healthy."""
    rng = np.random.default_rng(0)
    assert_quiet(NAME, Run({"kl": rng.normal(0.01, 0.02, 400)}))
    assert_quiet(NAME, Run({"approx_kl": rng.normal(0.002, 0.004, 400)}))


def test_ppo_without_a_reference() -> None:
    """Where only approx_kl is logged, .01 is healthy, and a jump to .5 that lasts is critical."""
    rng = np.random.default_rng(0)
    values = 0.01 * noise(rng, 200, 0.4)
    assert_quiet(NAME, Run({"approx_kl": values}))
    values[120:] *= 50.0
    alerts = assert_told_in_time(NAME, Run({"approx_kl": values}, onset=120), 8)
    assert criticals(alerts)
    assert alerts[0].evidence["signal"] == "approx_kl"


def test_four_kls_do_not_mix() -> None:
    """A row that lacks `kl` does not put its approx_kl into the baseline of `kl`."""
    one = detector(NAME)
    rng = np.random.default_rng(0)
    for row in range(300):
        obs = Observation(row, row, 0.0)
        obs.signals = {"approx_kl": 5e-4 * float(rng.lognormal(0, 0.3))}
        if row % 2:
            obs.signals["kl"] = 0.08 * float(rng.lognormal(0, 0.3))
        assert one.update(obs) is None


@pytest.mark.parametrize(("signal", "level"), [("kl", 0.07), ("kl", 0.15), ("approx_kl", 0.01), ("rollout_kl", 1e-3)])
def test_stationary_noise(signal: str, level: float) -> None:
    """Over 200 runs of 1,000 rows of 30 % noise at healthy levels: no critical, a warning in under 2 %."""
    seeds = 200 if (signal, level) == ("kl", 0.07) else 40
    with_critical, with_any = noise_alarms(NAME, signal, level, seeds)
    assert with_critical == 0
    assert with_any < max(1, 0.02 * seeds)


def test_message_and_evidence() -> None:
    """'KL divergence = X, Y sigma above rolling mean', and both are in the evidence."""
    alert = alerts_of(NAME, kl_explosion())[0]
    value, sigma = alert.message.removeprefix("KL divergence = ").split(", ")
    assert alert.message.startswith("KL divergence = ")
    assert sigma.endswith(" sigma above rolling mean")
    assert f"{alert.evidence['value']:.3g}" == value
    assert f"{alert.evidence['sigma']:.1f}" == sigma.split()[0]
    assert alert.evidence["value"] == pytest.approx(kl_explosion().signals["kl"][alert.step])


def test_healthy_run_with_every_seed() -> None:
    """Thirty healthy runs of 300 rows raise nothing."""
    for seed in range(30):
        assert told(alerts_of(NAME, healthy(300, seed))) == []
