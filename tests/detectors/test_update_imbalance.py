"""Policy and critic no longer move in step."""

from __future__ import annotations

import numpy as np
import pytest
from faults import Signals, around, step_norms
from rows import alerts_of, assert_nan_changes_nothing, assert_state_survives, false_alarms, first, observations

from rlwatch.detectors.critic.update_imbalance import UpdateImbalance

NAME = "update_imbalance"
ROWS = 300


@pytest.mark.parametrize(
    ("change", "side"), [({"policy": 20.0}, "above"), ({"value": 20.0}, "below"), ({"value": 0.05}, "above")]
)
def test_one_of_the_two_leaves(change: dict[str, float], side: str) -> None:
    """Twenty times its healthy level, whichever of the two moved, and in which direction it went."""
    alert = first(NAME, step_norms(**change), onset=100, delay=8, severity="warning")
    assert f"x {side} its healthy level" in alert.message
    assert alert.evidence["rho"] == pytest.approx(alert.evidence["policy_step"] / alert.evidence["value_step"])


def test_a_drift_that_the_baseline_follows() -> None:
    """Growth of 2 % a row ends at 60x the first rows: told against those, critical for long and with the rates."""
    run = dict(step_norms(rows=1500))
    run["policy_step_norm"] = run["policy_step_norm"] * np.minimum(60.0, 1.02 ** np.maximum(0, np.arange(1500) - 100))
    assert "that of its start" in first(NAME, run, onset=100, delay=260, severity="warning").message
    assert {alert.severity.value for alert in alerts_of(NAME, run)} == {"warning"}
    rates = {"learning_rate": 1e-5, "critic_learning_rate": 1e-4}
    first(NAME, {**run, **rates}, onset=100, delay=750, severity="critical")


def test_a_drift_downwards_is_never_critical() -> None:
    """A policy that hardly moves any more is nothing to halt for."""
    run = dict(step_norms(rows=1500))
    run["policy_step_norm"] = run["policy_step_norm"] * np.maximum(1 / 60, 0.98 ** np.maximum(0, np.arange(1500) - 100))
    assert {alert.severity.value for alert in alerts_of(NAME, run)} == {"warning"}


def test_schedules_of_the_rates_are_no_imbalance() -> None:
    """A policy's rate that decays to a four-hundredth takes its steps along; rho is taken per rate."""
    decay = np.exp(-np.arange(ROWS) / 50.0)
    run = dict(step_norms())
    run["policy_step_norm"] = run["policy_step_norm"] * decay
    assert alerts_of(NAME, run) != []
    assert alerts_of(NAME, {**run, "learning_rate": 1e-6 * decay, "critic_learning_rate": 1e-5}) == []


def test_single_rows_and_zeros_are_silent() -> None:
    """A row of a hundred times, and rows in which one of the two was not trained."""
    run = dict(step_norms())
    run["policy_step_norm"][[80, 150, 151, 220]] *= 100.0
    run["policy_step_norm"][20:60] = 0.0
    run["value_step_norm"][240:258] = 0.0
    assert alerts_of(NAME, run) == []


@pytest.mark.parametrize("every", [1, 6])
def test_a_critic_that_stands_still(every: int) -> None:
    """It had moved, and does not any more while the policy does: a warning after 20 rows, critical after 40."""
    run = {name: list(values) for name, values in step_norms(onset=100, value=0.0).items()}
    for values in run.values():
        values[:] = [x if row % every == 0 else None for row, x in enumerate(values)]
    first(NAME, run, onset=100, delay=20 + every, severity="warning")
    alert = first(NAME, run, onset=100, delay=40 + every, severity="critical")
    assert alert.evidence["rows_since_onset"] >= 40
    assert alert.evidence["value_step"] == 0.0


@pytest.mark.parametrize("change", [{"policy": 0.0}, {"policy": 0.0, "value": 0.0}])
def test_a_policy_that_waits_is_no_critic_that_stands_still(change: dict[str, float]) -> None:
    """A critic that is warmed up alone, and a run in which nothing is trained: frozen_weights' business."""
    assert alerts_of(NAME, step_norms(onset=100, **change)) == []


def test_a_critic_that_never_moved_is_silent() -> None:
    """Frozen on purpose."""
    assert alerts_of(NAME, step_norms(onset=0, value=0.0)) == []


def test_norms_every_few_rows() -> None:
    """Adapters take them every k steps: rows without them count for nothing."""
    run = step_norms(policy=20.0)
    sparse = {name: [x if row % 5 == 0 else None for row, x in enumerate(run[name])] for name in run}
    first(NAME, {**sparse, "loss": np.zeros(ROWS)}, onset=100, delay=40, severity="warning")


def test_one_norm_alone_is_blind() -> None:
    """Coverage says which of the two is missing."""
    one = UpdateImbalance()
    for row in observations({"policy_step_norm": step_norms()["policy_step_norm"]}):
        one.update(row)
    coverage = one.coverage()
    assert (coverage.state, coverage.fix) == ("starved", "log value_step_norm beside it")
    for row in observations(step_norms()):
        one.update(row)
    assert one.coverage().state == "armed"


@pytest.mark.parametrize("sigma", [0.3, 0.6])
def test_healthy_noise_is_silent(sigma: float) -> None:
    """Log-normal, strongly autocorrelated noise on both."""

    def make(rng: np.random.Generator) -> Signals:
        return {
            "policy_step_norm": around(1e-3, rng, 1000, sigma, 0.9),
            "value_step_norm": around(5e-3, rng, 1000, sigma, 0.9),
        }

    with_critical, with_any = false_alarms(NAME, make)
    assert with_critical == 0
    assert with_any <= 1


def test_state_and_nan() -> None:
    """A resumed run goes on as it was, and NaN rows change nothing."""
    assert_state_survives(NAME, step_norms(policy=20.0))
    assert_nan_changes_nothing(NAME, step_norms(policy=20.0))
