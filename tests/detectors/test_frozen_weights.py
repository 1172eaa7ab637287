"""Nothing is being trained."""

from __future__ import annotations

import numpy as np
import pytest
from faults import Signals, around, training
from rows import alerts_of, assert_nan_changes_nothing, assert_state_survives, false_alarms, first

NAME = "frozen_weights"
ROWS = 300


@pytest.mark.parametrize("update", [0.0, 5e-7])
def test_weights_that_do_not_move(update: float) -> None:
    """Nothing, or less than 1e-8 of their size: a warning after 20 updates, critical after 100."""
    run = training(onset=50, update=update)
    alert = first(NAME, run, onset=50, delay=20, severity="warning")
    assert alert.message.startswith("The weights did not move for 20 updates")
    assert first(NAME, run, onset=50, delay=100, severity="critical").message.endswith("though gradients arrive")


def test_without_the_size_of_the_weights() -> None:
    """Only an update of exactly nothing can be told from a small one."""
    run = {name: values for name, values in training(onset=50).items() if name != "weight_norm"}
    first(NAME, run, onset=50, delay=20, severity="warning")
    assert alerts_of(NAME, {**run, "update_norm": np.full(ROWS, 1e-12)}) == []


def test_without_the_gradient_it_is_never_critical() -> None:
    """Whether a gradient arrives is not known then."""
    run = {name: values for name, values in training(onset=50).items() if name != "grad_norm"}
    assert {alert.severity.value for alert in alerts_of(NAME, run)} == {"warning"}


def test_a_rate_of_zero_is_no_fault() -> None:
    """The first row of a warm-up and the end of a schedule."""
    run = training(onset=50)
    assert alerts_of(NAME, {**run, "learning_rate": np.where(np.arange(ROWS) < 50, 1e-6, 0.0)}) == []


def test_a_critic_trained_alone_is_given_time() -> None:
    """A warm-up of the critic (verl's is 20 updates or so) is silent; a policy left out for good is not."""
    value = np.full(ROWS, 1e-3)
    late = np.where(np.arange(ROWS) < 60, 0.0, 1e-3)
    assert alerts_of(NAME, {"policy_step_norm": late, "value_step_norm": value}) == []
    alert = first(NAME, {"policy_step_norm": np.zeros(ROWS), "value_step_norm": value}, 0, 100, "warning")
    assert alert.message.startswith("The policy did not move for 100 updates")


def dead_gradient(**signals: object) -> Signals:
    """A gradient of exactly zero after 50 rows."""
    rng = np.random.default_rng(1)
    late = np.arange(ROWS) >= 50
    return {"grad_norm": np.where(late, 0.0, around(0.5, rng, ROWS)), "learning_rate": np.full(ROWS, 1e-6), **signals}


@pytest.mark.parametrize(
    ("sign", "rows"),
    [
        ({"advantage_std": 0.9}, 40), ({"frac_reward_zero_std": 0.5}, 40), ({"group_reward_std": 0.2}, 40),
        ({"reward_std": 0.3}, 80),
    ],
)  # fmt: skip
def test_no_gradient_although_rewards_differ(sign: dict[str, float], rows: int) -> None:
    """Told the sooner, the surer it is that not all groups tie."""
    alert = first(NAME, dead_gradient(**sign), onset=50, delay=rows, severity="warning")
    assert alert.step == 50 + rows - 1
    assert "nothing is trained" in alert.message


def test_tied_groups_are_no_fault() -> None:
    """All groups tie: the gradient is exactly 0 for as long as they do, whatever the batch's rewards."""
    assert alerts_of(NAME, dead_gradient(frac_reward_zero_std=1.0, reward_std=0.3)) == []
    assert alerts_of(NAME, dead_gradient(reward_std=0.0)) == []
    assert alerts_of(NAME, dead_gradient(advantage_std=0.0, reward_std=0.3)) == []
    assert alerts_of(NAME, dead_gradient()) == []
    frozen = training(onset=50)
    assert alerts_of(NAME, {**frozen, "grad_norm": np.where(np.arange(ROWS) < 50, 0.5, 0.0), "reward_std": 0.0}) == []


def test_the_longest_streak_of_healthy_runs_is_silent() -> None:
    """25 rows of zero gradient, again and again, with a spread over the batch (measured)."""
    gradient = np.where(np.arange(ROWS) % 30 < 25, 0.0, 0.5)
    assert alerts_of(NAME, {"grad_norm": gradient, "reward_std": 0.3, "frac_reward_zero_std": 0.9}) == []


def test_norms_every_few_rows() -> None:
    """Rows without an update norm neither count nor reset."""
    run = training(onset=50)
    sparse = {**run, "update_norm": [x if row % 5 == 0 else None for row, x in enumerate(run["update_norm"])]}
    first(NAME, sparse, onset=50, delay=100, severity="warning")


def test_healthy_noise_is_silent() -> None:
    """A gradient of zero on a third of the rows, and updates over two decades."""

    def make(rng: np.random.Generator) -> Signals:
        alive = rng.random(1000) > 0.3
        return {
            "update_norm": around(1e-3, rng, 1000, 0.6, 0.9) * alive,
            "weight_norm": np.full(1000, 100.0),
            "grad_norm": around(0.5, rng, 1000, 0.6, 0.9) * alive,
            "reward_std": around(0.3, rng, 1000),
        }

    assert false_alarms(NAME, make, seeds=10) == (0, 0)


def test_state_and_nan() -> None:
    """A resumed run goes on as it was, and NaN rows change nothing."""
    for run in (training(onset=50), dead_gradient(advantage_std=0.9)):
        assert_state_survives(NAME, run)
        assert_nan_changes_nothing(NAME, run)
