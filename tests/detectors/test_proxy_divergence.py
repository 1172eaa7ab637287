"""The reward goes up, and what it stands for does not."""

from __future__ import annotations

import numpy as np
import pytest
from faults import Array, Signals, correlated, gold_turns, left_behind
from rows import alerts_of, assert_nan_changes_nothing, assert_state_survives, false_alarms, first, told
from samples import alerts_on, assert_samples_survive, batches

from rlwatch.detectors.registry import detector_classes
from rlwatch.observation import Observation

NAME = "proxy_divergence"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("every", [1, 10])
def test_gold_that_turns_down(seed: int, every: int) -> None:
    """The guard of the field, with dense and with sparse gold: both changes are in the words."""
    alert = first(NAME, gold_turns(seed=seed, every=every), onset=100, delay=110, severity="critical")
    assert alert.message.startswith("Proxy up ")
    assert "gold down" in alert.message
    assert alert.evidence["gold_best"] > alert.evidence["gold"][1]
    assert alerts_of(NAME, gold_turns(seed=seed, every=every))[0].step <= 180


@pytest.mark.parametrize("seed", range(3))
def test_gold_that_never_follows(seed: int) -> None:
    """Nearly nil in absolute terms although it triples: told soon after the proxy starts to rise, as a warning."""
    alerts = alerts_of(NAME, left_behind(seed))
    assert [alert.severity.value for alert in alerts] == ["warning"], told(alerts)
    assert 22 <= alerts[0].step <= 40
    assert "gold does not follow" in alerts[0].message


def test_scores_of_another_scale() -> None:
    """A reward model's score 1.0 -> 3.0 while the win rate stays at .60: told, but only after gold had its time."""
    rng = np.random.default_rng(0)
    run = {
        "reward_mean": np.linspace(1.0, 3.0, 120) + rng.normal(0.0, 0.05, 120),
        "gold_score": 0.6 + rng.normal(0.0, 0.01, 120),
    }
    alert = first(NAME, run, onset=20, delay=40, severity="warning")
    assert "gold does not follow" in alert.message


def test_gold_that_follows_more_slowly_is_silent() -> None:
    """A third of the proxy's gain, and late: no divergence."""
    rng = np.random.default_rng(0)
    learnt = 1.0 - np.exp(-np.arange(300) / 40.0)
    late = 1.0 - np.exp(-np.arange(300) / 100.0)
    run = {
        "reward_mean": 0.2 + 0.6 * learnt + rng.normal(0.0, 0.03, 300),
        "gold_score": 0.2 + 0.2 * late + rng.normal(0.0, 0.02, 300),
    }
    assert alerts_of(NAME, run) == []


def test_gold_that_falls_with_the_reward_is_another_failure() -> None:
    """Both collapse: reward_collapse's business."""
    rng = np.random.default_rng(0)
    level = np.where(np.arange(200) < 100, 0.8, 0.2)
    run = {"reward_mean": level + rng.normal(0.0, 0.03, 200), "gold_score": level + rng.normal(0.0, 0.03, 200)}
    assert alerts_of(NAME, run) == []


def test_gold_that_is_lost_while_the_reward_holds() -> None:
    """Half of the best, twice: critical at the second score, and traced back to where gold was last good."""
    rng = np.random.default_rng(0)
    gold = np.full(300, np.nan)
    gold[::10] = np.interp(np.arange(0, 300, 10), [0, 100, 150, 240, 300], [0.2, 0.5, 0.5, 0.1, 0.0])
    run = {"reward_mean": np.linspace(0.5, 0.6, 300) + rng.normal(0.0, 0.03, 300), "gold_score": gold}
    alert = next(alert for alert in alerts_of(NAME, run) if alert.critical)
    assert 200 <= alert.step <= 230
    assert alert.message.startswith("Gold fell to 0.")
    assert alert.step - alert.evidence["rows_since_onset"] <= 150


def test_gold_logged_in_rows_of_its_own() -> None:
    """An evaluation every 20 rows, in a row without a reward: held against the rewards since the last one."""
    one = detector_classes()[NAME]()
    alerts = []
    for row in range(400):
        observation = Observation(row, row, 0.0)
        reward, gold = 0.2 + 0.6 * min(1.0, row / 200), 0.3 + 1e-3 * (row % 3)
        observation.signals = {"reward_mean": reward} if row % 20 else {"gold_score": gold}
        alerts.append(one.update(observation))
    told_at = [alert.step for alert in alerts if alert is not None]
    assert told_at
    assert told_at[0] <= 200
    assert one.coverage().state == "armed"


def test_without_gold_it_says_that_it_is_blind() -> None:
    """A reward alone is no coverage."""
    one = detector_classes()[NAME]()
    for row in range(60):
        observation = Observation(row, row, 0.0)
        observation.signals["reward_mean"] = 0.1 * row
        assert one.update(observation) is None
    assert one.coverage().state == "starved"
    assert "gold_score" in one.coverage().fix


def parting(rows: int = 120) -> list[Observation]:
    """Per-sample gold: its correlation with the reward goes from .9 to 0 from row 40 on while both means rise."""
    rng = np.random.default_rng(0)
    table = []
    for row in range(rows):
        together = max(0.0, min(0.9, 0.9 - (row - 40) / 30.0))
        gold = rng.normal(0.0, 1.0, 64)
        rewards = together * gold + np.sqrt(1.0 - together**2) * rng.normal(0.0, 1.0, 64)
        table.append({"rewards": 5.0 + rewards + row / 10.0, "gold_scores": 5.0 + gold + row / 20.0})
    return list(batches(table))


def test_a_correlation_that_falls() -> None:
    """The earliest sign: samples that the reward prefers are no longer those that gold prefers."""
    alerts = alerts_on(NAME, parting())
    assert len(alerts) == 1, told(alerts)
    assert "Correlation of reward and gold over samples fell from 0.8" in alerts[0].message
    assert 45 <= alerts[0].step <= 75


def climbing(rng: np.random.Generator, rows: int) -> Array:
    """Flat, or a climb that saturates."""
    return rng.choice([0.0, 1.0]) * (1.0 - np.exp(-np.arange(rows) / rng.uniform(20.0, 300.0)))


@pytest.mark.parametrize("every", [1, 20])
@pytest.mark.parametrize("phi", [0.0, 0.6])
def test_health_is_silent(every: int, phi: float) -> None:
    """Shares that rise or stay together under noise, dense or sparse gold: 40 runs of 600 rows."""

    def make(rng: np.random.Generator) -> Signals:
        learnt = climbing(rng, 600)
        gold = 0.2 + rng.uniform(0.15, 0.5) * learnt + rng.normal(0.0, 0.03, 600)
        return {
            "reward_mean": 0.3 + 0.5 * learnt + correlated(rng, 600, 0.04, phi or 1e-9),
            "gold_score": [x if row % every == 0 else None for row, x in enumerate(np.clip(gold, 0.0, 1.0))],
        }

    assert false_alarms(NAME, make) == (0, 0)


def test_state_and_nan() -> None:
    """A checkpoint in mid-stream and rows of NaN change no alert."""
    for run in (left_behind(), gold_turns(every=7)):
        assert_state_survives(NAME, run)
        assert_nan_changes_nothing(NAME, run)
    assert_samples_survive(NAME, parting())
