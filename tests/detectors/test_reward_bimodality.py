"""reward_bimodality: told when a continuous reward newly splits into two heaps."""

from __future__ import annotations

import numpy as np
import pytest
from faults import Run, healthy, reward_bimodality
from harness import alerts_of, assert_quiet, assert_told_in_time, criticals, told

NAME = "reward_bimodality"


def rewards_of(values: np.ndarray, onset: int = 0) -> Run:
    """A run that logs the rewards of each sample and nothing else."""
    return Run({}, {"rewards": values}, onset)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("strength", "samples"), [(2.0, 64), (1.0, 64), (1.0, 256), (0.6, 256)])
def test_gaussian_splits_into_two_heaps(strength: float, samples: int, seed: int) -> None:
    """Heaps 16, 8 or about 5 standard deviations apart are told within 40 rows, as a warning."""
    alerts = assert_told_in_time(NAME, reward_bimodality(strength, seed, samples=samples), 40)
    assert not criticals(alerts)


@pytest.mark.parametrize(("samples", "delay"), [(8, 80), (16, 40), (1000, 40)])
def test_small_batches_are_pooled(samples: int, delay: int) -> None:
    """8 or 16 rewards a row are pooled until a test is worth making; 1,000 need no pool."""
    assert_told_in_time(NAME, reward_bimodality(1.5, 1, onset=100, rows=300, samples=samples), delay)


@pytest.mark.parametrize("share", [0.15, 0.3])
def test_a_minority_heap(share: float) -> None:
    """15 % or 30 % of 256 samples finding an exploit worth 10 standard deviations is told."""
    rng = np.random.default_rng(0)
    values = rng.normal(0.0, 1.0, (200, 256))
    values[100:] += 10.0 * (rng.random((100, 256)) < share)
    alerts = assert_told_in_time(NAME, rewards_of(values, 100), 40)
    assert alerts[0].evidence["share_high"] == pytest.approx(share, abs=0.1)
    assert alerts[0].evidence["high_heap"] - alerts[0].evidence["low_heap"] == pytest.approx(10.0, abs=1.0)


@pytest.mark.parametrize("values", [(0.0, 1.0), (-1.0, 1.0), (0.0, 0.5, 1.0), (0.0, 0.1, 1.0, 1.1), (-2.0, 0.0, 1.5)])
def test_few_valued_rewards_are_silent(values: tuple[float, ...]) -> None:
    """Verifier rewards have heaps by design: 2, 3 or 4 values, whatever their shares do."""
    rng = np.random.default_rng(0)
    rows = []
    for rate in np.linspace(0.02, 0.98, 300):
        odds = np.linspace(1.0 - rate, rate, len(values)) + 1e-3
        rows.append(rng.choice(values, 128, p=odds / odds.sum()))
    assert_quiet(NAME, rewards_of(np.array(rows)))


def test_graded_rewards_are_silent() -> None:
    """Eleven marks from 0 to 1, and 0/1 plus a small graded bonus on ten levels."""
    rng = np.random.default_rng(0)
    assert_quiet(NAME, rewards_of(rng.integers(0, 11, (300, 128)) / 10.0))
    base = (rng.random((300, 128)) < 0.5).astype(np.float64)
    assert_quiet(NAME, rewards_of(base + rng.integers(0, 10, (300, 128)) / 100.0))


def test_continuous_then_binary_parts_are_silent() -> None:
    """A reward with most of its mass on 0 and 1 and a continuous rest is a verifier's, too."""
    rng = np.random.default_rng(0)
    values = np.where(rng.random((300, 128)) < 0.8, (rng.random((300, 128)) < 0.5) * 1.0, rng.random((300, 128)))
    assert_quiet(NAME, rewards_of(values))


def test_bimodal_from_the_start_is_silent() -> None:
    """Heaps that were always there are this reward's shape, also when their shares change."""
    rng = np.random.default_rng(0)
    share = np.linspace(0.3, 0.7, 300)[:, None]
    assert_quiet(NAME, rewards_of(rng.normal(size=(300, 128)) + 8.0 * (rng.random((300, 128)) < share)))


@pytest.mark.parametrize("shape", ["normal", "uniform", "lognormal", "laplace", "cauchy", "beta"])
def test_one_heap_of_any_shape_is_silent(shape: str) -> None:
    """40 runs of 200 rows of one-heap rewards of six shapes: no alert."""
    for seed in range(40 if shape in ("normal", "uniform") else 10):
        rng = np.random.default_rng(seed)
        size = (200, 64)
        draws = {
            "normal": rng.normal(size=size),
            "uniform": rng.random(size),
            "lognormal": rng.lognormal(0.0, 1.0, size),
            "laplace": rng.laplace(size=size),
            "cauchy": rng.standard_cauchy(size),
            "beta": rng.beta(2.0, 5.0, size),
        }[shape]
        assert_quiet(NAME, rewards_of(draws))


def test_constant_rewards_are_silent() -> None:
    """All rewards equal, at any level, are not a distribution."""
    for level in (0.0, 1.0, -3.7):
        assert_quiet(NAME, rewards_of(np.full((100, 64), level)))


def test_a_bimodal_row_that_recovers_is_silent() -> None:
    """A single batch of two heaps (an easy and a hard prompt) is not a split."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, 128))
    for row in (60, 110, 160):
        values[row] += 8.0 * (rng.random(128) < 0.5)
    assert_quiet(NAME, rewards_of(values))


def test_nan_rewards_do_not_count() -> None:
    """A tenth of the rewards NaN (a function that does not apply): silent on one heap, told on two."""
    run = reward_bimodality(1.5, 2, samples=128)
    values = run.samples["rewards"].copy()
    values[np.random.default_rng(0).random(values.shape) < 0.1] = np.nan
    assert_told_in_time(NAME, rewards_of(values, run.onset), 40)
    assert_quiet(NAME, rewards_of(values[: run.onset]))


def test_message_and_evidence() -> None:
    """'Bimodal reward distribution detected, Hartigan dip test p-value = X', and X is in the evidence."""
    alert = alerts_of(NAME, reward_bimodality())[0]
    start = "Bimodal reward distribution detected, Hartigan dip test p-value = "
    assert alert.message.startswith(start)
    shown = float(alert.message.removeprefix(start).split(":")[0].split(",")[0])
    assert shown == pytest.approx(alert.evidence["p_value"], rel=0.5, abs=1e-12)
    assert 0.0 <= alert.evidence["p_value"] < 0.01


def test_healthy_run_with_every_seed() -> None:
    """Ten healthy runs of 300 rows of 64 continuous rewards raise nothing."""
    for seed in range(10):
        assert told(alerts_of(NAME, healthy(300, seed, samples=64))) == []
