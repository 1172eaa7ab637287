"""Nothing to learn from in the rewards: dead, finished, or of a useless shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from faults import Array, Signals, learning, reward_dead
from rows import alerts_of, assert_nan_changes_nothing, assert_state_survives, false_alarms, first, observations, told
from samples import alerts_on, assert_samples_survive, batches

NAME = "reward_degenerate"


def verified(rng: np.random.Generator, rates: Array, prompts: int = 4, answers: int = 8) -> dict[str, Array]:
    """Scalars of 0/1 rewards in groups: prompts of different difficulty, several answers each."""
    rates = np.clip(rates, 0.02, 0.98)[:, None]
    easy = rng.beta(2.0 * rates, 2.0 * (1.0 - rates), (len(rates), prompts))
    rewards = rng.random((len(rates), prompts, answers)) < easy[:, :, None]
    flat = rewards.reshape(len(rates), -1)
    return {
        "reward_mean": flat.mean(axis=1),
        "reward_std": flat.std(axis=1),
        "frac_reward_zero_std": (rewards.max(axis=2) == rewards.min(axis=2)).mean(axis=1),
    }


def test_dead_from_the_start() -> None:
    """Everything exactly 0, recorded in a GRPO run: a warning after 20 rows, a critical after 50."""
    run = dict.fromkeys(("reward_mean", "reward_std", "grad_norm"), np.zeros(80))
    assert [(a.step, a.severity.value) for a in alerts_of(NAME, run)] == [(19, "warning"), (49, "critical")]
    alert = alerts_of(NAME, run)[0]
    assert "dead: all equal at 0 since the start" in alert.message
    assert alert.evidence["grad_norm"] == 0.0


@pytest.mark.parametrize(
    ("more", "severe"),
    [
        ({}, False), ({"grad_norm": 0.4, "advantage_std": 1.0}, False), ({"advantage_std": 0.0}, True),
        ({"frac_reward_zero_std": 1.0}, True),
    ],
)  # fmt: skip
def test_the_same_for_every_step_from_the_start(more: dict[str, float], severe: bool) -> None:
    """An environment that pays -1 a step is healthy: no critical while advantages or gradients live."""
    run = {"reward_mean": np.full(200, -1.0), "reward_std": np.zeros(200), **more}
    assert ("critical" in {alert.severity.value for alert in alerts_of(NAME, run)}) is severe


def test_glued_to_a_floor() -> None:
    """Recorded: -0.1 for all in most rows, a few samples at -0.13 in the others. Not all equal, and still dead."""
    rng = np.random.default_rng(0)
    equal = rng.random(100) < 0.65
    run = {
        "reward_mean": np.where(equal, -0.1, rng.uniform(-0.106, -0.1, 100)),
        "reward_std": np.where(equal, 0.0, rng.uniform(0.003, 0.008, 100)),
        "frac_reward_zero_std": np.where(equal, 1.0, 0.0),
    }
    assert "dead: all equal at -0.1 since the start" in first(NAME, run, 0, 30, "warning").message


@pytest.mark.parametrize("offset", [5.0, 100.0, -100.0])
def test_a_reward_far_from_zero(offset: float) -> None:
    """Two prompts of four answers, each often all right or all wrong, on a scale far from 0: that is no standstill."""
    rng = np.random.default_rng(3)
    run = verified(rng, np.full(300, 0.4), prompts=2, answers=4)
    run["reward_mean"] = run["reward_mean"] + offset
    run["reward_std"] = np.where(rng.random(300) < 0.5, 0.0, run["reward_std"])  # std within a group, averaged
    assert not alerts_of(NAME, run)


@pytest.mark.parametrize("seed", range(3))
def test_dead_after_a_life(seed: int) -> None:
    """A run that fell to nothing is dead, not finished, and its best is named."""
    alert = first(NAME, reward_dead(seed=seed), onset=100, delay=26, severity="warning")
    assert "dead: all equal at 0 for" in alert.message
    assert alert.evidence["peak"] > 0.5
    first(NAME, reward_dead(seed=seed), onset=100, delay=60, severity="critical")


def test_finished_is_not_dead() -> None:
    """Learnt to 1.0 and equal ever since: told late, as a warning, in other words."""
    run = learning(500)
    solved = np.arange(500) >= 100
    rewards = {"reward_mean": np.where(solved, 1.0, run["reward_mean"]), "reward_std": np.where(solved, 0.0, 0.3)}
    alerts = alerts_of(NAME, rewards)
    assert [alert.severity.value for alert in alerts] == ["warning"]
    assert "finished" in alerts[0].message
    assert alerts[0].step >= 290


def test_all_right_from_the_first_row() -> None:
    """1.0 for every sample, always: a warning that names the check, never a critical."""
    run = {"reward_mean": np.ones(200), "reward_std": np.zeros(200)}
    alerts = alerts_of(NAME, run)
    assert [alert.severity.value for alert in alerts] == ["warning"]
    assert "the check passes everything" in alerts[0].message


def test_groups_that_tie_while_prompts_differ() -> None:
    """Half of the prompts always right, half always wrong: batch spread .5, no gradient."""
    rng = np.random.default_rng(0)
    run = {
        "reward_mean": rng.choice([0.25, 0.5, 0.75], 100),
        "reward_std": np.full(100, 0.5),
        "frac_reward_zero_std": np.ones(100),
    }
    assert "All groups are tied for 40 steps" in first(NAME, run, 0, 40, "warning").message


def test_means_alone_need_more_rows() -> None:
    """No spread is logged: equal means in 40 rows warn; equal returns of whole episodes in 100."""
    dead = {"reward_mean": np.full(150, -0.1)}
    assert [(a.step, a.severity.value) for a in alerts_of(NAME, dead)] == [(40, "warning")]
    episodes = {"reward_mean": np.full(150, -200.0), "episode_length_mean": np.full(150, 200.0)}
    assert [a.step for a in alerts_of(NAME, episodes)] == [100]


@pytest.mark.parametrize("prompts", [1, 2, 16])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_verified_rewards_in_health(prompts: int, rate: float) -> None:
    """0/1 rewards, steady or learning, ties in most groups: 30 runs of 400 rows say nothing."""

    def make(rng: np.random.Generator) -> Signals:
        learnt = 1.0 - np.exp(-np.arange(400) / rng.uniform(20.0, 200.0)) if rng.random() < 0.5 else np.zeros(400)
        return verified(rng, rate + (0.97 - rate) * learnt, prompts)

    assert false_alarms(NAME, make, seeds=30) == (0, 0)


def test_a_late_first_success_is_not_dead() -> None:
    """A hard task: nothing for 12 rows, then one sample in 128 and more: silent."""
    rng = np.random.default_rng(0)
    rates = np.concatenate([np.zeros(12), np.linspace(0.005, 0.5, 100)])
    rewards = rng.random((112, 128)) < rates[:, None]
    run = {"reward_mean": rewards.mean(axis=1), "reward_std": rewards.std(axis=1)}
    assert alerts_of(NAME, run) == []


def samples_of(rows: int, make: Any, **more: Any) -> Iterator[Any]:
    """Batches of 64 rewards, `make(rng, row)` each."""
    rng = np.random.default_rng(0)
    return batches({"rewards": make(rng, row), **{k: v(rng, row) for k, v in more.items()}} for row in range(rows))


def long_tail(rng: np.random.Generator, row: int) -> Array:
    """Scores around 0; from row 60 on one in 64 is far out."""
    rewards = rng.normal(0.0, 1.0, 64)
    rewards[0] = rewards[0] if row < 60 else 60.0
    return rewards


def to_the_floor(rng: np.random.Generator, row: int) -> Array:
    """Scores that from row 60 on sit at their lower clip in half of the samples."""
    rewards = rng.normal(0.0, 1.0, 64)
    return np.maximum(rewards, -5.0 if row < 60 else 0.0)


def few(rng: np.random.Generator, row: int) -> Array:
    """Scores that from row 60 on are one of three, mostly the lowest: a judge that fell back to a default."""
    return rng.normal(0.0, 1.0, 64) if row < 60 else rng.choice([-1.0, 0.0, 1.0], 64, p=[0.8, 0.1, 0.1])


@pytest.mark.parametrize(
    ("make", "shape", "words"),
    [
        (long_tail, "long tail", "of the variance"),
        (to_the_floor, "clipped", "exactly at the smallest value"),
        (few, "few values", "3 distinct values"),
    ],
)
def test_a_histogram_that_turns_useless(make: Any, shape: str, words: str) -> None:
    """Told within 4 looks (32 rows) of the change, with the diagnosis in words, and not before it."""
    alerts = alerts_on(NAME, samples_of(140, make))
    assert [alert.evidence["shape"] for alert in alerts] == [shape], told(alerts)
    assert 60 <= alerts[0].step <= 100
    assert words in alerts[0].message


def test_almost_all_zero() -> None:
    """One success in 128 for ever: told as what it is, after 64 rows."""
    alerts = alerts_on(NAME, samples_of(140, lambda rng, row: rng.permutation(np.eye(1, 128)[0])))
    assert "almost all (99%) are 0" in alerts[0].message
    assert 60 <= alerts[0].step <= 72


def test_success_is_no_degeneration() -> None:
    """Partial credit that ends with 99 % of the samples at exactly 1: silent."""
    make = lambda rng, row: np.minimum(1.0, rng.uniform(0.0, 1.0, 64) + row / 60.0)  # noqa: E731
    alerts = alerts_on(NAME, samples_of(150, make))
    assert [alert for alert in alerts if "finished" not in alert.message] == []


def test_the_same_shape_from_the_start_is_a_design() -> None:
    """A verifier's 0/1, a judge's five grades, a penalty floor under a score: silent."""
    for make in (
        lambda rng, row: (rng.random(64) < 0.4).astype(float),
        lambda rng, row: rng.integers(1, 6, 64).astype(float),
        lambda rng, row: np.maximum(rng.normal(0.0, 1.0, 64), -0.3),
    ):
        assert alerts_on(NAME, samples_of(150, make)) == []


def test_confused_signs() -> None:
    """Advantages that fall where rewards rise are told; those that follow them are silent."""
    rng = np.random.default_rng(0)
    rewards = rng.normal(0.0, 1.0, (80, 64))
    noise = rng.normal(0.0, 0.5, (80, 64))

    def run(sign: float) -> Iterator[Any]:
        pairs = zip(rewards, noise, strict=True)
        return batches({"rewards": r, "advantages": sign * (r - r.mean()) + e} for r, e in pairs)

    assert alerts_on(NAME, run(1.0)) == []
    alerts = alerts_on(NAME, run(-1.0))
    assert "Signs are confused" in alerts[0].message
    assert alerts[0].evidence["correlation"] < -0.5


def test_arrays_of_equal_rewards() -> None:
    """Sample arrays alone, all at 0: dead, with the histogram in the evidence."""
    alerts = alerts_on(NAME, batches({"rewards": np.zeros(32)} for _ in range(60)))
    assert "dead" in alerts[0].message
    assert alerts[0].evidence["histogram"] == "all are 0"


def test_state_and_nan() -> None:
    """A checkpoint in mid-stream and rows of NaN change no alert."""
    assert_state_survives(NAME, reward_dead(rows=180))
    assert_nan_changes_nothing(NAME, reward_dead(rows=180))
    assert_samples_survive(NAME, list(samples_of(140, long_tail)))


def test_rows_without_rewards_do_not_count() -> None:
    """A loop that generates every fourth step logs a reward in every fourth row: rows with one are counted."""
    rows = list(observations({"reward_mean": np.zeros(120), "reward_std": np.zeros(120)}))
    for row in rows:
        if row.row % 4:
            row.signals = {"loss": 0.0}
    assert [alert.step for alert in alerts_on(NAME, rows)] == [76]


def test_groups_from_sample_arrays() -> None:
    """Rewards with group ids and nothing logged: tied groups are found, all-right and all-wrong ones told apart."""
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat(np.arange(10.0), 4))
    tied = batches({"rewards": (groups < 3 + row % 3).astype(float), "group_ids": groups} for row in range(80))
    alerts = alerts_on(NAME, tied)
    assert "All groups are tied" in alerts[0].message
    assert alerts[0].evidence["groups_all_best"] + alerts[0].evidence["groups_all_worse"] == pytest.approx(1.0)
    mixed = batches({"rewards": rng.permutation(groups < 4).astype(float), "group_ids": groups} for _ in range(80))
    assert alerts_on(NAME, mixed) == []
