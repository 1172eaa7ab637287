"""Trainer and inference engine disagree."""

from __future__ import annotations

import numpy as np
import pytest
from faults import ENGINE, Signals, around, mismatch
from rows import alerts_of, assert_nan_changes_nothing, assert_state_survives, false_alarms, first

NAME = "rollout_mismatch"
ROWS = 200

@pytest.mark.parametrize(
    ("signal", "level"),
    [
        ("rollout_prob_diff", 0.02), ("rollout_logprob_diff", 0.2), ("rollout_kl", 0.2), ("rollout_kl", -0.2),
        ("is_weight_mean", 3.0), ("is_weight_mean", 0.3), ("ess", 0.2),
    ],
)  # fmt: skip
def test_beyond_a_limit_for_long(signal: str, level: float) -> None:
    """Each of the five warns after 20 rows beyond its limit, and names itself."""
    alert = first(NAME, mismatch(signal, level), onset=60, delay=21, severity="warning")
    assert alert.evidence["signal"] == signal
    assert alert.evidence["times"] > 1.0
    assert {alert.severity.value for alert in alerts_of(NAME, mismatch(signal, level))} == {"warning"}


@pytest.mark.parametrize(
    ("signal", "level"),
    [("rollout_prob_diff", 0.2), ("rollout_logprob_diff", 2.0), ("rollout_kl", 2.0)],
)
def test_another_policy_altogether_is_critical(signal: str, level: float) -> None:
    """Weights that were not synchronised: many times beyond the limit."""
    first(NAME, mismatch(signal, level), onset=60, delay=21, severity="critical")


@pytest.mark.parametrize(("signal", "level"), [("is_weight_mean", 0.01), ("is_weight_mean", 30.0), ("ess", 0.01)])
def test_the_weights_that_correct_for_it_only_warn(signal: str, level: float) -> None:
    """They shrink with the length of a response; a mismatch that they hide is critical all the same."""
    run = mismatch(signal, level)
    assert {alert.severity.value for alert in alerts_of(NAME, run)} == {"warning"}
    both = {**run, "rollout_prob_diff": mismatch("rollout_prob_diff", 0.2)["rollout_prob_diff"]}
    first(NAME, both, onset=60, delay=21, severity="critical")


def test_from_the_first_row_on() -> None:
    """An engine that never agreed is told as soon as it lasts, and never halts a run that may learn all the same."""
    run = {"rollout_prob_diff": np.full(ROWS, 0.3)}
    alert = first(NAME, run, onset=0, delay=20, severity="warning")
    assert len(alerts_of(NAME, run)) == 1
    assert alert.message.endswith("disagree: mean probability difference = 0.3 (30x its limit) for 20 steps")


def test_rows_that_recover_are_silent() -> None:
    """Recorded in a healthy run: a tenth of the rows beyond a limit, a stretch of 10."""
    run = mismatch("rollout_prob_diff", 0.003)
    run["rollout_prob_diff"][::10] = 0.2
    run["is_weight_mean"][100:110] = 0.1
    assert alerts_of(NAME, run) == []


def test_what_cannot_be_a_weight_is_left_out() -> None:
    """A count of samples is no effective share of them, and no weight is below zero."""
    assert alerts_of(NAME, {"ess": np.full(ROWS, 512.0)}) == []
    assert alerts_of(NAME, {"is_weight_mean": np.full(ROWS, -1.0)}) == []


@pytest.mark.parametrize("sigma", [0.3, 0.6])
def test_healthy_noise_is_silent(sigma: float) -> None:
    """Log-normal, strongly autocorrelated noise around the healthy levels."""

    def make(rng: np.random.Generator) -> Signals:
        run = {name: around(ENGINE[name], rng, 1000, sigma, 0.9) for name in list(ENGINE)[:3]}
        run["is_weight_mean"] = around(1.0, rng, 1000, sigma / 3, 0.9)
        return {**run, "ess": np.clip(1.0 - around(0.1, rng, 1000, sigma, 0.9), 0.001, 1.0)}

    with_critical, with_any = false_alarms(NAME, make)
    assert with_critical == 0
    assert with_any <= 1


def test_state_and_nan() -> None:
    """A resumed run goes on as it was, and NaN rows change nothing."""
    assert_state_survives(NAME, mismatch("rollout_prob_diff", 0.2))
    assert_nan_changes_nothing(NAME, mismatch("rollout_prob_diff", 0.2))
