"""entropy_collapse: told when entropy falls and the reward does not pay for it."""

from __future__ import annotations

import numpy as np
import pytest
from faults import Run, entropy_collapse, entropy_to_zero, healthy, noise
from harness import alerts_of, assert_quiet, assert_told_in_time, criticals, noise_alarms, told

NAME = "entropy_collapse"


def flat_reward(rows: int, seed: int) -> np.ndarray:
    """A reward that learns nothing."""
    return 0.3 + np.random.default_rng(seed).normal(0.0, 0.04, rows)


def falling(
    rows: int, onset: int, half_life: float, to: float = 0.01, level: float = 0.35, seed: int = 0
) -> np.ndarray:
    """Entropy at `level`, then falling to the share `to` of it."""
    after = np.maximum(0.0, np.arange(rows) - onset + 1.0)
    return level * np.maximum(to, 0.5 ** (after / half_life)) * noise(np.random.default_rng(seed), rows, 0.08)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("strength", "delay"), [(2.0, 30), (1.0, 40), (0.5, 60), (0.25, 100)])
def test_collapse_after_a_time_of_learning(strength: float, delay: int, seed: int) -> None:
    """A run that has learnt and then stops: a fall to a hundredth is critical, half-life 2, 4, 8 or 16 rows."""
    run = entropy_collapse(strength, seed)
    assert_told_in_time(NAME, run, delay)
    assert criticals(alerts_of(NAME, run))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("half_life", [2.0, 5.0, 10.0, 40.0])
@pytest.mark.parametrize("level", [0.1, 0.35, 3.8])
def test_collapse_with_a_reward_of_noise(level: float, half_life: float, seed: int) -> None:
    """With a flat reward a critical comes within 10 rows of the entropy passing a tenth of its start."""
    entropy = falling(400, 30, half_life, level=level, seed=seed)
    run = Run({"entropy": entropy, "reward_mean": flat_reward(400, seed)}, onset=30)
    tenth = int(np.flatnonzero(entropy < 0.1 * level)[0])
    alerts = alerts_of(NAME, run)
    assert criticals(alerts), told(alerts)
    assert alerts[0].step >= 30
    assert criticals(alerts)[0].step <= tenth + 10


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("onset", [5, 8, 12, 18])
def test_collapse_within_the_first_20_rows(onset: int, seed: int) -> None:
    """A collapse that starts before row 20 is critical within 15 rows, half-life 1.5 rows, flat reward."""
    run = Run({"entropy": falling(60, onset, 1.5, seed=seed), "reward_mean": flat_reward(60, seed)}, onset=onset)
    assert_told_in_time(NAME, run, 15, "critical")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("strength", [4.0, 1.0, 0.5])
def test_entropy_goes_to_exactly_zero(strength: float, seed: int) -> None:
    """Zero within 1, 4 or 8 rows is critical 15 rows after the onset, whatever the reward did before."""
    assert_told_in_time(NAME, entropy_to_zero(strength, seed), 15, "critical")


@pytest.mark.parametrize("onset", [5, 8, 12, 18, 40])
def test_a_lucky_start_of_the_reward_is_no_excuse(onset: int) -> None:
    """Whatever the first rows of a flat, noisy reward were: an entropy that goes to 0 is told within 30 rows."""
    for seed in range(40):
        entropy = np.maximum(0.0, falling(120, onset, 2.0, to=0.0, seed=seed) - 0.01)
        run = Run({"entropy": entropy, "reward_mean": flat_reward(120, seed)}, onset=onset)
        alerts = criticals(alerts_of(NAME, run))
        assert alerts, f"seed {seed}: silent"
        assert alerts[0].step <= onset + 30, f"seed {seed}: {told(alerts)}"


def test_no_reward_is_no_excuse() -> None:
    """Where no reward is logged, a collapse is told, and the evidence says that the reward is unknown."""
    alerts = alerts_of(NAME, Run({"entropy": falling(200, 50, 4.0)}, onset=50))
    assert criticals(alerts)
    assert "unknown" in str(alerts[0].evidence)


def test_a_falling_reward_is_no_excuse() -> None:
    """A run whose reward rose first and falls while the entropy goes is a collapse."""
    run = entropy_collapse(1.0, seed=3)
    reward = run.signals["reward_mean"] - np.maximum(0.0, np.arange(300) - 100.0) * 0.005
    assert_told_in_time(NAME, run.having(reward_mean=reward), 25)


def test_log_stride() -> None:
    """Seen one row in 5 or 10, a collapse is told 10 logged rows after its onset."""
    entropy = falling(1000, 500, 10.0)
    run = Run({"entropy": entropy, "reward_mean": flat_reward(1000, 1)}, onset=500)
    for stride in (5, 10):
        assert_told_in_time(NAME, run.every(stride), 12)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("rows", [60, 150, 400])
def test_convergence_is_silent(rows: int, seed: int) -> None:
    """.35 to .07 nats while the reward goes to .98, fast or slowly: the task is being solved."""
    gone = np.exp(-np.arange(rows) / (rows / 5))
    rng = np.random.default_rng(seed)
    reward = np.minimum(1.0, 0.98 - 0.7 * gone + rng.normal(0.0, 0.03, rows))
    assert_quiet(NAME, Run({"entropy": (0.07 + 0.28 * gone) * noise(rng, rows, 0.1), "reward_mean": reward}))


@pytest.mark.parametrize("level", [1e-4, 0.003, 0.01, 0.03])
def test_low_from_the_start_is_silent(level: float) -> None:
    """Entropy that has always been low does not collapse, even with flat reward and 30 % noise."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        run = Run({"entropy": level * noise(rng, 300, 0.3), "reward_mean": flat_reward(300, seed)})
        assert_quiet(NAME, run)


def test_dips_that_recover_are_silent() -> None:
    """One row, or two, at a thousandth of the entropy or at exactly 0, with flat reward."""
    for left in (0.0, 1e-3):
        for rows in (1, 2):
            entropy = falling(300, 300, 1.0)
            for at in (20, 100, 200):
                entropy[at : at + rows] *= left
            assert_quiet(NAME, Run({"entropy": entropy, "reward_mean": flat_reward(300, 0)}))


def test_differential_entropy_is_not_judged_as_a_ratio() -> None:
    """A continuous policy's entropy passes zero in health: 1.4 to -3 is silent."""
    rng = np.random.default_rng(0)
    entropy = np.linspace(1.4, -3.0, 400) + rng.normal(0.0, 0.05, 400)
    assert_quiet(NAME, Run({"entropy": entropy, "action_std": np.full(400, 0.5), "reward_mean": flat_reward(400, 0)}))


@pytest.mark.parametrize("level", [0.05, 0.35, 3.0])
def test_stationary_noise(level: float) -> None:
    """Over 200 runs of 1,000 rows of 30 % noise: no critical, a warning in under 2 %."""
    with_critical, with_any = noise_alarms(NAME, "entropy", level, seeds=200 if level == 0.35 else 40)
    assert with_critical == 0
    assert with_any < 4


def test_message_and_evidence() -> None:
    """'Policy entropy dropped from X to Y over N consecutive steps', and X and Y are in the evidence."""
    alert = alerts_of(NAME, Run({"entropy": falling(200, 50, 4.0), "reward_mean": flat_reward(200, 0)}))[0]
    words = alert.message.split()
    assert " ".join(words[:4]) == "Policy entropy dropped from"
    assert alert.message.endswith("consecutive steps")
    start, end, steps = float(words[4]), float(words[6]), int(words[8])
    assert 0.25 < start < 0.45
    assert end < 0.5 * start
    assert 1 <= steps <= alert.step - 50 + 3
    shown = [f"{value:.3g}" for value in alert.evidence.values() if isinstance(value, float)]
    assert {words[4], words[6]} <= set(shown)


def test_healthy_run_with_every_seed() -> None:
    """Thirty healthy runs of 300 rows raise nothing."""
    for seed in range(30):
        assert_quiet(NAME, healthy(300, seed))
